"""Networks of several streams through the tools: late fusion is that of saved scores, and all is as exact as RGB."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from helpers import kill
from helpers.commands import (
    assert_same_weights,
    forked,
    forked_ranks,
    read_result,
    result,
    succeeded,
    weights,
    write_place,
)
from helpers.interruption import assert_goes_on_exactly
from helpers.videos import numbered_frames

from videores.data.video.encode import SOUND_RATE, write_video
from videores.evaluation.fusion import softmax

ONCE = ("train.epochs=1", "train.warmup=0")
SOUND = ("data.audio.seconds=0.32", "data.audio.bands=32")
AUDIO = tuple(f"model.streams.audio.{key}" for key in ("name=audio_r2d_18", "layers=[1]", "width=8", "stem=small"))
ALL = ("data.stream=[rgb, flow, audio]", "data.flow=flow", *SOUND, *AUDIO)
SHARED = "train.loss_weights={joint: 0.5, rgb: 0.25, flow: 0.125, audio: 0.125}"


def train(*options, folder):
    return ("train.py", "--cfg", "tiny.yaml", *options, f"run.dir={folder}", *ONCE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data/, most of it with sound, its flow in flow/, tiny.yaml, and the runs all and rgb."""
    folder = write_place(tmp_path_factory.mktemp("fusion"))
    for k, path in enumerate([*sorted((folder / "data" / "train").iterdir()), folder / "data" / "test" / "00.mp4"]):
        seconds_S = np.arange(round(0.48 * SOUND_RATE)) / SOUND_RATE
        sound_S = 0.3 * np.sin(2 * np.pi * 200 * (k % 6 + 1) * seconds_S)
        write_video(path, numbered_frames(12, 100 * k, 32, 32), 25, sound_S=sound_S.astype(np.float32))
    cases = [
        ("prepare.py", "csv", "--root", "data", "--out", "flow", "--flow", "dis", "--workers", 1),
        train(*ALL, SHARED, folder="all"),
        train("model.dropout=0", folder="rgb"),
    ]
    for process in forked(cases, folder):
        succeeded(process)
    return folder


def test_late_fusion_in_training_is_that_of_saved_scores(place):
    """To the last bit of each stream's weights, since each draws and learns what it does alone."""
    alone = {"difference": (), "audio": (*SOUND, "model.name=audio_r2d_18")}
    late = ("data.stream=[rgb, difference, audio]", "model.fusion=late", *SOUND, *AUDIO)
    cases = [
        train(*late, "model.dropout=0", folder="late"),
        *(train(f"data.stream={name}", *more, "model.dropout=0", folder=name) for name, more in alone.items()),
        ("evaluate.py", "--scores", "rgb", *alone, "--out", "fused"),
    ]
    for process in forked(cases, place):
        succeeded(process)
    both = weights(place / "late")
    for name in ("rgb", *alone):
        one = weights(place / name)
        assert [k for k in one if not torch.equal(one[k], both[k.replace("model.", f"model.streams.{name}.")])] == []
    (ours, found), (theirs, fused) = result(place / "late"), read_result(place / "fused")
    np.testing.assert_allclose(softmax(found["logits"]).mean(1), softmax(fused["logits"])[:, 0], atol=1e-6)
    assert ours["confusion"] == theirs["confusion"]
    assert ours["nll"] == pytest.approx(theirs["nll"], abs=1e-6)


def test_tools_take_several_streams_or_say_why_not(place):
    video = "data/test/00.mp4"
    cases = {
        ("export.py", "--run", "all"): "weights.safetensors",
        ("evaluate.py", "--run", "all/weights.safetensors"): "tested",
        ("features.py", "all", "--part", "test"): "wrote",
        ("report.py", "--run", "all"): "report.html",
        ("browse.py", "--cfg", "all/config.yaml", "--out", "seen", "--videos", 1): "test_audio_sheet",
        ("complexity.py", "--cfg", "all/config.yaml"): "audio_r2d_18",
        train("data.stream=[rgb, audio]", *SOUND, *AUDIO, folder="av"): "tested",
        ("predict.py", "av", video, "--json", "av.json"): "0.00-0.48 s",
    }
    refused = {
        ("predict.py", "all", video): "tools/evaluate.py",
        ("predict.py", "av", video, "--every", 0.1): "whole files",
        ("export.py", "--run", "all", "--format", "pt2"): "--format safetensors",
        ("explain.py", "all", video): "rgb,flow,audio",
        ("evaluate.py", "--run", "all", "data.stream=[rgb, flow]"): "model.streams.audio",
        ("compress.py", "prune", "--run", "all", "--ratio", 0.5): "several streams",
    }
    done = forked([*cases, *refused], place)
    for process, said in zip(done[: len(cases)], cases.values(), strict=True):
        assert said in succeeded(process).stdout
    for process, said in zip(done[len(cases) :], refused.values(), strict=True):
        assert process.returncode in (1, 2), process.args
        assert said in process.stderr, process.args
    whole = read_result(*(place / "all" / "test").glob("*_tiny-test"))
    exported = read_result(*(place / "all/weights.safetensors.results/test").iterdir())
    assert ":rgb,flow,audio " in whole[0]["protocol"]
    np.testing.assert_allclose(exported[1]["logits"], whole[1]["logits"], atol=1e-5)
    (record,) = json.loads((place / "av.json").read_text())["records"]
    likeliest = softmax(result(place / "av")[1]["logits"][0]).mean(0).max()
    assert record["top"][0]["probability"] == pytest.approx(float(likeliest), abs=1e-4)


