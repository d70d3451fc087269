"""One HTML page of a run, from the files in its folder, and frames of its worst mistakes where the videos are there.

What is missing or damaged is said on the page, in its place.
"""

import json
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np

from videores.config import parse
from videores.errors import UnreadableVideo, UserError
from videores.evaluation import offline, predictions
from videores.evaluation import protocol as protocol_module
from videores.reporting import html as h
from videores.reporting import plots, results
from videores.reporting.contact_sheet import contact_sheet
from videores.runtime.files import write_atomically
from videores.training import run_folder
from videores.training.callbacks.metrics_log import read_metrics_log

TestResult = namedtuple("Test", "folder found predictions why")  # one protocol; why its predictions are None


def write_page(run, out=None, overrides=()):
    """Writes the page. Returns its path. Raises UserError for a folder that holds no run."""
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is not a run folder: it has no config.yaml")
    page = build_run_page(run, parse.load_config(run / "config.yaml", overrides))
    path = Path(out or run / "report.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def build_run_page(run, cfg):
    tests = [read_test_result(folder) for folder in sorted(run.glob("test/*")) if folder.is_dir()]
    main = select_main_test(tests, cfg)
    return h.build_page(
        f"{run.resolve().name} (videores)",
        *build_header(run, cfg, main),
        h.build_section("Accuracy", *build_accuracies(tests, run)),
        h.build_section("Learning curves", *build_curves(run)),
        *([] if main is None else build_details(main, cfg)),
        h.build_section("Environment", build_environment(run)),
        h.build_section("Configuration", h.build_element("pre", (run / "config.yaml").read_text(encoding="utf-8"))),
    )


def build_header(run, cfg, main):
    data, train = cfg.data, cfg.train
    yield h.build_element("h1", run.resolve().name)
    yield h.build_element(
        "p",
        f"{cfg.model.name} on {data.name}, {train.epochs} epochs of {train.optimizer}, seed {cfg.run.seed}",
        css="soft",
    )
    if note := run_folder.format_unfinished_note(run):
        yield h.build_note(f"{note[0].upper()}{note[1:]}.")
    if main is not None and main.found.get("video_top1") is not None:
        top1, (low, high) = main.found["video_top1"], main.found["ci95_video_top1"]
        sentence = f"{top1:.2f} % of {main.found['videos']['expected']} test videos are right"
        yield h.build_element(
            "p",
            h.build_element("strong", sentence),
            f" (95 % interval {low:.2f} to {high:.2f}; {main.found['protocol']}).",
        )


# Tests


def read_test_result(folder):
    """The numbers of a protocol, recomputed from its predictions where they are there."""
    said = {}
    try:
        said = predictions.read_metrics(folder)
        p = predictions.read_predictions(folder)
        return TestResult(folder, {**said, **offline.rescore(p, offline.select_fusion([p]))}, p, None)
    except UserError as error:
        return TestResult(folder, said, None, str(error))


def select_main_test(tests, cfg):
    """The test of the configuration's own protocol; else the first."""
    own = protocol_module.slugify(protocol_module.format_protocol(cfg))
    there = [test for test in tests if test.found]
    return next((test for test in there if test.folder.name == own), there[0] if there else None)


def build_accuracies(tests, run):
    if not tests:
        yield h.build_note(f"The run was not tested: python tools/evaluate.py --run {run}")
        return
    names = ("#clip top-1", "#top-5", "#video top-1", "#95 % interval", "#top-5", "#mean class", "#macro-F1", "#videos")
    yield h.build_table(("protocol", *names), [build_row(test.found) for test in tests if test.found])
    yield h.build_element(
        "p",
        "In per cent. The protocol says frames x stride @ crop / short side, clips x crops, how a video's views are "
        "fused, and the data. Clip accuracy counts every view alone, video accuracy the views of a video together; an "
        "unreadable video counts as wrong.",
        css="soft",
    )
    yield from build_gaps(tests)
    for test in tests:
        lost = test.found.get("videos", {}).get("unreadable")
        if lost:
            yield h.build_note(
                f"{test.found['protocol']}: videos that do not decode ({len(lost)}): "
                f"{predictions.preview_names(lost, 20)}"
            )
        if test.why:
            yield h.build_note(f"Of {test.folder.name} there is only what metrics.json says: {test.why}")


def build_gaps(tests):
    """A sentence for each checkpoint that was tested; old results do not say."""
    known = [test.found["gap"] for test in tests if test.found.get("gap")]
    for gap in {json.dumps(gap): gap for gap in known}.values():
        yield h.build_element("p", f"Gap of the tested weights: {results.format_gap(gap)}.")


def build_row(found):
    low, high = found.get("ci95_video_top1", (None, None))
    interval = "–" if low is None else f"{low:.2f} to {high:.2f}"
    videos = found.get("videos", {})
    counted = f"{videos['scored']} of {videos['expected']}" if videos else "–"
    number = lambda name: "–" if found.get(name) is None else f"{found[name]:.2f}"
    before, after = ("clip_top1", "clip_top5", "video_top1"), ("video_top5", "mean_class_top1", "macro_f1")
    return [found.get("protocol", "–"), *map(number, before), interval, *map(number, after), counted]


def build_details(test, cfg):
    """Sections on one protocol."""
    protocol, found = test.found.get("protocol", "unknown protocol"), test.found
    if test.predictions is None:
        yield h.build_section("Classes, views and mistakes", h.build_note(f"They need predictions: {test.why}"))
        return
    yield h.build_section("Classes", *build_classes(test.predictions, found, protocol))
    yield h.build_section("Number of views", *build_view_sweep(test.predictions, protocol))
    yield h.build_section("Worst mistakes", *build_mistakes(found["worst"], cfg, protocol))


def build_classes(p, found, protocol):
    """The confusion matrix, and a bar for each class."""
    names, counts_NN = p.classes.tolist(), np.array(found["confusion"])
    picture = render_figure(plots.plot_confusion, counts_NN, names, protocol, 10)
    caption = f"Confusion matrix, {protocol}: rows are true classes, columns predicted ones."
    yield h.embed_figure(picture, caption, width=min(1040, 420 + 28 * len(names)))
    yield h.build_element("p", f"Most often confused: {'; '.join(find_most_confused(counts_NN, names)) or 'none'}.")
    yield h.build_element("p", "Accuracy of each class, its videos, and what most of its mistakes were taken for:")
    yield h.build_bars(
        (names[c], found["per_class_top1"][names[c]] / 100, build_confusions(found, counts_NN, names, c, p))
        for c in sorted(set(p.label.tolist()), key=lambda c: -found["per_class_top1"][names[c]])
    )


def find_most_confused(counts_NN, names, most=8):
    wrong_NN = counts_NN - np.diag(np.diag(counts_NN))
    pairs = np.argwhere(wrong_NN > 0)
    order = np.argsort(-wrong_NN[tuple(pairs.T)], kind="stable")[:most]
    return [f"{names[true]} → {names[taken]} ({wrong_NN[true, taken]})" for true, taken in pairs[order]]


def build_confusions(found, counts_NN, names, c, p):
    taken_N = counts_NN[c].copy()
    taken_N[c] = 0
    mostly = f" → {names[taken_N.argmax()]}" if taken_N.any() else ""
    return f"{found['per_class_top1'][names[c]]:.1f} % of {(p.label == c).sum()}{mostly}"


def build_view_sweep(p, protocol):
    if len(p.clip) == 1 or p.words["clips"] == "all":
        what = "one view a video" if len(p.clip) == 1 else "all clips of each video, whose number differs"
        yield h.build_note(f"{protocol} has {what}: there is nothing to sweep.")
        return
    rows = offline.sweep_views(p, offline.select_fusion([p]))
    caption = f"Video accuracy against the number of views, from the scores of {protocol}; bands: 95 % interval."
    yield h.embed_figure(render_figure(plots.plot_sweep, rows, protocol), caption, width=720)


def build_mistakes(worst, cfg, protocol):
    if not worst:
        yield h.build_element("p", "Every video that decodes is right.")
        return
    yield h.build_element("p", f"The {len(worst)} wrong videos with the highest confidence, {protocol}.", css="soft")
    root = Path(cfg.data.root)
    if not root.is_dir():
        yield h.build_note(f"No frames: there is no folder {root} here (data.root=... names another one).")
    for number, one in enumerate(worst, 1):
        caption = (
            f"{number}. {one['video']}: {one['label']}, taken for {one['predicted']} ({100 * one['confidence']:.1f} %)"
        )
        yield from (
            build_contact_sheet(root, one["video"], cfg.data.reader, caption)
            if root.is_dir()
            else [h.build_element("p", caption)]
        )


def build_contact_sheet(root, video, reader, caption):
    try:
        picture, width = contact_sheet(root / video, reader)
        yield h.embed_figure(picture, caption, width=width)
    except UnreadableVideo as error:
        yield h.build_element("p", caption)
        yield h.build_note(f"No frames: {error}")


# The run


def build_curves(run):
    rows = read_metrics_log(run / "metrics.jsonl")
    if not rows:
        yield h.build_note("There is no metrics.jsonl, or it is empty: nothing was logged.")
        return
    validated = any(name.startswith("val/") for row in rows for name in row)
    yield h.embed_figure(
        render_figure(lambda path: plots.plot_curves(run, path)), f"Up to step {rows[-1]['step']}.", width=1040
    )
    if not validated:
        yield h.build_note(
            "Nothing was validated: the run held no videos out, or it stopped before the end of an epoch."
        )


def build_environment(run):
    path = run / "env.json"
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return h.build_note(f"{path.name} cannot be read: {error}")
    return h.build_facts((name.replace("_", " "), format_value(value)) for name, value in record.items())


def format_value(value):
    """A value of env.json in words."""
    if isinstance(value, dict):
        inner = lambda v: f"({format_value(v)})" if isinstance(v, dict) else format_value(v)
        return ", ".join(f"{name} {inner(v)}" for name, v in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(format_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def render_figure(draw, *arguments):
    """The bytes of the picture that a function of reports makes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        draw(path, *arguments)
        return path.read_bytes()
