"""Saved predictions, re-scored, swept, fused and compared, against numbers that are worked out a second time."""

import csv
import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from videores.config import parse, schema
from videores.data import sampling
from videores.data.datamodule import Videos
from videores.data.lists import Index, Video
from videores.errors import UserError
from videores.evaluation import metrics as evaluation
from videores.evaluation import offline, predictions, view_subset
from videores.evaluation import protocol as protocol_module
from videores.reporting import rescoring, results

ROOT = Path(__file__).parents[2]
CLASSES = ("cat", "dog", "emu", "fox", "gnu", "hen")
PROTOCOL = "16x2@112/128 {clips}x{crops} {fusion} zoo-test"


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def make_logits(videos=30, views=1, seed=0, skill=1.0):
    rng = np.random.default_rng(seed)
    right = np.eye(len(CLASSES))[np.arange(videos) % len(CLASSES)][:, None]
    return (rng.normal(size=(videos, views, len(CLASSES))) + skill * right).astype(np.float32)


def save(folder, logits_VKN, *, clips=None, crops=1, metrics=True, fusion="softmax-mean", protocol=None, **changed):
    """A test folder with predictions.npz, and metrics.json unless `metrics` is False."""
    videos, views, classes = logits_VKN.shape
    clips = clips or views // crops
    clip, crop = np.divmod(np.arange(views), crops)
    arrays = dict(
        video=np.array([f"{i:03}.mp4" for i in range(videos)]),
        label=np.arange(videos) % classes,
        group=np.array([""] * videos),
        classes=np.array(CLASSES[:classes]),
        clip=clip,
        crop=crop,
        logits=logits_VKN,
    )
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "predictions.npz", **{k: v for k, v in {**arrays, **changed}.items() if v is not None})
    if metrics:
        protocol = protocol or PROTOCOL.format(clips=clips, crops=crops, fusion=fusion)
        (folder / "metrics.json").write_text(json.dumps({"protocol": protocol}))
    return folder


def run_of(root, name, *args, part="test", **kwargs):
    save(root / name / part / "protocol", *args, **kwargs)
    return root / name


def found(folder, name="metrics.json"):
    (path,) = folder.rglob(name)
    return json.loads(path.read_text())


# Reading


def test_a_run_a_test_folder_and_a_file_are_the_same_source(tmp_path):
    run = run_of(tmp_path, "a", make_logits())
    folder = run / "test" / "protocol"
    for source in (run, folder, folder / "predictions.npz"):
        p = predictions.read_predictions(source)
        np.testing.assert_array_equal(p.logits, make_logits())
        assert p.run == run


