"""Contradictions between configuration keys, as conditions and messages.

Each function yields the messages of a section, which name keys in full, what must hold, and what to change.
"""

from collections.abc import Iterator
from typing import Any

from videores.config.streams import COLOR_KEYS, STREAMS


def check_clip(c: Any) -> Iterator[str]:
    """Yield the contradictions within data.clip."""
    if c.fps is not None and c.stride != 1:
        yield f"data.clip.stride must be 1 with data.clip.fps, got {c.stride}: drop one"
    if c.sampling == "segments" and (c.stride != 1 or c.fps is not None or c.short != "loop"):
        yield "data.clip.sampling=segments spans the whole video: drop data.clip.stride, fps and short"


def check_transform(c: Any) -> Iterator[str]:
    """Yield the contradictions within data.transform."""
    if c.crop > (smallest := min([c.short_side, *(c.jitter or ())])):
        yield f"data.transform.crop must be <= short_side and jitter ({smallest}), got {c.crop}"
    if c.pad >= c.crop:
        yield f"data.transform.pad must be < crop ({c.crop}), or crops may show nothing, got {c.pad}"


def check_augment(c: Any) -> Iterator[str]:
    """Yield the contradictions within data.augment."""
    if c.resized_crop and c.multi_scale is not None:
        yield "data.augment.resized_crop and multi_scale both choose the crop: drop one"
    if c.multi_scale == ():
        yield "data.augment.multi_scale needs at least one scale, e.g. [1, 0.875, 0.75, 0.66]"
    if not c.resized_crop and not c.is_default("resized_aspect"):
        yield "data.augment.resized_aspect needs data.augment.resized_crop: give both or neither"
    if not c.erasing and not c.is_default("erasing_area"):
        yield "data.augment.erasing_area needs data.augment.erasing > 0: give both or neither"
    if c.randaugment and c.trivialaugment:
        yield "data.augment.randaugment and trivialaugment both choose the operations: drop one"


def check_data(c: Any) -> Iterator[str]:
    """Yield the contradictions between sections of data."""
    for key in ("resized_crop", "multi_scale"):
        if c.transform.jitter and getattr(c.augment, key):
            yield f"data.transform.jitter and data.augment.{key} both choose the scale: drop one"
        if c.transform.pad and getattr(c.augment, key):
            yield f"data.transform.pad is for crops of one size, not for data.augment.{key}: drop one"
    if c.augment.speed and c.clip.sampling == "segments":
        yield "data.augment.speed needs data.clip.sampling=dense, got segments: drop one"
    if c.augment.flip_labels != "none" and c.transform.flip == 0:
        yield "data.augment.flip_labels needs data.transform.flip > 0, got 0: raise it, e.g. to 0.5, or drop one"
    if not STREAMS[c.stream].has_colors:
        yield from _check_no_colors(c)
    if c.augment.has_mixing and c.batch_size * c.clip.repeat == 1:
        yield "data.augment.mixup and cutmix need several clips in a batch, got 1: raise data.batch_size"


def _check_no_colors(c: Any) -> Iterator[str]:
    """Yield what does not suit a stream of vectors that are stored once."""
    for key in COLOR_KEYS:
        if not c.augment.is_default(key):
            yield f"data.augment.{key} changes colors, which data.stream={c.stream} does not have: drop it"
    for key, what in (("rotation", "turn"), ("speed", "lengthen"), ("flip_axes", "mirror")):
        if not c.augment.is_default(key):
            yield f"data.augment.{key} would have to {what} the vectors of data.stream={c.stream}: drop it"
    for key in ("mean", "std", "pad"):
        if not c.transform.is_default(key):
            yield f"data.transform.{key} is of colors, which data.stream={c.stream} does not have: drop it"


def _check_views_of_vectors(stream: str, part: str, views: Any) -> Iterator[str]:
    """Yield what a protocol does to pictures that it cannot do to vectors."""
    if views.corruption not in ("none", "frame_drop"):
        yield f"{part}.corruption={views.corruption} damages pictures, not the vectors of data.stream={stream}: drop it"
    if views.crops == 10:
        yield f"{part}.crops=10 mirrors pictures, and the vectors of data.stream={stream} would stay: use crops=5"


