"""One cell on disk: its folder, the command that fills it, and whether that is done. Every training is an ordinary run.

results/runs/<key>/ is a run folder, <key>.json beside it the record of who computed it, <key>.log its output.
"""

import ast
import hashlib
import json
from pathlib import Path

from videores.ablation.plan import RUNS
from videores.config import parse
from videores.evaluation.protocol import protocol_of, slug
from videores.runtime import environment as environment_module
from videores.runtime import files
from videores.training import run_folder

TOOLS = Path(__file__).parents[2] / "tools"
PACKAGE = Path(__file__).parents[1]
RESULT_CODE = ("config", "data", "models", "evaluation", "compute", "training")  # and run.py, which joins them


def folder(cell):
    return RUNS / cell.key


def log(cell):
    return RUNS / f"{cell.key}.log"


def command(cell):
    """What computes the cell, as a user would type it."""
    if cell.kind == "train":
        options = [*cell.overrides, f"run.seed={cell.seed}", f"run.dir={folder(cell)}", "run.resume=auto"]
        return [str(TOOLS / "train.py"), "--cfg", cell.base, *options]
    return [
        str(TOOLS / "evaluate.py"),
        "--run",
        str(folder(cell)),
        "--checkpoint",
        str(run_folder.find_best_checkpoint(folder(cell.needs))),
    ]


def prepare(cell):
    """What must be there before the command runs: the record, and for a test the configuration under which it tests."""
    RUNS.mkdir(parents=True, exist_ok=True)
    write_json(RUNS / f"{cell.key}.json", {"row": cell.row, "seed": cell.seed, "code": code(), **commit()})
    if cell.kind == "test":
        folder(cell).mkdir(exist_ok=True)
        files.write_text(folder(cell) / "config.yaml", parse.to_yaml(cell.config))


def tested(cell):
    """The test folder of a cell."""
    return folder(cell) / "test" / slug(protocol_of(cell.config))


def is_done(cell):
    """Whether there is a result; a cell that is only counted or rescored has nothing to run."""
    if cell.kind == "measure" or cell.rescored:
        return True
    if not (tested(cell) / "metrics.json").exists():
        return False
    return cell.kind == "test" or environment(cell).get("exit_status") in (0, 1)


def environment(cell):
    path = folder(cell) / "env.json"
    return json.loads(path.read_text()) if path.exists() else {}


def record(cell):
    path = RUNS / f"{cell.key}.json"
    return json.loads(path.read_text()) if path.exists() else None


def error(cell):
    """Why a cell has no result, in a line; None where it has one, or was never begun."""
    if is_done(cell) or record(cell) is None:
        return None
    if said := environment(cell).get("error"):
        return said.splitlines()[0]
    lines = log(cell).read_text(errors="replace").strip().splitlines() if log(cell).exists() else []
    named = [line for line in lines if "error" in line.lower()]
    return (named or lines or ["it left no message"])[-1]


def write_json(path, values):
    files.write_text(path, json.dumps(values, indent=1) + "\n")


# The code


def code(package=PACKAGE):
    """Hash the statements that can change a result: those of RESULT_CODE, without comments, docstrings and layout."""
    paths = [path for name in RESULT_CODE for path in (package / name).rglob("*.py")] + [package / "run.py"]
    digest = hashlib.sha256()
    for path in sorted(paths):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
        digest.update(str(path.relative_to(package)).encode() + ast.unparse(tree).encode())
    return digest.hexdigest()[:16]


def commit():
    git = environment_module.read_git_state() or {"commit": None, "dirty": None}
    return {"commit": git["commit"], "dirty": git["dirty"]}
