"""All splits and seeds of a configuration by one command, as ordinary runs, and their table."""

import csv
import statistics

import pytest
from helpers.commands import forked, result, succeeded, write_config
from helpers.videos import write_ucf101

SPLITS = (1, 2, 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of each split: that of the second one was there before."""
    folder = tmp_path_factory.mktemp("splits")
    data = write_ucf101(folder, frames=10, height=32, width=32) | {"clip": {"frames": 4}, "val": "none"}
    write_config(folder / "tiny.yaml", data=data, train={"epochs": 1, "warmup": 0}, test={"clips": 1})
    alone = ("train.py", "--cfg", "tiny.yaml", "data.split=2", "run.name=split2")
    everything = ("train.py", "--cfg", "tiny.yaml", "data.split=all")
    first, refused, whole = forked([alone, everything, (*everything, "run.resume=auto")], folder)
    succeeded(first)
    assert "runs/tiny-split2 holds a run" in succeeded(refused, 2).stderr
    assert not refused.stdout
    return folder, succeeded(whole).stdout


def test_splits_are_ordinary_runs_and_finished_ones_are_left_alone(place):
    folder, printed = place
    found = {split: result(folder / "runs" / f"tiny-split{split}")[0] for split in SPLITS}
    assert [found[split]["protocol"][-1] for split in SPLITS] == ["1", "2", "3"]
    assert "runs/tiny-split2: finished before" in printed
    assert printed.count("wrote   runs/tiny-split") == 2


def test_the_last_lines_and_the_table_are_the_means_of_the_splits(place):
    folder, printed = place
    found = [result(folder / "runs" / f"tiny-split{split}")[0] for split in SPLITS]
    mean = statistics.fmean(one["video_top1"] for one in found)
    clip, video = printed.splitlines()[-2:]
    assert clip.startswith("clip    top-1 ")
    assert video.startswith(f"video   top-1 {mean:.2f} [")
    assert f"(splits 1: {found[0]['video_top1']:.2f}, 2: " in video
    rows = list(csv.DictReader((folder / "results/tables/tiny/table.csv").open()))
    assert rows[0]["row"] == "tiny"
    assert float(rows[0]["video_top1"]) == pytest.approx(mean)
    assert [row["row"].partition(":")[0] for row in rows[1:]] == ["floor"] * 3


def test_a_table_of_runs_is_the_same_and_names_what_is_missing(place):
    folder, _ = place
    runs = [f"runs/tiny-split{split}" for split in SPLITS]
    same, missing = forked(
        [("report.py", "--table", *runs, "--out", "t"), ("report.py", "--table", runs[0], runs[1], runs[1])], folder
    )
    succeeded(same)
    for name in ("table.md", "table.csv", "table.tex", "runs.csv"):
        assert (folder / "t" / name).read_bytes() == (folder / "results/tables/tiny" / name).read_bytes()
    assert "one is there twice" in succeeded(missing, 2).stderr


def test_what_has_no_splits_and_what_tests_one_refuse_all(place):
    folder, _ = place
    all_of_csv = ("train.py", "--cfg", "tiny.yaml", "data.split=all", "data.format=csv")
    test = ("evaluate.py", "--run", "runs/tiny-split1", "data.split=all")
    wrong, tested = forked([all_of_csv, test], folder)
    assert "data.format ucf101" in succeeded(wrong, 2).stderr
    assert "data.split=all" in succeeded(tested, 2).stderr
