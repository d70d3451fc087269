"""Make contact sheets: a few frames of a video side by side, as a JPEG file in memory."""

import io

import numpy as np
from PIL import Image

from videores.data import sampling
from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.shards import Source

GAP = 2  # white pixels between frames


def contact_sheet(path: Source, reader: str = "auto", frames: int = 8, height: int = 96) -> tuple[bytes, int]:
    """Return (JPEG bytes, width on a page in pixels) of a video's frames.

    They are at the middles of equal parts of it.

    Raises:
        UnreadableVideo: if the video does not decode.
    """
    info = probe(path)
    index_T = sampling.center_segments(info.num_frames, frames, 1)[0]
    side = min(height, info.width, info.height)  # larger ones are not worth their bytes, smaller ones are not made up
    frames_THWC = read_frames(path, index_T, reader=reader, short_side=side, info=info)
    sheet_HWC = np.concatenate(
        [np.pad(f, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for f in frames_THWC], axis=1
    )
    file = io.BytesIO()
    Image.fromarray(sheet_HWC[:, :-GAP]).save(file, "JPEG", quality=85)
    return file.getvalue(), round(sheet_HWC.shape[1] * height / sheet_HWC.shape[0])
