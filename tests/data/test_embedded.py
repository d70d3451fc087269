"""appear8, mixed16, order8 and small: what can be known from what, counted on the files that are written.

`best_accuracy` is the accuracy of the best of all functions of what it is given: no network that sees only that can
pass it, however large it is and however long it trains.
"""

import colorsys
import json
from collections import Counter
from typing import get_args

import numpy as np
import pytest
from helpers.commands import result, succeeded, tool
from helpers.embedded import best_accuracy, contents, decode, rows, windows

from videores.config import schema
from videores.config.schema import DataConfig
from videores.data import index, mirroring
from videores.data.synthetic import datasets, sprites, writing
from videores.data.video import encode
from videores.errors import UserError

NEW = ("appear8", "mixed16", "order8", "small", "motiontone", "motionhue")
SCENE = {"order8": 8, "motiontone": 64, "motionhue": 16}  # videos of a scene, where there are not two


def one_turn(name):
    """The smallest sizes: each scene once in each split."""
    return dict.fromkeys(datasets.SETS[name].videos, datasets.SETS[name].turn)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    for name in NEW:
        writing.prepare_dataset(folder / name, 3, False, one_turn(name), name=name)
    return {name: folder / name for name in NEW}


@pytest.fixture(scope="module")
def decoded(roots):
    """name -> path -> frames."""
    return {name: {p.relative_to(root).as_posix(): decode(p) for p in videos(root)} for name, root in roots.items()}


def videos(root):
    return sorted(root.rglob("*.mp4"))


# -- every set --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEW)
def test_lists_name_every_file_once_and_classes_are_balanced(roots, name):
    root, embedded = roots[name], datasets.SETS[name]
    assert (root / "classes.txt").read_text().split() == list(embedded.classes)
    for split, count in one_turn(name).items():
        listed = rows(root, split)
        each = count // len(embedded.classes)
        assert Counter(row["label"] for row in listed) == dict.fromkeys(embedded.classes, each)
        assert sorted(row["path"] for row in listed) == sorted(f"{split}/{p.name}" for p in (root / split).iterdir())


@pytest.mark.parametrize("name", NEW)
def test_videos_have_the_stated_shape_and_no_two_are_the_same(decoded, name):
    shape = (datasets.SETS[name].frames, sprites.SIZE, sprites.SIZE, 3)
    assert {clip_THWC.shape for clip_THWC in decoded[name].values()} == {shape}
    each = 8 if name == "motiontone" else 1  # has each clip with all sounds
    assert len({clip_THWC.tobytes() for clip_THWC in decoded[name].values()}) == sum(one_turn(name).values()) / each


@pytest.mark.parametrize("name", NEW)
def test_a_group_is_a_scene_in_one_split(roots, name):
    groups = [Counter(row["group"] for row in rows(roots[name], split)) for split in one_turn(name)]
    assert all(set(count.values()) == {SCENE.get(name, 2)} for count in groups)
    assert len({group for count in groups for group in count}) == sum(map(len, groups))


@pytest.mark.parametrize("name", NEW)
def test_same_seed_same_files_other_seed_other_videos(roots, tmp_path, name):
    for folder, seed in (("same", 3), ("other", 4)):
        writing.prepare_dataset(tmp_path / folder, seed, False, one_turn(name), name=name)
    assert contents(tmp_path / "same") == contents(roots[name])
    for path in videos(roots[name]):
        assert path.read_bytes() != (tmp_path / "other" / path.relative_to(roots[name])).read_bytes()


def test_no_set_has_the_random_numbers_of_another():
    first = [
        datasets.render_scene(embedded, 0, split, 0)[0][0].tobytes()
        for embedded in datasets.SETS.values()
        for split in embedded.videos
    ]
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("name", datasets.SETS)
def test_default_sizes_balance(name):
    embedded = datasets.SETS[name]
    assert writing.make_spec(embedded, 0, embedded.videos)["videos"] == embedded.videos


