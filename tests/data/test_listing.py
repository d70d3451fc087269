"""What lists and folders hold and a careless reader would drop, repeat or take for something else, without a word."""

import errno
import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from helpers.lists import read, refused
from helpers.videos import write_csv, write_folder, write_lines, write_ucf101

from videores.config.schema import DataConfig
from videores.data import datamodule
from videores.data.lists import Video, read_csv_rows, read_lines
from videores.data.prepare import survey

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def count(values):
    found = read(values)
    return [len(part) for part in (found.train, found.val, found.test)]


@pytest.fixture
def values(tmp_path):
    """4 training and 2 test files of each of two classes; nobody decodes them."""
    values = write_folder(tmp_path / "set", frames=0)
    for part, videos in (("train", 4), ("test", 2)):
        for name in ("run", "walk"):
            for i in range(videos):
                path = tmp_path / "set" / part / name / f"{i:02}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"video")
    return values


def csv_set(root, train, test="path,label\ne.mp4,run\n", classes=None):
    """A set of lists whose files are empty."""
    for part, text in (("train", train), ("test", test)):
        (root / f"{part}.csv").write_bytes(text.encode())
    if classes:
        write_lines(root / "classes.txt", classes)
    return dict(name="tiny", format="csv", root=str(root), on_unreadable="skip")


# -- folders that cannot be listed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("folder", ["test/walk", "train/run", "test", "train/run/day1"])
def test_a_folder_that_cannot_be_listed_is_named(values, monkeypatch, folder, code):
    target, scandir = Path(values["root"], folder), os.scandir
    target.mkdir(exist_ok=True)

    def fail(path="."):
        if Path(path) == target:
            raise OSError(code, os.strerror(code), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    message = refused(values)
    assert str(target) in message
    assert os.strerror(code) in message


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ENOMEM])
def test_a_listed_file_that_cannot_be_looked_at_is_named_and_not_taken_for_missing(values, monkeypatch, code):
    target, stat = Path(values["root"], "test/walk/01.mp4"), os.stat

    def fail(path, **how):
        if str(path) == str(target):
            raise OSError(code, os.strerror(code), str(path))
        return stat(path, **how)

    monkeypatch.setattr(os, "stat", fail)
    assert str(target) in refused(values, on_unreadable="skip")


# -- files of other suffixes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1.MTS", "1.m2ts", "1.ogv", "1.vob", "1.asf", "1.f4v"])
def test_videos_of_cameras_and_discs_are_listed(values, name):
    Path(values["root"], "train/run", name).write_bytes(b"video")
    assert count(values) == [9, 0, 4]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["x.gif"], ["1 files", "1 .gif"]),
        (["noext", "x.gif", "y.GIF"], ["3 files", "2 .gif", "1 no suffix"]),
        (["notes.txt", "sub/x.mp4.part"], ["1 .txt", "1 .part", "8 .mp4"]),
        (["a.jpg"], ["1 .jpg"]),
    ],
)
def test_files_that_are_left_out_are_counted_by_suffix(values, capsys, names, words):
    for name in names:
        for part in ("train/run", "test/walk") if name == "a.jpg" else ("train/run",):
            Path(values["root"], part, name).parent.mkdir(exist_ok=True)
            Path(values["root"], part, name).write_bytes(b"?")
    assert count(values) == [8, 0, 4]
    said = capsys.readouterr().err
    assert values["root"] in said
    assert [word for word in words if word.replace("1 .jpg", "2 .jpg").replace("8 .mp4", "12 .mp4") not in said] == []


@pytest.mark.parametrize("path", ["train/a.mp4", "test/b.avi", "train/readme.txt"])
def test_files_in_no_class_folder_are_named(values, capsys, path):
    Path(values["root"], path).write_bytes(b"video")
    assert count(values) == [8, 0, 4]
    assert path in capsys.readouterr().err


def test_a_class_folder_of_the_test_list_without_videos_is_named(values, capsys):
    for path in Path(values["root"], "test/walk").iterdir():
        path.unlink()
    assert count(values) == [8, 0, 2]
    assert "walk" in capsys.readouterr().err


# -- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["..", "../..", ".", "../walk", "../../.."])
def test_a_link_within_the_data_set_repeats_nothing(values, capsys, target):
    link = Path(values["root"], "train/run/aa")
    link.symlink_to(target)
    assert count(values) == [8, 0, 4]
    assert [v.path for v in read(values).train if v.label == 0] == [f"train/run/{i:02}.mp4" for i in range(4)]
    assert str(link) in capsys.readouterr().err


