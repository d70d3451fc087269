"""Data sets of emotions: the emotion and the actor of each name, folds of actors, and what is left out or refused."""

from collections import Counter

import pytest
from helpers.lists import read, refused
from helpers.videos import write_lines

from videores.data.lists import Video


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return dict(name="tiny", root=str(root))


RAVDESS = [f"Actor_{n:02}/01-01-{emotion:02}-01-01-01-{n:02}.mp4" for n in range(1, 25) for emotion in range(1, 9)]


def test_ravdess_has_each_spoken_recording_once_in_one_of_five_folds(tmp_path, capsys):
    silent = [path.replace("/01-01-", "/02-01-") for path in RAVDESS]  # the same pictures
    more = ["Actor_01/03-01-05-01-01-01-01.mp4", "Actor_01/01-02-05-01-01-01-01.mp4", "Actor_01/notes.mp4"]
    values = touch(tmp_path, [*RAVDESS, *silent, *more]) | {"format": "ravdess"}
    folds = [read(values, split=split, val="none") for split in (1, 2, 3, 4, 5)]
    assert folds[0].classes[4] == "angry"
    assert Video("Actor_01/01-01-05-01-01-01-01.mp4", 4, "actor 01") in folds[0].train
    assert sorted(video.path for fold in folds for video in fold.test) == sorted(RAVDESS)
    assert {video.group for video in folds[4].test} == {"actor 01", "actor 04", "actor 09", "actor 22"}
    told = capsys.readouterr().err
    assert "1 files of songs, 1 files of sound alone, 192 files with the same pictures" in told
    assert "notes.mp4" in told


def test_ravdess_without_sound_is_taken_where_it_is_alone_and_actors_are_held_out(tmp_path):
    values = touch(tmp_path, [path.replace("/01-01-", "/02-01-") for path in RAVDESS]) | {"format": "ravdess"}
    found = read(values)
    held_out, kept, tested = ({video.group for video in part} for part in (found.val, found.train, found.test))
    assert (len(held_out), len(tested)) == (2, 5)
    assert not held_out & kept
    assert "01-01-05-01-02-01-12.mp4" in refused(touch(tmp_path / "empty", ["a.mp4"]) | {"format": "ravdess"})


def test_crema_d_actors_take_turns_over_the_folds(tmp_path):
    names = [f"{n}_DFA_{emotion}_XX.flv" for n in range(1001, 1012) for emotion in ("ANG", "NEU")]
    values = touch(tmp_path / "VideoFlash", [*names, "copies/1001_DFA_ANG_XX.mp4"]) | {"format": "crema-d"}
    found = read(values, split=1, val="none")
    assert Counter(video.group for video in found.test) == {"actor 1001": 2, "actor 1006": 2, "actor 1011": 2}
    assert (found.classes[found.test[0].label], len(found.train)) == ("anger", 16)
    touch(tmp_path / "VideoFlash", ["1001_DFA_JOY_XX.flv"])
    assert "1001_DFA_JOY_XX.flv: class 'JOY'" in refused(values)


def test_afew_groups_are_films_or_those_of_a_list(tmp_path):
    names = ["Train_AFEW/Angry/Alien_0001.avi", "Train_AFEW/Sad/Brazil_12.avi", "Val_AFEW/Sad/000046280.avi"]
    values = touch(tmp_path, names) | {"format": "afew"}
    found = read(values, val="none")
    assert found.train == (Video(names[0], 0, "Alien"), Video(names[1], 1, "Brazil"))
    assert found.test == (Video(names[2], 1, None),)
    subjects = tmp_path / "subjects.csv"
    write_lines(subjects, ["path,group", *(f"{name},person {i}" for i, name in enumerate(names))])
    assert read(values, val="none").test[0].group == "person 2"
    write_lines(subjects, ["path,group", *(f"{name},person 1" for name in names)])
    assert "share 1 group(s)" in refused(values, val="none")  # a subject on both sides
    write_lines(subjects, ["path,group", f"{names[0]},person 1"])
    message = refused(values, val="none")
    assert "subjects.csv" in message
    assert names[2] in message


@pytest.mark.parametrize("folders", [["Train/Sad"], ["Train/Sad", "Val/Sad", "Val_AFEW/Sad"]])
def test_afew_needs_one_folder_of_each_list(tmp_path, folders):
    values = touch(tmp_path, [f"{folder}/a_1.avi" for folder in folders]) | {"format": "afew"}
    assert "one folder Val*" in refused(values)
