"""The command line as users meet it: what it prints, the files of a run folder, and that a run can be repeated."""

import csv
import json
import re
import shutil
import subprocess
import sys
import time

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
    write_place,
)
from helpers.videos import write_csv, write_ucf101

from videores.config import parse
from videores.data.synthetic import datasets
from videores.models.weights import safe_load
from videores.training import setup

TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def training(place):
    return succeeded(tool("train.py", "--cfg", "tiny.yaml", cwd=place))


@pytest.fixture(scope="module")
def run(place, training):
    return place / "runs" / "tiny"


# What a run prints and writes


def test_training_ends_with_clip_and_video_accuracy(training, run):
    found, _ = result(run)
    clip, video = training.stdout.splitlines()[-2:]
    assert clip.startswith(f"clip    top-1 {found['clip_top1']:.2f}  top-5 {found['clip_top5']:.2f}")
    assert video.startswith(f"video   top-1 {found['video_top1']:.2f} ")
    assert f"top-5 {found['video_top5']:.2f}" in video


def test_training_says_where_it_writes_and_what_it_read(training):
    assert "9 train, 3 val, 7 test videos, 6 classes" in training.stdout
    assert re.search(r"writes runs.tiny", training.stdout)
    assert re.search(r"wrote +runs.tiny.test.8x1@32", training.stdout)


def test_training_begins_and_ends_with_a_summary(training):
    assert "2 epochs of sgd, cosine; 2 steps an epoch, 4 in all" in training.stdout
    assert "4 videos a step, learning rate 0.02" in training.stdout
    assert re.search(r"r3d_18: [\d,]+ parameters, all trained; 0\.\d+ GMAC a clip of 8x32x32", training.stdout)
    assert re.search(r"^trained 4 steps in \d+ .*2 epochs in all$", training.stdout, re.MULTILINE)


def test_long_runs_say_after_their_first_steps_how_long_they_take(resumed):
    whole = resumed[3][0].stdout
    assert re.search(r"^time +[\d.e-]+ s a batch \(20 measured\): \d+ .*of training to go", whole, re.MULTILINE)


def test_run_folder_has_the_files_of_the_design_and_no_others(run):
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    (test,) = {path.name for path in (run / "test").iterdir()}
    tested = {f"test/{test}/{name}" for name in ("metrics.json", "predictions.npz", "confusion.png")}
    trained = {
        "config.yaml",
        "env.json",
        "run.lock",
        "metrics.jsonl",
        "curves.png",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "checkpoints/last-previous.ckpt",
    }
    assert names == trained | tested


def test_protocol_string_is_the_designs_and_names_the_folder(run):
    found, _ = result(run)
    assert found["protocol"] == "8x1@32/32 2x1 softmax-mean tiny-test"
    (folder,) = (run / "test").iterdir()
    assert re.fullmatch(r"[A-Za-z0-9.@_-]+", folder.name)


def test_metrics_json_has_the_keys_of_the_design(run):
    found, _ = result(run)
    accuracies = ["clip_top1", "clip_top5", "video_top1", "video_top5", "mean_class_top1"]
    more = ["ci95_over", "uar", "macro_f1", "nll", "ece", "per_class_top1", "confusion", "worst"]
    assert set(found) == {"protocol", "precision", "ci95_video_top1", "videos", "checkpoint", "gap", *accuracies, *more}
    assert found["checkpoint"]["file"] == "checkpoints/best.ckpt"
    assert all(0 <= found[key] <= 100 for key in accuracies)
    low, high = found["ci95_video_top1"]
    assert low <= found["video_top1"] <= high
    assert found["videos"] == {"expected": 7, "scored": 7, "unreadable": []}