def test_a_run_with_two_protocols_asks_which(tmp_path):
    run = run_of(tmp_path, "a", make_logits())
    save(run / "test" / "other", make_logits())
    with pytest.raises(UserError, match=r"several protocols(.|\n)*other(.|\n)*protocol"):
        predictions.read_predictions(run)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_predictions_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"predictions\.npz"):
        predictions.read_predictions(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04broken", 100, 3000, -40])
def test_a_damaged_file_is_refused(tmp_path, content):
    """Foreign bytes, or so many of its own."""
    path = save(tmp_path, make_logits()) / "predictions.npz"
    path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(UserError, match="not a file of predictions"):
        predictions.read_predictions(tmp_path)


def test_a_damaged_ensemble_is_refused(tmp_path):
    """Whose file is compressed: zlib's error is none of zipfile's."""
    runs = [run_of(tmp_path, name, make_logits()) for name in "ab"]
    rescoring.fuse_runs(runs, out=tmp_path / "out")
    path = tmp_path / "out" / "predictions.npz"
    whole = path.read_bytes()
    start = whole.index(b"logits.npy")
    path.write_bytes(whole[: start + 60] + b"\xff" * 200 + whole[start + 260 :])
    with pytest.raises(UserError, match="not a file of predictions"):
        predictions.read_predictions(path)


def test_objects_that_could_run_code_are_not_loaded(tmp_path):
    save(tmp_path, make_logits(), video=np.array([{}] * 30, dtype=object))
    with pytest.raises(UserError, match="not a file of predictions"):
        predictions.read_predictions(tmp_path)


LOGITS = make_logits(6, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(logits=None), "has no logits"),
        (dict(logits=LOGITS[:, :, 0]), "logits .V, K, N."),
        (dict(logits=LOGITS[..., None]), "logits .V, K, N."),
        (dict(logits=LOGITS[:0]), "logits .V, K, N."),
        (dict(logits=LOGITS.astype(str)), "logits .V, K, N."),
        (dict(label=np.arange(5)), "logits .V, K, N."),
        (dict(classes=np.array(CLASSES[:5])), "logits .V, K, N."),
        (dict(classes=np.array("cat")), "logits .V, K, N."),
        (dict(video=np.array([*"abcdea"])), "a is there 2 times"),
        (dict(label=np.array([0, 1, 2, 3, 4, 6])), r"label.*0 to 5, got 6"),
        (dict(label=np.array([0, 1, 2, 3, 4, -1])), r"label.*got -1"),
        (dict(label=np.arange(6) / 2), "label"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_what_is_wrong(tmp_path, changed, message):
    save(tmp_path, LOGITS, **changed)
    with pytest.raises(UserError, match=message):
        predictions.read_predictions(tmp_path)


def test_where_all_clips_are_scored_short_videos_lack_the_last_ones(tmp_path):
    logits = make_logits(6, 6)
    logits[1, 2:], logits[4] = np.nan, np.nan
    save(tmp_path, logits, crops=2, clips="all")
    p = predictions.read_predictions(tmp_path)
    assert p.views_V.tolist() == [6, 2, 6, 6, 2, 6]
    numbers = offline.rescore(p, "softmax-mean")
    right = [logits[v, k].argmax() == v for v in range(6) for k in range(p.views_V[v])]
    assert numbers["clip_top1"] == pytest.approx(100 * np.mean(right))
    with pytest.raises(UserError, match="--clips"):
        view_subset.select_views(p, clips=2)
    assert view_subset.select_views(p, crops=None).protocol.split()[1] == "allx2"


def test_a_broken_metrics_json_is_refused(tmp_path):
    save(tmp_path, LOGITS)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json is damaged"):
        predictions.read_predictions(tmp_path)


# Fewer views


@pytest.mark.parametrize("total", range(1, 13))
@pytest.mark.parametrize("kind", ["dense", "segments"])
def test_clips_that_are_called_the_protocols_own_show_its_frames(total, kind):
    clip = schema.ClipConfig(frames=8, sampling=kind)
    for wanted in range(1, total):
        places = view_subset.find_same_clips(total, wanted, kind == "segments")
        own = [sampling.sample_uniform_clips(n, 25, clip, wanted) for n in range(1, 80)]
        many = [sampling.sample_uniform_clips(n, 25, clip, total) for n in range(1, 80)]
        if places is None:  # no choice would do: for some video each clip that is wanted is not among the many
            assert any(not all((o == m).all(1).any() for o in some) for some, m in zip(own, many, strict=True))
        else:
            for some, m in zip(own, many, strict=True):
                np.testing.assert_array_equal(m[places], some)


def test_fewer_clips_and_crops_are_the_views_that_the_smaller_protocol_has(tmp_path):
    save(tmp_path, make_logits(30, 27), crops=3)
    p = predictions.read_predictions(tmp_path)
    few = view_subset.select_views(p, clips=3, crops=1)
    np.testing.assert_array_equal(few.logits, p.logits[:, [1, 13, 25]])
    assert few.protocol == PROTOCOL.format(clips=3, crops=1, fusion="softmax-mean")


def test_clips_that_are_no_protocol_of_their_own_say_so(tmp_path):
    save(tmp_path, make_logits(30, 10))
    few = view_subset.select_views(predictions.read_predictions(tmp_path), clips=5)
    assert few.protocol.split()[1] == "5of10x1"
    assert few.clip.tolist() == [0, 2, 5, 7, 9]


def test_dense_clips_are_never_the_uniform_ones(tmp_path):
    save(tmp_path, make_logits(30, 9), clips="dense9")
    assert (
        view_subset.select_views(predictions.read_predictions(tmp_path), clips=3).protocol.split()[1] == "3ofdense9x1"
    )


@pytest.mark.parametrize(
    ("probe", "clips"), [("", "3"), (" noise-3", "3"), (" shuffled", "3of9"), (" shuffled blur-1", "3of9")]
)
def test_fewer_shuffled_clips_are_other_shuffles(tmp_path, probe, clips):
    save(tmp_path, make_logits(30, 9), protocol=PROTOCOL.format(clips=9, crops=1, fusion="max") + probe)
    few = view_subset.select_views(predictions.read_predictions(tmp_path), clips=3)
    assert few.protocol == PROTOCOL.format(clips=clips, crops=1, fusion="max") + probe


def test_five_of_ten_crops_are_those_that_are_not_mirrored(tmp_path):
    save(tmp_path, make_logits(30, 20), crops=10)
    p = predictions.read_predictions(tmp_path)
    assert view_subset.select_views(p, crops=5).crop.tolist() == [0, 1, 2, 3, 4] * 2
    assert view_subset.select_views(p, crops=1).crop.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (dict(clips=5), "--clips.*4.*got 5"),
        (dict(clips=0), "--clips.*4.*got 0"),
        (dict(clips=-1), "--clips.*4.*got -1"),
        (dict(crops=2), "--crops must be 1 .*got 2"),
        (dict(crops=5), "--crops.*3.*got 5"),
    ],
)
def test_views_that_are_not_there_are_refused(tmp_path, views, message):
    save(tmp_path, make_logits(6, 12), crops=3)
    with pytest.raises(UserError, match=message):
        view_subset.select_views(predictions.read_predictions(tmp_path), **views)


