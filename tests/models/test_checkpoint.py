"""Reading checkpoints: only tensors and primitives, only what fits, and every difference is said."""

import os
import pickle
import re

import pytest
import torch
from helpers.checkpoints import CLASSES, make_task, save

from videores.errors import UserError
from videores.models.weights import safe_load, safetensors
from videores.training import checkpoint_io


def refusal(path, task):
    with pytest.raises(UserError) as caught:
        checkpoint_io.restore_weights(task, path)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path):
    return save(tmp_path / "ours.ckpt", make_task())


def test_our_own_checkpoint_loads_without_running_code(saved):
    stored = torch.load(saved, weights_only=True)
    assert stored["hyper_parameters"]["classes"] == CLASSES
    assert stored["hyper_parameters"]["config"]["model"]["name"] == "r3d_18"


@pytest.mark.parametrize("content", [b"", b"some text\n", b"epoch 1\n"])
def test_a_file_of_another_kind_is_called_that(tmp_path, content):
    path = tmp_path / "notes.ckpt"
    path.write_bytes(content)
    assert "it is damaged, of another kind" in refusal(path, make_task())


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["epoch"], "x"),
        (["global_step"], None),
        (["state_dict"], [1]),
        (["state_dict", "model.stem.0.weight"], 3),
        (["hyper_parameters", "classes"], "abc"),
        (["hyper_parameters", "config", "data"], 3),
        (["hyper_parameters", "config", "data", "transform", "mean"], "x"),
        (["hyper_parameters", "config", "model", "name"], None),
        (["measured"], 3),
    ],
)
def test_a_value_of_another_type_is_named_with_its_key(saved, keys, value):
    stored = torch.load(saved, weights_only=True)
    inner = stored
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    torch.save(stored, saved)
    message = refusal(saved, make_task())
    assert "ours.ckpt" in message
    assert ".".join(keys) in message
    with pytest.raises(UserError, match=keys[-1].replace(".", r"\.")):
        safetensors.export_weights(saved, saved.with_suffix(".safetensors"))


def test_a_flipped_bit_anywhere_is_told_or_makes_no_difference(saved):
    whole, task = saved.read_bytes(), make_task()
    places = [*range(0, 200), *range(200, len(whole), len(whole) // 150), *range(len(whole) - 300, len(whole))]
    for number, place in enumerate(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << number % 8
        saved.write_bytes(damaged)
        try:
            checkpoint_io.restore_weights(task, saved)
        except UserError as error:
            assert "ours.ckpt" in str(error)  # noqa: PT017


def test_weights_are_copied(saved):
    task, stored = make_task(), safe_load.read_checkpoint(saved)
    checkpoint_io.restore_weights(task, saved)
    assert all(torch.equal(value, stored["state_dict"][key]) for key, value in task.state_dict().items())


def test_another_architecture_is_refused_with_both_names_keys_and_shapes(saved):
    message = refusal(saved, make_task(name="r2plus1d_18"))
    assert "ours.ckpt" in message
    assert "r3d_18" in message
    assert "r2plus1d_18" in message
    assert re.search(r"model.stem.0.weight: \[4, 3, 3, 3, 3\] / \[\d+, 3, 1, 3, 3\]", message)
    assert "absent / " in message


def test_another_width_is_refused_though_every_key_is_the_same(saved):
    message = refusal(saved, make_task(width=8))
    assert "model.stem.0.weight: [4, 3, 3, 3, 3] / [8, 3, 3, 3, 3]" in message
    assert "absent" not in message


def test_fewer_layers_are_refused_too(saved):
    assert " / absent" in refusal(save(saved, make_task(layers=[1, 1])), make_task())


def test_a_refused_checkpoint_changes_no_weight(saved):
    task = make_task(width=8)
    before = {key: value.clone() for key, value in task.state_dict().items()}
    refusal(saved, task)
    assert all(torch.equal(value, before[key]) for key, value in task.state_dict().items())


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["a", "c", "b"], ["1: b / c", "2: c / b"]),
        (["a", "b", "d"], ["2: c / d"]),
        (["a", "b"], ["3 classes", "2 of the data", "from number 2 on"]),
        (["a", "b", "c", "d"], ["3 classes", "4 of the data", "from number 3 on"]),
    ],
)
def test_other_classes_or_another_order_are_refused(saved, classes, words):
    message = refusal(saved, make_task(classes))
    assert [word for word in words if word not in message] == []


def test_missing_file_is_named(tmp_path):
    assert "there is no checkpoint" in refusal(tmp_path / "none.ckpt", make_task())


@pytest.mark.parametrize("size", [0, 1, 10, 1000, -1000, -1])
def test_a_truncated_checkpoint_is_refused(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    assert "ours.ckpt is not a checkpoint" in refusal(saved, make_task())


@pytest.mark.parametrize(
    "content",
    [
        b"weights",
        b"\n",
        b"\x80\x02.",
        b"\x80\x04]\x94.",
        bytes(range(256)),
        b"PK\x03\x04" + bytes(100),
        b"}}",
        b"(lp0\n.",
    ],
    ids=repr,
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)
    assert "other.ckpt" in refusal(path, make_task())


def test_a_folder_is_refused(tmp_path):
    assert str(tmp_path) in refusal(tmp_path, make_task())


@pytest.mark.parametrize("content", [{}, {"weights": torch.zeros(2)}, [1, 2], torch.zeros(2), 5, None], ids=repr)
def test_a_tensor_file_that_is_no_checkpoint_of_ours_is_refused(tmp_path, content):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    assert "was not written by tools/train.py" in refusal(path, make_task())


@pytest.mark.parametrize("address", ["https://example.org/a.ckpt", "http:/example.org/a.ckpt", "s3://bucket/a.ckpt"])
def test_an_address_is_refused(address):
    assert "is an address: download it" in refusal(address, make_task())


def test_a_folder_is_called_one(tmp_path):
    assert f"{tmp_path} is a folder" in refusal(tmp_path, make_task())


class Code:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("save_with", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path, save_with):
    trace, path = tmp_path / "ran", tmp_path / "evil.ckpt"
    save_with({"state_dict": make_task().state_dict(), "hyper_parameters": Code(trace)}, path)
    message = refusal(path, make_task())
    assert "evil.ckpt" in message
    assert "not only tensors" in message
    assert "weights_only" not in message
    assert not trace.exists()
    torch.load(path, weights_only=False) if save_with is torch.save else pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have
