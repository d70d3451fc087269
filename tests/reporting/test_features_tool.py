"""tools/features.py as a user runs it: its numbers, files and refusals."""

import json
import re
import shutil

import numpy as np
import pytest
from helpers.commands import CLASSES, forked, succeeded, write_config
from helpers.videos import write_csv

from videores.evaluation.neighbors import VideoSet
from videores.reporting import embedding, neighbors

FILES = {"features.npz", "features_train.npz", "features.json", "embedding.npz", "embedding.png", "embedding.svg"}
FILES |= {"neighbors.html"}


def copy_place(trained, folder):
    """A place like the trained one, with its run; the videos stay where they are."""
    shutil.copytree(trained[0] / "runs", folder / "runs")
    shutil.copy(trained[0] / "tiny.yaml", folder)
    (folder / "data").symlink_to(trained[0] / "data")
    return folder


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """(place, folder of the result, process): the tool on a trained run, with everything that it writes."""
    place = copy_place(trained, tmp_path_factory.mktemp("features"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")  # for a few videos compiling UMAP takes ten times as long as running it
        process = succeeded(forked([("features.py", "runs/tiny", "--perplexity", 5)], place)[0])
    (folder,) = (place / "runs/tiny/features/test").iterdir()
    return place, folder, process


def test_it_writes_its_files_and_prints_numbers_beside_those_of_random_weights(place):
    _, folder, process = place
    assert {path.name for path in folder.iterdir()} == FILES
    assert all(str(folder.name) in line for line in process.stdout.splitlines() if line.startswith("wrote"))
    result = json.loads((folder / "features.json").read_text())
    for name in ("kNN", "probe", "R@1", "R@5", "R@10"):
        trained, random = (result[network][name] for network in ("trained", "random weights"))
        line = next(line for line in process.stdout.splitlines() if line.startswith(f"{name} "))
        numbers = [float(number) for number in re.findall(r"\d+\.\d\d", line)]
        assert numbers == pytest.approx([trained["top1"], *trained["ci95"], random["top1"], *random["ci95"]], abs=0.01)
    assert (result["videos"], result["training_videos"], result["ci95_over"]) == (7, 9, "videos")


def test_features_are_float32_in_the_order_of_the_list(place):
    place, folder, _ = place
    with np.load(folder / "features.npz") as file:
        arrays = dict(file)
    assert arrays["video"].tolist() == [f"test/{i:02}.mp4" for i in range(7)]
    assert [CLASSES[i % 6] for i in range(7)] == arrays["classes"][arrays["label"]].tolist()
    assert {name: arrays[name].dtype for name in ("features", "random")} == dict.fromkeys(
        ("features", "random"), np.float32
    )
    assert arrays["layer"] == "input of fc"


def test_the_settings_of_the_picture_are_in_its_file(place):
    with np.load(place[1] / "embedding.npz") as file:
        settings = json.loads(str(file["settings"]))
        points = {name: file[name].shape for name in file if "trained" in name or "random" in name}
    assert settings["t-SNE"]["perplexity"] == 2  # of 7 videos at most
    assert settings["t-SNE"]["seed"] == settings["UMAP"]["seed"] == 0
    assert set(points.values()) == {(7, 2)}
    assert len(points) == 4


def test_the_page_is_self_contained_and_shows_frames(place):
    page = (place[1] / "neighbors.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 7 * (1 + neighbors.NEIGHBORS)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "No frames" not in page


def test_known_features_are_read_and_those_of_another_seed_refused(place):
    place, folder, _ = place
    fast = ("features.py", "runs/tiny", "--no-picture", "--out", folder)
    again, other, layer, val = forked(
        [(*fast, "--k", 3), (*fast, "--seed", 1), (*fast, "--layer", "layer1"), (*fast, "--part", "val")], place
    )
    assert "read " in succeeded(again).stderr
    for process, what in ((other, "seed"), (layer, "layer"), (val, "protocol")):
        assert process.returncode == 2
        assert f"of the same {what}" in process.stderr


def test_sources_without_features_or_videos_are_refused(place):
    place, _, _ = place
    pt2, onnx, missing, layer = forked(
        [
            ("export.py", "--run", "runs/tiny", "--format", "pt2", "--out", "net.pt2"),
            ("features.py", "net.pt2"),
            ("features.py", "torchvision/r3d_18/KINETICS400_V1"),
            ("features.py", "runs/tiny", "--layer", "layer9"),
        ],
        place,
    )
    succeeded(pt2)
    assert [process.returncode for process in (onnx, missing, layer)] == [2, 2, 2]
    assert "net.pt2" in onnx.stderr
    assert "has no features" in onnx.stderr
    assert "--cfg" in missing.stderr
    assert "--layer layer9" in layer.stderr


def test_one_group_one_class_and_videos_that_do_not_decode(place, tmp_path):
    place, _, _ = place
    clips = dict(height=32, width=32)
    train = [(f"t{i}.mp4", CLASSES[i % 2], f"g{i}") for i in range(4)]
    test = [(f"e{i}.mp4", CLASSES[i % 2], "same") for i in range(3)]
    write_csv(tmp_path / "data", {"train": train, "test": test}, **clips)
    alike = {
        part: [(name, "up", group) for name, _, group in rows] for part, rows in (("train", train), ("test", test))
    }
    write_csv(tmp_path / "alike", alike, **clips)
    (tmp_path / "data/e2.mp4").write_bytes(b"no video")
    write_config(tmp_path / "own.yaml", data={"root": str(tmp_path / "data"), "val": "none"})
    write_config(tmp_path / "alike.yaml", data={"root": str(tmp_path / "alike"), "val": "none"})
    fast = ("features.py", "runs/tiny", "--no-picture", "--cfg", tmp_path / "own.yaml", "--out", tmp_path / "out")
    bad, group, label = forked(
        [fast, (*fast, "--gallery", "own"), (*fast[:4], tmp_path / "alike.yaml", "--out", tmp_path / "other")], place
    )
    assert bad.returncode == 1
    assert "e2.mp4" in bad.stderr
    result = json.loads((tmp_path / "out/features.json").read_text())
    assert result["unreadable"] == ["e2.mp4"]
    assert result["trained"]["R@10"]["top1"] == pytest.approx(200 / 3)
    assert (group.returncode, label.returncode) == (2, 2)
    assert "'same'" in group.stderr
    assert "'up'" in label.stderr


def test_many_classes_have_colors_and_no_legend(tmp_path):
    rng = np.random.default_rng(0)
    classes = [f"class {i}" for i in range(30)]
    found = {"trained": {"t-SNE": rng.normal(size=(60, 2)), "UMAP": rng.normal(size=(60, 2))}}
    settings = {"t-SNE": {"perplexity": 2.5}, "UMAP": {"n_neighbors": 3}}
    embedding.plot_embedding(tmp_path / "a.png", found, np.arange(60) % 30, classes, settings, "title")
    text = (tmp_path / "a.svg").read_text()
    assert "perplexity 2.5" in text
    assert "class 3" not in text


def test_the_videos_of_the_page_are_spread_over_the_classes():
    label_V, features_VD = np.repeat([0, 1, 2], 100), np.ones((300, 2))
    features_VD[:5] = np.nan
    chosen = neighbors.select_queries(VideoSet([""] * 300, label_V, [""] * 300, features_VD), 6)
    assert sorted(label_V[chosen]) == [0, 0, 1, 1, 2, 2]
    assert min(chosen) >= 5