def test_predictions_have_the_arrays_of_the_design(run):
    _, arrays = result(run)
    assert set(arrays) == {"video", "label", "group", "classes", "clip", "crop", "logits"}
    assert arrays["logits"].shape == (7, 2, 6)
    assert arrays["logits"].dtype == np.float32
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
    found = json.loads((run / "env.json").read_text())
    assert found["command"].endswith("train.py --cfg tiny.yaml")
    assert {"commit", "dirty"} == set(found["git"]) if found["git"] else found["git"] is None
    assert {"torch", "lightning", "numpy", "python", "av", "videores"} <= set(found["versions"])
    assert {"machine", "cores", "gpus"} <= set(found["hardware"])
    assert (found["world_size"], found["seed"], found["exit_status"]) == (1, 0, 0)
    assert found["start"] <= found["end"]
    assert set(found["manifest"]) == {"train", "val", "test"}
    assert found["precision"] in ("fp32", "bf16")
    assert found["channels_last"] in (True, False)
    assert sum(found["readers"].values()) == 19
    assert [entry["step"] for entry in found["starts"]] == [0]
    assert set(found["starts"][0]) == {"step", "time"}


def test_metrics_are_one_object_a_line_with_epoch_and_step(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all({"epoch", "step"} < set(row) for row in rows)
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4]
    assert [(row["epoch"], row["step"]) for row in rows if "val/video_top1" in row] == [(0, 2), (1, 4)]
    logged = {key for row in rows for key in row}
    assert {"train/top1", "lr", "clips_per_s", "val/loss", "val/clip_top1"} <= logged


@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoints_load_without_running_code_and_carry_classes_and_configuration(run, name):
    stored = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["classes"] == sorted(CLASSES)
    assert stored["hyper_parameters"]["config"] == yaml.safe_load((run / "config.yaml").read_text())


