"""Load public and own weights: every tensor is accounted for, or nothing is loaded.

A source is one of
    torchvision/<model>/<weights>   torchvision's by name, e.g. torchvision/r2plus1d_18/KINETICS400_V1 (downloaded once)
    runs/x/checkpoints/best.ckpt    a run of tools/train.py
    runs/x/weights.safetensors      what tools/export.py wrote of one
    videores/<name>, hub:<user>/<name>, or a folder of save_pretrained
    <layout>:<file>                 a local file of torchvision, vmz (also IG-65M), mmaction2, pytorchvideo,
                        akamaster (CIFAR networks) or keras

Files are read without running code. docs/guide/weights.md has the details.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from videores.errors import UserError
from videores.models.resnet import ResNet
from videores.models.weights import compatibility, key_maps, safe_load
from videores.models.weights.preprocessing import compare_preprocessing
from videores.models.weights.sources import read_source

INFLATION = "centre"  # unless another is given: docs/guide/weights.md has the measurement
HEADS, INFLATIONS, ADAPTATIONS = ("auto", "keep", "new"), (None, "mean", "centre"), (None, "mean")


@dataclass(frozen=True)
class LoadReport:
    """Report of a load: counts and names of tensors under our names, and notes."""

    source: str
    loaded: int
    new: list  # in the network only: they keep their random values
    unused: list  # in the source only
    notes: list = field(default_factory=list)

    def __str__(self):
        parts = [f"{self.loaded} tensors of {self.source}"]
        parts += [f"new: {', '.join(self.new)}"] if self.new else []
        parts += [f"unused: {', '.join(self.unused)}"] if self.unused else []
        return "\n        ".join(["; ".join(parts), *self.notes])

    as_dict = asdict


def load_weights(
    model: nn.Module,
    source: str | Path,
    classes: Sequence[str] | None = None,
    head: str = "auto",
    inflate: str | None = None,
    adapt: str | None = None,
    preprocessing: dict[str, Any] | None = None,
) -> LoadReport:
    """Copy the weights of `source` into the model and return a report.

    Raises UserError where anything does not fit.

    classes: the names of the model's classes in order, which the source's must equal for its classifier to be kept
    head: "keep" or "new"; "auto" is new for another number of classes and keep for equal names
    inflate: how 2D kernels fill 3D ones, "mean" or, by default, "centre"
    adapt: how a first convolution for another stream is filled: "mean", its filters' mean over the channels in each
    preprocessing: what the model will be fed (`extract_preprocessing`); another mean, std or stream is refused
    """
    for key, value, known in (
        ("head", head, HEADS),
        ("inflate", inflate, INFLATIONS),
        ("adapt", adapt, ADAPTATIONS),
    ):
        if value not in known:
            raise UserError(f"{key} must be one of {', '.join(map(str, known))}, got {value!r}")
    model = getattr(model, "_orig_mod", model)  # of torch.compile, whose names have a prefix
    stored, own, head_name = read_source(source, model), model.state_dict(), _find_head(model)
    state = _inflate_state(stored.state, own, source, inflate)
    by_default = state is not stored.state and not inflate
    state = _adapt_first_convolution(state, own) if adapt else state
    state = _set_eps(_add_batch_counters(state, own), model, stored.eps)
    fresh = _starts_new_head(state, own, head_name, source, stored, classes, head)
    unused = [key for key in state if fresh and _has_prefix(key, *_list_head_parts(model, head_name))]
    state = {key: value for key, value in state.items() if key not in unused}
    asked_for = (head_name, "pool") if fresh else ("pool",)  # a pooling with weights is one that the user chose
    new = [key for key in own if key not in state and _has_prefix(key, *asked_for)]
    was_pruned = bool((stored.network or {}).get("widths"))
    notes = compare_preprocessing(source, stored, preprocessing, adapt)  # first, as other streams have other channels
    _check_fit(source, state, {key: value for key, value in own.items() if key not in new}, model, was_pruned)
    notes += [f"note: {stored.warning}"] if stored.warning else []
    notes += [f"note: its 2D kernels were made 3D by model.inflate={INFLATION}"] if by_default else []
    notes += ["note: every channel of its first convolution is the mean of those that it had"] if adapt else []
    notes += [f"note: {line}" for line in compatibility.find_differences(stored.network, model)]
    model.load_state_dict({**own, **state})
    return LoadReport(str(source), len(state), new, unused, notes)


# Fitting


def _inflate_state(state, own, source, how):
    """`state`, its 2D kernels made 3D where the model is 3D: mean repeats a kernel T times divided by T (Carreira and
    Zisserman 2017), centre puts it into the middle frame and zeros around it.

    On a clip of one repeated frame a centre-inflated network gives the 2D network's output exactly. So does a
    mean-inflated one where no kernel reaches over the clip's ends; there the zeros in the padding make it smaller.
    """
    is_2d = any(key.endswith("conv1.weight") and value.ndim == 4 for key, value in state.items())
    wants_3d = any(value.ndim == 5 for value in own.values())
    if not is_2d or not wants_3d:
        if how:
            raise UserError(f"model.inflate={how} is for 2D weights in a 3D network; leave it out for {source}")
        return state
    state = key_maps.rename_keys(state, key_maps.FLAT_TO_NESTED)
    return {key: _inflate_kernel(value, own.get(key), how or INFLATION) for key, value in state.items()}


def _inflate_kernel(weight, ours, how):
    if weight.ndim != 4 or ours is None or ours.ndim != 5:
        return weight
    frames = ours.shape[2]
    if how == "mean":
        return weight.unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames
    filled = weight.new_zeros(*weight.shape[:2], frames, *weight.shape[2:])
    filled[:, :, frames // 2] = weight
    return filled


def _adapt_first_convolution(state, own):
    """Give each channel of the first convolution the mean of its filters over the channels that it had.

    Source: Wang et al. 2016, arXiv:1608.00859, section 3.2, cross modality pre-training.
    """
    first = next(key for key, value in own.items() if value.ndim >= 4)
    if first not in state:
        return state
    mean = state[first].mean(1, keepdim=True)
    return {**state, first: mean.expand(-1, own[first].shape[1], *mean.shape[2:]).clone()}


def _add_batch_counters(state, own):
    """Add the norms' counters of batches, which older files lack.

    Nothing reads them while their momentum is a number.
    """
    counters = {key: value for key, value in own.items() if key.endswith(".num_batches_tracked")}
    present = {key for key in counters if key.replace("num_batches_tracked", "running_var") in state}
    return {**{key: torch.zeros_like(counters[key]) for key in present}, **state}


def _set_eps(state, model, eps):
    """Adapt the weights of norms with another epsilon.

    x / sqrt(var + eps) stays the same if the variance takes the difference.

    Exact in evaluation and for frozen norms; in training the norms have the model's own epsilon.
    """
    if eps is None:
        return state
    norms = {f"{name}.running_var": module.eps for name, module in model.named_modules() if hasattr(module, "eps")}
    return {key: value + (eps - norms.get(key, eps)) if key in norms else value for key, value in state.items()}


def _find_head(model):
    """Return the name of the classifier: fc, or the last linear layer of a network of others."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if hasattr(getattr(model, "fc", None), "weight"):
        return "fc"
    if not linear:
        raise UserError("model.weights needs a classifier, the network has neither fc nor a linear layer: name it fc")
    return linear[-1]


