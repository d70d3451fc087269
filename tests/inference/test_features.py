"""Features are what the classifier reads: bit for bit, of every network, whatever makes the batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.commands import result
from torch import nn

from videores.config.parse import load_config
from videores.data.datamodule import load_videos
from videores.errors import UserError
from videores.inference import feature_files, features
from videores.inference.features import FeatureExtractor, extract_features, make_dataset
from videores.models import create_model

TINY = dict(layers=(1, 1), width=8, stem="small")
NETWORKS = {
    "r3d_18": TINY,
    "r2plus1d_18": TINY,
    "f_r2d_18": TINY,
    "r2d_18": {**TINY, "frames": 4},
    "mc3_18": {"layers": (1, 1, 1, 1), "width": 8},
    "ir_csn_50": {"layers": (1, 1), "width": 8},
    "r3d_34": {**TINY, "block": "preact", "dropout": 0.5},
    "pytorchvideo/x3d_xs": {},
}


def make(name, **changes):
    torch.manual_seed(0)
    return create_model(name, 5, **{**NETWORKS.get(name, TINY), **changes}).eval()


def clips(count=3):
    return torch.randn(count, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_classifier_makes_the_logits_of_the_features_bit_for_bit(name):
    model = make(name)
    extract = FeatureExtractor(model)
    classifier = model.get_submodule(extract.name.removeprefix("input of "))
    features_XD = extract(clips())
    assert features_XD.dtype == torch.float32
    assert torch.equal(classifier(features_XD), model(clips()))


@torch.no_grad()
def test_features_of_frames_that_vote_are_averaged():
    model = make("f_r2d_18", consensus="logits")
    logits = model.fc(FeatureExtractor(model)(clips()))
    torch.testing.assert_close(logits, model(clips()))


@torch.no_grad()
@pytest.mark.parametrize("name", ["r3d_18", "f_r2d_18"])
def test_a_layer_is_averaged_over_places_and_frames(name):
    model = make(name)
    found = FeatureExtractor(model, "layer1.0")(clips())
    kept = []
    with model.layer1[0].register_forward_hook(lambda module, inputs, output: kept.append(output.clone())):
        model(clips())
    wanted = kept[0] if name == "r3d_18" else kept[0].unflatten(0, (3, -1)).transpose(1, 2)
    torch.testing.assert_close(found, wanted.mean((2, 3, 4)))
    assert len(model.layer1[0]._forward_hooks) == 0


class Own(nn.Module):
    import_path = "my_package.nets:make"

    def __init__(self, head="fc"):
        super().__init__()
        self.stem, self.relu, self.spare = nn.Conv3d(3, 6, 3), nn.ReLU(), nn.ReLU()
        self.add_module(head, nn.Linear(6, 5))
        self.last = head

    def forward(self, clips_BCTHW):
        x = self.relu(self.relu(self.stem(clips_BCTHW)).mean((2, 3, 4)))
        return getattr(self, self.last)(x)


@torch.no_grad()
def test_a_network_of_ones_own_has_features_where_its_classifier_is_called_fc():
    model = Own()
    assert torch.equal(model.fc(FeatureExtractor(model)(clips())), model(clips()))
    with pytest.raises(UserError, match="--layer one of stem, relu, spare, classifier"):
        FeatureExtractor(Own("classifier"))
    assert FeatureExtractor(Own("classifier"), "stem")(clips()).shape == (3, 6)


@torch.no_grad()
@pytest.mark.parametrize(("layer", "what"), [("stm", "did you mean stem"), ("relu", "2 times"), ("spare", "0 times")])
def test_a_layer_that_is_not_there_or_does_not_run_once_is_refused(layer, what):
    with pytest.raises(UserError, match=f"--layer {layer}.*{what}"):
        FeatureExtractor(Own(), layer)(clips())


# Of videos


@pytest.fixture(scope="module")
def source(trained):
    """(network, cfg, videos) of the trained run; the caller stands in its place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained[0])
        found = features.prepare_source("runs/tiny", None, (), None)
        yield features.place_network(found.network, found.cfg, "cpu"), found.cfg, load_videos(found.cfg.data)


