"""Configuration: shipped files are right; wrong ones are refused with the key and the nearest existing one."""

import re

import pytest
import torch
import yaml
from torchvision import models

from videores.config import parse, schema
from videores.config.streams import compute_input_shape
from videores.data.streams import add_batch, map_sources
from videores.errors import UserError
from videores.models.registry import create_model

SHIPPED = sorted(path.name for path in parse.CONFIG_DIR.glob("*.yaml"))
MINIMAL = {
    "data": {"name": "tiny", "format": "csv", "root": "videos"},
    "model": {"name": "r3d_18"},
    "train": {"epochs": 2},
}


def write(path, **sections):
    path.write_text(yaml.safe_dump({**MINIMAL, **sections}))
    return path


@pytest.fixture
def tiny(tmp_path):
    return write(tmp_path / "tiny.yaml")


def refusal(path, *overrides):
    with pytest.raises(UserError) as caught:
        parse.load_config(path, overrides)
    return str(caught.value)


# Shipped files


def test_the_configurations_that_the_readme_names_are_shipped():
    names = {f"{model}_{data}.yaml" for model in ("r2plus1d", "r3d", "f_r2d") for data in ("motion", "ucf101")}
    assert names | {"r2plus1d_utinteraction.yaml"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configuration_is_short_takes_its_clips_and_weights_and_survives_a_round_trip(name, tmp_path):
    lines = (parse.CONFIG_DIR / name).read_text().splitlines()
    head = [line for i, line in enumerate(lines) if all(other.startswith("#") for other in lines[: i + 1])]
    assert f"python tools/train.py --cfg {name}" in "\n".join(head)
    assert len(lines) - len(head) <= 30
    assert len(lines) <= 40
    cfg = parse.load_config(name)
    (tmp_path / "resolved.yaml").write_text(parse.to_yaml(cfg))
    assert parse.load_config(tmp_path / "resolved.yaml") == cfg
    with torch.device("meta"):
        model = create_model(cfg.model.name, 7, **cfg.model.overrides())
        clips = map_sources(torch.empty, add_batch(compute_input_shape(cfg.data), 2))
    assert model(clips).shape == (2, 7)
    if (cfg.model.weights or "").startswith("torchvision/"):
        _, network, name = cfg.model.weights.split("/")
        assert name in models.get_model_weights(network).__members__
        with torch.device("meta"):
            assert body_shapes(models.get_model(network)) == body_shapes(model)


def body_shapes(model):
    return {key: value.shape for key, value in model.state_dict().items() if not key.startswith("fc.")}


def test_round_trip_keeps_overridden_lists_and_floats(tiny, tmp_path):
    overrides = ["train.schedule=step", "train.milestones=[0.5, 1]", "data.transform.jitter=[128, 160]"]
    cfg = parse.load_config(tiny, overrides)
    (tmp_path / "resolved.yaml").write_text(parse.to_yaml(cfg))
    again = parse.load_config(tmp_path / "resolved.yaml")
    assert again == cfg
    assert (again.train.milestones, again.data.transform.jitter) == ((0.5, 1.0), (128, 160))


# Overrides


def test_overrides_have_the_types_of_their_keys(tiny):
    for override, value in {
        "train.epochs=7": 7,
        "train.lr=1e-3": 0.001,
        "train.lr=1.0e30": 1e30,
        "run.overwrite=true": True,
        "run.name=a-b": "a-b",
        "run.name=null": None,
        "data.val=none": "none",
        "data.val=0.25": 0.25,
        "model.layers=[1,2]": (1, 2),
        "data.root=/a b/c=d": "/a b/c=d",
        "trainer.devices=auto": "auto",
        "trainer.devices=2": 2,
        "trainer.channels_last=false": False,
    }.items():
        section, key = override.partition("=")[0].split(".")
        result = getattr(getattr(parse.load_config(tiny, [override]), section), key)
        assert (result, type(result)) == (value, type(value))


def test_overrides_merge_sections_replace_lists_and_the_last_one_counts(tmp_path):
    path = write(tmp_path / "lists.yaml", model={"name": "r3d_18", "layers": [1, 1, 1]})
    overrides = ["data.clip.frames=8", "test.clips=3", "train.epochs=3", "train.epochs=4", "model.layers=[2]"]
    cfg = parse.load_config(path, overrides)
    assert (cfg.data.clip.frames, cfg.data.clip.stride, cfg.data.name) == (8, 1, "tiny")
    assert (cfg.test.clips, cfg.val.clips, cfg.train.epochs, cfg.model.layers) == (3, 1, 4, (2,))
    assert parse.load_config(path).test.clips == 10


def test_malformed_overrides_are_named(tiny):
    for text in ("train.epochs", "=3", "train.=3", ".epochs=3", "train..epochs=3", "tr ain.epochs=3"):
        assert repr(text) in refusal(tiny, text)
    assert "model.name.layers=3: name" in refusal(tiny, "model.name.layers=3")
    assert "model.layers=[1," in refusal(tiny, "model.layers=[1,")
    for override in ("model.weights=", "run.name= "):
        assert "=null" in refusal(tiny, override)


@pytest.mark.parametrize(
    "text",
    [
        "1.10",
        "0012",
        "1e3",
        "0x1F",
        "2024_11_28",
        "2024-11-28",
        "12:30:45",
        "a #2",
        "yes",
        "[a",
        "{a",
        "&a",
        "*a",
        "!x",
        "- a",
    ],
)
def test_text_is_taken_letter_by_letter(tmp_path, tiny, text):
    for key in ("run.name", "run.dir", "data.name", "data.root", "data.splits", "model.weights", "watch.wandb"):
        section, name = key.split(".")
        cfg = parse.load_config(tiny, [f"{key}={text}"])
        assert getattr(getattr(cfg, section), name) == text
        (tmp_path / "resolved.yaml").write_text(parse.to_yaml(cfg))
        assert parse.load_config(tmp_path / "resolved.yaml") == cfg


def test_quotes_around_text_are_not_part_of_it(tiny):
    for text, value in (("'1.10'", "1.10"), ('"null"', "null"), ("'", "'"), ("a'b'", "a'b'")):
        assert parse.load_config(tiny, [f"run.name={text}"]).run.name == value


@pytest.mark.parametrize("text", ["1.10", "0012", "1e3", "2024_11_28", "2024-11-28", "12:30:45", "yes", "!!float 1.10"])
def test_plain_text_in_a_file_is_no_number(tmp_path, text):
    path = tmp_path / "plain.yaml"
    flip = f"  transform: {{flip: 0.5}}\n  augment: {{flip_labels: {{{text}: {text}, a: null}}}}\n"
    path.write_text(
        yaml.safe_dump(MINIMAL).replace("  name: tiny\n", f"  name: {text}\n{flip}") + f"run:\n  name: {text}\n"
    )
    cfg, text = parse.load_config(path), text.removeprefix("!!float ")
    assert (cfg.run.name, cfg.data.name, cfg.data.augment.flip_labels) == (text, text, {text: text, "a": None})


def test_home_is_expanded_in_paths(tiny, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    overrides = (
        "run.dir=~/x",
        "data.root=~",
        "data.splits=~/s",
        "model.weights=vmz:~/w.pth",
        "train.distill.teacher=~/r",
    )
    cfg = parse.load_config(tiny, [*overrides, "run.name=~x"])
    assert (cfg.run.dir, cfg.data.root, cfg.data.splits) == ("/home/me/x", "/home/me", "/home/me/s")
    assert (cfg.model.weights, cfg.train.distill.teacher) == ("vmz:/home/me/w.pth", "/home/me/r")
    assert cfg.run.name == "~x"


# Damaged files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train:\n  epochs: 3\n", ("train ", "line 7", "line 9")),
        ("run: {name: a, seed: 1, name: b}\n", ("name ", "line 9", "line 9")),
        ("run:\n  name: a\n  'name': b\n", ("name ", "line 10", "line 11")),
        ("1: a\n1: b\n", ("1 ", "line 9", "line 10")),
    ],
)
def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path, text, words):
    path = write(tmp_path / "twice.yaml")
    path.write_text(path.read_text() + text)
    message = refusal(path)
    assert all(word in message for word in words)


