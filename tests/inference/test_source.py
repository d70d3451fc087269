"""Sources: each kind that loads gives its own logits, and each that does not is refused by name."""

import numpy as np
import pytest
import torch
from helpers.checkpoints import make_task, save
from torchvision import models as torchvision_models

import videores
from videores.errors import UserError
from videores.inference.export import describe_run
from videores.inference.source import resolve_source
from videores.models.registry import create_model
from videores.models.weights.safetensors import export_weights

CLIPS = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    return save(tmp_path_factory.mktemp("source") / "own.ckpt", make_task())


def test_a_run_a_checkpoint_and_an_exported_file_are_one_network(trained, tmp_path):
    run = trained[0] / "runs" / "tiny"
    best = run / "checkpoints" / "best.ckpt"
    export_weights(best, tmp_path / "weights.safetensors", describe_run(best)[1])
    found = [resolve_source(path) for path in (run, best, tmp_path / "weights.safetensors")]
    with torch.no_grad():
        logits = [one.model(CLIPS) for one in found]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    assert {one.classes for one in found} == {found[0].classes}
    assert {one.batch_size for one in found} == {4}  # of the run, as its precision is
    assert {one.number_format for one in found} == {found[0].number_format}
    assert found[0].preprocessing == found[1].preprocessing
    assert found[0].preprocessing.views.clips == 2
    for part in ("clip", "transform"):
        kept = {"frames", "stride", "fps"} if part == "clip" else {"crop", "short_side", "mean", "std"}
        ours, theirs = (getattr(one.preprocessing, part).model_dump(include=kept) for one in (found[0], found[2]))
        assert ours == theirs


def test_loading_draws_nothing_and_trains_nothing(checkpoint):
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    one = videores.load(checkpoint)
    assert torch.rand(1) == wanted
    assert not one.model.training
    assert not any(parameter.requires_grad for parameter in one.model.parameters())


def test_public_weights_have_their_classes_and_preprocessing(monkeypatch, tmp_path):
    """The real list of torchvision, with a file of random weights in place of the download."""
    weights = torchvision_models.video.R3D_18_Weights.KINETICS400_V1
    torch.manual_seed(0)
    network = torchvision_models.video.r3d_18().eval()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: network.state_dict())
    one = resolve_source("torchvision/r3d_18/KINETICS400_V1")
    with torch.no_grad():
        np.testing.assert_allclose(one.model(CLIPS), network(CLIPS), atol=1e-5)
    assert len(one.classes) == 400
    assert str(one.preprocessing) == "16x15fps@112/128 5x1 softmax-mean"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("runs/absent", "runs/absent"),
        ("torchvision/r3d_19/KINETICS400_V1", "r3d_1"),
        ("torchvision/mvit_v1_b/KINETICS400_V1", "mvit_v1_b"),
        ("vmz:file.pth", "vmz:file.pth"),
        ("https://example.org/a.ckpt", "https"),
    ],
)
def test_names_of_nothing_are_refused(source, names):
    with pytest.raises(UserError, match=names):
        videores.load(source)


def test_what_is_no_run_is_refused(tmp_path, checkpoint):
    with pytest.raises(UserError, match=r"config\.yaml"):
        videores.load(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match="no checkpoint"):
        videores.load(tmp_path)
    torch.save(make_task().model.state_dict(), tmp_path / "bare.pth")
    with pytest.raises(UserError, match=r"bare\.pth"):
        videores.load(tmp_path / "bare.pth")
    (tmp_path / "text.ckpt").write_text("this is no checkpoint")
    with pytest.raises(UserError, match=r"text\.ckpt"):
        videores.load(tmp_path / "text.ckpt")


def test_weights_without_class_names_need_them(tmp_path):
    task = make_task()
    torch.save({"state_dict": task.model.state_dict()}, tmp_path / "bare.pth")
    source, network = f"torchvision:{tmp_path / 'bare.pth'}", task.cfg.model.model_dump(exclude_none=True)
    with pytest.raises(UserError, match="classes"):
        videores.load(source, network=network)
    one = videores.load(source, network=network, classes=["x", "y", "z"])
    with torch.no_grad():
        np.testing.assert_allclose(one.model(CLIPS), task.model.eval()(CLIPS), atol=1e-6)
    with pytest.raises(UserError, match="classes"):
        videores.load(source, network=network, classes=[])


def test_weights_whose_order_of_channels_is_not_known_are_loaded_with_a_note(tmp_path, capsys):
    torch.save(create_model("cifar2d_20", 3).state_dict(), tmp_path / "bare.pth")
    videores.load(f"torchvision:{tmp_path / 'bare.pth'}", network={"name": "cifar2d_20"}, classes=["x", "y", "z"])
    assert "reordered" in capsys.readouterr().err


def test_classes_and_networks_that_would_be_ignored_are_refused(checkpoint):
    for options in ({"classes": ["x", "y", "z"]}, {"network": {"name": "r3d_18"}}):
        with pytest.raises(UserError, match=r"own\.ckpt"):
            videores.load(checkpoint, **options)


def test_a_file_that_does_not_fit_its_own_network_is_refused(tmp_path, checkpoint):
    stored = torch.load(checkpoint, weights_only=True)
    stored["state_dict"].pop("model.fc.bias")
    torch.save(stored, tmp_path / "cut.ckpt")
    with pytest.raises(UserError, match=r"fc\.bias"):
        videores.load(tmp_path / "cut.ckpt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(checkpoint):
    with pytest.raises(UserError, match="cuda"):
        videores.load(checkpoint, device="cuda")
    assert resolve_source(checkpoint, "auto").device == "cpu"
