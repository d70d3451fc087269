"""Read an ablation table: one YAML of configs/ablations/ as typed models.

A table asks a question of rows. A row is a cell of `cells`, or one of each combination of the levels of `factors`. Each
scale (smoke, cpu, full) gives the configuration that the rows change, and how: base < `set` of the scale < `set` of the
row.
"""

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from videores.ablation import columns
from videores.config import parse
from videores.config.schema import Section
from videores.errors import UserError, format_suggestion

TABLE_DIR = parse.CONFIG_DIR / "ablations"
ScaleName = Literal["smoke", "cpu", "full"]
SCALES: tuple[ScaleName, ...] = get_args(ScaleName)
Overrides = dict[str, Any]  # "section.key": value


class Cell(Section):
    """A row of the table.

    `train` is an ordinary run. If it needs another row, it starts from the weights of that row or, with keys of
    `train.distill`, learns from that row as its teacher. `test` tests the row that it needs again; if that row is
    itself a test, it uses the saved scores. `probe` probes the row that it needs, as tools/probe.py does. `measure`
    computes the cost of the network only; with a `base` of its own, it ignores the keys of the scale. `decode` reads
    the training clips by `data.reader`, without a network. `compress` makes the row that it needs smaller, by a
    command of tools/compress.py, and trains on if that does. `fuse` fuses the scores of trained rows of the same
    seed, as tools/evaluate.py --scores does.
    """

    name: str  # of the row, and in `needs` and assertions
    kind: Literal["train", "test", "probe", "measure", "decode", "compress", "fuse"] = "train"  # see above
    command: str | None = None  # compress: as prune --ratio 0.5; fuse: none for equal weights, or --weights val
    needs: str | None = None  # the row whose weights it starts from or tests
    fuses: tuple[str, ...] = ()  # fuse: the rows
    shift: int = Field(0, ge=0)  # added to the seed: trains another member of an ensemble
    checkpoint: Literal["best", "last"] = "best"  # test: of that row
    base: str | None = None  # instead of the scale's
    set: Overrides = Field({})  # "section.key": value
    scales: tuple[ScaleName, ...] = SCALES  # where the row is

    @model_validator(mode="after")
    def needs_what_it_can_use(self):
        if self.kind in ("test", "probe", "compress") and self.needs is None:
            raise ValueError(f"{self.name}: needs must be the row whose weights a {self.kind} takes, got none")
        if self.checkpoint != "best" and self.kind != "test":
            raise ValueError(f"{self.name}: checkpoint must go with kind: test, got {self.kind}")
        if (self.kind == "compress") != bool(self.command) and self.kind != "fuse":
            raise ValueError(f"{self.name}: command must go with kind: compress, got {self.kind} and {self.command}")
        if (self.kind == "fuse") != (len(self.fuses) > 1) or (self.fuses and self.set):
            raise ValueError(
                f"{self.name}: fuses must have two rows or more, and no set, where kind is fuse, else none"
            )
        if self.kind in ("measure", "decode", "fuse") and self.needs is not None:
            raise ValueError(f"{self.name}: needs must be left out where kind is {self.kind}, got {self.needs}")
        return self

    @property
    def parents(self) -> tuple[str, ...]:
        """Return the rows that must be there before it."""
        return self.fuses or ((self.needs,) if self.needs else ())


class Scale(Section):
    """Base configuration and rows of one scale."""

    base: str  # a file of configs/
    set: Overrides = Field({})  # "section.key": value, for all rows
    seeds: tuple[int, ...] | None = None  # instead of the table's
    rows: tuple[str, ...] | None = None  # only these
    factors: dict[str, dict[str, Overrides]] = Field({})  # replace or add to those of the table


