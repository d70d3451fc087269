"""Configuration: what is shipped is right, what is wrong is refused with the key and the nearest known one."""

import re

import pytest
import yaml

from videores.config import parse
from videores.errors import UserError
from videores.models.registry import create_model

SHIPPED = sorted(path.name for path in parse.CONFIG_DIR.glob("*.yaml"))
MINIMAL = {
    "data": {"name": "tiny", "format": "csv", "root": "videos"},
    "model": {"name": "r3d_18"},
    "train": {"epochs": 2},
}


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def refusal(path, *overrides):
    with pytest.raises(UserError) as caught:
        parse.load_config(path, overrides)
    return str(caught.value)


# What is shipped


def test_the_configurations_that_the_readme_names_are_shipped():
    wanted = {f"{model}_{data}.yaml" for model in ("r2plus1d", "r3d", "f_r2d") for data in ("motion", "ucf101")}
    assert wanted | {"r2plus1d_utinteraction.yaml"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configuration_builds_its_network(name):
    cfg = parse.load_config(name)
    create_model(cfg.model.name, 7, **cfg.model.overrides())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configuration_is_short_and_headed_by_its_command(name):
    lines = (parse.CONFIG_DIR / name).read_text().splitlines()
    head = [line for i, line in enumerate(lines) if all(other.startswith("#") for other in lines[: i + 1])]
    assert f"python tools/train.py --cfg {name}" in "\n".join(head)
    assert len(lines) - len(head) <= 30
    assert len(lines) <= 40


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configuration_is_its_own_round_trip(name, tmp_path):
    cfg = parse.load_config(name)
    (tmp_path / "resolved.yaml").write_text(parse.to_yaml(cfg))
    assert parse.load_config(tmp_path / "resolved.yaml") == cfg


def test_round_trip_keeps_overridden_lists_and_floats(tiny, tmp_path):
    cfg = parse.load_config(
        tiny, ["train.schedule=step", "train.milestones=[0.5, 1]", "data.transform.jitter=[128, 160]"]
    )
    (tmp_path / "resolved.yaml").write_text(parse.to_yaml(cfg))
    again = parse.load_config(tmp_path / "resolved.yaml")
    assert again == cfg
    assert (again.train.milestones, again.data.transform.jitter) == ((0.5, 1.0), (128, 160))


# Overrides


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("train.epochs=7", "train", "epochs", 7),
        ("train.lr=1e-3", "train", "lr", 0.001),
        ("train.lr=1.0e30", "train", "lr", 1e30),
        ("run.overwrite=true", "run", "overwrite", True),
        ("run.name=a-b", "run", "name", "a-b"),
        ("run.name=null", "run", "name", None),
        ("data.val=none", "data", "val", "none"),
        ("data.val=0.25", "data", "val", 0.25),
        ("model.layers=[1,2]", "model", "layers", (1, 2)),
        ("data.root=/a b/c=d", "data", "root", "/a b/c=d"),
        ("trainer.devices=auto", "trainer", "devices", "auto"),
        ("trainer.devices=2", "trainer", "devices", 2),
        ("trainer.channels_last=false", "trainer", "channels_last", False),
    ],
)
def test_override_has_the_type_of_its_key(tiny, override, section, key, value):
    found = getattr(getattr(parse.load_config(tiny, [override]), section), key)
    assert found == value
    assert type(found) is type(value)


def test_override_reaches_a_nested_section_and_keeps_the_rest_of_it(tiny):
    cfg = parse.load_config(tiny, ["data.clip.frames=8", "data.transform.crop=32", "data.transform.short_side=40"])
    assert (cfg.data.clip.frames, cfg.data.clip.stride, cfg.data.clip.short) == (8, 1, "loop")
    assert (cfg.data.transform.crop, cfg.data.transform.short_side) == (32, 40)


def test_override_may_name_a_section_that_the_file_leaves_out(tiny):
    assert "test" not in MINIMAL
    assert parse.load_config(tiny, ["test.clips=3"]).test.clips == 3


def test_the_last_override_of_a_key_counts(tiny):
    assert parse.load_config(tiny, ["train.epochs=3", "train.epochs=4"]).train.epochs == 4


def test_an_overridden_list_is_replaced_not_merged(tmp_path):
    path = tmp_path / "lists.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "model": {"name": "r3d_18", "layers": [1, 1, 1]}}))
    assert parse.load_config(path, ["model.layers=[2]"]).model.layers == (2,)


