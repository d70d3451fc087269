"""The command line as users meet it: what it prints, the files of a run folder, and that a run can be repeated."""

import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from helpers.commands import (
    CLASSES,
    ROOT,
    assert_same_weights,
    damage,
    environment,
    forked,
    read_result,
    result,
    succeeded,
    tool,
    write_data,
)
from helpers.videos import write_csv, write_ucf101

from videores.config import parse
from videores.data.synthetic import writing
from videores.models.weights import safe_load
from videores.training import run_folder, setup

TESTED = ("metrics.json", "predictions.npz", "mistakes.csv", "confusion.png", "confusion.svg")


@pytest.fixture(scope="module")
def place(trained):
    return trained[0]


@pytest.fixture(scope="module")
def run(place):
    return place / "runs" / "tiny"


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def env(run):
    return json.loads((run / "env.json").read_text())


# What a run prints and writes


def test_training_prints_what_it_reads_and_where_it_writes_and_ends_with_both_accuracies(trained, run):
    found, _ = result(run)
    text = trained[1].stdout
    assert "9 train, 3 val, 7 test videos, 6 classes" in text
    assert re.search(r"wrote +runs.tiny.test.8x1@32", text)
    clip, video = text.splitlines()[-2:]
    assert clip.startswith(f"clip    top-1 {found['clip_top1']:.2f}  top-5 {found['clip_top5']:.2f}")
    assert video.startswith(f"video   top-1 {found['video_top1']:.2f} ")
    assert f"top-5 {found['video_top5']:.2f}" in video
    assert trained[1].stderr.splitlines()[-1].startswith("next    python tools/report.py --run runs/tiny ")


def test_run_folder_has_the_files_of_the_design_and_no_others(run):
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    (test,) = {path.name for path in (run / "test").iterdir()}
    assert re.fullmatch(r"[A-Za-z0-9.@_-]+", test)
    tested = {f"test/{test}/{name}" for name in TESTED}
    checkpoints = {f"checkpoints/{name}.ckpt" for name in ("best", "last", "last-previous")}
    trained = {"config.yaml", "env.json", "run.lock", "metrics.jsonl", "curves.png", "curves.svg"}
    assert names == trained | checkpoints | tested


def test_mistakes_are_all_wrong_videos(run):
    found, arrays = result(run)
    (path,) = run.glob("test/*/mistakes.csv")
    rows = list(csv.DictReader(path.open()))
    p_VN = torch.from_numpy(arrays["logits"]).double().softmax(-1).mean(1)
    wrong = arrays["video"][p_VN.argmax(1).numpy() != arrays["label"]].tolist()
    assert sorted(row["video"] for row in rows) == sorted(wrong)
    assert [{**row, "confidence": float(row["confidence"])} for row in rows[:20]] == found["worst"]


def test_a_test_prints_and_keeps_its_floors(trained, run):
    floors = result(run)[0]["floors"]
    assert (floors["majority"], floors["training_videos"]) == (pytest.approx(100 / 7), 12)
    (line,) = (line for line in trained[1].stdout.splitlines() if line.startswith("floors"))
    assert f"majority class {floors['majority']:.2f}, size and length {floors['size']:.2f}, thumbnail" in line
    assert ("NOT BEATEN" in line) is not floors["above"]


def test_metrics_json_has_the_keys_of_the_design(run):
    found, _ = result(run)
    accuracies = ["clip_top1", "clip_top5", "video_top1", "video_top5", "mean_class_top1"]
    more = [
        "ci95_over",
        "ci95_mean_class_top1",
        "uar",
        "auc",
        "ci95_auc",
        "macro_f1",
        "nll",
        "ece",
        "per_class_top1",
        "confusion",
        "worst",
        "floors",
    ]
    assert set(found) == {
        *("protocol", "precision", "ci95_video_top1", "videos", "checkpoint", "list", "gap", *accuracies, *more)
    }
    assert found["protocol"] == "8x1@32/32 2x1 softmax-mean tiny-test"
    assert found["checkpoint"]["file"] == "checkpoints/best.ckpt"
    low, high = found["ci95_video_top1"]
    assert low <= found["video_top1"] <= high
    low, high = found["ci95_mean_class_top1"]
    assert low <= found["uar"] <= high
    assert found["videos"] == {"expected": 7, "scored": 7, "unreadable": []}


