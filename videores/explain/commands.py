"""Explain videos for a command line: print what comes, and write pictures, overlays and arrays.

explanations.json lists what was written, for the page of the run.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from typing_extensions import TypedDict

from videores.errors import UnreadableVideo, UserError, escape_controls
from videores.explain.checking import CheckedClip, check_checkable, check_method, keep_for_check
from videores.explain.choice import Choice
from videores.explain.explanation import Explanation, explain_video, find_class
from videores.explain.layers import find_layer
from videores.explain.maps import LAYER_METHODS
from videores.explain.overlay import write_overlay
from videores.inference.predictor import Predictor
from videores.runtime.files import read_json, write_atomically, write_json

FILE_NAME = "explanations.json"
CHECK_PICTURE = "check.png"
FILES = {"picture": "sheet.png", "overlay": "overlay.mp4", "arrays": "attribution.npz"}


class Entry(TypedDict):
    """What was written of a video; files are relative to the record's folder."""

    video: str
    truth: str | None
    predicted: str
    label: str  # the class that is explained
    probability: float
    map: list[int]  # steps in time, height and width
    zero: bool
    picture: str
    arrays: str
    overlay: str | None


class Record(TypedDict):
    """The content of explanations.json."""

    source: str
    protocol: str
    method: str
    layer: str | None
    videos: list[Entry]
    check: list[str] | None  # lines of what a check found


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
    if options.report_check:
        check_checkable(predictor, len(chosen))
    label = None if options.label is None else find_class(predictor.classes, options.label)
    layer = find_layer(predictor.network.model, options.layer)[0] if options.method in LAYER_METHODS else None
    found: list[Entry] = []
    kept: list[CheckedClip] = []
    folders: set[str] = set()
    about = dict(method=options.method, layer=layer, label=label)
    for choice in tqdm(chosen, "explaining", disable=None if len(chosen) > 1 else True):
        try:
            one = explain_video(predictor, choice.root, choice.path, truth=choice.truth, **about)  # type: ignore[arg-type]
        except UnreadableVideo as error:
            print(f"error: {escape_controls(f'{choice.path}: {error.reason}')}", file=sys.stderr)
            continue
        found.append(_write_explanation(options, choice, one, _name_folder(choice.path, folders)))
        if options.report_check:
            kept.append(keep_for_check(predictor, choice, one))
    check = _write_check(predictor, options, kept, layer) if kept else None
    record = Record(
        source=predictor.network.source,
        protocol=str(predictor.preprocessing),
        method=options.method,
        layer=layer,
        videos=found,
        check=check,
    )
    options.out.mkdir(parents=True, exist_ok=True)  # where no video could be explained there is none yet
    write_json(options.out / FILE_NAME, record)
    print(f"wrote   {options.out / FILE_NAME}")
    return 1 if len(found) < len(chosen) else 0


def _write_check(predictor, options, kept, layer):
    """Check the method, write what is found, and return it in lines."""
    found = check_method(predictor, kept, options.method, layer)
    write_json(options.out / "check.json", found)
    lines = options.report_check(options.out / CHECK_PICTURE, found)
    print("\n".join(lines))
    return lines


def read_record(path: Path) -> Record:
    """Read explanations.json. Raises UserError for a damaged file."""
    return read_json(path, Record, "explain the videos again")


def _name_folder(path, used):
    """Return the name of a video's folder; videos of one name get numbers."""
    stem = re.sub(r"[^\w.@-]+", "-", Path(path).stem) or "video"
    name = next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, len(used) + 3))) if name not in used)
    used.add(name)
    return name


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
