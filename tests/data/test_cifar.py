"""CIFAR-10's archives: their pixels and labels, without a file for each picture; archives that are cut are named."""

import os
import pickle
import tarfile
from functools import partial

import numpy as np
import pytest
from helpers.cifar import CLASSES, make_batches, write_binary, write_python
from helpers.commands import forked, read_result, succeeded

from videores.config.schema import DataConfig, TransformConfig
from videores.data import datamodule, index, manifest
from videores.data.decode import read_frames
from videores.errors import UserError

WRITERS = {"bin": write_binary, "py": write_python, "columns": partial(write_python, order="F")}


def settings(root, **changes):
    transform = {"short_side": 32, "crop": 32, "pad": 4}
    values = {"name": "cifar10", "format": "cifar10", "root": str(root), "workers": 0, "val": "none"}
    return DataConfig(**{**values, "clip": {"frames": 1}, "transform": transform, **changes})


def pack(folder, name):
    with tarfile.open(folder.parent / name, "w:gz") as archive:
        archive.add(folder, folder.name)
        archive.add(folder, "../outside")  # not written anywhere
    return folder.parent / name


@pytest.mark.parametrize("kind", ["bin", "py", "columns"])
@pytest.mark.parametrize("place", ["inside", "itself", "archive"])
def test_pictures_and_labels_are_those_of_the_archive(tmp_path, kind, place):
    batches = make_batches()
    folder = WRITERS[kind](tmp_path / "data", batches)
    if place == "archive":
        pack(folder, "cifar-10-binary.tar.gz" if kind == "bin" else "cifar-10-python.tar.gz")
        folder.rename(tmp_path / "elsewhere")
    root = folder if place == "itself" else folder.parent
    videos = datamodule.load_videos(settings(root))
    assert videos.index.classes == tuple(CLASSES)
    assert [len(videos.index.train), len(videos.index.test)] == [30, 6]
    for video in (*videos.index.train, *videos.index.test):
        name, number = video.path.split("/")[-2:]
        labels, pixels = batches[name.removesuffix(".bin")]
        frames = read_frames(root / video.path, [0, 0], info=videos.infos[video.path])
        np.testing.assert_array_equal(frames, np.stack([pixels[int(number)].transpose(1, 2, 0)] * 2))
        assert video.label == labels[int(number)]
    assert sorted(path.name for path in tmp_path.iterdir()) == (
        ["data", "elsewhere"] if place == "archive" else ["data"]
    )


def test_training_items_are_crops_of_padded_pictures(tmp_path):
    """At most 4 pixels of the mean color come in at a side, and the rest is the picture."""
    batches = make_batches()
    write_binary(tmp_path, batches)
    data = settings(tmp_path)
    dataset = datamodule.VideoData(data, datamodule.load_videos(data), val=None, test=None).make_dataset("train")
    fill = np.array([round(255 * value) for value in TransformConfig().mean], np.uint8)
    seen = set()
    for epoch in range(8):
        for number in range(6):
            (clip,) = dataset.item(epoch, number)["clips"].numpy()
            picture = batches["data_batch_1"][1][number].transpose(1, 2, 0)
            padded = np.full((40, 40, 3), fill, np.uint8)
            padded[4:36, 4:36] = picture
            draw = dataset.draw(epoch, number, 0)
            top, left = draw.box[:2]
            expected = padded[top + 4 : top + 36, left + 4 : left + 36]
            np.testing.assert_array_equal(clip[0], expected[:, ::-1] if draw.flip else expected)
            seen |= {("top", top), ("left", left)}
    assert {place for _, place in seen} == set(range(-4, 5))


def test_a_batch_is_probed_without_a_helper_and_only_once(tmp_path, monkeypatch):
    root = write_binary(tmp_path, make_batches(40))
    paths = [f"test_batch.bin/{number}" for number in (*range(40), 40)]
    monkeypatch.setattr(manifest.sandbox, "map_unordered", None)
    infos, bad = manifest.probe_all(root, paths, progress=False)
    assert len(infos) == 40
    assert "40 pictures" in bad["test_batch.bin/40"]
    assert len({info.digest for info in infos.values()}) == 40
    monkeypatch.setattr(manifest, "probe_batch", None)
    assert manifest.probe_all(root, paths, progress=False) == (infos, bad)