def test_a_key_that_an_override_gives_twice_is_named(tiny):
    assert "left must stand once" in refusal(tiny, "data.augment.flip_labels={left: right, left: up}")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
        "run: &a [*a]\n",
        "run: &a {name: *a}\n",
        "run: " + "[" * 5000 + "]" * 5000,
        "run: " + "{a: " * 5000 + "}" * 5000,
        "train: 2024-13-45\n",
        "train: {epochs: " + "9" * 5000 + "}\n",
    ],
)
def test_a_file_that_unfolds_or_has_no_value_is_refused_at_once(tmp_path, text):
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    message = refusal(path)
    assert str(path) in message
    assert len(message) < 2000


def test_aliases_are_read(tmp_path):
    path = tmp_path / "alias.yaml"
    path.write_text(yaml.safe_dump(MINIMAL) + "val: &views {clips: 2, fusion: max}\ntest:\n  <<: *views\n  clips: 3\n")
    cfg = parse.load_config(path)
    assert (cfg.val.clips, cfg.test.clips, cfg.test.fusion) == (2, 3, "max")
    flips = "data:\n  augment: {flip_labels: {<<: {a: b}, c: d}}\n"
    path.write_text(yaml.safe_dump({**MINIMAL, "data": None}).replace("data: null\n", "") + flips)
    assert parse.read_yaml(path, schema.Config)["data"]["augment"]["flip_labels"] == {"a": "b", "c": "d"}


