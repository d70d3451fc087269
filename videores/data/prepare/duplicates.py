"""Find copies of videos in a data set: re-encoded, scaled, cropped, mirrored, trimmed or at double speed.

Thumbnails of each video are kept in the user's cache. Hashes of some of them, one for each window that a copy may
show, are compared with those of all other videos, by matrix products; only pairs with a like hash are aligned.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from videores.data import index, manifest
from videores.data.decode import read_frames
from videores.data.lists import Index
from videores.data.prepare import alignment
from videores.data.prepare.alignment import WHOLE, WINDOWS, Match, Thumbnails
from videores.data.probe import VideoInfo
from videores.data.video import sandbox
from videores.errors import UnreadableVideo
from videores.runtime import files

VERSION = 1  # of thumbnails: raise it whenever one changes
RATE, FEWEST, MOST = 8, 32, 256  # thumbnails a second, and of a video that has as many frames
READ_SIDE = 48  # pixels of the short side before the sides are made equal
PICTURE_RATE = 25  # frames a second of folders of frames, which state none
MIN_LIKENESS = 0.88  # cosine of two hashes from which on videos are aligned
NEW_LIKENESS = 0.95  # below it, a thumbnail is hashed beside others of its video
BLOCK = 4096  # hashes that are compared with all at a time
TRIED_WINDOWS = 2  # of a pair
CERTAIN_LIKENESS = 0.9  # of a match from which on no other is looked for
WHOLE_SHARE = 0.93  # of a side, or of the time: less is cropped or trimmed


@dataclass(frozen=True)
class Copy:
    """A video and a video that it is a copy of."""

    path: str
    source: str
    kind: str
    match: Match  # how the copy lies in the source


def find_copies(
    root: Path, infos: Mapping[str, VideoInfo], workers: int, progress: bool = True
) -> tuple[list[Copy], dict[str, str]]:
    """Find pairs of videos that show the same recording in other frames.

    Returns them sorted, and {path: reason} of the videos that could not be read. Thumbnails in the cache are
    not made again.
    """
    thumbnails, bad = _read_all_thumbnails(root, infos, workers, progress)
    candidates = _find_candidates(thumbnails, progress)
    found: dict[frozenset[str], Copy] = {}
    bar = tqdm(candidates.items(), "comparing videos", disable=not (progress and candidates))
    for (first, second), windows in bar:
        one, other = thumbnails[first], thumbnails[second]
        pair = frozenset((one.path, other.path))
        if infos[one.path].digest == infos[other.path].digest:
            continue
        for _, window in sorted(windows, reverse=True)[:TRIED_WINDOWS]:
            if pair in found and found[pair].match.likeness > CERTAIN_LIKENESS:
                break
            match = alignment.match_videos(one, other, WINDOWS[window])
            if match and (pair not in found or match.likeness > found[pair].match.likeness):
                found[pair] = Copy(other.path, one.path, _name_kind(match, infos[one.path], infos[other.path]), match)
    return sorted(found.values(), key=lambda copy: (copy.path, copy.source)), bad


def _name_kind(match, source, copy):
    window, kinds = match.window, []
    cropped = min(window.right - window.left, window.bottom - window.top) < WHOLE_SHARE
    kinds += ["mirrored"] * window.mirrored + ["cropped"] * cropped
    kinds += ["trimmed"] * (match.share < WHOLE_SHARE)
    kinds += {1.0: [], 2.0: ["double speed"], 0.5: ["half speed"]}[match.speed]
    kinds += ["scaled"] * (not cropped and (source.width, source.height) != (copy.width, copy.height))
    return ", ".join(kinds) or "re-encoded"


# -- thumbnails -------------------------------------------------------------------------------------------------------


def _read_all_thumbnails(root, infos, workers, progress):
    """Return Thumbnails of all videos, and {path: reason} of those that were not read."""
    folder = manifest.find_manifest_path(root).with_suffix(".thumbnails")
    folder.mkdir(exist_ok=True)
    kept = {p: folder / f"{i.digest}-{len(_list_frames(i))}-v{VERSION}.npy" for p, i in infos.items()}
    todo = [path for path in infos if not kept[path].exists()]

    def work(helper, path):
        try:
            images = helper.call(read_thumbnails, os.path.abspath(Path(root) / path), infos[path])
        except UnreadableVideo as error:
            return path, error.reason
        except sandbox.HelperFailure as lost:
            return path, f"the decoder {lost.reason} ({lost.stage})"
        with files.write_atomically(kept[path]) as temporary, open(temporary, "wb") as file:
            np.save(file, images)
        return path, None

    made = sandbox.map_unordered(work, todo, max(1, min(workers, len(todo))))
    bar = tqdm(made, "reading thumbnails", len(infos), initial=len(infos) - len(todo), disable=not (progress and todo))
    bad = {path: reason for path, reason in bar if reason}
    good = [path for path in infos if path not in bad]
    return [Thumbnails(p, np.load(kept[p], "r"), _get_seconds(infos[p])[_list_frames(infos[p])]) for p in good], bad


def read_thumbnails(path, info, beat):
    """Return uint8 images_THWC of a video, in a helper."""
    beat("reading thumbnails")
    side = min(READ_SIDE, info.width, info.height)
    return read_frames(path, _list_frames(info), info=info, short_side=side, keep=_shrink)


def _shrink(image_HWC):
    return alignment.cut_window(image_HWC[None], WHOLE, alignment.SIDE)[0].round().astype(np.uint8)


def _get_seconds(info):
    return info.seconds_T if info.fps or info.uneven_seconds else np.arange(info.num_frames) / PICTURE_RATE


def _list_frames(info):
    """Return the numbers of the frames that thumbnails are made of, evenly spread."""
    count = max(FEWEST, min(MOST, round(RATE * float(_get_seconds(info)[-1]))))
    return np.unique(np.linspace(0, info.num_frames - 1, min(count, info.num_frames)).round().astype(int))


# -- candidates -------------------------------------------------------------------------------------------------------


def _find_candidates(thumbnails, progress):
    """Return {(number, number): [(likeness, window), ...]} of videos to compare.

    About that window of the first the second may show.
    """
    if len(thumbnails) < 2:
        return {}
    chosen = [_select_different(one) for one in thumbnails]
    asked = [_spread(c, 2 + int(one.seconds_T[-1] / 2)) for c, one in zip(chosen, thumbnails, strict=True)]
    whole_XD, first_V, _ = _hash_all(thumbnails, chosen, WHOLE)
    candidates = defaultdict(list)
    for number, window in enumerate(tqdm(WINDOWS, "comparing hashes", disable=not progress)):
        hash_QD, first_of_V, sizes = _hash_all(thumbnails, asked, window)
        for block in _split_videos(sizes):
            rows = slice(first_of_V[block.start], first_of_V[block.stop - 1] + sizes[block.stop - 1])
            likeness_QX = hash_QD[rows] @ whole_XD.T
            by_video = np.maximum.reduceat(likeness_QX, first_V, axis=1)
            likeness_VV = np.maximum.reduceat(by_video, first_of_V[block] - rows.start, axis=0)
            for one, other in zip(*(places.tolist() for places in np.nonzero(likeness_VV > MIN_LIKENESS)), strict=True):
                if one + block.start != other:
                    candidates[one + block.start, other].append((float(likeness_VV[one, other]), number))
    return candidates


def _hash_all(thumbnails, chosen, window):
    """Return the hashes of chosen thumbnails of all videos, where those of each begin, and how many they are."""
    sizes = np.array([len(some) for some in chosen])
    hashes = [_hash(one.images_THWC[some], window) for one, some in zip(thumbnails, chosen, strict=True)]
    return np.concatenate(hashes), np.cumsum(sizes) - sizes, sizes


def _hash(images_THWC, window):
    return alignment.normalize(alignment.transform(images_THWC, window))


def _spread(items, most):
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, most).astype(int))]


def _select_different(one):
    """Return the places of thumbnails that differ, more of a longer video."""
    hash_TD, chosen = _hash(one.images_THWC, WHOLE), [0]
    for place in range(1, len(hash_TD)):
        if (hash_TD[chosen] @ hash_TD[place]).max() < NEW_LIKENESS:
            chosen.append(place)
    return _spread(chosen, 8 + int(one.seconds_T[-1]))


def _split_videos(sizes: np.ndarray) -> Iterator[slice]:
    """Yield slices of videos with about BLOCK hashes together."""
    block_V = (np.cumsum(sizes) - 1) // BLOCK
    for block in np.unique(block_V):
        places = np.flatnonzero(block_V == block)
        yield slice(int(places[0]), int(places[-1]) + 1)


# -- what is told -----------------------------------------------------------------------------------------------------

COLUMNS = ("file", "copy_of", "kind", "lists", "labels", "offset_seconds", "shared", "likeness")


def list_copies(copies: Sequence[Copy], lists: Mapping[int, Index]) -> list[tuple[str, ...]]:
    """Return a row of COLUMNS for each copy, those in two lists first."""
    return [row for _, row in sorted((not _is_across(row), row) for row in (_list_copy(c, lists) for c in copies))]


def select_leaks(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the rows of copies that are in two lists of a split."""
    return [row for row in rows if _is_across(row)]


def _is_across(row):
    return " and " in row[COLUMNS.index("lists")]


def _list_copy(copy, lists):
    places, labels = [], ""
    for split, found in lists.items():
        videos = {video.path: (part, video.label) for part in index.PARTS for video in getattr(found, part)}
        if copy.path in videos and copy.source in videos:
            (part, label), (other, label_of_source) = videos[copy.path], videos[copy.source]
            where = part if part == other else f"{part} and {other}"
            places.append(f"{where} of split {split}" if len(lists) > 1 else where)
            labels = " / ".join(dict.fromkeys((found.classes[label], found.classes[label_of_source])))
    match = copy.match
    numbers = (f"{match.offset:.2f}", f"{match.share:.0%}", f"{match.likeness:.3f}")
    return copy.path, copy.source, copy.kind, "; ".join(places) or "different splits", labels, *numbers
