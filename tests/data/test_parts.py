"""Probing in parts, as SLURM tasks do: whatever the number of parts and of kills, one manifest results."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.videos import write_ucf101

from videores.data import manifest
from videores.data.prepare import commands
from videores.data.video.reencode import EncodingSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ucf(tmp_path):
    return write_ucf101(tmp_path / "data")


def prepare(values, shard):
    root, splits = Path(values["root"]), Path(values["splits"])
    return commands.prepare(commands.Options("ucf101", root, splits, "all", EncodingSettings(), workers=1, shard=shard))


def written(values):
    """The manifest's bytes, which are then taken away; None where there is none."""
    path = manifest.find_manifest_path(values["root"])
    content = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    return content


def test_any_number_of_parts_writes_the_same_manifest(ucf, capsys):
    assert prepare(ucf, (1, 1)) == 0
    whole = written(ucf)
    for number in (3, 1, 7, 2, 5, 6):
        assert prepare(ucf, (number, 7)) == 0
        assert written(ucf) is None
    assert prepare(ucf, (4, 7)) == 0
    assert written(ucf) == whole
    assert str(manifest.find_manifest_path(ucf["root"])) in capsys.readouterr().out


def test_a_part_that_was_killed_is_run_again(ucf):
    prepare(ucf, (1, 1))
    whole = written(ucf)
    prepare(ucf, (1, 2))
    options = ["--root", ucf["root"], "--splits", ucf["splits"], "--workers", "1", "--shard", "2/2"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools" / "prepare.py", "ucf101", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while "probing" not in process.stderr.readline():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert written(ucf) is None
    assert prepare(ucf, (2, 2)) == 0
    assert written(ucf) == whole


def test_a_part_of_a_file_that_changed_does_not_count(ucf):
    prepare(ucf, (1, 2))
    changed = sorted(Path(ucf["root"]).rglob("*.avi"))[0]
    os.utime(changed, ns=(1, 1))
    prepare(ucf, (2, 2))
    assert written(ucf) is None
    prepare(ucf, (1, 2))
    assert written(ucf) is not None


def test_bad_videos_are_in_the_manifest_of_all_parts(ucf):
    bad = sorted(Path(ucf["root"]).rglob("*.avi"))[3]
    bad.write_bytes(b"no video")
    assert sorted(prepare(ucf, (number, 3)) for number in (1, 2, 3)) == [0, 0, 1]
    assert bad.name in written(ucf).decode()
