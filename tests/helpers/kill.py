"""Kills small trainings at random moments, resumes them, and compares them with undisturbed ones, bit for bit.

    python tests/helpers/kill.py --kills 100

Real processes, real video files: one process has everything imported and forks for each start, which saves the seconds
of importing; kill -9, SIGTERM and SIGUSR1 come at any moment from the first checkpoint on, be it in training, saving,
validation, test, or while it starts again. Ends with 0 if no run is lost, all end with the same weights, optimizer,
best checkpoint and metrics, and every resumed start did resume.
"""

import argparse
import json
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
TIMING = ("clips_per_s", "step_ms", "data_wait", "memory_mb")  # what differs between two equal runs
MOST = 4  # kills of one run, which then ends undisturbed
CONFIG = {
    "data": {
        "name": "tiny",
        "format": "csv",
        "root": "data",
        "val": 0.2,
        "clip": {"frames": 4},
        "transform": {"short_side": 18, "crop": 16},
        "batch_size": 2,
        "workers": 0,
        "cache": "ram",
    },
    "model": {"name": "r3d_18", "layers": [1], "width": 4, "stem": "small"},
    "train": {"epochs": 5, "lr": 0.02},
    "trainer": {"accelerator": "cpu", "log_every": 1, "precision": "fp32"},
    "test": {"clips": 1},
}
SETTINGS = {
    "dropout, mixup, hue, cosine": [
        *("model.dropout=0.3", "data.augment.mixup=0.4", "data.augment.hue=0.2", "data.augment.erasing=0.5"),
        *("train.warmup=1", "run.checkpoint_steps=1"),
    ],
    "stochastic depth, AdamW, onecycle, by time": [
        *("model.drop_path=0.4", "model.layers=[2]", "train.optimizer=adamw", "train.lr=0.003"),
        *("train.schedule=onecycle", "train.warmup=1", "run.checkpoint_minutes=0.0008"),
    ],
    "accumulation, EMA, batch norm": [
        *("train.accumulate=2", "train.ema=0.9", "model.dropout=0.3", "run.checkpoint_steps=1"),
    ],
    "2 workers": ["data.workers=2", "data.augment.cutmix=1", "run.checkpoint_steps=3", "data.cache=none"],
    "pruned": [
        *("model.widths={stem.0: 3, layer1.0.conv1.0: 2, layer1.0.conv2.0: 3}", "model.dropout=0.3"),
        *("train.keep_zeros=true", "run.checkpoint_steps=1"),
    ],
    "pretext, contrast": [
        *("data.pretext=transformations", "data.clip.repeat=2", "train.contrast=0.3", "train.reconstruct=0.3"),
        *("train.mask=0.5", "run.checkpoint_steps=1"),
    ],
    "2 processes": ["trainer.devices=2", "model.dropout=0.3", "run.checkpoint_steps=2"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--folder", type=Path, help="where it works; default: a temporary folder")
    args = parser.parse_args()
    import torch

    from videores import run  # noqa: F401 (what every start needs)

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(args.folder or temporary)
        os.environ |= {"VIDEORES_CACHE": os.path.abspath("cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        prepare()
        return 1 if report(kill_all(args)) else 0


def prepare():
    from helpers.videos import write_csv

    classes = ("up", "down", "near")
    rows = {
        part: [(f"{part}/{i:02}.mp4", classes[i % 3], f"{part}{i:02}") for i in range(count)]
        for part, count in (("train", 20), ("test", 4))
    }
    write_csv(Path("data"), rows, height=18, width=20, frames=8)
    Path("tiny.yaml").write_text(yaml.safe_dump(CONFIG))


def kill_all(args):
    """{setting: [(what was done, complaints), ...]} of runs until there were enough kills."""
    rng, found, kills = random.Random(args.seed), {name: [] for name in args.settings}, 0
    whole = {name: undisturbed(name) for name in args.settings}
    while kills < args.kills:
        for name in args.settings:
            if kills < args.kills:
                folder = Path("runs", f"{len(found[name])}-{list(SETTINGS).index(name)}")
                done = disturbed(name, folder, rng, whole[name], min(MOST, args.kills - kills))
                kills += sum(code != 0 for _, code in done)
                found[name].append((done, complaints(folder, whole[name]["folder"], done)))
    return found


def undisturbed(name):
    folder, began = Path("runs", f"whole-{list(SETTINGS).index(name)}"), time.monotonic()
    child = start(name, folder)
    while not (folder / "checkpoints" / "last.ckpt").exists() and time.monotonic() < began + 100:
        time.sleep(0.005)
    first = time.monotonic()
    code = wait(child)
    assert code == 0, (folder.parent / f"{folder.name}.log").read_text()
    return {"folder": folder, "to_first": first - began, "after": time.monotonic() - first}


def disturbed(name, folder, rng, whole, most):
    """Starts the run again and again until it ends. Returns [(signal, exit code), ...] of its starts."""
    done = []
    for number in range(most + 1):
        child, sent = start(name, folder), 0
        if number < most:
            sent = rng.choice([signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGUSR1])
            wait_for_checkpoint(child, folder)
            time.sleep(rng.uniform(0, whole["after"] / (number + 1) + (whole["to_first"] if number else 0)))
            os.kill(child, sent)
        done.append((signal.Signals(sent).name if sent else "", wait(child)))
        if done[-1][1] == 0:
            break
    return done


def wait_for_checkpoint(child, folder):
    limit = time.monotonic() + 100
    while not (folder / "checkpoints" / "last.ckpt").exists() and time.monotonic() < limit:
        time.sleep(0.002)


def start(name, folder):
    """A training in a process of its own. Returns its number."""
    folder.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setpgid(0, 0)
        with (folder.parent / f"{folder.name}.log").open("a") as log:
            os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        command = ["--cfg", "tiny.yaml", f"run.dir={folder}", "run.resume=auto", *SETTINGS[name]]
        sys.argv = [str(ROOT / "tools" / "train.py"), *command]
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as exit:
        code = exit.code or 0
    except BaseException as error:
        print(f"unexpected: {error!r}", flush=True)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def wait(child):
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    end_group(child)
    return code


def end_group(child):
    """The helpers of a killed process notice its end by themselves; on a machine that is busy that takes too long."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def complaints(folder, whole, done):
    """What is wrong with a run that was killed and resumed, beside one that was not."""
    lines = [f"ended with {code} at {name}" for name, code in done if code not in (0, 75, *died_of(name))]
    if done[-1][1] != 0:
        return [*lines, f"lost: the last start ended with {done[-1][1]}"]
    starts = [entry["step"] for entry in json.loads((folder / "env.json").read_text())["starts"]]
    lines += ["a start did not resume"] if 0 in starts[1:] else []
    lines += [f"{name} differs" for name in ("last.ckpt", "best.ckpt") if not same_checkpoint(folder, whole, name)]
    return lines + (["metrics differ"] if rows(folder) != rows(whole) else [])


def died_of(name):
    """A process that is only starting has no handlers yet."""
    return (-signal.Signals[name],) if name else ()


def same_checkpoint(folder, other, name):
    from videores.models.weights import safe_load

    ours, theirs = (safe_load.read_checkpoint(run / "checkpoints" / name) for run in (folder, other))
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "callbacks", "made_with")
    return all(same(ours.get(part), theirs.get(part)) for part in (*parts, "learning"))


def same(a, b):
    """Equality of trees of tensors and primitives, bit for bit."""
    import torch

    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def rows(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMING} for row in lines]


def report(found):
    """Prints a line for each setting, and all complaints. Returns their number."""
    wrong = 0
    for name, runs in found.items():
        sent = Counter(signal_name for done, _ in runs for signal_name, code in done if code != 0)
        lines = [f"  {' '.join(f'{s or chr(45)}:{c}' for s, c in done)}: {line}" for done, bad in runs for line in bad]
        wrong += len(lines)
        times = ", ".join(f"{count} {signal_name}" for signal_name, count in sorted(sent.items()))
        counts = f"{len(runs)} runs, {sum(sent.values())} kills ({times})"
        print("\n".join([f"{name}: {counts}, {len(lines)} wrong", *lines]))
    print(f"{sum(len(runs) for runs in found.values())} runs, {wrong} wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
