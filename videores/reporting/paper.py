"""Write a table of finished runs as Markdown, CSV and LaTeX, and print it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videores.reporting import paper_rows
from videores.reporting.paper_rows import DIFFERENCES, MEANS, Row
from videores.runtime.files import write_text
from videores.runtime.tables import format_csv, format_latex_table, format_markdown_table
from videores.training.run_folder import read_record

TABLE_FOLDER = Path("results", "tables")
ENDS = ("low", "high")  # of intervals
MAX_NAME = 80  # characters of a folder, which get a digest if there are more


def name_table(sources: Sequence[Path]) -> str:
    """Name the table of run folders, or of their test folders, by its rows; a long name ends in its digest."""
    runs = [run.parents[1] if run.parent.name in ("test", "val") else run for run in map(Path.resolve, sources)]
    name = "+".join(dict.fromkeys(paper_rows.strip_name(run.name) for run in runs))
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_table(sources: Sequence[Path | str], folder: Path) -> list[Row]:
    """Write the table of runs and return its rows, floors last.

    The files are table.md, table.csv and table.tex, and runs.csv with a line a run. `sources` are run folders, or their
    test folders where they were tested under several protocols.

    Raises:
        UserError: if a row lacks a split of a seed, or rows were tested on different videos.
    """
    rows = paper_rows.make_rows(sources)
    after = [key for key in (*list(MEANS)[1:], *DIFFERENCES) if any(key in row.means for row in rows)]
    header = [
        "",
        MEANS["clip_top1"],
        *(f"split {split}" for split in rows[0].several),
        *((MEANS | DIFFERENCES)[k] for k in after),
    ]
    lines = [_format_row(row, after) for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    title = paper_rows.strip_split(rows[0].runs[0].predictions.words["data"])
    table, about = format_markdown_table(header, lines), "\n".join(_describe(rows))
    write_text(folder / "table.md", f"# {title}\n\n{table}\n\n{about}\n")
    write_text(folder / "table.csv", format_csv([_flatten_row(row) for row in rows]))
    comments = "".join(f"% {line}\n" for line in about.splitlines())
    write_text(folder / "table.tex", format_latex_table(header, lines) + comments)
    write_text(folder / "runs.csv", format_csv([_describe_run(row, run) for row in rows for run in row.runs]))
    return rows


def print_table(rows: Sequence[Row], folder: Path) -> None:
    """Print the files, the floors, and as the last lines the accuracies of each row."""
    print(f"wrote   {folder}/table.md, table.csv, table.tex, runs.csv")
    floors = [f"{row.name.removeprefix('floor: ')} {row.means['video_top1']}" for row in rows if not row.runs]
    print(f"floors  {', '.join(floors) or 'unknown'}")
    if differ := "; ".join(_list_differences(rows)):
        print(f"differ  {differ}")
    for row in rows:
        if row.runs:
            splits = ", ".join(f"{split}: {value:.2f}" for split, value in row.several.items())
            print(f"row     {row.name}")
            for key, name in DIFFERENCES.items():
                if key in row.means:
                    print(f"        {name} {row.means[key]}")
            print(f"clip    top-1 {row.means['clip_top1']}")
            mean_class = f"mean class {row.means['mean_class_top1']}"
            print(f"video   top-1 {row.means['video_top1']}{f' (splits {splits})' * bool(splits)}  {mean_class}")


# Formats


def _format_row(row, after):
    show = lambda key: str(row.means.get(key, ""))
    splits = [f"{value:.2f}" for value in row.several.values()]
    return [row.name, show("clip_top1"), *splits, *map(show, after)]


def _flatten_row(row):
    """Return the numbers of a row, unrounded, for CSV."""
    seeds = len({run.seed for run in row.runs}) or None
    splits = {f"split{split}": value for split, value in row.several.items()}
    values: dict[str, Any] = {"row": row.name, "seeds": seeds, **splits}
    for key, mean in row.means.items():
        values |= {key: mean.value} | ({} if key in DIFFERENCES else {f"{key}_sd": mean.deviation})
        values |= dict(zip([f"{key}_{end}" for end in ENDS], mean.interval or (), strict=False))
    return values


def _describe_run(row, run):
    git = (read_record(run.predictions.run) or {}).get("git") or {}
    about = {"row": row.name, "split": run.split, "seed": run.seed}
    limits = {f"{key}_{end}": run.numbers[f"ci95_{key}"][i] for key in list(MEANS)[1:] for i, end in enumerate(ENDS)}
    return {
        **about,
        **{key: run.numbers[key] for key in MEANS},
        **limits,
        "protocol": run.predictions.protocol,
        "commit": git.get("commit"),
        "run": run.name,
    }


def _describe(rows):
    """Yield what the numbers are, for the end of the page."""
    tests = [run.predictions for run in rows[0].runs]
    videos = {video for p in tests for video in p.video.tolist()}
    groups = {group for p in tests for group in p.group.tolist()} - {""}
    over = f"{len(groups)} groups of the {len(videos)} test videos" if groups else f"{len(videos)} test videos"
    runs = [run for row in rows for run in row.runs]
    seeds = sorted({run.seed for run in runs})
    several = f" (± standard deviation over the seeds {', '.join(map(str, seeds))})" if len(seeds) > 1 else ""
    splits = "video top-1 of each split, then the mean of splits" if rows[0].several else "top-1"
    yield f"In per cent: {splits}{several};"
    yield f"in brackets the 95 % interval over the {over}. Floors need no network."
    if any("above_first" in row.means for row in rows):
        yield "Differences are paired by test video, with the interval over the same groups."
    if differ := "; ".join(_list_differences(rows)):
        yield f"Rows differ in {differ}."
    unbeaten = [row.name for row in rows if "above_floor" in row.means and not _is_above(row.means["above_floor"])]
    if unbeaten:
        yield f"The interval is not wholly above the best floor: {', '.join(unbeaten)}."
    yield "Protocols:"
    yield ""
    for protocol in sorted({run.predictions.protocol for run in runs}):
        yield f"* `{protocol}`"


def _list_differences(rows):
    """Yield the keys in which the recipes of rows differ, with the values of each row."""
    recipes = [json.loads(row.runs[0].recipe) for row in rows if row.runs]
    for key in sorted(set().union(*recipes)):
        values = [recipe.get(key) for recipe in recipes]
        if any(value != values[0] for value in values):
            yield f"`{key}` ({', '.join(map(json.dumps, values))})"


def _is_above(difference):
    return (difference.interval or (difference.value,))[0] > 0
