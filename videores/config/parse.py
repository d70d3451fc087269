"""Read a configuration from YAML and `key=value` overrides, and write it back.

Precedence: the defaults of schema.py < the file < the command line. A section merges, a list is replaced, an unknown
key is an error that names the nearest one. Reading the configuration that a run folder keeps gives the same again.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import ValidationError

from videores.config.schema import Config, Section
from videores.errors import UserError, format_suggestion

CONFIG_DIR = Path(__file__).parents[2] / "configs"
S = TypeVar("S", bound=Section)


def load_config(name: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Load a YAML file, a path or a name in configs/, with `key=value` overrides.

    The suffix .yaml may be left out. Raises UserError, which names every wrong key.
    """
    files = (Path(name), Path(f"{name}.yaml"))
    path = next((path for path in (*files, *(CONFIG_DIR / file for file in files)) if path.is_file()), None)
    if path is None:
        names = sorted(p.name for p in CONFIG_DIR.glob("*.yaml"))
        hint = format_suggestion(Path(name).name, names)
        raise UserError(f"no configuration file {name}{hint}; configs/ has {', '.join(names)}")
    values = read_yaml(path)
    overrides = list(overrides)
    for override in overrides:
        apply_override(values, override)
    return build_section(Config, values, path, overrides)


def read_yaml(path: Path, kind: type = dict) -> Any:
    """Read a YAML file whose top level is a dict or, as `kind`, a list.

    Raises UserError.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, kind):
        raise UserError(f"{path}: the top level must be a {kind.__name__}, got {type(values).__name__}")
    return values


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set `a.b=value` in a tree of dicts; the value is read as YAML. Raises UserError."""
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise UserError(f"override {override!r} must be section.key=value, e.g. train.epochs=10")
    if not text.strip():
        raise UserError(f"override {override!r} needs a value: write {key}=null for none")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"override {override}: {section} must be a section, and is a value")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"override {override}: the value must be valid YAML: {error}") from None


def build_config(values: dict[str, Any], where: Path | str) -> Config:
    """Build a configuration from a tree of dicts; UserErrors name its source, `where`."""
    return build_section(Config, values, where)


def build_section(model: type[S], values: Any, where: Path | str, overrides: Sequence[str] = ()) -> S:
    """Build a section from a tree of dicts that `where` names.

    Raises UserError with a line per wrong key, below its source: `where`, or the command line for keys of `overrides`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines: dict[str, list[str]] = {}
        for mistake in error.errors():
            line = _format_mistake(mistake, model)
            is_override = any(override.partition("=")[0] in line for override in overrides)
            lines.setdefault("command line" if is_override else str(where), []).append(f"  {line}")
        raise UserError("\n".join(f"{source}:\n" + "\n".join(lines[source]) for source in lines)) from None


def _format_mistake(mistake: Any, model: type[Section]) -> str:
    """Format a mistake that pydantic found in a section as `key: constraint, got value`.

    An unknown key gets the nearest one of its section and those of the same name in other sections.
    """
    kind, location, value = mistake["type"], mistake["loc"], mistake["input"]
    keys, section = _resolve_location(model, location)
    key = ".".join(keys)
    if kind == "contradiction":  # its message names the keys
        return mistake["msg"]
    if kind == "extra_forbidden":
        choices, where = list(section.model_fields), ".".join(keys[:-1]) or "the top level"
        others = [other for other in _list_keys(model) if other.rpartition(".")[2] == keys[-1]]
        return f"{key}: unknown key{format_suggestion(keys[-1], choices, others)}; {where} has {', '.join(choices)}"
    if kind == "missing":
        return f"{key}: too few values, got {value!r}" if isinstance(location[-1], int) else f"{key}: missing"
    return f"{key}: {mistake['msg'].removeprefix('Value error, ')}" + f", got {value!r}" * (not isinstance(value, dict))


def _resolve_location(model: type[Section], location: Sequence[str | int]) -> tuple[list[str], type[Section]]:
    """Return the keys of an error's location and the section there.

    pydantic's locations also have the types that it tried, after the last key.
    """
    kind: Any = model
    keys, section = [], model
    for part in location:
        keys.append(str(part))
        if get_origin(kind):  # a list or dict of sections, of which this is an index or key
            kind = next(inner for inner in get_args(kind) if _is_section(inner))
            continue
        section, field = kind, kind.model_fields.get(str(part))
        if field is None or not any(map(_is_section, (field.annotation, *get_args(field.annotation)))):
            break
        kind = field.annotation
    return keys, section


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and not get_origin(kind) and issubclass(kind, Section)


def _list_keys(model: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys that have values."""
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if _is_section(kind):
            yield from _list_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def dump_config(config: Config) -> dict[str, Any]:
    """Return a configuration as primitives, for YAML, JSON and checkpoints."""
    return config.model_dump(mode="json")


def to_yaml(config: Config) -> str:
    """Format a configuration as YAML that load_config reads back equal."""
    return yaml.safe_dump(dump_config(config), sort_keys=False)
