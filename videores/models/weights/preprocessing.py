"""Compare the preprocessing that weights were trained with to the configured one."""

from collections.abc import Mapping, Sequence
from typing import Any

from videores.config.streams import has_sound
from videores.errors import UserError

# Preprocessing


def extract_preprocessing(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preprocessing of a configuration's `data` section (primitives)."""
    clip, transform, stream = data.get("clip", {}), data.get("transform", {}), data.get("stream", "rgb")
    return {
        "stream": stream,
        **({"audio": data["audio"]} if has_sound(stream) else {}),
        **{key: transform.get(key) for key in ("mean", "std", "crop", "short_side")},
        **{key: clip.get(key) for key in ("frames", "stride", "fps")},
    }


def compare_preprocessing(source, stored, ours, adapt=None):
    """Return notes on other frames and sizes than the weights were trained with.

    Raises UserError for another normalization, and for another stream where `adapt` does not say how it is adapted.
    """
    if ours is None:
        return []
    theirs = {key: value for key, value in (stored.preprocessing or {}).items() if value is not None}
    if not theirs:
        return [f"its preprocessing is not in the file; {stored.usual}"]
    stream, other = ours.get("stream", "rgb"), theirs.pop("stream", "rgb")
    if stream == other and adapt:
        raise UserError(f"model.adapt={adapt} is for weights of another stream, and {source} is of {other}: drop it")
    if stream != other and not adapt and isinstance(other, str):  # weights of several streams do not fit at all
        what = f"{source} was trained on data.stream={other}, and this is {stream}"
        raise UserError(f"{what}: model.adapt=mean makes its first convolution that of the mean channel, or drop it")
    if stream != other:
        theirs = {key: value for key, value in theirs.items() if key not in ("mean", "std")}
    if "audio" in ours and "audio" in theirs and (key := find_other_sound(ours["audio"], theirs["audio"])):
        raise UserError(
            f"{source} was trained with data.audio.{key}={theirs['audio'][key]}, and this is {ours['audio'][key]}"
        )
    colours = [key for key in ("mean", "std") if key in theirs and not is_close(theirs[key], ours[key])]
    if colours:
        lines = [f"data.transform.{key}={list(theirs[key])}" for key in colours]
        raise UserError(f"{source} was trained with other colours than the configuration has; give " + " ".join(lines))
    return [
        f"note: {key} is {ours[key]} here, {value} where it was trained"
        for key, value in theirs.items()
        if key not in ("mean", "std", "audio") and ours[key] != value
    ]


def find_other_sound(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Return a key of data.audio, but for the length, that differs, or None."""
    return next((key for key in ours if key != "seconds" and ours[key] != theirs[key]), None)


def is_close(a: Sequence[float], b: Sequence[float]) -> bool:
    """Return whether two means or standard deviations are equal to rounding."""
    return all(abs(x - y) < 1e-4 for x, y in zip(a, b, strict=True))