def test_predictions_have_the_arrays_of_the_design(run):
    _, arrays = result(run)
    assert set(arrays) == {"video", "label", "group", "classes", "clip", "crop", "logits"}
    assert (arrays["logits"].shape, arrays["logits"].dtype) == ((7, 2, 6), np.float32)
    assert arrays["video"].tolist() == [f"test/{i:02}.mp4" for i in range(7)]
    assert arrays["group"].tolist() == [f"test{i:02}" for i in range(7)]
    assert arrays["classes"].tolist() == sorted(CLASSES)
    assert arrays["classes"][arrays["label"]].tolist() == [CLASSES[i % 6] for i in range(7)]
    assert (arrays["clip"].tolist(), arrays["crop"].tolist()) == ([0, 1], [0, 0])


def test_every_number_is_recomputed_from_the_predictions(run):
    found, arrays = result(run)
    assert found == found | recomputed(arrays["logits"].astype(np.float64), arrays["label"])


def recomputed(logits_VKN, label_V):
    """The accuracies, written a second time and differently."""
    p_VKN = np.stack([[np.exp(view) / np.exp(view).sum() for view in video] for video in logits_VKN])
    rank = lambda scores, label: sorted(range(6), key=lambda c: -scores[c]).index(label)
    clip = np.array([[rank(view, label) for view in video] for video, label in zip(logits_VKN, label_V, strict=True)])
    video = np.array([rank(views.mean(0), label) for views, label in zip(p_VKN, label_V, strict=True)])
    per_class = [(video[label_V == c] == 0).mean() for c in sorted(set(label_V.tolist()))]
    near = lambda share: pytest.approx(100 * share)
    return {
        "clip_top1": near((clip == 0).mean()),
        "clip_top5": near((clip < 5).mean()),
        "video_top1": near((video == 0).mean()),
        "video_top5": near((video < 5).mean()),
        "mean_class_top1": near(np.mean(per_class)),
    }


def test_environment_record_has_what_the_design_says(run):
    found = env(run)
    assert found["command"].endswith("train.py --cfg tiny.yaml")
    assert {"commit", "dirty"} == set(found["git"]) if found["git"] else found["git"] is None
    assert {"torch", "lightning", "numpy", "python", "av", "videores"} <= set(found["versions"])
    assert {"machine", "cores", "gpus"} <= set(found["hardware"])
    assert (found["world_size"], found["seed"], found["exit_status"]) == (1, 0, 0)
    assert found["start"] <= found["end"]
    assert set(found["manifest"]) == set(found["lists"]) == {"train", "val", "test"}
    assert found["precision"] in ("fp32", "bf16")
    assert found["channels_last"] in (True, False)
    assert sum(found["readers"].values()) == 19
    assert [entry["step"] for entry in found["starts"]] == [0]
    assert found["starts"][0].keys() == {"step", "time", "command"}


def test_metrics_are_one_object_a_line_with_epoch_and_step(run):
    logged = rows(run)
    assert all({"epoch", "step"} < set(row) for row in logged)
    assert [row["step"] for row in logged if "train/loss" in row] == [1, 2, 3, 4]
    assert [(row["epoch"], row["step"]) for row in logged if "val/video_top1" in row] == [(0, 2), (1, 4)]
    assert {"train/top1", "lr", "clips_per_s", "val/loss", "val/clip_top1"} <= {key for row in logged for key in row}


def test_checkpoints_load_without_running_code_and_carry_classes_and_configuration(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["train"]["optimizer"], config["run"]["seed"]) == ("sgd", 0)  # every key is there
    for name in ("best", "last"):
        stored = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert stored["hyper_parameters"]["classes"] == sorted(CLASSES)
        assert stored["hyper_parameters"]["config"] == config
    assert stored["global_step"] == 4


