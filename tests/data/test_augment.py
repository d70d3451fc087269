"""Augmentation: each transform by itself, all of them in the loader, in pairs, and in a training that is resumed."""

import itertools
import logging
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers.videos import read_numbers, write_csv, write_ucf101
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from videores.config import parse
from videores.config.schema import AugmentConfig, DataConfig, ViewsConfig
from videores.data import augment as augmenting
from videores.data import datamodule, mirroring
from videores.data.datamodule import VideoData, load_videos
from videores.errors import UserError
from videores.evaluation import protocol
from videores.training.module import VideoClassifier

WORKER = {  # what runs in the worker on pixels
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "grey": 0.5,
    "rotation": 20,
    "randaugment": (2, 9),
    "trivialaugment": True,
    "erasing": 0.7,
    "flip_axes": ("height",),
}
PLACE = {"speed": (0.5, 2), "resized_crop": (0.2, 1), "multi_scale": (1, 0.875, 0.75, 0.66)}
DEVICE = {"hue": 0.2, "gain": (0.5, 1.5), "mixup": 0.8, "cutmix": 1.0}
ALL = {**WORKER, **PLACE, **DEVICE, "flip_labels": {"Run": "Walk"}}
EXCLUDE = [{"randaugment", "trivialaugment"}, {"resized_crop", "multi_scale"}]
MOST = {key: value for key, value in ALL.items() if key not in ("trivialaugment", "multi_scale")}
FILL = [110, 101, 96]