# Re-scoring


def test_nothing_changed_gives_the_tests_own_numbers(tmp_path):
    logits = make_logits(31, 6)
    logits[5] = np.nan
    run = run_of(tmp_path, "a", logits, crops=3)
    label, group = np.arange(31) % 6, [""] * 31
    own = evaluation.compute_metrics(logits, label, "softmax-mean", group)
    assert rescoring.rescore_run(run) == 1  # a video did not decode
    again = found(run / "test" / "protocol" / "offline")
    assert again["protocol"] == PROTOCOL.format(clips=2, crops=3, fusion="softmax-mean")
    assert list(again["per_class_top1"].values()) == own.pop("per_class_top1")
    assert again == again | own
    assert again["videos"] == {"expected": 31, "scored": 30, "unreadable": ["005.mp4"]}
    assert again["worst"][0].keys() == {"video", "label", "predicted", "confidence"}


def test_fewer_views_and_another_fusion_by_hand(tmp_path, capsys):
    logits = make_logits(30, 9)
    run = run_of(tmp_path, "a", logits, crops=3)
    assert rescoring.rescore_run(run, crops=1, fusion="logit-mean", out=tmp_path / "out") == 0
    right = logits[:, [1, 4, 7]].astype(float).mean(1).argmax(1) == np.arange(30) % 6
    again = found(tmp_path / "out")
    assert again["video_top1"] == pytest.approx(100 * right.mean())
    assert again["protocol"] == PROTOCOL.format(clips=3, crops=1, fusion="logit-mean")
    printed = capsys.readouterr().out
    assert f"top-1 {100 * right.mean():.2f}" in printed
    assert str(tmp_path / "out") in printed


