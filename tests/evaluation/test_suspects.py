"""Suspicious labels: equal to cleanlab's scores, and wrong labels come first after a real cross-validation."""

import csv
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from videores.data.synthetic import datasets
from videores.errors import UserError
from videores.evaluation.predictions import read_predictions
from videores.evaluation.suspects import RANKINGS, rank_labels

TOOL = Path(__file__).parents[2] / "tools" / "evaluate.py"
CLASSES = datasets.SETS["appear8"].classes


def save(folder, logits_VKN, label_V, names):
    """A run with predictions.npz."""
    path = folder / "test" / "protocol"
    path.mkdir(parents=True)
    views = np.arange(logits_VKN.shape[1])
    np.savez(
        path / "predictions.npz",
        video=np.array(names),
        label=np.asarray(label_V),
        group=np.array([""] * len(names)),
        classes=np.array(CLASSES[: logits_VKN.shape[2]]),
        clip=views,
        crop=np.zeros_like(views),
        logits=logits_VKN.astype(np.float32),
    )
    return folder


def make_fold(folder, number, videos=40, classes=5):
    rng = np.random.default_rng(number)
    names = [f"{number}-{i:03}.mp4" for i in range(videos)]
    return save(
        folder / f"fold{number}", rng.normal(size=(videos, 3, classes)), rng.integers(0, classes, videos), names
    )


@pytest.mark.parametrize("by", RANKINGS)
def test_scores_and_order_are_cleanlabs(tmp_path, by):
    rank = pytest.importorskip("cleanlab.rank")
    runs = [read_predictions(make_fold(tmp_path, number)) for number in range(3)]
    rows = rank_labels(runs, "softmax-mean", by)
    logits_VKN = np.concatenate([p.logits for p in runs]).astype(np.float64)
    p_VN = (np.exp(logits_VKN) / np.exp(logits_VKN).sum(-1, keepdims=True)).mean(1)
    label_V, names = np.concatenate([p.label for p in runs]), np.concatenate([p.video for p in runs])
    method = {"self_confidence": "self_confidence", "margin": "normalized_margin"}[by]
    quality_V = rank.get_label_quality_scores(label_V, p_VN, method=method)
    ours = {row.video: getattr(row, by) for row in rows}
    np.testing.assert_allclose([ours[name] for name in names], quality_V, atol=1e-12)
    everything = np.ones(len(label_V), bool)
    order = rank.order_label_issues(everything, label_V, p_VN, rank_by=method)
    assert [row.video for row in rows] == names[order].tolist()


def draw_features():
    """Colours of the videos of appear8, as means over bright and dark pixels of all frames, and their classes."""
    embedded, rows, labels = datasets.SETS["appear8"], [], []
    for number in range(128):
        videos = datasets.render_scene(embedded, 0, "train", number)
        for frames_THWC, (_, label) in zip(videos, datasets.list_scene_files(embedded, "train", number), strict=True):
            pixels_XC = frames_THWC.reshape(-1, 3) / 255
            bright_X = pixels_XC.max(1) > 0.5
            colour = pixels_XC[bright_X].mean(0)
            rows.append([*colour, *(colour - colour.min()) / np.ptp(colour), *pixels_XC[~bright_X].mean(0)])
            labels.append(CLASSES.index(label))
    return np.array(rows, np.float32), np.array(labels)


def train(features, labels):
    """A network of two layers."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(features.shape[1], 32), torch.nn.ReLU(), torch.nn.Linear(32, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.02)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def compute_auroc(score_V, wrong_V):
    """The probability that a wrong one has the lower score, ties count half."""
    low, high = score_V[wrong_V][:, None], score_V[~wrong_V][None]
    return float(((low < high) + 0.5 * (low == high)).mean())


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Runs of a 4-fold cross-validation by scenes, trained on 5 % wrong labels, and whether each video has one."""
    root, (features, label_V) = tmp_path_factory.mktemp("folds"), draw_features()
    rng = np.random.default_rng(0)
    wrong_V = np.zeros(len(label_V), bool)
    wrong_V[rng.choice(len(label_V), round(0.05 * len(label_V)), replace=False)] = True
    given_V = np.where(wrong_V, (label_V + rng.integers(1, 8, len(label_V))) % 8, label_V)
    names = np.array([f"{i:04}.mp4" for i in range(len(label_V))])
    fold_V, runs = np.arange(len(label_V)) // 2 % 4, []
    for fold in range(4):
        test_V = fold_V == fold
        model = train(features[~test_V], given_V[~test_V])
        logits = model(torch.from_numpy(features[test_V])).detach().numpy()[:, None]
        runs.append(save(root / f"fold{fold}", logits, given_V[test_V], names[test_V]))
    return runs, dict(zip(names.tolist(), wrong_V.tolist(), strict=True))


@pytest.mark.parametrize("by", RANKINGS)
def test_the_tool_lists_wrong_labels_first(folds, by, tmp_path, monkeypatch, capsys):
    runs, is_wrong = folds
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--scores", *map(str, runs), "--out", str(tmp_path), "--suspects", by])
    assert runpy.run_path(str(TOOL))["main"]() == 0
    rows = list(csv.DictReader((tmp_path / "suspects.csv").open()))
    assert len(rows) == len(is_wrong)
    score_V, wrong_V = np.array([float(row[by]) for row in rows]), np.array([is_wrong[row["video"]] for row in rows])
    assert (np.diff(score_V) >= 0).all()
    assert compute_auroc(score_V, wrong_V) > 0.9
    assert rows[0]["video"] in capsys.readouterr().out


def test_videos_that_several_runs_scored_get_the_mean(tmp_path):
    logits = np.log([[[0.6, 0.4]], [[0.2, 0.8]]])
    one = save(tmp_path / "one", logits[:1], [0], ["a.mp4"])
    two = save(tmp_path / "two", logits[1:], [0], ["a.mp4"])
    (row,) = rank_labels([read_predictions(run) for run in (one, two)], "softmax-mean")
    assert (row.label, row.other, row.runs) == (*CLASSES[:2], 2)
    assert (row.self_confidence, row.margin) == pytest.approx((0.4, 0.4))


def test_a_video_with_two_labels_is_refused(tmp_path):
    runs = [save(tmp_path / str(label), np.zeros((1, 1, 2)), [label], ["a.mp4"]) for label in (0, 1)]
    with pytest.raises(UserError, match=r"a\.mp4"):
        rank_labels([read_predictions(run) for run in runs], "softmax-mean")


def test_videos_that_did_not_decode_are_counted(tmp_path, monkeypatch, capsys):
    logits = np.full((2, 1, 2), np.nan)
    logits[0] = 0, 1
    run = save(tmp_path / "run", logits, [0, 1], ["a.mp4", "b.mp4"])
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--scores", str(run), "--suspects", "--out", str(tmp_path / "out")])
    assert runpy.run_path(str(TOOL))["main"]() == 1
    assert "1 videos did not decode" in capsys.readouterr().out


@pytest.mark.parametrize("other", ["--compare", "--sweep", "--weights=1"])
def test_options_of_other_tasks_are_refused(tmp_path, monkeypatch, other):
    run = make_fold(tmp_path, 0)
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--scores", str(run), "--suspects", other])
    with pytest.raises(UserError, match="--suspects"):
        runpy.run_path(str(TOOL))["main"]()