def test_links_to_other_folders_are_followed_once_each(values, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for name in ("a.mp4", "deep/b.mp4"):
        (elsewhere / name).write_bytes(b"video")
    (elsewhere / "deep/back").symlink_to(elsewhere)
    Path(values["root"], "train/run/one").symlink_to(elsewhere)
    assert count(values) == [10, 0, 4]
    assert "deep/back" in capsys.readouterr().err
    Path(values["root"], "train/walk/two").symlink_to(elsewhere)
    assert count(values) == [10, 0, 4]
    assert "train/walk/two" in capsys.readouterr().err


def test_class_folders_may_be_links(values, tmp_path):
    root = Path(values["root"])
    for part in ("train", "test"):
        shutil.move(root / part / "run", tmp_path / f"run-{part}")
        (root / part / "run").symlink_to(tmp_path / f"run-{part}")
    assert count(values) == [8, 0, 4]


# -- one video, several names -----------------------------------------------------------------------------------------


def link(source, target, how):
    if how == "copy":
        shutil.copyfile(source, target)
    else:
        {"symbolic": target.symlink_to, "hard": target.hardlink_to}[how](source)


@pytest.mark.parametrize("how", ["symbolic", "hard"])
@pytest.mark.parametrize("other", ["test/run/zz.mp4", "val/run/zz.mp4"])
def test_one_file_in_two_lists_is_refused_whatever_it_is_called(values, how, other):
    target = Path(values["root"], other)
    target.parent.mkdir(parents=True, exist_ok=True)
    link(Path(values["root"], "train/run/00.mp4"), target, how)
    message = refused(values)
    assert other in message
    assert "train/run/00.mp4" in message
    assert f"train and {other.partition('/')[0]}" in message


@pytest.mark.parametrize("how", ["symbolic", "hard", "copy"])
def test_one_video_in_two_classes_is_named(tmp_path, capsys, how):
    values = write_folder(tmp_path, parts={"train": 2, "test": 1})
    source, target = Path("train/run/00.mp4"), Path("train/walk/zz.mp4")
    link(tmp_path / source, tmp_path / target, how)
    videos = datamodule.load_videos(DataConfig(**values))
    said = capsys.readouterr().err
    assert f"{source} (train, run) = {target} (train, walk)" in said
    rows = survey.find_duplicates({1: videos.index}, videos.infos)
    assert rows == [(str(source), f"equals {target}, in train of split 1, as run and walk")]


def test_equal_videos_of_one_class_and_list_are_pairs_with_the_first(tmp_path, capsys):
    values = write_folder(tmp_path, parts={"train": 5, "test": 2})
    for name in ("train/run/02.mp4", "train/run/04.mp4", "test/run/00.mp4", "test/run/01.mp4"):
        shutil.copyfile(tmp_path / "train/run/01.mp4", tmp_path / name)
    videos = datamodule.load_videos(DataConfig(**values))
    assert "4 pairs" in capsys.readouterr().err  # those in two lists: the first one of each with all of the other
    pairs = [(a, b.split()[1][:-1]) for a, b in survey.find_duplicates({1: videos.index}, videos.infos)]
    assert len(pairs) == 7
    assert ("train/run/02.mp4", "train/run/04.mp4") not in pairs


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [b"train/run/caf\xe9.mp4", b"train/run/\xd6\xd0/a.mp4", b"test/walk/\xff.mp4", b"train/\xe9/0.mp4"]
)
def test_names_that_are_not_utf8_are_refused_by_name(values, name):
    path = os.fsencode(values["root"]) + b"/" + name
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(os.fsdecode(path)).write_bytes(b"video")
    assert ascii(name)[2:-1] in refused(values)


def test_a_root_that_is_not_utf8_is_refused_by_name(tmp_path):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    root.mkdir()
    assert "\\xe9" in refused(dict(name="tiny", format="folder", root=str(root)))


@pytest.mark.parametrize("name", ["a\nb.mp4", "a\r\nb.mp4", "a\u2028b.mp4", "a\x85b.mp4", "a\x0cb.mp4", 'a"b.mp4'])
def test_names_with_line_breaks_are_read_as_they_are(tmp_path, name):
    quoted = name.replace('"', '""')
    values = csv_set(tmp_path, f'path,label\r\n"{quoted}",run\r\nb.mp4,walk\r\n')
    assert [video.path for video in read(values).train] == [name, "b.mp4"]
    rows = read_csv_rows(tmp_path / "train.csv", "path,label", ("path", "label"))
    assert rows[1][0] == f"{tmp_path}/train.csv:{3 + name.count(chr(10))}"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_end_where_editors_end_them(tmp_path, newline):
    path = tmp_path / "list.txt"
    path.write_bytes(newline.join(["a\u2028b", "", " c\x85d "]).encode())
    assert read_lines(path) == [(f"{path}:1", "a\u2028b"), (f"{path}:3", "c\x85d")]


def test_a_missing_file_that_is_there_in_another_normal_form_is_hinted_at(tmp_path):
    values = write_csv(
        tmp_path,
        {"train": [(f"{NFC}.mp4", "run"), ("b.mp4", "walk")], "test": [("e.mp4", "run")]},
        header="path,label",
        frames=0,
    )
    for name in (f"{NFD}.mp4", "b.mp4", "e.mp4"):
        (tmp_path / name).touch()
    message = refused(values)
    assert "1 listed videos" in message
    assert "nfc" in message