def _list_head_parts(model, name):
    """Return the parts that a new head replaces.

    A pooling of logits has the classes as its channels.
    """
    return (name, "pool") if getattr(getattr(model, "design", None), "consensus", None) == "logits" else (name,)


def _has_prefix(key, *names):
    return any(key.startswith(f"{name}.") for name in names)


def _starts_new_head(state, own, name, source, stored, classes, head):
    """Return whether the source's classifier is left out.

    Raises UserError where that would be a guess.
    """
    theirs, ours = state.get(f"{name}.weight"), own[f"{name}.weight"]
    if theirs is None:
        return head == "new"  # else the classifier is among what does not fit
    if head == "keep" and len(theirs) != len(ours):
        raise UserError(f"{source} has {len(theirs)} classes, the data {len(ours)}: model.head=keep cannot be")
    if head == "new" or len(theirs) != len(ours):
        return True
    if head == "keep" or classes is None or stored.classes == list(classes):
        return False
    what = (
        "does not say which"
        if stored.classes is None
        else f"has others, e.g. {_find_first_difference(stored.classes, classes)}"
    )
    raise UserError(
        f"{source} has as many classes as the data, {len(ours)}, and {what}: "
        "model.head=keep takes its classifier as it is, model.head=new starts another"
    )


def _find_first_difference(theirs, ours):
    return next(f"{i}: {a} / {b}" for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)


def _check_fit(source, state, own, model, was_pruned):
    lines = safe_load.list_differences(state, own)
    if lines:
        theirs = [line for line in lines if line.endswith("/ absent")][:5]  # its names beside the network's
        shown = [*[line for line in lines if line not in theirs][: 10 - len(theirs)], *theirs]
        advice = [f"it fits with model.mid={mid}" for mid in _find_matching_mids(state, own, model)[:1]]
        advice += ["it was pruned: give the model.widths of its config.yaml"] if was_pruned else []
        raise UserError(
            f"{source} does not fit the network: {len(lines)} tensors differ (source / network):\n  "
            + "\n  ".join(shown + ["..."] * (len(lines) > len(shown)) + advice)
        )


def _find_matching_mids(state, own, model):
    """Return the inner widths of (2+1)D convolutions with which the source fits the network."""
    if "2plus1d" not in getattr(getattr(model, "design", None), "conv", ()):
        return []
    fitting = []
    for mid in ("torchvision", "paper", "round8", "none"):
        with torch.device("meta"):
            other = ResNet(model.fc.out_features, replace(model.design, mid=mid)).state_dict()
        if not safe_load.list_differences(state, {key: value for key, value in other.items() if key in own}):
            fitting.append(mid)
    return fitting
