"""Stop at signals, damage, a full disk and kills at random moments (kill.py), and resume with the same bits."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing
from helpers import kill
from helpers.commands import ROOT, environment, forked, result, start_server, succeeded

from videores import run
from videores.config import parse
from videores.errors import SignalInterrupt, UserError
from videores.models.weights import safe_load
from videores.reporting import results
from videores.runtime import failures
from videores.training import optim
from videores.training.callbacks.checkpointing import Checkpointing
from videores.training.callbacks.exchange import AsyncMaxReducer
from videores.training.module import VideoClassifier

OVERRIDES = (
    *("model.dropout=0.3", "data.augment.mixup=0.4", "data.augment.hue=0.2", "train.epochs=3"),
    *("val.clips=3", "test.clips=2", "data.batch_size=2", "trainer.accelerator=cpu"),
)
STEPS = 8  # of an epoch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums over several threads are rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        kill.prepare()
    return folder


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def train(folder, *overrides):
    cfg = parse.load_config("tiny.yaml", [*OVERRIDES, f"run.dir={folder}", "run.resume=auto", *overrides])
    return run.train(cfg, "tiny.yaml")


def send_at(monkeypatch, owner, hook, call, number=signal.SIGTERM):
    """Sends this process a signal as `hook` is called for the call-th time; 0 is the first."""
    calls, function = [], getattr(owner, hook)

    def wrapped(*args, **keys):
        calls.append(1)
        if len(calls) == call + 1:
            os.kill(os.getpid(), number)
        return function(*args, **keys)

    monkeypatch.setattr(owner, hook, wrapped)


def stop(monkeypatch, folder, owner, hook, call, *overrides, number=signal.SIGTERM):
    """A training that is sent a signal. Returns what it was stopped by."""
    with monkeypatch.context() as patch:
        send_at(patch, owner, hook, call, number)
        with pytest.raises(SignalInterrupt) as caught:
            train(folder, *overrides)
    return caught.value


def env(folder):
    return json.loads((Path(folder) / "env.json").read_text())


def last(folder):
    return safe_load.read_checkpoint(Path(folder) / "checkpoints" / "last.ckpt")


def assert_same_run(folder, other):
    folder, other = Path(folder), Path(other)
    assert kill.same_checkpoint(folder, other, "last.ckpt")
    assert kill.same_checkpoint(folder, other, "best.ckpt")
    assert kill.rows(folder) == kill.rows(other)


@pytest.fixture(scope="module")
def whole(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert train("whole") == 0
    return "whole"


# Signals

SLOW = pytest.mark.slow
MOMENTS = [  # where, its number, step of the checkpoint
    ("training_step", 10, 11),  # within an epoch
    ("training_step", STEPS - 1, STEPS),  # last step of an epoch
    ("validation_step", 15, 2 * STEPS),  # last batch of a later validation
    ("test_step", 0, 3 * STEPS),
    pytest.param("training_step", 0, 1, marks=SLOW),
    pytest.param("validation_step", 0, STEPS, marks=SLOW),
    pytest.param("training_step", 3 * STEPS - 1, 3 * STEPS, marks=SLOW),
]


@pytest.mark.parametrize(("hook", "call", "step"), MOMENTS)
def test_a_signal_stops_at_the_step_s_end_and_the_rest_makes_the_same_run(monkeypatch, capsys, whole, hook, call, step):
    folder = f"stopped-{hook}-{call}"
    interrupt = stop(monkeypatch, folder, VideoClassifier, hook, call)
    assert interrupt.signal == signal.SIGTERM
    assert f"after step {step}: run.resume=auto" in str(interrupt)
    assert (last(folder)["global_step"], env(folder)["exit_status"]) == (step, 75)
    capsys.readouterr()
    assert train(folder) == 0
    assert re.search(rf"^resume +from step {step} of {folder}/checkpoints", capsys.readouterr().out, re.M)
    assert [start["step"] for start in env(folder)["starts"]] == [0, step]
    assert (env(folder)["exit_status"], env(folder)["exact"]) == (0, True)
    assert_same_run(folder, whole)


def test_a_signal_before_training_stops_at_once_and_the_run_starts_afresh(monkeypatch, whole):
    stop(monkeypatch, "early", run.VideoData, "from_config", 0)
    assert train("early") == 0
    assert_same_run("early", whole)


def test_other_signals_leave_a_checkpoint_too_and_handlers_are_restored(monkeypatch):
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    for number, code in ((signal.SIGUSR1, 75), (signal.SIGINT, 130)):
        stop(monkeypatch, f"signal{code}", VideoClassifier, "training_step", 2, number=number)
        assert (last(f"signal{code}")["global_step"], env(f"signal{code}")["exit_status"]) == (3, code)
    assert [signal.getsignal(number) for number in numbers] == before


def test_stopping_twice_and_resuming_a_whole_run_make_the_same_run(monkeypatch, whole):
    for call in (2, 1):
        stop(monkeypatch, "twice", VideoClassifier, "training_step", call)
    for _ in range(2):
        assert train("twice") == 0
    assert [start["step"] for start in env("twice")["starts"]] == [0, 3, 5, 3 * STEPS]
    assert_same_run("twice", whole)
    assert result(Path("twice"))[0] == result(Path(whole))[0]


def test_checkpoints_keep_the_keys_of_older_versions(monkeypatch):
    """Lightning skips the state of a callback whose key it does not know, without a word."""
    stop(monkeypatch, "keys", VideoClassifier, "training_step", STEPS, "train.ema=0.5", "train.patience=2")
    assert {key: set(state) for key, state in last("keys")["callbacks"].items()} == {
        "History": {"rows", "sums"},
        "Averaging": {"count", "step"},
        "Patience": {"best", "waited"},
        "Saving": {"best"},
    }
    assert {"learning", "made_with", "measured"} <= set(last("keys"))


def test_accumulated_gradients_and_averaged_weights_go_on_too(monkeypatch):
    """A checkpoint is of a step's end, though the signal comes within one; and of the weights that learn, though the
    average is in the network while it is validated."""
    more = ("train.accumulate=2", "train.ema=0.5", "train.patience=2", "train.epochs=2")
    assert train("average-whole", *more) == 0
    stop(monkeypatch, "average", VideoClassifier, "training_step", 2, *more)
    assert last("average")["global_step"] == 2  # of four batches
    stop(monkeypatch, "average", VideoClassifier, "validation_step", 0, *more)
    assert train("average", *more) == 0
    assert [start["step"] for start in env("average")["starts"]] == [0, 2, 4]
    assert_same_run("average", "average-whole")


def test_a_pretext_task_goes_on_with_the_same_changes(monkeypatch):
    pretext = (
        *("data.pretext=transformations", "data.clip.repeat=2", "data.augment.mixup=0", "train.epochs=2"),
        *("train.contrast=0.3", "train.reconstruct=0.3", "train.mask=0.5"),
    )
    assert train("pretext-whole", *pretext) == 0
    stop(monkeypatch, "pretext", VideoClassifier, "training_step", 2, *pretext)
    stop(monkeypatch, "pretext", VideoClassifier, "validation_step", 0, *pretext)
    assert train("pretext", *pretext) == 0
    assert_same_run("pretext", "pretext-whole")


def test_a_rate_that_waits_for_a_plateau_goes_on_with_its_count(monkeypatch):
    plateau = ("train.schedule=plateau", "train.plateau=1", "train.lr=0.3", "train.epochs=4")
    assert train("plateau-whole", *plateau) == 0
    assert len({row["lr"] for row in kill.rows(Path("plateau-whole")) if "lr" in row}) > 1
    stop(monkeypatch, "plateau", VideoClassifier, "training_step", STEPS + 1, *plateau)
    stop(monkeypatch, "plateau", VideoClassifier, "validation_step", 1, *plateau)
    send = ("plateau", Checkpointing, "on_train_epoch_end", 0, *plateau)
    stop(monkeypatch, *send)  # at an epoch's end, before the rate is changed
    assert train("plateau", *plateau) == 0
    assert_same_run("plateau", "plateau-whole")


# Damage


def test_a_torn_last_checkpoint_falls_back_and_says_what_is_lost(monkeypatch, whole, capsys):
    stop(monkeypatch, "torn", VideoClassifier, "training_step", 10)
    path = Path("torn/checkpoints/last.ckpt")
    path.write_bytes(path.read_bytes()[:-1000])
    capsys.readouterr()
    assert train("torn") == 0
    warning = capsys.readouterr().err
    assert "torn/checkpoints/last.ckpt" in warning
    assert f"torn/checkpoints/last-previous.ckpt, of step {STEPS}" in warning
    assert [start["step"] for start in env("torn")["starts"]] == [0, STEPS]
    assert_same_run("torn", whole)


def test_a_full_disk_ends_with_2_and_leaves_the_last_good_checkpoint(monkeypatch):
    """A limit to the size of files stands for the full disk."""
    wide = ("model.width=32", "val.clips=1")
    stop(monkeypatch, "full", VideoClassifier, "training_step", 2, *wide)
    command = ("train.py", "--cfg", "tiny.yaml", *OVERRIDES, *wide, "run.dir=full", "run.resume=auto")
    server = start_server().pid
    before = resource.prlimit(server, resource.RLIMIT_FSIZE)
    resource.prlimit(server, resource.RLIMIT_FSIZE, (100 * 1024, before[1]))  # its forks have it too
    try:
        (process,) = forked([command], ".")
    finally:
        resource.prlimit(server, resource.RLIMIT_FSIZE, before)
    assert process.returncode == 2, process.stderr[-2000:]
    assert "Traceback" not in process.stderr
    assert f"the checkpoint of step {STEPS}" in process.stderr
    assert last("full")["global_step"] == 3
    assert {path.name for path in Path("full/checkpoints").iterdir()} == {"last.ckpt"}
    assert env("full")["exit_status"] == 2
    assert train("full", *wide) == 0
    assert train("full-whole", *wide) == 0
    assert_same_run("full", "full-whole")


# Other numbers of processes or videos


def test_another_batch_size_continues_on_request_and_is_not_called_exact(monkeypatch, whole):
    stop(monkeypatch, "inexact", VideoClassifier, "training_step", STEPS + 2)
    with pytest.raises(UserError, match=r"run\.resume=inexact(.|\n)*data\.batch_size: 2 there, 4 now"):
        train("inexact", "data.batch_size=4")
    assert train("inexact", "data.batch_size=4", "run.resume=inexact") == 0
    assert env("inexact")["exact"] is False
    assert env("inexact")["starts"][1]["inexact"] == ["data.batch_size: 2 there, 4 now"]
    rows = kill.rows(Path("inexact"))
    trained = [row for row in rows if "train/loss" in row and row["step"] > STEPS + 3]
    # The second epoch, of which three steps were done, begins again with half as many steps, and the third follows.
    assert [row["epoch"] for row in trained] == [1] * (STEPS // 2) + [2] * (STEPS // 2)
    assert train("four", "data.batch_size=4") == 0
    rates = [row["lr"] for row in kill.rows(Path("four")) if "train/loss" in row]
    assert [row["lr"] for row in trained] == rates[STEPS // 2 :]


def test_a_whole_run_is_not_continued_otherwise_and_stays_as_it_is(whole):
    """Nothing would be trained with what its configuration then said."""
    before = [Path(whole, name).read_text() for name in ("config.yaml", "env.json")]
    with pytest.raises(UserError, match=r"train\.epochs=3(.|\n)*evaluate\.py"):
        train(whole, "data.batch_size=4", "run.resume=inexact")
    assert [Path(whole, name).read_text() for name in ("config.yaml", "env.json")] == before


@pytest.mark.parametrize(
    ("call", "warmup"),
    [(2 * STEPS + 2, 2.5), (3 * STEPS + 2, 2.5), pytest.param(3 * STEPS + 2, 0, marks=SLOW)],
    ids=["in the warm-up", "when rates were lowered", "no warm-up"],
)
def test_another_batch_size_goes_on_with_what_a_plateau_has_lowered(monkeypatch, call, warmup):
    """The rates are those of the batches of now, and what was not better before counts on."""
    recipe = ("train.schedule=plateau", "train.plateau=1", "train.gamma=0.5", f"train.warmup={warmup}")
    recipe += ("train.epochs=7", "train.base_batch=2")
    now = ("data.batch_size=4", "run.resume=inexact")
    folder = f"plateau-{call}-{warmup}"
    stop(monkeypatch, folder, VideoClassifier, "training_step", call, *recipe)
    epoch = call // STEPS
    before = [row for row in kill.rows(Path(folder)) if "val/loss" in row]
    assert len(before) == epoch
    assert train(folder, *recipe, *now) == 0
    rows = kill.rows(Path(folder))
    found = {
        e: [row["lr"] for row in rows if "train/loss" in row and row["epoch"] == e][-STEPS // 2 :]
        for e in range(epoch, 7)
    }
    best_by = [row["val/video_top1"] / 100 - 1e-3 * min(row["val/loss"], 4) for row in rows if "val/loss" in row]
    lowered = [lowered_by(best_by[:e]) for e in range(7)]
    assert lowered[3] < 1, "the trial must have what it is about"
    assert len(set(lowered[epoch:])) > 1, "the trial must have what it is about"
    for e, rates in found.items():
        steps = range(e * STEPS // 2, (e + 1) * STEPS // 2)
        expected = [0.04 * lowered[e] * min((step + 1) / (warmup * STEPS // 2 + 1), 1) for step in steps]
        assert rates == pytest.approx(expected), e


def test_a_checkpoint_with_other_schedules_is_refused(monkeypatch):
    """Lightning would give one's state to the other, or lose it."""
    plateau, folder = ("train.schedule=plateau", "train.warmup=0"), Path("schedules")
    stop(monkeypatch, folder, VideoClassifier, "training_step", 2, *plateau)
    path = folder / "checkpoints" / "last.ckpt"
    stored = torch.load(path, weights_only=True)
    torch.save({**stored, "lr_schedulers": stored["lr_schedulers"][1:]}, path)
    for resume in ("auto", "inexact"):
        with pytest.raises(UserError, match=r"last\.ckpt .*1 schedules .* 2.*model\.weights"):
            train(folder, *plateau, f"run.resume={resume}")