def picture(frames=3, height=40, width=40, seed=0):
    """A smooth moving picture, uint8 T H W C."""
    noise = torch.rand(frames, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = F.resize(noise, [height, width], interpolation=F.InterpolationMode.BICUBIC, antialias=True)
    return (smooth.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).contiguous()


def augmented(clip, seed=0, **keys):
    return augmenting.augment_clip(clip, AugmentConfig(**keys), FILL, np.random.default_rng(seed))


def is_uniform(values, low, high):
    """Kolmogorov-Smirnov, at a thousandth."""
    share = (np.sort(values) - low) / (high - low)
    return np.abs(share - np.linspace(0, 1, len(share))).max() < 1.95 / np.sqrt(len(share))


def tchw(clip):
    return clip.permute(0, 3, 1, 2)


# -- one clip ---------------------------------------------------------------------------------------------------------

SINGLE = [{key: value} for key, value in WORKER.items()]
TOGETHER = [{key: value for key, value in WORKER.items() if key != no} for no in ("randaugment", "trivialaugment")]


@pytest.mark.parametrize("keys", [*SINGLE, *TOGETHER], ids=lambda keys: "+".join(keys))
def test_all_frames_of_a_clip_are_treated_alike(keys):
    still, moving, changed = picture(1).expand(4, -1, -1, -1), picture(4), 0
    for seed in range(25):
        clip = augmented(still, seed, **keys)
        assert (clip.shape, clip.dtype, clip.is_contiguous()) == (still.shape, torch.uint8, True)
        assert (clip == clip[:1]).all()
        whole = augmented(moving, seed, **keys)
        for t in (0, 3):
            assert torch.equal(whole[t : t + 1], augmented(moving[t : t + 1], seed, **keys))
        changed += not torch.equal(clip, still)
    assert changed >= 8


@pytest.mark.parametrize("keys", [*SINGLE, *TOGETHER], ids=lambda keys: "+".join(keys))
def test_a_clip_follows_its_generator_and_leaves_everything_else_alone(keys):
    clip, before = picture(), torch.get_rng_state()
    one = augmented(clip, 5, **keys)
    torch.rand(3)
    assert torch.equal(augmented(clip, 5, **keys), one)
    assert any(not torch.equal(augmented(clip, seed, **keys), one) for seed in range(6, 20))
    assert torch.equal(clip, picture())
    torch.set_rng_state(before)
    augmented(clip, 5, **keys)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_is_done_by_default():
    clip = picture()
    assert augmented(clip).data_ptr() == clip.data_ptr()
    assert torch.equal(augmented(clip), picture())


@pytest.mark.parametrize(
    ("key", "adjust"),
    [("brightness", F.adjust_brightness), ("contrast", F.adjust_contrast), ("saturation", F.adjust_saturation)],
)
@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_colours_are_adjusted_by_a_factor_around_one(monkeypatch, key, adjust, strength):
    factors = []
    monkeypatch.setattr(F, adjust.__name__, lambda clip, factor: factors.append(factor) or adjust(clip, factor))
    for seed in range(300):
        clip = augmented(picture(1), seed, **{key: strength})
        assert torch.equal(clip, adjust(tchw(picture(1)), factors[-1]).permute(0, 2, 3, 1))
    assert is_uniform(factors, max(0, 1 - strength), 1 + strength)


def test_colours_are_adjusted_in_every_order(monkeypatch):
    orders, names = [], ["adjust_brightness", "adjust_contrast", "adjust_saturation"]
    for name in names:
        monkeypatch.setattr(F, name, lambda clip, factor, name=name: orders[-1].append(name) or clip)
    for seed in range(100):
        orders.append([])
        augmented(picture(1), seed, brightness=0.1, contrast=0.1, saturation=0.1)
    assert set(map(tuple, orders)) == set(itertools.permutations(names))


def test_grey_clips_are_grey_and_as_many_as_asked():
    grey = 0
    for seed in range(300):
        clip = augmented(picture(2), seed, grey=0.3)
        grey += torch.equal(clip, F.rgb_to_grayscale(tchw(picture(2)), 3).permute(0, 2, 3, 1))
        assert grey or torch.equal(clip, picture(2))
    assert 65 < grey < 115


def test_rotation_turns_about_the_centre_by_up_to_the_angle(monkeypatch):
    angles, rotate = [], F.rotate
    monkeypatch.setattr(F, "rotate", lambda clip, angle, *a, **k: angles.append(angle) or rotate(clip, angle, *a, **k))
    clip = torch.full((2, 41, 41, 3), 200, dtype=torch.uint8)
    clip[:, 20, 20] = 0
    for seed in range(200):
        turned = augmented(clip, seed, rotation=30)
        assert (turned[:, 20, 20] == 0).all()
    assert is_uniform(angles, -30, 30)
    most = int(np.argmax(np.abs(angles)))
    assert augmented(clip, most, rotation=30)[0, 0, 0].tolist() == FILL  # what comes in from outside


@pytest.mark.parametrize(
    ("keys", "theirs"),
    [
        (dict(randaugment=(2, 9)), v2.RandAugment(2, 9, fill=FILL)),
        (dict(randaugment=(3, 30)), v2.RandAugment(3, 30, fill=FILL)),
        (dict(trivialaugment=True), v2.TrivialAugmentWide(fill=FILL)),
    ],
)
def test_random_policies_are_torchvisions(keys, theirs):
    for seed in range(20):
        clip = augmented(picture(2), seed, **keys)
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.default_rng(seed).integers(2**63)))
            assert torch.equal(clip, theirs(tchw(picture(2))).permute(0, 2, 3, 1))


def test_erasing_fills_one_box_through_all_frames_with_the_same_noise():
    areas, clip = [], torch.zeros(3, 60, 80, 3, dtype=torch.uint8)
    for seed in range(400):
        after = augmented(clip, seed, erasing=0.5, erasing_area=(0.05, 0.3))
        assert (after == after[:1]).all()
        filled = (after[0] != 0).any(-1)
        rows, columns = filled.any(1), filled.any(0)
        box = filled[rows][:, columns]
        assert box.float().mean() > 0.9 if filled.any() else True  # noise is 0 in a few of its pixels
        areas.append(box.numel() / filled.numel())
    erased = np.array(areas)[np.array(areas) > 0]
    assert 160 < len(erased) < 240
    assert 0.04 < erased.min() < 0.09
    assert 0.25 < erased.max() < 0.32
    noise = after_erasing_all()
    assert abs(noise.float().mean() - 127.5) < 3
    assert {0, 255} <= set(noise.flatten().tolist())


