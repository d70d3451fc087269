"""The run folder: its name, what it refuses, what a run resumes from, and the record."""

import json

import pytest
import torch

from videores.config import parse
from videores.errors import UserError
from videores.training import checkpoint_io, run_folder
from videores.training.resume import ResumePoint, find_resume_point

SIGNATURE = {"processes": 1, "device": "cpu", "precision": "fp32", "the list of train videos": "abc"}
CLASSES = ["a", "b"]


def make_config(**run):
    data = {"name": "tiny", "format": "csv", "root": "."}
    values = {"run": run, "data": data, "model": {"name": "r3d_18"}, "train": {"epochs": 1}}
    return parse.build_config(values, "test")


def changed(cfg, **sections):
    return cfg.model_copy(update={name: getattr(cfg, name).model_copy(update=keys) for name, keys in sections.items()})


def enter(cfg, folder, signature=SIGNATURE, classes=CLASSES):
    """What a training does with the folder before it trains. Returns the point that it resumes from."""
    run_folder.check_run_folder(cfg, folder)
    with run_folder.RunLock(cfg, folder) as lock:
        start = find_resume_point(cfg, folder, signature, classes)
        lock.acquire()
        run_folder.prepare_run_folder(cfg, folder)
        return start


def save(cfg, folder, step=7, name="last.ckpt"):
    hyper_parameters = {"config": parse.dump_config(cfg), "classes": CLASSES}
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": 0}}}}
    content = {"epoch": 1, "global_step": step, "state_dict": {}, "hyper_parameters": hyper_parameters, "loops": loops}
    content |= {"lr_schedulers": [{}], "made_with": SIGNATURE}
    checkpoint_io.write_checkpoint(content, folder / "checkpoints" / name)


def read_record(folder):
    return json.loads((folder / "env.json").read_text())


@pytest.fixture
def taken(tmp_path):
    """A run folder with a checkpoint."""
    folder = tmp_path / "run"
    enter(make_config(), folder)
    run_folder.RunRecord(folder, make_config()).add_start(0)
    save(make_config(), folder)
    return folder


def test_folder_is_named_after_the_configuration_without_a_time():
    assert run_folder.resolve_run_folder(make_config(), "configs/r3d_motion.yaml").as_posix() == "runs/r3d_motion"
    assert run_folder.resolve_run_folder(make_config(name="a"), "r3d_motion.yaml").as_posix() == "runs/r3d_motion-a"
    assert run_folder.resolve_run_folder(make_config(name="a", dir="x/y"), "r3d_motion.yaml").as_posix() == "x/y"


def test_a_new_or_empty_folder_gets_the_resolved_configuration(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "a" / "b", tmp_path / "empty"):
        cfg = make_config(seed=3)
        assert enter(cfg, folder) is None
        assert parse.load_config(folder / "config.yaml") == cfg
        assert (folder / "checkpoints").is_dir()


def test_an_existing_run_is_refused_with_the_remedies(taken):
    with pytest.raises(UserError, match=r"run\.name.*run\.resume=auto.*run\.overwrite=true"):
        enter(make_config(), taken)
    assert (taken / "checkpoints" / "last.ckpt").exists()


def test_overwrite_deletes_what_a_run_wrote_and_nothing_else_through_a_link_too(taken, tmp_path):
    (taken / "notes.txt").write_text("precious")
    (tmp_path / "link").symlink_to(taken)
    for folder in (taken, tmp_path / "link"):
        run_folder.RunRecord(taken, make_config()).add_start(0)
        save(make_config(), taken)
        for name in ("curves.png", "curves.svg"):
            (taken / name).touch()
        for name in ("explain", "probe"):  # pictures of the former weights
            (taken / name / "gradcam").mkdir(parents=True)
        assert enter(make_config(overwrite=True), folder) is None
        assert not {"explain", "probe"} & {path.name for path in taken.iterdir()}
        assert (taken / "notes.txt").read_text() == "precious"
        assert not list(taken.glob("curves.*"))
        assert not (taken / "checkpoints" / "last.ckpt").exists()


