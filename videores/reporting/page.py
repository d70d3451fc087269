"""Write one HTML page of a run from the files in its folder.

It shows frames of the worst mistakes if the videos exist. Missing or damaged files are named in their place.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from videores.config.parse import load_config
from videores.config.schema import Config
from videores.data import shards
from videores.data.lists import preview
from videores.errors import UserError
from videores.evaluation.offline import rescore, select_fusion, sweep_views
from videores.evaluation.predictions import Metrics, Predictions, read_metrics, read_predictions
from videores.evaluation.protocol import format_protocol, slugify
from videores.explain import record as explain
from videores.reporting import figures, plots, probe_plots, results
from videores.reporting.contact_sheet import contact_sheet
from videores.reporting.html import embed_picture, render_figure, write_html
from videores.runtime.files import read_json
from videores.training.callbacks.metrics_log import read_metrics_log
from videores.training.run_folder import format_unfinished_note, read_environment

EXPLAINED = 12  # videos that are shown of each method
COLUMNS = (
    "clip top-1",
    "top-5",
    "video top-1",
    "95 % interval",
    "top-5",
    "mean class",
    "macro-F1",
    "AUC",
    "best floor",
    "videos",
)


class _TestResult(NamedTuple):
    """The result of one protocol; `error` says why its predictions are None."""

    folder: Path
    metrics: Metrics
    predictions: Predictions | None
    error: str | None


def write_page(run: Path, out: Path | str | None = None, overrides: Sequence[str] = ()) -> Path:
    """Write the page of a run folder, by default <run>/report.html; return its path.

    Args:
        run: the run folder.
        out: where to write instead.
        overrides: changes to the run's configuration, e.g. data.root=... for videos that have moved.

    Raises:
        UserError: if the folder holds no run.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} must be a run folder, it has no config.yaml: give runs/<name>")
    path = Path(out or run / "report.html")
    write_html(path, "page.html", **_collect(run, load_config(run / "config.yaml", overrides)))
    return path


def _collect(run: Path, cfg: Config) -> dict[str, Any]:
    """Return the variables of the template."""
    tests = [_read_test(folder) for folder in sorted(run.glob("test/*")) if folder.is_dir()]
    main, log = _select_main_test(tests, cfg), read_metrics_log(run / "metrics.jsonl")
    unfinished, train = format_unfinished_note(run), cfg.train
    return {
        "run": run,
        "name": results.format_run_name(run),
        "summary": f"{cfg.model.name} on {cfg.data.name}, {train.epochs} epochs of {train.optimizer}, "
        f"seed {cfg.run.seed}",
        "unfinished": unfinished and f"{unfinished[0].upper()}{unfinished[1:]}.",
        "headline": _format_headline(main),
        "tests": tests,
        "columns": COLUMNS,
        "rows": [_format_row(test) for test in tests if test.metrics],
        "floors": list(dict.fromkeys(results.format_floors(f) for test in tests if (f := test.metrics.get("floors")))),
        "gaps": list(dict.fromkeys(results.format_gap(gap) for test in tests if (gap := test.metrics.get("gap")))),
        "notes": list(_list_notes(tests)),
        "curves": render_figure(lambda path: plots.plot_curves(run, path), f"Up to step {log[-1]['step']}.", 1040)
        if log
        else None,
        "validated": any(name.startswith("val/") for row in log for name in row),
        "main": main,
        **(_collect_details(main, cfg) if main and main.predictions else {}),
        "explanations": list(_list_explanations(run)),
        "probes": list(_list_probes(run)),
        "environment": _format_environment(run),
        "configuration": (run / "config.yaml").read_text(encoding="utf-8"),
    }


# Tests


def _read_test(folder: Path) -> _TestResult:
    """Read the metrics of a protocol, recomputed from predictions if there are any."""
    metrics: Metrics = {}
    try:
        metrics = read_metrics(folder)
        p = read_predictions(folder)
        metrics.update(rescore(p, select_fusion([p])))  # type: ignore[typeddict-item]
        return _TestResult(folder, metrics, p, None)
    except UserError as error:
        return _TestResult(folder, metrics, None, str(error))