def after_erasing_all():
    return augmenting.erase_box(torch.zeros(1, 60, 60, 3, dtype=torch.uint8), (1, 1), Whole())


class Whole:
    """A generator whose boxes are the whole picture."""

    integers = np.random.default_rng(0).integers

    @staticmethod
    def uniform(low, high):
        return (low + high) / 2


# -- flips ------------------------------------------------------------------------------------------------------------

CLASSES = ("turn left", "jump", "turn right", "point left")


def test_flip_rules_become_labels():
    assert mirroring.make_flip_map("none", CLASSES) == (0, 1, 2, 3)
    assert mirroring.make_flip_map("left-right", CLASSES) == (2, 1, 0, -1)
    assert mirroring.make_flip_map({"turn left": "turn right", "jump": None}, CLASSES) == (2, -1, 0, 3)
    assert mirroring.make_flip_map({"turn left": "turn right", "turn right": "turn left"}, CLASSES) == (2, 1, 0, 3)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"turn leff": "turn right"}, r"no class 'turn leff' \(did you mean turn left\?\)"),
        ({"turn left": "turn rigth"}, r"no class 'turn rigth' \(did you mean turn right\?\)"),
        (
            {"turn left": "turn right", "turn right": "jump"},
            "turn right .* turn left and jump",
        ),
        (
            {"turn left": "turn right", "jump": "turn right"},
            "turn right .* jump and turn left",
        ),
        ({"turn left": "turn right", "turn right": None}, "turn right .* turn left and None"),
    ],
)
def test_flip_rules_that_make_no_sense_are_refused(rule, message):
    with pytest.raises(UserError, match=rf"data\.augment\.flip_labels: .*{message}"):
        mirroring.make_flip_map(rule, CLASSES)


def test_unknown_classes_of_a_flip_rule_are_refused_before_a_run_begins(tiny):
    with pytest.raises(UserError, match=r"no class 'Rum' \(did you mean Run\?\)"):
        load_videos(data_config(tiny, augment=dict(flip_labels={"Rum": "Walk"})))


# -- the loader -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """8 training and 4 test videos of 12 frames, 64 x 48, MPEG-4 in AVI; classes Run and Walk."""
    return write_ucf101(tmp_path_factory.mktemp("tiny"), width=64)


def data_config(values, **more):
    usual = dict(val="none", batch_size=4, workers=0, clip=dict(frames=4), transform=dict(short_side=40, crop=32))
    return DataConfig(**{**values, **usual, **more})


def module(values, **more):
    data = data_config(values, **more)
    return VideoData(data, load_videos(data), val=ViewsConfig(), test=ViewsConfig(), seed=0)


def batches(dm, passes=1):
    loader = dm.train_dataloader()
    found = []
    for epoch in range(passes):
        loader.batch_sampler.position = lambda epoch=epoch: (epoch, 0)
        found += loader
    return found


