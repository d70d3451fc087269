"""The run folder: its name, what it refuses, and the record."""

import json

import pytest
import torch

from videores.config import parse
from videores.errors import UserError
from videores.training import checkpoint_io, run_folder
from videores.training import resume as resuming


def make_config(**run):
    data = {"name": "tiny", "format": "csv", "root": "."}
    values = {"run": run, "data": data, "model": {"name": "r3d_18"}, "train": {"epochs": 1}}
    return parse.build_config(values, "test")


MADE_WITH = {"processes": 1, "device": "cpu", "precision": "fp32", "the list of train videos": "abc"}
CLASSES = ["a", "b"]


def enter(cfg, folder, made_with=MADE_WITH, classes=CLASSES):
    """What a training does with the folder before it trains. Returns what it continues from."""
    run_folder.check_run_folder(cfg, folder)
    with run_folder.RunLock(cfg, folder) as claim:
        start = resuming.find_resume_point(cfg, folder, made_with, classes)
        claim.make()
        run_folder.prepare_run_folder(cfg, folder)
        return start


def save(cfg, folder, step=7, name="last.ckpt"):
    known = {"config": parse.dump_config(cfg), "classes": CLASSES}
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": 0}}}}
    content = {"epoch": 1, "global_step": step, "hyper_parameters": known, "loops": loops, "lr_schedulers": [{}]}
    checkpoint_io.write_checkpoint({**content, "made_with": MADE_WITH}, folder / "checkpoints" / name)


@pytest.fixture
def taken(tmp_path):
    """A run folder with a checkpoint."""
    folder = tmp_path / "run"
    enter(make_config(), folder)
    run_folder.RunRecord(folder, make_config()).started(0)
    save(make_config(), folder)
    return folder


def test_folder_is_named_after_the_configuration_without_a_time():
    assert run_folder.resolve_run_folder(make_config(), "configs/r3d_motion.yaml").as_posix() == "runs/r3d_motion"
    assert run_folder.resolve_run_folder(make_config(name="a"), "r3d_motion.yaml").as_posix() == "runs/r3d_motion-a"
    assert run_folder.resolve_run_folder(make_config(name="a", dir="x/y"), "r3d_motion.yaml").as_posix() == "x/y"


def test_a_new_folder_gets_the_resolved_configuration(tmp_path):
    cfg = make_config(seed=3)
    assert enter(cfg, tmp_path / "a" / "b") is None
    assert parse.load_config(tmp_path / "a" / "b" / "config.yaml") == cfg
    assert (tmp_path / "a" / "b" / "checkpoints").is_dir()


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "run").mkdir()
    assert enter(make_config(), tmp_path / "run") is None


def test_an_existing_run_is_refused_and_says_what_to_do(taken):
    with pytest.raises(UserError, match=r"run\.name.*run\.resume=auto.*run\.overwrite=true"):
        enter(make_config(), taken)
    assert (taken / "checkpoints" / "last.ckpt").exists()


