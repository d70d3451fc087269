"""Pieces of a self-contained HTML page: pictures are inside, nothing is fetched, no script is needed.

Text given to these functions is escaped; what they return is HTML, and is a `Markup`, so that no function escapes it
again.
"""

import base64
from html import escape

STYLE = """
:root { --ink: #1c2126; --soft: #5b6670; --line: #d9dee3; --fill: #f5f7f9; --bar: #4a7fb5; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1.25rem 4rem; color: var(--ink); background: #fff;
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem; border-bottom: 2px solid var(--line); }
p { margin: .5rem 0; max-width: 48rem; }
.soft, figcaption { color: var(--soft); }
.note { background: #fff7e0; border-left: 4px solid #e0b23c; padding: .5rem .8rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
thead th { vertical-align: bottom; border-bottom-width: 2px; }
td.number, th.number { text-align: right; white-space: nowrap; }
td { overflow-wrap: anywhere; min-width: 3rem; }
.scroll td:first-child { min-width: 13rem; }
table.facts th { white-space: nowrap; padding-right: 1.5rem; }
code, pre { font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--fill); border: 1px solid var(--line); padding: .8rem 1rem; margin: .6rem 0;
      white-space: pre-wrap; columns: 19rem; column-gap: 2rem; overflow-wrap: anywhere; }
figure { margin: .8rem 0 1.2rem; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .9rem; margin-top: .3rem; max-width: 48rem; overflow-wrap: anywhere; }
.bars { columns: 26rem; column-gap: 2.5rem; font-variant-numeric: tabular-nums; }
.bars div { display: grid; grid-template-columns: 9rem 1fr 14rem; gap: .7rem; align-items: center; break-inside: avoid;
            padding: .12rem 0; font-size: .88rem; }
.bars span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bars b { background: var(--fill); height: .8rem; }
.bars i { display: block; background: var(--bar); height: 100%; }
@media print { h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


class Markup(str):
    """Text that is HTML already."""


def format_text(value):
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def build_page(title, *parts):
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{format_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(map(format_text, parts))
        + "\n</body>\n</html>\n"
    )


def build_element(name, *content, css=None):
    attribute = f' class="{format_text(css)}"' if css else ""
    return Markup(f"<{name}{attribute}>{''.join(map(format_text, content))}</{name}>")


def build_section(title, *parts):
    return build_element("section", build_element("h2", title), *parts)


def build_note(message):
    """Why something is not on the page."""
    return build_element("p", message, css="note")


def build_table(head, rows):
    """`head` and the cells of `rows` are texts; columns whose name begins with `#` are numbers, aligned right."""
    css = ["number" if name.startswith("#") else None for name in head]
    cells = lambda tag, row: build_element(
        "tr", *(build_element(tag, cell, css=c) for cell, c in zip(row, css, strict=True))
    )
    names = [name.removeprefix("#") for name in head]
    body = build_element("tbody", *(cells("td", row) for row in rows))
    return build_element("div", build_element("table", build_element("thead", cells("th", names)), body), css="scroll")


def build_facts(pairs):
    """A table of names and values."""
    rows = [build_element("tr", build_element("th", name), build_element("td", value)) for name, value in pairs]
    return build_element("table", build_element("tbody", *rows), css="facts")


def build_bars(rows):
    """(name, share 0..1, what stands beside it) as horizontal bars."""
    return build_element("div", *(build_bar(*row) for row in rows), css="bars")


def build_bar(name, share, beside):
    drawn = Markup(f'<b><i style="width:{100 * share:.1f}%"></i></b>')
    return build_element("div", truncate_text(name), drawn, truncate_text(beside))


def truncate_text(value):
    """Text that shows whole when it is pointed at."""
    return Markup(f'<span title="{format_text(value)}">{format_text(value)}</span>')


def embed_figure(picture, caption, width=None):
    """`picture`: bytes of a PNG or JPEG file; `width` in CSS pixels."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    size = f' width="{width}"' if width else ""
    data = base64.b64encode(picture).decode()
    image = Markup(f'<img src="data:image/{kind};base64,{data}" alt="{format_text(caption)}"{size}>')
    return build_element("figure", image, build_element("figcaption", caption))