def test_best_checkpoint_has_the_best_accuracy_and_among_equals_the_lowest_loss(run):
    best = max((r for r in rows(run) if "val/loss" in r), key=lambda row: (row["val/video_top1"], -row["val/loss"]))
    assert safe_load.read_checkpoint(run / "checkpoints" / "best.ckpt")["epoch"] == best["epoch"]


# Testing again

MISMATCHES = ("model.control=no_relu", "data.transform.mean=[0,0,0]")


@pytest.fixture(scope="module")
def evaluations(place, run, tmp_path_factory):
    """A copy of the run that was tested again, the refusals of MISMATCHES, and an unfinished copy with its outputs."""
    copy = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "test")
    unfinished = copy.with_name("unfinished")
    shutil.copytree(run, unfinished)
    (unfinished / "env.json").write_text(json.dumps({**env(run), "exit_status": 75}))
    again = [
        (),
        ("test.clips=3", "test.crops=3", "test.fusion=logit-mean"),
        ("test.clips=1", "data.batch_size=1"),
        ("test.clips=1", "data.batch_size=5", "data.name=again", "data.cache=ram"),
        ("--checkpoint", copy / "checkpoints/last.ckpt", "data.name=last"),
        ("trainer.score_precision=bf16", "data.name=half"),
        ("test.order=shuffled",),
        ("test.corruption=noise", "test.severity=5", "test.clips=4"),
        ("test.clips=all", "test.crops=full", "test.fusion=vote"),
        ("--part", "val"),
    ]
    cases = [("evaluate.py", "--run", copy, *more) for more in again]
    cases += [("evaluate.py", "--run", copy, change) for change in MISMATCHES]
    cases += [(name, "--run", unfinished) for name in ("evaluate.py", "export.py", "report.py")]
    processes = forked(cases, place)
    for process in (*processes[: len(again)], *processes[-3:]):
        succeeded(process)
    return copy, processes[len(again) : -3], (unfinished, processes[-3:])


@pytest.fixture(scope="module")
def evaluated(evaluations):
    return evaluations[0]


def scores_of(run, name):
    return read_result(run / "test" / f"8x1@32_32_{name}")


def test_evaluate_repeats_the_numbers_of_training_exactly(run, evaluated):
    """Though other networks were to be tested since, whose protocol would be the same."""
    before, arrays_before = scores_of(run, "2x1_softmax-mean_tiny-test")
    after, arrays_after = scores_of(evaluated, "2x1_softmax-mean_tiny-test")
    assert after == before
    np.testing.assert_array_equal(arrays_after["logits"], arrays_before["logits"])


def test_weights_are_not_tested_as_another_network_or_normalization(evaluations):
    for change, process in zip(MISMATCHES, evaluations[1], strict=True):
        assert process.returncode == 2, process.stderr
        assert change.split("=")[0] in process.stderr


def test_what_is_made_of_a_run_that_has_not_ended_says_so(run, evaluations, tmp_path):
    unfinished, (evaluation, export, _) = evaluations[2]
    for text in (evaluation.stdout, export.stdout, (unfinished / "report.html").read_text()):
        assert text.count("run.resume=auto continues it") == 1
    assert run_folder.format_unfinished_note(run) is None
    (tmp_path / "env.json").write_text("{}")
    assert "run.resume=auto" in run_folder.format_unfinished_note(tmp_path)


def test_classes_that_a_flip_would_confuse_are_warned_of(capsys):
    sides = ["moves left", "moves right"]
    for classes, flip, labels, warns in (
        (sides, 0.5, "none", True),
        (sides, 0.0, "none", False),
        (sides, 0.5, "left-right", False),
        (["up", "down"], 0.5, "none", False),
    ):
        changed = [f"data.transform.flip={flip}", f"data.augment.flip_labels={labels}"]
        setup.warn_mirrored_classes(parse.load_config("r2plus1d_ucf101.yaml", changed).data, classes)
        assert ("moves left, moves right" in capsys.readouterr().err) == warns


