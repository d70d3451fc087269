"""Read a thumbnail of each video, from one frame that is decoded alone."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from videores.data.decode import read_frames
from videores.data.probe import VideoInfo
from videores.data.video import volumes
from videores.errors import UnreadableVideo
from videores.runtime import machine

SIDE = 8  # pixels of a thumbnail's height and width


def read_thumbnails(
    root: str | Path, paths: Sequence[str], infos: Mapping[str, VideoInfo]
) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 thumbnails_VHWC (RGB), and bool readable_V.

    Each is the area average of one frame: of the seek point nearest to the middle of the video, or of the first frame
    where the file has none, and of the middle of volumes and folders of pictures, whose frames all decode alone. So
    nothing but that frame is decoded. A video that does not decode is black.
    """
    thumbnails_VHWC = np.zeros((len(paths), SIDE, SIDE, 3), np.uint8)
    readable_V = np.zeros(len(paths), bool)

    def read(number: int) -> None:
        path, info = Path(root, paths[number]), infos[paths[number]]
        try:
            # PyAV is exact for every file that is readable at all, and scales as it converts
            frame = read_frames(path, [_choose_frame(path, info)], reader="pyav", short_side=SIDE, info=info)[0]
        except UnreadableVideo:
            return
        thumbnails_VHWC[number] = np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BOX))
        readable_V[number] = True

    with ThreadPoolExecutor(machine.count_cpus()) as pool:  # PyAV decodes outside of Python's lock
        for _ in tqdm(pool.map(read, range(len(paths))), "reading thumbnails", len(paths), delay=2):
            pass
    return thumbnails_VHWC, readable_V


def _choose_frame(path, info):
    """Return the number of a frame that decodes alone."""
    if volumes.find_frame_decoder(path):
        return info.num_frames // 2
    points = [frame - info.first for frame, _ in info.keyframes]
    inside = [point for point in points if 0 <= point < info.num_frames]
    return min(inside, key=lambda point: abs(point - info.num_frames // 2), default=0)
