"""Networks built and saved by Keras itself (on torch), converted: the same outputs, or the layer that differs."""

import json
import os
import re
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from helpers.weights import clips, refusal

from videores.models.registry import create_model
from videores.models.weights import loading

os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras")
layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:__array__")  # of Keras
ARTICLE = {"layers": [3, 3, 3, 3], "bias": True, "padding": "same"}


def conv_norm(x, filters, size, strides=1, relu=True, **options):
    x = layers.Conv2D(filters, size, strides=strides, padding="same", **options)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation("relu")(x) if relu else x


def basic_block(x, filters, strides, **options):
    y = conv_norm(conv_norm(x, filters, 3, strides, **options), filters, 3, relu=False, **options)
    changes = strides > 1 or x.shape[-1] != filters
    shortcut = conv_norm(x, filters, 1, strides, relu=False, **options) if changes else x
    return layers.Activation("relu")(layers.Add()([y, shortcut]))


def article(width=64, classes=1000, blocks=(3, 3, 3, 3), stem="pool", **options):
    """The article's network: 7x7, max-pool, stages of 3 basic blocks, mean, softmax; 26 layers with weights."""
    inputs = layers.Input((None, None, 3))
    x = conv_norm(inputs, width, 7, 2, **options) if stem == "pool" else conv_norm(inputs, width, 3, **options)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x) if stem == "pool" else x
    for stage, count in enumerate(blocks):
        for block in range(count):
            x = basic_block(x, width * 2**stage, 2 if stage and not block else 1, **options)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def bottlenecks(classes=7):
    """As keras.applications.ResNet50: ZeroPadding2D, valid convolutions, the stride in the first 1x1."""
    norm = partial(layers.BatchNormalization, epsilon=1.001e-5)
    inputs = layers.Input((None, None, 3))
    x = layers.ReLU()(norm()(layers.Conv2D(8, 7, strides=2)(layers.ZeroPadding2D(3)(inputs))))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    for filters, strides in ((8, 1), (16, 2)):
        shortcut = norm()(layers.Conv2D(4 * filters, 1, strides=strides)(x))
        y = layers.ReLU()(norm()(layers.Conv2D(filters, 1, strides=strides)(x)))
        y = layers.ReLU()(norm()(layers.Conv2D(filters, 3, padding="SAME")(y)))
        y = norm()(layers.Conv2D(4 * filters, 1)(y))
        x = layers.ReLU()(layers.Add()([shortcut, y]))
    return keras.Model(inputs, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def save(network, path):
    """Gives every variable values of its own, the norms' statistics too, and saves the network."""
    generator = np.random.default_rng(0)
    for variable in network.variables:
        shape = tuple(variable.shape)
        draws = generator.uniform(0.5, 1.5, shape)
        if len(shape) > 1:
            draws = generator.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
        if variable.path.endswith("seed_generator_state"):
            continue
        variable.assign(draws.astype(np.float32))
    network.save(path)
    return path


def outputs(network, model, clips_BCTHW):
    """Of both, as probabilities where Keras's network has them."""
    pictures = clips_BCTHW[:, :, 0]
    with torch.no_grad():
        theirs = network(pictures.permute(0, 2, 3, 1), training=False).cpu()
        ours = model.eval()(clips_BCTHW)
    return theirs, ours.softmax(1) if network.layers[-1].activation.__name__ == "softmax" else ours


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 71)])
def test_the_articles_network_puts_out_the_same(tmp_path, height, width):
    network = article(width=8, classes=11)
    path = save(network, tmp_path / "article.keras")
    for eps in (None, 1e-3):
        model = create_model("f_r2d_18", 11, width=8, norm_eps=eps, **ARTICLE)
        report = loading.load_weights(model, f"keras:{path}", head="keep")
        assert report.new == report.unused == []
        theirs, ours = outputs(network, model, clips(2, 3, 1, height, width))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert theirs.std() > 1e-3


def test_a_cifar_network_without_biases(tmp_path):
    network = article(16, 10, (1, 1, 1), stem="cifar", use_bias=False)
    path = save(network, tmp_path / "cifar.keras")
    model = create_model("cifar2d_8", 10, shortcut="B", padding="same")
    loading.load_weights(model, f"keras:{path}", head="keep")
    theirs, ours = outputs(network, model, clips(2, 3, 1, 32, 32))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_articles_network_has_its_size():
    network = article()
    assert network.count_params() == 17_980_392
    assert sum(isinstance(layer, (layers.Conv2D, layers.Dense)) for layer in network.layers) == 26 + 3  # projections


