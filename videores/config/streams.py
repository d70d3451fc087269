"""State what each stream of a video is: channels, augmentation that does not suit it, cost.

How clips of a stream are made is in videores.data.streams.
"""

from typing import Literal, NamedTuple

StreamName = Literal[
    "rgb", "difference", "unsigned-difference", "rgb+difference", "rgb+unsigned-difference", "grey", "flow"
]
COLOR_KEYS = ("brightness", "contrast", "saturation", "hue", "gain", "grey", "randaugment", "trivialaugment")


class StreamFacts(NamedTuple):
    """What is fixed of a stream."""

    channels: int  # of a clip, which the network's first convolution takes
    has_colors: bool = True  # its pixels are colors, or what follows from them on the device
    sees_next: bool = False  # a channel of a frame depends on the clip's next frame, too


STREAMS: dict[StreamName, StreamFacts] = {
    "rgb": StreamFacts(3),
    "difference": StreamFacts(3, sees_next=True),
    "unsigned-difference": StreamFacts(3, sees_next=True),
    "rgb+difference": StreamFacts(6, sees_next=True),
    "rgb+unsigned-difference": StreamFacts(6, sees_next=True),
    "grey": StreamFacts(1),
    "flow": StreamFacts(2, has_colors=False),
}
