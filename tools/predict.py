"""Predict the classes of videos: files, folders, patterns, a pipe (-), cameras and addresses.

python tools/predict.py runs/r2plus1d_motion clip.mp4
python tools/predict.py torchvision/r2plus1d_18/KINETICS400_V1 videos/ "more/*.avi" --json answers.json
python tools/predict.py runs/r2plus1d_motion long.mp4 --timeline --every 0.5 --threshold 0.6 --video
ffmpeg -i in.mkv -f mpegts - | python tools/predict.py runs/r2plus1d_motion - --every 1
python tools/predict.py runs/r2plus1d_motion rtsp://camera.local/stream --network --every 1 --csv answers.csv

SOURCE is a run folder, a checkpoint, an exported file, or the name of public weights, of a network of the hub
(hub:user/name) or of one that comes along (videores/r2plus1d_motion_w16). Whole videos are seen as the run's test sees
them, and get the same scores; --every and --timeline predict windows instead, and cameras and streams always. Answers
are printed; --out has the plots and videos. docs/guide/predict.md has the details.
"""

from pathlib import Path

from videores.runtime import cli

SECONDS = cli.make_number_type(lambda value: 0 < value < float("inf"), "seconds > 0, e.g. 0.5")
FRACTION = cli.make_number_type(lambda value: 0 <= value <= 1, "from 0 to 1")


def main() -> int:
    parser = cli.make_parser(__doc__)
    parser.add_argument("source", metavar="SOURCE", help="a run, a checkpoint, an exported file, or public weights")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="videos; - reads standard input")
    parser.add_argument("--top", type=cli.positive, default=5, help="classes that are listed (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the answers as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the answers as CSV")
    windows = parser.add_argument_group("windows of long videos and streams")
    windows.add_argument("--every", type=SECONDS, metavar="SECONDS", help="from window to window")
    windows.add_argument("--timeline", action="store_true", help="plot the windows, and join them to segments")
    windows.add_argument(
        "--threshold", type=FRACTION, default=0.5, help="a lower probability is nothing (default: 0.5)"
    )
    parser.add_argument("--video", action="store_true", help="write the video with the label drawn in")
    parser.add_argument(
        "--out", type=Path, default=Path("results", "predict"), metavar="DIR", help="of plots and videos"
    )
    parser.add_argument("--network", action="store_true", help="allow cameras and addresses")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: a GPU where there is one)")
    args = parser.parse_args()
    import videores  # here, so that --help and helper processes, which import this file, need not import torch
    from videores.inference import commands, inputs

    inputs.list_inputs(args.inputs, args.network, True)  # before the network is loaded, or its weights come
    values = {name: getattr(args, name) for name in commands.Options.__dataclass_fields__ if hasattr(args, name)}
    plot = None
    if args.timeline:
        from videores.reporting.timeline import plot_timeline as plot
    return commands.predict_inputs(
        videores.load(args.source, device=args.device), args.inputs, commands.Options(**values, plot=plot)
    )


if __name__ == "__main__":
    cli.run(main)