@pytest.mark.parametrize("name", NEW)
def test_interrupted_run_is_completed(roots, tmp_path, name, monkeypatch):
    written, write = [], encode.write_video

    def write_some(path, *rest, **options):
        if len(written) == 9:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_video", write_some)
        patch.setattr(writing, "count_cpus", lambda: 1)  # in order
        with pytest.raises(KeyboardInterrupt):
            writing.prepare_dataset(tmp_path, 3, False, one_turn(name), name=name)
    assert not (tmp_path / "spec.json").exists()
    whole = 9 - 9 % SCENE.get(name, 2)  # the others are a part of a scene
    times = {path: path.stat().st_mtime_ns for path in written[:whole]}
    writing.prepare_dataset(tmp_path, 3, False, one_turn(name), name=name)
    assert contents(tmp_path) == contents(roots[name])
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_interrupted_run_of_another_set_leaves_nothing(roots, tmp_path):
    for path in ("val/0000_left_c01.mp4", "train/0001_up_c02.mp4"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(b"of small")
    spec = writing.make_spec(datasets.SETS["small"], 3, datasets.SETS["small"].videos)
    (tmp_path / "spec.partial.json").write_text(json.dumps(spec))
    writing.prepare_dataset(tmp_path, 3, False, one_turn("order8"), name="order8")
    assert contents(tmp_path) == contents(roots["order8"])


@pytest.mark.parametrize("name", NEW)
def test_another_sets_folder_is_refused(roots, name):
    other = NEW[NEW.index(name) - 1]
    with pytest.raises(UserError, match=f"another data set or seed: .*'{name}'.*, wanted .*'{other}'"):
        writing.prepare_dataset(roots[name], 3, False, name=other)


@pytest.mark.parametrize("name", NEW)
def test_foreign_folder_is_refused(tmp_path, name):
    (tmp_path / "0000_left.mp4").write_bytes(b"holiday")
    with pytest.raises(UserError, match=rf"not made by {name} \(it has 0000_left\.mp4\)"):
        writing.prepare_dataset(tmp_path, progress=False, name=name)
    assert contents(tmp_path) == {"0000_left.mp4": b"holiday"}


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("appear8", {"train": 64, "test": 32}, "appear8: videos must give train and test as multiples of 64"),
        ("mixed16", {"train": 8, "test": 16}, "multiples of 16"),
        ("order8", {"train": 8, "test": 0}, "multiples of 8"),
        ("small", {"train": 64, "test": 64}, "small: videos must give train and test and val as multiples of 16"),
    ],
)
def test_sizes_that_cannot_be_balanced_are_refused(tmp_path, name, sizes, message):
    with pytest.raises(UserError, match=message):
        writing.prepare_dataset(tmp_path / "videos", 0, False, sizes, name=name)
    assert list(tmp_path.iterdir()) == []


def test_formats_that_a_configuration_may_name_are_those_that_are_read():
    from videores.data.formats import READERS

    assert {*get_args(schema.ListFormat), *get_args(schema.SyntheticFormat)} == set(READERS)
    assert set(datasets.SETS) < set(READERS)


# -- what the class can be known from ---------------------------------------------------------------------------------


def labels_and_names(name, split="test"):
    """(label, the rest of the file's name) of all videos of a set in its full size."""
    embedded = datasets.SETS[name]
    for number in datasets.list_scenes(embedded, embedded.videos[split]):
        for path, label in datasets.list_scene_files(embedded, split, number):
            yield label, path.removesuffix(".mp4").partition("_")[2]


@pytest.mark.parametrize("split", ["train", "test"])
def test_appear8_cannot_be_known_from_the_motion(split):
    labels, names = zip(*labels_and_names("appear8", split), strict=True)
    motions = [name.removeprefix(f"{label}_") for label, name in zip(labels, names, strict=True)]
    assert set(motions) == set(datasets.MOTIONS)
    assert best_accuracy(motions, labels) == 100 / 8
    assert best_accuracy(names, labels) == 100


@pytest.mark.parametrize("split", ["train", "test"])
def test_mixed16_needs_shape_and_motion(split):
    labels, names = zip(*labels_and_names("mixed16", split), strict=True)
    assert labels == names
    shapes, motions = zip(*(name.rsplit("_", 1) for name in names), strict=True)
    assert (len(set(shapes)), len(set(motions))) == (4, 4)
    assert best_accuracy(shapes, labels) == best_accuracy(motions, labels) == 25