# Unknown keys and wrong types


def test_a_list_without_brackets_and_a_long_value_are_told(tiny):
    for override in (
        "train.milestones=1,2",
        "model.layers=2,2,2",
        "data.transform.jitter=128,160",
        "train.freeze=[a,[b]]",
    ):
        key, _, text = override.partition("=")
        assert text.startswith("[") or f"{key}=[{text}]" in refusal(tiny, override)
    assert len(refusal(tiny, "train.epochs=" + "a" * 5000)) < 400
    assert len(refusal(tiny, "data.augment.flip_labels=" + "[" * 5000)) < 400
    assert parse.load_config(tiny, ["train.epochs=1e1"]).train.epochs == 10


def test_unknown_key_names_the_nearest(tiny):
    for wrong, near in {
        "trian=3": "train",
        "train.epoch=3": "epochs",
        "data.clip.frame=8": "frames",
        "test.fuson=logit-mean": "fusion",
        "epochs=3": "train.epochs",
        "train.workers=2": "data.workers",
        "data.clips=3": "clip or val.clips or test.clips",
    }.items():
        message = refusal(tiny, wrong)
        assert f"  {wrong.partition('=')[0]}: " in message
        assert f"did you mean {near}?" in message


def test_unknown_key_lists_the_keys_of_its_section(tiny):
    message = refusal(tiny, "data.clip.zzz=8")
    assert "did you mean" not in message
    assert "data.clip has frames, stride, fps, short" in message


def test_unknown_key_in_a_list_of_sections_names_the_nearest():
    class Row(schema.Section):
        kind: str

    class Table(schema.Section):
        rows: tuple[Row, ...] = ()
        named: dict[str, Row] = {}  # noqa: RUF012 (pydantic copies it)

    with pytest.raises(UserError) as caught:
        parse.build_section(Table, {"rows": [{"kind": "a"}, {"knd": "b"}], "named": {"x": {"kind": 3, "y": 4}}}, "t")
    lines = str(caught.value).splitlines()
    assert lines[0] == "t:"
    assert {line.partition(":")[0] for line in lines[1:]} == {"  rows.1.kind", "  rows.1.knd", "  named.x.y"}
    assert sum("did you mean kind?" in line for line in lines) == 1


def test_wrong_value_names_its_key_and_shows_it(tiny):
    for override in (
        *("train.epochs=many", "train.epochs=2.5", "train.epochs=0", "train.lr=fast", "train.lr=-1", "train.lr=null"),
        *("train.optimizer=rmsprop", "data.batch_size=0", "data.workers=-1", "data.val=half", "data.val=2"),
        *("data.split=6", "data.clip.short=mirror", "data.transform.mean=[1, 2]", "data=3", "model.layers=[1, x]"),
        *("model.dropout=1", "run.overwrite=perhaps", "run.seed=-1", "run.seed=4294967296", "run.name=a/b"),
        *("test.crops=2", "trainer.devices=0", "trainer.precision=fp8", "data.transform.jitter=[160, 128]"),
        *("data.augment.speed=[2, 1]", "train.freeze=[all-but-fc, stem]", "train.swa=-1", "train.ema=1"),
    ):
        key, _, value = override.partition("=")
        message = refusal(tiny, override)
        assert re.search(rf"^  {key}: .*got ", message, re.MULTILINE), message
        assert value.strip("[]").split(", ")[-1] in message or value == "null"
        assert "pydantic" not in message


def test_every_wrong_key_is_reported_at_once(tiny):
    message = refusal(tiny, "train.epoch=3", "data.workers=x", "test.crops=2")
    assert all(key in message for key in ("train.epoch:", "data.workers:", "test.crops:"))


def test_missing_key_is_named(tmp_path):
    assert "train.epochs: missing" in refusal(write(tmp_path / "short.yaml", train={}))


def test_a_configuration_cannot_be_changed_after_it_was_checked(tiny):
    with pytest.raises(ValueError, match="frozen"):
        parse.load_config(tiny).train.epochs = 3


# Files


