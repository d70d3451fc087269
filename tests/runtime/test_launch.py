"""How the ranks of a run start, and that the loss of one ends all, soon and with a clear message.

SLURM was not at hand: only reading its variables is tested. torchrun and this machine's own ranks are real.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
from helpers.commands import ROOT, environment, read_result, succeeded, tool, write_config, write_data

from videores.config.schema import DataConfig, TrainerConfig
from videores.data import workers
from videores.errors import RankFailure, UserError, WorkerFailure
from videores.runtime import failures, launch
from videores.training.callbacks import rank_check

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}
SRUN = {
    **{"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0"},
    **{"SLURM_PROCID": "5", "SLURM_JOB_NAME": "train"},
}
ADDRESS = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500", "NODE_RANK": "1"}


# Launchers


@pytest.mark.parametrize(
    ("environ", "launcher", "layout", "is_rank_zero"),
    [
        ({}, None, (1, 1), True),
        (TORCHRUN, "torchrun", (2, 2), False),
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, "torchrun", (2, 2), True),
        (SRUN, "srun", (4, 2), False),
        ({**SRUN, "SLURM_PROCID": "0"}, "srun", (4, 2), True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, "srun", (1, 1), True),  # a batch script of one task
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, None, (1, 1), True),  # a shell, as Lightning has it
        ({**SRUN, **TORCHRUN}, "torchrun", (2, 2), False),  # srun starts torchrun, which counts the ranks its own way
        ({**SRUN, **TORCHRUN, "RANK": "0"}, "torchrun", (2, 2), True),
        ({launch.PARENT_PID_VARIABLE: "7", "LOCAL_RANK": "1"}, None, (1, 1), False),
        ({launch.PARENT_PID_VARIABLE: "7", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, None, (1, 1), True),
        ({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "NODE_RANK": "0"}, None, (1, 1), True),  # of a container
    ],
)
def test_the_environment_gives_launcher_layout_and_rank_zero(environ, launcher, layout, is_rank_zero):
    assert launch.detect_launcher(environ) == launcher
    assert launch.resolve_devices(TrainerConfig(), None, environ) == layout
    assert launch.is_rank_zero(environ) == is_rank_zero


@pytest.mark.parametrize(
    ("values", "gpus", "environ", "key"),
    [
        ({"devices": 4}, 2, {}, r"trainer\.devices.*2.*4"),
        ({"devices": 3}, None, TORCHRUN, r"trainer\.devices.*2.*torchrun.*3"),
        ({"num_nodes": 3}, None, TORCHRUN, r"trainer\.num_nodes.*2.*torchrun.*3"),
        ({}, None, {**TORCHRUN, "WORLD_SIZE": "5"}, "--nproc-per-node"),
        ({"devices": 8}, None, SRUN, r"trainer\.devices.*4.*srun.*8"),
        ({}, 1, SRUN, "--gres=gpu:N"),
        ({}, None, {"SLURM_NTASKS": "8"}, "srun before python"),
        ({}, None, {"SLURM_NTASKS": "8", "SLURM_STEP_ID": "0"}, "--ntasks-per-node"),
        ({}, None, {**SRUN, "SLURM_NTASKS": "6"}, "--ntasks-per-node.* 6 .* 2 .* 4"),
        ({"devices": 2}, None, {"SLURM_NTASKS": "1"}, "--ntasks-per-node=2 and put srun before python"),
        ({"num_nodes": 2}, None, {"SLURM_NTASKS": "1"}, "--nodes=2 and put srun before python"),
        ({}, None, {"LOCAL_RANK": "1"}, "LOCAL_RANK=1 .*unset LOCAL_RANK"),
        ({"devices": 2}, None, {"LOCAL_RANK": "1"}, "unset LOCAL_RANK"),
        ({}, None, {"NODE_RANK": "1"}, "unset NODE_RANK"),
        ({}, None, {"RANK": "1", "WORLD_SIZE": "2", **ADDRESS}, "RANK=1.*unset RANK, NODE_RANK, WORLD_SIZE"),
        ({}, None, {"RANK": "0", "WORLD_SIZE": "2"}, "unset WORLD_SIZE"),  # the first of MPI or Kubeflow
        ({}, None, {"OMPI_COMM_WORLD_SIZE": "2"}, "unset OMPI_COMM_WORLD_SIZE"),
        ({"devices": 2, "num_nodes": 2}, None, {**ADDRESS, "LOCAL_RANK": "1"}, "unset LOCAL_RANK"),
        ({"num_nodes": 2}, None, {}, r"trainer\.num_nodes=2.*MASTER_ADDR, MASTER_PORT, NODE_RANK"),
        ({"num_nodes": 2}, None, {"MASTER_ADDR": "node0"}, r"trainer\.num_nodes=2 needs MASTER_PORT, NODE_RANK"),
    ],
)
def test_a_launch_that_would_hang_or_use_less_is_refused(values, gpus, environ, key):
    with pytest.raises(UserError, match=key):
        launch.resolve_devices(TrainerConfig(**values), gpus, environ)


def test_devices_and_nodes_of_the_configuration_are_used():
    assert launch.resolve_devices(TrainerConfig(devices="auto"), 3, {}) == (3, 1)
    assert launch.resolve_devices(TrainerConfig(devices="auto"), None, {}) == (1, 1)
    assert launch.resolve_devices(TrainerConfig(devices=4, num_nodes=2), 4, SRUN) == (4, 2)
    assert launch.resolve_devices(TrainerConfig(devices=2, num_nodes=2), None, ADDRESS) == (2, 2)
    assert launch.resolve_devices(TrainerConfig(devices=2), None, {"LOCAL_RANK": "0"}) == (2, 1)


def test_lightning_reads_the_environment_of_slurm_alike(monkeypatch):
    """Its SLURMEnvironment under the variables of a step: faked, no SLURM was here."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    for name, value in {**SRUN, "SLURM_NODEID": "1", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "17"}.items():
        monkeypatch.setenv(name, value)
    assert SLURMEnvironment.detect()
    theirs = SLURMEnvironment(auto_requeue=False)
    devices, nodes = launch.resolve_devices(TrainerConfig(), None)
    theirs.validate_settings(devices, nodes)
    assert theirs.world_size() == devices * nodes
    assert (theirs.global_rank() == 0) == launch.is_rank_zero()


