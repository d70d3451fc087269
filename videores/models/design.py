"""Define a network's design: its options, their values, and which contradict each other.

The builder is resnet.py; the table of published networks is at its end.
"""

from dataclasses import dataclass, replace

from videores.errors import UserError
from videores.models.temporal import POOLS


@dataclass(frozen=True)
class Design:
    """The options that define a residual network.

    OPTIONS has their values. All but `fold` can be overridden.
    """

    layers: tuple = (2, 2, 2, 2)  # blocks of each stage
    block: str = "basic"  # "preact" in an override keeps bottlenecks
    conv: tuple = ("3d",) * 5  # of the stem and of each stage; stages that convolve in time halve T, but the first
    stem: str = "nopool"  # 7x7: nopool, pool (then a max-pool); 3x3: small, cifar (stride 1)
    width: int = 64  # channels of the stem and, in a basic block's terms, of the first stage; each stage doubles them
    base_width: int | None = None  # inner channels of a bottleneck, a group and for 64 planes; None: as wide as planes
    groups: int = 1  # of the convolutions
    connect: str = "dense"  # dense (in groups), depthwise (ir-CSN), ip (ip-CSN), separable (depthwise, norm, 1x1)
    mid: str = "torchvision"  # inner width of (2+1)D: one a block; "paper", "round8" (to 8s), "none": one a convolution
    stride_in: str = "conv2"  # bottlenecks stride their wide convolution, or as He et al. the 1x1 before it: conv1
    shortcut: str = "B"  # where the shape changes: A pads channels, B projects; C projects everywhere; none: plain
    norm: str = "batch"  # none is with SkipInit (De and Smith 2020, arXiv:2002.10444)
    norm_eps: float = 1e-5  # VMZ's and IG-65M's weights want 1e-3
    bias: bool | None = None  # of convolutions; None: only without a norm, which would cancel it
    zero_init: bool = False  # the last norm of a block starts at 0 (Goyal et al. 2017, arXiv:1706.02677)
    se: int | None = None  # squeeze-excitation with this reduction
    shift: int | None = None  # TSM: of so many channels, one comes from the next frame and one from the frame before
    stage_pool: bool = False  # a max over 3 frames with stride 2 between stages
    drop_path: float = 0.0  # probability that a clip skips the last block; before it, in proportion to depth
    pool: str = "mean"  # temporal pooling
    consensus: str = "features"  # what is pooled over time: features or logits
    dropout: float = 0.0  # of what goes into the classifier
    spatial_dropout: float = 0.0  # of whole channels of a clip before temporal pooling (with the mean, like dropout)
    checkpoint: str = "none"  # "stages" keeps the inputs of stages only, and computes the rest again going backward
    frames: int | None = None  # the clips' length where the network is made for one: r2d, pool="weights"
    fold: bool = False  # r2d: the frames become channels

    @property
    def dim(self):
        return 2 if "2d" in self.conv else 3

    @property
    def preact(self):
        return self.block.startswith("preact")

    @property
    def deep(self):
        return self.block.endswith("bottleneck")

    def inner(self, planes):
        """Channels inside a bottleneck (Xie et al. 2017; Zagoruyko and Komodakis 2016, arXiv:1605.07146)."""
        return planes if self.base_width is None else int(planes * self.base_width / 64) * self.groups

    def time_stride(self, stage):
        return 2 if stage > 0 and self.conv[1 + stage] in ("3d", "2plus1d") else 1

    def time_steps(self):
        """T of the features of clips with `frames` frames."""
        strides = [2 if self.stage_pool and i > 0 else self.time_stride(i) for i in range(len(self.layers))]
        steps = 1 if self.fold else self.frames
        for stride in strides:
            steps = None if steps is None else -(-steps // stride)
        return steps


# The values of an override, in words and as a test.


def make_choice_rule(*allowed):
    return "one of " + ", ".join(allowed), lambda value: value in allowed


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_layers(value):
    return isinstance(value, (list, tuple)) and 1 <= len(value) <= 4 and all(map(is_count, value))


def _is_conv(value):
    kinds = [value] if isinstance(value, str) else value
    return isinstance(kinds, (list, tuple)) and bool(kinds) and all(kind in CONV_RULE for kind in kinds)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


CONV_RULE = ("2d", "3d", "1x3x3", "2plus1d")
COUNT_RULE = "a whole number of at least 1", is_count
RATE_RULE = "a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1
SWITCH_RULE = "true or false", lambda value: isinstance(value, bool)

OPTIONS = {
    "layers": ("the blocks of 1 to 4 stages, each at least 1, such as [2, 2, 2, 2]", _is_layers),
    "block": make_choice_rule("basic", "bottleneck", "preact", "preact_bottleneck"),
    "conv": (f"one of {', '.join(CONV_RULE)}, or a list with one of them for each stage", _is_conv),
    "stem": make_choice_rule("default", "nopool", "pool", "small", "cifar"),
    "width": (f"{COUNT_RULE[0]} (channels of the first stage)", is_count),
    "base_width": COUNT_RULE,
    "groups": COUNT_RULE,
    "connect": make_choice_rule("dense", "depthwise", "ip", "separable"),
    "mid": make_choice_rule("torchvision", "paper", "round8", "none"),
    "stride_in": make_choice_rule("conv1", "conv2"),
    "shortcut": make_choice_rule("A", "B", "C", "none"),
    "norm": make_choice_rule("batch", "group", "frozen", "none"),
    "norm_eps": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "bias": SWITCH_RULE,
    "zero_init": SWITCH_RULE,
    "se": COUNT_RULE,
    "shift": ("a whole number of at least 2", lambda value: is_count(value) and value >= 2),
    "stage_pool": SWITCH_RULE,
    "drop_path": RATE_RULE,
    "pool": make_choice_rule(*POOLS),
    "consensus": make_choice_rule("features", "logits"),
    "dropout": RATE_RULE,
    "spatial_dropout": RATE_RULE,
    "checkpoint": make_choice_rule("none", "stages"),
    "frames": COUNT_RULE,
}


def apply_overrides(name, row, changes):
    """Return the row `name` with changes.

    Raises UserError, with the reason, where they make no sense together.
    """
    changes = dict(changes)
    if changes.get("stem") == "default":
        del changes["stem"]
    if changes.get("block") == "preact" and row.deep:
        changes["block"] = "preact_bottleneck"
    if "layers" in changes:
        changes["layers"] = tuple(changes["layers"])
    if "conv" in changes:
        stages = len(changes.get("layers", row.layers))
        changes["conv"] = _expand_per_stage(name, changes["conv"], stages)
    design = replace(row, **changes)
    for is_nonsense, reason in _find_contradictions(name, design, changes):
        if is_nonsense:
            raise UserError(f"{name}: {reason}")
    return design


def _expand_per_stage(name, conv, stages):
    conv = (conv,) * stages if isinstance(conv, str) else tuple(conv)
    if len(conv) not in (stages, stages + 1):
        raise UserError(
            f"{name} has {stages} stages and conv {len(conv)} entries: give one, or one a stage, after the stem's"
        )
    return conv if len(conv) > stages else (conv[0], *conv)


def _find_contradictions(name, d, given):
    """Yield (condition, reason) for what the builder cannot do, or would ignore."""
    yield from _check_convolutions(name, d, given)
    yield from _check_time(d, given)
    yield from _check_shortcuts_and_norms(d, given)


def _check_convolutions(name, d, given):
    kinds = set(d.conv[: 1 + len(d.layers)])
    depthwise, one_stage = d.connect != "dense", len(d.layers) == 1
    channels = d.inner(d.width) if d.deep else d.width  # of the convolutions in groups, in the first stage
    fixed_stem = d.stem in ("nopool", "pool")  # a 7x7 stem has inner channels of its own
    kinds_with_mid = set(d.conv[fixed_stem : 1 + len(d.layers)])
    return [
        (kinds > {"2d"}, "2d convolutions see single frames and cannot be mixed with others; 1x3x3 is their 3D form"),
        (d.fold and kinds != {"2d"}, "its frames are channels, so its convolutions are 2d"),
        (
            "mid" in given and "2plus1d" not in kinds_with_mid,
            f"mid is the inner width of (2+1)D convolutions other than a 7x7 stem's; {name} has none",
        ),
        ("mid" in given and depthwise, f"mid has no effect: connect={d.connect} keeps the channels inside (2+1)D"),
        (
            d.connect in ("depthwise", "ip") and not d.deep,
            f"connect={d.connect} is for bottlenecks: in a basic block no convolution would mix the channels",
        ),
        (depthwise and d.groups > 1, f"connect={d.connect} has a group a channel: drop groups"),
        ("base_width" in given and not d.deep, "base_width is the inner width of bottlenecks; its blocks are basic"),
        ("stride_in" in given and not d.deep, "stride_in is for bottlenecks; basic blocks stride their first one"),
        ("stride_in" in given and one_stage, "stride_in has no effect: a single stage does not stride"),
        (
            channels % d.groups > 0,
            f"groups={d.groups} does not divide the {channels} channels of its first stage",
        ),
        (
            not d.deep and 1 < d.groups == channels,
            f"groups={d.groups} is a group a channel: in a basic block no convolution would mix the channels",
        ),
        (channels == 0, f"base_width={d.base_width} leaves no channels to a bottleneck at width={d.width}"),
    ]


def _check_time(d, given):
    per_frame, one_stage = d.dim == 2 and not d.fold, len(d.layers) == 1
    return [
        (d.shift and not per_frame, "shift moves channels between frames of 2D networks (f_r2d); this one has time"),
        (
            d.shift and d.width < d.shift,
            f"shift={d.shift} moves one channel in {d.shift}, and the first stage has {d.width}",
        ),
        (d.stage_pool and not per_frame, "stage_pool is for 2D networks (f_r2d); others stride time in their stages"),
        (d.stage_pool and one_stage, "stage_pool is between stages, and there is one"),
        (d.fold and d.frames is None, "it takes the frames as channels: say how many, frames="),
        (d.fold and d.pool != "mean", f"pool={d.pool} has nothing to pool: its features have one time step"),
        (
            d.pool == "weights" and d.frames is None,
            "pool=weights learns one a time step: give the clips' length, frames=",
        ),
        (
            "frames" in given and not d.fold and d.pool != "weights",
            "frames has no effect: the network takes clips of any length",
        ),
        (
            d.pool == "gem" and d.consensus == "logits",
            "pool=gem needs values that are not negative: features, not logits",
        ),
    ]


def _check_shortcuts_and_norms(d, given):
    plain = d.shortcut == "none"
    return [
        (plain and d.preact, "pre-activation orders the layers around a shortcut, and shortcut=none has none"),
        (plain and d.drop_path > 0, "drop_path leaves the shortcut, and shortcut=none has none: nothing would be left"),
        (plain and d.zero_init, "zero_init makes blocks the identity; without shortcuts everything would be 0"),
        (d.zero_init and d.preact, "zero_init is of a block's last norm; pre-activated blocks end in a convolution"),
        (
            d.zero_init and d.norm == "none",
            "zero_init has no norm to act on; SkipInit starts the branches at 0 already",
        ),
        (d.zero_init and d.norm == "frozen", "zero_init with frozen norms would keep every branch at 0"),
        ("norm_eps" in given and d.norm == "none", "norm_eps has no norm to act on"),
    ]
