"""Survey a data set: lists, counts, traits of files, duplicates."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from videores.config.schema import SPLIT_COUNTS, DataConfig
from videores.data import index
from videores.data.lists import Index, split_segment
from videores.data.probe import VideoInfo
from videores.data.video import readers
from videores.runtime import files


def read_all_lists(name: str, root: Path, splits: Path | None = None, split: int | str = "all") -> dict[int, Index]:
    """Read the lists of all splits of a format, or of one."""
    return {int(data.split): index.read_index(data) for data in list_configs(name, root, splits, split)}


def list_configs(name: str, root: Path, splits: Path | None, split: int | str) -> list[DataConfig]:
    """List the configurations that read the splits of a format, or one, as they are."""
    numbers = range(1, SPLIT_COUNTS.get(name, 1) + 1) if split == "all" else (int(split),)
    data: dict[str, Any] = dict(
        name=name, format=name, root=str(root), splits=splits and str(splits), val="none", on_unreadable="skip"
    )
    return [DataConfig.model_validate({**data, "split": number}) for number in numbers]


def count_listed(lists: Mapping[int, Index]) -> list[str]:
    """Return the paths of all listed videos, each once, sorted."""
    return sorted({video.path for found in lists.values() for part in index.PARTS for video in getattr(found, part)})


def count_expected(lists: Mapping[int, Index]) -> int:
    """Count the listed videos; of several splits, each video once."""
    if len(lists) > 1:
        return len(count_listed(lists))
    return sum(n["expected"] for split in lists.values() for n in split.counts.values())


def count_readable(lists: Mapping[int, Index], infos: Mapping[str, VideoInfo]) -> Iterator[tuple]:
    """Yield rows of split, list, and how many videos are listed, present and readable."""
    for split, found in lists.items():
        for part in index.PARTS:
            if found.counts[part]["expected"]:
                readable = sum(video.path in infos for video in getattr(found, part))
                yield split, part, found.counts[part]["expected"], found.counts[part]["found"], readable


def count_traits(infos: Mapping[str, VideoInfo]) -> Iterator[tuple[str, str]]:
    """Yield (name, value) rows about the readable videos."""
    videos = list(infos.values())
    lengths = sorted(info.num_frames for info in videos)
    exact = Counter(reader for info in videos for reader in info.readers)
    yield "size", most_common(f"{info.width}x{info.height}" for info in videos)
    yield "pixel aspect", most_common(info.pixel_aspect for info in videos)
    yield "frames", f"{lengths[0]} to {lengths[-1]}, median {median(lengths):g}, {sum(lengths):,} in all"
    yield "frames a second", most_common(f"{info.fps:.4g}" for info in videos)
    yield "variable rate", f"{sum(bool(info.uneven_seconds) for info in videos):,}"
    yield "sound", f"{sum(info.has_audio for info in videos):,} with, {sum(not i.has_audio for i in videos):,} without"
    yield "exact with", ", ".join(f"{reader} {exact[reader]:,}" for reader in readers.INSTALLED_READERS)
    if parts := sum(split_segment(path)[1] is not None for path in infos):
        yield "parts of files", f"{parts:,}, by start and end"
    yield "need PyAV", f"{sum(info.readers == ('pyav',) for info in videos):,}"


def most_common(values, most=4):
    """Format the most frequent values, with their counts."""
    counter = Counter(values)
    names = [f"{value} ({n:,})" for value, n in counter.most_common(most)]
    return ", ".join(names + [f"{len(counter) - most} others"] * (len(counter) > most))


def find_duplicates(lists: Mapping[int, Index], infos: Mapping[str, VideoInfo]) -> list[tuple[str, str]]:
    """Find pairs of videos of a split with equal decoded frames.

    Returns sorted rows (path, what it equals and where).
    """
    rows, digests = set(), {path: info.digest for path, info in infos.items()}
    for split, found in lists.items():
        for part, one, other, two in index.find_equal_videos(found, digests):
            where = part if part == other else f"{part} and {other}"
            labels = "" if one.label == two.label else f", as {found.classes[one.label]} and {found.classes[two.label]}"
            rows.add((split, one.path, f"equals {two.path}, in {where} of split {split}{labels}"))
    return [row[1:] for row in sorted(rows)]


def format_table(rows: Sequence[Sequence[Any]], header: Sequence[str]) -> list[str]:
    """Format lines of text with aligned columns, numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    return ["  ".join(cells).rstrip() for cells in zip(*map(_align_column, columns), strict=True)]


def _align_column(column):
    texts = [f"{value:,}" if isinstance(value, int) else str(value) for value in column]
    width = max(map(len, texts))
    numbers = all(isinstance(value, int) for value in column[1:])
    return [text.rjust(width) if numbers else text.ljust(width) for text in texts]


def write_csv(path: Path, rows: Sequence[Sequence[Any]], header: Sequence[str]) -> Path | None:
    """Write rows as a CSV file; without rows delete it. Return its path or None."""
    path = Path(path)
    if not rows:
        path.unlink(missing_ok=True)
        return None
    with files.write_atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path