def is_reversal(clip_THWC, other_THWC):
    return np.array_equal(clip_THWC, other_THWC[::-1]) and not np.array_equal(clip_THWC, other_THWC)


@pytest.mark.parametrize("name", ["appear8", "mixed16"])
def test_every_decoded_pair_is_exactly_reversed(roots, decoded, name):
    for split in one_turn(name):
        for a, b in zip(*(rows(roots[name], split)[first::2] for first in (0, 1)), strict=True):
            assert is_reversal(decoded[name][a["path"]], decoded[name][b["path"]])
            one, other = (row["path"].removesuffix(".mp4").rpartition("_") for row in (a, b))
            assert (one[0], datasets.REVERSED_MOTIONS[one[2]]) == (other[0], other[2])
            assert (a["label"] == b["label"]) == (name == "appear8")


@pytest.mark.parametrize("name", NEW)
def test_no_function_of_the_set_of_frames_passes_its_bound(roots, decoded, name):
    test = rows(roots[name], "test")
    seen = [windows(decoded[name][row["path"]], 1) for row in test]
    bound = best_accuracy(seen, [row["label"] for row in test])
    assert bound == {"mixed16": 50, "order8": 50, "motionhue": 50, "motiontone": 100 / 16}.get(name, 100)


def test_shapes_are_those_of_their_names_and_motions_too():
    """The clip of a scene is what the same random numbers draw with the shape and the motion that its name says."""
    for number in range(32):
        path, label = next(datasets.list_scene_files(datasets.SETS["appear8"], "test", number))
        rng = np.random.default_rng((0, 1, number, 1))
        colours_3C = (
            sprites.draw_dark_color(rng),
            *sprites.draw_color_of_hue(datasets.SHAPES.index(getattr(sprites, label)) / 8, rng),
        )
        path_4T = sprites.make_path(path.removesuffix(".mp4").rpartition("_")[2], 16, rng)
        wanted = sprites.render_sprite(path_4T, getattr(sprites, label), colours_3C, rng)
        np.testing.assert_array_equal(datasets.render_scene(datasets.SETS["appear8"], 0, "test", number)[0], wanted)


def test_sprites_have_their_hue():
    rng = np.random.default_rng(0)
    for hue in np.arange(8) / 8:
        for red, green, blue in sprites.draw_color_of_hue(hue, rng):
            found, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            assert abs((found - hue + 0.5) % 1 - 0.5) < 0.031
            assert 0.39 < saturation < 0.81
            assert 0.79 < value <= 1


# -- order8 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "bound"), [(1, 50), (4, 50), (8, 50), (16, 50), (17, 50), (18, 100), (32, 100)])
def test_windows_that_see_one_flash_leave_two_orders_of_a_whole_video_open(roots, decoded, length, bound):
    test = rows(roots["order8"], "test")
    seen = [windows(decoded["order8"][row["path"]], length) for row in test]
    assert best_accuracy(seen, [row["label"] for row in test]) == bound


@pytest.mark.parametrize(("length", "ceiling"), [(4, 15.4), (8, 17.3), (16, 22.2), (17, 22.9), (48, 100)])
def test_ceiling_of_clip_accuracy(roots, decoded, length, ceiling):
    """Over all windows of all videos, even for who knows the sprite."""
    seen, labels = [], []
    for row in rows(roots["order8"], "test"):
        for clip, times in windows(decoded["order8"][row["path"]], length):
            seen += [clip] * times
            labels += [row["label"]] * times
    assert best_accuracy(seen, labels) == pytest.approx(ceiling, abs=0.06)


def test_one_flash_leaves_four_classes_open():
    embedded = datasets.SETS["order8"]
    assert Counter(hue for order in datasets.ORDERS for hue in order) == dict.fromkeys(datasets.HUES, 4)
    assert all(order[::-1] in datasets.ORDERS for order in datasets.ORDERS)
    assert embedded.classes == tuple("_".join(order) for order in datasets.ORDERS)


