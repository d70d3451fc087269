"""Views of a video by plain loops."""

import av
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F


def plainly(path, network, frames, protocol):
    """Logits of a video's views, one at a time, from a sequential decode, without any code of ours but the network."""
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    video = F.resize(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), [36], antialias=True)
    last = max(len(video) - frames, 0)
    if protocol["clips"] == "all":
        starts = list(range(0, last + 1, frames))
        starts += [last] if starts[-1] + frames < len(video) else []
    elif protocol["clips"] == 1:
        starts = [last // 2]
    else:
        starts = [0, last // 2, last] if protocol["clips"] == 3 else [0, last]
    found = []
    for start in starts:
        clip = video[[(start + t) % len(video) for t in range(frames)]]
        for cut in crops_of(clip, protocol.get("crops", 1)):
            mean, std = (torch.tensor(v)[:, None, None, None] for v in ((0.43216, 0.394666, 0.37645), STD))
            found.append(network(((cut.transpose(0, 1) / 255 - mean) / std)[None])[0])
    return torch.stack(found)


STD = (0.22803, 0.22145, 0.216989)


def crops_of(clip, crops):
    if crops == "full":
        return [clip]
    if crops == 3:
        height, width = clip.shape[2:]
        if height > width:
            tops = [0, round((height - 32) / 2), height - 32]
            return [clip[:, :, top : top + 32, round((width - 32) / 2) :][..., :32] for top in tops]
        lefts = [0, round((width - 32) / 2), width - 32]
        return [clip[:, :, round((height - 32) / 2) :][:, :, :32, left : left + 32] for left in lefts]
    five = list(F.five_crop(clip, [32, 32]))
    return [five[4]] if crops == 1 else [*five, *(crop.flip(3) for crop in five)]
