"""What a data set holds: its lists against its files, what kind of files they are, and what is bad among them."""

import csv
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from statistics import median

from videores.config.schema import DataConfig
from videores.data import index
from videores.data.video import readers
from videores.runtime import files

SPLIT_NUMBERS = {"ucf101": (1, 2, 3), "hmdb51": (1, 2, 3)}  # the formats that have several


def read_all_lists(name, root, splits=None, split="all"):
    """{split: Index} of a data set in the format `name`; validation videos are those of its lists. Raises UserError."""
    numbers = SPLIT_NUMBERS.get(name, (1,)) if split == "all" else (int(split),)
    data = dict(name=name, format=name, root=str(root), splits=splits and str(splits), val="none", on_unreadable="skip")
    return {number: index.read_index(DataConfig(**data, split=number)) for number in numbers}


def count_listed(lists):
    """The paths of all videos, each once, sorted."""
    return sorted({video.path for found in lists.values() for part in index.PARTS for video in getattr(found, part)})


def count_expected(lists):
    """How many videos the lists name, those included that a reader leaves out because they are not there."""
    several = len(lists) > 1
    return (
        len(count_listed(lists))
        if several
        else sum(n["expected"] for found in lists.values() for n in found.counts.values())
    )


def count_readable(lists, infos):
    """Rows of split, list, and how many videos are listed, there, and readable."""
    for split, found in lists.items():
        for part in index.PARTS:
            if found.counts[part]["expected"]:
                readable = sum(video.path in infos for video in getattr(found, part))
                yield split, part, found.counts[part]["expected"], found.counts[part]["found"], readable


def count_traits(infos):
    """Rows of a name and what is to be said about the readable videos."""
    infos = list(infos.values())
    lengths = sorted(info.num_frames for info in infos)
    exact = Counter(reader for info in infos for reader in info.readers)
    yield "size", most_common(f"{info.width}x{info.height}" for info in infos)
    yield "frames", f"{lengths[0]} to {lengths[-1]}, median {median(lengths):g}, {sum(lengths):,} in all"
    yield "frames a second", most_common(f"{info.fps:.4g}" for info in infos)
    yield "sound", f"{sum(info.has_audio for info in infos):,} with, {sum(not i.has_audio for i in infos):,} without"
    yield "exact with", ", ".join(f"{reader} {exact[reader]:,}" for reader in readers.INSTALLED_READERS)
    yield "need PyAV", f"{sum(info.readers == ('pyav',) for info in infos):,}"


def most_common(values, most=4):
    """The most frequent values, with their counts."""
    counted = Counter(values)
    named = [f"{value} ({n:,})" for value, n in counted.most_common(most)]
    return ", ".join(named + [f"{len(counted) - most} others"] * (len(counted) > most))


def find_duplicates(lists, infos):
    """Sorted rows of split, list, video, other list, other video: with equal frames, in two lists of one split."""
    rows = []
    for split, found in lists.items():
        alike = defaultdict(list)
        for part in index.PARTS:
            for video in getattr(found, part):
                if video.path in infos:
                    alike[infos[video.path].digest].append((part, video.path))
        pairs = (pair for videos in alike.values() for pair in combinations(videos, 2))
        rows += [(split, *one, *other) for one, other in pairs if one[0] != other[0]]
    return sorted(rows)


def format_table(rows, header):
    """Lines of text with aligned columns, numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    return ["  ".join(cells).rstrip() for cells in zip(*map(align_column, columns), strict=True)]


def align_column(column):
    texts = [f"{value:,}" if isinstance(value, int) else str(value) for value in column]
    width = max(map(len, texts))
    numbers = all(isinstance(value, int) for value in column[1:])
    return [text.rjust(width) if numbers else text.ljust(width) for text in texts]


def write_csv(path, rows, header):
    """Writes a table; without rows, removes what an earlier run wrote. Returns the path, None without rows."""
    path = Path(path)
    if not rows:
        path.unlink(missing_ok=True)
        return None
    with files.write_atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path
