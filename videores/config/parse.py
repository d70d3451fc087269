"""A configuration from one YAML file and dotted `key=value` overrides, and back.

Precedence: the defaults of config.py < the file < the command line. A section merges, a list is replaced, an unknown
key is an error that names the nearest known one. The resolved configuration is written into the run folder; reading
that file back gives the same configuration.
"""

import inspect
import re
from pathlib import Path
from typing import get_origin

import yaml
from pydantic import ValidationError

from videores.config.schema import Config, Section
from videores.errors import UserError, format_suggestion

CONFIG_DIR = Path(__file__).parents[2] / "configs"


def load_config(name, overrides=()):
    """The configuration in a YAML file, a path or a name in configs/, with `key=value` overrides. Raises UserError."""
    path = find_config_file(name)
    values = read_yaml(path)
    for override in overrides:
        apply_override(values, override)
    return build_config(values, path)


def find_config_file(name):
    for path in (Path(name), CONFIG_DIR / name):
        if path.is_file():
            return path
    shipped = sorted(p.name for p in CONFIG_DIR.glob("*.yaml"))
    raise UserError(
        f"no configuration file {name}{format_suggestion(Path(name).name, shipped)}; configs/ has {', '.join(shipped)}"
    )


def read_yaml(path):
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections such as data:, model: and train:, found {type(values).__name__}")
    return values


def apply_override(values, override):
    """Sets `a.b=value` in a tree of dicts; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise UserError(f"cannot read the override {override!r}: write section.key=value, e.g. train.epochs=10")
    if not text.strip():
        raise UserError(f"{override!r} has no value: write {key}=null for none")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{override}: {section} is a value, not a section")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{override}: the value is not valid YAML: {error}") from None


def build_config(values, where):
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(
            "\n".join([f"{where}:", *(f"  {format_validation_error(e)}" for e in error.errors())])
        ) from None


def format_validation_error(error):
    """One pydantic error as `key: what is wrong`; for an unknown key with the nearest one of its section, and those
    that have its name in others."""
    key = ".".join(extract_keys(error["loc"]))
    if error["type"] == "extra_forbidden":
        known, name = list_section_keys(error["loc"][:-1]), str(error["loc"][-1])
        section = ".".join(str(part) for part in error["loc"][:-1]) or "the top level"
        same = [other for other in list_leaf_keys() if other.rpartition(".")[2] == name]
        return f"{key}: unknown key{format_suggestion(name, known, same)}; {section} has {', '.join(known)}"
    if error["type"] == "missing" and isinstance(error["loc"][-1], int):  # an entry of a list
        return f"{key}: too few values (got {error['input']!r})"
    if error["type"] == "missing":
        return f"{key}: missing"
    got = "" if isinstance(error["input"], dict) else f" (got {error['input']!r})"
    where = f"{key}: " if key else ""  # what contradicts itself across sections names them
    return f"{where}{error['msg'].removeprefix('Value error, ')}{got}"


def extract_keys(location):
    """The keys in pydantic's location of an error, without the names of the types that it tried."""
    model = Config
    for part in location:
        yield str(part)
        field = model.model_fields.get(part)
        model = field.annotation if field else None
        if not is_section(model):
            return


def is_section(kind):
    return inspect.isclass(kind) and not get_origin(kind) and issubclass(kind, Section)


def list_leaf_keys(model=Config, section=""):
    """The keys that have values, dotted."""
    for name, field in model.model_fields.items():
        if is_section(field.annotation):
            yield from list_leaf_keys(field.annotation, f"{section}{name}.")
        else:
            yield f"{section}{name}"


def list_section_keys(location):
    model = Config
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def dump_config(config):
    """The configuration as primitives, for YAML, JSON and checkpoints."""
    return config.model_dump(mode="json")


def to_yaml(config):
    return yaml.safe_dump(dump_config(config), sort_keys=False)
