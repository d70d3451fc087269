"""Commands as users give them, in real processes, on small real videos, and what they leave behind.

`tool` starts a process. `forked` starts one that imports torch and Lightning once and forks for every command, so that
a command costs a second instead of eight; exit codes and streams are those of the forked process.
"""

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

FORKER = """
import json, os, runpy, sys
import numpy, torch
import videores.run
tools, cases = json.load(sys.stdin)
results = []
for number, (name, *arguments) in enumerate(cases):
    files = [f"forked-{os.getpid()}-{number}.{stream}" for stream in ("out", "err")]
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for stream, file in zip((1, 2), files):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
            sys.argv = [f"{tools}/{name}", *arguments]
            torch.seed(), numpy.random.seed()  # as in a new process: nothing may hang on the state that was forked
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    results.append([code, *(open(file, errors="replace").read() for file in files)])
    [os.remove(file) for file in files]
json.dump(results, sys.stdout)
"""


def environment():
    cleared = {key: value for key, value in os.environ.items() if not key.startswith("VIDEORES_TEST")}
    return cleared | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def tool(name, *arguments, cwd, python=(sys.executable,), timeout=240):
    """Runs a tool as a user does. Returns a CompletedProcess."""
    command = [*python, str(ROOT / "tools" / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout)


def forked(cases, cwd):
    """Runs several commands, each (tool, *arguments), one after the other. Returns a CompletedProcess for each."""
    request = json.dumps([str(ROOT / "tools"), [list(map(str, case)) for case in cases]])
    process = subprocess.run(
        [sys.executable, "-c", FORKER], cwd=cwd, env=environment(), input=request, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout)
    return [subprocess.CompletedProcess(case, *result) for case, result in zip(cases, results, strict=True)]


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
