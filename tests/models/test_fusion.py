"""Networks of several streams: joint and late fusion, missing sound, parts, and the weights of single networks."""

import pytest
import torch
from helpers.training import make_config

from videores.errors import UserError
from videores.models.parts import count_depths, freeze, split_into_parts
from videores.models.registry import create_model
from videores.models.weights.compatibility import find_differences
from videores.training import losses

TINY = dict(layers=[1], width=8, stem="small")
STREAMS = {"rgb": {}, "audio": {"name": "audio_r2d_18", **TINY}}
CLIPS = {"rgb": torch.randn(2, 3, 4, 16, 16), "audio": torch.randn(2, 1, 1, 16, 24)}


def create(fusion="joint", streams=STREAMS, **common):
    torch.manual_seed(0)
    return create_model("r3d_18", 3, **TINY, **common, streams=streams, fusion=fusion).eval()


def alone(name, **options):
    torch.manual_seed(0)
    return create_model(name, 3, **TINY, **options).eval()


def test_each_network_has_the_weights_and_answers_that_it_has_alone():
    heads = create().score_heads(CLIPS)
    assert list(heads) == ["rgb", "audio", "joint"]
    for stream, network in {"rgb": alone("r3d_18"), "audio": alone("audio_r2d_18")}.items():
        assert torch.equal(heads[stream], network(CLIPS[stream]))
        create().streams[stream].load_state_dict(network.state_dict())


def test_joint_logits_are_linear_in_the_features_of_all_streams():
    network = create()
    features = [network.streams[name].features(CLIPS[name]).mean(1) for name in CLIPS]
    assert torch.allclose(network(CLIPS), network.fc(torch.cat(features, 1)), atol=1e-6)


def test_late_logits_are_the_log_of_the_mean_probability():
    network = create("late")
    heads = network.score_heads(CLIPS)
    mean = (heads["rgb"].softmax(1) + heads["audio"].softmax(1)) / 2
    assert torch.allclose(network(CLIPS).softmax(1), mean, atol=1e-6)
    assert not hasattr(network, "fc")


def test_a_clip_without_sound_adds_nothing_to_the_joint_logits():
    network, silent = create(), CLIPS["audio"].clone()
    silent[0] = 0
    with torch.no_grad():
        network.streams["audio"].conv1.weight.add_(1)
        network.streams["audio"].bn1.bias.fill_(2)  # features of a black picture are not 0
    rgb = network.streams["rgb"].features(CLIPS["rgb"]).mean(1)
    expected = rgb @ network.fc.weight[:, :8].T + network.fc.bias
    got = network({**CLIPS, "audio": silent})
    assert torch.allclose(got[0], expected[0], atol=1e-6)
    assert not torch.allclose(got[1], expected[1], atol=1e-3)


def test_a_stream_with_a_name_takes_no_common_options():
    network = create(norm="group", streams={**STREAMS, "difference": {"width": 4}})
    assert network.streams["difference"].design.norm == "group"
    assert network.streams["difference"].design.width == 4
    assert network.streams["audio"].design.norm == "batch"


@pytest.mark.parametrize(
    "options", [dict(consensus="logits"), dict(streams={"rgb": {"name": "pytorchvideo/x3d_xs"}, "flow": {}})]
)
def test_networks_without_features_of_their_own_are_refused(options):
    with pytest.raises(UserError, match=r"model\.streams\.rgb"):
        create_model("f_r2d_18", 3, **{"streams": {"rgb": {}, "flow": {"channels": 2}}, **options})


def test_parts_are_those_of_each_network_and_all_classifiers():
    network = create()
    assert list(split_into_parts(network)) == ["rgb.stem", "rgb.layer1", "audio.stem", "audio.layer1", "fc"]
    assert count_depths(network) == {"rgb.stem": 0, "rgb.layer1": 1, "audio.stem": 0, "audio.layer1": 1, "fc": 2}
    freeze(network, "all-but-fc")
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in learning} == {
        "fc",
        "streams.rgb.fc",
        "streams.audio.fc",
    }


def test_differences_of_networks_name_stream_and_key(tmp_path):
    options = {"name": "r3d_18", **TINY, "fusion": "joint"}
    assert find_differences({**options, "streams": STREAMS}, create()) == []
    changed = {**options, "streams": {**STREAMS, "rgb": {"norm": "group"}}}
    (line,) = find_differences(changed, create())
    assert line.startswith("model.streams.rgb.norm is batch here, group")
    assert any("fusion" in line for line in find_differences({**options, "streams": STREAMS}, create("late")))
    assert any("streams" in line for line in find_differences({"name": "r3d_18", **TINY}, create()))


def test_a_classifier_of_weight_0_gets_no_gradient_but_one_that_ranks_can_exchange():
    network = create()
    weights = losses.select_loss_weights({}, ("rgb", "audio"), "joint")
    assert weights == {"rgb": 0, "audio": 0, "joint": 1}
    assert losses.select_loss_weights({}, ("rgb", "audio"), "late") == {"rgb": 1, "audio": 1}
    compute = lambda logits_XN: losses.classification_loss(logits_XN, torch.tensor([0, 2]))
    heads = network.score_heads(CLIPS)
    loss = losses.sum_head_losses(heads, weights, compute)
    assert torch.equal(loss, compute(heads["joint"]))
    loss.backward()
    assert not network.streams["rgb"].fc.weight.grad.any()
    assert network.streams["rgb"].layer1[0].conv1[0].weight.grad.any()


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"data": {"stream": ["rgb"]}}, r"data\.stream: a list must have several"),
        ({"data": {"stream": ["rgb", "rgb"]}}, r"data\.stream: a list must have several"),
        ({"data": {"stream": ["rgb", "flow"]}}, r"data\.flow"),
        ({"data": {"flow": "flow"}}, r"data\.flow"),
        ({"model": {"streams": {"rgb": {"width": 8}}}}, r"model\.streams"),
        (
            {"model": {"streams": {"flow": {"width": 8}}}, "data": {"stream": ["rgb", "difference"]}},
            r"model\.streams\.flow",
        ),
        ({"model": {"channels": 3}, "data": {"stream": ["rgb", "difference"]}}, r"model\.channels"),
        ({"model": {"weights": "x"}, "data": {"stream": ["rgb", "difference"]}}, r"model\.streams\.<stream>\.weights"),
        ({"train": {"loss_weights": {"rgb": 1}}}, r"train\.loss_weights"),
        (
            {"train": {"loss_weights": {"rgb": 1}}, "data": {"stream": ["rgb", "difference"]}},
            r"train\.loss_weights\.joint",
        ),
        (
            {"train": {"loss_weights": {"joint": 1, "flow": 1}}, "data": {"stream": ["rgb", "difference"]}},
            r"loss_weights\.flow",
        ),
        (
            {"data": {"stream": ["rgb", "audio"], "augment": {"cutmix": 1.0}, "audio": {"seconds": 1}}},
            r"augment\.cutmix",
        ),
        ({"data": {"stream": ["rgb", "flow"], "flow": "f", "augment": {"rotation": 9}}}, r"augment\.rotation"),
        (
            {"data": {"stream": ["flow", "audio"], "flow": "f", "audio": {"seconds": 1}, "augment": {"grey": 0.1}}},
            r"augment\.grey",
        ),
        ({"data": {"stream": ["rgb", "difference"]}, "run": {"autotune": True}}, r"run\.autotune"),
    ],
)
def test_contradictions_of_several_streams_are_named(sections, key):
    train = {"epochs": 2, **sections.pop("train", {})}
    with pytest.raises(UserError, match=key):
        make_config("data", train=train, **sections)
