"""Which videos exist: every list format, and every way in which lists can be wrong."""

import hashlib
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.videos import write_csv, write_folder, write_lines, write_ucf101

from videores.config.schema import DataConfig
from videores.data import formats, index, splits
from videores.data.lists import Index, Video
from videores.data.synthetic import datasets
from videores.errors import UserError


def read(values, **more):
    return index.read_index(DataConfig(**values, **more))


def paths(videos):
    return [video.path for video in videos]


def all_of(found):
    return found.train + found.val + found.test


# -- ucf101 -----------------------------------------------------------------------------------------------------------

OFFICIAL = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}


@pytest.mark.parametrize("split", OFFICIAL)
def test_official_ucf101_lists_have_their_published_counts(shared_data, tmp_path, split):
    lists = shared_data / "splits" / "ucf101"
    found = formats.read_ucf101(tmp_path, lists, split)
    assert (len(found.train), len(found.test)) == OFFICIAL[split]
    assert len(found.classes) == 101
    assert (found.classes[0], found.classes[100]) == ("ApplyEyeMakeup", "YoYo")
    for videos in (found.train, found.test):
        assert {video.label for video in videos} == set(range(101))
    assert {v.group for v in found.train + found.test} == {f"g{g:02}" for g in range(1, 26)}
    assert not {v.group for v in found.train} & {v.group for v in found.test}


def test_official_ucf101_hold_out_is_whole_groups(shared_data):
    found = formats.read_ucf101(None, shared_data / "splits" / "ucf101", 1)
    carved = splits.split_validation(found, 0.1)
    assert len({v.group for v in carved.val}) == 2  # of 18
    assert {v.label for v in carved.val} == set(range(101))
    assert len(carved.train) + len(carved.val) == 9537


def test_shared_clips_with_ucf101_lists_are_read(shared_data):
    clips = shared_data / "ut-interaction-6"
    for split in (1, 2, 3):
        found = read(dict(name="ut", format="ucf101", root=f"{clips / 'videos'}", splits=f"{clips}", split=split))
        assert len(all_of(found)) == 120
        assert found.val


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_ucf101_lists(tmp_path, newline):
    found = read(write_ucf101(tmp_path, newline=newline), val="none", split=2)
    assert found.classes == ("Run", "Walk")
    assert found.test[0] == Video("Run/v_Run_g02_c01.avi", 0, "g02")
    assert found.train[-1] == Video("Walk/v_Walk_g03_c02.avi", 1, "g03")
    assert (len(found.train), len(found.test), found.val) == (8, 4, ())


def test_ucf101_train_list_without_numbers_and_test_list_with_them(tmp_path):
    values = write_ucf101(tmp_path)
    write_lines(tmp_path / "splits" / "trainlist01.txt", ["Walk/v_Walk_g02_c01.avi"])
    write_lines(tmp_path / "splits" / "testlist01.txt", ["Walk/v_Walk_g01_c01.avi 2"])
    found = read(values)
    assert [v.label for v in all_of(found)] == [1, 1]


def test_spaces_in_names_are_kept(tmp_path):
    values = write_ucf101(tmp_path, classes=("Long Jump", "Run 2"))
    found = read(values, val="none")
    assert found.classes == ("Long Jump", "Run 2")
    assert found.train[0].path == "Long Jump/v_Long Jump_g02_c01.avi"


def test_splits_default_to_the_root(tmp_path):
    values = write_ucf101(tmp_path)
    for path in (tmp_path / "splits").iterdir():
        path.rename(tmp_path / "videos" / path.name)
    assert read({**values, "splits": None}).classes == ("Run", "Walk")


def test_another_split_than_the_only_one_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.split"):
        read(dict(name="x", format="folder", root=str(tmp_path), split=2))


# -- folder and csv ---------------------------------------------------------------------------------------------------


