"""Take the features of a network, judge them by kNN, linear probe and retrieval, and show them.

python tools/features.py runs/r2plus1d_motion
python tools/features.py runs/r2plus1d_motion --cfg r3d_mixed.yaml       # how well they do on other data
python tools/features.py videores/r2plus1d_motion_w16                    # or hub:<user>/<name>
python tools/features.py torchvision/r2plus1d_18/KINETICS400_V1 --cfg r2plus1d_ucf101.yaml
python tools/features.py runs/r2plus1d_motion --layer layer2             # what another layer puts out

SOURCE is a run folder, a checkpoint, a .safetensors file of tools/export.py, or weights by name. It writes
features.npz, features.json, a picture by t-SNE and UMAP (pip install -e ".[features]") and a page of nearest
neighbors. Every number has beside it that of the same network with random weights.
"""

from pathlib import Path

from videores.runtime import cli

PERPLEXITY = cli.make_number_type(lambda value: 1 < value < float("inf"), "a number > 1, e.g. 30")


def main() -> int:
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "source", metavar="SOURCE", help="a run, checkpoint, exported file, shared network or public weights"
    )
    parser.add_argument("--cfg", metavar="NAME", help="the videos of this configuration (default: those of the run)")
    parser.add_argument("--part", choices=("test", "val"), default="test", help="the videos that are judged")
    parser.add_argument("--layer", metavar="NAME", help="what this layer puts out (default: what the classifier reads)")
    parser.add_argument(
        "--gallery",
        choices=("train", "own"),
        default="train",
        help="where retrieval searches: training videos, or the judged ones of other groups",
    )
    parser.add_argument("--k", type=cli.positive, default=20, help="neighbors that vote (default: 20)")
    parser.add_argument("--perplexity", type=PERPLEXITY, default=30.0, help="of t-SNE, at most (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights and the picture (default: 0)")
    parser.add_argument("--no-picture", dest="picture", action="store_false", help="neither t-SNE nor UMAP")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: <run>/features/<part>/<protocol>")
    parser.add_argument(
        "--class-map", type=Path, metavar="CSV", help="with <layout>:<file>: columns weights,data, a row an output"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: a GPU where there is one)")
    cli.add_overrides(parser, "test.clips=10")
    args = parser.parse_intermixed_args()
    with cli.import_quickly():
        from videores.reporting import features  # here, so that helper processes need not import Lightning

    return features.report_features(features.Options(**vars(args)))


if __name__ == "__main__":
    cli.run(main)
