"""Time exported files against the network that they are made of, in turns in one process.

The network runs as test scores are computed: float32, channels last. Each file answers the same clips; the largest
difference of its logits is given. What counts is processor time, since the clock would measure what else runs. ONNX
Runtime must take at most as long as the network (docs/guide/export.md). `--plot` draws the figure of that page.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from videores.compute.scoring import set_score_layout
from videores.inference.export_program import write_program
from videores.inference.exported import ExportDescription, load_exported
from videores.inference.folding import fold_batch_norms
from videores.inference.preprocessing import Preprocessing
from videores.models import create_model
from videores.reporting import figures
from videores.runtime import cli
from videores.runtime.environment import collect_environment
from videores.runtime.files import write_json

NETWORKS = ("r3d_18", "r2plus1d_18", "f_r2d_18")
FILES = {"pt2": (".pt2", False), "pt2, folded": (".pt2", True), "onnx, folded": (".onnx", True)}
EAGER, TARGET = "network", "onnx, folded"
LIMIT = 1.0  # times the network's time
CLASSES = [str(number) for number in range(400)]


def add_arguments(parser):
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--frames", type=cli.positive, default=16)
    parser.add_argument("--size", type=cli.positive, default=112)
    parser.add_argument("--batch", type=cli.positive, default=1, help="clips")
    parser.add_argument("--threads", type=cli.positive, default=1, help="of torch and of ONNX Runtime")
    parser.add_argument(
        "--rounds", type=cli.positive, default=5, help="turns after one to warm up; medians are printed"
    )
    parser.add_argument("--plot", action="store_true", help="also draw the times, beside --out")
    parser.add_argument("--out", type=Path, default=Path("results", "benchmark", "export.json"))


def main(args):
    torch.set_num_threads(args.threads)
    print(f"{'':14} {'':14} {'ms':>8} {'times':>6}  {'difference':>10}")
    with tempfile.TemporaryDirectory(prefix="videores-benchmark-") as scratch:
        rows = [row for name in args.networks for row in measure(name, args, Path(scratch))]
    settings = {key: getattr(args, key) for key in ("frames", "size", "batch", "threads", "rounds")}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, {"settings": settings, "environment": collect_environment(), "rows": rows})
    print(f"wrote {args.out}")
    if args.plot:
        plot(rows, settings, args.out.with_suffix(".png"))
    return 0


@torch.inference_mode()
def measure(name, args, folder):
    """Return the rows of one network, printed as they come."""
    runs, clips = make_runs(name, args, folder)
    answers = {run: answer(clips) for run, answer in runs.items()}  # a first turn, which warms up
    seconds = {run: [] for run in runs}
    for _ in range(args.rounds):
        for run, answer in runs.items():
            began = time.process_time()
            answer(clips)
            seconds[run].append(time.process_time() - began)
    times = {run: median(values) for run, values in seconds.items()}
    rows = []
    for run, s in times.items():
        difference = float((answers[run] - answers[EAGER]).abs().max())
        row = {"network": name, "run": run, "cpu_ms": 1e3 * s, "times": s / times[EAGER], "difference": difference}
        verdict = f"  at most {LIMIT:g}: {'reached' if row['times'] <= LIMIT else 'NOT reached'}" * (run == TARGET)
        print(f"{name:14} {run:14} {row['cpu_ms']:8.1f} {row['times']:6.2f}  {difference:10.1e}{verdict}", flush=True)
        rows.append(row)
    return rows


def make_runs(name, args, folder):
    """Return ({what runs: a function of clips}, clips_BCTHW)."""
    torch.manual_seed(0)
    model = create_model(name, len(CLASSES)).eval().requires_grad_(False)
    set_score_layout(model, "cpu", "fp32")
    clips = torch.randn(args.batch, 3, args.frames, args.size, args.size)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    preprocessing = Preprocessing.model_validate(
        {"clip": {"frames": args.frames}, "transform": {"short_side": args.size, "crop": args.size}}
    ).model_dump(mode="json")
    runs = {EAGER: model, "network, folded": fold_batch_norms(model, clips)}
    for what, (suffix, folded) in FILES.items():
        path = folder / f"{name}-{folded}{suffix}"
        about = ExportDescription(CLASSES, preprocessing, None, None, "clips", "logits", folded, "random weights")
        write_program(model, about, path)
        runs[what] = load_exported(path)
    return runs, clips


def plot(rows, settings, path):
    """Draw the time of each file relative to its network."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["network"] for row in rows))
    runs = list(dict.fromkeys(row["run"] for row in rows))
    figure = Figure(figsize=(7, 0.9 + 0.9 * len(names)), layout="constrained")
    axes = figure.subplots()
    for number, run in enumerate(runs):
        mine = [row for row in rows if row["run"] == run]
        places = [names.index(row["network"]) + 0.16 * (number - (len(runs) - 1) / 2) for row in mine]
        axes.barh(places, [row["times"] for row in mine], height=0.15, label=run)
        for place, row in zip(places, mine, strict=True):
            note = f"{row['cpu_ms']:.0f} ms" + (f", logits differ by {row['difference']:.0e}" if run != EAGER else "")
            axes.text(row["times"] + 0.01, place, note, va="center", fontsize=7)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.5 * max(row["times"] for row in rows))
    shape = f"{settings['frames']}x{settings['size']}x{settings['size']}, batch {settings['batch']}"
    axes.set_xlabel(f"processor time / the network's ({shape}, threads: {settings['threads']})")
    figure.legend(fontsize=7, loc="outside upper center", ncols=len(runs))
    figures.save_figure(figure, path)
    print(f"wrote {path}")
