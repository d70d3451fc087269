"""The table of several runs: rows by recipe, means over splits and seeds, intervals over groups, and refusals."""

import json

import numpy as np
import pytest
import yaml
from helpers.commands import TINY

from videores.errors import UserError
from videores.evaluation.metrics import bootstrap_interval
from videores.reporting import paper

LABELS = np.array([0, 0, 0, 1])


def write_run(folder, split, seed, right, lr=0.02, protocol="8x1@32/32 1x1 softmax-mean tiny-1", groups=None):
    """A tested run whose answers to four videos of its split are right or wrong."""
    data = {**TINY["data"], "format": "ucf101", "split": split}
    train = {**TINY["train"], "lr": lr}
    target = folder / "test" / "one"
    target.mkdir(parents=True)
    values = {**TINY, "data": data, "train": train, "run": {"seed": seed}}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    answers = np.where(right, LABELS, 1 - LABELS)
    logits = np.eye(2, dtype=np.float32)[answers][:, None] * 9
    names = [f"s{split}/{number}.avi" for number in range(4)]
    arrays = dict(
        video=names, label=LABELS, group=groups or [f"g{split}{n // 2}" for n in range(4)], classes=["a", "b"]
    )
    np.savez(target / "predictions.npz", **arrays, clip=[0], crop=[0], logits=logits)
    right = {"majority": "1011", "size": "1010", "thumbnail": "1000" if split == 1 else "0011"}
    floors = {"right": right, "majority": 75.0, "size": 50.0, "thumbnail": 25.0 * split, "training_videos": 8}
    metrics = {"protocol": f"{protocol[:-1]}{split}", "floors": {**floors, "best": "majority", "above": False}}
    (target / "metrics.json").write_text(json.dumps(metrics))
    return folder


RIGHT_FLOOR = [1, 0, 1, 1, 1, 0, 1, 1]  # of the best, the majority
RIGHT = {(1, 0): [1, 1, 1, 0], (2, 0): [1, 1, 0, 0], (1, 1): [1, 1, 1, 1], (2, 1): [1, 1, 0, 1]}


@pytest.fixture
def runs(tmp_path):
    return [write_run(tmp_path / f"net-split{s}-seed{n}", s, n, right) for (s, n), right in RIGHT.items()]


def test_a_row_has_means_over_seeds_of_each_split_and_of_the_mean_of_splits(tmp_path, runs):
    rows = paper.write_table(runs, tmp_path / "out")
    (row, *floors) = rows
    assert (row.name, row.splits) == ("net", {1: 87.5, 2: 62.5})
    seeds = [(75 + 50) / 2, (100 + 75) / 2]
    video, uar = row.means["video_top1"], row.means["mean_class_top1"]
    assert (video.value, video.deviation) == (np.mean(seeds), pytest.approx(np.std(seeds, ddof=1)))
    right_V = np.array([1, 1, 1, 0.5, 1, 1, 0, 0.5])
    groups, splits = ["a", "a", "b", "b", "c", "c", "d", "d"], np.repeat([0, 1], 4)
    assert video.interval == tuple(bootstrap_interval(right_V, groups, stratum_V=splits))
    assert uar.value == pytest.approx(np.mean([50, 100, (200 / 3) / 2, (200 / 3 + 100) / 2]))
    assert [(floor.name, floor.splits) for floor in floors] == [
        ("floor: majority class", {1: 75.0, 2: 75.0}),
        ("floor: size and length", {1: 50.0, 2: 50.0}),
        ("floor: thumbnail", {1: 25.0, 2: 50.0}),
    ]
    text = (tmp_path / "out" / "table.md").read_text()
    assert f"| net | 75.00 ± 17.68 | 87.50 | 62.50 | 75.00 ± 17.68 [{video.interval[0]:.2f}" in text
    assert "4 groups of the 8 test videos" in text
    assert "not wholly above the best floor: net." in text
    low, high = bootstrap_interval(right_V - RIGHT_FLOOR, groups, stratum_V=splits)
    assert row.means["above_floor"][:3] == (0, None, (low, high))
    assert f"| +0.00 [{low:+.2f}, {high:+.2f}] |" in text
    assert r"net & 75.00 $\pm$ 17.68 & 87.50" in (tmp_path / "out" / "table.tex").read_text()
    assert len((tmp_path / "out" / "runs.csv").read_text().splitlines()) == 5


def test_other_recipes_are_other_rows_of_the_same_videos(tmp_path, runs):
    others = [write_run(tmp_path / f"wide-split{s}", s, 0, RIGHT[s, 0], lr=0.5) for s in (1, 2)]
    rows = paper.write_table([*runs, *others], tmp_path / "out")
    assert [row.name for row in rows[:2]] == ["net", "wide"]
    assert rows[1].means["video_top1"].deviation is None
    assert "above_first" not in rows[0].means
    difference = rows[1].means["above_first"]
    assert difference.value == rows[1].means["video_top1"].value - rows[0].means["video_top1"].value
    assert difference.interval[0] <= difference.value <= difference.interval[1]
    assert r"& $-$" in (tmp_path / "out" / "table.tex").read_text()
    text = (tmp_path / "out" / "table.md").read_text()
    assert f"| {difference} |" in text
    assert "Rows differ in `train.lr` (0.02, 0.5)." in text
    assert "% Rows differ in `train.lr`" in (tmp_path / "out" / "table.tex").read_text()
    assert paper.name_table([*runs, others[0] / "test" / "one"]) == "net+wide"
    many = [tmp_path / f"network-{n:02}" for n in range(20)]
    assert paper.name_table(many) != paper.name_table(many[:-1]), "names are cut, and still differ"


def test_a_row_that_lacks_a_run_or_has_another_protocol_or_other_videos_is_refused(tmp_path, runs):
    with pytest.raises(UserError, match=r"net: .* split 2 of seed 1"):
        paper.write_table(runs[:3], tmp_path / "out")
    other = write_run(tmp_path / "p", 2, 1, RIGHT[2, 1], protocol="8x2@32/32 1x1 softmax-mean tiny-2")
    with pytest.raises(UserError, match="under one protocol"):
        paper.write_table([*runs[:3], other], tmp_path / "out")
    wide = write_run(tmp_path / "wide-split1", 1, 0, RIGHT[1, 0], lr=0.5)
    arrays = dict(np.load(wide / "test/one/predictions.npz"))
    np.savez(wide / "test/one/predictions.npz", **arrays | {"video": [f"x{n}" for n in range(4)]})
    with pytest.raises(UserError, match="different videos"):
        paper.write_table([runs[0], wide], tmp_path / "out")
    (wide / "config.yaml").unlink()
    with pytest.raises(UserError, match="must be a run"):
        paper.write_table([wide], tmp_path / "out")
