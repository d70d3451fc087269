"""Write the reference of the configuration and of ablation tables from their typed models.

    python tools/reference.py      # docs/reference/configuration.md, docs/reference/ablation-tables.md

The meaning of a key is the comment beside it in the source. Its default and values come from the pydantic model.
"""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videores.config.network import NetworkOptions
from videores.config.schema import Config, ModelConfig, NetworkConfig, Section
from videores.runtime import cli
from videores.runtime.files import write_text
from videores.runtime.tables import format_markdown_table

PAGES = Path(__file__).parents[1] / "docs" / "reference"
NOTE = "Written by `python tools/reference.py`; do not edit."
CONFIGURATION = f"""# Configuration keys

{NOTE}

A configuration is a YAML file with one level of nesting for each dot of a key. Every key can also be given on the
command line as `key=value`. Unknown keys and contradictions between keys are errors. A key without a default is
required. `tools/train.py` writes the resolved configuration of a run to `config.yaml` in the run folder.
"""
ABLATION_TABLES = f"""# Format of ablation tables

{NOTE}

An ablation table is a YAML file in `configs/ablations/`, for example
[c08_norm_batch.yaml](../../configs/ablations/c08_norm_batch.yaml). `python tools/ablate.py --table NAME --dry-run`
checks a table and lists its rows. [Ablation tables](../ablations/README.md) explains how to run one and how its
assertions are judged.
"""


def main() -> None:
    cli.make_parser(__doc__).parse_args()
    for name, text in build_pages().items():
        write_text(PAGES / name, text)
        print(f"wrote docs/reference/{name}")


def build_pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    from videores.ablation import columns, spec  # torch takes seconds to import, --help should not

    configuration = [CONFIGURATION]
    for path, cls, default in list_sections(Config):
        configuration.append(format_section(f"`{path}`", cls, f"{path}.", default))
    tables = [ABLATION_TABLES]
    for title, cls in {
        "Table": spec.Table,
        "Cell: an entry of `cells`": spec.Cell,
        "Scale: `smoke`, `cpu` or `full` in `scales`": spec.Scale,
        "Assertion: an entry of `assertions`": spec.Assertion,
    }.items():
        tables.append(format_section(title, cls))
    rows = [[f"`{name}`", column.heading] for name, column in columns.COLUMNS.items()]
    tables.append("## Columns\n\n" + format_markdown_table(["name", "heading in the table"], rows))
    pages = {"configuration.md": configuration, "ablation-tables.md": tables}
    return {name: "\n".join(parts) for name, parts in pages.items()}


def list_sections(cls: type[Section], path: str = "") -> Iterator[tuple[str, type[Section], Section | None]]:
    """Yield path, class and default of every section below `cls`, in the order of the source."""
    for key, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            default = field.default if isinstance(field.default, Section) else None
            yield f"{path}{key}", field.annotation, default
            yield from list_sections(field.annotation, f"{path}{key}.")


def format_section(title: str, cls: type[Section], prefix: str = "", default: Section | None = None) -> str:
    """Return heading, docstring and table of keys."""
    properties = cls.model_json_schema()["properties"]
    sources = [NetworkOptions, NetworkConfig.__base__, *cls.__bases__[:1], cls] if cls is ModelConfig else [cls]
    comments = {key: text for source in sources for key, text in read_comments(source).items()}
    rows = []
    for key, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            continue
        value = "" if field.is_required() else f"`{format_value(getattr(default, key, field.default))}`"
        row = [f"`{prefix}{key}`", value, format_type(properties[key]), comments.get(key, "")]
        rows.append([cell.replace("|", "\\|").replace("<", "&lt;") for cell in row])
    table = format_markdown_table(["key", "default", "values", "meaning"], rows)
    text = f"## {title}\n\n{inspect.cleandoc(cls.__doc__ or '')}\n\n{table}\n"
    return re.sub(r"docs/(\w+)/([\w-]+)\.md", link_page, text)


def link_page(match: re.Match[str]) -> str:
    """Return a link to a page that a comment names."""
    folder, page = match.groups()
    return f"[{page}]({page}.md)" if folder == PAGES.name else f"[{page}](../{folder}/{page}.md)"


def read_comments(cls: type) -> dict[str, str]:
    """Return the comment before or beside each field of a class."""
    source = inspect.getsource(cls)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in comments and comments[first - 1].line.lstrip().startswith("#"):
                first -= 1
            lines = [comments[n].string.lstrip("# ") for n in range(first, node.end_lineno + 1) if n in comments]
            if lines:
                found[node.target.id] = " ".join(lines)
    return found


def format_value(value: Any) -> str:
    """Return a default as YAML writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def format_type(schema: dict[str, Any]) -> str:
    """Return what a JSON schema allows, in words."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(format_type, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"[{', '.join(map(format_type, schema['prefixItems']))}]"
    if "items" in schema:
        return f"list of {format_type(schema['items'])}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = ", ".join(f"{sign} {schema[name]:.10g}" for name, sign in signs.items() if name in schema)
    words = {"string": "text", "boolean": "`true`, `false`", "null": "`null`", "object": "mapping"}
    return f"{words.get(schema['type'], schema['type'])} {bounds}".strip()


if __name__ == "__main__":
    cli.run(main)
