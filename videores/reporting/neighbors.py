"""Write the page of nearest neighbors: some videos, each with those that the network finds most similar."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from videores.config.schema import DataConfig
from videores.data import shards
from videores.errors import UserError
from videores.evaluation.neighbors import VideoSet, find_neighbors
from videores.reporting.contact_sheet import contact_sheet
from videores.reporting.html import Figure, embed_picture, write_html

QUERIES, NEIGHBORS = 24, 5
FRAMES, HEIGHT = 4, 72  # of a contact sheet; pixels
NO_GROUPS = "not all videos have a group, so that a neighbor may show the same scene: the numbers may be too high"
MEANING = (
    "kNN: the vote of {k} nearest training videos. Probe: a linear classifier of the training videos' features. R@k: "
    "whether one of the k nearest of {gallery_videos} {where} is of the same class. A neighbor of the same group never "
    "counts. {note}"
)


class Shown(NamedTuple):
    """The videos of a page and where their neighbors are searched."""

    asked: VideoSet
    gallery: VideoSet
    classes: Sequence[str]


def write_page(
    path: Path,
    data: DataConfig,
    shown: Shown,
    result: Mapping[str, Any],
    rows: Sequence[Sequence[str]],
    embedding: Path | None,
) -> None:
    """Write the page of a result, whose table has `rows`; `embedding` is the picture of the features."""
    where = "training videos" if result["gallery"] == "train" else f"{result['part']} videos of other groups"
    caption = "A dot is a video, a color a class. Distances between clusters mean nothing."
    queries = select_queries(shown.asked)
    write_html(
        path,
        "neighbors.html",
        name=f"Neighbors, {result['source']}",
        summary=f"{result['layer']}, {result['dimensions']} numbers a video: {result['averaging']}; "
        f"{result['protocol']}",
        notes=[] if result["grouped"] else [f"{NO_GROUPS[0].upper()}{NO_GROUPS[1:]}."],
        columns=["trained", "random weights"],
        rows=rows,
        unit=result["ci95_over"],
        meaning=MEANING.format(where=where, note="A video that does not decode is wrong.", **result),
        embedding=embed_picture(embedding.read_bytes(), "png", caption, 900) if embedding else None,
        choice=f"{len(queries)} of {result['videos']} {result['part']} videos, evenly over the classes, and their "
        f"nearest of {result['gallery_videos']} {where}. Green: of the same class; red: of another.",
        queries=list(_describe_queries(queries, data, shown)),
    )


def select_queries(asked: VideoSet, most: int = QUERIES) -> list[int]:
    """Return at most `most` videos that decode, evenly over the classes."""
    there = np.flatnonzero(~np.isnan(asked.features_VD).any(1))
    by_label = there[np.argsort(asked.label_V[there], kind="stable")]
    return by_label[np.unique(np.linspace(0, len(by_label) - 1, most).round().astype(int))].tolist()


def _describe_queries(queries: Sequence[int], data: DataConfig, shown: Shown) -> Iterator[dict[str, Any]]:
    asked, gallery, classes = shown
    chosen = VideoSet(
        [asked.video[v] for v in queries],
        asked.label_V[queries],
        [asked.group[v] for v in queries],
        asked.features_VD[queries],
    )
    found = find_neighbors(chosen, gallery, NEIGHBORS)
    sheets = _Sheets(data)
    for number, (place_K, cosine_K) in enumerate(zip(*found, strict=True)):
        name, label = chosen.video[number], chosen.label_V[number]
        videos = [sheets.describe(name, f"{classes[label]}: {name}", "query")]
        for place, cosine in zip(place_K[place_K >= 0], cosine_K, strict=False):
            video, other = gallery.video[place], gallery.label_V[place]
            caption = f"{classes[other]}, cosine {cosine:.3f}: {video}"
            videos.append(sheets.describe(video, caption, "same" if other == label else "other"))
        same = sum(video["kind"] == "same" for video in videos)
        yield {"title": f"{classes[label]}: {same} of {len(videos) - 1} of the same class", "videos": videos}


class _Sheets:
    """Contact sheets of videos, each read once."""

    def __init__(self, data: DataConfig):
        self.root, self.reader = shards.locate(data.root), data.reader
        self.known: dict[str, tuple[bytes, int] | str] = {}

    def describe(self, video: str, caption: str, kind: str) -> dict[str, Any]:
        """Return the variables of one video of the template."""
        if video not in self.known:
            try:
                self.known[video] = contact_sheet(self.root / video, self.reader, FRAMES, HEIGHT)
            except UserError as error:
                self.known[video] = str(error)
        sheet = self.known[video]
        figure: Figure | None = None if isinstance(sheet, str) else embed_picture(sheet[0], "jpeg", caption, sheet[1])
        return {"caption": caption, "kind": kind, "figure": figure, "error": sheet if figure is None else None}
