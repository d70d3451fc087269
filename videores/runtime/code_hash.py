"""Hash the code of this package that can change a result: the version of what computed it."""

import ast
import functools
import hashlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# and run.py, which joins them, but what floors alone are of: no network is in them
RESULT_CODE = ("config", "data", "models", "evaluation", "compute", "training", "compress")
FLOOR_CODE = ("data/thumbnails.py", "evaluation/floors.py")


@functools.cache
def hash_code() -> str:
    """Hash this package as it is at the first call, which takes a third of a second."""
    return hash_package(PACKAGE)


def hash_package(package: Path) -> str:
    """Hash the statements of RESULT_CODE and run.py, which can change a result of a network.

    Comments, docstrings and layout do not count, nor does what FLOOR_CODE says.
    """
    paths = [path for name in RESULT_CODE for path in (package / name).rglob("*.py")] + [package / "run.py"]
    paths = [path for path in paths if path not in {package / name for name in FLOOR_CODE}]
    digest = hashlib.sha256()
    for path in sorted(paths):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
        digest.update(str(path.relative_to(package)).encode() + ast.unparse(tree).encode())
    return digest.hexdigest()[:16]