def test_folder_is_read_in_sorted_order_without_other_files(tmp_path):
    values = write_folder(tmp_path, classes=("walk", "run"))
    (tmp_path / "train" / "run" / "notes.txt").write_text("no video")
    found = read(values)
    assert found.classes == ("run", "walk")
    assert paths(found.train)[:2] == ["train/run/00.mp4", "train/run/01.mp4"]
    assert [v.label for v in found.test] == [0, 0, 1, 1]
    assert found.val == ()  # a folder knows no groups


def test_folder_looks_into_sub_folders_and_knows_upper_case_suffixes(tmp_path):
    values = write_folder(tmp_path)
    (tmp_path / "train" / "run" / "day1").mkdir()
    (tmp_path / "train" / "run" / "00.mp4").rename(tmp_path / "train" / "run" / "day1" / "A.MP4")
    found = read(values)
    assert Video("train/run/day1/A.MP4", 0) in found.train
    assert len(found.train) == 8


@pytest.mark.parametrize("file", ["00.jpg", "00.gif", None])
def test_class_folder_without_videos_is_named(tmp_path, file):
    values = write_folder(tmp_path)
    (tmp_path / "train" / "swim").mkdir()
    if file:
        (tmp_path / "train" / "swim" / file).touch()
    message = refused(values)
    assert "class folders of" in message
    assert message.endswith("\n  swim")


def test_folder_val_is_used_where_it_is(tmp_path):
    found = read(write_folder(tmp_path, parts={"train": 2, "test": 1, "val": 1}))
    assert paths(found.val) == ["val/run/00.mp4", "val/walk/00.mp4"]
    assert len(found.train) == 4


ROWS = {
    "train": [("a.mp4", "walk", "p1"), ("b.mp4", "run", "p1"), ("c.mp4", "run", "p2"), ("d.mp4", "walk", "p3")],
    "test": [("e.mp4", "run", "p4")],
}


def test_csv_with_groups_holds_out_whole_groups(tmp_path):
    found = read(write_csv(tmp_path, ROWS))
    assert found.classes == ("run", "walk")
    assert found.test == (Video("e.mp4", 0, "p4"),)
    assert found.val
    assert not {v.group for v in found.val} & {v.group for v in found.train}


def test_csv_without_groups_holds_nothing_out(tmp_path):
    rows = {part: [row[:2] for row in listed] for part, listed in ROWS.items()}
    found = read(write_csv(tmp_path, rows, header="path,label"))
    assert found.train[0] == Video("a.mp4", 1, None)
    assert (len(found.train), found.val) == (4, ())


def test_csv_classes_file_sets_the_order_and_classes_without_videos(tmp_path):
    found = read(write_csv(tmp_path, ROWS, classes=["walk", "jump", "run"]), val="none")
    assert found.classes == ("walk", "jump", "run")
    assert [v.label for v in found.train] == [0, 2, 2, 0]


def test_csv_val_list_replaces_the_hold_out(tmp_path):
    rows = {**ROWS, "val": [("f.mp4", "walk", "p5")]}
    found = read(write_csv(tmp_path, rows))
    assert (paths(found.val), len(found.train)) == (["f.mp4"], 4)