def lowered_by(values):
    """What a rate is multiplied by after these epochs: by half after each that was not better than all before."""
    return 0.5 ** sum(value <= max(values[:i]) for i, value in enumerate(values) if i)


def test_data_that_changed_since_is_not_called_the_same(monkeypatch, place, whole):
    listed = place / "data" / "train.csv"
    before = listed.read_text()
    stop(monkeypatch, "lists", VideoClassifier, "training_step", 2)
    try:
        listed.write_text("".join(before.splitlines(keepends=True)[:-1]))
        with pytest.raises(UserError, match=r"run\.resume=inexact(.|\n)*the list of \w+ videos: "):
            train("lists")
    finally:
        listed.write_text(before)
    assert train("lists") == 0
    assert_same_run("lists", whole)


# What is written of a step


def test_a_row_has_the_rate_that_its_step_was_made_with(whole):
    """The other tests show that a resumed run has the same rows."""
    rates = [row["lr"] for row in kill.rows(Path(whole)) if "train/loss" in row]
    cfg = parse.load_config("tiny.yaml", OVERRIDES)
    assert rates == pytest.approx([0.02 * optim.compute_lr_factor(step, STEPS, cfg.train) for step in range(3 * STEPS)])


# When checkpoints are written


def test_checkpoints_come_by_steps_and_at_the_end_of_epochs(monkeypatch):
    steps, save = [], Checkpointing.save
    monkeypatch.setattr(
        Checkpointing, "save", lambda self, name: steps.append(self.trainer.global_step) or save(self, name)
    )
    assert train("steps", "run.checkpoint_steps=3", "train.epochs=2") == 0
    assert steps == [3, 6, 8, 9, 12, 15, 16]


