"""The videos that are measured: the user's, the shared test data or small ones written here, and copies of them."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videores.data import index, lists
from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.video.encode import write_video
from videores.data.video.reencode import EncodingSettings, reencode
from videores.errors import UserError

FILES_PER_SET = 6  # of a folder or a data set, evenly spread over its sorted files
LARGE = "1280x720 H.264, 100 frames"
SHARED = {  # row -> pattern in the shared test data, whether prepared copies are measured too, in which measurements
    "mpeg4_320x240_25fps_audio.avi": ("videos/mpeg4_320x240_25fps_audio.avi", True, "loader test memory probe"),
    "ut-interaction-6": ("ut-interaction-6/videos/*/*.avi", False, "loader memory probe"),
    "h264_340x256_28fps.mp4": ("videos/h264_340x256_28fps.mp4", True, "loader test memory probe"),
    "h264_340x256_30fps.mp4": ("videos/h264_340x256_30fps.mp4", True, "loader probe"),
    LARGE: ("videos/h264_1920x1080.avi", False, "loader"),
}
BASE, STEP = 32, 8  # a numbered frame's colour: three digits, 8 grey levels apart so that no coding mixes them up


@dataclass(frozen=True)
class VideoSet:
    """One row of a table: files that are measured together, with prepared copies or without."""

    name: str
    paths: tuple[Path, ...]
    prepared: bool = False


def find_sets(measurement, given, cfg, scratch, *, prepared=False, quick=False):
    """The rows for files and folders, or a configuration's training videos, or the shared data, or our own videos.

    `scratch` is the folder for what has to be written. Raises UserError for what is not there.
    """
    shared = os.environ.get("VIDEORES_TEST_DATA")
    if given:
        return [found for where in given for found in sets_of(measurement, Path(where), scratch, prepared)]
    if cfg is not None:
        return [VideoSet(cfg.data.name, spread(training_videos(cfg)), prepared)]
    if shared and not quick:
        return shared_sets(measurement, Path(shared), scratch)
    return own_sets(scratch, quick)


def sets_of(measurement, where, scratch, prepared):
    if where.is_file():
        return [VideoSet(where.name, (where.resolve(),), prepared)]
    if (where / "videos" / "manifest.csv").is_file() and (where / "ut-interaction-6").is_dir():
        return shared_sets(measurement, where, scratch)
    if not where.is_dir():
        raise UserError(f"--videos {where}: there is no such file or folder")
    files = sorted(p.resolve() for p in where.rglob("*") if p.suffix.lower() in lists.VIDEO_SUFFIXES and p.is_file())
    if not files:
        raise UserError(f"--videos {where}: no video files in this folder ({', '.join(sorted(lists.VIDEO_SUFFIXES))})")
    return [VideoSet(where.name, spread(files), prepared)]


def spread(files):
    return tuple(files[i] for i in np.unique(np.linspace(0, len(files) - 1, FILES_PER_SET).round().astype(int)))


def training_videos(cfg):
    return [(Path(cfg.data.root) / video.path).resolve() for video in index.read_index(cfg.data).train]


def shared_sets(measurement, folder, scratch):
    rows = {name: row for name, row in SHARED.items() if measurement in row[2].split()}
    found = {name: sorted(folder.resolve().glob(pattern)) for name, (pattern, *_) in rows.items()}
    missing = [rows[name][0] for name, files in found.items() if not files]
    if missing:
        raise UserError(f"{folder} is not the shared test data: it has no {', '.join(missing)}")
    if LARGE in found:
        found[LARGE] = [write_large(found[LARGE][0], scratch / "h264_1280x720.mp4")]
    return [VideoSet(name, spread(files), rows[name][1]) for name, files in found.items()]


def write_large(source, path):
    """100 frames at 1280x720 with x264's defaults: a keyframe every 250, B-frames."""
    write_video(path, read_frames(source, np.arange(100), short_side=720), probe(source).fps)
    return path


def own_sets(scratch, quick):
    """A video of UCF101's kind (MPEG-4 in AVI, one keyframe, B-frames) and one of Kinetics' (H.264 in mp4)."""
    frames, (height, width) = (40, (96, 128)) if quick else (160, (240, 320))
    avi, mp4 = scratch / "moving_mpeg4.avi", scratch / "moving_h264.mp4"
    images = moving_frames(frames, height, width)
    write_video(avi, images, 25, codec="mpeg4", options={"g": "300", "bf": "2", "sc_threshold": "1000000000"})
    write_video(mp4, images, 30)
    return [VideoSet(avi.name, (avi,), True), VideoSet(mp4.name, (mp4,), True)]


def moving_frames(frames, height, width, seed=0):
    """uint8 frames_THWC of a texture that wanders over the picture, no two alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    texture = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.stack([np.roll(texture, (t, 2 * t), (0, 1)) for t in range(frames)])


def prepared_copy(path, transform, folder):
    """The video as `tools/prepare.py` leaves it, for the largest short side that this transform asks for."""
    copy, largest = copy_of(path, folder, "prepared"), max(transform.short_side, *(transform.jitter or (0,)))
    settings = EncodingSettings(short_side=largest + largest % 2)
    reencode(path, copy, settings, probe(path).num_frames, lambda what: None)
    return copy


def copy_of(path, folder, kind):
    """Files in several folders may have one name, so the copy's name has a checksum of the whole path."""
    return folder / f"{path.stem}_{zlib.crc32(str(path).encode()):08x}_{kind}.mp4"


def numbered_copy(path, folder):
    """A video with as many frames, of the same size and rate, of which each frame's colour is its number.

    What a data set draws from it by its seed shows which frames it draws from the original.
    """
    info, copy = probe(path), copy_of(path, folder, "numbered")
    colours = (np.arange(info.num_frames)[:, None] // (BASE ** np.arange(3)) % BASE * STEP + STEP // 2).astype(np.uint8)
    images = (np.broadcast_to(colour, (info.height, info.width, 3)) for colour in colours)
    write_video(copy, images, info.fps, pix_fmt="yuv444p", options={"qp": "0", "g": "1", "preset": "ultrafast"})
    return copy


def numbers_shown(frames_THWC):
    """The numbers of a numbered copy's frames, cropped, scaled and flipped as they may be."""
    digits = np.asarray(frames_THWC).mean((1, 2)).astype(int) // STEP
    return digits @ BASE ** np.arange(3)
