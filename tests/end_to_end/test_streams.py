"""Every stream through every tool, on any number of processes, and through an interruption."""

import json

import numpy as np
import pytest
import torch
from helpers.commands import (
    CLASSES,
    assert_same_weights,
    forked,
    forked_ranks,
    read_result,
    result,
    succeeded,
    write_place,
)
from helpers.interruption import assert_goes_on_exactly
from helpers.sounds import write_sounds

from videores.config.streams import STREAMS

MORE = ("train.epochs=1", "train.warmup=0")
BY_DEFAULT = ("rgb+unsigned-difference", "flow", "audio")
WALKED = [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in STREAMS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with data/, its flow in flow/, videos with sound in sound/, and tiny.yaml."""
    folder = write_place(tmp_path_factory.mktemp("streams"))
    prepare = ("prepare.py", "csv", "--root", "data", "--out", "flow", "--flow", "dis", "--workers", 1)
    assert "data.stream=flow" in succeeded(*forked([prepare], folder)).stdout
    write_sounds(folder / "sound", CLASSES)
    return folder


ROOTS = {"flow": "flow", "audio": "sound"}


def options(stream):
    more = ("data.audio.seconds=0.3",) if stream == "audio" else ()
    return (f"data.stream={stream}", f"data.root={ROOTS.get(stream, 'data')}", *more)


@pytest.mark.parametrize("stream", WALKED)
def test_every_tool_takes_a_stream_and_gives_the_scores_of_the_test(place, stream):
    root, folder = options(stream)[1].partition("=")[2], f"runs/{stream}"
    cases = [
        ("train.py", "--cfg", "tiny.yaml", *options(stream), f"run.dir={folder}", *MORE),
        ("predict.py", folder, f"{root}/test/00.mp4", f"{root}/test/01.mp4", "--json", f"{stream}.json"),
        ("export.py", "--run", folder, "--format", "pt2"),
        ("export.py", "--run", folder, "--format", "pt2", "--preprocess", "--out", f"{folder}/frames.pt2"),
        ("evaluate.py", "--run", f"{folder}/network.pt2"),
        ("evaluate.py", "--run", folder, "--part", "val"),
        ("explain.py", folder, f"{root}/test/00.mp4", "--out", f"{stream}-maps"),
        ("report.py", "--run", folder),
        ("browse.py", "--cfg", "tiny.yaml", *options(stream), "--out", f"{stream}-seen", "--videos", 1),
        ("complexity.py", "--cfg", f"{folder}/config.yaml"),
    ]
    refused = ("--preprocess", "explain.py") if stream == "audio" else ()
    for case, process in zip(cases, forked(cases, place), strict=True):
        succeeded(process, 2 if {*refused} & {*case} else 0)
    found, arrays = result(place / folder)
    assert ("" if stream == "rgb" else f":{stream} ") in found["protocol"]
    (exported,) = (place / folder / "network.pt2.results" / "test").iterdir()
    np.testing.assert_allclose(read_result(exported)[1]["logits"], arrays["logits"], atol=1e-4)
    records = json.loads((place / f"{stream}.json").read_text())["records"]
    answers = {record["input"]: record["top"][0] for record in records}
    for number, path in enumerate(arrays["video"][:2]):
        scores = torch.tensor(arrays["logits"][number]).softmax(-1).mean(0)
        assert answers[f"{root}/{path}"]["probability"] == pytest.approx(float(scores.max()), abs=1e-4)


def test_files_and_weights_of_another_stream_are_refused(place):
    cases = [
        ("train.py", "--cfg", "tiny.yaml", *options("flow"), "run.dir=one", *MORE),
        ("train.py", "--cfg", "tiny.yaml", *options("unsigned-difference"), "run.dir=two", *MORE),
        ("evaluate.py", "--run", "one", "data.root=data"),
        ("evaluate.py", "--run", "two", "data.stream=difference"),
        ("evaluate.py", "--run", "two", "data.stream=rgb+difference"),
        ("train.py", "--cfg", "tiny.yaml", "run.dir=three", "model.weights=two"),
        ("train.py", "--cfg", "tiny.yaml", "run.dir=three", "model.weights=two/checkpoints/best.ckpt"),
        ("predict.py", "one", "data/test/00.mp4", "flow/test/00.mp4"),
        ("predict.py", "two", "flow/test/00.mp4"),
        ("predict.py", "one", "data/test/00.mp4", "--every", "0.1"),
        ("explain.py", "one", "data/test/00.mp4", "--out", "maps"),
    ]
    done = forked(cases, place)
    assert [process.returncode for process in done] == [0, 0, 2, 2, 2, 2, 2, 1, 1, 1, 1]
    said = [process.stderr for process in done]
    assert "test/00.mp4" in said[2]
    assert "data.stream is difference here, unsigned-difference where it was trained" in said[3]
    assert "[8, 3, 3, 3, 3] / [8, 6, 3, 3, 3]" in said[4]
    assert "model.adapt=mean" in said[6]
    for text in (said[7], said[9]):
        assert "--flow" in text
    assert "flow/test/00.mp4" in done[7].stdout
    assert "optical flow" in said[8]


def test_weights_of_another_stream_are_adapted_where_that_is_asked_for(place):
    usual = ("train.py", "--cfg", "tiny.yaml", *MORE)
    adapted = (*options("flow"), "model.weights=rgb/checkpoints/best.ckpt", "model.adapt=mean", "run.dir=adapted")
    first, second = forked([(*usual, "run.dir=rgb"), (*usual, *adapted)], place)
    succeeded(first)
    assert "first convolution" in succeeded(second).stdout


@pytest.mark.parametrize("stream", ["flow", pytest.param("audio", marks=pytest.mark.slow)])
def test_ranks_and_workers_change_no_score(place, stream):
    folder = f"ranks-{stream}"
    succeeded(*forked([("train.py", "--cfg", "tiny.yaml", *options(stream), f"run.dir={folder}", *MORE)], place))
    test = ("evaluate.py", "--run", folder, "trainer.devices=auto")
    cases = [(n, *test, f"data.name=n{n}", f"data.workers={n - 1}", f"data.batch_size={n}") for n in (1, 2, 3)]
    for process in forked_ranks(cases, place):
        succeeded(process)
    one, *others = (
        read_result(path)[1]["logits"] for n in (1, 2, 3) for path in (place / folder / "test").glob(f"*_n{n}-test")
    )
    for other in others:
        np.testing.assert_allclose(other, one, atol=1e-5)
    two = ("train.py", "--cfg", "tiny.yaml", *options(stream), *MORE, "data.batch_size=2", "trainer.precision=fp32")
    cases = [(2, *two, f"run.dir=two-{stream}-{n}", f"data.workers={n}", "trainer.devices=2") for n in (0, 2)]
    for process in forked_ranks(cases, place):
        succeeded(process)
    assert_same_weights(place / f"two-{stream}-0", place / f"two-{stream}-2")


def test_sound_of_windows_and_other_spectrograms_are_refused(place):
    audio = ("evaluate.py", "--run", "one-audio")
    cases = [
        ("train.py", "--cfg", "tiny.yaml", *options("audio"), "run.dir=one-audio", *MORE),
        ("predict.py", "one-audio", "sound/test/00.mp4", "--every", "0.1"),
        (*audio, "data.audio.hop=0.02"),
        (*audio, "data.audio.seconds=0.4"),
        ("train.py", "--cfg", "tiny.yaml", *options("audio"), "data.root=data", "run.dir=two-audio", *MORE),
    ]
    done = forked(cases, place)
    assert [process.returncode for process in done] == [0, 1, 2, 0, 2]
    assert "sound" in done[1].stderr
    assert "data.audio.hop" in done[2].stderr
    assert "data.stream=audio" in done[4].stderr


@pytest.mark.usefixtures("one_quiet_thread")
@pytest.mark.parametrize("stream", ["flow", "audio"])
def test_an_interrupted_training_ends_as_the_whole_one_does(place, monkeypatch, stream):
    assert_goes_on_exactly(monkeypatch, place, *options(stream), prefix=f"{stream}-")
