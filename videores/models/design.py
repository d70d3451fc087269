"""Define a network's design from its options, and which of them contradict each other.

The builder is resnet.py; the table of published networks is at its end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from videores.config.network import NetworkOptions
from videores.errors import UserError


@dataclass(frozen=True)
class Design(NetworkOptions):
    """The options of a network, of which all but `fold` can be overridden, and what follows from them."""

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


def apply_overrides(name: str, row: Design, changes: Mapping[str, Any]) -> Design:
    """Return the row `name` with changes.

    Raises UserError, with the reason, where they make no sense together.
    """
    changes = {key: value for key, value in changes.items() if (key, value) != ("stem", "default")}
    if changes.get("block") == "preact" and row.deep:
        changes["block"] = "preact_bottleneck"
    if "conv" in changes:
        changes["conv"] = _expand_per_stage(name, changes["conv"], len(changes.get("layers", row.layers)))
    design = replace(row, **changes)
    for check in (_check_convolutions, _check_time, _check_shortcuts_and_norms, _check_control):
        for reason in check(design, changes):
            raise UserError(f"{name}: {reason}")
    return design


def _expand_per_stage(name, conv, stages):
    conv = (conv,) * stages if isinstance(conv, str) else conv
    if len(conv) not in (stages, stages + 1):
        raise UserError(
            f"{name}: conv must have an entry for each of the {stages} stages, and may have the stem's before them, "
            f"got {len(conv)}: give one word for all"
        )
    return conv if len(conv) > stages else (conv[0], *conv)


# Each yields what the builder cannot do, or would ignore, of a design and the options that were given.


def _check_convolutions(d: Design, given: Mapping[str, Any]) -> Iterator[str]:
    kinds = set(d.conv[: 1 + len(d.layers)])
    channels = d.inner(d.width) if d.deep else d.width  # of the convolutions in groups, in the first stage
    fixed_stem = d.stem in ("nopool", "pool")  # a 7x7 stem has inner channels of its own
    if kinds > {"2d"}:
        yield "conv must not mix 2d, which sees single frames, with others: give 1x3x3, its 3D form"
    if d.fold and kinds != {"2d"}:
        yield "conv must be 2d where the frames are channels: drop conv"
    if d.padding == "same" and kinds != {"2d"}:
        yield "padding=same is for 2D networks, as Keras has them: drop padding"
    if "mid" in given and "2plus1d" not in d.conv[fixed_stem : 1 + len(d.layers)]:
        yield "mid needs 2plus1d convolutions other than a 7x7 stem's: drop mid"
    if "mid" in given and d.connect != "dense":
        yield f"mid needs connect=dense, got {d.connect}, which keeps the channels inside (2+1)D: drop one"
    if d.connect in ("depthwise", "ip") and not d.deep:
        yield f"connect={d.connect} needs bottlenecks, since nothing in basic blocks would mix the channels: drop it"
    if d.connect != "dense" and d.groups > 1:
        yield f"groups must be 1 with connect={d.connect}, got {d.groups}: give groups=1 or drop connect"
    for key in ("base_width", "stride_in"):
        if key in given and not d.deep:
            yield f"{key} needs bottlenecks, got block={d.block}: drop {key}"
    if "stride_in" in given and len(d.layers) == 1:
        yield "stride_in needs several stages, since the first does not stride: drop stride_in"
    if channels % d.groups:
        yield f"groups must divide the {channels} channels of the first stage, got {d.groups}: change groups or width"
    if not d.deep and 1 < d.groups == channels:
        yield f"groups must be < {channels} in basic blocks, or nothing mixes the channels, got {d.groups}: lower it"
    if channels == 0:
        yield f"width must leave bottlenecks of base_width={d.base_width} a channel, got {d.width}: raise it"


def _check_time(d: Design, given: Mapping[str, Any]) -> Iterator[str]:
    for key in ("shift", "stage_pool"):
        if getattr(d, key) and (d.dim == 3 or d.fold):
            yield f"{key} needs a 2D network that sees single frames, such as f_r2d_18: drop {key}"
    if d.shift and d.width < d.shift:
        yield f"shift must be <= the channels of the first stage ({d.width}), got {d.shift}: lower it"
    if d.causal and not d.shift:
        yield "causal says where model.shift takes channels from, got shift=null: give shift=8 or drop causal"
    if d.causal and d.stage_pool:
        yield "causal needs frames that do not know the next one, which maxima between stages do: drop stage_pool"
    if d.stage_pool and len(d.layers) == 1:
        yield "stage_pool needs several stages, between which it pools: drop stage_pool"
    if d.frames is None and (d.fold or d.pool == "weights"):
        yield "frames must be the clips' length, for which r2d and pool=weights are made: give frames"
    if d.fold and d.pool != "mean":
        yield f"pool must be mean where the frames are channels, since one time step is left, got {d.pool}: drop pool"
    if "frames" in given and not d.fold and d.pool != "weights":
        yield "frames needs r2d or pool=weights, since other networks take clips of any length: drop frames"
    if d.pool == "gem" and d.consensus == "logits":
        yield "pool=gem needs values that are not negative, got consensus=logits: drop one"


def _check_shortcuts_and_norms(d: Design, given: Mapping[str, Any]) -> Iterator[str]:
    for key, is_given in (("block=preact", d.preact), ("drop_path", d.drop_path), ("zero_init", d.zero_init)):
        if d.shortcut == "none" and is_given:
            yield f"{key} needs shortcuts, got shortcut=none: drop one"
    if d.zero_init and d.preact:
        yield f"zero_init needs blocks that end in a norm, got block={d.block}: drop one"
    if d.zero_init and d.norm in (
        "none",
        "frozen",
    ):  # SkipInit starts the branches at 0 already; frozen would keep them
        yield f"zero_init needs norms that train, got norm={d.norm}: drop zero_init"
    if "norm_eps" in given and d.norm == "none":
        yield "norm_eps needs norms, got norm=none: drop norm_eps"


def _check_control(d: Design, given: Mapping[str, Any]) -> Iterator[str]:
    if d.control and (d.preact or d.shortcut == "none"):
        yield f"control={d.control} needs post-activated blocks with shortcuts, got block={d.block}: drop one"
    if d.control == "conv1x1" and "shortcut" in given:
        yield "control=conv1x1 replaces every shortcut: drop shortcut"
    if d.control == "one_layer" and d.deep:  # a bottleneck's 1x1 convolutions need the wide one
        yield f"control=one_layer needs basic blocks, got block={d.block}: drop control"
    if d.control == "no_relu" and d.pool == "gem":
        yield "pool=gem needs values that are not negative, got control=no_relu: drop one"
