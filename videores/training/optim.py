"""The optimizer as pure functions: parameter groups and learning rates."""

import math
import re
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from videores.config.schema import Config, TrainConfig
from videores.models.parts import count_depths, split_into_parts

NORM_LAYERS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def make_parameter_groups(model, weight_decay):
    """Return two parameter groups, with weight decay and without.

    Without are biases, parameters of normalization layers (told by type) and SkipInit's scales, which stand for a
    norm's. The parameters of a temporal pooling decay: 0 is the pooling that it starts as.
    """
    exempt = {id(p) for m in model.modules() if isinstance(m, NORM_LAYERS) for p in m.parameters(recurse=False)}
    # an LSTM has bias_ih_l0
    exempt |= {id(p) for name, p in model.named_parameters() if re.search(r"(^|\.)(bias[^.]*|scale)$", name)}
    learning = [p for p in model.parameters() if p.requires_grad]
    decayed, plain = ([p for p in learning if (id(p) in exempt) is is_exempt] for is_exempt in (False, True))
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def keep_zeros(model: nn.Module) -> None:
    """Let weights that are 0 stay 0: they get no gradient, so neither a step nor decay moves them."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.ndim > 1 and not parameter.all():
            parameter.register_hook((parameter.detach() != 0).mul)


def make_optimizer(model: nn.Module, train: TrainConfig, lr: float, helpers: nn.Module | None = None) -> Optimizer:
    """Return the recipe's optimizer over what learns of the model and its helpers.

    SGD with Nesterov-free momentum and Adam have coupled decay (a part of the gradient), AdamW has decoupled decay
    (Loshchilov and Hutter 2019, arXiv:1711.05101).
    """
    groups = make_parameter_groups(model, train.weight_decay)
    if train.layer_decay is not None:
        groups = _apply_layer_decay(model, groups, lr, train.layer_decay)
    groups += make_parameter_groups(helpers, train.weight_decay) if helpers else []
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr, momentum=train.momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer](groups, lr)


def _apply_layer_decay(model, groups, lr, decay):
    """Split the groups by part of the network, each with its own learning rate.

    The classifier's groups come first, at `lr`, because the first group's learning rate is the one that is logged.
    """
    factors = _compute_layer_lr_factors(count_depths(model), decay)
    owner = {id(p): name for name, modules in split_into_parts(model).items() for m in modules for p in m.parameters()}
    split = [
        {**group, "params": [p for p in group["params"] if owner[id(p)] == name], "lr": lr * factor}
        for name, factor in reversed(factors.items())
        for group in groups
    ]
    return [group for group in split if group["params"]]


def _compute_layer_lr_factors(depths, decay):
    """Return the learning rate factor of each part of a network.

    It is 1 at the classifier and `decay` times as much for each stage below it. Source: Clark et al. 2020 (ELECTRA),
    arXiv:2003.10555, appendix A; Bao et al. 2022 (BEiT), arXiv:2106.08254.
    """
    deepest = max(depths.values())
    return {name: decay ** (deepest - depth) for name, depth in depths.items()}


def make_schedules(optimizer: Optimizer, train: TrainConfig, steps_per_epoch: int) -> list[dict[str, Any]]:
    """Return the learning rate schedules as Lightning takes them.

    All follow each step of the optimizer, but for the second one of `plateau`, which follows an epoch's last batch.
    """
    if train.schedule != "plateau":
        factor = lambda step: compute_lr_factor(step, steps_per_epoch, train)
        return [{"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "interval": "step"}]
    return [
        _make_warmup_schedule(optimizer, train, steps_per_epoch),
        _make_plateau_schedule(optimizer, train, steps_per_epoch),
    ]


def count_schedules(train: TrainConfig) -> int:
    """Return the number of schedules, which must agree with a checkpoint's."""
    return 2 if train.schedule == "plateau" else 1


def _make_warmup_schedule(optimizer, train, steps_per_epoch):
    """Return the warm-up as a factor of the current learning rate.

    So it multiplies whatever learning rate `plateau` has reached. A warm-up of 0 steps changes nothing.
    """
    steps = round(train.warmup * steps_per_epoch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, compute_warmup_factor(0, steps), total_iters=steps)
    return {"scheduler": schedule, "interval": "step"}


def compute_warmup_factor(step: int, steps: float) -> float:
    """Return the learning rate factor at a step (0-based) of a warm-up."""
    return (min(step, steps) + 1) / (steps + 1)


def _make_plateau_schedule(optimizer, train, steps_per_epoch):
    """Return a schedule that lowers the learning rate when the monitor stands still.

    It multiplies by `gamma` after `plateau` epochs without a better value of the monitor of best.ckpt. It steps by
    batches, since Lightning steps an epoch's schedule only after the checkpoint of its end is written. Source: He et
    al. 2015, arXiv:1512.03385, section 3.4 ("when the error plateaus").
    """
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=train.gamma, patience=train.plateau - 1, threshold=0, threshold_mode="abs"
    )
    batches = steps_per_epoch * train.accumulate
    return {"scheduler": schedule, "interval": "step", "frequency": batches, "monitor": "best_by"}


def compute_global_batch_size(cfg: Config, world_size: int) -> int:
    """Return the videos of a step, over all ranks and accumulated batches."""
    return cfg.data.batch_size * cfg.train.accumulate * world_size


def scale_lr(train: TrainConfig, global_batch: int) -> float:
    """Return the learning rate for a step of this many videos.

    It is linear in their number where `base_batch` is given. Source: Goyal et al. 2017, arXiv:1706.02677, section 2.1.
    """
    return train.lr * global_batch / train.base_batch if train.base_batch else train.lr


def format_batch_and_lr(cfg: Config, world_size: int) -> str:
    """Return the videos of a step and its learning rate as text, with their factors."""
    train, batch = cfg.train, compute_global_batch_size(cfg, world_size)
    factors = [f"{cfg.data.batch_size} a batch"]
    factors += [f"{train.accumulate} batches accumulated"] if train.accumulate > 1 else []
    factors += [f"{world_size} ranks"] if world_size > 1 else []
    videos = f"{batch} videos a step" + (f" ({' x '.join(factors)})" if len(factors) > 1 else "")
    scaled = f" ({train.lr:g} x {batch} / {train.base_batch})" if train.base_batch else ""
    return f"{videos}, learning rate {scale_lr(train, batch):g}{scaled}"


def compute_lr_factor(step: int, steps_per_epoch: int, train: TrainConfig) -> float:
    """Return the learning rate factor at a step (0-based).

    It rises from near 0 in the warm-up, then follows the schedule.
    """
    total, warmup = train.epochs * steps_per_epoch, train.warmup * steps_per_epoch
    if train.schedule == "onecycle":
        return _compute_onecycle_factor(step, total, warmup)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if train.schedule == "cosine":
        return _half_cosine((step - warmup) / max(total - warmup, 1))
    return train.gamma ** sum(step >= m * steps_per_epoch for m in train.milestones)


def _half_cosine(progress):
    """Fall from 1 to 0.

    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, one cycle.
    """
    return (1 + math.cos(math.pi * min(progress, 1))) / 2


def _compute_onecycle_factor(step, total, rise, start=1 / 25, end=1e-5):
    """Rise from `start` to 1 in `rise` steps, fall to `end`, along cosines.

    Source: Smith and Topin 2018, arXiv:1708.07120.
    """
    if step < rise:
        return 1 - (1 - start) * _half_cosine(step / rise)
    return end + (1 - end) * _half_cosine((step - rise) / max(total - 1 - rise, 1))
