"""Write a trained network as one file for others: its weights, classes and preprocessing.

python tools/export.py --run runs/r2plus1d_motion                    # weights.safetensors, to start trainings from
python tools/export.py --run runs/r2plus1d_motion --format pt2       # network.pt2: torch alone runs it
python tools/export.py --run runs/r2plus1d_motion --format onnx --preprocess   # decoded frames in, probabilities out
python tools/export.py --weights torchvision/r3d_18/KINETICS400_V1 --format onnx --out r3d_18.onnx
python tools/export.py --run runs/r2plus1d_motion --format hub --license cc-by-4.0    # a folder with a model card
python tools/export.py --run runs/r2plus1d_motion --format hub --push user/name       # ... on the Hugging Face Hub
python tools/evaluate.py --run runs/r2plus1d_motion/network.pt2      # the test of the run, through the file

.pt2 and .onnx files are read back and compared with the network on videos of the run.
"""

import argparse
from pathlib import Path

from videores.errors import UserError
from videores.runtime import cli


def main() -> None:
    parser = cli.make_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="the run folder")
    source.add_argument("--weights", metavar="NAME", help="instead: a shared network, or public weights by name")
    parser.add_argument("--checkpoint", type=Path, help="export this checkpoint instead of the best of the run")
    parser.add_argument("--format", choices=FORMATS, default="safetensors")
    parser.add_argument(
        "--out", type=Path, help="output (default: weights.safetensors, network.<format> or hub/ in the run)"
    )
    graph = parser.add_argument_group("with --format pt2 or onnx")
    graph.add_argument("--preprocess", action="store_true", help="uint8 B x T x H x W x 3 in, probabilities out")
    graph.add_argument(
        "--fold",
        action=argparse.BooleanOptionalAction,
        help="make batch norms part of convolutions: faster, logits within 1e-4 (default: onnx yes, pt2 no)",
    )
    graph.add_argument("--compare", nargs="+", type=Path, metavar="VIDEO", help="on these instead of the run's videos")
    sharing = parser.add_argument_group("with --format hub")
    sharing.add_argument("--license", metavar="ID", help="of the weights, as the hub names it, e.g. cc-by-4.0")
    sharing.add_argument("--push", metavar="USER/NAME", help="also upload the folder to the Hugging Face Hub")
    sharing.add_argument("--private", action="store_true", help="where --push creates a repository, only for you")
    args = parser.parse_args()
    check_options(args)
    FORMATS[args.format](args)


def check_options(args: argparse.Namespace) -> None:
    graph = [f"--{name}" for name in ("preprocess", "fold", "compare") if getattr(args, name)]
    sharing = [f"--{name}" for name in ("license", "push", "private") if getattr(args, name)]
    if args.format in ("safetensors", "hub") and (graph or args.weights):
        raise UserError(
            f"--format {args.format} does not go with {', '.join(graph or ['--weights'])}: add --format onnx"
        )
    if args.format != "hub" and sharing:
        raise UserError(f"--format {args.format} does not go with {', '.join(sharing)}: add --format hub")
    if args.format == "hub" and args.checkpoint:
        raise UserError("--format hub shares the checkpoint that the run's results are of: leave out --checkpoint")
    if args.weights and (args.checkpoint or not args.out):
        raise UserError("--weights needs --out FILE, and no --checkpoint")
    if args.out and args.format in ("pt2", "onnx") and args.out.suffix != f".{args.format}":
        raise UserError(f"--out {args.out} must end with .{args.format}, as --format says")


def export_weights(args: argparse.Namespace) -> None:
    from videores.inference.export import describe_run
    from videores.inference.source import find_checkpoint
    from videores.models.weights import safetensors
    from videores.training import run_folder

    path = args.out or args.run / "weights.safetensors"
    checkpoint = args.checkpoint or find_checkpoint(args.run)
    count = safetensors.export_weights(checkpoint, path, describe_run(checkpoint)[1])
    print(f"wrote   {path}: {count} tensors")
    if note := run_folder.format_unfinished_note(args.run):
        print(f"note    {note}")


def export_graph(args: argparse.Namespace) -> None:
    from videores.inference.export import export_source
    from videores.inference.source import find_checkpoint
    from videores.training import run_folder

    path = args.out or args.run / f"network.{args.format}"
    fold = args.format == "onnx" if args.fold is None else args.fold
    source = args.weights or args.checkpoint or find_checkpoint(args.run)
    report = export_source(source, path, fold=fold, with_preprocessing=args.preprocess, videos=args.compare or ())
    print(f"wrote   {path}: {report.bytes / 1e6:.1f} MB{', batch norms folded' * fold}")
    print(f"compared on {report.compared_on}")
    what = "probabilities" if args.preprocess else "logits"
    for size, difference in report.differences.items():
        print(f"batch {size} {what} differ by {difference:.1e}")
    if args.run and (note := run_folder.format_unfinished_note(args.run)):
        print(f"note    {note}")


def export_to_hub(args: argparse.Namespace) -> None:
    from videores.inference import hub

    folder, shared = args.out or args.run / "hub", hub.HubPredictor.from_run(args.run, license=args.license)
    shared.save_pretrained(folder)
    print(f"wrote   {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    if not args.license:
        print("note    the card states no license: --license ID does")
    if args.push:
        print(f"pushed  {hub.push(shared, args.push, private=args.private)}")


FORMATS = {"safetensors": export_weights, "pt2": export_graph, "onnx": export_graph, "hub": export_to_hub}

if __name__ == "__main__":
    cli.run(main)
