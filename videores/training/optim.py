"""The optimizer as pure functions: parameter groups, the learning rate at a step, its scaling with the batch."""

import math

import torch
from torch import nn

from videores.models.parts import count_depths, split_into_parts

NORM_LAYERS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def make_parameter_groups(model, weight_decay):
    """Two groups: weights with decay; biases, parameters of normalisation layers (told by type) and SkipInit's scales,
    which stand for a norm's, without.

    What a temporal pooling learns decays: 0 is the pooling that it starts as.
    """
    plain = {id(p) for m in model.modules() if isinstance(m, NORM_LAYERS) for p in m.parameters(recurse=False)}
    plain |= {id(p) for name, p in model.named_parameters() if is_decay_exempt(name.rpartition(".")[2])}
    groups = [[p for p in model.parameters() if p.requires_grad and (id(p) in plain) is skip] for skip in (False, True)]
    return [{"params": groups[0], "weight_decay": weight_decay}, {"params": groups[1], "weight_decay": 0.0}]


def is_decay_exempt(name):
    return name.startswith("bias") or name == "scale"  # an LSTM has bias_ih_l0


def make_optimizer(model, train, lr):
    """SGD with Nesterov-free momentum or Adam, whose decay is coupled (a part of the gradient), or AdamW, whose decay
    is decoupled (Loshchilov and Hutter 2019, arXiv:1711.05101)."""
    groups = make_parameter_groups(model, train.weight_decay)
    if train.layer_decay is not None:
        groups = apply_layer_decay(model, groups, lr, train.layer_decay)
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr, momentum=train.momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[train.optimizer](groups, lr)


def apply_layer_decay(model, groups, lr, decay):
    """The groups split by part of the network, each with its own rate; the classifier's, which has `lr`, come first."""
    factors = compute_layer_lr_factors(count_depths(model), decay)
    owner = {id(p): name for name, modules in split_into_parts(model).items() for m in modules for p in m.parameters()}
    split = [
        {**group, "params": [p for p in group["params"] if owner[id(p)] == name], "lr": lr * factor}
        for name, factor in reversed(factors.items())
        for group in groups
    ]
    return [group for group in split if group["params"]]


def compute_layer_lr_factors(depths, decay):
    """What the rate of each part is multiplied by: 1 at the classifier, `decay` times as much for each stage below it.

    Source: Clark et al. 2020 (ELECTRA), arXiv:2003.10555, appendix A; Bao et al. 2022 (BEiT), arXiv:2106.08254.
    """
    deepest = max(depths.values())
    return {name: decay ** (deepest - depth) for name, depth in depths.items()}


def make_schedules(optimizer, train, steps_per_epoch):
    """What Lightning takes as "lr_scheduler"s: the rate at each step, and for `plateau` at each epoch."""
    if train.schedule != "plateau":
        factor = lambda step: compute_lr_factor(step, steps_per_epoch, train)
        return [{"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "interval": "step"}]
    return [
        make_warmup_schedule(optimizer, train, steps_per_epoch),
        make_plateau_schedule(optimizer, train, steps_per_epoch),
    ]


def count_schedules(train):
    """How many they are, which a checkpoint that is continued must agree with."""
    return 2 if train.schedule == "plateau" else 1


def make_warmup_schedule(optimizer, train, steps_per_epoch):
    """The warm-up of lr_factor as a factor of the rate that there is, which `plateau` lowers; of no steps, it changes
    nothing."""
    steps = round(train.warmup * steps_per_epoch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, compute_warmup_factor(0, steps), total_iters=steps)
    return {"scheduler": schedule, "interval": "step"}


def compute_warmup_factor(step, steps):
    return (min(step, steps) + 1) / (steps + 1)


def make_plateau_schedule(optimizer, train, steps_per_epoch):
    """Multiplies the rate by `gamma` when what best.ckpt is chosen by was not better for `plateau` epochs.

    Told after its batches, since Lightning tells of an epoch only after the checkpoint of its end is written.
    Source: He et al. 2015, arXiv:1512.03385, section 3.4 ("when the error plateaus").
    """
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=train.gamma, patience=train.plateau - 1, threshold=0, threshold_mode="abs"
    )
    batches = steps_per_epoch * train.accumulate
    return {"scheduler": schedule, "interval": "step", "frequency": batches, "monitor": "best_by"}


def compute_global_batch_size(cfg, world_size):
    """The videos of a step: those of all processes, and of all batches whose gradients are accumulated."""
    return cfg.data.batch_size * cfg.train.accumulate * world_size


def scale_lr(train, global_batch):
    """The rate for a step of this many videos: linear in it where `base_batch` is given.

    Source: Goyal et al. 2017, arXiv:1706.02677, section 2.1.
    """
    return train.lr * global_batch / train.base_batch if train.base_batch else train.lr


def format_batch_and_lr(cfg, world_size):
    """The videos of a step and its learning rate, as sums with their numbers."""
    train, batch = cfg.train, compute_global_batch_size(cfg, world_size)
    factors = [f"{cfg.data.batch_size} a batch"]
    factors += [f"{train.accumulate} batches accumulated"] if train.accumulate > 1 else []
    factors += [f"{world_size} processes"] if world_size > 1 else []
    videos = f"{batch} videos a step" + (f" ({' x '.join(factors)})" if len(factors) > 1 else "")
    scaled = f" ({train.lr:g} x {batch} / {train.base_batch})" if train.base_batch else ""
    return f"{videos}, learning rate {scale_lr(train, batch):g}{scaled}"


def compute_lr_factor(step, steps_per_epoch, train):
    """What the learning rate is multiplied by at a step (0-based): warm-up from near 0, then the schedule."""
    total, warmup = train.epochs * steps_per_epoch, train.warmup * steps_per_epoch
    if train.schedule == "onecycle":
        return compute_onecycle_factor(step, total, warmup)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if train.schedule == "cosine":
        return half_cosine((step - warmup) / max(total - warmup, 1))
    return train.gamma ** sum(step >= m * steps_per_epoch for m in train.milestones)


def half_cosine(progress):
    """From 1 to 0 (Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, one cycle)."""
    return (1 + math.cos(math.pi * min(progress, 1))) / 2


def compute_onecycle_factor(step, total, rise, start=1 / 25, end=1e-5):
    """Up from `start` to 1 in `rise` steps, down to `end`, along cosines (Smith and Topin 2018, arXiv:1708.07120)."""
    if step < rise:
        return 1 - (1 - start) * half_cosine(step / rise)
    return end + (1 - end) * half_cosine((step - rise) / max(total - 1 - rise, 1))
