"""Define batch norms (checked, frozen, synchronized) and group norm."""

from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from videores.errors import UserError


def list_batch_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Return {name: batch norm} of those that take statistics from batches.

    Frozen ones stay in eval mode.
    """
    return {n: module for n, module in model.named_modules() if isinstance(module, _BatchNorm) and module.training}


def synchronize_batch_norms(model: nn.Module) -> None:
    """Replace batch norms by torch's SyncBatchNorm, keeping parameters and buffers.

    A process may then have a single value per channel, which layers.Counted refuses: the others' count too.
    """
    for name, norm in list_batch_norms(model).items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, nn.SyncBatchNorm.convert_sync_batchnorm(norm))


class _CheckedBatchNorm:
    """A batch norm that says what to do where it has one value a channel, whose variance would be 0."""

    def _check_input_dim(self, x):
        super()._check_input_dim(x)
        if self.training and x.numel() == x.shape[1]:
            raise UserError(
                f"training leaves a batch norm one value per channel (it got {' x '.join(map(str, x.shape))}): "
                "give larger clips, a larger batch, or model.norm=group"
            )


class BatchNorm2d(_CheckedBatchNorm, nn.BatchNorm2d):
    pass


class BatchNorm3d(_CheckedBatchNorm, nn.BatchNorm3d):
    pass


class _FrozenNorm:
    """A batch norm that is a constant map: it stays in eval mode, and its parameters want no gradient."""

    def __init__(self, *args):
        super().__init__(*args)
        self.requires_grad_(False).eval()

    def train(self, mode=True):
        return super().train(False)


class FrozenBatchNorm2d(_FrozenNorm, nn.BatchNorm2d):
    pass


class FrozenBatchNorm3d(_FrozenNorm, nn.BatchNorm3d):
    pass


def group_norm(channels, eps):
    """Make a group norm of up to 32 groups, as many as divide the channels.

    A group holds two or more. Source: Wu and He 2018, arXiv:1803.08494.
    """
    groups = max((g for g in range(1, 33) if channels % g == 0 and channels // g >= 2), default=1)
    return nn.GroupNorm(groups, channels, eps)


@contextmanager
def keep_statistics(module):
    """Let batch norms write their running statistics elsewhere.

    So a batch counts once, though it is computed twice.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(m._buffers) for m in norms]
    for m in norms:
        m._buffers.update({name: buffer.clone() for name, buffer in m._buffers.items()})
    try:
        yield
    finally:
        for m, buffers in zip(norms, kept, strict=True):
            m._buffers.update(buffers)