class Code:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def damage(folder, kind, batch):
    if kind == "missing":
        batch.unlink()
    elif kind == "empty":
        batch.write_bytes(b"")
    elif kind == "within a picture":
        batch.write_bytes(batch.read_bytes()[:-1000])
    elif kind == "labels":
        batch.write_bytes(b"\x0b" * 3073 * 6)
    elif kind == "a picture less":
        batch.write_bytes(batch.read_bytes()[:-3073])
    elif kind == "classes":
        next(folder.glob("batches.meta*")).unlink()
    elif kind == "code":
        batch.write_bytes(pickle.dumps({"labels": [0], "data": Code()}))
    elif kind == "no pictures":
        batch.write_bytes(pickle.dumps({"labels": [0], "data": b"1234"}))


@pytest.mark.parametrize(
    ("archive", "kind"),
    [
        *(("bin", kind) for kind in ("missing", "empty", "within a picture", "a picture less", "labels", "classes")),
        *(("py", kind) for kind in ("missing", "empty", "within a picture", "classes", "code", "no pictures")),
    ],
)
def test_archives_that_are_cut_or_damaged_are_named(tmp_path, monkeypatch, archive, kind):
    monkeypatch.chdir(tmp_path)
    folder = WRITERS[archive](tmp_path / "data", make_batches())
    batch = next(folder.glob("data_batch_3*"))
    damage(folder, kind, batch)
    with pytest.raises(UserError, match="batches.meta" if kind == "classes" else batch.name):
        index.read_index(settings(folder.parent))
    assert not (tmp_path / "ran").exists()


def test_a_download_that_is_cut_short_is_named_and_leaves_nothing(tmp_path):
    folder = write_binary(tmp_path / "data", make_batches())
    archive = pack(folder, "cifar-10-binary.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-5000])
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz is cut short"):
        index.read_index(settings(tmp_path / "data"))
    assert list((tmp_path / "data").iterdir()) == [archive]


def test_a_folder_without_batches_names_both_archives(tmp_path):
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz"):
        index.read_index(settings(tmp_path))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"transform": {"short_side": 32, "crop": 4, "pad": 4}}, "pad"),
        ({"transform": {"pad": 4}, "augment": {"resized_crop": [0.5, 1]}}, "pad"),
        ({"transform": {"pad": 4}, "stream": "flow"}, "pad"),
    ],
)
def test_padding_that_makes_no_sense_is_refused(changes, key):
    with pytest.raises(ValueError, match=f"data.transform.{key}"):
        settings("x", **changes)


def test_the_recipe_trains_and_tests_an_archive(tmp_path):
    root = write_python(tmp_path / "data", make_batches()).parent
    given = ("data.batch_size=8", "train.epochs=2", "train.milestones=[1]", "data.workers=1", "trainer.accelerator=cpu")
    train = ("train.py", "--cfg", "cifar2d_20_cifar10.yaml", f"data.root={root}", *given)
    survey = ("prepare.py", "cifar10", "--root", root, "--duplicates")
    trained, surveyed, copied = forked([train, survey, (*survey[:4], "--out", tmp_path / "out")], tmp_path)
    assert "video" in succeeded(trained).stdout
    succeeded(surveyed)
    assert copied.returncode == 2
    assert "--out" in copied.stderr
    (test,) = (tmp_path / "runs/cifar2d_20_cifar10/test").iterdir()
    found, arrays = read_result(test)
    assert found["protocol"] == "1x1@32/32 1x1 softmax-mean cifar10-test"
    assert arrays["video"].tolist() == [f"cifar-10-batches-py/test_batch/{number}" for number in range(6)]
    assert arrays["label"].tolist() == make_batches()["test_batch"][0].tolist()