@pytest.mark.parametrize("text", ["train.epochs", "=3", "train.=3", ".epochs=3", "train..epochs=3", "tr ain.epochs=3"])
def test_override_without_key_or_value_says_how_to_write_one(tiny, text):
    message = refusal(tiny, text)
    assert repr(text) in message
    assert "train.epochs=10" in message


def test_override_into_a_value_is_refused(tiny):
    assert "name is a value, not a section" in refusal(tiny, "model.name.layers=3")


def test_override_with_a_value_that_is_not_yaml_is_refused(tiny):
    assert "model.layers=[1," in refusal(tiny, "model.layers=[1,")


@pytest.mark.parametrize("override", ["model.weights=", "run.name= "])
def test_override_without_a_value_says_how_to_write_none(tiny, override):
    assert "=null" in refusal(tiny, override)


@pytest.mark.parametrize("override", ["model.inflate=mean", "model.head=new"])
def test_how_to_load_weights_without_weights_is_refused(tiny, override):
    message = refusal(tiny, override)
    assert override.partition("=")[0].removeprefix("model.") in message
    assert "model.weights" in message
    assert parse.load_config(tiny, [override, "model.weights=a.ckpt"])


# Unknown keys and wrong types


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("trian=3", "train"),
        ("train.epoch=3", "epochs"),
        ("data.btach_size=3", "batch_size"),
        ("data.clip.frame=8", "frames"),
        ("data.transform.shortside=8", "short_side"),
        ("model.layer=[1]", "layers"),
        ("run.overwite=true", "overwrite"),
        ("val.clip=3", "clips"),
        ("test.fuson=logit-mean", "fusion"),
        ("trainer.device=2", "devices"),
        ("epochs=3", "train.epochs"),
        ("train.workers=2", "data.workers"),
        ("data.clips=3", "clip or val.clips or test.clips"),
    ],
)
def test_unknown_key_names_the_nearest(tiny, wrong, meant):
    message = refusal(tiny, wrong)
    assert wrong.partition("=")[0] in message
    assert f"did you mean {meant}?" in message


def test_unknown_key_lists_what_there_is(tiny):
    message = refusal(tiny, "data.clip.zzz=8")
    assert "did you mean" not in message
    assert "data.clip has frames, stride, fps, short" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.epochs", "many"),
        ("train.epochs", "2.5"),
        ("train.epochs", "0"),
        ("train.lr", "fast"),
        ("train.lr", "-1"),
        ("train.lr", "null"),
        ("train.optimizer", "rmsprop"),
        ("data.batch_size", "0"),
        ("data.workers", "-1"),
        ("data.val", "half"),
        ("data.val", "2"),
        ("data.split", "4"),
        ("data.clip.short", "mirror"),
        ("data.transform.mean", "[1, 2]"),
        ("data", "3"),
        ("model.layers", "[1, x]"),
        ("model.dropout", "1"),
        ("run.overwrite", "perhaps"),
        ("run.seed", "-1"),
        ("test.crops", "2"),
        ("trainer.devices", "0"),
        ("trainer.precision", "fp8"),
    ],
)
def test_wrong_value_names_its_key_and_shows_it(tiny, key, value):
    message = refusal(tiny, f"{key}={value}")
    assert f"  {key}: " in message or re.search(rf"  {key}(\.\w+)+: ", message)
    assert "Traceback" not in message
    assert "pydantic" not in message


def test_every_wrong_key_is_reported_at_once(tiny):
    message = refusal(tiny, "train.epoch=3", "data.workers=x", "test.crops=2")
    assert all(key in message for key in ("train.epoch:", "data.workers:", "test.crops:"))


def test_missing_key_is_named(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "train": {}}))
    assert "train.epochs: missing" in refusal(path)


def test_a_configuration_cannot_be_changed_after_it_was_checked(tiny):
    with pytest.raises(ValueError, match="frozen"):
        parse.load_config(tiny).train.epochs = 3


# Files


def test_missing_file_names_what_there_is(tmp_path):
    message = refusal("r2plus1d_moton.yaml")
    assert "did you mean r2plus1d_motion.yaml?" in message
    assert all(name in message for name in SHIPPED)


@pytest.mark.parametrize("text", ["data: [1, 2", "a: b: c", "\t- x", "data: 'open"])
def test_invalid_yaml_names_the_file_and_the_place(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    message = refusal(path)
    assert "broken.yaml" in message
    assert "line" in message


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "only words\n", "3\n"])
def test_yaml_without_sections_is_refused(tmp_path, text):
    path = tmp_path / "flat.yaml"
    path.write_text(text)
    assert "expected sections" in refusal(path)