def _select_main_test(tests, cfg):
    """Return the test of the configuration's own protocol, else the first, else None."""
    own = slugify(format_protocol(cfg))
    readable = [test for test in tests if test.metrics]
    return next((test for test in readable if test.folder.name == own), readable[0] if readable else None)


def _format_headline(main):
    if main is None or not {"protocol", "video_top1", "ci95_video_top1", "videos"} <= main.metrics.keys():
        return None
    metrics, (low, high) = main.metrics, main.metrics["ci95_video_top1"]
    return {
        "result": f"{metrics['video_top1']:.2f} % of {metrics['videos']['expected']} test videos are right",
        "interval": f"(95 % interval {low:.2f} to {high:.2f}; {metrics['protocol']}).",
    }


def _format_row(test):
    metrics = test.metrics
    videos = metrics.get("videos", {})
    counts = f"{videos['scored']} of {videos['expected']}" if videos else "–"
    number = lambda name, digits=2: "–" if metrics.get(name) is None else f"{metrics[name]:.{digits}f}"
    limits = lambda name: " to ".join(f"{limit:.2f}" for limit in metrics.get(name, ()))
    interval, of_classes = limits("ci95_video_top1") or "–", limits("ci95_mean_class_top1")
    before = ("clip_top1", "clip_top5", "video_top1")
    protocol = metrics.get("protocol", "–")
    if "+" in test.folder.name and {"checkpoint", "list"} <= metrics.keys():  # others than the run's own
        protocol += f" ({metrics['checkpoint']['file']} on {metrics['list']['source']})"
    floors = metrics.get("floors")
    floor = f"{floors[floors['best']]:.2f}" if floors else "–"
    after = (
        number("video_top5"),
        number("mean_class_top1") + f" ({of_classes})" * bool(of_classes),
        number("macro_f1"),
        number("auc", 3),
    )
    return [protocol, *map(number, before), interval, *after, floor, counts]


def _list_notes(tests):
    for test in tests:
        floors = test.metrics.get("floors")
        # "clean": frames that were made harder on purpose, as in the control of a pretext
        if floors and not floors["above"] and "clean" not in test.metrics:
            name = test.metrics.get("protocol", test.folder.name)
            yield f"{name} does not beat its floors: {results.format_floors(floors)}."
        unreadable = test.metrics.get("videos", {}).get("unreadable")
        if unreadable:
            name = test.metrics.get("protocol", test.folder.name)
            yield f"{name}: videos that do not decode ({len(unreadable)}): {preview(unreadable)}"
        if test.error:
            yield f"Of {test.folder.name} there is only what metrics.json says: {test.error}"


# The main test


def _collect_details(test, cfg):
    root = shards.locate(cfg.data.root)
    return {
        "classes": _collect_classes(test.predictions, test.metrics),
        "sweep": _render_sweep(test.predictions, test.metrics["protocol"]),
        "root": root,
        "has_videos": root.exists(),
        "mistakes": list(_list_mistakes(test.metrics["worst"], root, cfg.data.reader)),
    }


def _collect_classes(p, metrics):
    """Return the confusion matrix, most confused classes, and a bar a class."""
    names, counts_NN, accuracies = p.classes.tolist(), np.array(metrics["confusion"]), metrics["per_class_top1"]
    caption = f"Confusion matrix, {metrics['protocol']}: rows are true classes, columns predicted ones."
    numbers = figures.label_classes(names)
    if numbers != names:  # no font has their characters
        caption += f" Classes: {', '.join(map(' '.join, zip(numbers, names, strict=True)))}."
    draw = lambda path: plots.plot_confusion(path, counts_NN, names, metrics["protocol"], 10)
    bars = []
    for label in sorted(set(p.label.tolist()), key=lambda label: -accuracies[names[label]]):
        wrong_N = np.where(np.arange(len(names)) == label, 0, counts_NN[label])
        mostly = f" → {names[wrong_N.argmax()]}" if wrong_N.any() else ""
        text = f"{accuracies[names[label]]:.1f} % of {(p.label == label).sum()}{mostly}"
        bars.append({"name": names[label], "accuracy": accuracies[names[label]], "text": text})
    return {
        "confusion": render_figure(draw, caption, min(1040, 420 + 28 * len(names))),
        "confused": _find_most_confused(counts_NN, names),
        "bars": bars,
    }


