"""The source of the package: its modules and what they import."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "videores"


def module_files():
    """Dotted name -> path, of every module; a package is its __init__.py."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in files.items()}


MODULES = module_files()


def package(module):
    """videores.data.probe -> data"""
    return ([*module.split("."), ""])[1]


def imports(path):
    """Dotted names of everything a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def import_roots(path):
    return {name.split(".")[0] for name in imports(path)}


def own_imports(module):
    """Our modules that a module imports."""
    for name in imports(MODULES[module]):
        while name.startswith("videores.") and name not in MODULES:
            name = name.rpartition(".")[0]
        if name.startswith("videores."):
            yield name
