"""Check and measure one GPU: speed and MFU of training steps, gradients, loading, NCCL, decoders, the machine.

Each part is alone: one that fails is recorded with its error, and the others still run. `--device cpu` runs the whole
path with tiny sizes, to see that it works.
"""

import importlib.metadata
import importlib.util
import json
import math
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy

from benchmarks import overhead, peers, report, step, videos
from videores.compute import cost, gradient_check, precision
from videores.compute.precision import PrecisionSetting
from videores.config import parse
from videores.config.schema import TrainerConfig
from videores.data import datamodule
from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.video.encode import write_video
from videores.diagnostics import doctor
from videores.errors import UserError
from videores.models import create_model
from videores.runtime import cli, environment, files, machine
from videores.training.module import VideoClassifier
from videores.training.trainer import make_ddp_options

AIM_MFU = 0.5  # of r3d_18, of the card's dense bf16 peak
SETTINGS = {  # name -> setting, options of the optimizer, whether the step is captured as a CUDA graph
    "fp32": (PrecisionSetting("fp32", False), {}, False),
    "tf32": (PrecisionSetting("tf32", False), {}, False),
    "bf16": (PrecisionSetting("bf16", False), {}, False),
    "bf16 channels last": (PrecisionSetting("bf16", True), {}, False),
    "bf16 channels last, fused SGD": (PrecisionSetting("bf16", True), {"fused": True}, False),
    "bf16 channels last, CUDA graph": (PrecisionSetting("bf16", True), {}, True),
    "bf16 channels last, compiled": (PrecisionSetting("bf16", True, True), {"fused": True}, False),
}
PEAKS = {  # part of the card's name -> dense bf16 TFLOP/s, from NVIDIA's data sheets; the first that fits counts
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "A10": 125,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
}


def add_arguments(parser):
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: tiny, to see that it works")
    parser.add_argument("--networks", nargs="+", default=list(step.NETWORKS), choices=step.NETWORKS, metavar="NAME")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS, metavar="SETTING")
    parser.add_argument("--batch", type=cli.positive, help="clips of a step (default: 32)")
    parser.add_argument("--frames", type=cli.positive, help="of a clip (default: 16)")
    parser.add_argument("--size", type=cli.positive, help="pixels of a clip's side (default: 112)")
    parser.add_argument("--rounds", type=cli.positive, help="of which a time is the median (default: 20)")
    parser.add_argument("--videos", type=cli.positive, help="of the epoch of training (default: 1024)")
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="the card's dense bf16 peak, where it is unknown")
    parser.add_argument("--out", type=Path, default=Path("results", "gpu_check.json"))


def main(args):
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU; run this where there is one, or see python tools/doctor.py")
    sizes = {"batch": 32, "frames": 16, "size": 112, "rounds": 20, "videos": 1024}
    if args.device == "cpu":
        sizes = {"batch": 2, "frames": 4, "size": 32, "rounds": 1, "videos": 8}
    for name, size in sizes.items():
        setattr(args, name, getattr(args, name) or size)
    began = time.monotonic()
    parts = {
        "doctor": check_doctor,
        "gradients": check_gradients,
        "training_step": measure_steps,
        "epoch": train_epoch,
        "torchcodec_cuda": check_torchcodec,
    }
    record = {"measurement": "gpu_check", "date": environment.format_utc_now(), **report.environment()}
    record["device"] = describe_device(args)
    record["sizes"] = {name: getattr(args, name) for name in sizes}
    for name, part in parts.items():
        print(f"{name} ...", flush=True)
        record[name] = attempt(part, args)
        print(json.dumps(record[name], indent=1), flush=True)
    record["seconds"] = round(time.monotonic() - began, 1)
    record["wrong"] = list_wrong(record)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(args.out, record)
    print(*(f"wrong: {text}" for text in record["wrong"]), f"wrote {args.out}, {record['seconds']:.0f} s", sep="\n")
    return 1 if record["wrong"] else 0


def attempt(part, *arguments):
    """What a part returns, or {"error": ...}: a library that fails is a result here."""
    try:
        return part(*arguments)
    except Exception as error:
        return {"error": describe_error(error)}


def describe_error(error):
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def describe_device(args):
    if args.device == "cpu":
        return {"name": machine.read_cpu_model(), "peak_tflops": args.peak}
    name, version = torch.cuda.get_device_name(), torch.backends.cudnn.version()
    peak = args.peak or next((tflops for part, tflops in PEAKS.items() if part in name), None)
    memory = torch.cuda.get_device_properties(0).total_memory
    return {"name": name, "peak_tflops": peak, "memory": memory, "cuda": torch.version.cuda, "cudnn": version}


def list_wrong(record):
    """The lines of what a user must know: errors, bad findings, wrong gradients."""
    wrong = [
        f"{name}: {value['error']}" for name, value in record.items() if isinstance(value, dict) and "error" in value
    ]
    if isinstance(record["doctor"], list):
        wrong += [f"doctor: {one['what']}: {one['found']}" for one in record["doctor"] if one["status"] == doctor.BAD]
    for network, rows in record["gradients"].items():
        if network != "error" and not rows.get("right"):
            wrong.append(f"gradients of {network}: {rows}")
    return wrong


# Parts


def check_doctor(args):
    return [finding._asdict() for check in doctor.CHECKS for finding in doctor.run_check(check)]


