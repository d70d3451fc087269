"""Small real videos whose every frame shows its own number, and data sets made of them.

A frame shows its number as 16 bits, a 4 x 4 grid of dark and light blocks, so that it survives any coding:
`read_numbers` reads it back.
"""

from collections import namedtuple
from pathlib import Path

import av
import numpy as np
import pytest

from videores.data.video.encode import write_video

Coding = namedtuple("Coding", "suffix encoder options")

CODECS = {
    "h264": Coding(".mp4", "libx264", {"g": "250", "bf": "3", "sc_threshold": "0"}),  # one keyframe, B-frames
    "h264_gop": Coding(".mp4", "libx264", {"g": "12", "bf": "2", "sc_threshold": "0"}),  # as prepare.py re-encodes
    "h264_intra": Coding(".mp4", "libx264", {"g": "1", "bf": "0"}),
    "mpeg4_avi": Coding(".avi", "mpeg4", {"g": "300", "bf": "2", "sc_threshold": "1000000000"}),  # UCF101's kind
    "mpeg4_mp4": Coding(".mp4", "mpeg4", {"g": "12", "bf": "2"}),
    "mjpeg_avi": Coding(".avi", "mjpeg", {}),
    "mpeg2_mpg": Coding(".mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    "vp9_webm": Coding(".webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "hevc": Coding(".mp4", "libx265", {"x265-params": "log-level=none:bframes=3:keyint=12:pools=none:frame-threads=1"}),
}
PIXELS = {"mjpeg_avi": "yuvj420p"}
LEVELS = np.array([40, 215])  # the greys of a 0 and a 1


def has_encoder(codec):
    """Whether this PyAV build can write that of CODECS."""
    try:
        av.codec.Codec(CODECS[codec].encoder, "w")
    except (av.codec.codec.UnknownCodecError, ValueError):
        return False
    return True


AVAILABLE = [codec for codec in CODECS if has_encoder(codec)]


# -- numbered frames --------------------------------------------------------------------------------------------------


def numbered_frames(frames, start=0, height=48, width=64):
    """uint8 frames_THWC that show start, start + 1, ... (below 65536); sizes that 4 does not divide are fine."""
    bits = (np.arange(start, start + frames)[:, None] >> np.arange(16)) & 1
    rows, columns = (np.arange(size) * 4 // size for size in (height, width))
    grey = LEVELS[bits].reshape(-1, 4, 4)[:, rows[:, None], columns[None]]
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def read_numbers(frames_THWC):
    """The numbers that frames show; fails where a block is neither dark nor light."""
    frames = np.asarray(frames_THWC)
    height, width = frames.shape[1:3]
    rows, columns = ((np.arange(4) * 2 + 1) * size // 8 for size in (height, width))
    grey = frames[:, rows[:, None], columns[None]].mean(-1).reshape(-1, 16)
    assert np.abs(grey[..., None] - LEVELS).min(-1).max() < 60, "a frame shows no number"
    return ((grey > LEVELS.mean()) << np.arange(16)).sum(-1).tolist()


def numbered_video(path, frames=40, codec="h264", *, start=0, height=48, width=64, fps=25, **options):
    """Writes a video whose frame i shows start + i. `codec` is one of CODECS; the suffix it needs replaces the path's.

    Further keywords are options of the encoder. Returns the path.
    """
    suffix, encoder, usual = CODECS[codec]
    path = Path(path).with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    images = numbered_frames(frames, start, height, width)
    write_video(path, images, fps, codec=encoder, pix_fmt=PIXELS.get(codec, "yuv420p"), options={**usual, **options})
    return path


# -- data sets --------------------------------------------------------------------------------------------------------
# Each writer returns what DataConfig needs to read the set: DataConfig(**write_...(tmp_path), batch_size=2, ...).
# Video k of a set shows the numbers 100 k, 100 k + 1, ..., in the order in which the set is written.


def write_ucf101(root, classes=("Run", "Walk"), groups=3, clips=2, newline="\n", **video):
    """`root/videos/<Class>/v_<Class>_gNN_cMM.avi` and the lists in `root/splits/`.

    Every class has the groups g01, g02, ... with `clips` videos of each; test list N has every third group from gN on.
    Keywords go to numbered_video; frames=0 writes the lists without files.
    """
    root = Path(root)
    video = dict(codec="mpeg4_avi", frames=12, height=48, width=48) | video
    names = [
        (number, group, f"{name}/v_{name}_g{group:02}_c{clip:02}{CODECS[video['codec']].suffix}")
        for number, name in enumerate(classes, 1)
        for group in range(1, groups + 1)
        for clip in range(1, clips + 1)
    ]
    write_numbered(root / "videos", [path for *_, path in names], video)
    for split in (1, 2, 3):
        train = [f"{path} {number}" for number, group, path in names if group % 3 != split % 3]
        test = [path for _, group, path in names if group % 3 == split % 3]
        write_lines(root / "splits" / f"trainlist0{split}.txt", train, newline)
        write_lines(root / "splits" / f"testlist0{split}.txt", test, newline)
    write_lines(root / "splits" / "classInd.txt", [f"{n} {name}" for n, name in enumerate(classes, 1)], newline)
    return dict(name="tiny", format="ucf101", root=str(root / "videos"), splits=str(root / "splits"))


def write_folder(root, classes=("run", "walk"), parts=None, **video):
    """`root/<part>/<class>/NN.mp4`; `parts` gives the videos of each class, by default {"train": 4, "test": 2}."""
    video = dict(codec="h264", frames=12, height=48, width=48) | video
    parts = parts or {"train": 4, "test": 2}
    suffix = CODECS[video["codec"]].suffix
    names = [f"{part}/{name}/{i:02}{suffix}" for part in parts for name in classes for i in range(parts[part])]
    write_numbered(Path(root), names, video)
    return dict(name="tiny", format="folder", root=str(root))


def write_csv(root, rows, classes=None, header="path,label,group", **video):
    """`root/<part>.csv` from {part: [(path, label, group), ...]} and its videos; `classes` makes classes.txt."""
    root, video = Path(root), dict(codec="h264", frames=12, height=48, width=48) | video
    write_numbered(root, dict.fromkeys(row[0] for part in rows.values() for row in part), video)
    for part, listed in rows.items():
        write_lines(root / f"{part}.csv", [header, *(",".join(map(str, row)) for row in listed)])
    if classes:
        write_lines(root / "classes.txt", classes)
    return dict(name="tiny", format="csv", root=str(root))


def write_numbered(root, paths, video):
    root.mkdir(parents=True, exist_ok=True)
    for k, path in enumerate(paths if video["frames"] else ()):
        numbered_video(root / path, start=100 * k, **video)


def write_lines(path, lines, newline="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}{newline}" for line in lines).encode())


# -- rotation ---------------------------------------------------------------------------------------------------------


def rotated_video(path, degrees, frames=20):
    """A file whose coded pictures must be turned counter-clockwise by `degrees` to be upright."""
    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a display rotation")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "12", "bf": "2"})
        stream.pix_fmt = "yuv420p"
        coded = np.rot90(numbered_frames(frames), -degrees // 90, axes=(1, 2))
        stream.height, stream.width = coded.shape[1:3]
        stream.set_display_rotation(degrees)
        for image in coded:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
