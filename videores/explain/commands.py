"""Explain videos for a command line: print what comes, and write pictures, overlays and arrays."""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from videores.data import shards
from videores.errors import UnreadableVideo, UserError, escape_controls
from videores.explain.checking import CheckedClip, check_checkable, check_method, keep_for_check
from videores.explain.choice import Choice
from videores.explain.explanation import Explanation, check_pictures, explain_video, find_class
from videores.explain.layers import find_layer
from videores.explain.maps import LAYER_METHODS
from videores.explain.overlay import write_overlay
from videores.explain.record import (
    CHECK_PICTURE,
    FILE_NAME,
    Entry,
    Record,
    add_entries,
    name_folder,
    open_record,
    write_record,
)
from videores.inference.exported import ExportedNetwork
from videores.inference.features import hash_weights
from videores.inference.predictor import Predictor
from videores.runtime.files import write_atomically, write_json

FILES = {"picture": "sheet.png", "overlay": "overlay.mp4", "arrays": "attribution.npz"}


@dataclass(frozen=True)
class Options:
    """What to explain of each video, and where to write it."""

    out: Path
    plot: Callable[[Path, Explanation], None]
    method: str = "gradcam"
    layer: str | None = None
    label: str | None = None  # a class's name; by default what is predicted
    report_check: Callable[[Path, Mapping[str, Any]], list[str]] | None = None  # draws what a check finds, and words it


def explain_inputs(predictor: Predictor, chosen: Sequence[Choice], options: Options) -> int:
    """Explain videos and return the exit code, 1 where some of them do not decode.

    Raises UserError for a class, layer or method that the network has not.
    """
    if options.layer and options.method not in LAYER_METHODS:
        raise UserError(f"--layer goes with {' and '.join(LAYER_METHODS)}, not with {options.method}: leave it out")
    check_pictures(predictor)
    chosen = list({_name_file(choice): choice for choice in chosen}.values())
    if options.report_check:
        check_checkable(predictor, len(chosen))
    label = None if options.label is None else find_class(predictor.classes, options.label)
    layer = find_layer(predictor.network.model, options.layer)[0] if options.method in LAYER_METHODS else None
    record = _open_record(predictor, options, layer)
    found: list[Entry] = []
    kept: list[CheckedClip] = []
    failed = 0
    about = dict(method=options.method, layer=layer, label=label)
    for choice in tqdm(chosen, "explaining", disable=None if len(chosen) > 1 else True):
        try:
            one = explain_video(predictor, choice.root, choice.path, truth=choice.truth, **about)  # type: ignore[arg-type]
        except UnreadableVideo as error:
            print(f"error: {escape_controls(f'{choice.path}: {error.reason}')}", file=sys.stderr)
            failed += 1
            continue
        name = name_folder(add_entries(record, found), _name_file(choice), one.name)
        found.append(_write_explanation(options, choice, one, name))
        write_record(options.out, add_entries(record, found))  # an interrupted command leaves nothing unlisted
        if options.report_check:
            kept.append(keep_for_check(predictor, choice, one))
    record = add_entries(record, found)
    if kept:
        record["check"] = _write_check(predictor, options, kept, layer)
    write_record(options.out, record)
    print(f"wrote   {options.out / FILE_NAME}")
    return 1 if failed else 0


def _open_record(predictor, options, layer):
    """Return the record of the folder, to which the videos are added."""
    about = dict(
        source=predictor.network.source,
        weights=_hash_network(predictor.network.model),
        protocol=str(predictor.preprocessing),
        method=options.method,
        layer=layer,
    )
    return open_record(options.out, Record(**about, videos=[], check=None))


def _hash_network(model):
    """Return a hash of a network's weights, or of the file of an exported one."""
    if isinstance(model, ExportedNetwork):
        return hashlib.sha256(Path(model.path).read_bytes()).hexdigest()[:16]
    return hash_weights(model)


def _name_file(choice):
    return f"{shards.resolve(choice.root)}/{choice.path}"


def _write_check(predictor, options, kept, layer):
    """Check the method, write what is found, and return it in lines."""
    check_checkable(predictor, len(kept))  # of which some may not decode
    found = check_method(predictor, kept, options.method, layer)
    write_json(options.out / "check.json", found)
    lines = options.report_check(options.out / CHECK_PICTURE, found)
    print("\n".join(lines))
    return lines


def _write_explanation(options, choice, one, name):
    """Write the files of a video and return its entry."""
    folder = options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    options.plot(folder / FILES["picture"], one)
    with write_atomically(folder / FILES["arrays"]) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **one.list_arrays())
    source = Path(str(choice.root), choice.path)
    overlay = None
    if source.exists():
        write_overlay(folder / FILES["overlay"], source, one)
        overlay = f"{name}/{FILES['overlay']}"
    else:
        print(f"no overlay of {escape_controls(choice.path)}: it is a part of a file, or in a shard", file=sys.stderr)
    what = "zero map: nothing that the method sees speaks for it" if one.is_zero else f"map {one.resolution}"
    print(escape_controls(f"{one.video}  {one.answer}  {what}  {folder}"))
    return {
        "file": _name_file(choice),
        "video": one.video,
        "truth": one.truth,
        "predicted": one.prediction.label,
        "label": one.name,
        "probability": float(one.prediction.scores_N[one.label]),
        "map": list(one.maps_VTHW.shape[1:]),
        "zero": one.is_zero,
        "picture": f"{name}/{FILES['picture']}",
        "arrays": f"{name}/{FILES['arrays']}",
        "overlay": overlay,
    }