def test_the_fusion_of_the_test_is_the_default(tmp_path):
    run = run_of(tmp_path, "a", make_logits(30, 3), fusion="vote")
    rescoring.rescore_run(run, out=tmp_path / "out")
    assert "vote" in found(tmp_path / "out")["protocol"]


def test_a_file_alone_can_be_scored_and_its_protocol_is_said_to_be_unknown(tmp_path):
    save(tmp_path, make_logits(30, 3), metrics=False)
    rescoring.rescore_run(tmp_path / "predictions.npz")
    assert found(tmp_path / "offline")["protocol"] == "? 3x1 softmax-mean ?"


# The sweep


def test_sweep_is_the_accuracy_of_each_number_of_views(tmp_path):
    logits = make_logits(30, 15)
    run = run_of(tmp_path, "a", logits, crops=3)
    rescoring.rescore_run(run, sweep=True, out=tmp_path / "out")
    with (tmp_path / "out" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["clips"]), r["crops"], int(r["views"])) for r in rows] == [
        *((n, "3", 3 * n) for n in range(1, 6)),
        *((n, "1", n) for n in range(1, 6)),
    ]
    own = {(r["clips"], r["crops"]) for r in rows if r["a_protocol"] == "True"}
    assert own == {(n, c) for n in "1235" for c in "31"}
    of = {(r["clips"], r["crops"]): float(r["video_top1"]) for r in rows}
    middle = softmax(logits[:, [1, 7, 13]].astype(float)).mean(1).argmax(1) == np.arange(30) % 6
    assert of["3", "1"] == pytest.approx(100 * middle.mean())
    assert of["5", "3"] == pytest.approx(found(tmp_path / "out")["video_top1"])
    assert image.imread(tmp_path / "out" / "sweep.png")[..., :3].std() > 0.01


def test_sweep_of_one_view_is_one_row(tmp_path):
    save(tmp_path, make_logits())
    assert len(offline.sweep_views(predictions.read_predictions(tmp_path), "max")) == 1


# Ensembles


def test_an_ensemble_is_the_mean_of_the_runs_probabilities(tmp_path, capsys):
    one, two = make_logits(30, 3, seed=1), make_logits(30, 2, seed=2)
    order = np.random.default_rng(0).permutation(30)
    names, labels = np.array([f"{i:03}.mp4" for i in order]), order % 6
    a, b = run_of(tmp_path, "a", one), run_of(tmp_path, "b", two[order], video=names, label=labels)
    rescoring.fuse_runs([a, b], weights=["3", "1"], out=tmp_path / "out")
    p = 0.75 * softmax(one.astype(float)).mean(1) + 0.25 * softmax(two.astype(float)).mean(1)
    result = found(tmp_path / "out")
    assert result["video_top1"] == pytest.approx(100 * (p.argmax(1) == np.arange(30) % 6).mean())
    assert result["nll"] == pytest.approx(-np.log(p[np.arange(30), np.arange(30) % 6]).mean(), rel=1e-5)
    assert (result["clip_top1"], result["weights_from"]) == (None, "given")
    assert [run["weight"] for run in result["runs"]] == [0.75, 0.25]
    again = predictions.read_predictions(tmp_path / "out")
    np.testing.assert_allclose(softmax(again.logits[:, 0].astype(float)), p, rtol=1e-5)
    assert "weight 0.750" in capsys.readouterr().out


def test_an_ensemble_says_how_the_errors_of_its_runs_correlate(tmp_path, capsys):
    logits = [make_logits(30, 1, seed=seed) for seed in (1, 2)]
    label = np.arange(30) % 6
    perfect = np.eye(6, dtype=np.float32)[label][:, None]
    runs = [run_of(tmp_path, name, one) for name, one in zip("abc", [*logits, perfect], strict=True)]
    rescoring.fuse_runs(runs, out=tmp_path / "out")
    wrong = [one[:, 0].argmax(1) != label for one in logits]
    got = found(tmp_path / "out")["error_correlation"]
    assert got[0][1] == got[1][0] == pytest.approx(np.corrcoef(*wrong)[0, 1])
    assert got[0][0] == pytest.approx(1)
    assert got[2] == [None, None, None]  # it makes no error
    assert capsys.readouterr().out.count("errors ") == 3


