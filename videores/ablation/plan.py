"""Plan the cells of a table at a scale, by pure functions of the files.

A cell is one row with one seed. Its key is a hash of everything that its result depends on but for the code, so that
two tables which ask for the same cell share it.
"""

import functools
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from videores.ablation.spec import Cell
from videores.config import parse
from videores.config.schema import Config
from videores.data.synthetic import datasets
from videores.errors import UserError, format_suggestion
from videores.models import create_model
from videores.training.resume import CHANGEABLE_KEYS, flatten_config

# keys that a run may resume without, and that a table's columns come from
COLUMNS_FROM = {"trainer.devices", "trainer.num_nodes", "train.gap_videos", "watch.gradients"}
LOCATION_KEYS = {"data.root", "data.splits"}  # which videos these are; an embedded set is the same wherever it lies
RUNS = Path("results", "runs")  # where cells are computed, each in the folder of its key


@dataclass(frozen=True)
class _PlannedCell:
    row: str
    kind: str
    seed: int
    base: str
    overrides: tuple[str, ...]  # as on a command line
    config: Config
    needs: "_PlannedCell | None"
    key: str
    command: str | None = None  # of tools/compress.py, or options of tools/evaluate.py --scores
    members: tuple["_PlannedCell", ...] = ()  # whose scores it fuses
    checkpoint: str = "best"  # that a test takes

    @property
    def rescored(self):
        """Return True for a test that is computed from the saved scores of another test."""
        return self.kind == "test" and self.needs.kind == "test"

    @property
    def trains(self):
        """Return True where the cell is a run, with a log and checkpoints."""
        return self.kind == "train" or (self.prunes and "--no-train" not in self.command)

    @property
    def prunes(self):
        return self.kind == "compress" and self.command.startswith("prune ")

    @property
    def quantises(self):
        return self.kind == "compress" and not self.prunes

    @property
    def origin(self):
        """Return the cell whose run or test the scores come from."""
        return self.needs if self.rescored else self

    @property
    def parents(self):
        """Return the cells that must have a result before it."""
        return self.members or ((self.needs,) if self.needs else ())

    @property
    def depth(self):
        return max((1 + cell.depth for cell in self.parents), default=0)


def plan_cells(table, scale_name, rows=None, seeds=None, small_data=None):
    """Return the cells in the order of the table, each after what it needs.

    Raises UserError for wrong input.

    `small_data` is a folder that has small copies of the embedded data sets, to be read in their place.
    """
    scale = table.scales[scale_name]
    cells = apply_scale(table, scale_name)
    _check_unique_rows([cell.name for cell in cells])
    _check_rows_exist(table.assertions, [cell.name for cell in cells], scale_name)
    wanted = _add_needed_rows(cells, _select_rows(cells, rows or scale.rows))
    seeds = seeds or scale.seeds or table.seeds
    _check_overrides_matter(scale.base, scale.set, f"the scale {scale_name}")
    planned = []
    for seed in dict.fromkeys(seeds):
        done = {}
        for cell in wanted:
            done[cell.name] = _resolve_cell(cell, scale, seed, done, small_data)
        planned += done.values()
    planned.sort(key=lambda p: [cell.name for cell in wanted].index(p.row))
    _check_configs_differ(planned)
    return planned


# Rows


def apply_scale(table, name):
    return [cell for cell in _expand_rows(table, table.scales[name]) if name in cell.scales]


def _expand_rows(table, scale):
    """Return one cell for each combination of levels, and those that are listed."""
    factors = {**table.factors, **scale.factors}
    product = itertools.product(*(levels.items() for levels in factors.values())) if factors else ()
    return [*map(_combine_levels, product), *table.cells]


def _combine_levels(levels):
    values = {key: value for _, overrides in levels for key, value in overrides.items()}
    return Cell(name=" ".join(name for name, _ in levels), base=values.pop("base", None), set=values)


def _select_rows(cells, rows):
    names = [cell.name for cell in cells]
    for row in rows or ():
        if row not in names:
            raise UserError(f"--rows must be of {', '.join(names)}, got {row}{format_suggestion(row, names)}")
    return set(rows or names)


def _add_needed_rows(cells, wanted):
    """Return cells and those that they need, each after what it needs."""
    by_name, order = {cell.name: cell for cell in cells}, []

    def add(name, chain):
        if name not in by_name:
            raise UserError(
                f"{chain[-1]}: needs and fuses must be rows at this scale, got {name}{format_suggestion(name, by_name)}"
            )
        if name in chain:
            raise UserError(f"needs must not go in a circle: {' needs '.join((*chain, name))}")
        for parent in by_name[name].parents:
            add(parent, (*chain, name))
        if by_name[name] not in order:
            order.append(by_name[name])

    for cell in cells:
        if cell.name in wanted:
            add(cell.name, ())
    return order


def _check_unique_rows(names):
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(f"names of rows must be unique, {repeated[0]} is there twice: rename one")