def same(one, other):
    """Whether two batches, or what they consist of, are equal."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2])
def test_augmented_batches_do_not_depend_on_the_number_of_workers(tiny, workers):
    clip = dict(frames=4, repeat=2)
    alone, helped = (batches(module(tiny, clip=clip, augment=MOST, workers=w), 2) for w in (0, workers))
    assert len(alone) == len(helped) == 4
    assert all(same(one, other) for one, other in zip(alone, helped, strict=True))
    assert not any(same(alone[0], other) for other in alone[1:])
    assert {"clips", "label", "video", "hue", "gain", "mix"} == set(alone[0])


def test_a_flip_swaps_the_label(tiny):
    """Frame numbers are drawn on a grid of 4 x 4 blocks: a mirrored grid shows another number."""
    size = dict(short_side=48, crop=48, flip=0.5)
    dm = module(tiny, clip=dict(frames=4, repeat=4), transform=size, augment=dict(flip_labels={"Run": "Walk"}))
    dataset, seen = dm.dataset("train"), set()
    for e, number in itertools.product(range(10), (0, 7)):
        item, own = dataset[e, number], dataset.videos[number].label
        assert item["label"].shape == (4,)
        for view, (clip, label) in enumerate(zip(item["clips"], item["label"].tolist(), strict=True)):
            flipped = dataset.draw(e, number, view).flip
            assert label == (1 - own if flipped else own)
            box = dataset.draw(e, number, view).box
            if box[1] == 8:  # the middle of 64 columns, where the grid is cut evenly
                read_numbers(clip.flip(2) if flipped else clip)
            seen.add((own, flipped))
    assert seen == {(0, False), (0, True), (1, False), (1, True)}
    batch = next(iter(dm.train_dataloader()))
    assert batch["label"].shape == (4, 4)


def test_a_class_that_must_not_be_flipped_is_not(tiny):
    augment = dict(flip_labels={"Run": None})
    dataset = module(tiny, transform=dict(short_side=40, crop=32, flip=1.0), augment=augment).dataset("train")
    plain = module(tiny, transform=dict(short_side=40, crop=32, flip=0.0)).dataset("train")
    for number, video in enumerate(dataset.videos):
        clip, unflipped = dataset[0, number]["clips"], plain[0, number]["clips"]
        assert torch.equal(clip, unflipped if video.label == 0 else unflipped.flip(3))
        assert dataset[0, number]["label"].tolist() == [video.label]


@pytest.mark.parametrize("key", [*WORKER, *DEVICE, "speed", "flip_labels"])
def test_what_changes_the_look_leaves_the_place_as_it_was(tiny, key):
    plain, changed = (module(tiny, augment=keys).dataset("train") for keys in ({}, {key: ALL[key]}))
    for number in range(8):
        one, other = plain.draw(0, number, 0), changed.draw(0, number, 0)
        assert (one.box, one.flip) == (other.box, other.flip)
        assert key == "speed" or (one.index_T == other.index_T).all()


def test_a_clip_that_shows_frames_twice_is_augmented_like_any(tiny):
    """A video shorter than the clip: the work is done once for each of its frames."""
    keys = {key: value for key, value in MOST.items() if key in WORKER}
    dataset = module(tiny, clip=dict(frames=20), augment=keys).dataset("train")
    clip = dataset[0, 3]["clips"][0]
    assert torch.equal(clip[12:], clip[:8])
    assert not torch.equal(clip[:8], clip[4:12])


def test_validation_and_test_never_see_augmentation(tiny):
    plain, most = (module(tiny, val=0.5, augment=keys) for keys in ({}, MOST))
    for make in ("val_dataloader", "test_dataloader"):
        for one, other in zip(getattr(plain, make)(), getattr(most, make)(), strict=True):
            assert one.keys() == other.keys() == {"frames", "place", "video", "label", "unreadable"}
            for key in ("frames", "place"):
                assert all(map(torch.equal, one[key], other[key]))
            assert plain.on_after_batch_transfer(one, 0) is one
            assert most.on_after_batch_transfer(other, 0) is other
    assert not same(batches(plain)[0], batches(most)[0])


PAIRS = list(itertools.combinations(ALL, 2))


@pytest.mark.parametrize("clip", [dict(frames=4), dict(frames=4, repeat=2)], ids=["one", "repeated"])
def test_every_pair_runs_together(tiny, clip):
    dm = module(tiny, clip=clip)
    allowed = [{one: ALL[one], other: ALL[other]} for one, other in PAIRS if {one, other} not in EXCLUDE]
    for keys in [*allowed, MOST]:
        data = data_config(tiny, clip=clip, augment=keys)
        other = VideoData(data, dm.videos, val=ViewsConfig(), test=ViewsConfig())
        batch = other.on_after_batch_transfer(next(iter(other.train_dataloader())), 0)
        views = clip.get("repeat", 1)
        assert batch["clips"].shape == (4, views, 3, 4, 32, 32)
        assert batch["clips"].isfinite().all()
        assert batch["clips"].stride(2) == 1  # channels stay innermost in memory
        assert 5e-3 < batch["clips"].std() < 5
        shape = (4, views, 2) if data.augment.has_mixing else (4, views) if "flip_labels" in keys else (4,)
        assert batch["label"].shape == shape


@pytest.mark.parametrize("pair", [sorted(pair) for pair in EXCLUDE], ids="+".join)
def test_pairs_that_both_choose_the_same_are_refused_with_the_reason(tiny, pair):
    with pytest.raises(ValueError, match="both choose the"):
        data_config(tiny, augment={key: ALL[key] for key in pair})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            dict(augment=dict(resized_crop=(0.2, 1)), transform=dict(jitter=(128, 160))),
            "jitter.*resized_crop",
        ),
        (
            dict(augment=dict(multi_scale=(1, 0.75)), transform=dict(jitter=(128, 160))),
            "jitter.*multi_scale",
        ),
        (dict(augment=dict(speed=(1, 2)), clip=dict(sampling="segments")), "augment.speed"),
        (dict(augment=dict(mixup=0.2), batch_size=1), "batch_size"),
        (dict(augment=dict(cutmix=1), batch_size=1), "batch_size"),
        (dict(augment=dict(speed=(2, 1))), "smallest, largest"),
        (dict(augment=dict(resized_crop=(0.2, 1.5))), "less than or equal to 1"),
        (dict(augment=dict(multi_scale=())), "multi_scale"),
        (dict(augment=dict(randaugment=(2, 31))), "less than or equal to 30"),
        (dict(augment=dict(hue=0.6)), r"less than or equal to 0\.5"),
        (dict(clip=dict(sampling="segments", stride=2)), "stride"),
        (dict(clip=dict(sampling="segments", fps=10)), "stride"),
    ],
)
def test_keys_that_contradict_each_other_are_refused_with_the_reason(keys, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(name="x", format="folder", root="x", **keys)


@pytest.mark.parametrize("value", ["leftright", "[a, b]"])
def test_a_flip_rule_of_another_kind_is_refused_with_its_key(value):
    with pytest.raises(UserError, match=r"data\.augment\.flip_labels.*'left-right'"):
        parse.load_config("r2plus1d_ucf101.yaml", [f"data.augment.flip_labels={value}"])


def test_every_key_is_in_the_docs():
    page = Path(__file__).parents[2].joinpath("docs", "guide", "augmentation.md").read_text()
    assert [
        key for key in AugmentConfig.model_fields if f"`data.augment.{key}`" not in page and f"`{key}`" not in page
    ] == []


def test_the_protocol_says_that_clips_are_segments():
    cfg = parse.load_config("r2plus1d_ucf101.yaml", ["data.clip={frames: 8, sampling: segments}"])
    assert protocol.format_protocol(cfg).startswith("8xsegments@112/128 ")


def test_two_clips_of_one_video_can_be_mixed(tiny):
    assert data_config(tiny, batch_size=1, clip=dict(frames=4, repeat=2), augment=dict(mixup=0.2))


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Eight training videos and a test video of three classes, two of which a flip swaps."""
    folder = tmp_path_factory.mktemp("videos")
    train = [(f"t{i}.mp4", ("left", "right", "up")[i % 3], f"g{i}") for i in range(8)]
    write_csv(folder, {"train": train, "test": [("e.mp4", "up", "h")]}, height=32, width=40)
    return folder


