"""tools/doctor.py: all is well on a machine that passes the tests, and what is really wrong is named."""

import os
import subprocess
import sys

import pytest
import torch
from helpers.commands import ROOT, environment

from videores.compute import gradient_check
from videores.compute.precision import PrecisionSetting
from videores.diagnostics import doctor
from videores.runtime import machine


def run(cwd, **more):
    command = [sys.executable, str(ROOT / "tools" / "doctor.py")]
    return subprocess.run(command, cwd=cwd, env={**environment(), **more}, capture_output=True, text=True, timeout=240)


def test_a_machine_that_passes_the_tests_is_well(tmp_path):
    process = run(tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    for what in ("CPUs", "/dev/shm", "cache", "decord", "clip_h264.mp4", "gradients"):
        assert f" {what}" in process.stdout, what
    assert "exact: decord, pyav" in process.stdout or "exact: pyav" in process.stdout


def test_what_is_bad_is_named_and_ends_with_1(tmp_path):
    """Two packages that share a folder, by a record of the second as pip leaves it."""
    info = tmp_path / "decord2-3.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: decord2\nVersion: 3.0.0\n")
    (info / "top_level.txt").write_text("decord\n")
    process = run(tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert process.returncode == 1, process.stdout + process.stderr
    (line,) = (line for line in process.stdout.splitlines() if line.startswith("BAD"))
    assert "decord, decord2" in line


def test_a_cache_that_can_not_be_written_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIDEORES_CACHE", str(tmp_path / "file" / "cache"))
    (finding, *_) = doctor.check_folders()
    assert (finding.what, finding.status) == ("cache", doctor.WARNING)
    assert "VIDEORES_CACHE" in finding.advice


@pytest.mark.parametrize(("mebibytes", "status"), [(64, doctor.BAD), (512, doctor.WARNING), (4096, doctor.OK)])
def test_shared_memory_as_containers_give_it(monkeypatch, mebibytes, status):
    monkeypatch.setattr(machine, "read_shared_memory", lambda: (mebibytes * 2**20, 0))
    (finding,) = (f for f in doctor.check_memory() if f.what == "/dev/shm")
    assert finding.status == status
    assert ("--shm-size" in finding.advice) == (status != doctor.OK)


@pytest.mark.parametrize(("limit", "threads", "advice"), [(2.0, 16, "=2"), (None, 1, "16"), (None, 16, "")])
def test_threads_that_do_not_fit_the_cpus(monkeypatch, limit, threads, advice):
    monkeypatch.setattr(machine, "count_cpus", lambda: 16)
    monkeypatch.setattr(machine, "read_cpu_limit", lambda: limit)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    (finding,) = doctor.check_cpus()
    assert finding.status == (doctor.WARNING if advice else doctor.OK)
    assert advice in finding.advice


@pytest.mark.parametrize(("built", "status"), [(["sm_80", "sm_90a"], doctor.OK), (["sm_100"], doctor.BAD)])
def test_gpus_without_kernels_are_bad(monkeypatch, built, status):
    found = dict(is_available=True, device_count=1, get_arch_list=built)
    found |= dict(get_device_capability=(9, 0), get_device_name="H200")
    for name, value in found.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    (finding,) = doctor.check_gpus()
    assert (finding.what, finding.status) == ("GPU 0", status)


def test_wrong_gradients_are_bad(monkeypatch):
    monkeypatch.setattr(gradient_check, "compute_layer_error", lambda *arguments: float("inf"))
    (finding,) = doctor.check_gradients()
    assert finding.status == doctor.BAD
    assert "fp32" in finding.advice


def test_right_gradients_of_the_known_bad_case():
    assert doctor.find_worst_gradient(PrecisionSetting("bf16", True), "cpu") < gradient_check.MAX_RELATIVE_ERROR
    assert doctor.find_worst_gradient(PrecisionSetting("fp32", False), "cpu") < 1e-5


def test_a_check_that_fails_is_a_finding():
    def broken_package():
        raise OSError("libx.so: cannot open")

    (finding,) = doctor.run_check(broken_package)
    assert (finding.what, finding.status) == ("broken package", doctor.BAD)
    assert "libx.so" in finding.found


def test_numbered_clips_show_their_numbers():
    assert doctor.read_frame_numbers(doctor.make_numbered_frames(200)) == list(range(200))


@pytest.mark.parametrize(("number", "version"), [(8902, (8, 9, 2)), (90100, (9, 1, 0)), (91002, (9, 10, 2))])
def test_cudnn_versions_as_torch_numbers_them(number, version):
    assert doctor.split_cudnn_version(number) == version


@pytest.mark.parametrize(("version", "wrong"), [((8, 9, 2), 1), ((9, 8, 0), 1), ((9, 14, 9), 1), ((9, 15, 0), 0)])
def test_cudnn_versions_with_wrong_convolutions_are_named(version, wrong):
    assert ("9.15" in doctor.find_cudnn_defect(version)) == bool(wrong)
