"""Count what a network costs (parameters, multiply-adds, activations, memory) and measure its time.

Counting runs the network on torch's meta device, which computes shapes only, so the largest takes a second and no
memory. A multiply-add (MAC) is one multiplication and one addition of a convolution or a linear layer, as the papers'
tables count them; a GMAC is 10^9 of them, and what many call a GFLOP.

Shapes: a clip is C x T x H x W; a batch of B of them is clips_BCTHW.
"""

import copy
import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from videores.compute import precision
from videores.compute.precision import PrecisionSetting
from videores.data import streams
from videores.errors import UserError
from videores.models.fusion import FusionNetwork

COUNTED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
MODES = {
    "fp32": PrecisionSetting("fp32", channels_last=False),
    "fp32 channels-last": PrecisionSetting("fp32", channels_last=True),
    "fp32 channels-last compiled": PrecisionSetting("fp32", channels_last=True, compiled=True),
    "bf16": PrecisionSetting("bf16", channels_last=False),
    "bf16 channels-last": PrecisionSetting("bf16", channels_last=True),
    "bf16 channels-last compiled": PrecisionSetting("bf16", channels_last=True, compiled=True),
}


# By counting


def count_costs(
    model: nn.Module,
    frames: int,
    size: int | tuple[int, int],
    views: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Any]:
    """Count the costs of one clip of `frames` x `size` x `size`.

    `size` may be (height, width). Of several streams, `shapes` are the {stream: (C, T, H, W)} that differ from that.
    `gmacs_video` is GMACs times views; `training_bytes` is None where one clip is too small to train on alone.
    """
    shape = streams.add_batch(shapes, 1) if shapes else (1, get_channels(model), frames, *expand_size(size))
    model = _copy_to_meta(model)
    macs = count_gmacs(model, shape)
    return {
        "frames": frames,
        "size": size,
        "params": count_parameters(model),
        "gmacs": macs,
        "views": views,
        "gmacs_video": macs * views,
        "activations": count_activations(model, shape),
        "inference_bytes": estimate_peak_bytes(model, shape, train=False),
        "training_bytes": _estimate_training_bytes(model, shape),
    }


def expand_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a size, which is a number where they are equal."""
    return (size, size) if isinstance(size, int) else size


def get_channels(model: nn.Module) -> int:
    """Return the channels of the clips that a network takes; 3 where it does not say."""
    return getattr(getattr(model, "design", None), "channels", 3)


def make_clips(model: nn.Module, shape_BCTHW: Any, make: Callable[..., torch.Tensor] | None = None) -> Any:
    """Return what a network takes: clips of a shape, or {stream: clips}.

    Clips of streams have the channels of each. The shape may be that of each, {stream: shape}. `make` makes a tensor
    of a shape; by default it has no values.
    """
    make = make or partial(torch.empty, device="meta")
    if isinstance(shape_BCTHW, Mapping) or not isinstance(model, FusionNetwork):
        return streams.map_sources(make, shape_BCTHW)
    batch, _, *size = shape_BCTHW
    return {name: make((batch, get_channels(network), *size)) for name, network in model.streams.items()}


def _estimate_training_bytes(model, shape_BCTHW):
    try:
        return estimate_peak_bytes(model, shape_BCTHW, train=True)
    except UserError:  # one value per channel in a batch norm; what the network refuses at all, it refused before
        return None


def _copy_to_meta(model):
    """Copy a model without its values; return a model that has none itself."""
    return model if all(p.is_meta for p in model.parameters()) else copy.deepcopy(model).to("meta")


def count_parameters(model: nn.Module) -> int:
    """Count the parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_gmacs(model: nn.Module, shape_BCTHW: Any) -> float:
    """Return the GMACs of one forward pass over clips of that shape.

    Counted are the convolutions and matrix products that it really does.
    """
    model = _copy_to_meta(model).eval()
    clips = make_clips(model, shape_BCTHW)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(clips)
    return counter.get_total_flops() / 2e9