class Assertion(Section):
    """An expected result, in one of two forms.

    Either every row of `above` is better than every row of `below`, by at least `margin`. Or the rows of `rows` meet
    one bound: each is `at_least` or `at_most` a value, all are `within` a value of each other, or each equals
    (`equal`) a value.
    """

    claim: str  # in a sentence
    metric: str = "video"  # a column, or scores
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    margin: float = 0  # negative: it may fall short by that much
    rows: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    within: float | None = None
    equal: float | None = None  # margin and bounds are in the units of the column, accuracies in percentage points
    pooled: bool = False  # the rows of `rows`, `above` or `below`, tested on one split each, are one row of all splits
    hard: bool = False  # can be proved: every seed must obey, and nothing is inconclusive
    scales: tuple[ScaleName, ...] = ("cpu", "full")

    @model_validator(mode="after")
    def one_form(self):
        bounds = [name for name in ("at_least", "at_most", "within", "equal") if getattr(self, name) is not None]
        order = bool(self.above and self.below)
        if order == bool(bounds) or len(bounds) > 1 or bool(self.rows) != bool(bounds):
            raise ValueError(
                f"{self.claim!r}: must have above and below, or rows and one of at_least, at_most, within, equal"
            )
        fits = self.metric in ("video", "above_floor") and not self.hard and not {"within", "equal"} & {*bounds}
        if self.pooled and not fits:
            raise ValueError(
                f"{self.claim!r}: pooled must have the metric video or above_floor, not be hard, and have above and "
                "below, at_least or at_most"
            )
        if self.metric not in columns.COLUMNS and self.metric != "scores":
            raise ValueError(
                f"metric must be a column or scores, got {self.metric}{format_suggestion(self.metric, columns.COLUMNS)}"
            )
        return self

    @model_validator(mode="after")
    def in_points(self):
        """Refuse fractions for percentage points, which would be judged as 100 times smaller."""
        given = [self.margin, self.within, self.at_least, self.at_most, self.equal]
        points = self.metric in columns.COLUMNS and columns.COLUMNS[self.metric].points
        wrong = [value for value in given if value and not 1 <= abs(value) <= 100]
        if points and not self.hard and wrong:
            raise ValueError(
                f"{self.claim!r}: margin and bounds of {self.metric} must be percentage points from 1 to 100, or 0, "
                f"got {wrong[0]:g}: multiply a fraction by 100"
            )
        return self

    def names(self):
        return (*self.above, *self.below, *self.rows)


class Table(Section):
    """Question, rows, scales and assertions of a table: the whole file."""

    title: str  # heading of the page
    question: str  # what the table asks
    shows: str  # what to look at in the result, and what it cannot say
    columns: tuple[str, ...]  # names of columns, below
    seeds: tuple[int, ...] = (0, 1)  # every row is computed once for each
    learnt: float = Field(90, ge=0, le=100)  # training accuracy (%) below which a row has not learnt
    control: str | None = None  # row that must not have learnt for the table to be run again; default: the first
    # factor -> level -> overrides, one row for each combination of levels; `base` among the overrides is another file
    factors: dict[str, dict[str, Overrides]] = Field({})
    cells: tuple[Cell, ...] = ()  # further rows
    scales: dict[ScaleName, Scale]  # all three
    assertions: tuple[Assertion, ...] = ()  # what should come out

    @model_validator(mode="after")
    def whole(self):
        if not self.cells and not self.factors:
            raise ValueError("a table must have cells or factors, got neither")
        if set(self.scales) != set(SCALES):
            raise ValueError(f"scales must be {', '.join(SCALES)}, got {', '.join(self.scales)}")
        for name in self.columns:
            if name not in columns.COLUMNS:
                also = format_suggestion(name, columns.COLUMNS)
                raise ValueError(f"columns must be of {', '.join(columns.COLUMNS)}, got {name}{also}")
        return self


def list_tables(folder: Path = TABLE_DIR) -> list[str]:
    """List the names of the shipped tables."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_table(name: str | Path) -> Table:
    """Read a table by its name in configs/ablations/, or by its path.

    Raises UserError where there is none or a key is wrong.
    """
    path = next((p for p in (Path(name), TABLE_DIR / f"{name}.yaml") if p.is_file()), None)
    if path is None:
        raise UserError(
            f"--table must be a path or one of {', '.join(list_tables())}, got {name}"
            f"{format_suggestion(str(name), list_tables())}"
        )
    return parse.build_section(Table, parse.read_yaml(path, Table), path)