def test_a_video_flashes_in_its_hues_in_its_order(roots, decoded):
    for row in rows(roots["order8"], "test"):
        clip_THWC = decoded["order8"][row["path"]].astype(int)
        flashing = [t for t in range(64) if not np.array_equal(clip_THWC[t], clip_THWC[0])]
        assert np.diff(flashing).tolist() == [1, 1, 1, 17, 1, 1, 1]
        assert datasets.REST <= min(flashing) < max(flashing) < datasets.LENGTH - datasets.REST
        sprite_HW = np.abs(clip_THWC[flashing[0]] - clip_THWC[flashing[-1]]).sum(-1) > 150
        seen = [main_hue(clip_THWC[t][sprite_HW]) for t in flashing]
        assert seen == [hue for hue in row["label"].split("_") for _ in range(4)]


def main_hue(colours_PC):
    hue, _, _ = colorsys.rgb_to_hsv(*np.median(colours_PC, axis=0) / 255)
    return datasets.HUES[round(hue * 4) % 4]


# -- small ------------------------------------------------------------------------------------------------------------


def still(clip_THWC):
    return np.median(clip_THWC, axis=0)


def share_alike(one_HWC, other_HWC):
    return (np.abs(one_HWC - other_HWC).max(-1) < 12).mean()


def test_videos_of_a_group_share_class_background_and_watermark(roots, decoded):
    listed = [row for split in ("train", "val", "test") for row in rows(roots["small"], split)]
    stills = [still(decoded["small"][row["path"]]) for row in listed]
    within, across = [], []
    for i, one in enumerate(listed):
        for j, other in enumerate(listed[:i]):
            same = one["group"] == other["group"]
            assert not same or one["label"] == other["label"]
            (within if same else across).append(share_alike(stills[i], stills[j]))
    assert np.median(within) > 0.5
    assert np.median(across) < 0.1


def test_small_has_its_validation_videos_in_a_list(tmp_path):
    data = DataConfig(name="small", format="small", root=str(tmp_path / "videos"))
    found = index.read_index(data)
    assert {part: len(getattr(found, part)) for part in index.PARTS} == {"train": 64, "val": 128, "test": 256}
    assert found.counts["val"] == {"expected": 128, "found": 128}


def test_mirrored_classes_of_small():
    classes = datasets.SETS["small"].classes
    flipped = [classes[label] for label in mirroring.derive_flip_map(classes)]
    assert flipped == ["right", "left", "up", "down", "counterclockwise", "clockwise", "grow", "shrink"]


# -- subjects4 --------------------------------------------------------------------------------------------------------


def test_subjects_show_rare_classes_on_a_background_of_their_own(tmp_path):
    writing.prepare_dataset(tmp_path, 3, False, one_turn("subjects4"), name="subjects4")
    stills = {}
    for split in ("train", "val", "test"):
        listed = rows(tmp_path, split)
        assert Counter(row["label"] for row in listed) == datasets.SHOWN
        assert len({row["group"] for row in listed}) == 1
        stills[split] = [still(decode(tmp_path / row["path"])) for row in listed[::5]]
    assert np.median([share_alike(stills["train"][0], other) for other in stills["train"][1:]]) > 0.5
    assert max(share_alike(stills["train"][0], other) for other in stills["val"] + stills["test"]) < 0.5


# -- networks ---------------------------------------------------------------------------------------------------------


def trained(folder, name, *overrides):
    """(metrics of the test, accuracy on the last 10 training batches that were logged) of a run of r3d_small.yaml."""
    overrides = (f"data.name={name}", f"data.format={name}", "trainer.accelerator=cpu", "run.dir=run", *overrides)
    succeeded(tool("train.py", "--cfg", "r3d_small.yaml", *overrides, cwd=folder, timeout=2400))
    logged = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return result(folder / "run")[0], np.mean([row["train/top1"] for row in logged if "train/top1" in row][-10:])


@pytest.mark.slow
@pytest.mark.timeout(2500)
def test_small_is_learnt_by_heart(tmp_path):
    found, training = trained(tmp_path, "small")
    assert training >= 98
    assert found["video_top1"] < 60


@pytest.mark.slow
@pytest.mark.timeout(2500)
def test_a_network_without_time_learns_appear8(tmp_path):
    overrides = ("model.name=f_r2d_18", "train.epochs=4", "train.warmup=1", "data.batch_size=32")
    found, _ = trained(tmp_path, "appear8", *overrides)
    assert found["video_top1"] > 90
