"""Write a page and a CSV file of trained networks, from the records that lie beside the page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from videores.config.parse import CONFIG_DIR, load_config
from videores.errors import UserError
from videores.inference.card import format_floor
from videores.inference.record import RunRecord, format_commit
from videores.models.weights import names, safetensors
from videores.reporting.zoo_entries import Entry, add_runs, find_entries, read_entries
from videores.runtime import files
from videores.runtime.code_hash import hash_code
from videores.runtime.tables import format_csv, format_markdown_table
from videores.training import run_folder

PAGE = Path("docs", "zoo.md")  # of this repository

HEAD = """# Model zoo

Written by `{command}` from the records in `{records}/`; do not edit. [{csv}]({csv}) has the same rows with
more columns.

Accuracies are in per cent of the test videos, with the 95 % interval of video top-1. A floor is what a prediction
without a network reaches: the majority class, or the nearest training video by frame size and length, or by thumbnail.
GMACs are of one clip: a video costs them for each clip and crop of the protocol. The time is processor time of one clip
in float32 on one thread, the median of nine turns over all networks: {machines}.

"""
MARKS = """
* **not beaten**: the interval is not above the floor, so the result is no evidence that the network learnt.
* **gone**: the weights are not kept, or their folder has a later run. The command of the run makes them again.
* **other code**: the code that can change a result differs from the present one. The command gives the present result.
"""
MISSING = """
## Not among these runs

Configurations of this repository without a row. [Results](results.md) has the accuracies of those that ran elsewhere,
in ablation tables or with other options.

"""


def write_zoo(page: Path, runs: Sequence[Path] = (), is_kept: bool = True) -> list[Path]:
    """Add runs to a zoo and write its page and its CSV file; return their paths.

    Args:
        page: the Markdown file; the records lie in a folder of its name.
        runs: run folders that are new or newer.
        is_kept: whether the run folders stay where they are, so that rows name them.

    Raises:
        UserError: for a run that has not ended, for two runs of one name, and where there is nothing to show.
    """
    if runs:
        add_runs(page, runs, is_kept)
    texts = build_zoo(page)
    for path, text in texts.items():
        files.write_text(path, text)
    return list(texts)


def build_zoo(page: Path) -> dict[Path, str]:
    """Return the texts of the page and the CSV file, by path. Raises UserError."""
    shipped = _read_shipped_records()
    rows = [_make_row(entry, page.parent, shipped) for entry in read_entries(page)]
    if not rows:
        raise UserError(f"{find_entries(page)} must have records of runs: give run folders")
    csv, is_docs = page.with_suffix(".csv"), page == PAGE
    command = f"python tools/zoo.py {'--docs' if is_docs else f'--out {page}'}"
    text = HEAD.format(command=command, records=find_entries(page).name, csv=csv.name, machines=_format_machines(rows))
    text += f"{format_markdown_table(*_format_results(rows))}\n{MARKS}"
    text += f"\n## Runs\n\n{format_markdown_table(*_format_runs(rows))}\n"
    if is_docs:
        text += MISSING + format_markdown_table(("configuration", "data set"), _list_missing(rows)) + "\n"
    return {page: text, csv: format_csv(rows)}


# Rows


def _read_shipped_records() -> dict[str, RunRecord]:
    """Return {source: record of its run} of the weights that come with videores."""
    found = names.list_models("videores/*", pretrained=True)
    return {name: safetensors.read_safetensors(names.find_file(name))[1]["record"] for name in found}


def _make_row(entry: Entry, folder: Path, shipped: Mapping[str, RunRecord]) -> dict[str, Any]:
    """Return a row of the CSV file, whose columns are in timm's manner."""
    record, latency = entry["record"], entry["latency"]
    result, (frames, crop) = record["results"][0], entry["clip"]
    low, high = result["ci95_video_top1"]
    floors = result["floors"]
    return {
        "model": record["name"],
        "network": record["network"],
        "data": record["data"],
        "protocol": result["protocol"],
        "video_top1": f"{result['video_top1']:.2f}",
        "video_top1_low": f"{low:.2f}",
        "video_top1_high": f"{high:.2f}",
        "clip_top1": "" if result["clip_top1"] is None else f"{result['clip_top1']:.2f}",
        "floor": format_floor(floors),
        "frames": frames,
        "img_size": crop,
        "param_count": f"{entry['params'] / 1e6:.3g}",
        "gmacs": f"{entry['gmacs']:.3g}",
        "cpu_ms": f"{latency['ms']:.1f}" if latency else "",
        "cpu": latency["machine"] if latency else "",
        "measured": latency["measured"] if latency else "",
        "config": record["config"] or "",
        "command": record["command"],
        "seed": record["seed"],
        "threads": record["threads"],
        "commit": format_commit(record),
        "code": record["code"] or "not recorded",
        "same_code": record["code"] == hash_code(),
        "file": _find_weights(entry, folder, shipped),
    }


def _find_weights(entry, folder, shipped):
    """Return the source that has the weights of a row, or "" where they are gone."""
    for source, record in shipped.items():
        if record == entry["record"]:
            return source
    return entry["run"] if entry["run"] and _holds_run(folder / entry["run"], entry["record"]) else ""


def _holds_run(folder, record):
    """Whether a folder has the run of a record: not none, and no later training of the same name."""
    known = run_folder.read_record(folder)
    times = (known["starts"][0]["time"], known.get("end")) if known else None
    return times == (record["started"], record["ended"]) and (folder / "checkpoints").is_dir()


def _format_machines(rows):
    """Return on which machines rows were timed, and when: those of one time can be compared."""
    times = dict.fromkeys((row["cpu"], row["measured"]) for row in rows if row["cpu_ms"])
    return "; ".join(f"{cpu}, {measured}" for cpu, measured in times) or "none was timed"


def _format_results(rows):
    header = ("name", "protocol", "clip", "video", "interval", "best floor", "parameters (M)", "GMAC", "ms", "weights")
    keys = ("clip_top1", "video_top1", "interval", "floor", "param_count", "gmacs", "cpu_ms")
    interval = lambda row: {"interval": f"{row['video_top1_low']} to {row['video_top1_high']}", **row}
    mark = lambda row: f"`{row['file']}`" if row["file"] else "gone"
    return header, [
        (f"`{row['model']}`", f"`{row['protocol']}`", *(interval(row)[key] for key in keys), mark(row)) for row in rows
    ]


def _format_runs(rows):
    header = ("name", "network", "command", "seed, threads", "commit", "code")
    return header, [
        (
            f"`{row['model']}`",
            f"`{row['network']}`",
            f"`{row['command']}`",
            f"{row['seed']}, {row['threads']}",
            row["commit"],
            f"{row['code']}{'' if row['same_code'] else ' (other code)'}",
        )
        for row in rows
    ]


def _list_missing(rows) -> Iterator[tuple[str, str]]:
    """Yield the configurations of this repository that have no row, with their data sets."""
    there = {Path(row["config"]).stem for row in rows}
    for path in sorted(CONFIG_DIR.glob("*.yaml")):
        if path.stem not in there:
            yield f"`{path.name}`", load_config(path).data.name
