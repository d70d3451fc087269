"""Bad input to the command line: exit code 2, one message that names it, no traceback, and nothing is left or lost."""

import itertools
import json
import re
import shutil

import pytest
import torch
import yaml
from helpers.commands import damage, forked, write_config
from helpers.videos import write_csv, write_lines, write_ucf101

NUMBERS = itertools.count()


def case(*arguments, names, tool="train.py"):
    """A command and what its message names; every training has its own run folder unless it gives one."""
    if tool == "train.py" and "run.dir=" not in " ".join(map(str, arguments)):
        arguments = (*arguments, f"run.dir=runs/{next(NUMBERS)}")
    return (tool, *arguments), names


def train(*overrides, names):
    return case("--cfg", "bad.yaml", *overrides, names=names)


def evaluate(*arguments, names):
    return case(*arguments, names=names, tool="evaluate.py")


def bad_keys(folder, run):
    (folder / "foreign").mkdir()
    (folder / "foreign" / "thesis.txt").write_text("precious")
    (folder / "file.txt").write_text("precious")
    cases = {
        "misspelt key": train("train.epoch=3", names=["train.epoch", "did you mean epochs"]),
        "wrong type": train("train.epochs=many", names=["train.epochs", "'many'"]),
        "bad override": train("epochs", names=["'epochs'"]),
        "missing configuration": case("--cfg", "r3d_moton.yaml", names=["r3d_moton.yaml", "did you mean r3d_motion"]),
        "missing root": train("data.root=nowhere", names=["data.root", "nowhere"]),
        "missing splits": train("data.splits=nowhere", names=["data.splits", "nowhere"]),
        "unknown network": train("model.name=r3d_17", names=["r3d_17", "r3d_18"]),
        "option of no network": train("model.stem=large", names=["stem", "nopool"]),
        "option of another network": train("model.mid=paper", names=["mid", "r3d_18"]),
        "batch larger than the data": train("data.batch_size=64", names=["batch_size"]),
        "existing run": train(f"run.dir={run}", names=[str(run), "run.overwrite=true", "run.resume=auto"]),
        "another configuration": train(
            f"run.dir={run}", "run.resume=auto", "train.lr=9", names=["train.lr", "0.02", "9"]
        ),
        "overwriting what is no run": train("run.dir=foreign", "run.overwrite=true", names=["foreign", "config.yaml"]),
        "run folder is a file": train("run.dir=file.txt", names=["file.txt"]),
        "evaluating what is no run": evaluate("--run", "foreign", names=["foreign", "config.yaml"]),
    }
    if not torch.cuda.is_available():
        cases["no GPU"] = train("trainer.accelerator=gpu", names=["trainer.accelerator"])
    return cases


def bad_checkpoints(folder, run):
    data = ("--run", run, "data.root=../data")
    other = (*data, "--checkpoint")
    (folder / "truncated.ckpt").write_bytes((run / "checkpoints" / "best.ckpt").read_bytes()[:2000])
    (folder / "text.ckpt").write_text("weights")
    shutil.copytree(run, folder / "untrained", ignore=lambda path, names: [n for n in names if n.endswith(".ckpt")])
    architecture = ["best.ckpt", "r3d_18", "r2plus1d_18", "stem.0.weight", "[8, 3, 3, 3, 3]"]
    return {
        "checkpoint of another architecture": evaluate(*data, "model.name=r2plus1d_18", names=architecture),
        "checkpoint of another width": evaluate(*data, "model.width=16", names=["[8, 3, 3, 3, 3] / [16, 3, 3, 3, 3]"]),
        "checkpoint of other classes": evaluate("--run", run, "data.root=classes", names=["best.ckpt", "0: down / a"]),
        "mirrored views of left": evaluate(*data, "test.crops=10", names=["crops=10", "left", "right"]),
        "no validation videos": evaluate(*data, "--part", "val", "data.val=none", names=["data.val=none"]),
        "truncated checkpoint": evaluate(*other, "truncated.ckpt", names=["truncated.ckpt"]),
        "text as checkpoint": evaluate(*other, "text.ckpt", names=["text.ckpt"]),
        "missing checkpoint": evaluate(*other, "none.ckpt", names=["none.ckpt"]),
        "run without checkpoints": evaluate("--run", "untrained", "data.root=../data", names=["untrained", "ckpt"]),
    }


HEAD = "path,label,group"
LISTS = {  # name -> (changed lists, what the message names); tests/data has the rest of the rules
    "absent video": ({"test": [HEAD, "e.mp4,a,h", "ghost.mp4,a,h"]}, ["ghost.mp4"]),
    "unknown label": ({"test": [HEAD, "e.mp4,c,h"]}, ["test.csv:2", "'c'"]),
    "label outside the class list": ({"classes": ["b", "c"]}, ["train.csv:2", "'a'"]),
    "empty test list": ({"test": [HEAD]}, ["test list"]),
    "empty training list": ({"train": [HEAD]}, ["train list"]),
    "shared group": ({"test": [HEAD, "e.mp4,a,g2"]}, ["train and test", "g2"]),
    "shared video": ({"test": [HEAD, "t1.mp4,b,"]}, ["train and test", "t1.mp4"]),
    "shared group with validation": ({"val": [HEAD, "e.mp4,a,g1"]}, ["train and val", "g1"]),
    "list without header": ({"train": ["t0.mp4,a,g0"]}, ["train.csv", "path,label"]),
    "more fields than columns": ({"train": ["path,label", "t0.mp4,a,g0"]}, ["train.csv:2"]),
    "row without label": ({"train": [HEAD, "t0.mp4,,g0"]}, ["train.csv:2"]),
    "class listed twice": ({"classes": ["a", "b", "a"]}, ["classes.txt"]),
    "list that is not text": ({"train": bytes(range(128, 256))}, ["train.csv"]),
    "missing list": ({"test": None}, ["test.csv"]),
}


