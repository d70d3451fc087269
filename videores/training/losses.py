"""Losses as pure functions.

X clips, N classes; a label is a class or, mixed, a probability of each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videores.config.streams import JOINT, Streams


def classification_loss(
    logits_XN: Tensor, label: Tensor, smoothing: float = 0.0, weight_N: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy of clips in float32; label_X or label_XN.

    Each clip counts with the weight of its class, a mixed label with those of its classes in proportion. The sum is
    divided by the number of clips, not by their weights, as torch does with class numbers: then the classes keep their
    weights whatever a batch holds, and the means of ranks may be averaged.
    """
    if weight_N is not None and label.ndim == 1:
        label = F.one_hot(label, logits_XN.shape[1]).float()
    return F.cross_entropy(logits_XN.float(), label, weight=weight_N, label_smoothing=smoothing)


def compute_class_weights(label_V: Sequence[int] | np.ndarray, classes: int) -> Tensor:
    """Return weight_N, inverse to the number of videos of each class.

    It is 1 in the mean over videos, and 0 for a class without any. Source: King and Zeng 2001, "Logistic regression in
    rare events data", section 4.2, as in scikit-learn's "balanced".
    """
    count_N = np.bincount(label_V, minlength=classes)
    present = count_N > 0
    weight_N = len(label_V) / (present.sum() * np.maximum(count_N, 1))
    return torch.tensor(np.where(present, weight_N, 0.0), dtype=torch.float32)


def distillation_loss(student_XN: Tensor, teacher_XN: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of the softened probabilities.

    The mean over clips. Source: Hinton et al. 2015, arXiv:1503.02531, section 2: gradients of soft targets scale with
    1 / T^2, so that the factor keeps their weight beside the labels' when T changes.
    """
    log_student = F.log_softmax(student_XN.float() / temperature, 1)
    log_teacher = F.log_softmax(teacher_XN.float() / temperature, 1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def compute_attention_map(features_XCTHW: Tensor) -> Tensor:
    """Return attention_XTHW, the mean square over channels.

    Source: Zagoruyko and Komodakis 2017, arXiv:1612.03928, section 3.1.
    """
    return features_XCTHW.float().square().mean(1)


def attention_transfer_loss(student_XTHW: Tensor, teacher_XTHW: Tensor) -> Tensor:
    """Return the mean squared difference of two normalized attention maps.

    It is equation 2 of the paper, as in the authors' code. Maps of other sizes are averaged to the smaller in every
    dimension.
    """
    t, h, w = (min(a, b) for a, b in zip(student_XTHW.shape[1:], teacher_XTHW.shape[1:], strict=True))
    ours, theirs = (F.normalize(F.adaptive_avg_pool3d(x, (t, h, w)).flatten(1)) for x in (student_XTHW, teacher_XTHW))
    return (ours - theirs).square().mean()


def select_loss_weights(given: Mapping[Any, float], stream: Streams, fusion: str | None) -> dict[str, float]:
    """Return the weight of each classifier's loss, none for a network of one stream.

    Without given ones, what is tested learns: the classifier of all streams, or, with fusion=late, that of each.
    """
    if isinstance(stream, str):
        return {}
    heads = [*stream, *([JOINT] if fusion == JOINT else [])]
    weights: Mapping[Any, float] = given or dict.fromkeys([JOINT] if fusion == JOINT else stream, 1.0)
    return {name: float(weights.get(name, 0.0)) for name in heads}


def sum_head_losses(
    heads: Mapping[str, Tensor], weights: Mapping[str, float], compute_loss: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the weighted sum of the classifiers' losses.

    One of weight 0 is part of it, so that ranks exchange the gradients of all weights. Source: Wang et al. 2020,
    arXiv:1905.12681, equation 1.
    """
    return torch.stack([weight * compute_loss(heads[name]) for name, weight in weights.items()]).sum()
