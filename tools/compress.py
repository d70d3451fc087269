"""Make a trained network smaller.

python tools/compress.py prune --run runs/r3d_motion --ratio 0.5 train.epochs=2         # half of a layer's channels
python tools/compress.py prune --run runs/r3d_motion --ratio layer1=0.25,layer3=0.75    # of these parts
python tools/compress.py prune --run runs/r3d_motion --ratio 0.5 --scope network --importance bn
python tools/compress.py prune --run runs/r3d_motion --ratio 0.75 --steps 3 train.epochs=1   # trained after each step
python tools/compress.py prune --run runs/r3d_motion --ratio 0.5 --scope weights        # single weights: no faster
python tools/compress.py prune --run runs/r3d_motion --ratio 0.5 --no-train             # and test the file
python tools/compress.py quantise --run runs/r3d_motion                 # 8-bit integers: runs/r3d_motion/int8.onnx
python tools/compress.py quantise --run runs/r3d_motion --clips 256 --out r3d.onnx data.root=/data/motion8
python tools/compress.py quantise --run runs/r3d_motion --kind weights                  # a small file, no faster

prune writes <run>-pruned-<percent>.safetensors, and trains on from it in an ordinary run of that name, with the
configuration of --run and the given key=value. quantise writes a file for ONNX Runtime and tests it, into
<file>.results/, with the protocol of the run and the given key=value. docs/guide/smaller.md leads from a run to a small
file.
"""

import argparse
from pathlib import Path

from videores.errors import UserError
from videores.runtime import cli


def main() -> int:
    parser = cli.make_parser(__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_prune_arguments(
        commands.add_parser("prune", help="remove channels, or set single weights to zero", allow_abbrev=False)
    )
    add_quantise_arguments(
        commands.add_parser("quantise", help="compute convolutions with 8-bit integers", allow_abbrev=False)
    )
    args = parser.parse_args()
    return args.function(args)


def add_prune_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function=prune)
    parser.add_argument("--run", type=Path, required=True, help="the run folder, or a checkpoint of one")
    parser.add_argument("--ratio", required=True, help="share that goes: 0.5, or by part, layer1=0.25,layer2=0.5")
    parser.add_argument(
        "--scope",
        choices=("layer", "network", "weights"),
        default="layer",
        help="the least important channels of each layer (default) or of the network, or single weights",
    )
    parser.add_argument(
        "--importance",
        choices=("magnitude", "bn"),
        default="magnitude",
        help="of a channel: the size of its weights and of those that depend on it, or the scale of its batch norm",
    )
    parser.add_argument("--steps", type=cli.positive, default=1, help="so many times: prune a share, and train")
    parser.add_argument(
        "--no-train", dest="train", action="store_false", help="write and test the pruned network alone"
    )
    parser.add_argument("--out", type=Path, help="run folder of the result (default: <run>-pruned-<percent>)")
    cli.add_overrides(parser, "train.epochs=2")


def prune(args: argparse.Namespace) -> int:
    with cli.import_quickly():
        from videores import run
        from videores.compress import pruned_run, pruning
        from videores.inference import testing

    what = pruning.Pruning(pruning.parse_ratio(args.ratio), args.scope, args.importance, args.steps)
    code, steps = 0, pruned_run.plan_run(args.run, args.out, what, args.overrides, args.train)
    for step in steps:
        report = pruned_run.write_pruned(step)
        print(pruned_run.format_report(report))
        if args.train:
            code = run.train(pruned_run.make_finetuning(step, report, args.overrides), step.folder.name)
        else:
            code = run.evaluate_source(testing.prepare_file_test(step.path, args.overrides, args.out))
    return code


def add_quantise_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(function=quantise)
    parser.add_argument("--run", type=Path, required=True, help="the run folder, or a checkpoint of one")
    parser.add_argument(
        "--kind",
        choices=("static", "dynamic", "weights"),
        default="static",
        help="static: weights, and activations within ranges of calibration clips (default); dynamic: with ranges of "
        "each batch, no faster; weights: these alone, no faster",
    )
    parser.add_argument("--clips", type=cli.positive, default=64, help="calibration clips (default: 64)")
    parser.add_argument(
        "--calibrate",
        nargs="+",
        type=Path,
        default=(),
        metavar="VIDEO",
        help="take them from these instead of the run's training videos",
    )
    parser.add_argument("--out", type=Path, help="output file (default: int8.onnx, int8-<kind>.onnx in the run)")
    parser.add_argument("--no-test", dest="test", action="store_false", help="write the file alone")
    cli.add_overrides(parser, "data.root=...")


def quantise(args: argparse.Namespace) -> int:
    folder = args.run if args.run.is_dir() else args.run.parent
    suffix = "" if args.kind == "static" else f"-{args.kind}"
    path = args.out or folder / f"int8{suffix}.onnx"
    if path.suffix != ".onnx":
        raise UserError(f"--out {path} must end with .onnx: give another name")
    if args.kind != "static" and args.calibrate:
        raise UserError(f"--calibrate goes with --kind static alone, got {args.kind}: drop one")
    with cli.import_quickly():
        from videores import run
        from videores.compress import quantise
        from videores.inference import testing

    options = dict(kind=args.kind, clips=args.clips, videos=args.calibrate, overrides=args.overrides)
    print(quantise.format_report(path, quantise.quantise_run(args.run, path, **options)), flush=True)
    return run.evaluate_source(testing.prepare_file_test(path, args.overrides)) if args.test else 0


if __name__ == "__main__":
    cli.run(main)