def test_blended_weights_are_those_of_the_logs_and_need_held_out_groups(place):
    shutil.copytree(place / "all", place / "logged")
    log, rows = place / "logged" / "metrics.jsonl", kill.rows(place / "logged")
    losses = {"joint": (0.79, 1.29), "rgb": (0.29, 1.29), "flow": (1.54, 2.0), "audio": (1.04, 1.29)}
    for name, (learned, held_out) in losses.items():
        rows[-1] |= {f"train_eval/loss_{name}": learned, f"val/loss_{name}": held_out}
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    blend = ("evaluate.py", "--blend", "logged")
    found, absent = forked([blend, (*blend, "nothing")], place)
    assert absent.returncode == 2
    assert "nothing" in absent.stderr.splitlines()[-1]
    weights = found.stdout.rpartition("train.loss_weights=")[2]
    # log 6 = 1.79 at the start: G of 0.5, 0.5, below 0, 0.5, O of 0.5, 1, ..., 0.25
    expected = {"joint": 4 / 21, "rgb": 1 / 21, "flow": 0, "audio": 16 / 21}
    assert yaml.safe_load(weights.strip().strip("'")) == pytest.approx(expected, abs=0.02)
    no_groups = [row for row in rows if "val/loss" not in row]
    unlearned = [*rows[:-1], rows[-1] | {"val/loss_joint": 2.0}]
    for wrong, said in ((no_groups, "groups"), (unlearned, "joint")):
        log.write_text("".join(json.dumps(row) + "\n" for row in wrong))
        (refused,) = forked([blend], place)
        assert refused.returncode == 2
        assert said in refused.stderr


def test_each_stream_starts_from_weights_of_its_own(place):
    first = ("data.stream=[rgb, difference]", "model.streams.rgb.weights=rgb/checkpoints/best.ckpt")
    other = "model.streams.difference.weights=rgb/checkpoints/best.ckpt"
    cases = [
        train(*first, other, folder="none"),
        train(*first, other, "model.streams.difference.adapt=mean", folder="both"),
    ]
    flow = "model.streams.flow.weights=rgb/checkpoints/best.ckpt"
    cases += [train("data.stream=[rgb, flow]", "data.flow=flow", flow, folder="none")]
    refused, both, other_channels = forked(cases, place)
    for process, stream in ((refused, "difference"), (other_channels, "flow")):
        assert process.returncode == 2
        assert f"data.stream=rgb, and this is {stream}" in process.stderr
    assert succeeded(both).stdout.count("tensors of rgb/checkpoints/best.ckpt") == 2


def test_ranks_and_workers_change_no_score_of_several_streams(place):
    test = (
        "evaluate.py",
        "--run",
        "all",
        "trainer.devices=auto",
        "data.name=n3",
        "data.workers=2",
        "data.batch_size=3",
    )
    two = (*train(*ALL, folder="two"), "data.batch_size=2", "trainer.precision=fp32", "trainer.devices=2")
    cases = [(3, *test), *((2, *two, f"run.dir=two-{n}", f"data.workers={n}") for n in (0, 2))]
    for process in forked_ranks(cases, place):
        succeeded(process)
    one, three = ((place / "all" / "test").glob(f"*_{name}-test") for name in ("tiny", "n3"))
    np.testing.assert_allclose(read_result(*three)[1]["logits"], read_result(*one)[1]["logits"], atol=1e-5)
    assert_same_weights(place / "two-0", place / "two-2")


@pytest.mark.usefixtures("one_quiet_thread")
def test_an_interrupted_training_on_several_streams_ends_as_the_whole_one_does(place, monkeypatch):
    logged = assert_goes_on_exactly(monkeypatch, place, *ALL, SHARED)
    rows = [row for row in logged if "val/loss_audio" in row]
    assert len(rows) == 2
    assert all(row["val/loss_joint"] == row["val/loss"] for row in rows)