def test_weights_are_equal_by_default(tmp_path):
    runs = [run_of(tmp_path, name, make_logits(seed=seed)) for seed, name in enumerate("abc")]
    rescoring.fuse_runs(runs, out=tmp_path / "out")
    assert [run["weight"] for run in found(tmp_path / "out")["runs"]] == [1 / 3] * 3


def test_a_video_that_one_run_could_not_decode_is_wrong_in_the_ensemble(tmp_path):
    broken = make_logits(skill=20)
    broken[4] = np.nan
    runs = [run_of(tmp_path, "a", make_logits(skill=20)), run_of(tmp_path, "b", broken)]
    assert rescoring.fuse_runs(runs, out=tmp_path / "out") == 1
    result = found(tmp_path / "out")
    assert result["videos"] == {"expected": 30, "scored": 29, "unreadable": ["004.mp4"]}
    assert result["video_top1"] == pytest.approx(100 * 29 / 30)


@pytest.mark.parametrize("fusion", ["softmax-mean", "logit-mean", "max", "vote"])
def test_chosen_weights_have_the_highest_likelihood_of_all(tmp_path, fusion):
    runs = [predictions.read_predictions(save(tmp_path / str(s), make_logits(60, 3, s, skill=s))) for s in (1, 2)]
    weights = offline.fit_ensemble_weights(runs, fusion)
    assert sum(weights) == pytest.approx(1)
    p = [offline._compute_probabilities(run, fusion)[np.arange(60), np.arange(60) % 6] for run in runs]
    loss = lambda w: -np.log(np.maximum(w * p[0] + (1 - w) * p[1], 1e-30)).mean()
    assert loss(weights[0]) <= min(loss(w) for w in np.linspace(0, 1, 201)) + 1e-6


