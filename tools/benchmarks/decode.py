"""Read the training clips of a configuration by its reader, right or wrong: speed, wrong frames, memory, failures.

The reader of `data.reader` is used for all files, also where the probe found that it returns other frames, so that the
result shows what the probe is for. A cell of the table c18_decode is one call. Data sets of CODINGS, a few videos of
one coding each, are written on first use.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import videos
from videores.config import parse
from videores.data import datamodule
from videores.data.decode import read_frames
from videores.data.video.encode import write_video
from videores.errors import UnreadableVideo
from videores.runtime import cli, environment, files, machine

CODINGS = {  # data.name -> suffix, what FFmpeg writes it with
    "mpeg4_avi": (".avi", "mpeg4", {"g": "300", "bf": "2", "sc_threshold": "1000000000"}),
    "h264_one_key": (".mp4", "libx264", {"g": "1000", "bf": "3", "sc_threshold": "0"}),
    "h264_gop12": (".mp4", "libx264", {"g": "12", "bf": "0", "sc_threshold": "0"}),
}
COUNT, FRAMES, HEIGHT, WIDTH = 6, 120, 240, 320
SAME = 2  # grey levels up to which a pixel is the same: decoders round differently


@dataclass
class Found:
    largest: int = 0  # difference of a pixel
    wrong: int = 0  # frames with a larger one than SAME
    failures: int = 0  # clips


def add_arguments(parser):
    parser.add_argument("--cfg", required=True, help="a configuration")
    parser.add_argument("--rounds", type=cli.positive, default=4, help="passes over the training videos (default: 4)")
    parser.add_argument("--videos", type=cli.positive, default=1000, help="of the training list, at most")
    parser.add_argument("--out", type=Path, default=Path("results", "benchmark", "decode.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration, e.g. data.reader=pyav")


def main(args):
    cfg = parse.load_config(args.cfg, [*args.overrides, "data.val=none", "data.clip.repeat=1"])
    start = environment.format_utc_now()
    if cfg.data.name in CODINGS:
        write_set(Path(cfg.data.root), *CODINGS[cfg.data.name])
    data = make_data(cfg, args.videos)
    values = {**compare(data, args.rounds), **measure(data, args.rounds)}
    about = {"start": start, "end": environment.format_utc_now(), **environment.collect_environment()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(args.out, {"values": values, **about})
    print(", ".join(f"{name} {value}" for name, value in values.items()), f"\nwrote {args.out}")
    return 0


def write_set(root, suffix, codec, options):
    """Write COUNT training videos and a test video, unless they are there."""
    if (root / "test.csv").exists():
        return
    names = [f"{number}{suffix}" for number in range(COUNT + 1)]
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(
            root / name, videos.moving_frames(FRAMES, HEIGHT, WIDTH, seed=number), 25, codec=codec, options=options
        )
    rows = [f"{name},{'ab'[number % 2]}\n" for number, name in enumerate(names)]
    files.write_text(root / "train.csv", "path,label\n" + "".join(rows[:-1]))
    files.write_text(root / "test.csv", "path,label\n" + rows[-1])


def make_data(cfg, most):
    """The data module of the training videos, whose reader is the configured one for every file."""
    found = datamodule.load_videos(cfg.data.model_copy(update={"reader": "auto"}), ("train",))
    reader = cfg.data.reader
    if reader != "auto":
        infos = {path: replace(i, readers=tuple({*i.readers, reader})) for path, i in found.infos.items()}
        found = replace(found, infos=infos)
    some = found.readable("train")[:most]
    return datamodule.VideoData.from_config(cfg, replace(found, index=replace(found.index, train=some)))


def compare(data, rounds):
    """Compare the frames of every clip with those of one decode from the start."""
    dataset, found = data.dataset("train"), Found()
    for number, video in enumerate(dataset.videos):
        info = replace(dataset.info(number), seek_points=b"", first=0)
        truth_THWC = read_frames(dataset.root / video.path, np.arange(info.num_frames), reader="pyav", info=info)
        for epoch in range(rounds):
            compare_clip(dataset, number, epoch, truth_THWC, found)
    return {"pixel_diff": found.largest, "wrong_frames": found.wrong, "failures": found.failures}


def compare_clip(dataset, number, epoch, truth_THWC, found):
    index_T = dataset.draw(epoch, number, 0).index_T
    try:
        shown_UHWC, place_T = dataset.frames(number, index_T, lambda frame_HWC: frame_HWC)
    except UnreadableVideo:
        found.failures += 1
        return
    difference_T = np.abs(shown_UHWC[place_T].astype(np.int16) - truth_THWC[index_T]).max((1, 2, 3))
    found.largest = max(found.largest, int(difference_T.max()))
    found.wrong += int((difference_T > SAME).sum())


def measure(data, rounds):
    """Time the training batches of `rounds` epochs after one, and note how much memory this process gained."""
    loader = data.training_loader(data.train_sampler(), persistent_workers=data.data.workers > 0)
    clips = count_clips(loader, 0)
    before, clock, cpu = machine.read_resident_memory(), time.perf_counter(), time.process_time()
    for epoch in range(1, rounds + 1):
        clips = count_clips(loader, epoch)
    elapsed, busy = time.perf_counter() - clock, time.process_time() - cpu
    after, total = machine.read_resident_memory(), clips * rounds
    gained = None if before is None or after is None else (after - before) / 1e6
    own = 1e3 * busy / total if not data.data.workers else None  # that of workers is not this process's
    return {"frames_per_s": total * data.data.clip.frames / elapsed, "clip_ms": own, "memory_growth": gained}


def count_clips(loader, epoch):
    loader.batch_sampler.position = lambda: (epoch, 0)
    return sum(len(batch["video"]) for batch in loader)