def test_overwrite_keeps_what_lies_behind_links_and_is_none_of_the_run(taken, tmp_path):
    for name in ("checkpoints", "test", "val", "tensorboard"):
        disk = tmp_path / f"disk-{name}"
        if (taken / name).exists():
            (taken / name).rename(disk)
        disk.mkdir(exist_ok=True)
        (disk / "mine.txt").write_text("x")
        (taken / name).symlink_to(disk)
    (taken / "metrics.jsonl").symlink_to(tmp_path / "disk-test" / "mine.txt")
    enter(make_config(overwrite=True), taken)
    assert (taken / "checkpoints").is_symlink()
    assert [path.name for path in (taken / "checkpoints").iterdir()] == ["mine.txt"]
    assert all((tmp_path / f"disk-{name}" / "mine.txt").exists() for name in ("checkpoints", "test", "val"))
    assert not any((taken / name).exists() for name in ("test", "val", "tensorboard", "metrics.jsonl"))
    save(make_config(), taken)
    assert enter(make_config(resume="auto"), taken).step == 7
    run_folder.RunRecord(taken, make_config()).add_start(0)
    (taken / "checkpoints").unlink()
    (taken / "checkpoints").symlink_to(tmp_path / "unmounted")
    with pytest.raises(FileExistsError, match="checkpoints"):
        enter(make_config(overwrite=True), taken)


def test_what_is_no_run_folder_is_never_removed(tmp_path):
    file, thesis, config = tmp_path / "file", tmp_path / "thesis", tmp_path / "config"
    file.write_text("precious")
    for folder, name in ((thesis, "thesis.txt"), (config, "config.yaml")):
        folder.mkdir()
        (folder / name).write_text("a: 1")
    cases = [(file, {}), (file, {"overwrite": True}), (file, {"resume": "auto"}), (thesis, {})]
    for folder, run in [*cases, (thesis, {"overwrite": True}), (config, {"overwrite": True})]:
        with pytest.raises(UserError, match=folder.name):
            enter(make_config(**run), folder)
    kept = [file, thesis / "thesis.txt", config / "config.yaml"]
    assert [path.read_text() for path in kept] == ["precious", "a: 1", "a: 1"]


