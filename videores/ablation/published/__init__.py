"""Read published results, each number with its protocol, source and status.

Status V: read in the paper, or in the authors' or the library's release. V2: read in a transcription of the paper and
checked against a second source. Numbers of anything else are no targets, and none is filled in where none is known.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from videores.ablation import columns
from videores.config import parse
from videores.config.schema import Section
from videores.errors import UserError, format_suggestion

FOLDER = Path(__file__).parent
PROTOCOL_PATTERN = re.compile(
    r"(?P<frames>\d+)x(?P<stride>\S+)@(?P<size>\d+)/(?P<short_side>\d+) (?P<clips>\w+)x(?P<crops>\w+) \S+ (?P<data>\S+)"
)
COMPARED = ("data", "frames", "stride", "size", "short_side", "clips", "crops")  # what must be equal for a comparison
Text = Field(min_length=1)


class Protocol(Section):
    """How a number was measured, as far as it is said; `said` for what no key says."""

    data: str = Text  # data set and split, as in our protocol strings: kinetics400-val, ucf101-1
    frames: int | None = None
    stride: str | None = None  # frames between two of a clip, or a rate: 15fps, segments
    size: int | None = None  # pixels of the crop
    short_side: int | None = None  # pixels that frames were scaled to before
    clips: int | None = None
    crops: int | None = None
    said: str = ""

    def __str__(self):
        known = {name: getattr(self, name) or "?" for name in COMPARED}
        text = "{data}, {frames}x{stride}@{size}/{short_side} {clips}x{crops}"
        return text.format(**known) + f", {self.said}" * bool(self.said)


class Published(Section):
    """Numbers of one paper's table, all under one protocol: {row: {column: value}}."""

    paper: str = Text
    table: str = Text
    source: str = Text  # where it was read
    status: Literal["V", "V2"]
    protocol: Protocol
    values: dict[str, dict[str, float]]


def read_published(name: str, folder: Path = FOLDER) -> list[Published]:
    """Read the published numbers of a table; [] where nothing is published.

    Raises UserError for an entry that does not name its paper, table, source, status and protocol.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        return []
    groups = parse.read_yaml(path, list)
    return [check_group(group, f"{path.name}, entry {number}") for number, group in enumerate(groups, 1)]


def check_group(group, where):
    published = parse.build_section(Published, group, where)
    for name in {name for row in published.values.values() for name in row}:
        if name not in columns.COLUMNS:
            raise UserError(f"{where}: must be a column, got {name}{format_suggestion(name, columns.COLUMNS)}")
    return published


def has_same_protocol(published, ours):
    """Return whether a protocol string of ours equals a published protocol.

    That must state all of it.
    """
    match = PROTOCOL_PATTERN.fullmatch(ours or "")
    theirs = published.protocol
    stated = {name: getattr(theirs, name) for name in COMPARED}
    return bool(match) and None not in stated.values() and all(match[k] == str(v) for k, v in stated.items())


def find_target(published, row, column, ours):
    """Return the published number of a row and column under our protocol, or None."""
    found = [p.values[row][column] for p in published if column in p.values.get(row, {}) and has_same_protocol(p, ours)]
    return found[0] if found else None