def _find_most_confused(counts_NN, names, most=8):
    wrong_NN = counts_NN - np.diag(np.diag(counts_NN))
    pairs = np.argwhere(wrong_NN > 0)
    order = np.argsort(-wrong_NN[tuple(pairs.T)], kind="stable")[:most]
    return [f"{names[true]} → {names[predicted]} ({wrong_NN[true, predicted]})" for true, predicted in pairs[order]]


def _render_sweep(p, protocol):
    if len(p.clip) == 1 or p.words["clips"] == "all":
        return None
    rows = sweep_views(p, select_fusion([p]))
    caption = f"Video accuracy against the number of views, from the scores of {protocol}; bands: 95 % interval."
    return render_figure(lambda path: plots.plot_sweep(path, rows, protocol), caption, 720)


def _list_mistakes(worst, root, reader) -> Iterator[dict[str, Any]]:
    for number, mistake in enumerate(worst, 1):
        classes = f"{mistake['label']}, taken for {mistake['predicted']} ({100 * mistake['confidence']:.1f} %)"
        caption, figure, error = f"{number}. {mistake['video']}: {classes}", None, None
        if root.exists():
            try:
                picture, width = contact_sheet(root / mistake["video"], reader)
                figure = embed_picture(picture, "jpeg", caption, width)
            except UserError as reason:  # such as a server of shards that does not answer
                error = str(reason)
        yield {"caption": caption, "figure": figure, "error": error}


# Explanations


def _list_explanations(run: Path) -> Iterator[dict[str, Any]]:
    """Yield what tools/explain.py wrote in the run's folder, a method at a time."""
    for path in sorted(run.glob(f"explain/*/{explain.FILE_NAME}")):
        try:
            record = explain.read_record(path)
            sheets = [_read_sheet(path.parent, entry) for entry in record["videos"][:EXPLAINED]]
            check = _read_check(path.parent, record) if record["check"] else None
        except (OSError, UserError) as error:
            yield {"name": path.parent.name, "error": f"{path} cannot be shown: {error}"}
            continue
        more = len(record["videos"]) - len(sheets)
        name = f"{record['method']} of {record['layer']}" if record["layer"] else record["method"]
        yield {"name": name, "error": None, "sheets": sheets, "check": check, "more": more, "folder": path.parent}


def _read_sheet(folder, entry):
    what = "zero map" if entry["zero"] else f"map {' x '.join(map(str, entry['map']))}"
    return embed_picture(
        (folder / entry["picture"]).read_bytes(), "png", f"{entry['video']}: {entry['label']}, {what}.", 1040
    )


# Probes


def _list_probes(run) -> Iterator[dict[str, Any]]:
    """Yield picture and numbers of each part that tools/probe.py wrote, or why it cannot be shown."""
    paths = [path for path in sorted(run.glob("probe/*/*.json")) if path.stem in probe_plots.PLOTS]
    for path in paths:
        try:
            yield {"error": None, **_show_probe(path)}
        except (UserError, KeyError, TypeError, ValueError) as error:
            yield {"error": f"{path} cannot be shown ({error}): tools/probe.py writes it again"}


def _show_probe(path):
    found = read_json(path, dict[str, Any], "tools/probe.py writes it again")
    draw = partial(probe_plots.PLOTS[path.stem], found=found)
    figure = render_figure(draw, f"{path.stem}, {found['protocol']}", 1040 if path.stem == "maps" else 720)
    return {"figure": figure, "lines": list(probe_plots.FORMATS[path.stem](found))}


def _read_check(folder, record):
    picture = (folder / explain.CHECK_PICTURE).read_bytes()
    figure = embed_picture(picture, "png", "Checks of the method, on as many videos as the text says.", 1040)
    return {"text": "\n".join(record["check"]), "figure": figure}


# The run


def _format_environment(run):
    """Return the rows of env.json, or why it could not be read."""
    try:
        record = read_environment(run)
    except (OSError, UserError) as error:
        return f"env.json cannot be read: {error}"
    return [(name.replace("_", " "), _format_value(value)) for name, value in record.items()]


def _format_value(value):
    if isinstance(value, dict):
        inner = lambda v: f"({_format_value(v)})" if isinstance(v, dict) else _format_value(v)
        return ", ".join(f"{name} {inner(v)}" for name, v in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(_format_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)