def check_model(c: Any) -> Iterator[str]:
    """Yield the contradictions within model."""
    for key in ("inflate", "head", "adapt"):
        if c.weights is None and not c.is_default(key):
            yield f"model.{key} needs model.weights: give both or neither"


def check_distill(c: Any) -> Iterator[str]:
    """Yield the contradictions within train.distill."""
    if c.teacher is None and (changed := [key for key in type(c).model_fields if not c.is_default(key)]):
        yield f"train.distill.{changed[0]} needs train.distill.teacher: give both or neither"
    if c.teacher is not None and c.weight == 0 and c.attention == 0:
        yield "train.distill needs weight > 0 or attention > 0, got weight=0 and attention=0: raise one or drop teacher"


def check_train(c: Any) -> Iterator[str]:
    """Yield the contradictions within train."""
    if c.ema is not None and c.swa is not None:
        yield "train.ema and train.swa both average the weights that are tested: drop one"
    if c.swa is not None and c.swa >= c.epochs:
        yield f"train.swa (first epoch, from 0) must be < train.epochs ({c.epochs}), got {c.swa}"
    if c.freeze == "all-but-fc" and c.layer_decay is not None:
        yield "train.layer_decay needs several parts that train, got train.freeze=all-but-fc: drop one"
    if c.freeze == "all-but-fc" and c.distill.attention:
        yield "train.distill.attention needs stages that train, got train.freeze=all-but-fc: drop one"
    if c.schedule == "plateau" and c.gamma >= 1:
        yield f"train.gamma must be < 1 with train.schedule=plateau, got {c.gamma:g}"
    if c.warmup >= c.epochs and c.warmup > 0:
        yield f"train.warmup must be < train.epochs ({c.epochs}), got {c.warmup:g}"
    if (c.schedule == "step") != bool(c.milestones):
        yield f"train.milestones must go with train.schedule=step, got {list(c.milestones)} and {c.schedule}"
    if any(m <= c.warmup for m in c.milestones) or list(c.milestones) != sorted(c.milestones):
        yield f"train.milestones must rise and be > train.warmup ({c.warmup:g}), got {list(c.milestones)}"


def check_config(c: Any) -> Iterator[str]:
    """Yield the contradictions between top-level sections."""
    frozen = c.train.freeze_bn or c.train.freeze == "all-but-fc"
    channels = STREAMS[c.data.stream].channels
    if c.model.clip_channels != channels:
        yield f"model.channels must be the {channels} of data.stream={c.data.stream}, got {c.model.clip_channels}"
    if c.model.frames not in (None, c.data.clip.frames):
        yield f"model.frames must equal data.clip.frames ({c.data.clip.frames}), got {c.model.frames}"
    if c.train.freeze_bn and c.model.norm in ("group", "none"):
        yield f"train.freeze_bn needs batch norms, got model.norm={c.model.norm}: drop one"
    if c.train.precise_bn and c.model.norm in ("group", "none", "frozen"):
        yield f"train.precise_bn needs batch norms that train, got model.norm={c.model.norm}: drop one"
    elif c.train.precise_bn and frozen:
        yield "train.precise_bn needs batch norms that train: drop it or train.freeze_bn and train.freeze=all-but-fc"
    if c.watch.activations and (c.trainer.compile is True or (c.run.autotune and c.trainer.compile == "auto")):
        yield "watch.activations needs a network that is not compiled: give trainer.compile=false"
    if c.data.balanced and c.train.class_weights == "balanced":
        yield "data.balanced and train.class_weights=balanced both compensate for rare classes: drop one"
    for part, views in (("val", c.val), ("test", c.test)):
        if views.clips == "all" and views.starts == "dense":
            yield f"{part}.starts=dense needs a number of clips, got {part}.clips=all: give {part}.clips a number"
        if not STREAMS[c.data.stream].has_colors:
            yield from _check_views_of_vectors(c.data.stream, part, views)
        if c.data.clip.sampling == "segments" and (views.clips == "all" or views.starts == "dense"):
            yield f"{part}.clips must be a number and {part}.starts uniform with data.clip.sampling=segments"