def test_missing_file_names_the_shipped_ones():
    message = refusal("r2plus1d_moton.yaml")
    assert "did you mean r2plus1d_motion.yaml?" in message
    assert all(name in message for name in SHIPPED)


def test_the_suffix_of_a_file_may_be_left_out(tiny):
    for name in (tiny, parse.CONFIG_DIR / "r3d_motion.yaml", "r3d_motion.yaml"):
        assert parse.load_config(str(name).removesuffix(".yaml")) == parse.load_config(name)


def test_a_mistake_is_blamed_on_its_source(tmp_path):
    path = write(tmp_path / "own.yaml", train={"epochs": "many"})
    message = refusal(path, "data.workers=x", "test.crops=2")
    sources = dict(part.split(":\n", 1) for part in re.split(r"\n(?! )", message))
    assert list(sources) == ["command line", str(path)]
    assert "train.epochs" in sources[str(path)]
    assert all(key in sources["command line"] for key in ("data.workers", "test.crops"))


def test_unusable_files_are_named(tmp_path):
    path = tmp_path / "broken.yaml"
    for content in (b"data: [1, 2", b"a: b: c", b"\t- x", b"", b"- a\n- b\n", b"words\n", bytes(range(128, 256))):
        path.write_bytes(content)
        assert "broken.yaml" in refusal(path)


def test_scientific_notation_that_yaml_reads_as_a_string_is_a_number(tmp_path):
    path = tmp_path / "rate.yaml"
    for text in ("1e-3", "1E-3", "1.e-3", "0.001", "1.0e-3", "'1e-3'"):
        path.write_text(yaml.safe_dump(MINIMAL).replace("epochs: 2", f"epochs: 2\n  lr: {text}"))
        assert parse.load_config(path).train.lr == 0.001