def test_csv_as_spreadsheets_write_it(tmp_path):
    values = write_csv(tmp_path, ROWS)
    lines = ["label,path", 'run,"a.mp4"', "", "walk,b.mp4"]
    (tmp_path / "train.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert paths(read(values).train) == ["a.mp4", "b.mp4"]


# -- the hold-out -----------------------------------------------------------------------------------------------------


def grouped(groups, each=3):
    train = tuple(Video(f"{g}_{i}.avi", i % 2, f"g{g:02}") for g in range(groups) for i in range(each))
    return Index(("a", "b"), train, (Video("t.avi", 0, "t"),))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("groups", [2, 3, 7, 25])
def test_hold_out_takes_whole_groups_at_least_one_and_not_all(groups, share):
    whole = grouped(groups)
    carved = splits.split_validation(whole, share)
    held, kept = ({v.group for v in part} for part in (carved.val, carved.train))
    assert not held & kept
    assert set(carved.val) | set(carved.train) == set(whole.train)
    assert len(held) == min(max(1, int(share * groups + 0.5)), groups - 1)
    assert carved.test == whole.test


def test_hold_out_does_not_depend_on_the_order_of_the_list():
    whole = grouped(20)
    shuffled = list(whole.train)
    random.Random(0).shuffle(shuffled)
    again = splits.split_validation(replace(whole, train=tuple(shuffled)), 0.2)
    assert set(again.val) == set(splits.split_validation(whole, 0.2).val)


def test_hold_out_is_the_same_in_every_process():
    carved = splits.split_validation(grouped(10, each=1), 0.3)
    assert sorted(v.group for v in carved.val) == ["g00", "g01", "g03"]  # of a hash that is not Python's own


def test_hold_out_of_a_larger_share_contains_that_of_a_smaller_one():
    small, large = (set(splits.split_validation(grouped(20), share).val) for share in (0.1, 0.4))
    assert small < large


@pytest.mark.parametrize(
    "whole", [grouped(1), replace(grouped(2), train=(Video("x", 0), Video("y", 1)))], ids=["one", "none"]
)
def test_without_two_groups_nothing_is_held_out(whole):
    assert splits.split_validation(whole, 0.5) == whole


def test_a_video_without_a_group_stays_in_training():
    whole = grouped(4)
    lonely = Video("lonely.avi", 0)
    carved = splits.split_validation(replace(whole, train=(lonely, *whole.train)), 0.9)
    assert carved.train[0] == lonely


@pytest.mark.parametrize("val", [0, "none"])
def test_no_hold_out_on_request(tmp_path, val):
    found = read(write_ucf101(tmp_path, frames=0), val=val, on_unreadable="skip")
    assert (len(found.train), found.val) == (8, ())


SAME_AS_EVER = {  # set -> share -> number and digest of the videos held out since the first release
    "motion8": {0.05: (102, "c4a728a7974e"), 0.1: (204, "a0c5d32ab118"), 0.25: (512, "725d946c2b23")},
    "appear8": {0.1: (102, "30c694ab5e20"), 0.25: (256, "27d442612ada")},
    "mixed16": {0.1: (102, "6a3db0adf660"), 0.25: (256, "d8984cf1eb58")},
    "order8": {0.1: (48, "6763e1fb839f"), 0.25: (128, "b27aa99a874a")},
}
OFFICIAL_HELD_OUT = {1: (1059, "985c71ba67ce"), 2: (1047, "7371206a7993"), 3: (1078, "f32fbdc1213b")}


def summarize(videos):
    return len(videos), hashlib.sha256("\n".join(paths(videos)).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", SAME_AS_EVER)
def test_committed_numbers_of_embedded_sets_keep_their_validation_videos(name):
    embedded = datasets.SETS[name]
    scenes = datasets.list_scenes(embedded, embedded.videos["train"])
    train = tuple(
        Video(path, embedded.classes.index(label), f"train-{number:04d}")
        for number in scenes
        for path, label in datasets.list_scene_files(embedded, "train", number)
    )
    for share, expected in SAME_AS_EVER[name].items():
        assert summarize(splits.split_validation(Index(embedded.classes, train, ()), share).val) == expected


@pytest.mark.parametrize("split", OFFICIAL_HELD_OUT)
def test_committed_numbers_of_ucf101_keep_their_validation_videos(shared_data, split):
    found = formats.read_ucf101(None, shared_data / "splits" / "ucf101", split)
    assert summarize(splits.split_validation(found, 0.1).val) == OFFICIAL_HELD_OUT[split]


def draw_scenes(seed, groups=12, classes=6, most=3):
    """Scenes of one to `most` classes, of 3 to 15 videos each."""
    draw, train = random.Random(seed), []
    for group in range(groups):
        for label in draw.sample(range(classes), draw.randint(1, most)):
            train += [Video(f"{group}_{label}_{i}", label, f"scene{group}") for i in range(draw.randint(3, 15))]
    return Index(tuple(map(str, range(classes))), tuple(train), ())


@pytest.mark.parametrize(
    ("share", "groups", "classes", "most", "missing"),
    [(0.25, 12, 6, 3, 0.06), (0.5, 12, 6, 3, 0), (0.25, 30, 10, 2, 0), (0.1, 60, 6, 3, 0), (0.1, 100, 20, 1, 0.1)],
)
def test_hold_out_has_its_share_of_videos_and_the_classes(share, groups, classes, most, missing):
    possible = lost = 0
    for seed in range(20):
        whole = draw_scenes(seed, groups, classes, most)
        carved = splits.split_validation(whole, share)
        assert not {v.group for v in carved.val} & {v.group for v in carved.train}
        assert {v.label for v in carved.train} == {v.label for v in whole.train}
        assert 0.6 * share < len(carved.val) / len(whole.train) < 1.8 * share
        scenes = Counter(label for _, label in {(v.group, v.label) for v in whole.train})
        could = {label for label, count in scenes.items() if count > 1}
        possible, lost = possible + len(could), lost + len(could - {v.label for v in carved.val})
    assert lost <= missing * possible


def test_balanced_hold_out_does_not_depend_on_the_order_of_the_list():
    whole = draw_scenes(0)
    shuffled = replace(whole, train=tuple(random.Random(1).sample(whole.train, len(whole.train))))
    assert set(splits.split_validation(shuffled, 0.25).val) == set(splits.split_validation(whole, 0.25).val)


def test_one_large_group_is_not_all_of_validation():
    train = [Video(f"a{i}", i % 2, "large") for i in range(80)]
    train += [Video(f"b{g}_{i}", i % 3, f"g{g}") for g in range(10) for i in range(6)]
    carved = splits.split_validation(Index(("a", "b", "c"), tuple(train), ()), 0.1)
    assert "large" not in {v.group for v in carved.val}
    assert 6 <= len(carved.val) <= 24


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ({"val": [("v.mp4", "run", "p9")]}, "of 2 classes, so the choice of a checkpoint rests on the others: walk"),
        ({"val": [("v.mp4", "walk", "p9")]}, "others: run"),
        ({"train": [*[(f"{g}.mp4", "run", f"p{g}") for g in range(9)], ("w.mp4", "walk", "q")]}, "others: walk"),
    ],
)
def test_classes_that_validation_lacks_are_named(tmp_path, capsys, rows, missing):
    rows = {"train": ROWS["train"], "test": [("e.mp4", "run", "t")], **rows}
    read(write_csv(tmp_path, rows))
    assert missing in capsys.readouterr().err


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(values, **more):
    with pytest.raises(UserError) as caught:
        read(values, **more)
    return str(caught.value)


