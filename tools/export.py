"""Write a run's weights, classes and preprocessing as weights.safetensors.

python tools/export.py --run runs/r2plus1d_motion
python tools/train.py --cfg r2plus1d_ucf101.yaml model.weights=runs/r2plus1d_motion/weights.safetensors   # from there
"""

from pathlib import Path

from videores.runtime import cli


def main() -> None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--run", required=True, type=Path, help="the run folder")
    parser.add_argument("--checkpoint", type=Path, help="export this checkpoint instead of the best of the run")
    parser.add_argument("--out", type=Path, help="output file (default: weights.safetensors in the run folder)")
    args = parser.parse_args()
    from videores.models.weights import safetensors
    from videores.training import run_folder

    path = args.out or args.run / "weights.safetensors"
    count = safetensors.export_weights(args.checkpoint or run_folder.find_best_checkpoint(args.run), path)
    print(f"wrote   {path}: {count} tensors")
    if note := run_folder.format_unfinished_note(args.run):
        print(f"note    {note}")


if __name__ == "__main__":
    cli.run(main)
