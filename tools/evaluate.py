"""Test a run, an exported file or public weights under any protocol, or use saved predictions.

Test a checkpoint; this writes <run>/test/<protocol>/:

python tools/evaluate.py --run runs/r2plus1d_motion
python tools/evaluate.py --run runs/r2plus1d_ucf101 test.clips=10 test.crops=3
python tools/evaluate.py --run runs/r2plus1d_ucf101 test.order=shuffled               # does it use time?
python tools/evaluate.py --run runs/r2plus1d_ucf101 --part val val.clips=10           # the validation videos

Test a file on the videos of its run; this writes <file>.results/, of a name results/weights/<name>/:

python tools/evaluate.py --run runs/r2plus1d_motion/network.onnx
python tools/evaluate.py --run videores/r2plus1d_motion_w16

Test public weights, or any file, on the videos of a configuration; this writes results/weights/<name>/:

python tools/evaluate.py --weights torchvision/r2plus1d_18/KINETICS400_V1 --cfg r2plus1d_kinetics400.yaml
python tools/evaluate.py --weights runs/a/network.pt2 --cfg r2plus1d_ucf101.yaml --class-map classes.csv

Use saved predictions, without a model:

python tools/evaluate.py --scores runs/a --clips 5 --crops 1 --fusion logit-mean      # fewer views
python tools/evaluate.py --scores runs/a --sweep                    # accuracy against the number of views
python tools/evaluate.py --scores runs/rgb runs/flow --weights val  # an ensemble
python tools/evaluate.py --scores runs/a runs/b --compare           # is b better than a?
python tools/evaluate.py --scores runs/fold1 runs/fold2 --suspects  # labels that may be wrong

Find the loss weights of Gradient-Blending in the logs of runs (docs/guide/streams.md):

python tools/evaluate.py --blend runs/joint runs/late
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from videores.config import schema
from videores.config.parse import load_config
from videores.errors import UserError
from videores.runtime import cli

RUN_OPTIONS = ("checkpoint", "part", "class_map", "overrides")  # what --scores does not take
SCORES_OPTIONS = ("clips", "crops", "fusion", "sweep", "compare", "suspects")  # what only --scores takes


def main() -> int:
    parser = cli.make_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="the run folder, a file of tools/export.py, or hub:<user>/<name>")
    source.add_argument("--cfg", metavar="NAME", help="test --weights on the videos of this configuration")
    source.add_argument("--scores", nargs="+", metavar="DIR", help="runs, their test folders or predictions.npz files")
    source.add_argument("--blend", nargs="+", type=Path, metavar="DIR", help="runs of each stream and of all together")
    parser.add_argument("--checkpoint", type=Path, help="test this checkpoint instead of the run's best")
    parser.add_argument("--part", choices=("test", "val"), help="which videos; val writes <run>/val/")
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="W",
        help="with --cfg: public weights by name, or a file; with --scores: a weight for each run, or val",
    )
    parser.add_argument(
        "--class-map", type=Path, metavar="CSV", help="with --cfg: columns weights,data, where classes have other names"
    )
    parser.add_argument("--out", type=Path, help="output folder, but of a run folder's test")
    add_scores_arguments(parser.add_argument_group("with --scores, without a model"))
    cli.add_overrides(parser, "test.clips=10")
    args = parser.parse_intermixed_args()
    if args.scores:
        return evaluate_scores(args)
    if args.blend:
        return blend_losses(args)
    if args.cfg:
        return evaluate_weights(args)
    return evaluate_run(args) if (args.run / "config.yaml").is_file() else evaluate_file(args)


def evaluate_run(args: argparse.Namespace) -> int:
    check_options_absent(args, (*SCORES_OPTIONS, "weights", "class_map", "out"), "--run DIR")
    cfg = load_config(args.run / "config.yaml", args.overrides)
    with cli.import_quickly():
        from videores import run  # here, so that helper processes, which import this file, need not import Lightning

    return run.evaluate(cfg, args.run, args.checkpoint, args.part or "test")


def evaluate_file(args: argparse.Namespace) -> int:
    check_options_absent(args, (*SCORES_OPTIONS, "weights", "class_map", "checkpoint"), "--run FILE")
    with cli.import_quickly():
        from videores import run
        from videores.inference import testing

    return run.evaluate_source(testing.prepare_file_test(args.run, args.overrides, args.out), args.part or "test")


def evaluate_weights(args: argparse.Namespace) -> int:
    check_options_absent(args, (*SCORES_OPTIONS, "checkpoint"), "--cfg")
    source, *overrides = args.weights or [""]  # key=value after --weights are among its values
    if not source:
        raise UserError("--cfg needs --weights, e.g. torchvision/r3d_18/KINETICS400_V1: add them")
    with cli.import_quickly():
        from videores import run
        from videores.inference import testing

    overrides += args.overrides
    tested = testing.prepare_weights_test(source, args.cfg, overrides, args.class_map, args.out)
    return run.evaluate_source(tested, args.part or "test")


def add_scores_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--clips", type=int, help="number of clips in time")
    group.add_argument("--crops", type=int, help="number of crops in space")
    group.add_argument(
        "--fusion",
        choices=get_args(schema.ViewsConfig.model_fields["fusion"].annotation),
        help="fusion of views (default: as tested)",
    )
    group.add_argument("--sweep", action="store_true", help="one run: accuracy against the number of views")
    group.add_argument("--compare", action="store_true", help="two runs: McNemar's test, differences of the classes")
    group.add_argument(
        "--suspects",
        nargs="?",
        choices=("self_confidence", "margin"),
        const="self_confidence",
        help="runs that tested disjoint or equal videos: those whose label is doubtful, sorted by this",
    )


def evaluate_scores(args: argparse.Namespace) -> int:
    check_options_absent(args, RUN_OPTIONS, "--scores")
    from videores.reporting import rescoring

    views = dict(clips=args.clips, crops=args.crops, fusion=args.fusion, out=args.out)
    if args.suspects:
        check_options_absent(args, ("sweep", "weights", "compare"), "--suspects")
        return rescoring.list_suspects(args.scores, by=args.suspects, **views)
    if args.compare:
        check_options_absent(args, ("sweep", "weights"), "--compare")
        return rescoring.compare_runs(args.scores, **views)
    if len(args.scores) > 1:
        check_options_absent(args, ("sweep",), "a fusion of several runs")
        return rescoring.fuse_runs(args.scores, weights=args.weights, **views)
    check_options_absent(args, ("weights",), "one run")
    return rescoring.rescore_run(args.scores[0], sweep=args.sweep, **views)


def blend_losses(args: argparse.Namespace) -> int:
    check_options_absent(args, (*RUN_OPTIONS, *SCORES_OPTIONS, "weights", "out"), "--blend")
    from videores.reporting import blending

    return blending.blend_runs(args.blend)


def check_options_absent(args: argparse.Namespace, names: Sequence[str], what: str) -> None:
    wrong = [name for name in names if getattr(args, name)]
    wrong = ["key=value" if name == "overrides" else f"--{name.replace('_', '-')}" for name in wrong]
    if wrong:
        raise UserError(f"{what} does not go with {', '.join(wrong)}: drop one")


if __name__ == "__main__":
    cli.run(main)