@pytest.mark.parametrize("key", ["root", "splits"])
def test_missing_folder_names_the_key_and_where_the_data_is_from(tmp_path, key):
    values = {**write_ucf101(tmp_path, frames=0), key: str(tmp_path / "nowhere"), "source": "See http://ucf.example"}
    message = refused(values)
    assert f"data.{key}" in message
    assert str(tmp_path / "nowhere") in message
    assert "See http://ucf.example" in message


@pytest.mark.parametrize("name", ["classInd.txt", "trainlist01.txt", "testlist01.txt"])
def test_missing_ucf101_list_is_named(tmp_path, name):
    values = write_ucf101(tmp_path, frames=0)
    (tmp_path / "splits" / name).unlink()
    message = refused(values)
    assert name in message
    assert "data.splits" in message


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_csv_or_part_folder_is_named(tmp_path, part):
    values = write_csv(tmp_path, ROWS)
    (tmp_path / f"{part}.csv").unlink()
    assert f"{part}.csv" in refused(values)
    assert str(tmp_path / "folder" / part) in refused(
        write_folder(tmp_path / "folder", parts={"train" if part == "test" else "test": 1})
    )


def test_class_outside_the_list_names_line_and_class(tmp_path):
    values = write_ucf101(tmp_path)
    write_lines(tmp_path / "splits" / "testlist01.txt", ["Run/v_Run_g01_c01.avi", "Jump/v_Jump_g01_c01.avi"])
    message = refused(values)
    assert "testlist01.txt:2" in message
    assert "'Jump'" in message