# Failures


def test_errors_of_torch_about_lost_processes_are_translated():
    port = (
        "The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: "
        "-98, name: EADDRINUSE, message: address already in use"
    )
    for text, kind, word in (
        ("DataLoader worker (pid(s) 17, 18) exited unexpectedly", WorkerFailure, "PID 17, 18"),
        ("DataLoader worker (pid 17) is killed by signal: Bus error. ", WorkerFailure, "data.workers"),
        (port, UserError, "29500"),
        ("unable to open shared memory object </torch_1>: Too many open files (24)", UserError, "ulimit -n"),
        ("received 0 items of ancdata", UserError, "data.workers"),
        ("Caught RuntimeError in DataLoader worker process 0.\n...\nToo many open files", UserError, "ulimit"),
        ("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242", RankFailure, "4242"),
        ("[../gloo/x.cc:78] Timed out waiting 15000ms for recv", RankFailure, "trainer.timeout"),
    ):
        error = failures.translate_error(RuntimeError(text))
        assert type(error) is kind, text
        assert word in str(error)
        assert "\n" not in str(error)


def test_ranks_that_nobody_joins_or_answers_are_lost():
    with pytest.raises(RankFailure, match=r"trainer\.timeout.*run\.resume"), failures.translate_errors():
        dist.TCPStore("127.0.0.1", launch.find_free_port(), 2, is_master=True, timeout=timedelta(seconds=1))
    with pytest.raises(RankFailure), failures.translate_errors():
        dist.HashStore().wait(["key"], timedelta(seconds=0.1))
    with pytest.raises(RankFailure), failures.translate_errors():
        raise dist.DistBackendError(
            "NCCL error ...: ncclRemoteError: remote process exited or there was a network error"
        )


def test_a_port_that_is_taken_is_told_from_a_lost_rank():
    with socket.socket() as other:
        other.bind(("", 0))
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"{port}.*MASTER_PORT"), failures.translate_errors():
            dist.TCPStore("127.0.0.1", port, 1, is_master=True)


def test_other_errors_are_left_as_they_are():
    for error in (RuntimeError("shapes"), EOFError("end")):
        with pytest.raises(type(error), match=str(error)), failures.translate_errors():
            raise error


def test_a_worker_that_ends_as_it_hands_a_batch_over_is_told_from_other_lost_connections():
    def rebuild_storage_fd():
        raise EOFError

    with pytest.raises(WorkerFailure, match=r"data\.workers"), failures.translate_errors():
        rebuild_storage_fd()