def check_gradients(args):
    """{network: the largest relative error of a layer's gradients in the default setting, against float64}."""
    setting, found = precision.select_setting(TrainerConfig(), args.device), {}
    clips, label_B = step.clips_of(args)[:2], torch.arange(2, device=args.device)
    for name in args.networks:
        torch.manual_seed(0)
        network = create_model(name, step.CLASSES).to(args.device)
        errors = gradient_check.compute_layer_errors(network, clips, label_B, setting, torch.float64)
        worst = max(errors, key=lambda layer: errors[layer])
        right = errors[worst] <= gradient_check.MAX_RELATIVE_ERROR
        found[name] = {"setting": str(setting), "layer": worst, "error": errors[worst], "right": right}
    return found


def measure_steps(args):
    """A row for each network and setting: ms a step, clips/s, and the share of the peak of the card (MFU)."""
    return [measure_step(name, setting, args) for name in args.networks for setting in args.settings]


def measure_step(name, title, args):
    setting, optimizer, captured = SETTINGS[title]
    gmacs = cost.count_gmacs(create_model(name, step.CLASSES), (1, 3, args.frames, args.size, args.size))
    row = {"network": name, "setting": title, "gmacs": gmacs}
    torch.manual_seed(0)
    precision.set_tf32(setting.precision == "tf32")
    try:
        run = step.trainer(create_model(name, step.CLASSES), args, setting, **optimizer)
        run = capture(run) if captured else run
        began = time.monotonic()
        seconds = cost.time_interleaved({title: run}, args.rounds, args.device)[title]
        row["seconds_of_all"] = time.monotonic() - began  # compiling too
    except Exception as error:
        return row | {"error": describe_error(error)}
    finally:
        precision.set_tf32(False)
    flops = 6e9 * gmacs * args.batch / seconds  # forward and two products backward, two operations a MAC
    peak = describe_device(args)["peak_tflops"]
    mfu = flops / (1e12 * peak) if peak else None
    return row | {"ms": 1e3 * seconds, "clips_s": args.batch / seconds, "tflops": flops / 1e12, "mfu": mfu}


def capture(run):
    """The step as a CUDA graph, which starts all its kernels at once."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def train_epoch(args):
    """An epoch of r3d_18 as tools/train.py trains it, on files, exchanging gradients (NCCL; on a CPU gloo)."""
    with tempfile.TemporaryDirectory(prefix="videores-gpu-check-") as folder:
        write_videos(Path(folder), args)
        workers = min(16, machine.count_cpus()) if args.device == "cuda" else 0
        cfg = parse.load_config(
            "r3d_ucf101.yaml",
            [
                *("data.name=gpu_check", "data.format=folder", f"data.root={folder}", "data.splits=null"),
                *("data.val=none", f"data.batch_size={args.batch}", f"data.workers={workers}"),
                *(f"data.clip.frames={args.frames}", f"data.transform.crop={args.size}"),
                *(f"data.transform.short_side={args.size + 16}", "train.epochs=1", "train.warmup=0"),
                *("train.schedule=constant", "train.milestones=[]", "trainer.log_every=4", "trainer.devices=1"),
                f"trainer.accelerator={'gpu' if args.device == 'cuda' else 'cpu'}",
            ],
        )
        return run_epoch(cfg, args)


def run_epoch(cfg, args):
    loaded = datamodule.load_videos(cfg.data)
    data = datamodule.VideoData.from_config(cfg, loaded)
    options = make_ddp_options(cfg.trainer.accelerator, cfg.trainer, 1)
    began = time.monotonic()
    with overhead.lightning_trainer(cfg, None, strategy=DDPStrategy(**options)) as trainer:
        trainer.fit(VideoClassifier(cfg, loaded.index.classes), data)
        log = Path(trainer.default_root_dir, "metrics.jsonl").read_text()
    rows = [row for row in map(json.loads, log.splitlines()) if "train/loss" in row]
    later = rows[1:] or rows  # workers start in the first
    measured = {key: float(np.mean([row[key] for row in later])) for key in ("clips_per_s", "step_ms", "data_wait")}
    finite = all(math.isfinite(row["train/loss"]) for row in rows)
    done = {"backend": options["process_group_backend"], "steps": trainer.global_step, "finite": finite}
    return {**done, **measured, "seconds": time.monotonic() - began}


def write_videos(folder, args):
    """Few different files under many names: H.264, 320x240, as a loader meets them."""
    height, width, frames = (240, 320, 90) if args.device == "cuda" else (48, 64, 12)
    for label in ("a", "b"):
        (folder / "train" / label).mkdir(parents=True)
        (folder / "test" / label).mkdir(parents=True)
    for number in range(args.videos + 2):
        label = "ab"[number % 2]
        source = folder / f"source{number % 8}.mp4"
        if not source.exists():
            write_video(source, videos.moving_frames(frames, height, width, seed=number), 30)
        part = "train" if number < args.videos else "test"
        shutil.copyfile(source, folder / part / label / f"{number:05}.mp4")


def check_torchcodec(args):
    """Whether TorchCodec's frames on this device are those of the sequential decode."""
    if importlib.util.find_spec("torchcodec") is None:
        return {"installed": False}
    found = {"installed": True, "version": importlib.metadata.version("torchcodec")}
    with tempfile.TemporaryDirectory(prefix="videores-gpu-check-") as folder:
        for name, (codec, options) in doctor.CODINGS.items():
            path = Path(folder, name)
            write_video(path, doctor.make_numbered_frames(doctor.FRAMES), 25, codec=codec, options=options)
            found[name] = attempt(compare_torchcodec, path, args.device)
    return found


def compare_torchcodec(path, device):
    truth_THWC = read_frames(path, range(doctor.FRAMES), reader="pyav", info=probe(path))
    difference = np.abs(peers.torchcodec_frames(path, device).astype(int) - truth_THWC)
    return {"exact": not difference.any(), "largest": int(difference.max()), "mean": float(difference.mean())}
