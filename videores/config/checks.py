"""Contradictions between configuration keys, as conditions and messages.

Each function yields the messages of a section, which name keys in full, what must hold, and what to change.
"""

from collections.abc import Iterator
from typing import Any

from videores.config.streams import (
    COLOR_KEYS,
    JOINT,
    STREAMS,
    compute_input_shape,
    format_streams,
    has_sound,
    list_streams,
)


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


def check_audio(c: Any) -> Iterator[str]:
    """Yield the contradictions within data.audio."""
    # a band is a triangle as wide as two steps of the mel scale, and the lowest are the narrowest in Hz
    lowest = 1400 * ((1 + c.rate / 1400) ** (1 / (c.bands + 1)) - 1)
    if lowest <= (resolution := c.rate / c.window_samples):
        yield (
            f"data.audio.bands must be so few that each is wider than the {resolution:.3g} Hz that a window of "
            f"{c.window:g} s resolves, got {c.bands}, the lowest of {lowest:.3g} Hz: lower bands, or raise window"
        )


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
    if c.stream != "audio":
        yield from _check_suited(c)
    if has_sound(c.stream):
        yield from _check_sound(c)
    is_beside = isinstance(c.stream, tuple) and "flow" in c.stream
    if is_beside != (c.flow is not None):
        yield "data.flow is the folder of flow that data.stream lists beside other streams: give both or none"
    if c.augment.has_mixing and c.batch_size * c.clip.repeat == 1:
        yield "data.augment.mixup and cutmix need several clips in a batch, got 1: raise data.batch_size"
    if c.pretext:
        yield from _check_pretext(c)


