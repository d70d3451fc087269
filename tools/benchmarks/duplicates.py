"""Recall of copies by kind, and false pairs: copies are planted among real and embedded videos, and looked for."""

import os
import re
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from videores.data import manifest
from videores.data.decode import read_frames
from videores.data.lists import VIDEO_SUFFIXES
from videores.data.prepare import duplicates
from videores.data.synthetic import datasets, writing
from videores.data.video.encode import write_video
from videores.runtime import cli, files, machine
from videores.runtime.tables import format_markdown_table

CRF = 26  # of the copies, but for those of the kind `re-encoded`
SHORT_SIDE = 128  # pixels: larger sources are scaled first, to save time
EMBEDDED = {"motion8": 64, "appear8": 64, "mixed16": 32}  # videos in each part, as they are written
REAL = "real"  # the link to the given folder
LEAST_FRAMES, MOST_FRAMES = 24, 400  # of a source
# The thresholds were chosen with copies of these, which are no sources: recall is of videos that are new to the code.
TUNED = re.compile(
    r"(motion8|appear8)/(test|train)/0031_|appear8/test/0000_bar_left|mixed16/train/0015_dots_counter|mpeg4_640x480_5fps|"
    r"HandShaking_g(01_c04|10_c54|20_c55)|Hugging_g(10_c58|20_c54)|Kicking_g(10_c59|20_c59)|Pointing_g(09_c48|19_c51)|"
    r"Punching_g(09_c51|19_c50)|Pushing_g(09_c49|19_c52)"
)


def add_arguments(parser):
    parser.add_argument("--videos", type=Path, required=True, help="folder of real videos")
    parser.add_argument("--sources", type=cli.positive, default=8, help="videos of each folder to copy (default: 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of these videos (default: 0)")
    parser.add_argument("--scratch", type=Path, help="keep the copies here, to measure again")
    parser.add_argument("--out", type=Path, default=Path("results", "benchmark", "duplicates"))


def main(args):
    with tempfile.TemporaryDirectory() as scratch:
        root = args.scratch or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        if not (root / REAL).exists():
            (root / REAL).symlink_to(args.videos.resolve())
        for name, count in EMBEDDED.items():
            writing.prepare_dataset(root / name, videos=dict.fromkeys(datasets.SETS[name].videos, count), name=name)
        infos, _ = manifest.probe_all(root, [path for name in (REAL, *EMBEDDED) for path in _list_videos(root, name)])
        planted = _plant(root, infos, _draw_sources(infos, args.sources, args.seed))
        copies, bad = manifest.probe_all(root, list(planted))
        found, unread = duplicates.find_copies(root, {**infos, **copies}, machine.count_cpus())
        assert not bad | unread, bad | unread
    text = _report(planted, found)
    args.out.mkdir(parents=True, exist_ok=True)
    files.write_text(args.out / "duplicates.md", text)
    print(text, f"wrote {args.out / 'duplicates.md'}", sep="\n")
    return 0


def _list_videos(root, name):
    for folder, _, names in os.walk(root / name, followlinks=True):
        paths = (Path(folder, file) for file in sorted(names))
        yield from (path.relative_to(root).as_posix() for path in paths if path.suffix in VIDEO_SUFFIXES)


def _draw_sources(infos, count, seed):
    """Draw videos of each folder of the real ones, and as many embedded ones."""
    folders, generator = {}, np.random.default_rng(seed)
    for path in sorted(infos):
        embedded = not path.startswith(REAL)
        if (embedded or LEAST_FRAMES <= infos[path].num_frames <= MOST_FRAMES) and not TUNED.search(path):
            folders.setdefault(_name_folder(path), []).append(path)
    return [path for some in folders.values() for path in generator.permutation(some)[:count].tolist()]


def _name_folder(path):
    top, *below = path.split("/")
    return "embedded" if top != REAL else below[0] if len(below) > 1 else REAL