def test_overwrite_removes_a_run(taken):
    enter(make_config(overwrite=True), taken)
    assert not (taken / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("run", [{}, {"overwrite": True}])
def test_a_folder_that_is_no_run_is_never_removed(tmp_path, run):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not a run folder"):
        enter(make_config(**run), tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_overwrite_leaves_a_folder_that_only_has_a_config(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1")
    with pytest.raises(UserError, match="something else than a run"):
        enter(make_config(overwrite=True), tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "a: 1"


def test_a_config_that_cannot_be_read_is_named_where_there_is_no_checkpoint_yet(tmp_path):
    (tmp_path / "env.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("run: [")
    with pytest.raises(UserError, match=r"config\.yaml: not valid YAML"):
        enter(make_config(resume="auto"), tmp_path)


def test_overwrite_deletes_what_a_run_wrote_and_nothing_else(taken):
    (taken / "notes.txt").write_text("precious")
    enter(make_config(overwrite=True), taken)
    assert (taken / "notes.txt").read_text() == "precious"


def test_overwrite_of_a_link_to_a_run_starts_afresh(taken, tmp_path):
    (tmp_path / "link").symlink_to(taken)
    assert enter(make_config(overwrite=True), tmp_path / "link") is None
    assert not (taken / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("content", ["", '{"starts": [{"st'])
def test_a_record_that_was_cut_off_does_not_stop_a_resumed_run(taken, content):
    (taken / "env.json").write_text(content)
    run_folder.RunRecord(taken, make_config()).started(7)
    assert [entry["step"] for entry in json.loads((taken / "env.json").read_text())["starts"]] == [7]


@pytest.mark.parametrize("run", [{}, {"overwrite": True}, {"resume": "auto"}])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, run):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(UserError, match="run"):
        enter(make_config(**run), tmp_path / "run")


def test_resume_continues_from_the_last_checkpoint(taken):
    assert enter(make_config(resume="auto"), taken) == resuming.ResumePoint(taken / "checkpoints" / "last.ckpt", 7, [])


def test_resume_wins_over_overwrite(taken):
    assert enter(make_config(resume="auto", overwrite=True), taken).step == 7


def test_resume_without_a_run_or_a_checkpoint_starts_afresh(tmp_path, taken):
    assert enter(make_config(resume="auto"), tmp_path / "new") is None
    (taken / "checkpoints" / "last.ckpt").unlink()
    assert enter(make_config(resume="auto"), taken) is None


def test_resume_refuses_another_configuration_and_says_what_differs(taken):
    cfg = make_config(resume="auto", seed=5)
    with pytest.raises(UserError, match=r"run\.seed: 0 there, 5 now"):
        enter(cfg, taken)


def test_resume_may_move_the_data_and_change_the_workers(taken):
    cfg = make_config(resume="auto")
    data = cfg.data.model_copy(update={"root": "elsewhere", "splits": "lists", "workers": 7})
    assert enter(cfg.model_copy(update={"data": data}), taken)


def changed(cfg, **sections):
    return cfg.model_copy(update={name: getattr(cfg, name).model_copy(update=keys) for name, keys in sections.items()})


INEXACT = [
    (dict(data={"batch_size": 3}), MADE_WITH, "data.batch_size: 16 there, 3 now"),
    (dict(), MADE_WITH | {"processes": 2}, "processes: 1 there, 2 now"),
    (dict(), MADE_WITH | {"the list of train videos": "abd"}, "the list of train videos: abc there, abd now"),
    (dict(trainer={"precision": "bf16"}), MADE_WITH | {"precision": "bf16"}, "precision: fp32 there, bf16 now"),
]


@pytest.mark.parametrize(("sections", "made_with", "line"), INEXACT)
def test_what_would_not_go_on_exactly_is_refused_and_continues_on_request(taken, sections, made_with, line):
    cfg = changed(make_config(resume="auto"), **sections)
    with pytest.raises(UserError, match=rf"{line}(.|\n)*run\.resume=inexact"):
        enter(cfg, taken, made_with)
    start = enter(changed(cfg, run={"resume": "inexact"}), taken, made_with)
    assert line in start.inexact
    with pytest.raises(UserError, match=line):  # until there is a new checkpoint, whatever config.yaml says
        enter(cfg, taken, made_with)


def test_inexact_does_not_take_a_checkpoint_of_another_recipe(taken):
    with pytest.raises(UserError, match=r"another configuration:\n  run\.seed: 0 there, 5 now"):
        enter(make_config(resume="inexact", seed=5), taken)


def test_other_classes_are_refused_whatever_is_asked_for(taken):
    for resume in ("auto", "inexact"):
        with pytest.raises(UserError, match=r"they differ(.|\n)*0: a / b"):
            enter(make_config(resume=resume), taken, classes=["b", "a"])


def test_without_a_difference_inexact_is_exact(taken):
    assert enter(make_config(resume="inexact"), taken).inexact == []


def test_devices_may_be_asked_for_otherwise_as_long_as_there_are_equally_many_processes(taken):
    assert enter(changed(make_config(resume="auto"), trainer={"devices": "auto"}), taken).inexact == []


def test_a_run_from_before_a_key_existed_goes_on(taken):
    """A key that the checkpoint does not know had its default then."""
    path = taken / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["hyper_parameters"]["config"]["train"]["label_smoothing"]
    del content["made_with"]
    checkpoint_io.write_checkpoint(content, path)
    assert enter(make_config(resume="auto"), taken).inexact == []
    with pytest.raises(UserError, match=r"train\.label_smoothing: 0\.0 there, 0\.5 now"):
        enter(changed(make_config(resume="auto"), train={"label_smoothing": 0.5}), taken)


def test_a_second_process_is_refused_at_once_until_the_first_has_ended(taken):
    cfg = make_config(resume="auto")
    with run_folder.RunLock(cfg, taken):
        for other in (cfg, make_config(overwrite=True)):
            with pytest.raises(UserError, match="another process writes to"):
                enter(other, taken)
    assert enter(cfg, taken)


def test_a_new_folder_is_locked_when_it_is_made(tmp_path):
    folder = tmp_path / "run"
    with run_folder.RunLock(make_config(), folder) as first, run_folder.RunLock(make_config(), folder) as second:
        assert not folder.exists()
        first.make()
        with pytest.raises(UserError, match="another process writes to"):
            second.make()


def test_a_folder_that_became_a_run_meanwhile_is_refused(tmp_path):
    folder = tmp_path / "run"
    with run_folder.RunLock(make_config(), folder) as claim:
        enter(make_config(), folder)
        with pytest.raises(UserError, match="holds a run"):
            claim.make()


def test_an_inexact_start_is_in_the_record_for_good(tmp_path):
    for step, inexact in ((0, []), (4, ["processes: 1 there, 2 now"]), (8, [])):
        run_folder.RunRecord(tmp_path, make_config()).started(step, inexact)
        exact = json.loads((tmp_path / "env.json").read_text())["exact"]
        assert exact == (step == 0)
    starts = json.loads((tmp_path / "env.json").read_text())["starts"]
    assert [entry.get("inexact") for entry in starts] == [None, ["processes: 1 there, 2 now"], None]


def test_record_keeps_the_starts_of_earlier_processes(tmp_path):
    for step in (0, 4):
        record = run_folder.RunRecord(tmp_path, make_config(seed=2))
        record.started(step)
        record.finished(0)
    found = json.loads((tmp_path / "env.json").read_text())
    assert [entry["step"] for entry in found["starts"]] == [0, 4]
    assert (found["seed"], found["exit_status"]) == (2, 0)
    assert found["start"] <= found["end"]


def test_record_of_a_running_process_has_no_end_yet(tmp_path):
    first = run_folder.RunRecord(tmp_path, make_config())
    first.started(0)
    first.finished(0)
    run_folder.RunRecord(tmp_path, make_config()).started(4)
    found = json.loads((tmp_path / "env.json").read_text())
    assert "end" not in found
    assert "exit_status" not in found


def test_record_names_versions_hardware_and_commit(tmp_path):
    run_folder.RunRecord(tmp_path, make_config()).started(0)
    found = json.loads((tmp_path / "env.json").read_text())
    assert {"torch", "lightning", "av", "videores", "python"} <= set(found["versions"])
    assert found["hardware"]["cores"] >= 1
    assert found["hardware"]["threads"] == torch.get_num_threads()
    assert found["git"] is None or len(found["git"]["commit"]) == 40
