"""Take the features of a network, judge them beside those of random weights, and show them.

It writes features.npz, features_train.npz, features.json, the picture of the features and the page of neighbors.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videores.config.schema import Config
from videores.data import datamodule
from videores.data.datamodule import Videos
from videores.data.lists import preview
from videores.errors import UserError
from videores.evaluation.metrics import name_resampled_unit
from videores.evaluation.neighbors import VideoSet, judge_retrieval, judge_votes
from videores.evaluation.probe import judge_probe
from videores.evaluation.protocol import format_protocol, slugify
from videores.inference import features
from videores.inference.feature_files import NETWORKS, Features, read_features, write_features
from videores.inference.features import FeatureExtractor
from videores.inference.source import TrainedNetwork
from videores.inference.testing import slugify_source
from videores.reporting import embedding, neighbors
from videores.runtime.files import write_json
from videores.training import setup

RESULTS = Path("results", "features")
NAMES = dict(zip(NETWORKS, ("trained", "random weights"), strict=True))  # array of features.npz -> name


@dataclass(frozen=True)
class Options:
    """What to take from which network, and how to judge it."""

    source: str
    cfg: str | None = None
    overrides: Sequence[str] = ()
    part: str = "test"
    layer: str | None = None
    gallery: str = "train"  # of the retrieval and the page: "train", or "own", the judged videos themselves
    k: int = 20  # neighbors that vote
    perplexity: float = 30.0
    seed: int = 0  # of the random weights and the picture
    picture: bool = True
    out: Path | None = None
    class_map: Path | None = None
    device: str = "auto"


def report_features(options: Options) -> int:
    """Take and judge features, write all files, and return the exit code.

    It is 1 where videos do not decode; those are wrong. Raises UserError for wrong input.
    """
    if options.picture:
        embedding.check_packages_installed()
    tested = features.prepare_source(options.source, options.cfg, options.overrides, options.class_map)
    cfg, network = tested.cfg, features.place_network(tested.network, tested.cfg, options.device)
    extractor = FeatureExtractor(network.model, options.layer)
    folder = options.out or _choose_folder(options, cfg)
    setup.import_own_parts(cfg, folder)
    videos = datamodule.load_videos(cfg.data, parts=("train", options.part))
    files = {"train": folder / "features_train.npz", options.part: folder / "features.npz"}
    new = [path for path in files.values() if not path.exists()]
    found = {part: _take_features(options, cfg, network, extractor, videos, part, path) for part, path in files.items()}
    train, asked = found["train"], found[options.part]
    unread = [path for one in found.values() for path in _find_unread(one)]
    if unread:
        print(f"warning: {len(unread)} videos do not decode:\n  {preview(unread)}", file=sys.stderr)
    result = _judge(options, train, asked)
    result = {"source": options.source, **asked.origin, "part": options.part, **result, "unreadable": unread}
    written = _write_files(options, cfg, folder, result, train, asked)
    for line in (*format_result(result), *(f"wrote   {path}" for path in (*new, *written))):
        print(line)
    return 1 if unread else 0


def _choose_folder(options, cfg):
    """Return <run>/features/<part>/<protocol>/, beside a file or a shared folder, or for a name under results/."""
    path = Path(options.source)
    base = path / "features" if (path / "config.yaml").exists() else Path(f"{path}.features")
    if not path.exists():
        base = RESULTS / slugify_source(options.source)
    layer = f"+{options.layer}" if options.layer else ""
    return base / options.part / f"{slugify(format_protocol(cfg, options.part))}{layer}"


# Features


def _take_features(
    options: Options,
    cfg: Config,
    network: TrainedNetwork,
    extractor: FeatureExtractor,
    videos: Videos,
    part: str,
    path: Path,
) -> Features:
    """Read the features of a list where they are the same, else take and write them."""
    dataset = features.make_dataset(cfg, videos, part, getattr(cfg, options.part))
    listed = getattr(videos.index, part)
    origin = {
        "layer": extractor.name,
        "network": features.hash_weights(network.model),
        "protocol": format_protocol(cfg, options.part),
        "list": f"{setup.hash_lists(videos)[part]}, {len(dataset)} of {len(listed)} videos",
        "precision": network.number_format,
        "seed": str(options.seed),
    }
    if path.exists():
        print(f"read    {path}", file=sys.stderr)
        return read_features(path, origin)
    random = FeatureExtractor(features.create_random_network(network, options.seed), options.layer)
    taken = features.extract_features(network, dataset, [extractor, random], cfg.data.workers)
    is_there_V = np.isin([video.path for video in listed], [video.path for video in dataset.videos])
    tables = [np.full((len(listed), features_SD.shape[1]), np.nan, dtype=np.float32) for features_SD in taken]
    for table_VD, features_SD in zip(tables, taken, strict=True):  # S of V videos decode
        table_VD[is_there_V] = features_SD
    found = Features(
        video=np.array([video.path for video in listed]),
        label=np.array([video.label for video in listed]),
        group=np.array([video.group or "" for video in listed]),
        classes=np.array(videos.index.classes),
        **dict(zip(NETWORKS, tables, strict=True)),
        origin=origin,
    )
    write_features(path, found)
    return found


def _find_unread(found):
    return found.video[np.isnan(found.features).any(1)].tolist()


# Results


def _drop_unread(videos: VideoSet) -> VideoSet:
    there = np.flatnonzero(~np.isnan(videos.features_VD).any(1))
    pick = lambda values: [values[i] for i in there]
    return VideoSet(pick(videos.video), videos.label_V[there], pick(videos.group), videos.features_VD[there])


def _select_gallery(options: Options, train: Features, asked: Features, network: str) -> VideoSet:
    return _drop_unread((train if options.gallery == "train" else asked).select(network))


def _judge(options: Options, train: Features, asked: Features) -> dict[str, Any]:
    """Return accuracies and recalls of both networks, and what they are of."""
    label_R, classes = train.label, len(train.classes)
    if len(np.unique(label_R)) < 2:
        raise UserError(
            f"--cfg must name data whose training videos have labels of at least two classes, got only "
            f"{train.classes[label_R[0]]!r}: without labels features.npz is all that there is"
        )
    gallery = len(_select_gallery(options, train, asked, "features").video)
    result: dict[str, Any] = {
        "videos": len(asked.video),
        "training_videos": len(label_R),
        "gallery": options.gallery,
        "gallery_videos": gallery,
        "k": min(options.k, len(label_R)),
        "dimensions": asked.features.shape[1],
        "averaging": "mean over views, then length 1 (neighbors) or standardized (probe)",
        "ci95_over": name_resampled_unit(asked.group, len(asked.video)),
        "grouped": bool((asked.group != "").all()),
    }
    for name in NETWORKS:
        known, ours = _drop_unread(train.select(name)), asked.select(name)
        result[NAMES[name]] = {
            "kNN": judge_votes(ours, known, classes, options.k),
            "probe": judge_probe(ours, known, classes),
            **judge_retrieval(ours, _select_gallery(options, train, asked, name)),
        }
    return result


def format_result(result: Mapping[str, Any]) -> list[str]:
    """Format the lines that end the output of the tool."""
    lines = [
        f"taken   {result['layer']}, {result['dimensions']} numbers, of {result['videos']} {result['part']} and "
        f"{result['training_videos']} training videos; {result['protocol']}",
        f"        top-1 and recall with 95 % intervals over {result['ci95_over']}; in brackets with random weights",
    ]
    for row in format_rows(result):
        lines.append(f"{row[0]:8}{row[1]}   [{row[2]}]")
    return lines + ([] if result["grouped"] else [f"note    {neighbors.NO_GROUPS}"])


def format_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each measure: its name and the numbers of each network."""
    show = lambda found: f"{found['top1']:.2f} ({found['ci95'][0]:.2f} to {found['ci95'][1]:.2f})"
    return [[name, *(show(result[network][name]) for network in NAMES.values())] for name in result["trained"]]


def _write_files(options, cfg, folder, result, train, asked):
    """Write the numbers, the picture and the page; return their paths."""
    title, written = f"{result['layer']} of {options.source}, {options.part} videos, {result['protocol']}", []
    picture = None
    seen = {NAMES[name]: _drop_unread(asked.select(name)) for name in NETWORKS}
    if options.picture and len(seen["trained"].video) < embedding.MIN_VIDEOS:
        print(f"note    no picture: it needs {embedding.MIN_VIDEOS} videos that decode", file=sys.stderr)
    elif options.picture:
        settings = embedding.choose_settings(len(seen["trained"].video), options.perplexity, options.seed)
        result["embedding"] = settings
        written = embedding.write_embedding(folder, seen, asked.classes.tolist(), settings, title)
        picture = written[0]
    write_json(folder / "features.json", result)
    page = folder / "neighbors.html"
    gallery = _select_gallery(options, train, asked, "features")
    shown = neighbors.Shown(asked.select("features"), gallery, asked.classes.tolist())
    neighbors.write_page(page, cfg.data, shown, result, format_rows(result), picture)
    return [folder / "features.json", *written, page]
