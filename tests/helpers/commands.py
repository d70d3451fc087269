"""Commands as users give them, in real processes, on small real videos, and what they leave behind.

`tool` starts a process. `forked` forks one for every command from a process of the session that has imported torch and
Lightning, so that a command costs a second instead of eight; exit codes and streams are those of the forked process.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from helpers.videos import numbered_video, write_csv

from videores.models.weights import safe_load

ROOT = Path(__file__).parents[2]
CLASSES = ("up", "down", "left", "right", "near", "far")
TINY = {
    "data": {
        "name": "tiny",
        "format": "csv",
        "root": "data",
        "val": 0.25,
        "clip": {"frames": 8},
        "transform": {"short_side": 32, "crop": 32},
        "batch_size": 4,
        "workers": 0,
    },
    "model": {"name": "r3d_18", "layers": [1], "width": 8, "stem": "small", "dropout": 0.2},
    "train": {"epochs": 2, "lr": 0.02, "warmup": 0.5},
    "test": {"clips": 2},
    "trainer": {"accelerator": "cpu", "log_every": 1},
}

SERVER = """
import json, os, runpy, socket, sys
import numpy, torch
import videores.run

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def run(path, arguments, environment, files):
    os.environ.clear()
    os.environ.update(environment)
    for stream, file in zip((1, 2), files):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv, sys.path[0] = [path, *arguments], os.path.dirname(path)
    sys.path[1:1] = environment["PYTHONPATH"].split(os.pathsep)[1:]  # what this process has not
    torch.seed(), numpy.random.seed()  # as in a new process: nothing may hang on the state that was forked
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as exit:
        return exit.code or 0
    except BaseException:
        import traceback
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush(), sys.stderr.flush()
    return 0


def start(number, world, environment, tools, name, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = dict(TORCHELASTIC_RUN_ID="test", MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE=world)
    common |= dict(LOCAL_WORLD_SIZE=world, GROUP_RANK=0)
    files, ranks = [f"forked-{os.getpid()}-{number}.{stream}" for stream in ("out", "err")], []
    for rank in range(world):
        launcher = {key: str(value) for key, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
        ranks.append(os.fork())
        if ranks[-1] == 0:
            launched = environment | launcher if world > 1 else environment
            os._exit(run(os.path.join(tools, name), arguments, launched, files))
    codes = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
    printed = [open(file, errors="replace").read() for file in files]
    [os.remove(file) for file in files]
    return codes, *printed


for line in sys.stdin:
    folder, environment, tools, cases = json.loads(line)
    os.chdir(folder)
    results = [start(number, world, environment, tools, *case) for number, (world, *case) in enumerate(cases)]
    print(json.dumps(results), file=answers, flush=True)
"""


def environment(*folders):
    """The environment of a user who has further folders on Python's path."""
    cleared = {key: value for key, value in os.environ.items() if not key.startswith("VIDEORES_TEST")}
    return cleared | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *folders)))}


def tool(name, *arguments, cwd, python=(sys.executable,), timeout=240):
    """Runs a tool as a user does. Returns a CompletedProcess."""
    command = [*python, str(ROOT / "tools" / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout)


@functools.cache
def start_server():
    """The process of a session that has imported torch and Lightning; it ends with the session's end of its pipe."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, "-c", SERVER], env=environment(), **pipes)


def forked_ranks(cases, cwd, *folders):
    """Runs several commands, each (number of ranks, tool or path of a script, *arguments), one after the other.

    Each of several ranks has the environment that torchrun gives it, all have `folders` on Python's path. Returns a
    CompletedProcess for each, with the exit code of all ranks and what they printed together.
    """
    cases, server = [[world, *map(str, case)] for world, *case in cases], start_server()
    request = [os.path.abspath(cwd), environment(*folders), str(ROOT / "tools"), cases]
    print(json.dumps(request), file=server.stdin, flush=True)
    results = json.loads(server.stdout.readline())
    assert all(len(set(codes)) == 1 for codes, _, _ in results), results
    return [
        subprocess.CompletedProcess(case, codes[0], *printed)
        for case, (codes, *printed) in zip(cases, results, strict=True)
    ]


def forked(cases, cwd, *folders):
    """Runs several commands, each (tool, *arguments), one after the other. Returns a CompletedProcess for each."""
    return forked_ranks([(1, *case) for case in cases], cwd, *folders)


def succeeded(process, code=0):
    assert process.returncode == code, process.stderr[-3000:]
    return process


def write_config(path, **sections):
    """TINY with some sections' keys replaced."""
    values = {name: {**TINY.get(name, {}), **sections.get(name, {})} for name in {*TINY, *sections}}
    path.write_text(yaml.safe_dump(values))
    return path


def write_data(root, test=7, **video):
    """12 training videos, each its own group, and 7 test videos, of six classes; the last one has a single frame."""
    rows = {
        part: [(f"{part}/{i:02}.mp4", CLASSES[i % 6], f"{part}{i:02}") for i in range(count)]
        for part, count in (("train", 12), ("test", test))
    }
    found = write_csv(root, rows, **{"height": 32, "width": 32, **video})
    numbered_video(root / rows["test"][-1][0], 1, start=60000, height=32, width=32)
    return found


def weights(run, name="last"):
    return safe_load.read_checkpoint(run / "checkpoints" / f"{name}.ckpt")["state_dict"]


def assert_same_weights(run, other):
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def result(run):
    """metrics.json and predictions.npz of the only protocol that a run was tested under."""
    (folder,) = (run / "test").iterdir()
    return read_result(folder)


def read_result(folder):
    with np.load(folder / "predictions.npz") as arrays:
        return json.loads((folder / "metrics.json").read_text()), dict(arrays)


def write_place(folder):
    """A working folder with data/ and tiny.yaml, whose paths are relative to it."""
    write_data(folder / "data")
    write_config(folder / "tiny.yaml")
    return folder


def damage(path, kind):
    """0: cut in half; 1: a text file of the name; 2: no bytes."""
    content = path.read_bytes()
    path.write_bytes([content[: len(content) // 2], b"this is no video\n" * 50, b""][kind])