def bad_lists(folder):
    good = {"train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(4)], "test": [("e.mp4", "a", "h")]}
    write_csv(folder / "classes", good, frames=4, height=32, width=32)
    cases = {}
    for name, (changed, names) in LISTS.items():
        root = folder / name.replace(" ", "-")
        shutil.copytree(folder / "classes", root)
        for part, lines in changed.items():
            path = root / ("classes.txt" if part == "classes" else f"{part}.csv")
            if lines is None:
                path.unlink()
            else:
                path.write_bytes(lines if isinstance(lines, bytes) else "".join(f"{row}\n" for row in lines).encode())
        cases[name] = train(f"data.root={root.name}", "data.batch_size=2", names=names)
    return cases


def ucf101_case(root, names, **video):
    """A UCF101 data set that the caller damages, and the command that reads it."""
    write_ucf101(root, height=32, width=32, **video)
    data = [f"data.root={root.name}/videos", f"data.splits={root.name}/splits", "data.format=ucf101"]
    return train(*data, names=names)


def bad_ucf101(folder):
    cases = {}
    for file in ("classInd.txt", "trainlist01.txt"):
        cases[f"missing {file}"] = ucf101_case(folder / file, [file], frames=4)
        (folder / file / "splits" / file).unlink()
    names = ["trainlist01.txt:1", "label 1", "Run", "2"]
    cases["label that the class list numbers otherwise"] = ucf101_case(folder / "ucf101-label", names, frames=4)
    write_lines(folder / "ucf101-label" / "splits" / "classInd.txt", ["1 Walk", "2 Run"])
    return cases


def bad_videos(folder):
    rows = {"train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)], "test": [("e.mp4", "a", "h")]}
    write_csv(folder / "unreadable", rows, frames=12, height=32, width=32)
    for i, path in enumerate(("t1.mp4", "t2.mp4", "t3.mp4")):
        damage(folder / "unreadable" / path, i)
    write_csv(folder / "no-good-test-video", rows, frames=4, height=32, width=32)
    damage(folder / "no-good-test-video" / "e.mp4", 0)
    names = ["t1.mp4", "t2.mp4", "t3.mp4", "data.on_unreadable=skip"]
    avi = ucf101_case(folder / "truncated-avi", [], groups=3, clips=1, frames=40)
    cut = next(folder.glob("truncated-avi/videos/*/*_g02_*.avi"))  # of the training list
    damage(cut, 0)
    return {
        "truncated, text and empty videos": train("data.root=unreadable", names=names),
        "truncated AVI": (avi[0], [cut.name]),
        "no test video decodes": train("data.root=no-good-test-video", names=["test", "decode"]),
    }


def no_ucf101():
    """The shipped commands in a folder where the data set is not."""
    return {
        f"{model} without UCF101": case(
            *("--cfg", f"{model}_ucf101.yaml"),
            names=["https://", "datasets/ucf101", "data.root=", f"python tools/train.py --cfg {model}_motion.yaml"],
        )
        for model in ("r2plus1d", "r3d", "f_r2d")
    }


@pytest.fixture(scope="module")
def run(trained):
    return trained[0] / "runs" / "tiny"


@pytest.fixture(scope="module")
def refusals(trained, run):
    """name -> (process, what its message names). Every bad thing is made in the folder `refused`."""
    folder = trained[0] / "refused"
    folder.mkdir()
    write_config(folder / "bad.yaml", data={"root": "../data"})
    cases = bad_keys(folder, run) | bad_checkpoints(folder, run) | bad_lists(folder) | bad_ucf101(folder)
    cases |= bad_videos(folder) | no_ucf101()
    processes = forked([command for command, _ in cases.values()], folder)
    return {name: (process, cases[name][1]) for name, process in zip(cases, processes, strict=True)}


def test_bad_input_exits_with_2_and_one_message_that_names_it(refusals):
    assert len(refusals) > 45
    wrong = {}
    for name, (process, names) in refusals.items():
        missing = [word for word in names if word not in process.stderr]
        is_clear = process.returncode == 2 and "Traceback" not in process.stderr
        if missing or not is_clear or process.stderr.count("error: ") != 1 or "top-1" in process.stdout:
            wrong[name] = (missing, process.returncode, process.stderr[-2000:])
    assert wrong == {}


def test_bad_input_is_found_before_a_run_folder_is_made(trained, refusals):
    """Else the corrected command would be refused because of the folder that the wrong one left."""
    assert list((trained[0] / "refused").glob("runs/*")) == []


def test_a_checkpoint_that_does_not_fit_lists_what_differs(refusals):
    for kind in ("architecture", "width"):
        process, _ = refusals[f"checkpoint of another {kind}"]
        assert len(re.findall(r"^  [\w.]+: .* / .*$", process.stderr, re.MULTILINE)) == 10


def test_what_was_there_is_untouched(trained, run, refusals):
    assert (trained[0] / "refused" / "foreign" / "thesis.txt").read_text() == "precious"
    assert (trained[0] / "refused" / "file.txt").read_text() == "precious"
    assert json.loads((run / "env.json").read_text())["exit_status"] == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["lr"] == 0.02
