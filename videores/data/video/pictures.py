"""Read folders of numbered pictures, as frames are extracted: a file for each frame.

`img_00001.jpg`, `img_00002.jpg`, ...: one series of names, whose numbers rise in equal steps. Beside it may be series
of optical flow, flow_x_00001.jpg, which are no frames.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import av

from videores.data.lists import IMAGE_SUFFIXES
from videores.errors import UnreadableVideo

NUMBERED_NAME = re.compile(r"(.*?)(\d+)(\.[a-z]+)", re.IGNORECASE | re.DOTALL)
DECODERS = {b"\xff\xd8": "mjpeg", b"\x89P": "png", b"BM": "bmp", b"RI": "webp"}  # by the first bytes


def group_numbered(names: Iterable[str]) -> dict[tuple[str, str], list[tuple[int, str]]]:
    """Return the (number, name) of pictures, by what stands around the number."""
    series = defaultdict(list)
    for name in names:
        match = NUMBERED_NAME.fullmatch(name)
        if match and match[3].lower() in IMAGE_SUFFIXES and not name.startswith("."):
            series[match[1], match[3].lower()].append((int(match[2]), name))
    return series


def is_frame_folder(names: Iterable[str]) -> bool:
    """Return whether files are the frames of a video: two or more in a series."""
    return any(len(some) > 1 for some in group_numbered(names).values())


def list_frames(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of their numbers.

    Raises UnreadableVideo where there are none, or not one whole series.
    """
    try:
        series = group_numbered(path.name for path in Path(folder).iterdir())
    except OSError as error:
        raise UnreadableVideo(folder, error.strerror, lasting=False) from None
    series = {key: some for key, some in series.items() if not key[0].lower().startswith("flow")} or series
    if len(series) != 1:
        names = ", ".join(sorted(f"{start}*{suffix}" for start, suffix in series))
        several = f"its pictures are of several series ({names}), and a folder of frames has one"
        raise UnreadableVideo(folder, several if series else "it has no numbered pictures")
    numbered = sorted(*series.values())
    _check_numbers(folder, [number for number, _ in numbered])
    return [Path(folder, name) for _, name in numbered]


def _check_numbers(folder, numbers):
    """Check that no picture is missing, named by its number."""
    steps = [after - before for before, after in pairwise(numbers)]
    step = min(steps, default=1)
    if step == 0:
        twice = next(a for a, b in pairwise(numbers) if a == b)
        raise UnreadableVideo(folder, f"two of its pictures have the number {twice}")
    gaps = [(a + step, b - step) for a, b in pairwise(numbers) if b - a != step]
    if gaps:
        texts = [str(a) if a >= b else f"{a} to {b}" for a, b in gaps[:5]] + ["..."] * (len(gaps) > 5)
        where = f"its pictures are numbered {numbers[0]} to {numbers[-1]} without {', '.join(texts)}"
        raise UnreadableVideo(folder, f"{where}; extract its frames again, all of them")


def decode_pictures(folder: Path, indices: Sequence[int] | None = None) -> Iterator[av.VideoFrame]:
    """Yield the frames of a folder, all or some, decoded one by one."""
    paths = list_frames(folder)
    for index in range(len(paths)) if indices is None else indices:
        yield _decode_picture(paths[index])


def _decode_picture(path):
    """Decode a picture.

    A container would decode it twice, once to probe it. The decoder is a new one, as that of PNG was seen to return
    garbage for all pictures but its first.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableVideo(path.parent, f"{path.name}: {error.strerror}", lasting=False) from None
    if content[:2] not in DECODERS:
        raise UnreadableVideo(path.parent, f"{path.name} is no picture that is read here (JPEG, PNG, BMP, WebP)")
    decoder = av.CodecContext.create(DECODERS[content[:2]], "r")
    decoder.thread_count = 1
    try:
        frames = decoder.decode(av.Packet(content))
    except av.FFmpegError as error:
        raise UnreadableVideo(path.parent, f"{path.name}: {error.strerror}") from None
    if len(frames) != 1:
        raise UnreadableVideo(path.parent, f"{path.name}: {len(frames)} pictures decode, not one")
    return frames[0]
