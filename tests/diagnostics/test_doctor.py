"""tools/doctor.py: all is well on a machine that passes the tests, and what is really wrong is named."""

import os
import subprocess
import sys

import pytest
import torch
from helpers.commands import ROOT, environment

from videores.compute import gradient_check
from videores.diagnostics import doctor
from videores.models.cpu_conv import Conv3d
from videores.runtime import machine


def run(cwd, **more):
    command = [sys.executable, str(ROOT / "tools" / "doctor.py")]
    return subprocess.run(command, cwd=cwd, env={**environment(), **more}, capture_output=True, text=True, timeout=240)


def bad(process):
    return [line.split("BAD")[1].strip() for line in process.stdout.splitlines() if line.startswith("BAD")]


def test_a_machine_that_passes_the_tests_is_well(tmp_path):
    process = run(tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert bad(process) == []
    for what in ("torch ", "decord", "processors", "/dev/shm", "cache", "clip_h264.mp4", "gradients"):
        assert f" {what}" in process.stdout, what
    assert "exact: decord, pyav" in process.stdout or "exact: pyav" in process.stdout


def test_what_is_bad_is_named_and_ends_with_1(tmp_path):
    """Two things at once: a malicious release, and two packages that share a folder."""
    for name, version, folder in (("lightning", "2.6.2", "lightning"), ("decord2", "3.0.0", "decord")):
        pretend(tmp_path / "site", name, version, folder)
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    process = run(tmp_path, PYTHONPATH=path)
    assert process.returncode == 1, process.stdout + process.stderr
    assert [line.split()[0] for line in bad(process)] == ["lightning", "decord"]
    assert "malicious" in process.stdout
    assert "decord, decord2 overwrite each other" in process.stdout


def pretend(site, name, version, folder):
    """A package's record, as pip leaves it."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text(f"{folder}\n")


@pytest.mark.parametrize(
    ("name", "version", "word"),
    [("torch", "2.9.1+cu128", "conv3d"), ("lightning", "2.5.0", "code"), ("torch", "2.10.0", ""), ("av", "14.0", "")],
)
def test_versions_with_known_defects(name, version, word):
    problem, advice = doctor.find_known_problem(name, version)
    assert word in problem
    assert bool(problem) == bool(advice) == bool(word)


def test_a_cache_that_can_not_be_written_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIDEORES_CACHE", str(tmp_path / "file" / "cache"))
    (finding, *_) = doctor.check_folders()
    assert (finding.what, finding.status) == ("cache", doctor.WARNING)
    assert "VIDEORES_CACHE" in finding.advice


@pytest.mark.parametrize(("mebibytes", "status"), [(64, "bad"), (512, "warning"), (4096, "ok")])
def test_shared_memory_as_containers_give_it(monkeypatch, mebibytes, status):
    monkeypatch.setattr(machine, "read_shared_memory", lambda: (mebibytes * 2**20, 0))
    (finding,) = (f for f in doctor.check_memory() if f.what == "/dev/shm")
    assert finding.status == status
    assert ("--shm-size" in finding.advice) == (status != "ok")


def test_fewer_processors_than_it_looks(monkeypatch):
    monkeypatch.setattr(machine, "count_cpus", lambda: 16)
    monkeypatch.setattr(machine, "read_cpu_limit", lambda: 2.0)
    finding = next(iter(doctor.check_cpus()))
    assert finding.status == doctor.WARNING
    assert "OMP_NUM_THREADS=2" in finding.advice


@pytest.mark.parametrize(("busy", "status"), [(0.5, "ok"), (2.0, "ok"), (3.1, "warning")])
def test_processors_that_others_use_are_a_warning(monkeypatch, busy, status):
    monkeypatch.setattr(os, "getloadavg", lambda: (busy, 0, 0))
    (finding,) = doctor.check_load(2)
    assert finding.status == getattr(doctor, status.upper())
    assert ("OMP_NUM_THREADS=1" in finding.advice) == (status == "warning")


def test_wrong_gradients_are_bad(monkeypatch):
    monkeypatch.setattr(gradient_check, "compute_layer_error", lambda *arguments: float("inf"))
    finding = next(iter(doctor.check_conv_gradients()))
    assert finding.status == doctor.BAD
    assert "fp32" in finding.advice


def test_right_gradients_of_the_known_bad_case():
    from videores.compute.precision import PrecisionSetting

    assert (
        doctor.find_worst_gradient(gradient_check, Conv3d, PrecisionSetting("bf16", True), "cpu")
        < gradient_check.MAX_RELATIVE_ERROR
    )
    assert doctor.find_worst_gradient(gradient_check, torch.nn.Conv3d, PrecisionSetting("fp32", False), "cpu") < 1e-5


def test_a_check_that_fails_is_a_finding():
    def broken_package():
        raise OSError("libx.so: cannot open")

    (finding,) = doctor.run_check(broken_package)
    assert (finding.what, finding.status) == ("broken package", doctor.BAD)
    assert "libx.so" in finding.found


def test_numbered_clips_show_their_numbers():
    assert doctor.read_frame_numbers(doctor.make_numbered_frames(200)) == list(range(200))