def test_checkpoints_come_by_time(monkeypatch):
    names, save = [], Checkpointing.save
    monkeypatch.setattr(Checkpointing, "save", lambda self, name: names.append(name) or save(self, name))
    assert train("time", "run.checkpoint_minutes=0.00001", "train.epochs=1") == 0
    assert len(names) == STEPS  # each step takes longer than that
    names.clear()
    assert train("rare", "train.epochs=1") == 0
    assert len(names) == 1


# Several ranks


def decide(rank, folder, senders):
    """Each rank writes the steps at which it learns of a value that the senders have from step 3 on."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    values = [0]
    reducer = AsyncMaxReducer(lambda: values, 2, timedelta(seconds=60))
    learned = []
    for step in range(6):
        if rank in senders and step == 3:
            values = [15]
        if reducer.collect() == [15]:
            learned.append(step)
        reducer.send()
    bounds = (reducer.max_over_ranks(rank), reducer.min_over_ranks(rank + 5))
    Path(folder, f"{rank}.json").write_text(json.dumps([learned, bounds]))
    reducer.collect()


@pytest.mark.parametrize("senders", [[0], [1], [0, 1]])
def test_all_ranks_learn_of_a_value_at_the_same_step_the_next_one(tmp_path, senders):
    torch.multiprocessing.start_processes(decide, (str(tmp_path), senders), nprocs=2, start_method="fork")
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert found == [[[4, 5], [1, 5]]] * 2


def wait_for_nobody(rank, folder):
    """Rank 0 asks; rank 1 answers nothing until it has given up."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    reducer = AsyncMaxReducer(lambda: [0], 2, timedelta(seconds=1))
    gave_up = Path(folder, "gave up")
    if rank == 0:
        try:
            reducer.max_over_ranks(1)
        except RuntimeError as error:
            gave_up.write_text(str(failures.translate_error(error)))
    limit = time.monotonic() + 60
    while not gave_up.exists() and time.monotonic() < limit:
        time.sleep(0.05)