def take(source, batch_size=4):
    network, cfg, videos = source
    dataset = make_dataset(cfg, videos, "test", cfg.test)
    random = features.create_random_network(network, 0)
    sized = replace(network, batch_size=batch_size)
    return extract_features(sized, dataset, [FeatureExtractor(network.model), FeatureExtractor(random)])


def test_they_are_the_mean_over_views_of_what_makes_the_logits_of_the_test(source, trained):
    features_VD, random_VD = take(source)
    _, arrays = result(trained[0] / "runs" / "tiny")
    logits_VN = source[0].model.fc(torch.from_numpy(features_VD)).numpy()
    np.testing.assert_allclose(logits_VN, arrays["logits"].mean(1), atol=1e-5)
    assert features_VD.shape == random_VD.shape
    assert not np.allclose(features_VD, random_VD)


def test_batches_make_the_difference_of_rounding_only(source):
    np.testing.assert_allclose(np.stack(take(source)), np.stack(take(source, batch_size=1)), atol=1e-5)


def test_random_weights_are_a_function_of_the_seed(source):
    hashes = [features.hash_weights(features.create_random_network(source[0], seed)) for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_list_without_videos_is_named(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    cfg = load_config("tiny.yaml", ["data.val=none"])
    with pytest.raises(UserError, match="no val videos"):
        make_dataset(cfg, load_videos(cfg.data), "val", cfg.val)


# The file


def make_features(**changes):
    origin = dict.fromkeys(feature_files.ORIGIN, "x")
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    names = np.array(["a", "b", "c"])
    values = dict(video=names, label=np.array([0, 1, 1]), group=names, classes=names, features=table, random=table)
    return feature_files.Features(**values | changes, origin=origin)


def test_features_come_back_from_their_file(tmp_path):
    wrote = make_features()
    feature_files.write_features(tmp_path / "deep" / "features.npz", wrote)
    read = feature_files.read_features(tmp_path / "deep" / "features.npz", wrote.origin)
    assert all(np.array_equal(getattr(read, name), getattr(wrote, name)) for name in feature_files.ARRAY_SHAPES)
    assert read.features.dtype == np.float32


@pytest.mark.parametrize("name", feature_files.ORIGIN)
def test_features_of_another_network_or_list_are_refused(tmp_path, name):
    path = tmp_path / "features.npz"
    feature_files.write_features(path, make_features())
    with pytest.raises(UserError, match=f"{path}.*same {name}, y, and has x.*--out"):
        feature_files.read_features(path, {**make_features().origin, name: "y"})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"label": np.array([0, 1, 3])}, "label"),
        ({"label": np.array(["0", "1", "2"])}, "label"),
        ({"label": np.array([0, 1])}, "label"),
        ({"features": np.zeros((2, 2))}, "features"),
        ({"features": np.zeros((3, 2), int)}, "features"),
        ({"random": np.zeros(3)}, "random"),
        ({"video": np.array("a")}, "video"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, changes, name):
    path = tmp_path / "features.npz"
    feature_files.write_features(path, make_features(**changes))
    with pytest.raises(UserError, match=f"`{name}`"):
        feature_files.read_features(path, make_features().origin)


def test_a_damaged_file_and_one_without_labels_are_refused(tmp_path):
    path = tmp_path / "features.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="is not a file of features"):
        feature_files.read_features(path, make_features().origin)
    feature_files.write_features(path, make_features())
    with np.load(path) as file:
        rest = {name: file[name] for name in file if name != "label"}
    np.savez(path, **rest)
    with pytest.raises(UserError, match="label"):
        feature_files.read_features(path, make_features().origin)