def test_csv_label_outside_the_list_names_line_and_label(tmp_path):
    message = refused(write_csv(tmp_path, {**ROWS, "test": [("e.mp4", "jump", "p4")]}))
    assert "test.csv:2" in message
    assert "'jump'" in message


def test_test_folder_with_a_class_that_training_lacks_is_refused(tmp_path):
    values = write_folder(tmp_path)
    (tmp_path / "test" / "walk").rename(tmp_path / "test" / "jump")
    assert "'jump'" in refused(values)


def test_number_that_contradicts_the_class_list_is_refused(tmp_path):
    values = write_ucf101(tmp_path)
    write_lines(tmp_path / "splits" / "trainlist01.txt", ["Run/v_Run_g02_c01.avi 2"])
    message = refused(values)
    assert "trainlist01.txt:1" in message
    assert "Run" in message


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_videos_are_named_all_of_them(tmp_path, part):
    values = write_ucf101(tmp_path)
    gone = paths(getattr(read(values, val="none"), part))[1:3]
    for path in gone:
        (tmp_path / "videos" / path).unlink()
    message = refused(values)
    assert message.startswith("2 listed videos")
    assert str(tmp_path / "videos") in message
    assert all(path in message for path in gone)


def test_missing_videos_are_allowed_on_request(tmp_path):
    assert len(read(write_ucf101(tmp_path, frames=0), on_unreadable="skip").test) == 4


def test_a_long_list_of_missing_videos_is_cut(tmp_path):
    message = refused(write_ucf101(tmp_path, groups=9, clips=4, frames=0))
    assert message.startswith("72 listed videos")
    assert message.endswith("... and 52 more")


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_list_is_refused(tmp_path, part):
    values = write_ucf101(tmp_path)
    write_lines(tmp_path / "splits" / f"{part}list01.txt", [])
    assert f"the {part} list" in refused(values)


def test_group_on_both_sides_is_refused_and_named(tmp_path):
    values = write_ucf101(tmp_path)
    write_lines(tmp_path / "splits" / "testlist01.txt", ["Walk/v_Walk_g03_c01.avi"])
    write_lines(tmp_path / "splits" / "trainlist01.txt", ["Run/v_Run_g03_c01.avi 1"])  # other video, same group
    message = refused(values)
    assert "train and test share 1 group" in message
    assert "g03" in message


@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val"), ("val", "test")], ids="-".join)
def test_video_on_two_sides_is_refused_and_named(tmp_path, parts):
    rows = {part: [(f"{part}.mp4", "run")] for part in ("train", "val", "test")}
    for part in parts:
        rows[part] = [*rows[part], ("both.mp4", "run")]
    message = refused(write_csv(tmp_path, rows, header="path,label"))
    assert " and ".join(parts) in message
    assert "both.mp4" in message


def test_an_empty_field_too_many_loses_nothing(tmp_path):
    values = write_csv(
        tmp_path, {part: [(f"{part}.mp4", "run")] for part in ("train", "val", "test")}, header="path,label"
    )
    path = Path(values["root"], "train.csv")
    path.write_text("path,label\ntrain.mp4,run,\n")
    assert len(read(values, val="none").train) == 1
    path.write_text("path,label\ntrain.mp4,run,g1\n")
    assert "train.csv:2: more fields than the 2" in refused(values)


