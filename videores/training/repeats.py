"""Plan the runs of a configuration for several splits and seeds: each an ordinary run, in a folder of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from videores.config.parse import load_config
from videores.config.schema import SPLIT_COUNTS, Config
from videores.data import index
from videores.errors import UserError
from videores.runtime.launch import detect_launcher
from videores.training import run_folder
from videores.training.resume import check_same_config


class Repeat(NamedTuple):
    """One of the runs."""

    cfg: Config
    folder: Path
    overrides: list[str]  # of its command


def plan_repeats(name: str, overrides: Sequence[str], seeds: Sequence[int] = ()) -> list[Repeat]:
    """Plan a run for each split and seed, without `seeds` for run.seed.

    All splits of a seed come before the next seed. What can be wrong with lists and folders is checked for all of them.

    Raises:
        UserError: if the format has one split, under torchrun and srun, and for wrong lists and existing runs.
    """
    cfg = load_config(name, overrides)
    if launcher := detect_launcher():
        raise UserError(
            f"data.split=all and --seeds start a process for each run, which does not go with {launcher}: give it one "
            "split and seed, and put the runs together by tools/report.py --table"
        )
    splits = _list_splits(cfg)
    repeats = [
        _plan_repeat(name, overrides, cfg, split, seed, seeds) for seed in seeds or [cfg.run.seed] for split in splits
    ]
    for repeat in repeats[: len(splits)]:
        index.read_classes(repeat.cfg.data)
    for repeat in repeats:
        run_folder.check_run_folder(repeat.cfg, repeat.folder)
    return repeats


def _list_splits(cfg):
    if cfg.data.split != "all":
        return [cfg.data.split]
    if cfg.data.format not in SPLIT_COUNTS:
        raise UserError(f"data.split=all needs data.format {', '.join(SPLIT_COUNTS)}, got {cfg.data.format}: drop it")
    return range(1, SPLIT_COUNTS[cfg.data.format] + 1)


def _plan_repeat(name, overrides, cfg, split, seed, seeds):
    words = [f"split{split}"] * (cfg.data.split == "all") + [f"seed{seed}"] * bool(seeds)
    place = "-".join(filter(None, (cfg.run.dir or cfg.run.name, *words)))
    more = [f"data.split={split}", f"run.seed={seed}", f"run.{'dir' if cfg.run.dir else 'name'}={place}"]
    one = load_config(name, [*overrides, *more])
    return Repeat(one, run_folder.resolve_run_folder(one, name), [*overrides, *more])


def find_exit_status(repeat: Repeat) -> int | None:
    """Return the exit status of a finished run, None of another.

    Only run.resume=auto leaves finished runs alone. Raises UserError where such a run has another configuration.
    """
    record = run_folder.read_record(repeat.folder) if repeat.cfg.run.resume == "auto" else None
    status = record.get("exit_status") if record else None
    if status not in (0, 1):
        return None
    check_same_config(repeat.folder, repeat.cfg)
    return int(status)
