"""Make a trained network smaller.

python tools/compress.py prune --run runs/r3d_motion --ratio 0.5 train.epochs=2         # half of a layer's channels
python tools/compress.py prune --run runs/r3d_motion --ratio layer1=0.25,layer3=0.75    # of these parts
python tools/compress.py prune --run runs/r3d_motion --ratio 0.5 --scope network --importance bn
python tools/compress.py prune --run runs/r3d_motion --ratio 0.75 --steps 3 train.epochs=1   # trained after each step
python tools/compress.py prune --run runs/r3d_motion --ratio 0.5 --scope weights        # single weights: no faster
python tools/compress.py prune --run runs/r3d_motion --ratio 0.5 --no-train             # and test the file

prune writes <run>-pruned-<percent>.safetensors, and trains on from it in an ordinary run of that name, with the
configuration of --run and the given key=value. docs/guide/smaller.md leads from a run to a small file.
"""

import argparse
from pathlib import Path

from videores.runtime import cli


def main() -> int:
    parser = cli.make_parser(__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_prune_arguments(commands.add_parser("prune", help="remove channels, or set single weights to zero"))
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
        from videores.compress import pruned_run
        from videores.inference import testing

    pruning = pruned_run.Pruning(pruned_run.parse_ratio(args.ratio), args.scope, args.importance, args.steps)
    code, steps = 0, pruned_run.plan_run(args.run, args.out, pruning, args.overrides, args.train)
    for step in steps:
        report = pruned_run.write_pruned(step)
        print(pruned_run.format_report(report))
        if args.train:
            code = run.train(pruned_run.make_finetuning(step, report, args.overrides), step.folder.name)
        else:
            code = run.evaluate_source(testing.prepare_file_test(step.path, args.overrides, args.out))
    return code


if __name__ == "__main__":
    cli.run(main)