def test_another_protocol_writes_another_folder(evaluated):
    found, arrays = scores_of(evaluated, "3x3_logit-mean_tiny-test")
    assert found["protocol"] == "8x1@32/32 3x3 logit-mean tiny-test"
    assert arrays["logits"].shape == (7, 9, 6)
    assert arrays["clip"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert arrays["crop"].tolist() == [0, 1, 2] * 3


def test_scores_depend_neither_on_the_batch_size_nor_on_the_cache(evaluated):
    one, five = (scores_of(evaluated, f"1x1_softmax-mean_{name}-test")[1]["logits"] for name in ("tiny", "again"))
    np.testing.assert_allclose(one, five, atol=1e-5)


def test_scores_are_in_fp32_if_not_asked_for_otherwise(evaluated):
    results = [scores_of(evaluated, f"2x1_softmax-mean_{name}-test") for name in ("tiny", "half")]
    (exact, logits), (rounded, rounded_logits) = results
    assert (exact["precision"], rounded["precision"]) == ("fp32", "bf16")
    assert not np.allclose(logits["logits"], rounded_logits["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits["logits"], rounded_logits["logits"], rtol=0, atol=0.1)


def test_a_probe_gives_what_is_lost_against_the_normal_frames(evaluated):
    normal, arrays = scores_of(evaluated, "2x1_softmax-mean_tiny-test")
    probe, shuffled = scores_of(evaluated, "2x1_softmax-mean_tiny-test_shuffled")
    assert probe["protocol"] == normal["protocol"] + " shuffled"
    assert probe["clean"] == {
        "protocol": normal["protocol"],
        "video_top1": normal["video_top1"],
        "drop_clip_top1": normal["clip_top1"] - probe["clip_top1"],
        "drop_video_top1": normal["video_top1"] - probe["video_top1"],
    }
    assert (arrays["logits"] != shuffled["logits"]).any()
    assert (arrays["logits"][-1] == shuffled["logits"][-1]).all()  # the video of one frame
    assert "clean" not in normal
    assert scores_of(evaluated, "4x1_softmax-mean_tiny-test_noise-5")[0]["clean"] is None  # 4 clips without noise: none


def test_all_clips_of_whole_pictures(evaluated):
    found, arrays = scores_of(evaluated, "allxfull_vote_tiny-test")
    assert found["protocol"] == "8x1@32/32 allxfull vote tiny-test"
    assert arrays["logits"].shape == (7, 2, 6)  # of 12 frames, but the last has one
    assert np.isnan(arrays["logits"]).all(2).tolist() == [[False, False]] * 6 + [[False, True]]


def test_validation_videos_give_the_number_of_training_again(run, evaluated):
    found, arrays = read_result(evaluated / "val" / "8x1@32_32_1x1_softmax-mean_tiny-heldout")
    logged = {row["epoch"]: row for row in rows(run) if "val/video_top1" in row}[found["checkpoint"]["epoch"]]
    assert (found["video_top1"], found["clip_top1"]) == (logged["val/video_top1"], logged["val/clip_top1"])
    assert found["videos"] == {"expected": 3, "scored": 3, "unreadable": []}
    assert not {*arrays["video"]} & {f"test/{i:02}.mp4" for i in range(7)}


def test_another_checkpoint_can_be_tested_and_the_record_of_training_stays(run, evaluated):
    (folder,) = (evaluated / "test").glob("8x1@32_32_2x1_softmax-mean_last-test+*")
    assert read_result(folder)[0]["checkpoint"]["file"] == "checkpoints/last.ckpt"
    for name in ("env.json", "config.yaml", "metrics.jsonl"):
        assert (evaluated / name).read_bytes() == (run / name).read_bytes()


# Help and exit codes


def test_help_says_how_to_call_each_tool(tmp_path):
    names = sorted(path.name for path in (ROOT / "tools").glob("*.py"))
    for name, process in zip(names, forked([(name, "--help") for name in names], tmp_path), strict=True):
        assert f"python tools/{name}" in succeeded(process).stdout
        assert process.stderr == ""


def test_a_bug_exits_with_another_code_than_any_that_has_a_meaning(tmp_path):
    code = "from videores.runtime import cli; cli.run(lambda: 1 / 0)"
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True)
    assert b"ZeroDivisionError" in process.stderr
    assert process.returncode not in (0, 1, 2, 75)  # 1 says: done, but some data is bad


# Runs that are repeated, or go wrong

SEEDED = ["data.val=none", "data.transform.jitter=[32,40]", "data.transform.crop=28"]
SPOILED = ["train.lr=1e30", "train.warmup=0"]
SHORT = ["train.epochs=1", "train.warmup=0", "data.val=none"]
VARIANTS = {  # runs that differ from the usual one in one thing each
    "first": SEEDED,
    "three workers, ram": [*SEEDED, "data.workers=3", "data.cache=ram"],
    "other seed": [*SEEDED, "run.seed=1"],
    "overwritten": ["run.overwrite=true", "run.seed=3"],
    "without validation": ["data.val=none"],
    "nan": SPOILED,
    "one bad step": [*SPOILED, "train.epochs=1", "data.batch_size=9", "data.val=none"],
    "one step": [*SHORT, "data.batch_size=9", "trainer.log_every=20"],
    "bad test video": [*SHORT, "data.root=one-bad"],
    "skipped": [*SHORT, "data.root=bad", "data.on_unreadable=skip"],
    "one frame": [*SHORT, "data.root=one-frame"],
    "ucf101": [*SHORT, "data.root=real/videos", "data.splits=real/splits", "data.format=ucf101"],
    "f_r2d": [*SHORT, "model.name=f_r2d_18", "data.root=motion", "test.clips=5"],
    "fp32": [*SHORT, "trainer.precision=fp32"],
    "bf16": [*SHORT, "trainer.precision=bf16"],
}


@pytest.fixture(scope="module")
def runs(place, run):
    """name of VARIANTS -> (process, folder)."""
    write_ucf101(place / "real", classes=("Run", "Walk"), groups=3, clips=2, newline="\r\n")
    one = {"train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)], "test": [("e.mp4", "a", "h")]}
    write_csv(place / "one-frame", one, frames=1, height=32, width=32)
    writing.prepare_dataset(place / "motion", videos={"train": 16, "test": 32}, progress=False)
    write_data(place / "one-bad")
    damage(place / "one-bad" / "test" / "02.mp4", 0)
    shutil.copytree(place / "one-bad", place / "bad")
    damage(place / "bad" / "train" / "05.mp4", 1)
    folders = {name: place / "variants" / name.replace(", ", "-").replace(" ", "-") for name in VARIANTS}
    shutil.copytree(run, folders["overwritten"])
    (folders["overwritten"] / "test" / "stale").mkdir()
    command = ("train.py", "--cfg", "tiny.yaml")
    processes = forked([(*command, f"run.dir={folders[name]}", *more) for name, more in VARIANTS.items()], place)
    return {name: (process, folders[name]) for name, process in zip(VARIANTS, processes, strict=True)}


def test_the_same_seed_gives_the_same_weights_bit_for_bit(runs):
    (_, first), (_, second), (_, other) = (runs[name] for name in ("first", "three workers, ram", "other seed"))
    assert_same_weights(first, second)
    np.testing.assert_array_equal(result(first)[1]["logits"], result(second)[1]["logits"])
    with pytest.raises(AssertionError):
        assert_same_weights(first, other)


def test_overwrite_removes_the_old_run(runs):
    process, folder = runs["overwritten"]
    succeeded(process)
    assert not (folder / "test" / "stale").exists()
    assert yaml.safe_load((folder / "config.yaml").read_text())["run"]["seed"] == 3
    assert sum("val/loss" in row for row in rows(folder)) == 2


def test_without_validation_the_last_checkpoint_is_scores_of(runs):
    process, folder = runs["without validation"]
    succeeded(process)
    assert "12 train, 0 val" in process.stdout
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "last-previous.ckpt"}
    assert result(folder)[0]["videos"]["scored"] == 7
    assert not any(key.startswith("val/") for row in rows(folder) for key in row)


def test_a_nan_loss_stops_the_run_and_names_the_step_and_the_videos(runs):
    process, folder = runs["nan"]
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    message = process.stderr[process.stderr.index("error: ") :]
    assert re.search(r"at step [1-4]\b.*train\.lr", message)
    assert len(re.findall(r"train/\d\d\.mp4", message)) == 4
    assert env(folder)["exit_status"] == 2
    assert "train.lr" in env(folder)["error"]


def test_weights_that_the_last_step_has_spoiled_give_no_result(runs):
    process, folder = runs["one bad step"]
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert "7 of 7 videos" in process.stderr
    assert "checkpoints/last" in process.stderr
    assert not list(folder.rglob("metrics.json"))


def test_the_shortest_run_has_its_loss_and_its_curve(runs):
    process, folder = runs["one step"]
    succeeded(process)
    (row,) = rows(folder)
    assert row["step"] == 1
    assert row["train/loss"] > 0
    assert (folder / "curves.png").exists()


def test_bad_videos_are_listed_skipped_on_request_count_as_wrong_and_exit_with_1(runs):
    for name in ("bad test video", "skipped"):
        process, folder = runs[name]
        succeeded(process, code=1)
        found, arrays = result(folder)
        assert found["videos"] == {"expected": 7, "scored": 6, "unreadable": ["test/02.mp4"]}
    assert np.isnan(arrays["logits"][2]).all()
    assert not np.isnan(np.delete(arrays["logits"], 2, axis=0)).any()
    assert {*re.findall(r"\w+/\d\d\.mp4", process.stderr)} == {"train/05.mp4", "test/02.mp4"}
    hits = arrays["logits"].argmax(-1) == arrays["label"][:, None]
    hits[2] = False
    assert found["clip_top1"] == pytest.approx(100 * hits.mean())
    assert env(folder)["exit_status"] == 1
    assert [path for part in env(folder)["skipped"].values() for path in part] == ["train/05.mp4"]


def test_videos_of_one_frame_are_good_input(runs):
    process, folder = runs["one frame"]
    succeeded(process)
    assert result(folder)[0]["videos"] == {"expected": 1, "scored": 1, "unreadable": []}


def test_ucf101_lists_with_windows_line_ends_train(runs):
    process, folder = runs["ucf101"]
    succeeded(process)
    found, arrays = result(folder)
    assert found["protocol"].endswith("tiny-1")
    assert (found["clip_top5"], found["video_top5"]) == (None, None)
    assert set(arrays["group"]) == {"g01"}
    assert arrays["classes"].tolist() == ["Run", "Walk"]


def test_a_network_that_sees_no_order_stays_at_or_below_half_on_motion8(runs):
    process, folder = runs["f_r2d"]
    succeeded(process)
    found, arrays = result(folder)
    assert found["video_top1"] <= 50
    forward, backward = arrays["logits"][0::2], arrays["logits"][1::2]
    np.testing.assert_allclose(forward, backward[:, ::-1], atol=1e-6)  # the views of a reversal, in reverse


def test_the_precision_that_was_asked_for_is_used_and_recorded(runs):
    for name in ("fp32", "bf16"):
        process, folder = runs[name]
        succeeded(process)
        assert (env(folder)["precision"], env(folder)["channels_last"]) == (name, name == "bf16")
    with pytest.raises(AssertionError):
        assert_same_weights(runs["fp32"][1], runs["bf16"][1])


# Real clips


@pytest.mark.slow
def test_real_avi_clips_train_and_test(shared_data, tmp_path):
    real = shared_data.resolve() / "ut-interaction-6"
    overrides = [
        *(f"data.root={real / 'videos'}", f"data.splits={real}", "model.layers=[1]", "model.width=8"),
        *("train.epochs=1", "train.warmup=0", "train.schedule=cosine", "train.milestones=[]"),
        *("data.transform.short_side=40", "data.transform.crop=32", "data.batch_size=8", "data.workers=0"),
        "test.clips=2",
    ]
    process = succeeded(tool("train.py", "--cfg", "r2plus1d_ucf101.yaml", *overrides, cwd=tmp_path, timeout=550))
    found, arrays = result(tmp_path / "runs" / "r2plus1d_ucf101")
    assert (
        found["videos"]["scored"] == found["videos"]["expected"] == len((real / "testlist01.txt").read_text().split())
    )
    assert len(arrays["classes"]) == 6
    assert "video   top-1" in process.stdout.splitlines()[-1]