def _check_pretext(c: Any) -> Iterator[str]:
    """Yield what does not suit labels that are changes of frames."""
    if c.clip.sampling == "segments":
        yield "data.pretext needs data.clip.sampling=dense, got segments: drop one"
    if c.pretext == "transformations" and c.clip.frames < 4:
        yield f"data.clip.frames must be >= 4 with data.pretext=transformations, got {c.clip.frames}: raise it"
    if c.pretext == "order" and c.clip.frames % 3:
        frames = max(c.clip.frames // 3, 1) * 3
        yield f"data.clip.frames must be a multiple of 3 with data.pretext=order, such as {frames}, got {c.clip.frames}"
    if c.augment.speed:
        yield "data.augment.speed changes what data.pretext asks for: drop one"
    if "depth" in c.augment.flip_axes:
        yield "data.augment.flip_axes=[depth] reverses the order that data.pretext asks for: drop one"
    if c.augment.flip_labels != "none":
        yield "data.augment.flip_labels is of classes, which data.pretext does not use: drop it"
    if isinstance(c.stream, tuple) or not STREAMS[c.stream].has_colors:
        shown = format_streams(c.stream)
        yield f"data.pretext changes the order of frames, which is for one stream of pictures, not data.stream={shown}"
    if c.balanced:
        yield "data.balanced is of classes, which data.pretext does not use: drop it"


def _check_suited(c: Any) -> Iterator[str]:
    """Yield what suits none of the streams, or what one of them would have to follow and cannot."""
    shown, names = format_streams(c.stream), list_streams(c.stream)
    if not any(STREAMS[name].has_colors for name in names):
        for key in (*COLOR_KEYS, *(("own",) if isinstance(c.stream, tuple) else ())):
            if not c.augment.is_default(key):
                yield f"data.augment.{key} changes colors, which data.stream={shown} does not have: drop it"
        for key in ("mean", "std"):
            if not c.transform.is_default(key):
                yield f"data.transform.{key} is of colors, which data.stream={shown} does not have: drop it"
    if "flow" in names:
        for key, what in (("rotation", "turn"), ("speed", "lengthen"), ("flip_axes", "mirror")):
            if not c.augment.is_default(key):
                yield f"data.augment.{key} would have to {what} the vectors of data.stream={shown}: drop it"
        if c.transform.pad:
            yield f"data.transform.pad has a color, which the vectors of data.stream={shown} do not have: drop it"


def _check_sound(c: Any) -> Iterator[str]:
    """Yield what does not suit sound, or leaves its length open."""
    shown = format_streams(c.stream)
    for key in ("speed", "cutmix", "flip_axes") if isinstance(c.stream, tuple) else type(c.augment).model_fields:
        if not c.augment.is_default(key):
            yield f"data.augment.{key} changes pictures, and the sound of data.stream={shown} would stay: drop it"
    if c.clip.sampling == "segments":
        yield f"data.clip.sampling must be dense with data.stream={shown}, got segments: a clip has one span of time"
    if c.audio.seconds is None and c.clip.fps is None:
        yield (
            f"data.audio.seconds must be given with data.stream={shown} and data.clip.stride, by which clips of "
            "videos of other rates last longer: give it, e.g. 1.0, or data.clip.fps"
        )


def _check_views_of_sound(stream: Any, part: str, views: Any) -> Iterator[str]:
    """Yield what a protocol does to pictures and cannot do to sound."""
    shown = format_streams(stream)
    for key, usual in (("crops", 1), ("order", "normal"), ("corruption", "none")):
        if (value := getattr(views, key)) != usual and not (key == "crops" and isinstance(stream, tuple)):
            yield f"{part}.{key} must be {usual} with the sound of data.stream={shown}, got {value}: drop it"


def _check_views_of_vectors(shown: str, part: str, views: Any) -> Iterator[str]:
    """Yield what a protocol does to pictures that it cannot do to vectors."""
    if views.corruption not in ("none", "frame_drop"):
        yield f"{part}.corruption={views.corruption} damages pictures, not the vectors of data.stream={shown}: drop it"
    if views.crops == 10:
        yield f"{part}.crops=10 mirrors pictures, and the vectors of data.stream={shown} would stay: use crops=5"


def check_weights(c: Any) -> Iterator[str]:
    """Yield the contradictions between initial weights and how they are loaded."""
    where = "model" if hasattr(c, "streams") else "model.streams.<stream>"
    for key in ("inflate", "head", "adapt"):
        if c.weights is None and not c.is_default(key):
            yield f"{where}.{key} needs {where}.weights: give both or neither"


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
    yield from _check_networks(c)
    yield from _check_losses(c)
    if isinstance(c.data.stream, str):
        yield from _check_frames("model", c.model.frames, compute_input_shape(c.data)[1], c.data.clip.frames)
    else:
        for name, (_, frames, *_) in compute_input_shape(c.data).items():
            own = c.model.streams[name]
            own = own.frames if own.frames or own.name else c.model.frames
            yield from _check_frames(f"model.streams.{name}", own, frames, c.data.clip.frames)
    if c.train.freeze_bn and c.model.norm in ("group", "none"):
        yield f"train.freeze_bn needs batch norms, got model.norm={c.model.norm}: drop one"
    if c.train.precise_bn and c.model.norm in ("group", "none", "frozen"):
        yield f"train.precise_bn needs batch norms that train, got model.norm={c.model.norm}: drop one"
    elif c.train.precise_bn and frozen:
        yield "train.precise_bn needs batch norms that train: drop it or train.freeze_bn and train.freeze=all-but-fc"
    if c.watch.activations and (c.trainer.compile is True or (c.run.autotune and c.trainer.compile == "auto")):
        yield "watch.activations needs a network that is not compiled: give trainer.compile=false"
    if c.train.contrast and c.data.clip.repeat < 2:
        yield f"train.contrast needs data.clip.repeat >= 2 clips of a video, got {c.data.clip.repeat}: raise it"
    if c.train.contrast and c.data.batch_size < 2:
        yield "train.contrast needs several videos in a batch, got data.batch_size=1: raise it"
    if c.train.contrast and c.data.augment.has_mixing:
        yield "train.contrast needs clips of one video, which data.augment.mixup and cutmix mix with others: drop one"
    if c.train.mask and not c.train.reconstruct:
        yield "train.mask needs train.reconstruct > 0: give both or neither"
    if c.train.reconstruct + c.train.contrast > 1:
        yield "train.contrast and train.reconstruct must be shares of one loss, together at most 1: lower one"
    if c.data.pretext and c.train.class_weights != "none":
        yield "train.class_weights is of classes, which data.pretext does not use: drop it"
    if c.data.balanced and c.train.class_weights == "balanced":
        yield "data.balanced and train.class_weights=balanced both compensate for rare classes: drop one"
    for part, views in (("val", c.val), ("test", c.test)):
        if views.clips == "all" and c.data.pretext:
            yield f"{part}.clips must be a number with data.pretext, got all: its changes are of other lengths"
        if views.clips == "all" and views.starts == "dense":
            yield f"{part}.starts=dense needs a number of clips, got {part}.clips=all: give {part}.clips a number"
        if has_sound(c.data.stream):
            yield from _check_views_of_sound(c.data.stream, part, views)
        if "flow" in list_streams(c.data.stream):
            yield from _check_views_of_vectors(format_streams(c.data.stream), part, views)
        if c.data.clip.sampling == "segments" and (views.clips == "all" or views.starts == "dense"):
            yield f"{part}.clips must be a number and {part}.starts uniform with data.clip.sampling=segments"


def _check_frames(where: str, got: int | None, frames: int, of_clips: int) -> Iterator[str]:
    """Yield where a network is made for another number of frames than its clips have."""
    if got not in (None, frames):
        name = f"data.clip.frames ({frames})" if frames == of_clips else f"{frames}, as sound has"
        yield f"{where}.frames must equal {name}, got {got}"


def _check_networks(c: Any) -> Iterator[str]:
    """Yield where the networks are not those of the streams."""
    if not isinstance(c.data.stream, tuple):
        channels = STREAMS[c.data.stream].channels
        if c.model.clip_channels != channels:
            yield f"model.channels must be the {channels} of data.stream={c.data.stream}, got {c.model.clip_channels}"
        if c.model.streams or c.model.fusion:
            yield "model.streams and fusion need a list as data.stream=[rgb, flow]: drop them, or give model.streams={}"
        return
    shown = format_streams(c.data.stream)
    for name, network in c.model.streams.items():
        if name not in c.data.stream:
            yield f"model.streams.{name} must be of data.stream ({shown}): drop it"
        elif network.channels != STREAMS[name].channels:
            yield f"model.streams.{name}.channels must be the {STREAMS[name].channels} of the stream: drop it"
    if c.model.channels is not None:
        yield f"model.channels follows from each of several streams, data.stream={shown}: drop it"
    if c.model.weights is not None:
        yield f"model.weights is of one stream: give model.streams.<stream>.weights for data.stream={shown}"
    if c.train.distill.teacher is not None:
        yield f"train.distill.teacher sees one stream, not data.stream={shown}: drop it"
    if c.train.contrast or c.train.reconstruct:
        yield f"train.contrast and reconstruct are losses of one stream, not of data.stream={shown}: drop them"
    if c.run.autotune:
        yield f"run.autotune measures a network of one stream, not of data.stream={shown}: drop it"


def _check_losses(c: Any) -> Iterator[str]:
    """Yield where the losses are not those of the streams, or leave what is tested untrained."""
    weights, late = c.train.loss_weights, c.model.fusion == "late"
    if weights and not isinstance(c.data.stream, tuple):
        yield "train.loss_weights needs a list of streams, e.g. data.stream=[rgb, flow]: drop it"
    elif weights:
        tested = list(list_streams(c.data.stream)) if late else [JOINT]
        known = [*tested, *(() if late else c.data.stream)]
        for name in weights:
            if name not in known:
                yield f"train.loss_weights.{name} must be of {', '.join(known)}: drop it"
        if untrained := [name for name in tested if not weights.get(name)]:
            yield f"train.loss_weights.{untrained[0]} must be > 0, as it is tested with model.fusion={c.model.fusion}"
