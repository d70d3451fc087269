"""State what each stream of a video is: channels, augmentation that does not suit it, cost.

How clips of a stream are made is in videores.data.streams.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

StreamName = Literal[
    "rgb", "difference", "unsigned-difference", "rgb+difference", "rgb+unsigned-difference", "flow", "audio"
]
Source = Literal["rgb", "flow", "audio"]  # what is read of a video
COLOR_KEYS = ("brightness", "contrast", "saturation", "hue", "grey", "randaugment", "trivialaugment")
JOINT = "joint"  # the classifier of all streams together


class StreamFacts(NamedTuple):
    """What is fixed of a stream."""

    channels: int  # of a clip, which the network's first convolution takes
    has_colors: bool = True  # its pixels are colors, or what follows from them on the device
    sees_next: bool = False  # a channel of a frame depends on the clip's next frame, too
    source: Source = "rgb"

    @property
    def is_sound(self) -> bool:
        """Return whether a clip is a spectrogram: one frame, bands x columns."""
        return self.source == "audio"


STREAMS: dict[StreamName, StreamFacts] = {
    "rgb": StreamFacts(3),
    "difference": StreamFacts(3, sees_next=True),
    "unsigned-difference": StreamFacts(3, sees_next=True),
    "rgb+difference": StreamFacts(6, sees_next=True),
    "rgb+unsigned-difference": StreamFacts(6, sees_next=True),
    "flow": StreamFacts(2, has_colors=False, source="flow"),
    "audio": StreamFacts(1, has_colors=False, source="audio"),
}
Streams = StreamName | tuple[StreamName, ...]  # one, or several that a network sees at once


def list_streams(stream: StreamName | Sequence[StreamName]) -> tuple[StreamName, ...]:
    """Return the streams of data.stream, which may be one."""
    return (stream,) if isinstance(stream, str) else tuple(stream)


def list_sources(stream: StreamName | Sequence[StreamName]) -> tuple[Source, ...]:
    """Return what is read of a video for its streams, pictures first."""
    found = dict.fromkeys(STREAMS[name].source for name in list_streams(stream))
    return tuple(sorted(found, key=lambda one: one != "rgb"))


def has_sound(stream: StreamName | Sequence[StreamName]) -> bool:
    """Return whether a stream is sound."""
    return "audio" in list_sources(stream)


def format_streams(stream: StreamName | Sequence[StreamName]) -> str:
    """Format the streams of data.stream as protocol strings name them."""
    return ",".join(list_streams(stream))


def compute_input_shape(data: Any) -> Any:
    """Return (C, T, H, W) of the clips that a network gets.

    Of several streams it is {stream: (C, T, H, W)}. `data` has the keys stream, clip, transform and audio of a
    configuration.
    """
    if isinstance(data.stream, str):
        return _compute_stream_shape(data, data.stream)
    return {name: _compute_stream_shape(data, name) for name in data.stream}


def _compute_stream_shape(data, stream):
    channels, crop = STREAMS[stream].channels, data.transform.crop
    if STREAMS[stream].is_sound:
        return channels, 1, data.audio.bands, data.audio.count_columns(data.clip)
    return channels, data.clip.frames, crop, crop
