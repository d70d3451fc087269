"""The order in which the package is built: imports go one way, and only data/video opens video files."""

import subprocess
import sys

import pytest
from helpers.source import MODULES, PACKAGE, ROOT, import_roots, imports, own_imports, package

# Each may import those above it. `data` and `models` do not know each other.
PACKAGES = [
    "errors",
    "config",
    "runtime",
    "data",
    "models",
    "evaluation",
    "compute",
    "training",
    "inference",
    "explain",
    "compress",
    "reporting",
    "run",
    "diagnostics",
    "ablation",
]
DATA = [  # within data, in the order of the data's way
    "lists",
    "shards",
    "video",
    "synthetic",
    "formats",
    "mirroring",
    "splits",
    "index",
    "probe",
    "manifest",
    "sampling",
    "decode",
    "prepare",
    "thumbnails",
    "transforms",
    "audio",
    "streams",
    "augment",
    "mixing",
    "corruptions",
    "views",
    "cache",
    "samplers",
    "dataset",
    "workers",
    "datamodule",
]
DECODERS = {"av", "decord", "torchcodec"}


IMPORTS = {module: sorted(set(own_imports(module))) for module in MODULES}


def upward(order, part, modules):
    """(importer, imported) where a module imports what stands below it in `order`."""
    return [
        (module, other)
        for module in modules
        for other in IMPORTS[module]
        if part(other) in order and order.index(part(other)) > order.index(part(module))
    ]


def test_every_module_has_its_place():
    assert {package(name) for name in MODULES if name != "videores"} == set(PACKAGES)
    assert {name.split(".")[2] for name in MODULES if name.startswith("videores.data.")} == set(DATA)


def test_imports_go_one_way():
    assert upward(PACKAGES, package, [name for name in MODULES if name != "videores"]) == []


def test_imports_within_data_go_one_way():
    modules = [name for name in MODULES if name.startswith("videores.data.")]
    part = lambda name: [*name.split("."), ""][2] if package(name) == "data" else ""
    assert upward(DATA, part, modules) == []


def test_models_and_data_do_not_know_each_other():
    wrong = {("data", "models"), ("models", "data")}
    assert [
        (name, o)
        for name in MODULES
        if name != "videores"
        for o in IMPORTS[name]
        if (package(name), package(o)) in wrong
    ] == []


def test_nothing_imports_the_tools():
    assert [
        name for name, path in MODULES.items() if {"tools", "benchmarks"} & {n.split(".")[0] for n in imports(path)}
    ] == []


def test_imports_have_no_cycle():
    waiting = {name: set(others) - {name} for name, others in IMPORTS.items()}
    while ready := {name for name, others in waiting.items() if not others & waiting.keys()}:
        waiting = {name: others for name, others in waiting.items() if name not in ready}
    assert waiting == {}


def test_only_data_video_opens_video_files():
    paths = {
        **MODULES,
        **{path.stem: path for path in (ROOT / "tools").rglob("*.py") if path.stem != "peers"},
    }  # as others read
    users = {name: {other.split(".")[0] for other in imports(path)} & DECODERS for name, path in paths.items()}
    users = {name: decoders for name, decoders in users.items() if decoders}
    assert [name for name in users if not name.startswith("videores.data.video.")] == []
    assert [name for name, decoders in users.items() if decoders != {"av"}] == ["videores.data.video.readers"]


def test_lightning_is_imported_under_its_new_name_only():
    old = {"pytorch_lightning", "lightning_fabric"}
    assert [name for name, path in MODULES.items() if old & import_roots(path)] == []


def test_few_modules_lie_directly_in_the_package():
    assert len(list(PACKAGE.glob("*.py"))) <= 6


@pytest.mark.parametrize("module", ["videores.config.parse", "videores.runtime.cli", "videores.data.probe"])
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; sys.exit(' '.join({{'torch', 'lightning', 'matplotlib'}} & set(sys.modules)) or 0)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
