"""The list formats of public data sets, read as distributed, and what is wrong with a list or a folder of videos."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.lists import read, refused
from helpers.videos import numbered_video, write_folder, write_lines, write_ucf101
from PIL import Image
from torchvision.models.video import R2Plus1D_18_Weights

from videores.config.schema import ClipConfig, DataConfig, TransformConfig, ViewsConfig
from videores.data import datamodule, formats, index, mirroring, splits
from videores.data.dataset import VideoDataset
from videores.data.lists import Index, Video
from videores.data.views import list_item_views
from videores.errors import UserError

SOURCE = "Get it from http://data.example"


def paths(videos):
    return [video.path for video in videos]


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def settings(root, kind):
    return dict(name="tiny", format=kind, root=str(root / "videos"), splits=str(root / "lists"), source=SOURCE)


# -- HMDB51 -----------------------------------------------------------------------------------------------------------

TAGS = "f_cm_np1_fr_med"
HMDB = {  # class -> (source, number, flags in the three splits)
    "climb": [("Rock", 0, "121"), ("Rock", 1, "121"), ("Wall", 0, "211"), ("Gym", 0, "112"), ("Gym", 1, "010")],
    "climb_stairs": [("Rock", 0, "211"), ("Home", 0, "121"), ("Home_2", 0, "112")],
}


def write_hmdb51(root, clips=HMDB, end=" \n"):
    for name, rows in clips.items():
        files = [f"{source}_{name}_{TAGS}_{number}.avi" for source, number, _ in rows]
        touch(root / "videos" / name, files)
        for split in (1, 2, 3):
            listed = [f"{file} {row[2][split - 1]}" for file, row in zip(files, rows, strict=True)]
            write_lines(root / "lists" / f"{name}_test_split{split}.txt", listed, newline=end)
    return settings(root, "hmdb51")


@pytest.mark.parametrize("split", [1, 2, 3])
def test_official_hmdb51_lists_have_their_published_counts(shared_data, tmp_path, split):
    found = formats.read_hmdb51(tmp_path, shared_data / "splits" / "hmdb51", split)
    assert (len(found.classes), len(found.train), len(found.test)) == (51, 3570, 1530)
    assert {v.label for v in found.train} == {v.label for v in found.test} == set(range(51))
    assert (found.classes[0], found.classes[50]) == ("brush_hair", "wave")


@pytest.mark.parametrize("split", [1, 2, 3])
def test_official_hmdb51_splits_keep_the_groups_together(shared_data, tmp_path, split):
    found = formats.read_hmdb51(tmp_path, shared_data / "splits" / "hmdb51", split)
    index.check_index(found, tmp_path)
    groups = {v.group for v in found.train + found.test}
    assert None not in groups
    assert 1500 < len(groups) < 2500  # most sources have more than one clip, so the splits could have broken the rule
    sources = [{v.group.partition("/")[2] for v in videos} for videos in (found.train, found.test)]
    assert len(sources[0] & sources[1]) > 100  # without its class a source is no group


def test_official_hmdb51_hold_out_is_whole_groups(shared_data, tmp_path):
    carved = splits.split_validation(formats.read_hmdb51(tmp_path, shared_data / "splits" / "hmdb51", 1), 0.1)
    assert not {v.group for v in carved.val} & {v.group for v in carved.train}
    assert {v.label for v in carved.train} == set(range(51))
    assert 0.05 * 3570 < len(carved.val) < 0.15 * 3570


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", " \r\n"], ids=["LF", "CRLF", "space LF", "space CRLF"])
def test_hmdb51_flags_say_training_test_or_unused(tmp_path, end):
    found = read(write_hmdb51(tmp_path, end=end), val="none")
    assert found.classes == ("climb", "climb_stairs")
    assert found.train[0] == Video(f"climb/Rock_climb_{TAGS}_0.avi", 0, "climb/Rock")
    assert found.train[-1] == Video(f"climb_stairs/Home_2_climb_stairs_{TAGS}_0.avi", 1, "climb_stairs/Home_2")
    assert [v.group for v in found.test] == ["climb/Wall", "climb_stairs/Rock"]
    assert len(found.train) == 5  # the clip with flag 0 is in neither


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["1 Run", "3 Walk"], "expected 2, found 3"),  # a class was taken out
        (["0 Run", "1 Walk"], "expected 1, found 0"),
        (["2 Run", "2 Walk"], "expected 1, found 2"),
        (["1 Run", "1 Walk"], "expected 2, found 1"),
    ],
)
def test_ucf101_class_numbers_are_those_of_the_lists_or_refused(tmp_path, lines, words):
    values = write_ucf101(tmp_path, classes=("Run", "Walk"))
    write_lines(Path(values["splits"]) / "classInd.txt", lines)
    message = refused(values)
    assert "classInd.txt" in message
    assert words in message


def test_hmdb51_split_is_the_one_asked_for_and_groups_are_held_out(tmp_path):
    values = write_hmdb51(tmp_path)
    second = read(values, split=2)
    assert [v.group for v in second.test] == ["climb/Rock", "climb/Rock", "climb_stairs/Home"]
    assert second.val
    assert not {v.group for v in second.val} & {v.group for v in second.train}


@pytest.mark.parametrize(
    ("file", "group"),
    [
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair/April_09"),
        ("brush_hair_2_brush_hair_h_nm_np1_ba_med_1.avi", "brush_hair/brush_hair_2"),
        ("Her_Hair__[_NEW_]_UPDATED!!!!_brush_hair_h_cm_np10_fr_goo_0.avi", "brush_hair/Her_Hair__[_NEW_]_UPDATED!!!!"),
        ("my_own_clip.avi", None),
        ("Rock_climb_h_cm_np1_fr_goo_0.avi", None),  # not this class's name
    ],
)
def test_hmdb51_group_is_the_source_within_its_class(file, group):
    assert formats.derive_hmdb51_group("brush_hair", file) == group


def test_hmdb51_lost_list_is_named_with_where_to_get_it(tmp_path):
    values = write_hmdb51(tmp_path)
    (tmp_path / "lists" / "climb_test_split1.txt").unlink()
    message = refused(values)
    assert "climb_test_split1.txt" in message
    assert SOURCE in message
    assert len(read(values, split=2).classes) == 2


def test_hmdb51_folder_without_lists_says_what_it_needs(tmp_path):
    values = write_hmdb51(tmp_path)
    message = refused({**values, "splits": values["root"]})
    assert "<class>_test_split1.txt" in message
    assert SOURCE in message


@pytest.mark.parametrize("line", ["x.avi 3", "x.avi", "1", "x.avi train", "x.avi -1"])
def test_hmdb51_wrong_flag_names_its_line(tmp_path, line):
    values = write_hmdb51(tmp_path)
    write_lines(tmp_path / "lists" / "climb_test_split1.txt", ["", "y.avi 1", line])
    message = refused(values)
    assert "climb_test_split1.txt:3" in message
    assert "1 (training), 2 (test) or 0 (unused)" in message


def test_hmdb51_source_on_both_sides_is_refused(tmp_path):
    clips = {**HMDB, "climb": [("Rock", 0, "111"), ("Rock", 1, "222")]}
    assert "climb/Rock" in refused(write_hmdb51(tmp_path, clips))


def test_hmdb51_clip_listed_twice_or_not_there_is_refused(tmp_path):
    values = write_hmdb51(tmp_path)
    list_file = tmp_path / "lists" / "climb_test_split1.txt"
    write_lines(list_file, ["a.avi 1", "b.avi 2", "c.avi 1"])
    assert "3 listed videos are not under" in refused(values)
    write_lines(list_file, ["a.avi 1", "a.avi 1", "b.avi 2"])
    assert re.search(r"train list .*\n  \S+/climb/a.avi", refused(values))


# -- Kinetics ---------------------------------------------------------------------------------------------------------

HEADER = "label,youtube_id,time_start,time_end,split,is_cc"
TRAIN = [
    "abseiling,0347ZoDXyP0,95,105,train,0",
    '"air drumming",-1AaBb_cC_d,2,12,train,1',
    "abseiling,035LtPeUFTE,85,95,train,0",
    '"air drumming",zzzzzzzzzzz,1000,1010,train,0',
]
VAL = ["abseiling,3E7Jib8Yq5M,118,128,val,0", '"air drumming",_dbcJuKJQNs,40,50,val,0']
FILES = {  # as sorted into class folders
    "train/abseiling/0347ZoDXyP0_000095_000105.mp4",
    "train/air drumming/-1AaBb_cC_d_000002_000012.mp4",
    "train/abseiling/035LtPeUFTE_000085_000095.mp4",
    "train/air drumming/zzzzzzzzzzz_001000_001010.mp4",
    "val/abseiling/3E7Jib8Yq5M_000118_000128.mp4",
    "val/air drumming/_dbcJuKJQNs_000040_000050.mp4",
}


def flat(name):
    part, _, file = name.split("/")
    return f"{part}/{file}"


def write_kinetics(root, train=TRAIN, val=VAL, files=FILES, header=HEADER, newline="\n", val_name="val.csv"):
    write_lines(root / "lists" / "train.csv", [header, *train], newline)
    write_lines(root / "lists" / val_name, [header, *val], newline)
    (root / "videos").mkdir(exist_ok=True)
    touch(root / "videos", files)
    return settings(root, "kinetics")


def test_kinetics_class_folders(tmp_path, capsys):
    found = read(write_kinetics(tmp_path), val="none")
    assert found.classes == ("abseiling", "air drumming")
    assert found.train[1] == Video("train/air drumming/-1AaBb_cC_d_000002_000012.mp4", 1, "-1AaBb_cC_d")
    assert found.test[0] == Video("val/abseiling/3E7Jib8Yq5M_000118_000128.mp4", 0, "3E7Jib8Yq5M")
    assert set(paths(found.train + found.test)) == FILES
    assert capsys.readouterr().err == ""


def test_kinetics_without_class_folders(tmp_path):
    found = read(write_kinetics(tmp_path, files=map(flat, FILES)), val="none")
    assert set(paths(found.train + found.test)) == set(map(flat, FILES))
    assert [v.label for v in found.train] == [0, 1, 0, 1]


def test_kinetics_videos_are_found_by_name_whatever_the_folder_and_suffix(tmp_path):
    renamed = {name.replace("air drumming", "air_drumming").replace(".mp4", ".webm") for name in FILES}
    assert set(paths(read(write_kinetics(tmp_path, files=renamed), val="none").train)) < renamed


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_kinetics_lists_as_other_releases_have_them(tmp_path, newline):
    header = HEADER.removesuffix(",is_cc")
    train, val = ([row.rpartition(",")[0] for row in rows] for rows in (TRAIN, VAL))
    val = [row.replace(",val", ",validate") for row in val]
    values = write_kinetics(tmp_path, train, val, header=header, newline=newline, val_name="validate.csv")
    list_file = tmp_path / "lists" / "train.csv"
    list_file.write_bytes(b"\xef\xbb\xbf" + list_file.read_bytes())
    assert len(read(values, val="none").train) == 4


def test_kinetics_holds_out_by_youtube_id(tmp_path):
    found = read(write_kinetics(tmp_path), val=0.5)
    assert len(found.val) == 2
    assert {v.label for v in found.train} == {v.label for v in found.val} == {0, 1}


def test_kinetics_classes_are_in_the_order_of_published_weights():
    classes = R2Plus1D_18_Weights.KINETICS400_V1.meta["categories"]
    assert sorted(classes) == classes


def test_missing_kinetics_videos_are_counted_and_a_missing_test_video_stays_listed(tmp_path, capsys):
    values = write_kinetics(tmp_path, files=sorted(FILES)[1:-1])  # one of each part is not there
    found = read(values, val="none")
    assert len(found.train) == 3
    assert len(found.test) == 2
    assert "val/air drumming/_dbcJuKJQNs_000040_000050.mp4" in paths(found.test)
    counts = {"train": {"expected": 4, "found": 3}, "val": {"expected": 0, "found": 0}}
    assert found.counts == {**counts, "test": {"expected": 2, "found": 1}}
    assert "found 3 of 4 train, 1 of 2 test videos" in capsys.readouterr().err


def test_hold_out_of_kinetics_does_not_depend_on_what_is_there(tmp_path):
    whole = read(write_kinetics(tmp_path), val=0.5)
    for path in paths(whole.train):
        (tmp_path / "videos" / path).unlink()
    part = read(write_kinetics(tmp_path, files=[]), val=0.5)
    assert (part.train, part.val) == ((), whole.val)
    assert part.counts["train"] == {"expected": 2, "found": 0}


def test_missing_kinetics_test_video_counts_as_wrong(tmp_path, capsys):
    values = write_kinetics(tmp_path, files=[])
    for name in sorted(FILES)[1:-1]:
        numbered_video(tmp_path / "videos" / name, 8)
    videos = datamodule.load_videos(DataConfig(**values, val="none"))
    assert list(videos.unreadable["test"]) == ["val/air drumming/_dbcJuKJQNs_000040_000050.mp4"]
    assert (len(videos.index.test), len(videos.readable("test")), len(videos.readable("train"))) == (2, 1, 3)
    assert "there is no such file" in capsys.readouterr().err


def test_kinetics_root_without_any_listed_video_is_refused(tmp_path):
    values = write_kinetics(tmp_path, files=["train/other.mp4"])
    message = refused(values)
    assert "data.root" in message
    assert "train/abseiling/0347ZoDXyP0_000095_000105.mp4" in message


@pytest.mark.parametrize("name", ["train.csv", "val.csv"])
def test_kinetics_lost_list_is_named_with_where_to_get_it(tmp_path, name):
    values = write_kinetics(tmp_path)
    (tmp_path / "lists" / name).unlink()
    message = refused(values)
    assert name in message
    assert SOURCE in message


def test_kinetics_list_without_labels_is_refused(tmp_path):
    message = refused(write_kinetics(tmp_path, header="youtube_id,time_start,time_end,split", val=["x,1,11,test"]))
    assert "train.csv" in message
    assert "label,youtube_id,time_start,time_end" in message


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("abseiling,abc,1,11,test,0", ["val.csv:3", "'test'"]),
        ("abseiling,abc,1,11,train,0", ["val.csv:3", "'train'"]),
        ("abseiling,abc,one,11,val,0", ["val.csv:3", "whole seconds"]),
        ("abseiling,abc,1.5,11,val,0", ["val.csv:3", "whole seconds"]),
        ("air drumming, loud,abc,1,11,val,0", ["val.csv:3", "more fields than the 6", "'0'"]),
        ("abseiling,abc", ["val.csv:3", "a row needs a label and a youtube_id"]),
        ("abseiling,,1,11,val,0", ["val.csv:3", "a row needs a label"]),
        ('"abseiling,abc,1,11,val,0', ["val.csv", "CSV"]),
        ('"abseiling"x,abc,1,11,val,0', ["val.csv:3", "CSV"]),
        ("yodelling,abc,1,11,val,0", ["val.csv:3", "class 'yodelling' is not in the class list (abseiling, air drum"]),
        (VAL[0], ["the test list", "3E7Jib8Yq5M_000118_000128"]),
        ("abseiling,0347ZoDXyP0,200,210,val,0", ["train and test share 1 group", "0347ZoDXyP0"]),
    ],
)
def test_bad_kinetics_row_is_refused_with_its_line(tmp_path, row, words):
    message = refused(write_kinetics(tmp_path, val=[VAL[0], row]))
    assert [word for word in words if word not in message] == []


# -- Something-Something V2 -------------------------------------------------------------------------------------------

LABELS = {
    "Pushing something from left to right": "1",
    "Pushing something from right to left": "0",
    "Holding something next to something": "2",
}
PUSH, HOLD = "Pushing [something] from left to right", "Holding [something] next to [something]"
LISTS = {
    "labels": LABELS,
    "train": [
        {"id": "78687", "label": "holding a cup next to a book", "template": HOLD, "placeholders": ["a cup", "a book"]},
        {"id": "42326", "label": "pushing a pen from left to right", "template": PUSH, "placeholders": ["a pen"]},
    ],
    "validation": [{"id": "74225", "label": "...", "template": PUSH, "placeholders": []}],
}


def write_ssv2(root, prefix="something-something-v2-", **changed):
    (root / "lists").mkdir(parents=True, exist_ok=True)
    for name, content in {**LISTS, **changed}.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=1)
        (root / "lists" / f"{prefix}{name}.json").write_text(text)
    touch(root / "videos", ["78687.webm", "42326.webm", "74225.webm"])
    return settings(root, "ssv2")


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""], ids=["first release", "later release"])
def test_ssv2_lists(tmp_path, prefix):
    found = read(write_ssv2(tmp_path, prefix))
    assert found.classes == tuple(sorted(LABELS, key=LABELS.get))
    assert found.train == (Video("78687.webm", 2), Video("42326.webm", 1))
    assert (found.test, found.val) == ((Video("74225.webm", 1),), ())


def test_ssv2_lists_with_other_line_ends_and_byte_order_marks(tmp_path):
    values = write_ssv2(tmp_path)
    for path in (tmp_path / "lists").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read(values).train) == 2


@pytest.mark.parametrize("name", ["labels", "train", "validation"])
def test_ssv2_lost_list_is_named_with_where_to_get_it(tmp_path, name):
    values = write_ssv2(tmp_path)
    (tmp_path / "lists" / f"something-something-v2-{name}.json").unlink()
    message = refused(values)
    assert f"something-something-v2-{name}.json" in message
    assert SOURCE in message


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train": "[{"}, ["v2-train.json", "line 1"]),
        ({"train": "[" * 99999}, ["v2-train.json", "line 1"]),
        ({"train": {"id": "1"}}, ["v2-train.json", "list"]),
        ({"labels": ["a"]}, ["v2-labels.json"]),
        ({"labels": {"a": [0]}}, ["v2-labels.json", "a."]),
        ({"train": [{"id": "1", "template": HOLD}, {"id": "2"}]}, ["v2-train.json", "[1].template"]),
        ({"train": [{"template": HOLD}]}, ["v2-train.json", "[0].id"]),
        ({"train": [{"id": "", "template": HOLD}]}, ["v2-train.json", "[0].id"]),
        ({"train": [{"id": ["1"], "template": HOLD}]}, ["v2-train.json", "[0].id"]),
        ({"train": ["1"]}, ["v2-train.json", "[0]"]),
        ({"validation": [{"id": "1", "template": "Eating [something]"}]}, ["[0]", "'Eating something'"]),
        ({"train": LISTS["train"] + LISTS["train"][:1]}, ["the train list", "78687.webm"]),
        ({"validation": LISTS["train"]}, ["train and test share 2 path(s)", "78687.webm"]),
        ({"labels": {**LABELS, "Pushing something from left to right": "3"}}, ["numbered 0 to 2"]),
        ({"labels": {**LABELS, "Pushing something from left to right": "0"}}, ["numbered 0 to 2"]),
        ({"labels": {**LABELS, "Pushing something from left to right": "one"}}, ["numbered 0 to 2"]),
        ({"validation": []}, ["the test list"]),
        ({"validation": [{"id": "1", "template": HOLD}]}, ["1 listed videos are not under", "1.webm"]),
    ],
)
def test_bad_ssv2_list_is_refused(tmp_path, changed, words):
    message = refused(write_ssv2(tmp_path, **changed))
    assert [word for word in words if word not in message] == []


# -- flips ------------------------------------------------------------------------------------------------------------


def test_flip_swaps_the_labels_that_differ_by_left_and_right():
    classes = (
        "Pulling something from left to right",
        "Holding something",
        "Turning the camera right while filming something",
        "Pulling something from right to left",
        "Turning the camera left while filming something",
    )
    assert mirroring.derive_flip_map(classes) == (3, 1, 4, 0, 2)


def test_flip_of_the_embedded_motions():
    classes = ("left", "right", "up", "down", "clockwise", "counterclockwise", "grow", "shrink")
    assert mirroring.derive_flip_map(classes) == (1, 0, 2, 3, 5, 4, 6, 7)


@pytest.mark.parametrize(
    "classes",
    [("TurnLeft", "TurnRight"), ("swipe_left", "swipe_right"), ("LEFT", "RIGHT"), ("swipeleft", "swiperight"),
     ("Left-hand throw", "right-hand throw"), ("Rotate Clockwise", "Rotate Counter-Clockwise"),
     ("clockwise", "anticlockwise")],
)  # fmt: skip
def test_flip_knows_other_spellings(classes):
    assert mirroring.derive_flip_map(classes) == (1, 0)


def test_flip_without_the_mirrored_class_is_no_class():
    assert mirroring.derive_flip_map(("Turn left", "Walk", "Wave left hand", "clockwise")) == (-1, 1, -1, -1)


def test_flip_keeps_words_that_only_contain_a_direction():
    assert mirroring.derive_flip_map(("Bright light", "Upright row", "Cleft", "up")) == (0, 1, 2, 3)


def test_flip_of_something_something():
    """Its three pairs, and every other class whose name holds one of the words."""
    pairs = [
        ("Pulling something from left to right", "Pulling something from right to left"),
        ("Pushing something from left to right", "Pushing something from right to left"),
        ("Turning the camera left while filming something", "Turning the camera right while filming something"),
    ]
    others = [
        "Laying something on the table on its side, not upright",
        "Putting something that cannot actually stand upright upright on the table, so it falls on its side",
        "Turning the camera upwards while filming something",
        "Plugging something into something but pulling it right out as you remove your hand",
    ]
    classes = [name for pair in pairs for name in pair] + others
    assert mirroring.derive_flip_map(classes) == (1, 0, 3, 2, 5, 4, 6, 7, 8, -1)


def test_flip_twice_is_no_flip():
    classes = ("a left b right", "c", "a right b left", "x left", "x right", "Right")
    flipped = mirroring.derive_flip_map(classes)
    assert [flipped[number] for number in flipped if number >= 0] == [0, 1, 2, 3, 4]
    assert flipped[5] == -1


# -- folders of images ------------------------------------------------------------------------------------------------


def write_images(root, names, size=(24, 20)):
    """Each image has its own colour; returns the pixels by name."""
    pixels = {}
    for number, name in enumerate(names):
        array = np.full((size[1], size[0], 3), (40, 10 * number, 200), dtype=np.uint8)
        array[:8, :8] = 255  # what a flip or a rotation would move
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / name, **({"lossless": True} if name.endswith("webp") else {}))
        pixels[name] = array
    return pixels


IMAGES = ["train/cat/a.png", "train/cat/b.JPG", "train/dog/c.jpeg", "train/dog/sub/d.bmp", "test/cat/e.webp"]


def test_images_in_class_folders_are_videos_of_one_frame(tmp_path):
    pixels = write_images(tmp_path, IMAGES)
    videos = datamodule.load_videos(DataConfig(name="tiny", format="folder", root=str(tmp_path)))
    assert videos.index == Index(
        ("cat", "dog"),
        tuple(Video(name, int("dog" in name)) for name in IMAGES[:4]),
        (Video("test/cat/e.webp", 0),),
        counts=videos.index.counts,
    )
    assert {info.num_frames for info in videos.infos.values()} == {1}
    clip, transform = ClipConfig(frames=4), TransformConfig(short_side=20, crop=20, flip=0)
    views = ViewsConfig(clips=3, crops=3)
    listed = (*videos.index.train, *videos.index.test)
    dataset = VideoDataset(tmp_path, listed, videos.infos, clip, transform, views=views)
    for number, video in enumerate(listed):
        clips_KTHWC = list_item_views(dataset[0, number], 20, views)
        assert clips_KTHWC.shape == (9, 4, 20, 20, 3)
        assert (clips_KTHWC == clips_KTHWC[:, :1]).all()  # the frames of a clip are the same picture
        centre = torch.from_numpy(pixels[video.path][:, 2:22])
        assert (clips_KTHWC[1, 0].float() - centre).abs().mean() < (
            6 if video.path[-3:].lower() in ("jpg", "peg") else 0.1
        )


def test_images_beside_videos_are_not_listed(tmp_path):
    values = write_folder(tmp_path)
    write_images(tmp_path, ["train/run/cover.jpg", "test/walk/cover.png"])
    assert {path.rpartition(".")[2] for path in paths(read(values).train + read(values).test)} == {"mp4"}


def test_image_that_does_not_decode_is_reported(tmp_path):
    write_images(tmp_path, IMAGES)
    (tmp_path / "train/cat/broken.png").write_bytes((tmp_path / "train/cat/a.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"train/cat/broken\.png"):
        datamodule.load_videos(DataConfig(name="tiny", format="folder", root=str(tmp_path)))


def test_hidden_files_are_no_videos_and_links_are_followed(tmp_path):
    values = write_folder(tmp_path / "set")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set/train/run/00.mp4").rename(tmp_path / "elsewhere/00.mp4")
    (tmp_path / "set/train/run/more").symlink_to(tmp_path / "elsewhere")
    for name in ("._01.mp4", ".01.99.tmp.mp4"):
        (tmp_path / "set/train/run" / name).write_text("half a file")
    names = [video.path for video in read(values).train if "run" in video.path]
    assert names == [f"train/run/{name}.mp4" for name in ("01", "02", "03", "more/00")]