def _check_rows_exist(assertions, names, scale):
    """Check that assertions name rows of this scale."""
    for assertion in assertions:
        for name in assertion.names() if scale in assertion.scales else ():
            if name not in names:
                raise UserError(
                    f"{assertion.claim!r}: must name rows at scale {scale}, got {name}"
                    f"{format_suggestion(name, names)}: correct it, or give `scales` that have it"
                )


# Configurations


@functools.cache  # reading YAML takes milliseconds, and there are hundreds of combinations
def _load_base(base, overrides):
    return parse.load_config(base, overrides)


def _resolve_cell(cell, scale, seed, done, small_data):
    needs = done[cell.needs] if cell.needs else None
    members = tuple(done[name] for name in cell.fuses)
    if wrong := [member.row for member in members if not member.trains]:
        raise UserError(f"{cell.name}: fuses must be rows that are trained, got {wrong[0]}")
    if cell.kind in ("test", "probe", "compress", "fuse"):
        base, before = (needs or members[0]).base, (needs or members[0]).overrides
    elif cell.kind == "measure" and cell.base:
        base, before = cell.base, ()
    else:
        base, before = cell.base or scale.base, (*_format_overrides(scale.set), *_weights_overrides(needs, cell))
    _check_overrides_matter(base, cell.set, f"the row {cell.name}", before)
    overrides = (*before, *_format_overrides(cell.set))
    embedded = _load_base(base, overrides).data.format
    if small_data and embedded in datasets.SETS:
        overrides += _format_overrides({"data.format": "csv", "data.root": f"{small_data}/{embedded}"})
    config = _load_base(base, (*overrides, f"run.seed={seed + cell.shift}"))
    key = _compute_key(config, _describe_work(cell, members), needs)
    further = cell.command, members, cell.checkpoint
    return _PlannedCell(cell.name, cell.kind, seed, base, overrides, config, needs, key, *further)


def _weights_overrides(needs, cell):
    """Return the override by which a training uses the one that it needs.

    It starts from its weights, or is taught by it where `train.distill` says how. A table's rows are chosen on
    validation videos.
    """
    taught = any(key.startswith("train.distill.") for key in cell.set)
    key = "train.distill.teacher" if taught else "model.weights"
    return _format_overrides({key: str(RUNS / needs.key / "checkpoints" / "best.ckpt")}) if needs else ()


def _format_overrides(overrides):
    return tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())


def _check_overrides_matter(base, overrides, who, before=()):
    """Check that an override changes something.

    Else it looks like a difference between rows, and is none.
    """
    with_all = _load_base(base, (*before, *_format_overrides(overrides)))
    for key in overrides:
        others = {other: value for other, value in overrides.items() if other != key}
        if _load_without(base, before, others) == with_all:
            raise UserError(
                f"{who}: {key} must change something, got {json.dumps(overrides[key])}, as without it: leave it out"
            )


def _load_without(base, before, others):
    """Return the configuration without one override, None where the rest needs it."""
    try:
        return _load_base(base, (*before, *_format_overrides(others)))
    except UserError:
        return None


def _check_configs_differ(planned):
    seen = {}
    for cell in planned:
        if (other := seen.setdefault(_find_setting(cell), cell)) is not cell:
            raise UserError(
                f"the rows {other.row} and {cell.row} must differ, their configurations are equal: drop one"
            )


def _find_setting(cell):
    """Return what the cell's result depends on, with its network as it is built.

    A row that states a default of its network, such as `model.shortcut: A` of CIFAR networks, is a row without it.
    """
    model = cell.config.model
    if (design := _find_design(model.name, json.dumps(model.overrides()))) is None:
        return cell.key
    config = cell.config.model_copy(update={"model": model.model_copy(update=dict.fromkeys(model.overrides()))})
    return _compute_key(config, _describe_work(cell, cell.members), cell.needs), design


@functools.cache
def _find_design(name, overrides_json):
    """Return the design of one of our networks, None of others, and where it is wrong, which the cell will say."""
    try:
        with torch.device("meta"):
            return getattr(create_model(name, 2, **json.loads(overrides_json)), "design", None)
    except UserError:
        return None


def _describe_work(cell, members):
    last = ["last"] if cell.checkpoint == "last" else []
    return " ".join([cell.kind, *(cell.command or "").split(), *last, *(member.key for member in members)])


def _compute_key(config, kind, needs):
    """Return 12 hex digits.

    Defaults are left out, so that a key which is new to the configuration changes no hash.
    """
    values = flatten_config(config.model_dump(mode="json", exclude_defaults=True))
    reads_files = kind != "measure" and config.data.format not in datasets.SETS
    kept = COLUMNS_FROM | LOCATION_KEYS if reads_files else COLUMNS_FROM
    dropped = CHANGEABLE_KEYS - kept if kind != "decode" else set()  # no result depends on them but that of reading
    values = {key: value for key, value in values.items() if key not in dropped}
    what = [kind, needs.key if needs else None, sorted(values.items())]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