def test_a_rank_that_does_not_answer_is_waited_for_as_long_as_was_asked(tmp_path):
    torch.multiprocessing.start_processes(wait_for_nobody, (str(tmp_path),), nprocs=2, start_method="fork")
    assert "trainer.timeout" in (tmp_path / "gave up").read_text()


@pytest.mark.parametrize("ranks", [[1], pytest.param([0], marks=SLOW), pytest.param([0, 1], marks=SLOW)])
def test_two_processes_stop_on_the_same_step_whichever_gets_the_signal(ranks):
    folder = Path("two-" + "-".join(map(str, ranks)))
    long = ["train.epochs=3000", "trainer.devices=2", f"run.dir={folder}", "val.clips=1"]
    command = [sys.executable, ROOT / "tools" / "train.py", "--cfg", "tiny.yaml", *OVERRIDES, *long]
    with Path(f"{folder}.log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), env=environment(), stdout=log, stderr=log)
        limit = time.monotonic() + 120
        while not (folder / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, Path(f"{folder}.log").read_text()[-3000:]
            assert time.monotonic() < limit
            time.sleep(0.05)
        pids = [process.pid, *children_of_tool(process.pid)]
        for rank in ranks:
            os.kill(pids[rank], signal.SIGTERM)
        assert process.wait(60) == 75
    text = Path(f"{folder}.log").read_text()
    assert text.count("stopped by SIGTERM after step") == 1
    step = last(folder)["global_step"]
    assert f"after step {step}:" in text
    assert [row["step"] for row in kill.rows(folder) if "train/loss" in row][-1] == step
    assert not Path(f"/proc/{pids[1]}").exists() or "Z" in Path(f"/proc/{pids[1]}/stat").read_text().split()[2]


def children_of_tool(pid):
    """The processes that a training started with its own command line."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_lightning_has_what_is_replaced_and_nothing_else_uses_signals():
    """Else the replacement would do nothing, without a word."""
    import inspect

    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
    from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

    assert "_broadcast_sigterm_tensor()" in inspect.getsource(_TrainingEpochLoop.advance)
    assert inspect.signature(_SignalConnector.register_signal_handlers).parameters.keys() == {"self"}


def test_a_second_training_in_the_same_folder_is_refused_at_once(monkeypatch):
    """While the first one tests, which is when it writes results."""
    refused, write_test = [], results.write_test

    def write_in_between(*args):
        with pytest.raises(UserError, match="locked"):
            train("locked", "run.resume=none", "run.overwrite=true")
        refused.append(1)
        return write_test(*args)

    monkeypatch.setattr(results, "write_test", write_in_between)
    assert train("locked", "train.epochs=1") == 0
    assert refused == [1]


# Kills at random moments

KILLS = {"12": list(kill.SETTINGS)[:4], "4": ["2 processes"]}


@pytest.mark.slow
@pytest.mark.parametrize("kills", KILLS)
def test_runs_that_are_killed_at_random_moments_end_with_the_same_bits(tmp_path, kills):
    """A few here; `python tests/helpers/kill.py --kills 100` for more."""
    command = [sys.executable, ROOT / "tests" / "helpers" / "kill.py", "--kills", kills, "--folder", tmp_path]
    command = [*map(str, command), "--settings", *KILLS[kills]]
    process = succeeded(subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=550))
    assert process.stdout.splitlines()[-1].endswith(", 0 wrong")
