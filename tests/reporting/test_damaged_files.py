"""A run's files that were damaged or edited end in a message or a page, never in another error."""

import json
import shutil

import numpy as np
import pytest
from helpers.damage import BROKEN_JSON, list_changes

from videores.errors import UserError
from videores.evaluation import predictions
from videores.reporting import html, page, plots, rescoring
from videores.training import run_folder
from videores.training.callbacks.metrics_log import read_metrics_log


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of a trained run, for which pictures are not drawn: that is not what is tried here."""
    for name in ("plot_curves", "plot_confusion", "plot_sweep"):
        monkeypatch.setattr(plots, name, lambda path, *_, **__: None)
    monkeypatch.setattr(page, "render_figure", lambda draw, caption, width: html.Figure("data:,", caption, width))
    monkeypatch.setattr(page, "contact_sheet", lambda *_: (b"", 1))
    return shutil.copytree(trained[0] / "runs/tiny", tmp_path / "run")


@pytest.mark.parametrize("file", ["metrics.json", "metrics.jsonl", "env.json"])
@pytest.mark.parametrize("has_predictions", [True, False])
def test_every_change_of_a_value_is_told_or_makes_no_difference(run, file, has_predictions):
    (test,) = (run / "test").iterdir()
    if not has_predictions:
        (test / "predictions.npz").unlink()
    path = next(run.glob(f"**/{file}"))
    whole = path.read_text()
    value = json.loads(whole.splitlines()[0] if file == "metrics.jsonl" else whole)
    for changed in list_changes(value):
        path.write_text(json.dumps(changed) + "\n")
        for use in (
            page.write_page,
            lambda run: rescoring.rescore_run(run, out=run / "out"),
            run_folder.format_unfinished_note,
        ):
            try:
                use(run)
            except UserError as error:
                assert str(error).startswith(str(run))  # noqa: PT017
    path.write_text(whole)
    page.write_page(run)


@pytest.mark.parametrize("content", BROKEN_JSON)
def test_a_damaged_file_is_named(run, content):
    (test,) = (run / "test").iterdir()
    for path, read in (
        (test / "metrics.json", lambda: predictions.read_predictions(test)),
        (run / "metrics.jsonl", lambda: read_metrics_log(run / "metrics.jsonl")),
        (run / "env.json", lambda: run_folder.read_environment(run)),
    ):
        path.write_bytes(content + b"\n" * (path.suffix == ".jsonl"))
        with pytest.raises(UserError, match=path.name):
            read()
    assert run_folder.format_unfinished_note(run) is None
    assert (
        "env.json"
        in page.write_page(shutil.copytree(run, run / "copy", ignore=lambda *_: {"metrics.jsonl"})).read_text()
    )


def test_older_files_have_fewer_keys(run):
    (test,) = (run / "test").iterdir()
    (test / "metrics.json").write_text(json.dumps({"protocol": "8x1@32/32 2x1 softmax-mean tiny-test"}))
    (run / "env.json").write_text("{}")
    page.write_page(run)
    (test / "predictions.npz").unlink()
    page.write_page(run)


@pytest.mark.parametrize(
    ("name", "values"),
    [("video", np.arange(7)), ("classes", np.arange(6)), ("group", np.arange(7.0)), ("clip", np.array(["a", "b"]))],
)
def test_arrays_of_another_kind_are_named(run, name, values):
    (test,) = (run / "test").iterdir()
    with np.load(test / "predictions.npz") as file:
        arrays = dict(file)
    np.savez(test / "predictions.npz", **{**arrays, name: values})
    with pytest.raises(UserError, match=rf"predictions\.npz.*{name}"):
        predictions.read_predictions(test)