def test_equal_weights_stay_where_each_run_knows_half_of_the_class(tmp_path):
    """The class is a pair of digits; a run that knows one of them gives all pairs with it about the same score."""
    label_V, rng = np.arange(48) % 16, np.random.default_rng(0)
    runs = []
    for name, digit_V, sure in (("tens", label_V // 4, 4.0), ("ones", label_V % 4, 3.9)):
        digit_N = np.arange(16) // 4 if name == "tens" else np.arange(16) % 4
        logits_VN = np.where(digit_N == digit_V[:, None], sure, 0.0) + rng.normal(0, 0.01, (48, 16))
        logits_VKN = logits_VN.astype(np.float32)[:, None]
        path = save(tmp_path / name, logits_VKN, label=label_V, classes=np.array([f"c{n:02}" for n in range(16)]))
        runs.append(predictions.read_predictions(path))
    assert min(offline.fit_ensemble_weights(runs, "softmax-mean")) < 0.01
    assert offline.choose_ensemble_weights(runs, "softmax-mean") == [0.5, 0.5]


def with_validation(root, name, seed, skill):
    run = run_of(root, name, make_logits(30, 2, seed))
    videos = np.array([f"train/{i}.mp4" for i in range(24)])
    run_of(root, name, make_logits(24, 2, seed + 10, skill), part="val", video=videos)
    return run


def test_weights_are_chosen_on_validation_and_not_on_the_test(tmp_path):
    runs = [with_validation(tmp_path, "a", 1, 0.0), with_validation(tmp_path, "b", 2, 6.0)]
    rescoring.fuse_runs(runs, weights=["val"], out=tmp_path / "out")
    result = found(tmp_path / "out")
    assert result["weights_from"] == "chosen on 24 validation videos"
    assert result["runs"][0]["weight"] < 0.01 < 0.99 < result["runs"][1]["weight"]  # equal skill on the test videos
    rescoring.fuse_runs(runs, weights=["val"], clips=1, out=tmp_path / "fewer")
    assert result["runs"][1]["weight"] != found(tmp_path / "fewer")["runs"][1]["weight"]  # of the same fewer views


def test_without_validation_predictions_the_command_that_writes_them_is_shown(tmp_path):
    runs = [with_validation(tmp_path, "a", 1, 1.0), run_of(tmp_path, "b", make_logits(30, 2))]
    with pytest.raises(UserError, match=r"tools/evaluate.py --run \S*b --part val val.clips=2 val.crops=1"):
        rescoring.fuse_runs(runs, weights=["val"])


def test_validation_of_other_views_does_not_count(tmp_path):
    run = run_of(tmp_path, "a", make_logits(30, 2))
    run_of(tmp_path, "a", make_logits(30, 1), part="val")
    with pytest.raises(UserError, match="no validation predictions with the views of"):
        rescoring._find_validation_scores(predictions.read_predictions(run))


def test_validation_that_has_test_videos_is_refused(tmp_path):
    run = run_of(tmp_path, "a", make_logits(30, 2))
    run_of(tmp_path, "a", make_logits(30, 2), part="val")
    with pytest.raises(UserError, match=r"(?s)--weights val.*test videos.*000\.mp4"):
        rescoring._find_validation_scores(predictions.read_predictions(run))


@pytest.mark.parametrize("weights", [["1"], ["1", "2", "3"], ["1", "-1"], ["0", "0"], ["1", "nan"], ["1", "x"]])
def test_wrong_weights_are_refused(tmp_path, weights):
    runs = [run_of(tmp_path, name, make_logits()) for name in "ab"]
    with pytest.raises(UserError, match="--weights"):
        rescoring.fuse_runs(runs, weights=weights, out=tmp_path / "out")


def test_runs_that_were_fused_differently_ask_which_fusion(tmp_path):
    runs = [run_of(tmp_path, fusion, make_logits(), fusion=fusion) for fusion in ("max", "vote")]
    with pytest.raises(UserError, match=r"--fusion.*max, vote"):
        rescoring.fuse_runs(runs, out=tmp_path / "out")
    rescoring.fuse_runs(runs, fusion="vote", out=tmp_path / "out")


# What does not belong together


OTHERS = {
    "video": (
        dict(video=np.array([*(f"{i:03}.mp4" for i in range(1, 30)), "new.mp4"])),
        r"first \(1\): 000.*(.|\n)*new",
    ),
    "label": (dict(label=np.array([1, *(np.arange(1, 30) % 6)])), r"1 videos different labels:\n  000\.mp4: cat / dog"),
    "classes": (dict(classes=np.array([*CLASSES[:4], "hen", "gnu"])), r"4: gnu / hen\n  5: hen / gnu"),
}


@pytest.mark.parametrize("action", [rescoring.fuse_runs, rescoring.compare_runs])
@pytest.mark.parametrize("what", OTHERS)
def test_scores_of_other_data_are_refused_with_what_differs(tmp_path, action, what):
    changed, message = OTHERS[what]
    runs = [run_of(tmp_path, "a", make_logits()), run_of(tmp_path, "b", make_logits(), **changed)]
    with pytest.raises(UserError, match=message):
        action(runs, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scores_of_fewer_classes_or_videos_are_refused(tmp_path):
    runs = [run_of(tmp_path, "a", make_logits()), run_of(tmp_path, "b", make_logits()[:, :, :5])]
    with pytest.raises(UserError, match=r"different classes \(6 / 5\)"):
        rescoring.fuse_runs(runs)
    runs = [run_of(tmp_path, "a", make_logits()), run_of(tmp_path, "c", make_logits(12))]
    with pytest.raises(UserError, match=r"only in the first \(18\): 012\.mp4"):
        rescoring.fuse_runs(runs)


# Comparison


def binomial_test(k, n):
    """Two-sided p-value of a fair coin, the slow way."""
    p = [math.comb(n, i) / 2**n for i in range(n + 1)]
    return sum(q for q in p if q <= p[k] * (1 + 1e-9))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 1), (3, 3), (1, 9), (10, 2), (40, 61), (0, 30)])
