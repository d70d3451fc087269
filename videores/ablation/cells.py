"""Locate and run one cell on disk: its folder, command, state and code hash.

Every training is an ordinary run.

results/runs/<key>/ is a run folder, <key>.json beside it the record of who computed it, <key>.log its output.
"""

from pathlib import Path

from videores.ablation.plan import RUNS
from videores.config import parse
from videores.config.schema import ModelConfig
from videores.config.shipped import find_shipped
from videores.evaluation.protocol import format_protocol, slugify
from videores.models.weights.safetensors import read_safetensors
from videores.reporting.results import CellRecord, read_cell_record
from videores.runtime import files
from videores.runtime.code_hash import hash_code
from videores.runtime.environment import read_git_state
from videores.training import run_folder

TOOLS = find_shipped("tools")
PROBE_OPTIONS = ("--severities", "1,3,5", "--videos", "128")
PROBE_PARTS = ("orders", "corruptions", "responses", "maps")


def cell_folder(cell):
    return RUNS / cell.key


def log_path(cell):
    return RUNS / f"{cell.key}.log"


def build_command(cell):
    """Return the command of a cell, as a user would type it."""
    if cell.kind == "train":
        options = [
            *cell.overrides,
            f"run.seed={cell.config.run.seed}",
            f"run.dir={cell_folder(cell)}",
            "run.resume=auto",
        ]
        return [str(TOOLS / "train.py"), "--cfg", cell.base, *options]
    if cell.kind == "probe":
        options = [*cell.overrides[len(cell.needs.overrides) :], *PROBE_OPTIONS, "--out", str(cell_folder(cell))]
        return [str(TOOLS / "probe.py"), "--run", str(cell_folder(cell.needs)), *options]
    if cell.kind == "compress":
        out = compressed_path(cell) if cell.quantises else cell_folder(cell)
        options = [*cell.command.split(), "--run", str(cell_folder(cell.needs)), "--out", str(out)]
        return [str(TOOLS / "compress.py"), *options, *cell.overrides[len(cell.needs.overrides) :], "run.resume=auto"]
    if cell.kind == "decode":
        options = [f"run.seed={cell.config.run.seed}", "--out", str(decode_path(cell))]
        return [str(TOOLS / "benchmark.py"), "decode", "--cfg", cell.base, *cell.overrides, *options]
    if cell.kind == "fuse":
        options = [*map(str, map(test_folder, cell.members)), *(cell.command or "").split()]
        return [str(TOOLS / "evaluate.py"), "--scores", *options, "--out", str(test_folder(cell))]
    return [
        str(TOOLS / "evaluate.py"),
        "--run",
        str(cell_folder(cell)),
        "--checkpoint",
        str(run_folder.find_best_checkpoint(cell_folder(cell.needs))),
    ]


def list_preparations(cell):
    """Return the commands that must run first: tests on the validation videos on which weights are found."""
    if "val" not in (cell.command or "").split():
        return []
    without = [one for one in cell.members if not any(cell_folder(one).glob("val/*/predictions.npz"))]
    views = lambda one: (f"val.clips={one.config.test.clips}", f"val.crops={one.config.test.crops}")
    return [
        [str(TOOLS / "evaluate.py"), "--run", str(cell_folder(one)), "--part", "val", *views(one)] for one in without
    ]


def decode_path(cell):
    """Return where the benchmark of reading writes its result."""
    return cell_folder(cell) / "decode.json"


def probe_paths(cell):
    """Return where a probe writes its parts."""
    return {part: cell_folder(cell) / f"{part}.json" for part in PROBE_PARTS}


def compressed_path(cell):
    """Return the file of a compressed network: safetensors of one that was pruned, which say its channels, or ONNX."""
    return RUNS / f"{cell.key}.{'onnx' if cell.quantises else 'safetensors'}"


def _read_pruned(cell):
    """Return what the file of a pruned network says, or {}; one in integers is that which it needs."""
    if cell.quantises:
        return _read_pruned(cell.needs)
    return read_safetensors(compressed_path(cell))[1] if cell.prunes and compressed_path(cell).exists() else {}


def read_network(cell):
    """Return the keys of a cell's network; those of one that was pruned are in its file."""
    about = _read_pruned(cell)
    return parse.build_section(ModelConfig, about["model"], cell.key) if about else cell.config.model


def count_zeros(cell):
    """Return how many weights of a pruned network are zero."""
    return _read_pruned(cell).get("pruning", {}).get("zeros", 0)


def prepare_cell(cell):
    """Write what must be there before the command runs.

    That is the record, and for a test the configuration under which it tests.
    """
    RUNS.mkdir(parents=True, exist_ok=True)
    files.write_json(
        RUNS / f"{cell.key}.json", {"row": cell.row, "seed": cell.seed, "code": hash_code(), **read_commit()}
    )
    if cell.kind == "test":
        cell_folder(cell).mkdir(exist_ok=True)
        files.write_text(cell_folder(cell) / "config.yaml", parse.to_yaml(cell.config))


def test_folder(cell):
    """Return the test folder of a cell; a probe tests in the run folder."""
    if cell.quantises:
        return Path(f"{compressed_path(cell)}.results") / "test" / slugify(format_protocol(cell.config))
    if cell.kind == "fuse":
        return cell_folder(cell) / "test" / "fused"
    return cell_folder(cell.needs if cell.kind == "probe" else cell) / "test" / slugify(format_protocol(cell.config))


def is_done(cell):
    """Return whether there is a result.

    A cell that is only counted or rescored has nothing to run.
    """
    if cell.kind == "measure" or cell.rescored:
        return True
    if cell.kind == "decode":
        return decode_path(cell).exists()
    if cell.kind == "probe":
        return all(path.exists() for path in probe_paths(cell).values())
    if not (test_folder(cell) / "metrics.json").exists():
        return False
    return not cell.trains or read_environment(cell).get("exit_status") in (0, 1)


def read_environment(cell):
    return run_folder.read_record(cell_folder(cell)) or {}


def read_record(cell) -> CellRecord | None:
    """Return who computed a cell, or None. Raises UserError for a damaged record."""
    try:
        return read_cell_record(cell_folder(cell))
    except FileNotFoundError:
        return None


def read_error(cell):
    """Return in a line why a cell has no result.

    It is None where it has one, or was never begun.
    """
    if is_done(cell) or read_record(cell) is None:
        return None
    if error := read_environment(cell).get("error"):
        return error.splitlines()[0]
    lines = log_path(cell).read_text(errors="replace").strip().splitlines() if log_path(cell).exists() else []
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it left no message"])[-1]


def read_commit():
    git = read_git_state() or {"commit": None, "dirty": None}
    return {"commit": git["commit"], "dirty": git["dirty"]}
