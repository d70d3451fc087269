"""Render self-contained HTML pages: templates of this folder, and pictures inside."""

import base64
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from videores.errors import escape_controls
from videores.runtime.files import write_text

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    finalize=lambda value: escape_controls(value) if type(value) is str else value,
)


class Figure(NamedTuple):
    """A picture as a data URL, `width` CSS pixels wide."""

    source: str
    caption: str
    width: int


def write_html(path: Path, template: str, **variables: Any) -> None:
    """Write the page that a template makes of variables."""
    page = TEMPLATES.get_template(template).render(variables)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page)


def render_figure(draw: Callable[[Path], None], caption: str, width: int) -> Figure:
    """Return the PNG picture that a function writes to a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        draw(path)
        return embed_picture(path.read_bytes(), "png", caption, width)


def embed_picture(picture: bytes, kind: str, caption: str, width: int) -> Figure:
    """Return a picture, the bytes of a file of some kind, as a figure."""
    return Figure(f"data:image/{kind};base64,{base64.b64encode(picture).decode()}", caption, width)