@pytest.mark.parametrize("spelled", ["./both.mp4", "a/../both.mp4", "{root}/both.mp4"])
def test_a_video_that_is_spelled_otherwise_is_the_same_video(tmp_path, spelled):
    rows = {part: [(f"{part}.mp4", "run"), ("both.mp4", "run")] for part in ("train", "test")}
    values = write_csv(tmp_path, {**rows, "val": [("val.mp4", "run")]}, header="path,label")
    for part, words in (("test", "train and test share 1 path"), ("train", "the train list")):
        kept = rows if part == "train" else {**rows, "test": rows["test"][:1]}
        text = "".join(f"{path},{label}\n" for path, label in kept[part])
        other = spelled.format(root=values["root"])
        Path(values["root"], f"{part}.csv").write_text(f"path,label\n{text}{other},run\n")
        assert words in refused(values)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_video_listed_twice_is_refused_and_named(tmp_path, part):
    rows = {p: [(f"{p}.mp4", "run")] for p in ("train", "val", "test")}
    rows[part] *= 2
    message = refused(write_csv(tmp_path, rows, header="path,label"))
    assert f"the {part} list" in message
    assert f"{part}.mp4" in message


def test_class_listed_twice_is_refused(tmp_path):
    message = refused(write_csv(tmp_path, ROWS, classes=["run", "walk", "run"]))
    assert "classes.txt" in message
    assert message.endswith(" run")


def test_empty_class_list_is_refused(tmp_path):
    values = write_ucf101(tmp_path, frames=0)
    (tmp_path / "splits" / "classInd.txt").write_text("\n")
    assert "classInd.txt" in refused(values)


@pytest.mark.parametrize("header", ["file,label", "path", "a.mp4,run", ""])
def test_bad_csv_header_is_refused(tmp_path, header):
    message = refused(write_csv(tmp_path, ROWS, header=header))
    assert "train.csv" in message
    assert "path,label" in message


@pytest.mark.parametrize("row", ["a.mp4", "a.mp4,", ",run"])
def test_csv_row_without_path_or_label_names_its_line(tmp_path, row):
    values = write_csv(tmp_path, ROWS)
    write_lines(tmp_path / "train.csv", ["path,label", "b.mp4,run", row])
    assert "train.csv:3: a row needs a path and a label" in refused(values)


def test_list_that_is_no_text_is_refused_and_named(tmp_path):
    values = write_csv(tmp_path, ROWS)
    (tmp_path / "train.csv").write_bytes("path,label\na.mp4,gehör\n".encode("latin-1"))
    assert "train.csv" in refused(values)


# -- fewer training videos --------------------------------------------------------------------------------------------


def listed(groups, classes=4):
    """Two videos of each group, all groups of a class alike."""
    return tuple(Video(f"{g}/{n}", g % classes, f"g{g}") for g in range(groups) for n in range(2))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.99, 1.0])
def test_a_share_of_the_training_videos_is_whole_groups_of_every_class(share):
    videos = listed(80)
    kept = splits.subsample_groups(videos, share)
    assert set(Counter(video.label for video in kept).values()) == {2 * round(share * 20)}
    assert all(count == 2 for count in Counter(video.group for video in kept).values())
    assert kept == tuple(video for video in videos if video in kept)  # in order


def test_a_smaller_share_is_part_of_a_larger_one_and_no_class_is_lost():
    videos = listed(40)
    shares = [set(splits.subsample_groups(videos, share)) for share in (0.01, 0.2, 0.5, 1.0)]
    assert all(small < large for small, large in pairwise(shares))
    assert {video.label for video in shares[0]} == set(range(4))
    without_groups = tuple(replace(video, group=None) for video in videos)
    assert len(splits.subsample_groups(without_groups, 0.25)) == 20
