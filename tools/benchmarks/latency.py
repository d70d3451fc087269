"""Time networks one clip at a time: fp32, bf16 and int8; eager, compiled and by ONNX Runtime, in turns.

Weights and clips are random, which cost the same as trained ones; what int8 does to an accuracy is in
docs/guide/smaller.md. `--docs` writes docs/background/benchmark-latency.md, on an idle machine.
"""

import ctypes
import multiprocessing
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks import report
from videores.compress.quantise_onnx import quantise_file
from videores.compute import cost
from videores.compute.precision import PrecisionSetting
from videores.inference.export_program import write_program
from videores.inference.exported import ExportDescription, load_exported
from videores.inference.preprocessing import Preprocessing
from videores.models import create_model
from videores.runtime import cli, machine
from videores.runtime.environment import format_utc_now
from videores.runtime.files import write_text
from videores.runtime.tables import format_markdown_table

NETWORKS = ("r3d_18", "r2plus1d_18", "tsm_half_18")
CLASSES = [str(number) for number in range(400)]
EAGER = {
    "fp32": PrecisionSetting("fp32", channels_last=True),
    "bf16": PrecisionSetting("bf16", channels_last=True),
}
COMPILED = {f"{name} compiled": setting._replace(compiled=True) for name, setting in EAGER.items()}
FILES = {"onnx fp32": None, "onnx int8": "static", "onnx int8 dynamic": "dynamic", "onnx int8 weights": "weights"}
FAST, SLOW, TARGET = "onnx int8", "onnx fp32", 1.6  # times as fast, on a CPU with VNNI
COLUMNS = {
    "network": lambda r: r["network"],
    "run": lambda r: r["run"],
    "threads": lambda r: str(r["threads"]),
    "median ms": lambda r: f"{r['ms']:.1f}",
    "95 % ms": lambda r: f"{r['p95_ms']:.1f}",
    "clips/s": lambda r: f"{r['clips_s']:.1f}" if r["clips_s"] else "",
    "times fp32": lambda r: f"{r['fp32_ms'] / r['ms']:.2f}",
    "memory MB": lambda r: f"{r['memory_mb']:.0f}" if r["memory_mb"] else "",
    "file MB": lambda r: f"{r['file_mb']:.1f}",
    "GMAC": lambda r: f"{r['gmacs']:.2f}",
}
PAGE = Path("docs", "background", "benchmark-latency.md")
HEAD = """# Benchmark of latency

Written by `python tools/benchmark.py latency --docs`; do not edit. It takes about {minutes:.0f} minutes, and should run
alone. One network after the other, all runs of a network take turns, clip by clip.

* **median, 95 %**: time of one clip, from the input of the network to its logits, over {rounds} turns.
* **clips/s**: in batches of {batch}. Compiled networks are measured clip by clip and on one thread alone, since they
  would be compiled anew for anything else.
* **times fp32**: the eager fp32 network's median, divided by the row's, at equal threads.
* **memory**: the most that the process holds while it scores a clip on one thread, beyond what it held before it loaded
  the network; not measured where it also compiles.
* **file**: `.safetensors` or `.onnx`. **GMAC**: 10^9 multiply-adds of a clip, [counted](../reference/complexity.md).
* **onnx int8**: [static quantisation](../guide/smaller.md#8-bit-integers). The dynamic one finds the range of each
  activation as it runs; the one of weights stores integers and computes in float32.

"""


def add_arguments(parser):
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--frames", type=cli.positive, default=16)
    parser.add_argument("--size", type=cli.positive, default=56)
    parser.add_argument("--batch", type=cli.positive, default=4, help="clips, for the throughput (default: 4)")
    parser.add_argument("--rounds", type=cli.positive, default=10, help="turns after one to warm up (default: 10)")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="without torch.compile")
    parser.add_argument("--docs", action="store_true", help=f"also write {PAGE}")
    parser.add_argument("--out", type=Path, default=Path("results", "benchmark", "latency"), help="folder")


def main(args):
    torch.set_num_threads(1)  # also in processes that are forked to measure memory
    began, rows = time.monotonic(), []
    for name in args.networks:
        with tempfile.TemporaryDirectory(prefix="videores-benchmark-") as scratch:
            rows += measure(name, args, Path(scratch))
        print(format_rows(rows[-1:]).splitlines()[-1], flush=True)
    settings = {key: getattr(args, key) for key in ("frames", "size", "batch", "rounds")}
    about = {**settings, "date": format_utc_now(), **report.environment()}
    shape = f"Clips of {args.frames} x {args.size} x {args.size}; {report.where(about)}."
    text = "\n\n".join([shape, format_rows(rows), *judge(rows)]) + "\n"
    report.write(args.out, text, {**about, "rows": rows})
    if args.docs:
        minutes = max(1, (time.monotonic() - began) / 60)
        write_text(PAGE, HEAD.format(minutes=minutes, rounds=args.rounds, batch=args.batch) + text)
        print(f"wrote {PAGE}")
    return 0


