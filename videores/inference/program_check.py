"""Check that a file of torch.export holds a network and nothing else, before torch reads it.

`torch.export.load` of torch 2.14 unpickles whatever a file marks as pickled, evaluates its symbolic sizes and guards
as Python, and calls any function of torch that a graph names. So all of these are held to what the networks' programs
consist of: operators of `aten`, arithmetic on sizes, tensors stored as they are.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videores.errors import UserError

_MEMBER = re.compile(
    r"data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json)"
    r"|sample_inputs/model\.pt)|models/model\.json|extra/[\w.]+|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)"
)
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file)\w+\.\w+|torch\.ops\.higher_order\.wrap_with_(autocast|set_grad_enabled)"
    r"|torch\.sym_(min|max)|_operator\.(add|sub|mul|floordiv|mod|neg|eq|ne|lt|le|gt|ge|getitem)"
)
_WORDS = (
    r"Symbol|Integer|Add|Mul|Pow|FloorDiv|PythonMod|Mod|Min|Max|True|False|positive|nonnegative|integer|[su]\d+"
    r"|L|size|torch\.sym_(?:min|max)|frames_BTHWC|clips_BCTHW|and|or|not"
)
_EXPRESSION = re.compile(rf"(?:(?:{_WORDS})\b|\.size\b|\b\d+\b|[\s()\[\],'=<>!+*/%-])*")
_TREE = re.compile(r'(?:"(?:type|context|children_spec|null|\[\]|builtins\.(?:tuple|list|dict))"|null|[\[\]{}:,\s\d])*')
_ALLOWED = {  # key of a program -> what its text may be
    **dict.fromkeys(("target", "as_operator"), _OPERATOR),
    **dict.fromkeys(("expr_str", "guards_code"), _EXPRESSION),
    **dict.fromkeys(("in_spec", "out_spec"), _TREE),
}


def check_program(path: str | Path) -> None:
    """Raise UserError where a .pt2 file could do anything but compute a network."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.testzip() or _find_code(archive)
    except FileNotFoundError:
        raise UserError(f"there is no exported file {path}") from None
    except (zipfile.BadZipFile, LookupError, ValueError, TypeError, EOFError, NotImplementedError) as error:
        raise UserError(f"{path} is damaged, or no file of tools/export.py --format pt2: {error}") from None
    if found:
        raise UserError(
            f"{path} must hold a network of tools/export.py and nothing that could run as code, or is damaged, got "
            f"{found[:100]!r}: export the network again"
        )


def _find_code(archive: zipfile.ZipFile) -> str | None:
    """Return the first thing that is none of a network's, or None."""
    members = [name.partition("/")[2] for name in archive.namelist()]
    repeated = {name for name in members if members.count(name) > 1}  # of which torch would read another one than we
    unknown = (name for name in members if name in repeated or not _MEMBER.fullmatch(name))
    if name := next(unknown, None):
        return name
    read = lambda name: archive.read(f"{archive.namelist()[0].partition('/')[0]}/{name}")
    for kind in ("weights", "constants"):
        entries = json.loads(read(f"data/{kind}/model_{kind}_config.json"))["config"]
        if name := next((name for name, entry in entries.items() if entry["use_pickle"] is not False), None):
            return name
    if read("data/sample_inputs/model.pt"):
        return "data/sample_inputs/model.pt"
    return next(_list_code(json.loads(read("models/model.json"))), None)


def _list_code(value: Any, key: str = "") -> Iterator[str]:
    """Yield the texts that torch would run and that are none of a network's, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _list_code(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _list_code(inner, key)
    elif isinstance(value, str) and key in _ALLOWED and not _ALLOWED[key].fullmatch(value):
        yield value