def test_bottlenecks_as_in_keras_applications(tmp_path):
    network = bottlenecks()
    path = save(network, tmp_path / "bottlenecks.keras")
    options = {"layers": [1, 1], "width": 8, "bias": True, "stride_in": "conv1"}
    model = create_model("f_r2d_50", 7, **options)
    loading.load_weights(model, f"keras:{path}", head="keep")
    theirs, ours = outputs(network, model, clips(2, 3, 1, 64, 64))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert loading.load_weights(create_model("f_r2d_50", 4, **options), f"keras:{path}").new == ["fc.weight", "fc.bias"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return save(article(4, 5, (1, 1)), tmp_path_factory.mktemp("keras") / "small.keras")


@pytest.mark.parametrize(
    ("options", "layer"),
    [
        ({"padding": None}, r"conv2d\w* is 7x7 .*padding same.* conv1 .*padding 3"),
        ({"bias": None}, r"conv2d\w* .*with bias.* conv1 .*without bias"),
        ({"layers": [1, 2]}, r"global_average_pooling2d\w* .*layer2\.1\.conv1"),
        ({"layers": [2, 1]}, r"conv2d\w* .*layer1\.1\.conv1"),
        ({"shortcut": "A"}, r"conv2d\w* is 1x1 .*layer2\.0\.downsample\. is Subsample"),
        ({"width": 8}, r"to 4 channels.* conv1 .* to 8 channels"),
        ({"stem": "nopool"}, r"max_pooling2d\w* .*layer1\.0\.conv1"),
        ({"name": "r3d_18", "padding": None}, "f_r2d_18"),
    ],
)
def test_the_first_layer_that_differs_is_named(small, options, layer):
    options = {"name": "f_r2d_18", "width": 4, **ARTICLE, "layers": [1, 1], **options}
    message = refusal(create_model(num_classes=5, **options), f"keras:{small}")
    assert str(small) in message
    assert re.search(layer, message), message


def test_the_options_that_fit_are_said(small, tmp_path):
    message = refusal(create_model("f_r2d_50", 5), f"keras:{small}")
    assert "model.bias=true model.padding=same model.block=basic model.layers=[1, 1] model.width=4" in message
    path = save(bottlenecks(), tmp_path / "bottlenecks.keras")
    message = refusal(create_model("f_r2d_18", 7, bias=True, padding="same"), f"keras:{path}")
    fits = "model.padding=symmetric model.stride_in=conv1 model.block=bottleneck model.layers=[1, 1] model.width=8"
    assert fits in message


def edit(path, target, change):
    """A copy of a file whose topology is changed."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config["config"]["layers"])
                content = json.dumps(config)
            copy.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("Conv2D", "dilation_rate", [2, 2]),
        ("Activation", "activation", "gelu"),
        ("BatchNormalization", "epsilon", 0.1),
        ("MaxPooling2D", "pool_size", [2, 2]),
        ("Dense", "activation", "sigmoid"),
        ("Conv2D", "data_format", "channels_first"),
        ("BatchNormalization", "scale", False),
    ],
)
def test_a_layer_with_another_setting_is_named(tmp_path, small, kind, key, value):
    names = []

    def change(entries):
        entry = next(entry for entry in entries if entry["class_name"] == kind)
        entry["config"][key] = value
        names.append(entry["config"]["name"])

    path = edit(small, tmp_path / "other.keras", change)
    model = create_model("f_r2d_18", 5, width=4, **{**ARTICLE, "layers": [1, 1]})
    assert names[0] in refusal(model, f"keras:{path}")


@pytest.mark.parametrize("kind", ["cut", "no zip", "variables", "missing", "h5", "sequential"])
def test_damaged_files_and_other_kinds_are_refused(tmp_path, small, kind):
    path = tmp_path / "file.keras"
    if kind == "cut":
        path.write_bytes(small.read_bytes()[:-100])
    elif kind == "no zip":
        path.write_bytes(b"hello")
    elif kind == "variables":
        path = edit(
            small, path, lambda entries: entries.insert(0, entries[1])
        )  # one convolution more: counted otherwise
    elif kind == "h5":
        path = tmp_path / "file.weights.h5"
        keras.models.load_model(small).save_weights(path)
    elif kind == "sequential":
        keras.Sequential([layers.Input((8, 8, 3)), layers.Flatten(), layers.Dense(5)]).save(path)
    model = create_model("f_r2d_18", 5, width=4, **{**ARTICLE, "layers": [1, 1]})
    assert path.name in refusal(model, f"keras:{path}")