def training_config(place, epochs, workers=0, augment=None, **clip):
    data = dict(name="tiny", format="csv", root=str(place), val="none", batch_size=4, workers=workers)
    data |= dict(clip=dict(frames=8, **clip), transform=dict(short_side=28, crop=24), augment=augment or {})
    model = dict(name="r3d_18", layers=[1], width=8, stem="small", dropout=0.2)
    train = dict(epochs=epochs, lr=0.01, schedule="constant", label_smoothing=0.1)
    return parse.build_config(dict(data=data, model=model, train=train), "test")


class Watch(pl.Callback):
    def __init__(self):
        self.losses, self.hits = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))
        self.hits.append(float(outputs["hits"]))


def fit(cfg, checkpoint=None):
    """(task, trainer, what was watched) after training, from a checkpoint's epoch on if one is given."""
    torch.manual_seed(cfg.run.seed)
    videos, watch = datamodule.load_videos(cfg.data), Watch()
    task = VideoClassifier(cfg, videos.index.classes)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=cfg.train.epochs, callbacks=[watch], use_distributed_sampler=False, **quiet
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = VideoData.from_config(cfg, videos)
        trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return task, trainer, watch


EVERYTHING = {**MOST, "flip_labels": "left-right"}


@pytest.fixture(scope="module")
def whole(place):
    return fit(training_config(place, 3, augment=EVERYTHING, repeat=2))


