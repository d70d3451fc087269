"""Make maps that know nothing of the network, which a method's maps must beat."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def make_random_maps(maps_BTHW: Tensor, seed: int) -> Tensor:
    """Return random maps in the form of others, so that their patches are as large when they are interpolated."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(maps_BTHW.shape, generator=generator).to(maps_BTHW.device)


def make_center_prior(clips_BCTHW: Tensor) -> Tensor:
    """Return maps_BTHW that fall with the distance from the center of the frame."""
    height, width = clips_BCTHW.shape[-2:]
    y_H, x_W = (torch.linspace(-1, 1, size, device=clips_BCTHW.device) for size in (height, width))
    map_HW = 2 - y_H[:, None] ** 2 - x_W**2
    return map_HW.expand(len(clips_BCTHW), clips_BCTHW.shape[2], height, width)


def make_frame_difference(clips_BCTHW: Tensor) -> Tensor:
    """Return maps_BTHW of the mean absolute change from one frame to the next; the first has the second's."""
    change_BTHW = clips_BCTHW.diff(dim=2).abs().mean(1)
    return torch.cat([change_BTHW[:, :1], change_BTHW], 1) if clips_BCTHW.shape[2] > 1 else clips_BCTHW[:, 0] * 0


def make_edge_maps(clips_BCTHW: Tensor) -> Tensor:
    """Return maps_BTHW of the length of the gradient of the gray frames, by central differences."""
    gray_BTHW = clips_BCTHW.mean(1)
    across = pad(gray_BTHW, (1, 1, 0, 0), mode="replicate")
    down = pad(gray_BTHW, (0, 0, 1, 1), mode="replicate")
    return torch.hypot(across[..., 2:] - across[..., :-2], down[..., 2:, :] - down[..., :-2, :])