def measure(name, args, folder):
    """Return the rows of one network."""
    torch.manual_seed(0)
    model = create_model(name, len(CLASSES)).eval().requires_grad_(False)
    clips, batch = (draw_clips(count, args) for count in (1, args.batch))
    files = write_files(name, model, args, folder)
    memory = {run: measure_memory(partial(make_run, run, model, files, clips)) for run in (*EAGER, *FILES)}
    same = {"network": name, "gmacs": cost.count_gmacs(model, tuple(clips.shape))}
    weights = sum(value.nbytes for value in model.state_dict().values())
    rows = []
    for threads in sorted({1, machine.count_cpus()}):
        torch.set_num_threads(threads)
        compiled = tuple(COMPILED) if args.compile and threads == 1 else ()
        seconds = time_turns(
            {run: make_run(run, model, files, clips) for run in (*EAGER, *compiled, *FILES)}, args.rounds
        )
        batches = time_turns({run: make_run(run, model, files, batch) for run in (*EAGER, *FILES)}, min(args.rounds, 2))
        for run, times in seconds.items():
            ms = [1e3 * elapsed for elapsed, _ in times]
            row = {
                "run": run,
                "threads": threads,
                "ms": statistics.median(ms),
                "fp32_ms": 1e3 * statistics.median(elapsed for elapsed, _ in seconds["fp32"]),
                "p95_ms": sorted(ms)[int(0.95 * len(ms))],
                "cpu_ms": 1e3 * statistics.median(used for _, used in times),
                "clips_s": args.batch / statistics.median(s for s, _ in batches[run]) if run in batches else None,
                "memory_mb": memory.get(run),
                "file_mb": (files[run].stat().st_size if run in files else weights) / 1e6,
            }
            rows.append(same | row)
    torch.set_num_threads(1)
    return rows


def draw_clips(count, args):
    clips_BCTHW = torch.randn(count, 3, args.frames, args.size, args.size)
    return clips_BCTHW.contiguous(memory_format=torch.channels_last_3d)


def write_files(name, model, args, folder):
    """Write {run: .onnx file} of a network."""
    described = {"clip": {"frames": args.frames}, "transform": {"short_side": args.size, "crop": args.size}}
    described = Preprocessing.model_validate(described).model_dump(mode="json")
    files = {run: folder / f"{run.replace(' ', '-')}.onnx" for run in FILES}
    about = ExportDescription(CLASSES, described, None, None, "clips", "logits", True, "random weights")
    write_program(model, about, files[SLOW])
    for run, kind in FILES.items():
        if kind:
            quantise_file(files[SLOW], files[run], kind, [draw_clips(2, args).contiguous().numpy()])
    return files


def make_run(run, model, files, clips):
    """Return a function that scores the clips."""
    if run in files:
        return partial(load_exported(files[run]), clips)
    return cost.make_runner(model, clips, (EAGER | COMPILED)[run])


def time_turns(runs, rounds):
    """Return {run: [(elapsed seconds, processor seconds) of each turn]}."""
    seconds = {run: [] for run in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            began, used = time.perf_counter(), time.process_time()
            run()
            if turn:
                seconds[name].append((time.perf_counter() - began, time.process_time() - used))
    return seconds


def measure_memory(build):
    """Return the megabytes that a process of its own needs to hold a run and score with it; None but on Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    forked = multiprocessing.get_context("fork")
    receiver, sender = forked.Pipe(duplex=False)
    process = forked.Process(target=_send_peak, args=(build, sender))
    process.start()
    sender.close()
    peak = receiver.recv()
    process.join()
    return peak


def _send_peak(build, sender):
    ctypes.CDLL(None).malloc_trim(0)  # the network would fill what was freed before the fork, and not count
    before = read_memory("VmRSS")
    run = build()
    run()
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is what is held now
    run()
    sender.send(read_memory("VmHWM") - before)


def read_memory(key):
    """Return a line of this process's memory, in megabytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) / 1e3


def format_rows(rows):
    return format_markdown_table(list(COLUMNS), [[text(row) for text in COLUMNS.values()] for row in rows])


def judge(rows):
    """Yield whether int8 files are as much faster as they should be, by processor time, and whether times count."""
    one = {(row["network"], row["run"]): row["cpu_ms"] for row in rows if row["threads"] == 1}
    waits = max(row["ms"] / row["cpu_ms"] for row in rows if row["threads"] == 1)
    if waits > 1.2:
        yield f"**Other processes were running**: times are up to {waits:.1f} times the processor time. Measure again."
    if not has_vnni():
        yield "This CPU has no VNNI instructions, so no speed of int8 is asked for."
        return
    for name in dict.fromkeys(network for network, _ in one):
        times = one[name, SLOW] / one[name, FAST]
        verdict = "reached" if times >= TARGET else "**not** reached"
        yield f"{name}, one thread: int8 is {times:.2f} times as fast as onnx fp32 (at least {TARGET}: {verdict})."


def has_vnni():
    """Return whether the CPU multiplies 8-bit integers four at a time."""
    path = Path("/proc/cpuinfo")
    return path.exists() and bool({"avx512_vnni", "avx_vnni"} & set(path.read_text().split()))
