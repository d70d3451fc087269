"""Compare the speed of loading and training with other libraries.

Writes Markdown tables, and JSON with every figure.

    python tools/benchmark.py loader                        a training clip, compared with pytorchvideo
    python tools/benchmark.py test                          10 x 3 test views of a video, compared with one at a time
    python tools/benchmark.py probe                         what the first start costs a video, of decoding it once
    python tools/benchmark.py memory                        resident memory over 10,000 reads in one process
    python tools/benchmark.py pages                         these four, into docs/background/benchmark-loader.md
    python tools/benchmark.py step                          a training step and inference, compared with torchvision
    python tools/benchmark.py overhead                      the time that Lightning and our callbacks add to a step
    python tools/benchmark.py upkeep                        the cost of weight averages and checkpoints
    python tools/benchmark.py duplicates --videos DIR       recall of copies that are planted among the videos
    python tools/benchmark.py decode --cfg NAME.yaml        a reader, right or wrong (ablation table c18_decode)
    python tools/benchmark.py gpu                           all about a GPU in under 10 minutes (tools/gpu_check.sh)
    python tools/benchmark.py export                        exported files, compared with the network
    python tools/benchmark.py latency                       fp32, bf16 and int8; eager, compiled, ONNX Runtime
    python tools/benchmark.py loader --videos DIR a.mp4     on your own videos
    python tools/benchmark.py loader --cfg r2plus1d_ucf101.yaml

Without --videos or --cfg, it uses the videos in the folder that VIDEORES_TEST_DATA names, or generates some.
`python tools/benchmark.py loader --help` lists the options.
"""

import importlib
import sys

from videores.runtime import cli

SUBCOMMANDS = (
    *("loader", "test", "probe", "memory", "pages", "step", "overhead", "upkeep"),
    *("duplicates", "decode", "gpu", "export", "latency"),
)
# of benchmarks/, where they are called otherwise
MODULES = {"loader": "clip_loading", "test": "view_loading", "probe": "probing"}


def main() -> int:
    parser = cli.make_parser(__doc__)
    subcommands = parser.add_subparsers(dest="what", required=True)
    modules = {}
    for name in SUBCOMMANDS:
        subparser = subcommands.add_parser(name, allow_abbrev=False)
        if name in sys.argv[1:2]:  # only the one that is called: they import torch and more
            modules[name] = importlib.import_module(f"benchmarks.{MODULES.get(name, name)}")
            subparser.description = modules[name].__doc__
            modules[name].add_arguments(subparser)
    args = parser.parse_args()
    return modules[args.what].main(args)


if __name__ == "__main__":
    cli.run(main)