def test_batches_that_do_not_fit_into_shared_memory_are_refused_before_they_are_written():
    data = DataConfig(name="x", format="csv", root=".", batch_size=16, workers=4)
    size = workers.compute_prefetch_bytes(data, processes=2)
    assert size == 2 * 4 * 2 * 16 * 3 * 16 * 112 * 112
    workers.check_fits_shm(size, size, 4)
    for needed, free, pattern in ((size, 67_108_864, "154 MB.*67.1 MB"), (20_000, 10_000, "0.02 MB.*0.01 MB")):
        with pytest.raises(UserError, match=pattern):
            workers.check_fits_shm(needed, free, 4)


def test_ranks_that_are_about_to_do_different_things_are_told_apart():
    facts = {"the list of train videos": "abc", "the step that they start from": 0}
    rank_check.check_ranks_agree([("here", facts), ("there", dict(facts))])
    with pytest.raises(UserError, match=r"(?s)start from.*here.*0.*there.*8"):
        rank_check.check_ranks_agree([("here", facts), ("there", {**facts, "the step that they start from": 8})])


# Real processes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("launch")
    write_data(folder / "data")
    write_config(folder / "tiny.yaml", data={"batch_size": 2})
    return folder


def begin(place, name, *overrides, environ=()):
    """A training that would last, once it has made steps."""
    command = [sys.executable, ROOT / "tools" / "train.py", "--cfg", "tiny.yaml", "train.epochs=100000"]
    with open(place / f"{name}.err", "w") as stderr:
        process = subprocess.Popen(
            [*map(str, command), f"run.dir={name}", *overrides],
            cwd=place,
            env={**environment(), **dict(environ)},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    limit = time.monotonic() + 200
    while not (place / name / "metrics.jsonl").exists():
        assert process.poll() is None, (place / f"{name}.err").read_text()[-3000:]
        assert time.monotonic() < limit
        time.sleep(0.2)
    return process


def descendants(process_id):
    """{PID: command line} of a process' children, theirs, and so on."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    found, new = set(), {process_id}
    while new := {child for child, parent in parents.items() if parent in new} - found:
        found |= new
    return {one: command_line(one) for one in found}


def command_line(process_id):
    try:
        return Path(f"/proc/{process_id}/cmdline").read_text()
    except OSError:
        return ""


def other_process(process, tool="train.py"):
    (child,) = [one for one, command in descendants(process.pid).items() if tool in command]
    return child


def gone(process_ids, seconds=60):
    limit = time.monotonic() + seconds
    while left := [one for one in process_ids if command_line(one)]:
        if time.monotonic() > limit:
            return left
        time.sleep(0.2)
    return []


def errors(place, name):
    return [line for line in (place / f"{name}.err").read_text().splitlines() if line.startswith("error: ")]


@pytest.mark.slow
def test_the_first_process_ends_when_another_is_killed(place):
    process = begin(place, "child", "trainer.devices=2")
    everyone = descendants(process.pid)
    os.kill(other_process(process), signal.SIGKILL)
    assert process.wait(150) == launch.EXIT_RANK_FAILURE
    (message,) = errors(place, "child")
    assert "another rank ended" in message
    assert "Traceback" not in (place / "child.err").read_text()
    assert gone(everyone) == []


def test_all_ranks_and_their_workers_end_when_the_first_is_killed(place):
    """Workers ignore the signals that end a run, and hear nothing from a killed one."""
    process = begin(place, "first", "trainer.devices=2", "data.workers=1")
    everyone = descendants(process.pid)
    assert sum("forkserver" in command for command in everyone.values()) >= 2 * 2
    process.kill()
    process.wait()
    assert gone(everyone, 150) == []
    (message,) = errors(place, "first")
    assert "another rank ended" in message


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_run_when_the_time_is_out(place):
    process = begin(place, "hangs", "trainer.devices=2", "trainer.timeout=1.5")
    everyone, other = descendants(process.pid), other_process(process)
    os.kill(other, signal.SIGSTOP)
    assert process.wait(300) == launch.EXIT_RANK_FAILURE
    assert "trainer.timeout" in errors(place, "hangs")[0]
    assert gone(everyone) == []


@pytest.mark.slow
def test_a_killed_worker_of_the_second_rank_ends_the_run_with_advice(place):
    process = begin(place, "loading", "trainer.devices=2", "data.workers=1")
    everyone, rank = descendants(process.pid), other_process(process)
    servers = [one for one, command in descendants(rank).items() if "forkserver" in command]
    loading = [one for server in servers for one in descendants(server)]
    assert loading
    for one in loading:
        os.kill(one, signal.SIGKILL)
    assert process.wait(150) == launch.EXIT_RANK_FAILURE
    first, second = sorted(errors(place, "loading"))
    assert "DataLoader worker" in first
    assert "data.workers" in first
    assert "another process of this run" in second
    assert "Traceback" not in (place / "loading.err").read_text()
    assert gone(everyone) == []


@pytest.mark.slow
def test_a_test_on_several_processes_ends_at_once_by_a_signal_to_all(place):
    """Lightning's own handler calls a collective, which hangs."""
    succeeded(tool("train.py", "--cfg", "tiny.yaml", "run.dir=short", "train.epochs=1", cwd=place))
    command = [sys.executable, ROOT / "tools" / "evaluate.py", "--run", "short", "trainer.devices=2", "test.clips=5000"]
    with open(place / "short.err", "w") as log:
        process = subprocess.Popen(list(map(str, command)), cwd=place, env=environment(), stdout=log, stderr=log)
    limit = time.monotonic() + 200
    while "test videos" not in (place / "short.err").read_text():
        assert process.poll() is None, (place / "short.err").read_text()[-3000:]
        assert time.monotonic() < limit
        time.sleep(0.1)
    everyone = descendants(process.pid)
    for one in (process.pid, other_process(process, "evaluate.py")):
        os.kill(one, signal.SIGTERM)
    assert process.wait(100) == 143
    assert gone(everyone) == []


@pytest.mark.slow
def test_a_port_that_is_taken_is_named(place):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(ROOT / "tools" / "train.py"), "--cfg", "tiny.yaml", "run.dir=port"]
        environ = {**environment(), "MASTER_PORT": str(port)}
        options = dict(cwd=place, env=environ, capture_output=True, text=True, timeout=200)
        process = subprocess.run([*command, "trainer.devices=2"], **options)
    assert process.returncode == 2, process.stderr[-3000:]
    (message,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert f"port {port} " in message
    assert "MASTER_PORT" in message


# Two nodes


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """A second node's own disk, with a copy of the videos and without any run folder."""
    folder = tmp_path_factory.mktemp("node1")
    write_data(folder / "data")
    write_config(folder / "tiny.yaml", data={"batch_size": 2})
    return folder


def two_nodes(places, *overrides):
    """train.py under a torchrun on each of two nodes. Returns their CompletedProcesses."""
    port = launch.find_free_port()
    started = []
    for rank, (folder, cache) in enumerate(places):
        torchrun = ["-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1"]
        address = ["--master-addr", "127.0.0.1", "--master-port", str(port)]
        command = [sys.executable, *torchrun, *address, str(ROOT / "tools" / "train.py"), "--cfg", "tiny.yaml"]
        environ = {**environment(), "VIDEORES_CACHE": str(folder / cache)}
        streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen([*command, *overrides], cwd=folder, env=environ, **streams))
    return [
        subprocess.CompletedProcess(one.args, one.wait(), *streams)
        for one in started
        for streams in [one.communicate(timeout=300)]
    ]


def test_two_nodes_with_disks_of_their_own_train_and_test_as_one(place, second):
    """The second node has its own videos and probes them itself; only the first one writes a run folder and speaks."""
    one, two = two_nodes([(place, "cache"), (second, "cache")], "trainer.num_nodes=2", "run.dir=nodes")
    succeeded(one)
    succeeded(two)
    (tested,) = (place / "nodes" / "test").iterdir()
    assert read_result(tested)[0]["videos"]["scored"] == 7
    assert one.stdout.count("video   top-1") == 1
    assert "run     2 process(es)" in one.stdout
    assert not (second / "nodes").exists()
    assert "video   top-1" not in two.stdout


@pytest.mark.slow
def test_nodes_whose_videos_differ_are_stopped_before_the_first_step(place, second):
    rows = (second / "data" / "train.csv").read_text().splitlines(keepends=True)
    (second / "data" / "train.csv").write_text("".join([*rows[:1], *rows[2:]]))  # without the first video
    one, two = two_nodes([(place, "cache"), (second, "cache")], "run.dir=differ")
    assert one.returncode != 0
    assert two.returncode != 0
    assert "the list of train videos" in one.stderr
