"""Weights of CIFAR networks: the order of channels of shortcuts that pad on both sides, and the accuracy of a test."""

import re

import av
import numpy as np
import pytest
import torch
from helpers.cifar import MEAN, STD, CifarNet, rename_fc
from helpers.commands import ROOT, forked, read_result, succeeded
from helpers.weights import clips, logits, randomise, refusal, same_states, save
from PIL import Image

from videores.models.registry import create_model
from videores.models.weights import loading


def pad_both_sides(state):
    """The weights as akamaster's file has them, whose channel i is ours[i]."""
    ours = {1: [*range(16)]}
    ours[2] = [*range(16, 24), *ours[1], *range(24, 32)]
    ours[3] = [*range(32, 48), *ours[2], *range(48, 64)]
    made = {}
    for key, value in state.items():
        layer = re.match(r"layer(\d)\.(\d+)\.(conv1|conv2|bn2)", key)
        if layer and layer[3] == "conv1":
            value = value[:, ours[max(int(layer[1]) - (layer[2] == "0"), 1)]]
        elif layer and value.ndim:
            value = value[ours[int(layer[1])]]
        made[key] = value[:, ours[3]] if key == "fc.weight" else value
    return {f"module.{key}": value for key, value in rename_fc(made).items()}


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_network_that_pads_on_both_sides_computes_the_same_here(tmp_path, blocks):
    theirs = randomise(CifarNet(blocks)).eval()
    path = save(
        {"state_dict": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "x.th"
    )
    model = create_model(f"cifar2d_{6 * blocks + 2}", 10)
    assert loading.load_weights(model, f"akamaster:{path}").new == []
    pictures = clips(4, 3, 32, 32)
    torch.testing.assert_close(logits(model, pictures[:, :, None]), theirs(pictures).detach(), rtol=1e-5, atol=1e-5)
    renamed = create_model(f"cifar2d_{6 * blocks + 2}", 10)
    path = save(rename_fc(theirs.state_dict()), tmp_path / "renamed.pth")
    report = loading.load_weights(renamed, f"torchvision:{path}")
    assert "akamaster" in str(report)
    assert (logits(renamed, pictures[:, :, None]) - theirs(pictures)).abs().max() > 0.01  # what a rename alone does


def test_the_order_of_channels_has_an_inverse(tmp_path):
    source, model = randomise(create_model("cifar2d_20", 10)), create_model("cifar2d_20", 10)
    loading.load_weights(model, f"akamaster:{save(pad_both_sides(source.state_dict()), tmp_path / 'x.th')}")
    assert same_states(model.state_dict(), source.state_dict())


@pytest.mark.parametrize("depth", [20, 56])
def test_real_weights_come_back_from_the_other_order(shared_data, tmp_path, depth):
    state = torch.load(shared_data / "weights" / f"cifar_resnet{depth}.pth", weights_only=True)
    model = create_model(f"cifar2d_{depth}", 10)
    loading.load_weights(model, f"akamaster:{save(pad_both_sides(state), tmp_path / 'x.th')}")
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_names_of_both_sides_are_never_taken_for_ours(tmp_path):
    path = save({"state_dict": CifarNet().state_dict()}, tmp_path / "x.th")
    for source in (f"torchvision:{path}", path):
        assert f"akamaster:{path}" in refusal(create_model("cifar2d_20", 10), source)


def test_files_that_were_renamed_are_not_reordered_a_second_time(tmp_path):
    path = save(create_model("cifar2d_20", 10).state_dict(), tmp_path / "x.pth")
    assert "linear.weight" in refusal(create_model("cifar2d_20", 10), f"akamaster:{path}")


def test_shortcuts_that_project_keep_their_order(tmp_path):
    source = randomise(create_model("cifar2d_20", 10, shortcut="B"))
    state = {key.replace("downsample", "shortcut"): value for key, value in rename_fc(source.state_dict()).items()}
    model = create_model("cifar2d_20", 10, shortcut="B")
    loading.load_weights(model, f"akamaster:{save(state, tmp_path / 'x.th')}")
    assert same_states(model.state_dict(), source.state_dict())


def test_accuracy_of_the_shared_weights_is_that_of_a_forward_of_plain_torch(shared_data, tmp_path):
    """Weights in the names of torchvision, whose channels are in our order already."""
    check_accuracy(shared_data / "weights" / "cifar_resnet20.pth", shared_data / "cifar10-jpeg", tmp_path, least=0.8)


def test_accuracy_is_that_of_a_forward_of_plain_torch(tmp_path):
    generator = np.random.default_rng(0)
    names = [line.split(",")[1] for line in (ROOT / "datasets/cifar10/classes.csv").read_text().split()[1:]]
    for part, count in (("train", 1), ("test", 3)):
        for name in names:
            folder = tmp_path / "pictures" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    network = randomise(CifarNet(before=0))
    with torch.no_grad():
        network.linear.weight -= network.linear.weight.mean(0)
    check_accuracy(save(rename_fc(network.state_dict()), tmp_path / "x.pth"), tmp_path / "pictures", tmp_path, least=0)


def check_accuracy(weights, root, folder, least):
    """Compare tools/evaluate.py with a forward of the same pictures, decoded by PyAV alone."""
    given = [f"data.root={root}", "data.format=folder", "data.workers=0", "trainer.accelerator=cpu"]
    given += [f"data.transform.mean={list(MEAN)}", f"data.transform.std={list(STD)}"]
    command = (
        "evaluate.py",
        "--weights",
        f"torchvision:{weights}",
        "--cfg",
        "cifar2d_20_cifar10.yaml",
        "--out",
        "test",
    )
    (process,) = forked([(*command, "--class-map", ROOT / "datasets/cifar10/classes.csv", *given)], folder)
    succeeded(process)
    (test,) = (folder / "test" / "test").iterdir()
    metrics, arrays = read_result(test)
    network = CifarNet(before=0).eval()
    network.load_state_dict(rename_fc(torch.load(weights, weights_only=True)))
    theirs = forward(network, [root / path for path in arrays["video"]])
    np.testing.assert_array_equal(arrays["logits"][:, 0].argmax(1), theirs.argmax(1))
    np.testing.assert_allclose(arrays["logits"][:, 0], theirs, rtol=1e-4, atol=1e-4)
    accuracy = (theirs.argmax(1) == arrays["label"]).mean()
    assert metrics["video_top1"] == metrics["clip_top1"] == pytest.approx(100 * accuracy, abs=1e-9)
    assert accuracy >= least


@torch.no_grad()
def forward(network, paths):
    pictures = []
    for path in paths:
        with av.open(str(path)) as container:
            pictures.append(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    pictures_BCHW = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return torch.cat([network(part) for part in ((pictures_BCHW - mean) / std).split(100)]).numpy()
