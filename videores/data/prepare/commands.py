"""Run tools/prepare.py: survey a data set, copy it, submit the shards."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videores.config import parse
from videores.data import formats, index, manifest
from videores.data.lists import Index, is_nifti_file, split_segment, warn
from videores.data.prepare import copies, duplicates, pack, survey
from videores.data.probe import VideoInfo
from videores.data.synthetic import datasets
from videores.data.video.flow import import_opencv
from videores.data.video.reencode import EncodingSettings
from videores.errors import UserError
from videores.runtime import files, machine, slurm

FORMATS = [name for name in formats.READERS if name not in datasets.SETS]
BAD_VIDEO_COLUMNS = ("file", "what is wrong")
WARNING_COLUMNS = ("file", "read, with warnings")
MAX_PRINTED_ROWS = 20  # bad files, and files with warnings, that are printed


@dataclass(frozen=True)
class Options:
    """Hold and check the arguments of the command."""

    format: str  # of FORMATS
    root: Path
    splits: Path | None  # the lists' folder; None: root
    split: str  # 1, 2, 3 or all
    settings: EncodingSettings
    duplicates: bool = False
    out: Path | None = None  # where copies go; None: survey alone
    shards: Path | None = None  # where tar files of the videos go
    workers: int | None = None  # processes; None: as many as CPUs
    shard: tuple[int, int] = (1, 1)  # (i, n), from 1: the i-th of n parts
    slurm: tuple[str, ...] = ()  # number of shards to submit, and key=value of submitit

    def __post_init__(self) -> None:
        for name, folder in (("--root", self.root), ("--splits", self.splits or self.root)):
            kind = "file" if self.format == "npz" and folder == self.root else "folder"
            if not (folder.is_file() if kind == "file" else folder.is_dir()):
                raise UserError(f"{name} must be a {kind}, and {folder} is none")
        if self.shards and (self.out or self.slurm or self.is_shard):
            raise UserError(
                "--shards packs what is ready, in one process: drop --out, --shard and --slurm, or run twice"
            )
        if self.settings.flow != "none":
            import_opencv()
            if not self.out:
                raise UserError("--flow writes files of flow: give their folder by --out")
        if (self.slurm or self.is_shard) and self.duplicates:
            raise UserError("--duplicates compares all videos: drop --shard and --slurm")
        if self.slurm and self.is_shard:
            raise UserError("--slurm numbers the shards itself: drop --shard")
        if self.slurm and not (self.slurm[0].isdecimal() and int(self.slurm[0]) > 0):
            raise UserError(f"--slurm must begin with a positive number of shards, got {self.slurm[0]}")

    @property
    def is_shard(self) -> bool:
        """Return True where this is one of several parts."""
        return self.shard != (1, 1)

    @property
    def ledgers(self) -> Path:
        """Return the folder of what several parts record, of copies or of probing alone."""
        return (
            self.out / copies.LEDGER_DIR if self.out else manifest.find_manifest_path(self.root).with_suffix(".parts")
        )


def prepare(options: Options) -> int:
    """Survey a data set, copy it on request, and print the result.

    Returns the exit code: 1 where videos are bad. Raises UserError.
    """
    lists = survey.read_all_lists(options.format, options.root, options.splits, options.split)
    paths = survey.count_listed(lists)
    if options.format in index.INCOMPLETE_FORMATS:
        paths = [path for path in paths if (options.root / path).exists()]
    is_archive = options.format in ("npz", "cifar10")
    if (options.out or options.shards) and (is_archive or any(map(is_nifti_file, paths))):
        what = f"{options.root} has {'pictures' if options.format == 'cifar10' else 'volumes'}, which stay as they are"
        raise UserError(f"--out and --shards are for videos, and {what}")
    if options.out:
        copies.check_target(options.root, options.out, paths)
    if options.shards:
        pack.check_target(options.root, options.shards)
    if options.slurm:
        return _submit_shards(options)
    cache = options.ledgers / copies.format_shard(options.shard) if options.is_shard else None  # probing locks it
    mine = copies.select_shard(paths, options.shard)
    infos, bad = manifest.probe_all(options.root, mine, cache=cache, workers=options.workers)
    _print_survey(options, lists, infos)
    if options.is_shard:
        _merge_parts(options, paths)
    if options.shards:
        _pack_dataset(options, paths)
    if options.out:
        whole = sorted({split_segment(path)[0] for path in paths})
        if whole != paths:  # copies are of whole files, whatever parts of them are listed
            mine = copies.select_shard(whole, options.shard)
            whole_infos, unreadable = manifest.probe_all(options.root, mine, cache=cache, workers=options.workers)
            bad |= unreadable | _copy_dataset(options, lists, whole, whole_infos, unreadable)
        else:
            bad |= _copy_dataset(options, lists, paths, infos, bad)
    rows = [*bad.items(), *(_find_duplicates(options, lists, infos) if options.duplicates else ())]
    noted = [(path, "; ".join(info.warnings)) for path, info in infos.items() if info.warnings]
    _report_videos(options, "warnings.csv", noted, WARNING_COLUMNS)
    _report_videos(options, "bad.csv", rows, BAD_VIDEO_COLUMNS)
    return 1 if rows else 0


def _merge_parts(options: Options, paths: list[str]) -> None:
    """Join what all shards found, once the last one has ended."""
    merged = manifest.merge_parts(options.root, options.ledgers, paths)
    ends = f"wrote {merged}" if merged else "the last one to end writes the manifest of all"
    print(f"shard {'{}/{}'.format(*options.shard)} is probed; {ends}")


def _pack_dataset(options: Options, paths: list[str]) -> None:
    out = Path(options.shards or "")
    configs = survey.list_configs(options.format, options.root, options.splits, options.split)
    lists = {int(data.split): index.read_format(data) for data in configs}
    count = pack.write_shards(options.root, out, options.format, lists, paths)
    print(f"wrote {out}: {count} tar files and their index (train with data.root={out} data.splits=null)")


def _print_survey(options: Options, lists: Mapping[int, Index], infos: Mapping[str, VideoInfo]) -> None:
    if not options.is_shard:
        header = ("split", "list", "listed", "there", "readable")
        print(*survey.format_table([*survey.count_readable(lists, infos)], header), "", sep="\n")
    if infos:
        total = ("readable videos", f"{len(infos):,}")
        print(*survey.format_table([*survey.count_traits(infos)], total), "", sep="\n")


def _find_duplicates(
    options: Options, lists: Mapping[int, Index], infos: Mapping[str, VideoInfo]
) -> list[tuple[str, str]]:
    """Report all duplicates; return (file, text) of equal videos, of copies in two lists, and of what is unreadable."""
    rows = survey.find_duplicates(lists, infos)
    print(f"{len(rows):,} pair{'s' * (len(rows) != 1)} of videos with equal frames in a split")
    found, bad = duplicates.find_copies(options.root, infos, options.workers or machine.count_cpus())
    listed = duplicates.list_copies(found, lists)
    print(f"{len(listed):,} pair{'s' * (len(listed) != 1)} of videos that show the same recording")
    _report_videos(options, "duplicates.csv", listed, duplicates.COLUMNS)
    leaks = duplicates.select_leaks(listed)
    if leaks:
        warn(f"{len(leaks)} pairs of copies are in two lists of a split, so the score would be too high; remove one")
    return [*rows, *((row[0], f"a copy of {row[1]} ({row[2]}), in {row[3]}") for row in leaks), *bad.items()]


def _report_videos(options: Options, name: str, rows: Sequence[tuple[str, ...]], columns: tuple[str, ...]) -> None:
    """Print rows, and write all of them to the CSV file `name`."""
    if options.is_shard:
        path = options.ledgers / f"{copies.format_shard(options.shard)}.{name}"
    elif options.out:
        path = options.out / name
    else:
        path = manifest.find_manifest_path(options.root).with_suffix(f".{name}")
    survey.write_csv(path, rows, columns)
    if rows:
        print(*survey.format_table(rows, columns)[: MAX_PRINTED_ROWS + 1], sep="\n")
        if len(rows) > MAX_PRINTED_ROWS:
            print(f"... and {len(rows) - MAX_PRINTED_ROWS:,} more")
        print(f"wrote {path}: {len(rows):,} rows")


def _copy_dataset(
    options: Options,
    lists: Mapping[int, Index],
    paths: list[str],
    infos: Mapping[str, VideoInfo],
    bad: Mapping[str, str],
) -> dict[str, str]:
    """Copy the readable videos; return {path: reason} of videos that have no copy."""
    root, out, settings = options.root, Path(options.out or ""), options.settings
    workers = options.workers or machine.count_cpus()
    failed = copies.prepare_copies(root, out, infos, bad, settings, shard=options.shard, workers=workers)
    if options.format != "folder":
        copies.copy_lists(root, options.splits, out)
    summary = copies.summarize_copies(root, out, paths, settings)
    if summary is None:
        print(f"shard {'{}/{}'.format(*options.shard)} is done; the last one to end writes {out}/prepared.json")
        return failed
    summary["videos"] = {"expected": survey.count_expected(lists), **summary["videos"]}
    files.write_json(out / "prepared.json", {"format": options.format, **summary})
    if options.is_shard:
        survey.write_csv(out / "bad.csv", sorted(summary["bad"].items()), BAD_VIDEO_COLUMNS)
    n, size = summary["videos"], summary["bytes"]
    before, after = (f"{size[what] / 1e6:,.1f} MB" for what in ("sources", "copies"))
    print(f"prepared {n['prepared']:,} of {n['expected']:,} videos, {summary['frames']:,} frames: {before} -> {after}")
    stream = " data.stream=flow" * (settings.flow != "none")
    print(f"wrote {out} (train with data.root={out}{stream}) and {out / 'prepared.json'}")
    return failed


def _submit_shards(options: Options) -> int:
    count, *overrides = options.slurm
    values: dict[str, Any] = {"cpus_per_task": options.workers} if options.workers else {}
    for override in overrides:
        parse.apply_override(values, override)
    commands = [_build_shard_command(options, f"{number}/{count}") for number in range(1, int(count) + 1)]
    logs = options.ledgers.resolve() / "slurm"
    logs.mkdir(parents=True, exist_ok=True)
    jobs = slurm.submit(commands, logs, values)
    print(f"submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs[:8])}{', ...' * (len(jobs) > 8)}")
    result = options.out / "prepared.json" if options.out else manifest.find_manifest_path(options.root)
    print(f"wrote their logs to {logs}; the last one to end writes {result}")
    return 0


def _build_shard_command(options: Options, shard: str) -> list[str]:
    """Build this command for one shard, with absolute paths."""
    names = ("root", "splits", "split", "out", "workers")
    settings = {name: value for name, value in asdict(options.settings).items() if name != "recipe"}
    values = {**{name: getattr(options, name) for name in names}, **settings, "shard": shard}
    values = {k: v.resolve() if isinstance(v, Path) else v for k, v in values.items() if v is not None}
    arguments = [text for k, v in values.items() for text in (f"--{k.replace('_', '-')}", str(v))]
    return [sys.executable, os.path.abspath(sys.argv[0]), options.format, *arguments]
