"""The command `videores` is the tools; a wheel brings them and the configurations; the library page's lines run."""

import re
import subprocess
import sys

import pytest
from helpers.commands import ROOT, environment

from videores.config.parse import CONFIG_DIR
from videores.config.shipped import find_shipped
from videores.runtime import commands

CALL = "import sys; from videores.runtime.commands import main; sys.exit(main())"


def call(*arguments, cwd):
    command = [sys.executable, "-c", CALL, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)


def test_each_tool_for_users_is_a_command():
    tools = {path.stem.replace("_", "-") for path in (ROOT / "tools").glob("*.py")}
    assert commands.list_commands().keys() == tools - {"benchmark", "reference"}
    assert {"train", "evaluate", "predict", "export"} <= commands.list_commands().keys()
    assert find_shipped("configs") == CONFIG_DIR == ROOT / "configs"


def test_a_command_is_its_tool(tmp_path):
    help_of_tool = subprocess.run(
        [sys.executable, ROOT / "tools" / "complexity.py", "--help"], env=environment(), capture_output=True, text=True
    )
    assert call("complexity", "--help", cwd=tmp_path).stdout == help_of_tool.stdout
    refused = call("train", "--cfg", "r3d_moton.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "r3d_motion.yaml" in refused.stderr


def test_commands_are_listed_and_a_wrong_one_names_the_nearest(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["videores"])
    assert commands.main() == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in commands.list_commands())
    monkeypatch.setattr("sys.argv", ["videores", "predcit"])
    assert commands.main() == 2
    assert "did you mean predict?" in capsys.readouterr().err


def test_a_wheel_has_all_packages():
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "videores").rglob("__init__.py")}
    listed = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML").loads(
        (ROOT / "pyproject.toml").read_text()
    )["tool"]["setuptools"]
    assert set(listed["packages"]) == found | listed["package-dir"].keys()
    others = [path for path in (ROOT / "videores").rglob("*.*") if path.suffix not in (".py", ".pyc")]
    assert [p for p in others if not any(p.match(pattern) for pattern in listed["package-data"]["*"])] == []


@pytest.mark.slow
def test_a_wheel_trains_and_predicts_by_name(tmp_path):
    """Built without network; its environment sees this one's packages, and not this repository."""
    wheel = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run(wheel, check=True, capture_output=True)
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*install, *map(str, tmp_path.glob("*.whl"))], check=True, capture_output=True)
    assert (site / "videores" / "configs" / "r3d_motion.yaml").is_file()
    env = environment() | {"PYTHONPATH": str(site)}
    options = ["data.share=0.02", "train.epochs=1", "data.batch_size=8", "trainer.accelerator=cpu"]
    for arguments in (
        ["train", "--cfg", "r3d_motion", *options],
        ["predict", "runs/r3d_motion", "datasets/motion8/videos/test/0000_left.mp4"],
        ["predict", "videores/r2plus1d_motion_w16", "datasets/motion8/videos/test/0000_left.mp4"],
    ):
        process = subprocess.run(
            [str(site / "bin" / "videores"), *arguments], cwd=tmp_path, env=env, capture_output=True
        )
        assert process.returncode == 0, process.stderr[-2000:]
    assert b" left " in process.stdout


def test_the_lines_of_the_library_page_run(trained, monkeypatch, capsys):
    page = (ROOT / "docs" / "guide" / "library.md").read_text()
    code = "".join(re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    code = code.replace("runs/r2plus1d_motion", "runs/tiny")
    code = code.replace("datasets/motion8/videos/test/0000_left.mp4", "data/test/00.mp4")
    monkeypatch.chdir(trained[0])
    values = {}
    exec(code, values)
    assert values["answer"].label == capsys.readouterr().out.split()[0]
    assert values["logits_VN"].shape == (2, 6)
    assert values["frames_THWC"].shape == (6, 32, 32, 3)
