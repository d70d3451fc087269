"""State what each stream of a video is: channels, augmentation that does not suit it, cost.

How clips of a stream are made is in videores.data.streams.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

StreamName = Literal["rgb", "difference", "unsigned-difference", "rgb+difference", "rgb+unsigned-difference", "flow"]
Source = Literal["rgb", "flow"]  # what is read of a video
COLOR_KEYS = ("brightness", "contrast", "saturation", "hue", "grey", "randaugment", "trivialaugment")
JOINT = "joint"  # the classifier of all streams together


class StreamFacts(NamedTuple):
    """What is fixed of a stream."""

    channels: int  # of a clip, which the network's first convolution takes
    has_colors: bool = True  # its pixels are colors, or what follows from them on the device
    sees_next: bool = False  # a channel of a frame depends on the clip's next frame, too
    source: Source = "rgb"


STREAMS: dict[StreamName, StreamFacts] = {
    "rgb": StreamFacts(3),
    "difference": StreamFacts(3, sees_next=True),
    "unsigned-difference": StreamFacts(3, sees_next=True),
    "rgb+difference": StreamFacts(6, sees_next=True),
    "rgb+unsigned-difference": StreamFacts(6, sees_next=True),
    "flow": StreamFacts(2, has_colors=False, source="flow"),
}
Streams = StreamName | tuple[StreamName, ...]  # one, or several that a network sees at once


def list_streams(stream: StreamName | Sequence[StreamName]) -> tuple[StreamName, ...]:
    """Return the streams of data.stream, which may be one."""
    return (stream,) if isinstance(stream, str) else tuple(stream)


def list_sources(stream: Streams) -> tuple[Source, ...]:
    """Return what is read of a video for its streams, pictures first."""
    found = dict.fromkeys(STREAMS[name].source for name in list_streams(stream))
    return tuple(sorted(found, key=lambda one: one != "rgb"))


def format_streams(stream: StreamName | Sequence[StreamName]) -> str:
    """Format the streams of data.stream as protocol strings name them."""
    return ",".join(list_streams(stream))
