"""Load parts of a run that are not of this package, by import path: `my_package.nets:make`.

One mechanism for networks, list formats, augmentations and metrics; docs/guide/own-parts.md has their signatures.
Importing runs code. So nothing here is called where only results are read, as for a report.
"""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import TypedDict

from videores.config.schema import IMPORT_PATH, Config
from videores.errors import UserError, format_suggestion


class OwnPart(TypedDict):
    """Where the code of an own part is from, for env.json."""

    path: str  # the import path
    file: str | None
    package: str | None  # name and version where pip installed it under its name; None: e.g. a folder on PYTHONPATH
    sha256: str  # of all Python files of its package, or of a module that is in none


def is_import_path(name: str) -> bool:
    """Return whether a name is an import path: no name of this package has a colon."""
    return ":" in name


def call_part(key: str, path: str, **arguments: Any) -> Any:
    """Call what the import path of a configuration key names, with keyword arguments.

    Raises UserError where it is not there or does not take them.
    """
    part = _load_part(key, path)
    try:
        inspect.signature(part).bind(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{key}={path} must take {', '.join(f'{name}=' for name in arguments)}: {error} "
            f"(docs/guide/own-parts.md; {_find_file(part) or 'a built-in'})"
        ) from None
    return part(**arguments)


def _load_part(key: str, path: str) -> Callable[..., Any]:
    """Import `package.module:name`. An error of the code itself keeps its traceback."""
    if not IMPORT_PATH.fullmatch(path):
        raise UserError(f"{key}={path} must be an import path, package.module:name")
    name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports one that is not
        raise UserError(
            f"{key}={path}: there is no module {error.name}: install the package, or put the folder that it is in on "
            "PYTHONPATH"
        ) from None
    if not callable(part := getattr(module, attribute, None)):
        hint = format_suggestion(attribute, [other for other in vars(module) if not other.startswith("_")])
        raise UserError(f"{key}={path}: {_find_file(module) or name} has no function or class {attribute}{hint}")
    return part


def _find_file(part: Any) -> str | None:
    try:
        return inspect.getsourcefile(part)
    except TypeError:  # built in, or an object
        return getattr(inspect.getmodule(part), "__file__", None)


def list_import_paths(cfg: Config) -> dict[str, str]:
    """Return {key: import path} of the own parts that a configuration names."""
    names = {"data.format": cfg.data.format, "model.name": cfg.model.name, "data.augment.own": cfg.data.augment.own}
    for part in ("val", "test"):
        names |= {f"{part}.metrics[{n}]": path for n, path in enumerate(getattr(cfg, part).metrics)}
    return {key: path for key, path in names.items() if path and is_import_path(path)}


def identify_parts(cfg: Config) -> dict[str, OwnPart]:
    """Import the own parts of a configuration; return where each is from, by key.

    Raises UserError for a part that is not there.
    """
    return {key: _identify_part(key, path) for key, path in list_import_paths(cfg).items()}


def _identify_part(key: str, path: str) -> OwnPart:
    _load_part(key, path)
    name = path.partition(":")[0]
    package = name.partition(".")[0]
    return OwnPart(
        path=path,
        file=getattr(sys.modules[name], "__file__", None),
        package=_find_version(package),
        sha256=_hash_files(sys.modules[package]),
    )


def _find_version(package: str) -> str | None:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return None


def _hash_files(package: ModuleType) -> str:
    """Return a hash of the Python files of a top-level package, or of the file of a module that is in none."""
    folders = [Path(folder) for folder in getattr(package, "__path__", [])]
    files = [(path.relative_to(folder).as_posix(), path) for folder in folders for path in folder.rglob("*.py")]
    if not folders and (file := getattr(package, "__file__", None)):
        files = [("", Path(file))]
    digest = hashlib.sha256()
    for name, path in sorted(files):
        digest.update(f"{name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def format_part(key: str, part: OwnPart) -> str:
    """Format where the code of an own part is from."""
    return f"{key}={part['path']} is {part['package'] or 'code'} of {part['file']}, sha256 {part['sha256']}"
