"""Say which pixels and frames decide: heat maps of videos, drawn and written.

python tools/explain.py runs/r2plus1d_motion clip.mp4
python tools/explain.py runs/r2plus1d_motion --worst 8 --per-class 2                  # videos of the run's test
python tools/explain.py runs/r2plus1d_motion --per-class 8 --check                    # can the maps be trusted?
python tools/explain.py runs/r2plus1d_ucf101 clip.avi --method layercam --layer layer2
python tools/explain.py runs/r2plus1d_ucf101 clip.avi --class Archery                 # why not this?
python tools/explain.py network.onnx clip.avi --method occlusion                      # needs no gradients

SOURCE is a run folder, a checkpoint, an exported file, or the name of public weights. The clips are those that its
test scores. Each video gets a sheet (frames, heat map, scores over time), an overlay as mp4, and attribution.npz; of a
run folder, the report gets a section. docs/guide/explain.md has the methods, and how far to trust them.
"""

import re
from pathlib import Path

from videores.errors import UserError
from videores.runtime import cli

METHODS = ("gradcam", "layercam", "ig", "occlusion", "frames", "order")  # of videores.explain.maps, which imports torch


def main() -> int:
    parser = cli.make_parser(__doc__)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a run, a checkpoint, an exported file, or public weights")
    add("videos", nargs="*", metavar="VIDEO", help="files, folders or patterns; also data.root=... of a run")
    add("--worst", type=cli.positive, default=0, metavar="N", help="the surest mistakes of the run's test")
    add("--per-class", type=cli.positive, default=0, metavar="N", help="the first videos of each class of it")
    add("--method", choices=METHODS, default="gradcam", help="(default: gradcam)")
    add("--layer", metavar="NAME", help="of gradcam and layercam (default: the last stage)")
    add("--class", dest="label", metavar="NAME", help="explain this class, not the predicted one")
    add("--check", action="store_true", help="check the method on these videos, some 20 or more")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="(default: <run>/explain/<method>, or results/explain/<source>/<method>)",
    )
    add("--device", default="auto", help="cpu, cuda or auto (default: a GPU where there is one)")
    args = parser.parse_intermixed_args()
    overrides = [word for word in args.videos if word.startswith("data.") and "=" in word]
    videos = [word for word in args.videos if word not in overrides]
    if not videos and not args.worst and not args.per_class:
        raise UserError("VIDEO is missing: give files, or --worst 8 or --per-class 2 of a run's test")
    with cli.import_quickly():
        import videores
        from videores.explain import choice, commands
        from videores.reporting import page
        from videores.reporting.explanation import plot_explanation, report_check

    run = Path(args.source)
    chosen = choice.choose_inputs(videos) if videos else []
    if args.worst or args.per_class:
        chosen += choice.choose_tested(run, args.worst, args.per_class, overrides)
    is_run = (run / "config.yaml").is_file()
    folder = run / "explain" if is_run else Path("results", "explain", slugify(args.source))
    out = args.out or folder / slugify("-".join(filter(None, (args.method, args.layer, args.label))))
    options = commands.Options(
        out, plot_explanation, args.method, args.layer, args.label, report_check if args.check else None
    )
    code = commands.explain_inputs(videores.load(args.source, device=args.device), chosen, options)
    if is_run and args.out is None:
        print(f"wrote   {page.write_page(run, overrides=overrides)}")
    return code


def slugify(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


if __name__ == "__main__":
    cli.run(main)
