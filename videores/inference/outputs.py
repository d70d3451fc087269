"""Write predictions as JSON and CSV while they come, and draw labels into videos.

The schema, SCHEMA, is in docs/guide/predict.md. A record is a row: of a video, a window, a segment or an error.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videores.data.video.encode import draw_on_video
from videores.inference.segments import Segment

SCHEMA = "videores.predict/1"
COLUMNS = ("schema", "input", "kind", "start", "end", "rank", "class", "probability", "latency", "error")
DIGITS = 6  # of seconds and probabilities
Record = Mapping[str, Any]


@contextmanager
def open_records(
    json_path: Path | None, csv_path: Path | None, header: Mapping[str, Any]
) -> Iterator[Callable[[Record], None]]:
    """Yield a function that writes a record to the files that are asked for.

    Each record is on the disk before the next one comes, and the files are whole however the block ends.
    """
    with ExitStack() as stack:
        writers = []
        if json_path:
            writers.append(stack.enter_context(_open_json(json_path, header)))
        if csv_path:
            writers.append(stack.enter_context(_open_csv(csv_path)))

        def write_record(record: Record) -> None:
            for write in writers:
                write(record)

        yield write_record


@contextmanager
def _open_json(path, header):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        lines = [f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in {"schema": SCHEMA, **header}.items()]
        file.write("{\n" + "".join(lines) + ' "records": [')
        comma = ""

        def write(record):
            nonlocal comma
            file.write(f"{comma}\n  {json.dumps(record)}")
            file.flush()
            comma = ","

        try:
            yield write
        finally:
            file.write("\n ]\n}\n")


@contextmanager
def _open_csv(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()

        def write(record):
            rest = {key: value for key, value in record.items() if key != "top"}
            for rank, answer in enumerate(record.get("top", [{}]), 1):
                writer.writerow({"schema": SCHEMA, **rest, **({"rank": rank} if answer else {}), **answer})
            file.flush()

        yield write


def make_record(name: str, kind: str, start: float, end: float, top: Sequence[tuple[str | None, float]]) -> Record:
    """Return the record of a video, a window or a segment; the class None is nothing."""
    answers = [{"class": label, "probability": round(probability, DIGITS)} for label, probability in top]
    return {"input": name, "kind": kind, "start": round(start, DIGITS), "end": round(end, DIGITS), "top": answers}


def write_labeled_video(path: Path, source: Path, segments: Sequence[Segment]) -> int:
    """Write a video with the label of each moment drawn in; return the number of frames."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def draw(seconds: float, frame_HWC: np.ndarray) -> np.ndarray:
        current = next((s for s in segments if seconds < s.end), segments[-1] if segments else None)
        label = "" if current is None else f"{current.label or 'nothing'}  {current.confidence:.2f}"
        return draw_label(frame_HWC, label)

    return draw_on_video(path, source, draw)


def draw_label(frame_HWC: np.ndarray, label: str) -> np.ndarray:
    """Draw white letters on a dark bar, at most as wide as the picture."""
    image = Image.fromarray(frame_HWC)
    size = max(6, image.height // 16)
    font = ImageFont.load_default(size)
    while font.getlength(label) > image.width - size and size > 6:
        font = ImageFont.load_default(size := size - 1)
    pen, height = ImageDraw.Draw(image, "RGBA"), round(1.5 * size)
    pen.rectangle((0, 0, min(font.getlength(label) + size, image.width), height), fill=(0, 0, 0, 160))
    pen.text((size / 2, height / 2), label, fill="white", font=font, anchor="lm")
    return np.asarray(image)