def weights(task):
    return torch.cat([value.flatten().double() for value in task.state_dict().values()])


def test_training_with_everything_on_runs(whole):
    task, trainer, watch = whole
    assert trainer.global_step == len(watch.losses) == 6
    assert np.isfinite(watch.losses).all()
    assert all(0 <= hits <= 1 for hits in watch.hits)
    assert weights(task).isfinite().all()


@pytest.mark.parametrize("workers", [0, 2])
def test_training_with_everything_on_resumes_bit_for_bit(place, whole, tmp_path, workers):
    _, trainer, before = fit(training_config(place, 1, workers, EVERYTHING, repeat=2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    task, _, after = fit(training_config(place, 3, workers, EVERYTHING, repeat=2), tmp_path / "last.ckpt")
    assert before.losses + after.losses == whole[2].losses
    assert torch.equal(weights(task), weights(whole[0]))


def test_training_sees_the_clips_of_a_repeat_as_one_batch(place):
    """Batch normalisation takes its statistics over all of them: one forward pass."""
    sizes = []
    original = VideoClassifier.setup
    with pytest.MonkeyPatch.context() as patch:

        def setup(self, stage):
            original(self, stage)
            self.model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))

        patch.setattr(VideoClassifier, "setup", setup)
        fit(training_config(place, 1, repeat=3))
    assert sizes == [12, 12]


def test_a_hit_is_of_the_heavier_class(place):
    cfg = training_config(place, 1)
    task = VideoClassifier(cfg, ["a", "b", "c"])
    task.log = lambda *args, **keys: None
    task.model = torch.nn.Module()
    task.model.forward = lambda clips: torch.eye(3)[[0, 1, 2, 2]]
    label = torch.tensor([[0.7, 0.3, 0], [0.6, 0.4, 0], [0.1, 0.3, 0.6], [0, 0.6, 0.4]])[:, None]
    assert task.training_step({"clips": torch.zeros(4, 1, 3, 2, 4, 4), "label": label}, 0)["hits"] == 0.5


# -- real videos ------------------------------------------------------------------------------------------------------


def test_everything_runs_on_real_clips(shared_data):
    root = shared_data / "ut-interaction-6"
    augment = {**MOST, "flip_labels": {"Pointing": None}}
    values = dict(name="ut", format="ucf101", root=str(root / "videos"), splits=str(root))
    dm = module(
        values, clip=dict(frames=8, stride=4, repeat=2), transform=dict(short_side=64, crop=56), augment=augment
    )
    batch = dm.on_after_batch_transfer(next(iter(dm.train_dataloader())), 0)
    assert batch["clips"].shape == (4, 2, 3, 8, 56, 56)
    assert batch["clips"].isfinite().all()
    assert batch["label"].shape == (4, 2, 6)