def count_activations(model, shape_BCTHW) -> int:
    """Count the numbers that convolutions and linear layers put out.

    Source: Radosavovic et al. 2020, arXiv:2003.13678.
    """
    model, sizes = _copy_to_meta(model).eval(), []
    hooks = [
        layer.register_forward_hook(lambda _, inputs, output: sizes.append(output.numel()))
        for layer in model.modules()
        if isinstance(layer, COUNTED_LAYERS)
    ]
    with torch.no_grad():
        model(make_clips(model, shape_BCTHW))
    for hook in hooks:
        hook.remove()
    return sum(sizes)


def estimate_peak_bytes(model, shape_BCTHW, train) -> int:
    """The most bytes of tensors alive at once in a pass in float32, training with backward: weights, gradients and
    activations, without an optimizer's state and the scratch memory of the library's kernels.
    """
    model = _copy_to_meta(model).train(train)
    clips = make_clips(model, shape_BCTHW)
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    with _LiveTensorBytes() as alive, nullcontext() if train else torch.no_grad():
        logits_BN = model(clips)
        if train:
            logits_BN.sum().backward()
    model.zero_grad()
    return weights + sum(t.numel() * t.element_size() for t in tree_leaves(clips)) + alive.peak


class _LiveTensorBytes(TorchDispatchMode):
    """The bytes of the tensors made within it that are alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in before:
                self.add(tensor.untyped_storage())
        return output

    def add(self, storage):
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self.remove, size)

    def remove(self, size):
        self.alive -= size


# By measuring


def measure_latency(
    model: nn.Module,
    shape_BCTHW: Any,
    modes: Sequence[str] = ("fp32",),
    device: str = "cpu",
    rounds: int = 5,
) -> dict[str, dict[str, float]]:
    """Measure inference in turns over the modes.

    Returns {mode: {"ms": median time of a batch, "clips_s": clips a second}}.

    The network is measured with random weights, which cost the same as trained ones.
    """
    clips = make_clips(model, shape_BCTHW, partial(torch.randn, device=device))
    runs = {mode: make_runner(model, clips, MODES[mode]) for mode in modes}
    seconds = time_interleaved(runs, rounds, device)
    return {mode: {"ms": 1e3 * s, "clips_s": streams.pick_first(shape_BCTHW)[0] / s} for mode, s in seconds.items()}


def make_runner(model: nn.Module, clips: Any, setting: PrecisionSetting) -> Callable[[], torch.Tensor]:
    """Return a function that runs one batch of inference, on the clips' device."""
    device = streams.pick_first(clips).device
    model, clips = apply_layout(copy.deepcopy(model).to(device).eval(), clips, setting)
    infer = compile_frozen(model) if setting.compiled else model

    def run():
        with torch.inference_mode(), precision.autocast(device.type, setting.precision):
            return infer(clips)

    return run


def run_step(
    network: nn.Module, clips_BCTHW: torch.Tensor, label_B: torch.Tensor, setting: PrecisionSetting
) -> torch.Tensor:
    """Run forward and backward as a training step does; return the loss.

    Memory formats are changed in place.
    """
    network, clips_BCTHW = apply_layout(network, clips_BCTHW, setting)
    with precision.autocast(clips_BCTHW.device.type, setting.precision):
        logits_BN = network(clips_BCTHW)
    loss = F.cross_entropy(logits_BN.float(), label_B)
    loss.backward()
    return loss.detach()


def apply_layout(network: nn.Module, clips: Any, setting: PrecisionSetting) -> tuple[nn.Module, Any]:
    """Bring a network, in place, and clips to the memory layout of a setting."""
    if setting.channels_last:
        precision.to_channels_last(network)
        clips = streams.map_sources(lambda x: x.contiguous(memory_format=torch.channels_last_3d), clips)
    return network, clips


def compile_frozen(model: nn.Module) -> Callable[..., Any]:
    """Compile a model for inference.

    Weights become constants, which are folded with the norms and stored as kernels want.
    """
    return torch.compile(model, options={"freezing": True})


def time_interleaved(
    runs: Mapping[Any, Callable[[], Any]],
    rounds: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Any, float]:
    """Return {name: median seconds of a call}, timed in turns by a clock."""
    seconds: dict[Any, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            began = clock()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(clock() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}
