"""Compute the cost of networks: parameters, GMACs, activations, memory and time.

    python tools/complexity.py --cfg r2plus1d_ucf101.yaml model.pool=max
    python tools/complexity.py --model r3d_50 ir_csn_50 --frames 8 --size 224 --views 30
    python tools/complexity.py --model r3d_50 "r3d_50 groups=32" --measure fp32 bf16
    python tools/complexity.py --all
    python tools/complexity.py --docs                           # writes docs/reference/complexity.md and its picture

Prints a table and writes it as CSV, Markdown and a plot into results/complexity/<name>/. GMACs are 10^9 multiply-adds
(called GFLOPs in many papers); memory is counted for the tensors of one clip in float32.
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

import videores
from videores.config.parse import load_config
from videores.config.streams import compute_input_shape
from videores.data import index, streams
from videores.errors import UserError
from videores.runtime import cli


def main() -> None:
    args = parse_args()
    from videores.diagnostics import complexity  # torch takes seconds to import, --help should not

    if args.docs:
        complexity.write_docs(Path("docs", "reference"))
        print("wrote docs/reference/complexity.md, complexity.png, complexity.svg")
        return
    models, options, folder = select_models(args, complexity)
    modes = complexity.check_modes(args.measure)
    complexity.check_device(args.device)
    rows = (
        complexity.compute_rows(models, **options)
        if args.all
        else [complexity.compute_row(m, **options) for m in models]
    )
    for row in rows if modes else ():
        print(f"measuring {row['model']}", flush=True)
        complexity.add_measurements(row, modes, args.batch, args.device, options.get("shapes"))
    complexity.write_files(folder, rows)
    print(complexity.format_table(rows), end="")
    print(f"wrote {folder}/table.csv, table.md, pareto.png, pareto.svg")


def parse_args() -> argparse.Namespace:
    parser = cli.make_parser(__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--cfg", help="a YAML file: its network, clip and test views")
    which.add_argument("--model", nargs="+", metavar="NAME", help='networks, "NAME key=value" to change one')
    which.add_argument("--all", action="store_true", help="every network that has a name")
    which.add_argument("--docs", action="store_true", help="write docs/reference/complexity.md")
    parser.add_argument(
        "--frames", type=cli.positive, help="frames of a clip (default: 16; networks of pytorchvideo: as published)"
    )
    parser.add_argument(
        "--size", type=cli.positive, help="height and width of a clip (default: 112; cifar networks: 32)"
    )
    parser.add_argument("--views", type=cli.positive, help="clips times crops of a video (default: 1)")
    parser.add_argument(
        "--classes", type=cli.positive, help="number of classes (default: the data's of --cfg, else 400)"
    )
    parser.add_argument("--measure", nargs="*", metavar="MODE", help="also measure the time, in fp32, bf16, ...")
    parser.add_argument("--batch", type=cli.positive, default=1, help="clips in a measured batch (default: 1)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    cli.add_overrides(parser)
    args = parser.parse_intermixed_args()
    if args.overrides and not args.cfg:
        parser.error(f'{args.overrides[0]}: keys of a configuration need --cfg: write --model "NAME key=value"')
    return args


def select_models(args, complexity):
    """The networks, the clip, and the folder to write to."""
    options = {"classes": args.classes or 400, "frames": args.frames, "size": args.size, "views": args.views or 1}
    root = Path("results", "complexity")
    if args.all:
        return videores.list_models(), options, root / "all"
    if args.model:
        return args.model, options, root / make_folder_name(args.model)
    cfg = load_config(args.cfg, args.overrides)
    options["classes"] = args.classes or count_classes(cfg.data)
    shapes = compute_input_shape(cfg.data)
    options["shapes"] = shapes if isinstance(shapes, dict) else None
    _, frames, height, width = streams.pick_first(shapes)
    options["frames"] = args.frames or frames
    options["size"] = args.size or (height if height == width else (height, width))
    options["views"] = args.views or count_views(cfg.test)
    return [complexity.format_name(cfg.model.name, cfg.model.overrides())], options, root / Path(args.cfg).stem


def make_folder_name(models):
    """Their labels in a name; of many, their number and a hash of them all."""
    name = "-".join(re.sub(r"\W+", "-", model) for model in models)
    if len(name) <= 100:
        return name
    return f"{len(models)}-networks-{hashlib.sha256(' '.join(models).encode()).hexdigest()[:8]}"


def count_classes(data):
    """Those of the data, 400 where it is not here."""
    try:
        return len(index.read_classes(data))
    except UserError as error:
        print(
            f"note    counting 400 classes (--classes has another number): {str(error).splitlines()[0]}",
            file=sys.stderr,
        )
        return 400


def count_views(test):
    if test.clips == "all" or test.crops == "full":
        raise UserError("test.clips=all and test.crops=full have no fixed cost: give --views")
    return test.clips * test.crops


if __name__ == "__main__":
    cli.run(main)
