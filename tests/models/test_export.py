"""Weights as safetensors: the same tensors, and what they are for."""

import json
import resource
import signal

import pytest
import torch
from helpers.checkpoints import CLASSES, make_task, save

from videores.errors import UserError
from videores.models.weights import loading, safe_load, safetensors


@pytest.fixture
def written(tmp_path):
    """(task, the file of its weights)"""
    task = make_task()
    for value in task.state_dict().values():
        value.copy_(torch.randn(value.shape) if value.is_floating_point() else value + 3)
    source = save(tmp_path / "best.ckpt", task)
    assert safetensors.export_weights(source, tmp_path / "weights.safetensors") == len(task.model.state_dict())
    return task, tmp_path / "weights.safetensors"


def test_the_file_has_the_network_and_says_what_it_is_for(written):
    task, path = written
    state, about = safetensors.read_safetensors(path)
    ours = task.model.state_dict()
    assert state.keys() == ours.keys()
    assert all(torch.equal(state[key], ours[key]) for key in ours)
    assert (about["classes"], about["model"]["name"], about["step"]) == (CLASSES, "r3d_18", 3)
    assert about["preprocessing"]["crop"] == task.cfg.data.transform.crop


def test_another_network_starts_from_it_with_its_classes(written):
    task, path = written
    other = make_task()
    report = loading.load_weights(other.model, path, CLASSES)
    assert (report.loaded, report.new, report.unused) == (len(task.model.state_dict()), [], [])
    assert all(torch.equal(a, b) for a, b in zip(task.state_dict().values(), other.state_dict().values(), strict=True))


def test_what_does_not_fit_is_refused(written):
    with pytest.raises(UserError, match="does not fit the network"):
        loading.load_weights(make_task(width=8).model, written[1], CLASSES)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-10], lambda data: b"x" * 100])
def test_a_damaged_file_is_refused(written, damage):
    written[1].write_bytes(damage(written[1].read_bytes()))
    with pytest.raises(UserError, match="not a safetensors file"):
        loading.load_weights(make_task().model, written[1], CLASSES)


def test_a_full_disk_is_named_as_one(written, tmp_path):
    """As a limit to the size of files has it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            safetensors.export_weights(tmp_path / "best.ckpt", tmp_path / "new" / "weights.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "new").iterdir()) == []


def test_files_of_others_and_none_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="was not written by tools/export"):
        safetensors.read_safetensors(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="there are no weights"):
        safetensors.read_safetensors(tmp_path / "none.safetensors")
    torch.save({"w": torch.zeros(2)}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="was not written by tools/train"):
        safetensors.export_weights(tmp_path / "other.ckpt", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_an_address_is_refused(written):
    with pytest.raises(UserError, match="is an address"):
        loading.load_weights(make_task().model, "https://example.org/a.safetensors", CLASSES)
    assert safe_load.check_local_path("C:/weights/a.ckpt") is None


def test_equal_weights_and_metadata_make_equal_files(tmp_path):
    state = {"w": torch.zeros(3, dtype=torch.bfloat16), "n": torch.tensor(3)}
    about = {name: ["Ä", name] for name in "gfedcba"}
    for name, part in (("a", about), ("b", dict(reversed(about.items())))):
        safetensors.write_safetensors(tmp_path / name, state, part)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safetensors.safe_open(tmp_path / "a", framework="pt") as file:
        assert torch.equal(file.get_tensor("w"), state["w"])
        assert json.loads(file.metadata()["g"]) == ["Ä", "g"]
