"""What crosses packages is typed and explained: every function and class that another package or a tool uses."""

import ast

import pytest
from helpers.source import MODULES, ROOT, package

TOOLS = {f"tools.{path.stem}": path for path in (ROOT / "tools").rglob("*.py")}
TREES = {name: ast.parse(path.read_text()) for name, path in {**MODULES, **TOOLS}.items()}


def bindings(tree):
    """Local name -> dotted name, of everything of ours that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("videores"):
            yield from ((name.asname or name.name, f"{node.module}.{name.name}") for name in node.names)


def used(tree):
    """Dotted names of ours that a file uses: imported ones, and attributes of imported modules."""
    local = dict(bindings(tree))
    yield from local.values()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in local:
            yield f"{local[node.value.id]}.{node.attr}"


def interface():
    """Dotted name -> definition, of what is used from another package."""
    definitions = {
        f"{module}.{node.name}": node
        for module in MODULES
        for node in TREES[module].body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    home = lambda module: package(module) if module.startswith("videores.") else module
    names = {
        name
        for module, tree in TREES.items()
        for name in used(tree)
        if name in definitions and home(name.rpartition(".")[0]) != home(module)
    }
    return {name: definitions[name] for name in sorted(names)}


INTERFACE = interface()


def functions(node):
    if isinstance(node, ast.FunctionDef):
        return [node]
    return [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]


def untyped(function):
    args = function.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
    missing = [arg.arg for arg in every if arg.annotation is None and arg.arg not in ("self", "cls")]
    return missing + (["return"] if function.returns is None and function.name != "__init__" else [])


def test_arguments_and_results_are_typed():
    wrong = {name: untyped(function) for name, node in INTERFACE.items() for function in functions(node)}
    assert {name: missing for name, missing in wrong.items() if missing} == {}


def test_every_function_has_a_docstring_whose_first_line_is_short():
    docs = {name: ast.get_docstring(node) or "" for name, node in INTERFACE.items()}
    assert [name for name, doc in docs.items() if not doc or len(doc.splitlines()[0]) > 80] == []


def test_names_with_an_underscore_stay_in_their_file():
    private = lambda name: any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    assert [(module, name) for module, tree in TREES.items() for name in used(tree) if private(name)] == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_say_what_they_are(module):
    assert (ast.get_docstring(TREES[module]) or "").splitlines()