def test_a_binary_file_is_refused_not_a_crash(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(bytes(range(128, 256)))
    assert "binary.yaml" in refusal(path)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "0.001", "1.0e-3", "'1e-3'"])
def test_scientific_notation_that_yaml_reads_as_a_string_is_a_number(tmp_path, text):
    path = tmp_path / "rate.yaml"
    path.write_text(yaml.safe_dump(MINIMAL).replace("epochs: 2", f"epochs: 2\n  lr: {text}"))
    assert parse.load_config(path).train.lr == 0.001


# Values that contradict each other


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.clip.fps=12.5", "data.clip.stride=2"], ["data.clip", "stride or fps"]),
        (["data.transform.crop=112", "data.transform.short_side=100"], ["data.transform", "crop 112", "100"]),
        (["data.transform.crop=112", "data.transform.jitter=[100, 160]"], ["data.transform", "crop 112", "100"]),
        (["data.transform.jitter=[160, 128]"], ["data.transform", "jitter [160, 128]"]),
        (["train.schedule=step"], ["train", "milestones"]),
        (["train.milestones=[1]"], ["train", "milestones", "schedule=step"]),
        (["train.schedule=step", "train.milestones=[1.5, 1]"], ["train", "milestones", "rise"]),
        (["train.schedule=step", "train.milestones=[1]", "train.warmup=1"], ["train", "milestones", "warm-up"]),
        (["train.warmup=2"], ["train", "warmup 2", "2 epochs"]),
        (["train.warmup=2.5", "train.schedule=onecycle"], ["train", "warmup 2.5", "2 epochs"]),
        (["data.transform.mean=[0, 0]"], ["data.transform.mean: too few values (got [0, 0])"]),
        (["run.name=a/b"], ["run.name", "a/b"]),
        (["run.seed=4294967296"], ["run.seed", "less than 4294967296"]),
        (["data.augment.erasing_area=[0.1, 0.2]"], ["data.augment", "erasing_area", "give erasing too"]),
        (["data.augment.resized_aspect=[0.5, 2]"], ["data.augment", "resized_aspect", "give resized_crop too"]),
        (
            ["data.transform.flip=0", "data.augment.flip_labels=left-right"],
            ["data", "augment.flip_labels", "transform.flip=0"],
        ),
        (["train.schedule=plateau", "train.gamma=1"], ["train", "schedule=plateau", "gamma=1"]),
        (["train.layer_decay=0.7", "train.freeze=all-but-fc"], ["train", "layer_decay", "freeze=all-but-fc"]),
        (["train.freeze=[all-but-fc, stem]"], ["train.freeze", "all-but-fc names all parts", "alone"]),
        (["train.layer_decay=0.7", "train.freeze=[all-but-fc]"], ["train", "layer_decay", "freeze=all-but-fc"]),
        (
            ["train.distill.teacher=runs/a", "train.distill.attention=9", "train.freeze=all-but-fc"],
            ["train", "distill.attention", "freeze=all-but-fc"],
        ),
        (["train.freeze_bn=true", "model.norm=group"], ["train.freeze_bn", "model.norm=group"]),
        (["train.distill.temperature=2"], ["train.distill", "temperature", "teacher"]),
        (["train.distill.teacher=runs/a", "train.distill.weight=0"], ["train.distill", "weight=0", "attention=0"]),
        (["train.ema=0.99", "train.swa=1"], ["train", "ema and swa"]),
        (["train.swa=2"], ["train", "swa=2", "2"]),
        (["train.precise_bn=3", "model.norm=group"], ["train.precise_bn", "model.norm=group"]),
        (["train.precise_bn=3", "train.freeze_bn=true"], ["train.precise_bn", "train.freeze_bn"]),
        (["train.precise_bn=3", "train.freeze=all-but-fc"], ["train.precise_bn", "train.freeze=all-but-fc"]),
        (["watch.activations=true", "trainer.compile=true"], ["watch.activations", "trainer.compile=false"]),
        (["watch.activations=true", "run.autotune=true"], ["watch.activations", "trainer.compile=false"]),
        (["data.balanced=true", "train.class_weights=balanced"], ["data.balanced", "train.class_weights", "give one"]),
    ],
)
def test_contradictory_values_are_refused(tiny, overrides, words):
    message = refusal(tiny, *overrides)
    assert [word for word in words if word not in message] == []
    assert "\n  : " not in message


def test_values_that_only_look_contradictory_are_fine(tiny):
    parse.load_config(tiny, ["data.clip.fps=12.5", "data.clip.stride=1"])
    parse.load_config(tiny, ["data.transform.crop=128"])
    parse.load_config(tiny, ["train.warmup=1.9"])