# Values that contradict each other


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ("data.clip.fps=12.5 data.clip.stride=2", "data.clip.stride data.clip.fps"),
        ("data.clip.sampling=segments data.clip.stride=2", "data.clip.sampling data.clip.stride"),
        ("data.clip.sampling=segments data.clip.fps=2", "data.clip.sampling fps"),
        ("data.clip.sampling=segments data.clip.short=last", "data.clip.sampling short"),
        ("data.clip.sampling=segments data.augment.speed=[1,2]", "data.clip.sampling data.augment.speed"),
        ("data.clip.sampling=segments test.clips=all", "data.clip.sampling test.clips"),
        ("data.clip.sampling=segments val.starts=dense", "data.clip.sampling val.starts"),
        ("test.clips=all test.starts=dense", "test.clips test.starts"),
        ("data.transform.crop=112 data.transform.short_side=111", "data.transform.crop short_side 111"),
        ("data.transform.crop=112 data.transform.jitter=[111,160]", "data.transform.crop jitter 111"),
        ("data.augment.resized_crop=[0.5,1] data.transform.jitter=[128,160]", "data.transform.jitter resized_crop"),
        ("data.augment.multi_scale=[1,0.5] data.transform.jitter=[128,160]", "data.transform.jitter multi_scale"),
        ("data.augment.multi_scale=[1] data.augment.resized_crop=[0.5,1]", "data.augment.resized_crop multi_scale"),
        ("data.augment.multi_scale=[]", "data.augment.multi_scale"),
        ("data.augment.erasing_area=[0.1,0.2]", "data.augment.erasing_area data.augment.erasing"),
        ("data.augment.resized_aspect=[0.5,2]", "data.augment.resized_aspect data.augment.resized_crop"),
        ("data.augment.randaugment=[2,9] data.augment.trivialaugment=true", "randaugment trivialaugment"),
        ("data.transform.flip=0 data.augment.flip_labels=left-right", "data.augment.flip_labels data.transform.flip"),
        ("data.augment.mixup=0.2 data.batch_size=1", "data.augment.mixup data.batch_size"),
        ("data.augment.cutmix=1 data.batch_size=1", "cutmix data.batch_size"),
        ("model.inflate=mean", "model inflate model.weights"),
        ("model.head=new", "model head model.weights"),
        ("model.frames=8", "model.frames data.clip.frames 16 8"),
        ("train.schedule=step", "train.milestones train.schedule"),
        ("train.milestones=[1]", "train.milestones train.schedule"),
        ("train.schedule=step train.milestones=[1.5,1]", "train.milestones 1.5"),
        ("train.schedule=step train.milestones=[1] train.warmup=1", "train.milestones train.warmup"),
        ("train.warmup=2", "train.warmup train.epochs 2"),
        ("train.warmup=2.5 train.schedule=onecycle", "train.warmup train.epochs 2.5"),
        ("train.schedule=plateau train.gamma=1", "train.gamma train.schedule=plateau"),
        ("train.layer_decay=0.7 train.freeze=all-but-fc", "train.layer_decay train.freeze=all-but-fc"),
        ("train.layer_decay=0.7 train.freeze=[all-but-fc]", "train.layer_decay train.freeze=all-but-fc"),
        (
            "train.distill.teacher=runs/a train.distill.attention=9 train.freeze=all-but-fc",
            "train.distill.attention train.freeze=all-but-fc",
        ),
        ("train.distill.temperature=2", "train.distill.temperature train.distill.teacher"),
        ("train.distill.teacher=runs/a train.distill.weight=0", "train.distill weight=0 attention=0"),
        ("train.ema=0.99 train.swa=1", "train.ema train.swa"),
        ("train.swa=2", "train.swa train.epochs 2"),
        ("train.freeze_bn=true model.norm=group", "train.freeze_bn model.norm=group"),
        ("train.precise_bn=3 model.norm=group", "train.precise_bn model.norm=group"),
        ("train.precise_bn=3 model.norm=frozen", "train.precise_bn model.norm=frozen"),
        ("train.precise_bn=3 train.freeze_bn=true", "train.precise_bn train.freeze_bn"),
        ("train.precise_bn=3 train.freeze=all-but-fc", "train.precise_bn train.freeze=all-but-fc"),
        ("watch.activations=true trainer.compile=true", "watch.activations trainer.compile=false"),
        ("watch.activations=true run.autotune=true", "watch.activations trainer.compile=false"),
        ("data.balanced=true train.class_weights=balanced", "data.balanced train.class_weights"),
        ("data.pretext=transformations data.clip.sampling=segments", "data.pretext data.clip.sampling"),
        ("data.pretext=transformations data.clip.frames=3", "data.pretext data.clip.frames 4"),
        ("data.pretext=order data.clip.frames=16", "data.pretext data.clip.frames 16 15"),
        ("data.pretext=transformations data.augment.speed=[0.5,2]", "data.pretext data.augment.speed"),
        ("data.pretext=transformations data.augment.flip_axes=[depth]", "data.pretext data.augment.flip_axes"),
        ("data.pretext=transformations data.augment.flip_labels=left-right", "data.pretext data.augment.flip_labels"),
        ("data.pretext=transformations data.stream=flow", "data.pretext data.stream=flow"),
        ("data.pretext=transformations data.balanced=true", "data.pretext data.balanced"),
        ("data.pretext=transformations train.class_weights=balanced", "data.pretext train.class_weights"),
        ("train.contrast=0.1 data.clip.repeat=2 data.augment.cutmix=1", "train.contrast data.augment"),
        ("data.pretext=transformations test.clips=all", "data.pretext test.clips"),
        ("train.contrast=0.5", "train.contrast data.clip.repeat"),
        ("train.contrast=0.5 data.clip.repeat=2 data.batch_size=1", "train.contrast data.batch_size"),
        ("train.contrast=0.6 data.clip.repeat=2 train.reconstruct=0.6", "train.contrast train.reconstruct"),
        ("train.mask=0.5", "train.mask train.reconstruct"),
    ],
)
def test_contradictory_values_are_refused_by_their_keys(tiny, overrides, keys):
    lines = refusal(tiny, *overrides.split()).splitlines()[1:]
    assert [key for key in keys.split() if key not in lines[0]] == []
    assert len(lines) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        "data.clip.fps=12.5 data.clip.stride=1",
        "data.transform.crop=128",
        "data.transform.crop=112 data.transform.jitter=[112,112]",
        "data.augment.erasing_area=[0.1,0.2] data.augment.erasing=0.5",
        "data.augment.mixup=0.2 data.batch_size=1 data.clip.repeat=2",
        "data.clip.sampling=segments test.clips=2",
        "test.clips=3 test.starts=dense",
        "model.inflate=mean model.head=new model.weights=a.ckpt",
        "model.frames=16",
        "train.warmup=1.9",
        "train.swa=1",
        "train.schedule=step train.milestones=[1,1.5] train.warmup=0.9",
        "train.schedule=plateau train.gamma=0.9",
        "train.distill.teacher=runs/a train.distill.weight=0 train.distill.attention=1",
        "train.freeze_bn=true model.norm=frozen",
        "watch.activations=true run.autotune=true trainer.compile=false",
    ],
)
def test_values_at_the_limits_are_accepted(tiny, overrides):
    parse.load_config(tiny, overrides.split())
