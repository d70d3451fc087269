"""Keep a small record of each run of a zoo beside its page: results, costs, and where the weights are.

Pages are written from these alone, so that they can be written again where the run folders are not.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from typing_extensions import TypedDict

from videores.compute import cost
from videores.config.parse import load_config
from videores.config.streams import compute_input_shape
from videores.data import streams
from videores.errors import UserError
from videores.inference.record import RunRecord, collect_record
from videores.inference.source import resolve_source
from videores.models import create_model
from videores.runtime import files, machine
from videores.runtime.environment import format_utc_now


class Latency(TypedDict):
    """Processor time of one clip in float32 on one thread."""

    ms: float
    machine: str
    measured: str  # when; rows of one time were measured in turns


class Entry(TypedDict):
    """A row of a zoo."""

    record: RunRecord
    model: dict[str, Any]  # name and overrides, for `create_model`
    classes: int
    clip: tuple[int, int]  # frames, crop
    params: int
    gmacs: float  # of a clip
    latency: Latency | None  # None: the network is not here
    run: str | None  # the folder, from that of the page; None where it is not kept


def find_entries(page: Path) -> Path:
    """Return the folder of the records of a page."""
    return page.with_suffix("")


def read_entries(page: Path) -> list[Entry]:
    """Read the records of a page, the best of each data set first. Raises UserError for a damaged one."""
    remedy = "remove it, and give the run folder again"
    found: list[Entry] = [files.read_json(path, Entry, remedy) for path in find_entries(page).glob("*.json")]
    order = lambda e: (e["record"]["data"], -e["record"]["results"][0]["video_top1"], e["record"]["name"])
    return sorted(found, key=order)


def add_runs(page: Path, runs: Sequence[Path], is_kept: bool) -> None:
    """Add the records of run folders to those of a page, and time all networks in turns.

    Raises UserError for a run that has not ended, and for two runs of one name.
    """
    entries = {entry["record"]["name"]: entry for entry in read_entries(page)}
    names = [run.resolve().name for run in runs]
    for run, name in zip(runs, names, strict=True):
        kept = os.path.relpath(run, page.parent) if is_kept else None
        if names.count(name) > 1 or (name in entries and entries[name]["run"] != kept):
            raise UserError(
                f"{run}: names of runs must differ, and another is called {name}: rename one, or remove "
                f"{find_entries(page) / name}.json"
            )
    new = [_make_entry(run, os.path.relpath(run, page.parent) if is_kept else None) for run in runs]
    entries |= dict(zip(names, new, strict=True))
    _measure(list(entries.values()))
    find_entries(page).mkdir(parents=True, exist_ok=True)
    for name, entry in entries.items():
        files.write_json(find_entries(page) / f"{name}.json", entry)


def _make_entry(run: Path, kept: str | None) -> Entry:
    """Return the record of a run folder; an own network is imported."""
    record, cfg, network = collect_record(run), load_config(run / "config.yaml"), resolve_source(run)
    frames, crop = cfg.data.clip.frames, cfg.data.transform.crop
    return Entry(
        record=record,
        model={"name": cfg.model.name, **cfg.model.overrides()},
        classes=len(network.classes),
        clip=(frames, crop),
        params=cost.count_parameters(network.model),
        gmacs=cost.count_gmacs(network.model, streams.add_batch(compute_input_shape(cfg.data), 1)),
        latency=None,
        run=kept,
    )


def _measure(entries: Sequence[Entry], rounds: int = 9) -> None:
    """Set the latency of entries: one clip of each network, in turns."""
    runs, now, threads = {}, format_utc_now(), torch.get_num_threads()
    for number, entry in enumerate(entries):
        entry["latency"] = None
        (frames, crop), clip = entry["clip"], cost.MODES["fp32"]
        try:
            model = create_model(num_classes=entry["classes"], **entry["model"])
        except UserError as error:  # a network of a package that is not here
            print(f"note    {entry['record']['name']} is not timed: {error}", file=sys.stderr)
        else:
            runs[number] = cost.make_runner(model, torch.randn(1, cost.get_channels(model), frames, crop, crop), clip)
    torch.set_num_threads(1)
    try:
        seconds = cost.time_interleaved(runs, rounds, clock=time.process_time)
    finally:
        torch.set_num_threads(threads)
    for number, value in seconds.items():
        entries[number]["latency"] = Latency(ms=1e3 * value, machine=machine.read_cpu_model(), measured=now)
