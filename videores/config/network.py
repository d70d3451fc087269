"""State the options of a network's design once: their types, and the defaults that a network's row starts from."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Count = Annotated[int, Field(ge=1, strict=True)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Conv = Literal["2d", "3d", "1x3x3", "2plus1d"]
Pool = Literal["mean", "max", "gem", "attention", "weights", "conv", "lstm"]


@dataclass(frozen=True)
class NetworkOptions:
    """The choices that make a residual network, which the keys of `model` override."""

    layers: Annotated[tuple[Count, ...], Field(min_length=1, max_length=4)] = (2, 2, 2, 2)  # blocks of each stage
    block: Literal["basic", "bottleneck", "preact", "preact_bottleneck"] = "basic"  # as a key, preact keeps bottlenecks
    conv: Conv | tuple[Conv, ...] = ("3d",) * 5  # of the stem and each stage; as a key also one for all, or one a stage
    # 7x7: nopool, pool (then a max-pool); 3x3: small, cifar (stride 1); default: the name's
    stem: Literal["default", "nopool", "pool", "small", "cifar"] = "nopool"
    channels: Count = 3  # of the clips; default: those of data.stream
    width: Count = 64  # channels of the stem and, in a basic block's terms, of the first stage; each stage doubles them
    base_width: Count | None = None  # inner channels of bottlenecks, a group and for 64 planes; None: as many as planes
    groups: Count = 1  # of the convolutions
    # dense (in groups), depthwise (ir-CSN), ip (ip-CSN), separable (depthwise, norm, 1x1)
    connect: Literal["dense", "depthwise", "ip", "separable"] = "dense"
    # inner width of (2+1)D: one a block; "paper", "round8" (to 8s), "none": one a convolution
    mid: Literal["torchvision", "paper", "round8", "none"] = "torchvision"
    stride_in: Literal["conv1", "conv2"] = "conv2"  # bottlenecks stride their wide convolution, or as He et al. the 1x1
    # of what strides, in 2D: same adds zeros as Keras does, after the last pixels where their number is odd
    padding: Literal["symmetric", "same"] = "symmetric"
    # where the shape changes: A pads channels, B projects; C projects everywhere; none: plain
    shortcut: Literal["A", "B", "C", "none"] = "B"
    norm: Literal["batch", "group", "frozen", "none"] = "batch"  # none: SkipInit (De and Smith 2020, arXiv:2002.10444)
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5  # VMZ's and IG-65M's weights want 1e-3
    bias: bool | None = None  # of convolutions; None: only without a norm, which would cancel it
    zero_init: bool = False  # the last norm of a block starts at 0 (Goyal et al. 2017, arXiv:1706.02677)
    se: Count | None = None  # squeeze-excitation with this reduction
    # TSM: of so many channels, one comes from the next frame and one from the frame before
    shift: Annotated[int, Field(ge=2, strict=True)] | None = None
    causal: bool = False  # shift takes channels from the frame before only, for live video
    stage_pool: bool = False  # a max over 3 frames with stride 2 between stages
    drop_path: Rate = 0.0  # probability that a clip skips the last block; before it, in proportion to depth
    pool: Pool = "mean"  # temporal pooling
    consensus: Literal["features", "logits"] = "features"  # what is pooled over time
    dropout: Rate = 0.0  # of what goes into the classifier
    spatial_dropout: Rate = 0.0  # of whole channels of a clip before temporal pooling (with the mean, like dropout)
    checkpoint: Literal["none", "stages"] = "none"  # stages: keep their inputs only, compute the rest again backward
    frames: Count | None = None  # the clips' length where the network is made for one: r2d, pool=weights
    # {layer: channels out} of a pruned network: docs/guide/smaller.md
    widths: dict[str, Count] | None = None
    # a negative control: models/controls.py
    control: Literal["scaled", "conv1x1", "dropout", "no_relu", "one_layer"] | None = None
