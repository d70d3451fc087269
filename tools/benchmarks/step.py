"""Training steps and inference against torchvision's networks, in turns on the same machine.

torchvision's r3d_18 and r2plus1d_18 in float32, contiguous and eager are what a user gets without thinking. Ours are
measured at our defaults (the dtype and memory layout that compute.precision chooses for the device) and at
torchvision's settings, with the same weights and clips; the answers are compared too. Inference at our defaults is that
of validation and test scores, which are float32; where training's format is another one, scores in it, which
`trainer.score_precision` asks for, are measured too.

The last table is about depthwise and grouped convolutions: the time that their GMACs promise, at the speed of the dense
network, and the time they take.
"""

import copy
import csv
import gc
from pathlib import Path

import torch
import torchvision

from videores.compute import cost, precision
from videores.compute.precision import PrecisionSetting
from videores.config.schema import TrainerConfig
from videores.errors import UserError
from videores.inference.folding import fold_batch_norms
from videores.models import create_model
from videores.runtime.files import write_atomically

NETWORKS = ("r3d_18", "r2plus1d_18")
TARGETS = {  # name -> how many times as fast as torchvision, at least
    ("r3d_18", "training"): 2.5,
    ("r2plus1d_18", "training"): 3.0,
    ("r3d_18", "inference"): 2.0,
    ("r2plus1d_18", "inference"): 2.5,
}
EQUAL = 0.9  # the least speed at equal settings
SPARSE = ("r3d_50", "r3d_50 groups=32", "resnext3d_50", "ir_csn_50", "ip_csn_50")
CLASSES = 400
PLAIN = PrecisionSetting("fp32", channels_last=False)


def add_arguments(parser):
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME", help="r3d_18, r2plus1d_18")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch", type=int, default=4, help="clips")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--rounds", type=int, default=5, help="turns after one to warm up; medians are printed")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, which takes minutes")
    parser.add_argument("--sparse", action="store_true", help="only depthwise and grouped convolutions")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path("results", "benchmark", "step.csv"))


def main(args):
    refuse_others(args)
    torch.set_num_threads(args.threads)
    rows = [] if args.sparse else [row for name in args.networks for row in compare(name, args)]
    rows += sparse(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(args.out) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {args.out}")


def refuse_others(args):
    unknown = [name for name in args.networks if name not in NETWORKS]
    if unknown:
        raise UserError(f"{unknown[0]} is not compared here: torchvision's networks are {', '.join(NETWORKS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no CUDA device: leave out --device")
    if min(args.frames, args.size, args.batch, args.threads, args.rounds) < 1:
        raise UserError("--frames, --size, --batch, --threads and --rounds must be at least 1")


# Against torchvision


def compare(name, args):
    """The rows of one network, training then inference, printed as they come."""
    torch.manual_seed(0)
    theirs = getattr(torchvision.models.video, name)(num_classes=CLASSES)
    ours = create_model(name, CLASSES)
    ours.load_state_dict(theirs.state_dict())
    default = precision.select_setting(TrainerConfig(), args.device)
    rows = table(name, "training", training_runs(theirs, ours, default, args), default, args)
    return rows + table(name, "inference", inference_runs(theirs, ours, default, args), default, args)


def training_runs(theirs, ours, default, args):
    """{what: a function that does one training step and returns its loss}."""
    runs = {
        "torchvision fp32": trainer(theirs, args, PLAIN),
        "ours, equal settings": trainer(ours, args, PLAIN),
        f"ours, default: {describe(default)}": trainer(ours, args, default),
    }
    if args.compile:
        runs[f"ours, compiled: {describe(default)}"] = trainer(ours, args, default._replace(compiled=True))
    return runs


def inference_runs(theirs, ours, default, args):
    """{what: a function that returns the logits of the clips}."""
    clips = clips_of(args)
    scores = PrecisionSetting("fp32", precision.use_channels_last_scores(args.device, "fp32"))
    runs = {
        "torchvision fp32": cost.make_runner(theirs, clips, PLAIN),
        "ours, equal settings": cost.make_runner(ours, clips, PLAIN),
        f"ours, default of scores: {describe(scores)}": cost.make_runner(ours, clips, scores),
        "ours, norms folded too": cost.make_runner(fold_batch_norms(ours, clips[:1]), clips, scores),
    }
    if default.precision != "fp32":
        runs[f"ours, score_precision: {describe(default)}"] = cost.make_runner(ours, clips, default)
    if args.compile:
        runs["ours, fp32 channels-last compiled"] = cost.make_runner(ours, clips, PrecisionSetting("fp32", True, True))
        runs[f"ours, compiled: {describe(default)}"] = cost.make_runner(ours, clips, default._replace(compiled=True))
    return runs


def describe(setting):
    return f"{setting.precision} channels-{'last' if setting.channels_last else 'first'}"


def clips_of(args):
    """clips_BCTHW that are the same for every model."""
    shape_BCTHW = (args.batch, 3, args.frames, args.size, args.size)
    return torch.randn(shape_BCTHW, generator=torch.Generator().manual_seed(0)).to(args.device)


def trainer(model, args, setting, **optimizer_options):
    model, clips = cost.apply_layout(copy.deepcopy(model).to(args.device).train(), clips_of(args), setting)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, **optimizer_options)
    label_B = torch.arange(args.batch, device=args.device) % CLASSES
    if setting.compiled:
        model.compile()

    def step():
        optimizer.zero_grad()
        loss = cost.run_step(model, clips, label_B, setting)
        optimizer.step()
        return loss

    return step


