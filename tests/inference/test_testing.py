"""Public weights and files tested without a run: with their own preprocessing, on the classes of the data."""

import numpy as np
import pytest
import torch
from helpers.commands import CLASSES, forked, read_result, succeeded, write_config, write_data
from helpers.videos import write_lines

from videores.models.weights import safe_load

NAMES = sorted(CLASSES)


@pytest.fixture(scope="module")
def tests(trained, tmp_path_factory):
    """(folder of results, logits of the run, processes by name)"""
    place, folder = trained[0], tmp_path_factory.mktemp("weights")
    run, other = place / "runs" / "tiny", folder / "other"
    stored = safe_load.read_checkpoint(run / "checkpoints" / "best.ckpt")
    state = {key.removeprefix("model."): value for key, value in stored["state_dict"].items()}
    torch.save(state, folder / "theirs.pth")
    write_lines(folder / "numbers.csv", ["weights,data", *(f"{n},{name}" for n, name in enumerate(NAMES))])
    write_data(other)  # the same videos, whose lists call the classes otherwise
    for part in ("train", "test"):
        text = (other / f"{part}.csv").read_text()
        (other / f"{part}.csv").write_text(text.replace(",up,", ",raise,").replace(",far,", ",FAR,"))
    write_lines(folder / "map.csv", ["weights,data", "up,raise"])
    # another preprocessing than that of the weights, which must not count
    data = {"root": str(other), "clip": {"frames": 4}, "transform": {"short_side": 48, "crop": 40}}
    write_config(folder / "other.yaml", data=data)
    write_config(folder / "tiny.yaml", data={"root": str(place / "data")})
    weights = lambda name, cfg, *more: (
        *("evaluate.py", "--weights", name, "--cfg", folder / cfg, "--out", folder / str(len(more)) / cfg),
        *more,
    )
    checkpoint = run / "checkpoints" / "best.ckpt"
    cases = {
        "library": weights(f"torchvision:{folder / 'theirs.pth'}", "tiny.yaml", "--class-map", folder / "numbers.csv"),
        "no names": weights(f"torchvision:{folder / 'theirs.pth'}", "tiny.yaml"),
        "mapped": weights(checkpoint, "other.yaml", "--class-map", folder / "map.csv"),
        "missing": weights(checkpoint, "other.yaml"),
        "nothing": weights("torchvision/r3d_18/NONE", "tiny.yaml"),
        "first list": (
            "evaluate.py",
            "--weights",
            checkpoint,
            "--cfg",
            folder / "other.yaml",
            "--out",
            folder / "twice",
        ),
        "second list": (
            *("evaluate.py", "--weights", checkpoint, "--cfg", folder / "other.yaml", "--out", folder / "twice"),
            f"data.root={place / 'data'}",
        ),
        "no weights": ("evaluate.py", "--cfg", folder / "tiny.yaml"),
        "no such": weights(folder / "none.pt2", "tiny.yaml"),
        "no map": weights(checkpoint, "other.yaml", "--class-map", folder / "none.csv"),
    }
    (logits,) = (read_result(path)[1]["logits"] for path in (run / "test").iterdir())
    return folder, logits, dict(zip(cases, forked(list(cases.values()), place), strict=True))


def result_of(folder):
    (test,) = (folder / "test").iterdir()
    return read_result(test)


def test_a_file_of_another_library_has_the_configured_network_and_mapped_numbers(tests):
    folder, logits, processes = tests
    succeeded(processes["library"])
    found, arrays = result_of(folder / "2" / "tiny.yaml")
    np.testing.assert_array_equal(arrays["logits"], logits)
    assert found["checkpoint"]["file"].endswith("theirs.pth")
    assert "after epoch" not in processes["library"].stdout


def test_weights_keep_their_preprocessing_and_classes_are_mapped_by_name(tests):
    folder, logits, processes = tests
    succeeded(processes["mapped"])
    found, arrays = result_of(folder / "2" / "other.yaml")
    assert found["protocol"].startswith("8x1@32/32")
    renamed = [{"raise": "up", "FAR": "far"}.get(name, name) for name in arrays["classes"].tolist()]
    np.testing.assert_array_equal(arrays["logits"], logits[..., [NAMES.index(name) for name in renamed]])
    assert "FAR = far" in processes["mapped"].stderr


def test_a_missing_class_is_listed_counts_as_wrong_and_exits_with_1(tests):
    folder, _, processes = tests
    process = succeeded(processes["missing"], code=1)
    assert "raise" in process.stderr
    found, arrays = result_of(folder / "0" / "other.yaml")
    assert found["per_class_top1"]["raise"] == 0
    assert np.isfinite(arrays["logits"]).all()


def test_another_list_of_the_same_name_does_not_replace_a_result(tests):
    folder, _, processes = tests
    succeeded(processes["first list"], code=1)
    succeeded(processes["second list"])
    first, second = sorted((folder / "twice" / "test").iterdir(), key=lambda path: len(path.name))
    assert second.name.startswith(f"{first.name}+")
    assert read_result(first)[0]["list"]["source"] == str(folder / "other")
    assert "up" in read_result(second)[0]["per_class_top1"]
    assert second.name in processes["second list"].stdout


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("no names", "--class-map"),
        ("nothing", "NONE"),
        ("no weights", "--weights"),
        ("no such", "none.pt2"),
        ("no map", "--class-map"),
    ],
)
def test_weights_that_cannot_be_tested_are_refused(tests, name, key):
    process = tests[2][name]
    assert process.returncode == 2, process.stderr
    assert key in process.stderr
    assert "Traceback" not in process.stderr
