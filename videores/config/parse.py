"""Read a configuration from YAML and `key=value` overrides, and write it back.

Precedence: the defaults of schema.py < the file < the command line. A section merges, a list is replaced, an unknown
key is an error that names the nearest one, and so is a key that stands twice. Text keys are taken letter by letter, not
as the number or date that YAML sees in them. Reading the configuration that a run folder keeps gives the same again.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from videores.config.schema import Config, Section
from videores.config.shipped import find_shipped
from videores.errors import UserError, format_suggestion

CONFIG_DIR = find_shipped("configs")
MAX_YAML_VALUES = 100_000  # of a file, its aliases unfolded
MAX_SHOWN_LETTERS = 200  # of a wrong value
S = TypeVar("S", bound=Section)


class _Loader(yaml.SafeLoader):
    """Load YAML 1.1, in which 1e3 is a number, too."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), [*"-+0123456789"])


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
    values = read_yaml(path, Config)
    overrides = list(overrides)
    for override in overrides:
        apply_override(values, override, Config)
    return build_section(Config, values, path, overrides)


def read_yaml(path: Path, kind: type) -> Any:
    """Read a YAML file whose top level is a list, or the dict of a section.

    `kind` is list or the section. Raises UserError.
    """
    try:
        values = _parse_yaml(path.read_text(encoding="utf-8"), kind)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, list if kind is list else dict):
        name = "list" if kind is list else "dict"
        raise UserError(f"{path}: the top level must be a {name}, got {type(values).__name__}")
    return values


def _parse_yaml(text: str, kind: Any) -> Any:
    """Parse YAML of a type, a section or of a field. Raises YAMLError."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _mark_text(node, kind, {}) > MAX_YAML_VALUES:
            raise yaml.YAMLError(f"its aliases must unfold to <= {MAX_YAML_VALUES:,} values: write fewer")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:  # a date or number that there is not
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _mark_text(node: yaml.Node, kind: Any, counts: dict[int, int]) -> int:
    """Make text of the scalars that `kind` wants as text; return the number of values.

    `counts` are those of the nodes that were seen. Raises YAMLError for a key that stands twice.
    """
    if id(node) in counts:
        return counts[id(node)]
    counts[id(node)] = MAX_YAML_VALUES + 1  # until it is known: an alias of what it stands in has no end
    count, lines = 1, dict[Any, int]()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name, line = str(key.value), key.start_mark.line + 1
        if (first := lines.get((key.tag, name))) is not None:
            raise yaml.YAMLError(f"{name} must stand once, got it in line {first} and line {line}: drop one")
        lines[key.tag, name] = line
        kinds = _get_inner_kinds(kind, name)
        count += sum(_mark_text(part, inner, counts) for part, inner in zip((key, value), kinds, strict=True))
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        count += _mark_text(item, _get_inner_kinds(kind)[1], counts)
    if isinstance(node, yaml.ScalarNode) and _takes_text(kind) and not node.tag.endswith((":null", ":merge")):
        node.tag = "tag:yaml.org,2002:str"
    counts[id(node)] = count
    return count


def _list_alternatives(kind: Any) -> list[Any]:
    """Return the types of a union, without what annotates them."""
    if get_origin(kind) is Annotated:
        return _list_alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [alternative for one in get_args(kind) for alternative in _list_alternatives(one)]
    return [kind]


def _takes_text(kind: Any) -> bool:
    alternatives = _list_alternatives(kind)
    return str in alternatives and not any(number in alternatives for number in (int, float, bool))


def _get_inner_kinds(kind: Any, name: str | None = None) -> tuple[Any, Any]:
    """Return the types of the key `name` and its value, or, without a name, of a list's item."""
    for one in _list_alternatives(kind):
        if _is_section(one):
            return Any, one.model_fields[name].annotation if name in one.model_fields else Any
        if get_origin(one) is dict and name is not None:
            return get_args(one)
        if get_origin(one) is tuple and name is None:
            return Any, get_args(one)[0]
    return Any, Any


def apply_override(values: dict[str, Any], override: str, kind: Any = Any) -> None:
    """Set `a.b=value` in a tree of dicts, of a section `kind`. Raises UserError.

    A text is taken letter by letter, but for null and quotes around it; another value is read as YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise UserError(f"override {override!r} must be section.key=value, e.g. train.epochs=10")
    if not text.strip():
        raise UserError(f"override {override!r} needs a value: write {key}=null for none")
    *sections, last = key.split(".")
    for section in sections:
        values, kind = values.setdefault(section, {}), _get_inner_kinds(kind, section)[1]
        if not isinstance(values, dict):
            raise UserError(f"override {override}: {section} must be a section, and is a value")
    kind = _get_inner_kinds(kind, last)[1]
    if set(_list_alternatives(kind)) <= {str, NoneType} and not re.fullmatch(r"""(['"]).*\1""", text, re.DOTALL):
        values[last] = None if text == "null" else text
        return
    try:
        values[last] = _parse_yaml(text, kind)
    except yaml.YAMLError as error:
        raise UserError(f"override {_shorten(override)}: the value must be valid YAML: {error}") from None


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
    got = f", got {_shorten(repr(value))}" * (not isinstance(value, dict))
    if kind == "tuple_type":
        return f"{key}: must be a list" + f", e.g. {key}=[{value}]" * isinstance(value, str) + got
    return f"{key}: {mistake['msg'].removeprefix('Value error, ')}{got}"


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_LETTERS else f"{text[:MAX_SHOWN_LETTERS]}..."


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
