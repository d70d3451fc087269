"""The runs of several splits and seeds: their folders and overrides, and what is refused before the first of them."""

import json

import pytest
from helpers.videos import write_ucf101

from videores.config import parse
from videores.errors import UserError
from videores.training import repeats


def plan(*overrides, seeds=(), name="r2plus1d_motion.yaml"):
    return repeats.plan_repeats(name, overrides, seeds)


@pytest.fixture
def lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = write_ucf101(tmp_path, frames=0)
    return [f"data.{key}={value}" for key, value in values.items()]


def test_seeds_need_no_splits_and_no_embedded_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = plan("train.epochs=3", "run.name=a", seeds=(4, 7))
    assert [str(repeat.folder) for repeat in found] == ["runs/r2plus1d_motion-a-seed4", "runs/r2plus1d_motion-a-seed7"]
    assert [repeat.cfg.run.seed for repeat in found] == [4, 7]
    assert parse.load_config("r2plus1d_motion.yaml", found[1].overrides) == found[1].cfg


def test_all_splits_of_a_seed_come_before_the_next_seed(lists):
    found = plan(*lists, "data.split=all", "run.dir=out/x", seeds=(0, 1))
    assert [(one.cfg.run.seed, one.cfg.data.split) for one in found] == [(s, n) for s in (0, 1) for n in (1, 2, 3)]
    assert str(found[-1].folder) == "out/x-split3-seed1"


def test_a_missing_list_a_run_and_a_launcher_are_told_before_the_first_run(tmp_path, lists, monkeypatch):
    (tmp_path / "splits" / "testlist03.txt").rename(tmp_path / "gone.txt")
    with pytest.raises(UserError, match=r"testlist03\.txt"):
        plan(*lists, "data.split=all")
    (tmp_path / "gone.txt").rename(tmp_path / "splits" / "testlist03.txt")
    run = tmp_path / "runs" / "r2plus1d_motion-split2"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(parse.to_yaml(plan(*lists, "data.split=all")[1].cfg))
    with pytest.raises(UserError, match="split2 holds a run"):
        plan(*lists, "data.split=all")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(UserError, match="torchrun"):
        plan(*lists, "data.split=all")


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 1), (75, None), (None, None)])
def test_only_finished_runs_of_the_same_configuration_are_left_alone(lists, status, expected):
    (repeat, *_) = plan(*lists, "data.split=all", "run.resume=auto")
    repeat.folder.mkdir(parents=True)
    (repeat.folder / "config.yaml").write_text(parse.to_yaml(repeat.cfg))
    (repeat.folder / "env.json").write_text(json.dumps({"exit_status": status} if status is not None else {}))
    assert repeats.find_exit_status(repeat) == expected
    if expected is not None:
        changed = repeat._replace(cfg=parse.load_config("r2plus1d_motion.yaml", [*repeat.overrides, "train.lr=9"]))
        with pytest.raises(UserError, match=r"train\.lr"):
            repeats.find_exit_status(changed)