def test_best_checkpoint_has_the_best_accuracy_and_among_equals_the_lowest_loss(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max((row for row in rows if "val/loss" in row), key=lambda row: (row["val/video_top1"], -row["val/loss"]))
    assert safe_load.read_checkpoint(run / "checkpoints" / "best.ckpt")["epoch"] == best["epoch"]


def test_last_checkpoint_is_of_the_last_step(run):
    assert safe_load.read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 4


def test_resolved_configuration_names_every_key(run):
    found = yaml.safe_load((run / "config.yaml").read_text())
    assert found["train"]["optimizer"] == "sgd"
    assert found["run"]["seed"] == 0


def test_progress_bar_shows_speed_and_remaining_time(training):
    assert re.search(r"Epoch 1: 100%.*2/2 \[[0-9:]+<[0-9:]+, +[0-9.]+(it/s|s/it)", training.stdout + training.stderr)


def test_no_videos_of_one_group_are_on_both_sides_of_the_validation_split(run):
    with (run.parent.parent / "data" / "train.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12  # 9 + 3, as the run said


# Testing again


@pytest.fixture(scope="module")
def evaluated(place, run, tmp_path_factory):
    """A copy of the run, tested again by real and forked processes. Returns the copy."""
    copy = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "test")
    succeeded(tool("evaluate.py", "--run", copy, cwd=place))
    more = [
        ("evaluate.py", "--run", copy, "test.clips=3", "test.crops=3", "test.fusion=logit-mean"),
        ("evaluate.py", "--run", copy, "test.clips=1", "data.batch_size=1"),
        ("evaluate.py", "--run", copy, "test.clips=1", "data.batch_size=5", "data.name=again", "data.cache=ram"),
        ("evaluate.py", "--run", copy, "--checkpoint", copy / "checkpoints/last.ckpt", "data.name=last"),
        ("evaluate.py", "--run", copy, "trainer.score_precision=bf16", "data.name=half"),
        ("evaluate.py", "--run", copy, "test.order=shuffled"),
        ("evaluate.py", "--run", copy, "test.corruption=noise", "test.severity=5", "test.clips=4"),
        ("evaluate.py", "--run", copy, "test.clips=all", "test.crops=full", "test.fusion=vote"),
        ("evaluate.py", "--run", copy, "--part", "val"),
    ]
    for process in forked(more, place):
        succeeded(process)
    return copy


def test_evaluate_repeats_the_numbers_of_training_exactly(run, evaluated):
    (folder,) = (run / "test").iterdir()
    before, arrays_before = read_result(folder)
    after, arrays_after = read_result(evaluated / "test" / folder.name)
    assert after == before
    np.testing.assert_array_equal(arrays_after["logits"], arrays_before["logits"])


def test_weights_are_not_tested_as_another_network_or_on_other_colours(place, evaluated):
    """Their shapes fit, and the protocol would be the same."""
    before = {path: path.read_bytes() for path in evaluated.rglob("metrics.json")}
    changes = ("model.control=no_relu", "model.pool=max", "model.norm_eps=5", "data.transform.mean=[0,0,0]")
    for change, process in zip(
        changes, forked([("evaluate.py", "--run", evaluated, change) for change in changes], place), strict=True
    ):
        assert process.returncode == 2, process.stderr
        assert change.split("=")[0] in process.stderr
    assert {path: path.read_bytes() for path in evaluated.rglob("metrics.json")} == before


def test_what_is_made_of_a_run_that_has_not_ended_says_so(place, evaluated, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(evaluated, copy)
    record = json.loads((copy / "env.json").read_text())
    tools = [("evaluate.py", "--run", copy), ("export.py", "--run", copy), ("report.py", "--run", copy)]
    for status, said in ((0, 0), (75, 1), (None, 1)):
        (copy / "env.json").write_text(json.dumps({**record, "exit_status": status} if status is not None else {}))
        printed = [succeeded(process).stdout for process in forked(tools, place)][:2]
        printed.append((copy / "report.html").read_text())
        assert [text.count("he run has not ended (run.resume=auto continues it)") for text in printed] == [said] * 3


def test_classes_that_a_flip_would_confuse_are_told_at_the_start(capsys):
    said = []
    for classes, flip, labels in (
        (["moves left", "moves right"], 0.5, "none"),
        (["moves left", "moves right"], 0.0, "none"),
        (["moves left", "moves right"], 0.5, "left-right"),
        (["up", "down"], 0.5, "none"),
    ):
        changed = [f"data.transform.flip={flip}", f"data.augment.flip_labels={labels}"]
        setup.warn_mirrored_classes(parse.load_config("r2plus1d_ucf101.yaml", changed).data, classes)
        said.append(capsys.readouterr().err)
    assert "moves left, moves right" in said[0]
    assert said[1:] == ["", "", ""]


def test_another_protocol_writes_another_folder(run, evaluated):
    folders = {path.name for path in (evaluated / "test").iterdir()}
    assert {path.name for path in (run / "test").iterdir()} < folders
    found, arrays = read_result(evaluated / "test" / "8x1@32_32_3x3_logit-mean_tiny-test")
    assert found["protocol"] == "8x1@32/32 3x3 logit-mean tiny-test"
    assert arrays["logits"].shape == (7, 9, 6)
    assert arrays["clip"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert arrays["crop"].tolist() == [0, 1, 2] * 3


def test_scores_depend_neither_on_the_batch_size_nor_on_the_cache(evaluated):
    one, five = (
        {**read_result(evaluated / "test" / f"8x1@32_32_1x1_softmax-mean_{name}-test")[1]} for name in ("tiny", "again")
    )
    np.testing.assert_allclose(one["logits"], five["logits"], atol=1e-5)


def test_scores_are_in_fp32_if_not_asked_for_otherwise_and_say_so(evaluated):
    results = [read_result(evaluated / "test" / f"8x1@32_32_2x1_softmax-mean_{name}-test") for name in ("tiny", "half")]
    (exact, logits), (rounded, rounded_logits) = results
    assert (exact["precision"], rounded["precision"]) == ("fp32", "bf16")
    assert not np.allclose(logits["logits"], rounded_logits["logits"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits["logits"], rounded_logits["logits"], rtol=0, atol=0.1)


def test_a_probe_says_what_is_lost_against_the_normal_frames(evaluated):
    normal, arrays = read_result(evaluated / "test" / "8x1@32_32_2x1_softmax-mean_tiny-test")
    probe, shuffled = read_result(evaluated / "test" / "8x1@32_32_2x1_softmax-mean_tiny-test_shuffled")
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
    alone, _ = read_result(evaluated / "test" / "8x1@32_32_4x1_softmax-mean_tiny-test_noise-5")
    assert alone["clean"] is None  # 4 clips were not tested without noise


def test_all_clips_of_whole_pictures(evaluated):
    found, arrays = read_result(evaluated / "test" / "8x1@32_32_allxfull_vote_tiny-test")
    assert found["protocol"] == "8x1@32/32 allxfull vote tiny-test"
    assert arrays["logits"].shape == (7, 2, 6)  # of 12 frames, but the last has one
    assert np.isnan(arrays["logits"]).all(2).tolist() == [[False, False]] * 6 + [[False, True]]


def test_validation_videos_give_the_number_of_training_again(run, evaluated):
    found, arrays = read_result(evaluated / "val" / "8x1@32_32_1x1_softmax-mean_tiny-heldout")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = {row["epoch"]: row for row in rows if "val/video_top1" in row}[found["checkpoint"]["epoch"]]
    assert (found["video_top1"], found["clip_top1"]) == (logged["val/video_top1"], logged["val/clip_top1"])
    assert found["videos"] == {"expected": 3, "scored": 3, "unreadable": []}
    assert not {*arrays["video"]} & {f"test/{i:02}.mp4" for i in range(7)}


def test_another_checkpoint_can_be_tested(evaluated):
    assert (evaluated / "test" / "8x1@32_32_2x1_softmax-mean_last-test" / "metrics.json").is_file()


def test_testing_again_leaves_the_record_of_training_alone(run, evaluated):
    for name in ("env.json", "config.yaml", "metrics.jsonl"):
        assert (evaluated / name).read_bytes() == (run / name).read_bytes()


# Help and exit codes


@pytest.mark.parametrize("name", TOOLS)
def test_help_says_how_to_call_the_tool(name, tmp_path):
    process = succeeded(tool(name, "--help", cwd=tmp_path))
    assert f"python tools/{name}" in process.stdout
    assert process.stderr == ""


def test_help_is_quick_because_it_imports_nothing_heavy(tmp_path):
    start = time.perf_counter()
    for name in ("train.py", "evaluate.py"):
        tool(name, "--help", cwd=tmp_path)
    assert time.perf_counter() - start < 20  # seconds; about 1 on an idle machine, torch alone takes more


def test_a_bug_exits_with_another_code_than_any_that_has_a_meaning(tmp_path):
    code = "from videores.runtime import cli; cli.run(lambda: 1 / 0)"
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True)
    assert b"ZeroDivisionError" in process.stderr
    assert process.returncode not in (0, 1, 2, 75)  # 1 says: done, but some data is bad


# Runs that are repeated, interrupted, or go wrong


@pytest.fixture(scope="module")
def repeats(place):
    """Runs of one configuration that must, or must not, end with the same weights. name -> (process, folder)."""
    variants = {
        "first": [],
        "second": [],
        "one worker": ["data.workers=1"],
        "three workers, ram": ["data.workers=3", "data.cache=ram"],
        "other seed": ["run.seed=1"],
    }
    folders = {name: place / "repeats" / name.replace(", ", "-").replace(" ", "-") for name in variants}
    changed = ["data.val=none", "data.transform.jitter=[32,40]", "data.transform.crop=28"]
    command = ("train.py", "--cfg", "tiny.yaml", *changed)
    cases = [(*command, f"run.dir={folders[name]}", *more) for name, more in variants.items()]
    processes = forked(cases, place)
    return {name: (succeeded(p), folders[name]) for name, p in zip(variants, processes, strict=True)}


@pytest.mark.parametrize("name", ["second", "one worker", "three workers, ram"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(repeats, name):
    assert_same_weights(repeats["first"][1], repeats[name][1])
    np.testing.assert_array_equal(result(repeats["first"][1])[1]["logits"], result(repeats[name][1])[1]["logits"])


def test_another_seed_gives_other_weights(repeats):
    with pytest.raises(AssertionError):
        assert_same_weights(repeats["first"][1], repeats["other seed"][1])


EPOCHS = 40


def start_and_kill(place, folder, *overrides):
    """Starts a training in its own process and kills it, without warning, once an epoch's checkpoint is there."""
    command = [sys.executable, ROOT / "tools" / "train.py", "--cfg", "tiny.yaml", f"run.dir={folder}", *overrides]
    log = place / "killed.log"
    with log.open("w") as file:
        process = subprocess.Popen(list(map(str, command)), cwd=place, env=environment(), stdout=file, stderr=file)
        try:
            limit = time.monotonic() + 120
            while not (folder / "checkpoints" / "last.ckpt").exists():
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < limit
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def resumed(place):
    """A whole run, and one that was killed and continued. name -> folder, and the processes."""
    overrides = [f"train.epochs={EPOCHS}", "data.cache=ram", "train.optimizer=adamw", "train.lr=0.003"]
    whole, killed = place / "resumed" / "whole", place / "resumed" / "killed"
    start_and_kill(place, killed, *overrides)
    stopped_at = safe_load.read_checkpoint(killed / "checkpoints" / "last.ckpt")["global_step"]
    common = ("train.py", "--cfg", "tiny.yaml", *overrides, "run.resume=auto")
    tested = killed / "test"
    processes = forked([(*common, f"run.dir={folder}") for folder in (whole, killed, killed)], place)
    assert tested.exists()
    return whole, killed, stopped_at, processes


def test_resume_starts_a_run_that_is_not_there(resumed):
    whole, _, _, processes = resumed
    succeeded(processes[0])
    starts = json.loads((whole / "env.json").read_text())["starts"]
    assert [entry["step"] for entry in starts] == [0]


def test_a_killed_run_goes_on_to_the_weights_of_a_whole_one_bit_for_bit(resumed):
    whole, killed, stopped_at, processes = resumed
    succeeded(processes[1])
    assert 0 < stopped_at < 2 * EPOCHS
    assert_same_weights(whole, killed)
    ours, theirs = (safe_load.read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, killed))
    assert ours["global_step"] == theirs["global_step"] == 2 * EPOCHS
    for key, state in ours["optimizer_states"][0]["state"].items():
        other = theirs["optimizer_states"][0]["state"][key]
        assert all(torch.equal(torch.as_tensor(state[k]), torch.as_tensor(other[k])) for k in state)


def test_a_resumed_run_picks_the_same_best_checkpoint_and_test_scores(resumed):
    whole, killed, *_ = resumed
    assert result(whole)[0] == result(killed)[0]
    np.testing.assert_array_equal(result(whole)[1]["logits"], result(killed)[1]["logits"])


def test_every_start_is_recorded_with_its_step(resumed):
    _, killed, stopped_at, _ = resumed
    starts = json.loads((killed / "env.json").read_text())["starts"]
    assert [entry["step"] for entry in starts] == [0, stopped_at, 2 * EPOCHS]


def test_resuming_a_finished_run_tests_it_again(resumed):
    _, killed, _, processes = resumed
    succeeded(processes[2])
    assert processes[2].stdout.splitlines()[-2:] == processes[1].stdout.splitlines()[-2:]
    assert json.loads((killed / "env.json").read_text())["exit_status"] == 0


def test_metrics_of_a_resumed_run_reach_from_the_first_step_to_the_last(resumed):
    whole, killed, *_ = resumed
    for folder in (whole, killed):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert {row["step"] for row in rows if "train/loss" in row} == set(range(1, 2 * EPOCHS + 1))


@pytest.fixture(scope="module")
def others(place, run):
    """Runs that differ from the usual one in one thing each. name -> (process, folder)."""
    write_ucf101(place / "real", classes=("Run", "Walk"), groups=3, clips=2, newline="\r\n")
    prepare_one_bad_test_video(place / "one-bad")
    one = {"train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)], "test": [("e.mp4", "a", "h")]}
    write_csv(place / "one-frame", one, frames=1, height=32, width=32)
    datasets.prepare_dataset(place / "motion", videos={"train": 16, "test": 32}, progress=False)
    shutil.copytree(run, place / "others" / "overwritten")
    (place / "others" / "overwritten" / "test" / "stale").mkdir()
    f_r2d = ["model.name=f_r2d_18", "data.root=motion", "data.clip.frames=12", "data.val=none", "test.clips=3"]
    variants = {
        "overwritten": ["run.overwrite=true", "run.seed=3"],
        "without validation": ["data.val=none"],
        "nan": ["train.lr=1e30", "train.warmup=0"],
        "one bad step": ["train.lr=1e30", "train.warmup=0", "train.epochs=1", "data.batch_size=9", "data.val=none"],
        "one step": ["train.epochs=1", "train.warmup=0", "data.batch_size=9", "data.val=none", "trainer.log_every=20"],
        "bad test video": ["data.root=one-bad"],
        "skipped": ["data.root=bad-train", "data.on_unreadable=skip"],
        "one frame": ["data.root=one-frame", "data.val=none"],
        "ucf101": ["data.root=real/videos", "data.splits=real/splits", "data.format=ucf101"],
        "f_r2d": f_r2d,
        "f_r2d of 11 views": [*f_r2d, "test.clips=5", "data.clip.frames=8", "model.pool=max"],
        "fp32": ["trainer.precision=fp32"],
        "bf16": ["trainer.precision=bf16"],
    }
    shutil.copytree(place / "one-bad", place / "bad-train")
    damage(place / "bad-train" / "train" / "05.mp4", 1)
    folders = {name: place / "others" / name.replace(" ", "-") for name in variants}
    cases = [
        ("train.py", "--cfg", "tiny.yaml", f"run.dir={folders[name]}", *changed) for name, changed in variants.items()
    ]
    return {name: (p, folders[name]) for name, p in zip(variants, forked(cases, place), strict=True)}


def prepare_one_bad_test_video(root):
    write_data(root)
    damage(root / "test" / "02.mp4", 0)


def test_overwrite_removes_the_old_run(others):
    process, folder = others["overwritten"]
    succeeded(process)
    assert not (folder / "test" / "stale").exists()
    assert yaml.safe_load((folder / "config.yaml").read_text())["run"]["seed"] == 3
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    assert sum("val/loss" in row for row in rows) == 2


def test_without_validation_the_last_checkpoint_is_tested(place, others):
    process, folder = others["without validation"]
    succeeded(process)
    assert "12 train, 0 val" in process.stdout
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "last-previous.ckpt"}
    assert result(folder)[0]["videos"]["scored"] == 7
    assert not any("val/" in line for line in (folder / "metrics.jsonl").read_text().splitlines())


def test_a_nan_loss_stops_the_run_and_names_the_step_and_the_videos(others):
    process, folder = others["nan"]
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    message = process.stderr[process.stderr.index("error: ") :]
    assert re.search(r"the training loss is not finite at step [1-4]\b", message)
    assert len(re.findall(r"train/\d\d\.mp4", message)) == 4
    assert "train.lr" in message
    recorded = json.loads((folder / "env.json").read_text())
    assert recorded["exit_status"] == 2
    assert "not finite" in recorded["error"]


def test_weights_that_the_last_step_has_spoiled_give_no_result(others):
    process, folder = others["one bad step"]
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert "the scores of 7 of 7 videos are not finite: training has spoiled the weights of checkpoints/last" in (
        process.stderr
    )
    assert not list(folder.rglob("metrics.json"))


def test_the_shortest_run_has_its_loss_and_its_curve(others):
    process, folder = others["one step"]
    succeeded(process)
    (row,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert row["step"] == 1
    assert row["train/loss"] > 0
    assert (folder / "curves.png").exists()


def test_a_bad_test_video_is_listed_counts_as_wrong_and_exits_with_1(others):
    process, folder = others["bad test video"]
    succeeded(process, code=1)
    found, arrays = result(folder)
    assert found["videos"] == {"expected": 7, "scored": 6, "unreadable": ["test/02.mp4"]}
    assert np.isnan(arrays["logits"][2]).all()
    assert not np.isnan(np.delete(arrays["logits"], 2, axis=0)).any()
    assert "test/02.mp4" in process.stderr
    assert "1 unreadable count as wrong" in process.stdout
    hits = arrays["logits"].argmax(-1) == arrays["label"][:, None]
    hits[2] = False
    assert found["clip_top1"] == pytest.approx(100 * hits.mean())
    assert json.loads((folder / "env.json").read_text())["exit_status"] == 1


def test_bad_training_videos_are_skipped_on_request_and_exit_with_1(others):
    process, folder = others["skipped"]
    succeeded(process, code=1)
    assert "train/05.mp4" in process.stderr
    skipped = json.loads((folder / "env.json").read_text())["skipped"]
    assert [path for part in skipped.values() for path in part] == ["train/05.mp4"]
    assert result(folder)[0]["videos"]["unreadable"] == ["test/02.mp4"]


def test_videos_of_one_frame_are_good_input(others):
    process, folder = others["one frame"]
    succeeded(process)
    assert result(folder)[0]["videos"] == {"expected": 1, "scored": 1, "unreadable": []}


def test_ucf101_lists_with_windows_line_ends_train(others):
    process, folder = others["ucf101"]
    succeeded(process)
    found, arrays = result(folder)
    assert found["protocol"].endswith("tiny-1")
    assert (found["clip_top5"], found["video_top5"]) == (None, None)
    assert set(arrays["group"]) == {"g01"}
    assert arrays["classes"].tolist() == ["Run", "Walk"]


@pytest.mark.parametrize("name", ["f_r2d", "f_r2d of 11 views"])
def test_a_network_that_sees_no_order_stays_at_or_below_half_on_motion8(others, name):
    process, folder = others[name]
    succeeded(process)
    found, arrays = result(folder)
    assert found["video_top1"] <= 50
    forward, backward = arrays["logits"][0::2], arrays["logits"][1::2]
    np.testing.assert_allclose(forward, backward[:, ::-1], atol=1e-6)  # the views of a reversal, in reverse


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_the_precision_that_was_asked_for_is_used_and_recorded(others, name):
    process, folder = others[name]
    succeeded(process)
    found = json.loads((folder / "env.json").read_text())
    assert (found["precision"], found["channels_last"]) == (name, name == "bf16")


def test_training_in_bf16_differs_from_fp32(others):
    with pytest.raises(AssertionError):
        assert_same_weights(others["fp32"][1], others["bf16"][1])


# Real clips


@pytest.mark.slow
def test_real_avi_clips_train_and_test(shared_data, tmp_path):
    real = shared_data.resolve() / "ut-interaction-6"
    overrides = [
        f"data.root={real / 'videos'}",
        f"data.splits={real}",
        "model.layers=[1]",
        "model.width=8",
        "train.epochs=1",
        "train.warmup=0",
        "train.schedule=cosine",
        "train.milestones=[]",
        "data.transform.short_side=40",
        "data.transform.crop=32",
        "data.batch_size=8",
        "data.workers=0",
        "test.clips=2",
    ]
    process = succeeded(tool("train.py", "--cfg", "r2plus1d_ucf101.yaml", *overrides, cwd=tmp_path, timeout=550))
    found, arrays = result(tmp_path / "runs" / "r2plus1d_ucf101")
    assert (
        found["videos"]["scored"] == found["videos"]["expected"] == len((real / "testlist01.txt").read_text().split())
    )
    assert len(arrays["classes"]) == 6
    assert "video   top-1" in process.stdout.splitlines()[-1]