def test_mcnemar_is_the_exact_two_sided_binomial_test(first, second):
    assert offline.mcnemar_p_value(first, second) == pytest.approx(binomial_test(first, first + second), rel=1e-9)
    assert offline.mcnemar_p_value(first, second) == offline.mcnemar_p_value(second, first)


def test_mcnemar_of_very_many_videos_is_a_number():
    assert offline.mcnemar_p_value(9000, 9000) == 1
    assert 0 <= offline.mcnemar_p_value(3000, 15000) < 1e-300


def test_a_comparison_counts_who_is_right_where(tmp_path, capsys):
    sure = lambda right: np.where(right[:, None, None], 1, -1) * 9 * np.eye(6)[np.arange(30) % 6][:, None]
    first, second = np.arange(30) < 20, (np.arange(30) < 15) | (np.arange(30) >= 22)
    runs = [run_of(tmp_path, name, sure(right).astype(np.float32)) for name, right in (("a", first), ("b", second))]
    rescoring.compare_runs(runs, out=tmp_path / "out")
    result = found(tmp_path / "out", "comparison.json")
    assert result["right"] == {"both": 15, "first": 5, "second": 8}
    assert result["difference"] == pytest.approx(10)
    assert result["mcnemar_p"] == pytest.approx(binomial_test(5, 13))
    low, high = result["ci95_difference"]
    half = 1.96 * 100 * np.sqrt((13 / 30 - 0.01) / 30)
    assert (low, high) == (pytest.approx(10 - half, abs=5), pytest.approx(10 + half, abs=5))
    by_class = {row["class"]: row for row in result["classes"]}
    for number, name in enumerate(CLASSES):
        of = np.arange(30) % 6 == number
        assert by_class[name]["difference"] == pytest.approx(100 * (second[of].mean() - first[of].mean()))
    with (tmp_path / "out" / "classes.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == [row["class"] for row in result["classes"]]
    assert image.imread(tmp_path / "out" / "classes.png")[..., :3].std() > 0.01
    assert "+10.00 points" in capsys.readouterr().out


def test_the_interval_of_a_difference_is_paired_and_over_groups(tmp_path):
    logits = make_logits(120, skill=1)
    runs = [run_of(tmp_path, "a", logits), run_of(tmp_path, "b", logits)]
    rescoring.compare_runs(runs, out=tmp_path / "out")
    same = found(tmp_path / "out", "comparison.json")
    assert (same["ci95_difference"], same["mcnemar_p"]) == ([0, 0], 1)
    groups = np.array([f"g{i // 12}" for i in range(120)])
    other = np.where(np.arange(120)[:, None, None] // 12 % 2, logits, make_logits(120, skill=9))
    widths = []
    for group in (groups, np.array([""] * 120)):
        a, b = (save(tmp_path / n, x, group=group) for n, x in (("c", logits), ("d", other.astype(np.float32))))
        low, high = offline.compare_runs(
            predictions.read_predictions(a), predictions.read_predictions(b), "max"
        ).summary["ci95_difference"]
        widths.append(high - low)
    assert widths[0] > 1.3 * widths[1]  # videos of a group gain together


@pytest.mark.parametrize("count", [1, 3])
def test_a_comparison_takes_two_runs(tmp_path, count):
    with pytest.raises(UserError, match="--compare"):
        rescoring.compare_runs([tmp_path] * count)


def test_results_are_written_where_runs_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [run_of(tmp_path, name, make_logits(seed=seed)) for seed, name in enumerate("ab")]
    rescoring.fuse_runs(runs)
    rescoring.fuse_runs(runs, weights=["2", "1"])
    rescoring.compare_runs(runs)
    names = {path.name for path in (tmp_path / "results" / "scores").iterdir()}
    assert names == {"a+b", "a+b-weights-2-1", "a-against-b"}


def test_the_folder_of_a_protocol_is_named_as_a_tests(tmp_path):
    run = run_of(tmp_path, "a", make_logits(30, 3))
    rescoring.rescore_run(run, clips=1)
    (folder,) = (run / "test" / "protocol" / "offline").iterdir()
    assert folder.name == protocol_module.slugify(PROTOCOL.format(clips=1, crops=1, fusion="softmax-mean"))


# The command line


def tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(ROOT / "tools" / "evaluate.py"), run_name="__main__")
    return exit.value.code


def test_the_tool_says_where_it_wrote(tmp_path, monkeypatch, capsys):
    a, b = run_of(tmp_path, "a", make_logits(30, 3, 1)), run_of(tmp_path, "b", make_logits(30, 3, 2))
    out = tmp_path / "out"
    for arguments in (
        [a, "--clips", 2],
        [a, "--sweep"],
        [a, b, "--weights", 1, 2],
        [a, b, "--compare", "--fusion", "max"],
    ):
        assert not tool(monkeypatch, "--scores", *arguments, "--out", out)
        assert capsys.readouterr().out.splitlines()[-1] == f"wrote   {out}"
    names = {path.name for path in out.iterdir()}
    assert {"metrics.json", "confusion.png", "sweep.csv", "predictions.npz", "comparison.json", "classes.csv"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scores", "a", "--clips", "9"], "--clips"),
        (["--scores", "nowhere"], "nowhere is not there"),
        (["--scores", "a", "--weights", "1"], "with --weights"),
        (["--scores", "a", "b", "--sweep"], "with --sweep"),
        (["--scores", "a", "b", "--compare", "--weights", "1", "2"], "with --weights"),
        (["--scores", "a", "--part", "val"], "with --part"),
        (["--scores", "a", "--checkpoint", "x"], "with --checkpoint"),
        (["--run", "a", "--sweep"], "with --sweep"),
        (["--scores", "a", "--run", "a"], "not allowed with"),
        (["--scores", "a", "--fusion", "mean"], "invalid choice"),
    ],
)
def test_wrong_commands_are_refused_without_a_traceback(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path, "a", make_logits()), run_of(tmp_path, "b", make_logits())
    assert tool(monkeypatch, *arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_testing_again_removes_what_was_made_of_the_old_scores(tmp_path):
    cfg = parse.build_config(
        {
            "data": {"name": "zoo", "format": "csv", "root": "."},
            "model": {"name": "r3d_18"},
            "train": {"epochs": 1},
            "test": {"clips": 3},
        },
        "zoo",
    )
    listed = tuple(Video(f"{i}.mp4", i % 6, "") for i in range(12))
    found_all = {"expected": 12, "found": 12}
    index = Index(train=(), val=(), test=listed, classes=CLASSES, counts={"test": found_all})
    videos = Videos(index, infos={}, unreadable={"test": {}})
    for seed in range(2):
        logits = make_logits(12, 3, seed)
        scores = results.TestScores("test", videos, listed, logits)
        tested = {"checkpoint": {"file": "best.ckpt", "epoch": 0}, "list": {"source": "lists", "hash": "0"}}
        results.write_test(tmp_path, cfg, scores, tested)
        (folder,) = (tmp_path / "test").iterdir()
        assert not (folder / "offline").exists()
        rescoring.rescore_run(tmp_path)
        said, again = found(folder / "offline"), json.loads((folder / "metrics.json").read_text())
        of_the_model = {key: again[key] for key in ("checkpoint", "list", "precision", "gap")}
        assert {**again, "predictions": said["predictions"]} == {**said, **of_the_model}