def test_a_config_that_does_not_parse_is_named_where_there_is_no_checkpoint_yet(tmp_path):
    (tmp_path / "env.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("run: [")
    with pytest.raises(UserError, match=r"config\.yaml"):
        enter(make_config(resume="auto"), tmp_path)


# Resuming


def test_resume_continues_from_the_last_checkpoint_even_with_overwrite(taken):
    for run in ({}, {"overwrite": True}):
        start = enter(make_config(resume="auto", **run), taken)
        assert start == ResumePoint(taken / "checkpoints" / "last.ckpt", 7, [])
        assert start.path.exists()


def test_resume_without_a_run_or_a_checkpoint_starts_afresh(tmp_path, taken):
    assert enter(make_config(resume="auto"), tmp_path / "new") is None
    (taken / "checkpoints" / "last.ckpt").unlink()
    assert enter(make_config(resume="auto"), taken) is None


def test_another_configuration_or_other_classes_are_refused_with_the_differences(taken):
    for resume in ("auto", "inexact"):
        with pytest.raises(UserError, match=r"run\.seed: 0 there, 5 now"):
            enter(make_config(resume=resume, seed=5), taken)
        with pytest.raises(UserError, match="0: a / b"):
            enter(make_config(resume=resume), taken, classes=["b", "a"])


def test_resume_may_move_the_data_and_change_workers_and_devices(taken):
    """As long as there are equally many ranks."""
    data, trainer = {"root": "elsewhere", "splits": "lists", "workers": 7}, {"devices": "auto"}
    assert enter(changed(make_config(resume="auto"), data=data, trainer=trainer), taken).inexact == []
    assert enter(make_config(resume="inexact"), taken).inexact == []


INEXACT = [
    (dict(data={"batch_size": 3}), SIGNATURE, "data.batch_size: 16 there, 3 now"),
    (dict(), SIGNATURE | {"processes": 2}, "processes: 1 there, 2 now"),
    (dict(), SIGNATURE | {"the list of train videos": "abd"}, "the list of train videos: abc there, abd now"),
    (dict(trainer={"precision": "bf16"}), SIGNATURE | {"precision": "bf16"}, "precision: fp32 there, bf16 now"),
]


@pytest.mark.parametrize(("sections", "signature", "line"), INEXACT)
def test_what_does_not_resume_exactly_is_refused_and_continues_on_request(taken, sections, signature, line):
    cfg = changed(make_config(resume="auto"), **sections)
    with pytest.raises(UserError, match=line) as error:
        enter(cfg, taken, signature)
    assert "run.resume=inexact" in str(error.value)
    assert line in enter(changed(cfg, run={"resume": "inexact"}), taken, signature).inexact
    with pytest.raises(UserError, match=line):  # until there is a new checkpoint, whatever config.yaml says
        enter(cfg, taken, signature)


def test_a_run_from_before_a_key_existed_goes_on(taken):
    """A key that the checkpoint does not have had its default then."""
    path = taken / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["hyper_parameters"]["config"]["train"]["label_smoothing"]
    del content["made_with"]
    checkpoint_io.write_checkpoint(content, path)
    assert enter(make_config(resume="auto"), taken).inexact == []
    with pytest.raises(UserError, match=r"train\.label_smoothing: 0\.0 there, 0\.5 now"):
        enter(changed(make_config(resume="auto"), train={"label_smoothing": 0.5}), taken)


# The lock


def test_a_second_process_is_refused_at_once_until_the_first_has_ended(taken, tmp_path):
    cfg, new = make_config(resume="auto"), tmp_path / "new"
    with run_folder.RunLock(cfg, taken):
        for other in (cfg, make_config(overwrite=True)):
            with pytest.raises(UserError, match="another process"):
                enter(other, taken)
    assert enter(cfg, taken)
    with run_folder.RunLock(make_config(), new) as first, run_folder.RunLock(make_config(), new) as second:
        assert not new.exists()
        first.acquire()
        with pytest.raises(UserError, match="another process"):
            second.acquire()


def test_a_folder_that_became_a_run_meanwhile_is_refused(tmp_path):
    folder = tmp_path / "run"
    with run_folder.RunLock(make_config(), folder) as lock:
        enter(make_config(), folder)
        with pytest.raises(UserError, match=r"run\.overwrite=true"):
            lock.acquire()


# The record


def test_a_record_that_was_cut_off_does_not_stop_a_resumed_run(tmp_path):
    for content in ("", '{"starts": [{"st'):
        (tmp_path / "env.json").write_text(content)
        assert run_folder.format_unfinished_note(tmp_path) is None
        run_folder.RunRecord(tmp_path, make_config()).add_start(7)
        assert [entry["step"] for entry in read_record(tmp_path)["starts"]] == [7]


def test_record_keeps_earlier_starts_and_an_inexact_one_for_good(tmp_path):
    for step, inexact in ((0, []), (4, ["processes: 1 there, 2 now"]), (8, [])):
        run_folder.RunRecord(tmp_path, make_config()).add_start(step, inexact)
        assert read_record(tmp_path)["exact"] == (step == 0)
    starts = read_record(tmp_path)["starts"]
    assert [entry["step"] for entry in starts] == [0, 4, 8]
    assert [entry.get("inexact") for entry in starts] == [None, ["processes: 1 there, 2 now"], None]


def test_record_of_a_run_that_ended_and_was_started_again(tmp_path):
    first = run_folder.RunRecord(tmp_path, make_config(seed=2))
    first.add_start(0)
    first.add_end(0)
    record = read_record(tmp_path)
    assert (record["seed"], record["exit_status"]) == (2, 0)
    assert record["start"] <= record["end"]
    assert run_folder.format_unfinished_note(tmp_path) is None
    run_folder.RunRecord(tmp_path, make_config()).add_start(4)
    assert "run.resume=auto" in run_folder.format_unfinished_note(tmp_path)
    record = read_record(tmp_path)
    assert not {"end", "exit_status"} & record.keys()
    assert {"torch", "lightning", "av", "videores", "python"} <= set(record["versions"])
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["threads"] == torch.get_num_threads()
    assert record["git"] is None or len(record["git"]["commit"]) == 40