def table(name, what, runs, default, args):
    """Measures the runs in turns and prints them; the first is what the others are compared with."""
    answers = {run: function() for run, function in runs.items()}
    seconds = cost.time_interleaved(runs, args.rounds, args.device)
    first = next(iter(runs))
    shape = f"{args.frames}x{args.size}x{args.size}, batch {args.batch}, {args.threads} threads"
    print(f"\n{name}, {what}, {shape}\n{'':46} {'ms':>8} {'clips/s':>8} {'times':>6}  {'difference':>10}")
    rows = []
    for run, s in seconds.items():
        speed, difference = seconds[first] / s, float((answers[run] - answers[first]).abs().max())
        print(f"{run:46} {1e3 * s:8.0f} {args.batch / s:8.2f} {speed:6.2f}  {difference:10.1e}", end="")
        print(verdict(name, what, run, speed), flush=True)
        row = {"network": name, "what": what, "run": run, "ms": 1e3 * s, "clips_s": args.batch / s, "times": speed}
        rows.append(row | {"difference": difference})
    del runs, answers
    gc.collect()
    return rows


def verdict(name, what, run, speed):
    aims_high = "default" in run or "score_precision" in run
    target = TARGETS[name, what] if aims_high else EQUAL if "equal" in run else None
    if target is None:
        return ""
    return f"  at least {target:g}: {'reached' if speed >= target else 'NOT reached'}"


# Depthwise and grouped convolutions


def sparse(args):
    """Rows of inference at the default number format: the time that GMACs promise, and the time it takes."""
    setting, clips = precision.select_setting(TrainerConfig(), args.device), clips_of(args)
    runs, gmacs = {}, {}
    for label in SPARSE:
        name, _, change = label.partition(" groups=")
        model = create_model(name, CLASSES, **({"groups": int(change)} if change else {}))
        gmacs[label] = args.batch * cost.count_gmacs(model, (1, 3, args.frames, args.size, args.size))
        runs[label] = cost.make_runner(model, clips, setting)
    seconds = cost.time_interleaved(runs, args.rounds, args.device)
    dense = SPARSE[0]
    print(f"\ninference in {describe(setting)}, batch {args.batch}: promised by GMACs and measured")
    print(f"{'':20} {'GMAC':>8} {'promised ms':>12} {'ms':>8} {'GMAC/s':>8} {'slower':>7}")
    rows = []
    for label, s in seconds.items():
        promised = seconds[dense] * gmacs[label] / gmacs[dense]
        print(f"{label:20} {gmacs[label]:8.1f} {1e3 * promised:12.0f} {1e3 * s:8.0f}", end="")
        print(f" {gmacs[label] / s:8.1f} {s / promised:7.1f}", flush=True)
        row = {"network": label, "what": "inference", "run": describe(setting), "ms": 1e3 * s}
        rows.append(row | {"clips_s": args.batch / s, "gmac": gmacs[label], "promised_ms": 1e3 * promised})
    return rows
