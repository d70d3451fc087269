"""The order in which the package is built: imports go one way, and only one module reads video."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "videores"

# Each layer may import those above it, and within itself what is listed for data.
LAYERS = [
    ["errors", "config", "launch", "slurm", "html", "stopping", "machine"],
    ["cli", "configfile", "checkpoint"],
    ["data", "models"],
    [
        "optim",
        "losses",
        "freezing",
        "precision",
        "checkpoint_io",
        "positions",
        "evaluation",
        "scores",
        "subset",
        "contact",
        "cost",
        "summary",
        "protocol",
    ],
    ["gradients", "autotune"],
    ["task", "offline", "failures", "resuming"],
    ["callbacks", "reports", "runfolder", "export", "browse", "distillation"],
    ["trainer", "results", "complexity"],
    ["experiment", "rescoring", "report", "lr_finder"],
    ["benchmark", "doctor", "ablation"],
]
DATA = [
    "encode",
    "sprites",
    "motion",
    "lists",
    "formats",
    "index",
    "guard",
    "readers",
    "probe",
    "reencode",
    "survey",
    "prepare",
    "stratified",
    "sampling",
    "decode",
    "transforms",
    "augment",
    "mixing",
    "corruptions",
    "views",
    "shm",
    "dataset",
    "workers",
    "datamodule",
]
DECODERS = {"av", "decord", "torchcodec"}


def modules():
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def imports(path):
    """Dotted names of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def own_imports(path):
    """Our modules that a file imports."""
    known = modules()
    for name in imports(path):
        while name.startswith("videores.") and name not in known and f"{name}.__init__" not in known:
            name = name.rpartition(".")[0]
        if name.startswith("videores."):
            yield name.removesuffix(".__init__")


def part(module):
    return module.split(".")[1]


def layer(module):
    return next((i for i, names in enumerate(LAYERS) if part(module) in names), None)


MODULES = sorted(name for name in modules() if name != "videores.__init__")


def test_every_module_has_its_layer():
    assert [name for name in MODULES if layer(name) is None] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    for other in own_imports(modules()[module]):
        same_package = part(other) == part(module)
        assert same_package or layer(other) <= layer(module), f"{module} imports {other}"
        if layer(other) == layer(module) and not same_package:
            assert part(other) == "errors" or layer(module) > 2, f"{module} imports {other}"


@pytest.mark.parametrize("name", DATA)
def test_imports_within_data_go_one_way(name):
    others = [other.split(".")[2] for other in own_imports(PACKAGE / "data" / f"{name}.py") if part(other) == "data"]
    assert [other for other in others if DATA.index(other) >= DATA.index(name)] == []


def test_data_has_no_module_that_is_not_in_the_order():
    assert {path.stem for path in (PACKAGE / "data").glob("*.py")} - {"__init__"} <= set(DATA)


@pytest.mark.parametrize("name", ["errors.py", "config.py"])
def test_errors_and_config_import_nothing_of_ours(name):
    assert list(own_imports(PACKAGE / name)) == []


def test_models_and_data_do_not_know_each_other():
    for one, other in (("data", "models"), ("models", "data")):
        for path in (PACKAGE / one).rglob("*.py"):
            assert other not in {part(name) for name in own_imports(path)}, path


@pytest.mark.parametrize("module", sorted(modules()))
def test_nothing_imports_the_tools(module):
    assert not [name for name in imports(modules()[module]) if name.split(".")[0] == "tools"]


def test_imports_have_no_circle():
    waiting = {name.removesuffix(".__init__"): set(own_imports(path)) for name, path in modules().items()}
    waiting = {name: others & waiting.keys() - {name} for name, others in waiting.items()}
    while ready := {name for name, others in waiting.items() if not others & waiting.keys()}:
        waiting = {name: others for name, others in waiting.items() if name not in ready}
    assert waiting == {}


def test_only_readers_reads_video_and_only_encode_writes_it():
    users = {
        name: {other.split(".")[0] for other in imports(path)} & DECODERS
        for name, path in {**modules(), **{p.stem: p for p in (ROOT / "tools").glob("*.py")}}.items()
    }
    users = {name: found for name, found in users.items() if found}
    assert set(users) <= {"videores.data.video.readers", "videores.data.video.encode", "benchmarks.peers"}  # as others read
    assert users.get("videores.data.video.encode", {"av"}) == {"av"}


def test_lightning_is_imported_under_its_new_name_only():
    for path in modules().values():
        assert not [name for name in imports(path) if name.split(".")[0] in ("pytorch_lightning", "lightning_fabric")]


@pytest.mark.parametrize("module", ["videores.config.parse", "videores.runtime.cli", "videores.data.probe"])
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; sys.exit(' '.join({{'torch', 'lightning', 'matplotlib'}} & set(sys.modules)) or 0)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