@pytest.mark.parametrize("form", [NFD, f"{NFC} ", f" {NFC}"])
def test_classes_that_look_the_same_are_refused(tmp_path, form):
    for part in ("train", "test"):
        for name in (NFC, form):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / f"{len(name)}.mp4").touch()
    message = refused(dict(name="tiny", format="folder", root=str(tmp_path)))
    assert ascii(form)[1:-1] in message


@pytest.mark.parametrize(("listed", "label"), [(NFC, NFD), (NFD, NFC)])
def test_a_label_in_another_normal_form_is_hinted_at(tmp_path, listed, label):
    values = csv_set(tmp_path, f"path,label\na.mp4,{label}\nb.mp4,run\n", classes=[listed, "run"])
    message = refused(values)
    assert "train.csv:2" in message
    assert "convmv" in message


# -- fields -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "path,label,group\na.mp4, run,g\nb.mp4,run ,g \nc.mp4,\trun\t, g\nd.mp4,walk,h\n",
        "path, label , group\n a.mp4,run,g\nb.mp4 ,\u00a0run,g\nc.mp4,run\u3000,g\nd.mp4,walk,h\n",
        'path,label,group\na.mp4, "run", g\n"b.mp4",  "run",g\nc.mp4," run ",g\nd.mp4,walk,h\n,,\n',
        "path,label,group,\r\na.mp4,run,g,\r\nb.mp4,run,g,\r\n\r\nc.mp4,run,g\r\n  d.mp4,walk,h,\r\n , ,\r\n",
    ],
)
def test_blanks_around_fields_do_not_count(tmp_path, text):
    found = read(csv_set(tmp_path, text), val="none")
    assert found.classes == ("run", "walk")
    assert found.train == tuple(Video(f"{n}.mp4", int(n == "d"), "h" if n == "d" else "g") for n in "abcd")


def test_blanks_in_the_lists_of_ucf101_do_not_count(tmp_path):
    values = write_ucf101(tmp_path, frames=0)
    write_lines(tmp_path / "splits" / "classInd.txt", ["1  Run", "2\tWalk "])
    write_lines(tmp_path / "splits" / "trainlist01.txt", ["Run/v_Run_g02_c01.avi  1", "Walk/v_Walk_g02_c01.avi\t2"])
    found = read(values, val="none", on_unreadable="skip")
    assert found.classes == ("Run", "Walk")
    assert [v.path for v in found.train] == ["Run/v_Run_g02_c01.avi", "Walk/v_Walk_g02_c01.avi"]


@pytest.mark.parametrize(
    "columns", ["begin,stop", "time_start,time_end", "start_frame,end_frame", "Begin,Stop", "tStart,tEnd"]
)
def test_columns_of_a_part_of_a_video_are_refused_by_name(tmp_path, columns):
    message = refused(csv_set(tmp_path, f"path,label,{columns}\na.mp4,run,0,1\nb.mp4,walk,1,2\n"))
    assert "train.csv" in message
    assert columns.replace(",", ", ") in message


@pytest.mark.parametrize("column", ["fps", "Group", "weekend", "id", "friend"])
def test_other_columns_are_named(tmp_path, capsys, column):
    read(csv_set(tmp_path, f"path,label,{column}\na.mp4,run,0\nb.mp4,walk,1\n"))
    said = capsys.readouterr().err
    assert column in said
    assert "train.csv" in said


@pytest.mark.parametrize("label", ["run|walk", "run ; walk", "walk;run"])
def test_several_labels_in_one_field_are_refused(tmp_path, label):
    assert repr(label) in refused(csv_set(tmp_path, f"path,label\na.mp4,run\nb.mp4,walk\nc.mp4,{label}\n"))


def test_a_label_with_a_bar_is_one_class(tmp_path):
    found = read(
        csv_set(tmp_path, "path,label\na.mp4,sports|run\nb.mp4,sports|walk\n", "path,label\ne.mp4,sports|run\n")
    )
    assert found.classes == ("sports|run", "sports|walk")


# -- one class --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "csv", "listed", "ucf101"])
def test_training_videos_of_one_class_are_told(tmp_path, capsys, kind):
    if kind == "folder":
        values = write_folder(tmp_path, classes=("videos",), parts={"train": 2, "test": 1})
    elif kind == "ucf101":
        values = write_ucf101(tmp_path, classes=("videos",))
    else:
        classes = ["videos", "run"] if kind == "listed" else None
        values = csv_set(tmp_path, "path,label\na.mp4,videos\nb.mp4,videos\n", "path,label\ne.mp4,videos\n", classes)
    read(values)
    assert "one class, 'videos'" in capsys.readouterr().err


def test_two_classes_are_not_worth_a_word(tmp_path, capsys):
    read(write_folder(tmp_path))
    read(
        write_csv(
            tmp_path / "csv", {"train": [("a.mp4", "x"), ("b.mp4", "y")], "test": [("c.mp4", "x")]}, header="path,label"
        )
    )
    assert capsys.readouterr().err == ""
