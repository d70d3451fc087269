"""Turn decoded frames into RGB pictures as they are shown, and tell them apart by checksums."""

import zlib
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

UPRIGHT = (False, False, False)  # a picture that is shown as it is coded
PLANAR_FORMATS = {"gray", *(f"yuv{full}{name}p" for full in ("", "j") for name in (410, 411, 420, 422, 440, 444))}


class FrameConverter:
    """Convert decoded frames to RGB by one reused converter.

    Building one for each frame costs more than the conversion.

    With `short_side` the same step scales by area averaging: twice as fast as scaling the RGB picture afterwards.
    """

    def __init__(self, short_side=None):
        self.reformatter, self.short_side = VideoReformatter(), short_side
        self.unscaled = FrameConverter() if short_side is not None else self

    def __call__(self, frame):
        orientation = read_orientation(frame)
        if self.short_side is not None and frame.interlaced_frame:
            # of such frames FFmpeg scales the two fields apart, and the small picture would be combed
            frame = av.VideoFrame.from_ndarray(self.unscaled.convert(frame), format="rgb24")
        rgb = self.convert(frame)
        return rgb if orientation == UPRIGHT else orient_picture(rgb, orientation)

    def convert(self, frame):
        # POINT repeats each chroma sample, as FFmpeg's 8-bit path does anyway; its 10-bit path would interpolate.
        size, how = (None, None), "POINT"
        if self.short_side is not None:
            size, how = _compute_scaled_size(frame.width, frame.height, self.short_side), "AREA"
        return self.reformatter.reformat(frame, *size, format="rgb24", interpolation=how, threads=1).to_ndarray()


def _name_unknown_side_data(cls, value):
    """Name a kind of side data that PyAV has no name for: it would not read any of that frame."""
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNKNOWN_{value}", value
    return kind


setattr(SideDataType, "_missing_", classmethod(_name_unknown_side_data))  # noqa: B010 (a hook of Enum)


def read_orientation(frame):
    """Read from a frame's display matrix whether to (transpose, mirror, flip) it.

    Angles are rounded to the nearest quarter turn. A matrix of zeros says nothing.
    """
    data = SideDataContainer(frame).get(
        "DISPLAYMATRIX"
    )  # frame.side_data is a cycle, in which frames outlive their use
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()  # shows the pixel x, y at a x + c y, b x + d y
    across = abs(b) + abs(c) > abs(a) + abs(d)
    return (across, c < 0, b < 0) if across else (False, a < 0, d < 0)


def read_pixel_aspect(stream, frame):
    """Return the width : height of a pixel as it is shown; 1 where nothing is stated."""
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    return 1 / aspect if read_orientation(frame)[0] else aspect


def orient_picture(picture_HWC, orientation):
    """Transpose, then mirror left to right, then flip upside down."""
    transpose, mirror, flip = orientation
    picture_HWC = picture_HWC.transpose(1, 0, 2) if transpose else picture_HWC
    # rows may be padded, but torch takes no negative strides
    return np.ascontiguousarray(picture_HWC[:: -1 if flip else 1, :: -1 if mirror else 1])


def _compute_scaled_size(width, height, short_side):
    ratio = short_side / min(width, height)
    return max(round(width * ratio), short_side), max(round(height * ratio), short_side)


def compute_shown_size(frame, orientation):
    """Return the (width, height) of a frame as it is shown."""
    return (frame.height, frame.width) if orientation[0] else (frame.width, frame.height)


def compute_checksum(frame, convert):
    """Compute a checksum of a frame's picture.

    Of 8-bit planes, it is of these: equal planes give equal RGB, and converting them would take longer than decoding
    some files. Of any other frame it is of the RGB that `convert` returns.
    """
    if frame.format.name not in PLANAR_FORMATS:
        return zlib.crc32(np.ascontiguousarray(convert(frame)))
    checksum = 0
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
        checksum = zlib.crc32(np.ascontiguousarray(rows), checksum)
    return checksum