def _plant(root, infos, sources):
    """Write the copies that are not there yet; return {path: (source, kind, strength)}."""
    planted = {}
    for path in sources:
        info, frames_THWC = infos[path], None
        (root / "_copies" / path).mkdir(parents=True, exist_ok=True)
        for kind, strength, make in COPIES:
            name = f"{kind}_{strength}.mp4".replace(" ", "-").replace("%", "")
            copy = f"_copies/{path}/{name}"
            planted[copy] = path, kind, strength
            if not (root / copy).exists():
                if frames_THWC is None:
                    side = min(SHORT_SIDE, info.width, info.height)
                    frames_THWC = read_frames(root / path, np.arange(info.num_frames), info=info, short_side=side)
                images, fps, options = make(frames_THWC, info.fps or 25)
                images = images[:, : images.shape[1] // 2 * 2, : images.shape[2] // 2 * 2]
                write_video(root / copy, images, fps, options={"crf": str(CRF), "preset": "veryfast", **options})
    return planted


def _scale(share_x, share_y):
    def make(frames_THWC, fps):
        height, width = frames_THWC.shape[1:3]
        size = [max(16, int(n / 2) * 2) for n in (height * share_y, width * share_x)]
        frames = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).float()
        images = interpolate(frames, size, mode="bilinear", antialias=True).round().clamp(0, 255).byte()
        return images.permute(0, 2, 3, 1).numpy(), fps, {}

    return make


def _crop(left, top, right, bottom):
    def make(frames_THWC, fps):
        height, width = frames_THWC.shape[1:3]
        rows, columns = slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
        return frames_THWC[:, rows, columns], fps, {}

    return make


def _trim(start, end):
    def make(frames_THWC, fps):
        return frames_THWC[int(start * len(frames_THWC)) : int(end * len(frames_THWC))], fps, {}

    return make


def _mirror_and_crop(frames_THWC, fps):
    images, *_ = _crop(0.1, 0.1, 0.9, 0.9)(frames_THWC[:, :, ::-1], fps)
    return images[len(images) // 5 :], fps, {}


COPIES = (
    ("re-encoded", "crf 26", lambda x, fps: (x, fps, {})),
    ("re-encoded", "crf 34", lambda x, fps: (x, fps, {"crf": "34"})),
    ("re-encoded", "crf 40", lambda x, fps: (x, fps, {"crf": "40"})),
    ("scaled", "to a half", _scale(0.5, 0.5)),
    ("scaled", "to a quarter", _scale(0.25, 0.25)),
    ("scaled", "to 3:4 of its width", _scale(0.75, 1)),
    ("cropped", "90 % in the middle", _crop(0.05, 0.05, 0.95, 0.95)),
    ("cropped", "80 % in the middle", _crop(0.1, 0.1, 0.9, 0.9)),
    ("cropped", "70 % in the middle", _crop(0.15, 0.15, 0.85, 0.85)),
    ("cropped", "80 % in a corner", _crop(0, 0.2, 0.8, 1)),
    ("cropped", "75 % of its width", _crop(0.125, 0, 0.875, 1)),
    ("mirrored", "", lambda x, fps: (x[:, :, ::-1], fps, {})),
    ("mirrored", "crf 34", lambda x, fps: (x[:, :, ::-1], fps, {"crf": "34"})),
    ("trimmed", "first 70 %", _trim(0, 0.7)),
    ("trimmed", "middle half", _trim(0.27, 0.77)),
    ("trimmed", "last third", _trim(0.67, 1)),
    ("double speed", "every second frame", lambda x, fps: (x[::2], fps, {})),
    ("double speed", "twice the rate", lambda x, fps: (x, 2 * fps, {})),
    ("several", "mirrored, cropped, trimmed", _mirror_and_crop),
)


def _report(planted, found):
    """Format recall by kind, and the pairs that are none of those that were planted."""
    source_of = {path: source for path, (source, *_) in planted.items()}
    pairs = {frozenset((copy.path, copy.source)) for copy in found}
    hits = {}
    for path, (source, kind, strength) in planted.items():
        hits.setdefault((kind, strength), {}).setdefault(_name_folder(source), []).append({path, source} in pairs)
    count = lambda some: f"{sum(some)} of {len(some)}" if some else ""
    folders = list(dict.fromkeys(_name_folder(source) for source in source_of.values()))
    rows = [(*names, *(count(of.get(folder)) for folder in folders)) for names, of in hits.items()]
    other = {}  # likeness of pairs, of an original or copy each
    for copy in found:
        pair = sorted(source_of.get(path, path) for path in (copy.path, copy.source))
        if pair[0] != pair[1]:
            other.setdefault(" and ".join(pair), []).append(copy.match.likeness)
    lines = [f"* {pair}, or copies: {len(some)} times, likeness up to {max(some):.3f}" for pair, some in other.items()]
    table = format_markdown_table(("kind", "strength", *folders), rows)
    sources = ["Sources:", *(f"* {source}" for source in dict.fromkeys(source_of.values()))]
    return "\n".join([table, "", *sources, "", f"{len(other)} pairs of originals were not planted:", *lines, ""])
