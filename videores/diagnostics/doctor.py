"""Check that this machine and its packages are fit for training, with advice on each finding.

Every check looks at the real thing: decoders read clips that are written here, gradients are computed. A check returns
findings; one that fails itself is a finding too.
"""

import importlib
import os
import shutil
import subprocess
import tempfile
import textwrap
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.version import Version

from videores.runtime import machine

OK, WARNING, BAD = "ok", "warning", "bad"
GIB = 2**30
REQUIRED_PACKAGES = ("torch", "torchvision", "lightning", "av", "numpy", "pydantic", "pytorchvideo")
MALICIOUS = ("2.6.2", "2.6.3")  # of lightning on PyPI, 2026-04-30
CODINGS = {  # clip -> what FFmpeg writes it with
    "clip_h264.mp4": ("libx264", {"g": "12", "bf": "2"}),
    "clip_mpeg4.avi": ("mpeg4", {"g": "300", "bf": "2", "qscale": "2"}),
    "clip_mpeg4.mp4": ("mpeg4", {"g": "12", "bf": "2", "qscale": "2"}),
    "clip_vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
}
FRAMES = 40


class _Finding(NamedTuple):
    what: str
    status: str  # OK, WARNING or BAD
    found: str
    advice: str = ""


def run_checks() -> int:
    """Print the table and return the exit code: 1 if something is bad."""
    findings = []
    for check in CHECKS:
        found = run_check(check)
        findings += found
        for finding in found:
            print(_format_finding(finding), flush=True)
    counts = {status: sum(f.status == status for f in findings) for status in (BAD, WARNING, OK)}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts[BAD] else 0


def run_check(check):
    try:
        return list(check())
    except Exception as error:  # a broken package may raise anything, and the other checks still say something
        what = check.__name__.removeprefix("_check_").replace("_", " ")
        return [_Finding(what, BAD, f"{type(error).__name__}: {error}".splitlines()[0], "this check could not be made")]


def _format_finding(finding):
    mark = {OK: "ok     ", WARNING: "WARNING", BAD: "BAD    "}[finding.status]
    advice = f"\n{textwrap.indent(textwrap.fill(finding.advice, 100), ' ' * 30 + '-> ')}" if finding.advice else ""
    return f"{mark} {finding.what:21} {finding.found}{advice}"


# Packages


def _check_packages():
    for name in REQUIRED_PACKAGES:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield _Finding(name, BAD, "not installed", "pip install -e . in the clone of videores")
            continue
        problem, advice = find_known_problem(name, found)
        yield _Finding(name, BAD if problem else OK, f"{found}{': ' * bool(problem)}{problem}", advice)


def find_known_problem(name, found):
    """Return (what is wrong with this version, what to do), empty where nothing is known."""
    release = Version(found).release
    if name == "lightning" and found in MALICIOUS:
        return "a malicious release", "remove it, consider this machine's secrets stolen, and install lightning>=2.6.6"
    if name == "lightning" and release < (2, 6, 6):
        return "runs code from checkpoints", "pip install 'lightning>=2.6.6,<2.8'"
    if name == "torch" and release < (2, 10):
        return "slow and wrong bf16 conv3d with cuDNN 9.8 to 9.10 (2.9), untested (older)", "pip install 'torch>=2.10'"
    return "", ""


def _check_torch_pair():
    wanted = [Requirement(line) for line in metadata.requires("torchvision") or ()]
    pinned = next((r.specifier for r in wanted if r.name == "torch"), None)
    found = metadata.version("torch")
    fits = not pinned or pinned.contains(Version(found).public, prereleases=True)
    what = f"torchvision wants torch{pinned}, {found} is installed" if pinned else "torchvision names no torch"
    yield _Finding("torch for torchvision", OK if fits else BAD, what, "" if fits else "install the two together")


def _check_decord_owner():
    """Check that one package alone owns the folder decord/.

    decord, decord2 and eva-decord all install it: the last one wins, an uninstall breaks all.
    """
    owners = sorted(set(metadata.packages_distributions().get("decord", ())))
    if len(owners) == 1:
        yield _Finding("decord", OK, f"{owners[0]} {metadata.version(owners[0])}")
    else:
        what = f"{', '.join(owners)} overwrite each other's folder" if owners else "not installed"
        yield _Finding("decord", BAD, what, "pip uninstall -y decord decord2 eva-decord; pip install decord")


def _check_optional_packages():
    try:
        importlib.import_module("torchcodec.decoders")
        yield _Finding("torchcodec", OK, metadata.version("torchcodec"))
    except ModuleNotFoundError:
        yield _Finding("torchcodec", OK, "not installed (an extra, not needed)")
    except Exception:  # it lists every FFmpeg library that it tried
        advice = "install FFmpeg 4 to 8 of the system, or pip uninstall torchcodec"
        yield _Finding("torchcodec", WARNING, "installed, but it finds no FFmpeg", advice)
    try:
        importlib.import_module("pytorchvideo.transforms")
        yield _Finding("pytorchvideo", OK, "with its transforms")
    except ImportError:
        yield _Finding("pytorchvideo", OK, "without its transforms, which this torchvision breaks (not used here)")


# Machine


def check_cpus():
    usable, limit = machine.count_cpus(), machine.read_cpu_limit()
    if limit and limit < usable:
        advice = f"OMP_NUM_THREADS={max(1, int(limit))}, or libraries start {usable} threads and wait for each other"
        yield _Finding("processors", WARNING, f"{usable}, but the container grants the time of {limit:g}", advice)
    else:
        yield _Finding(
            "processors", OK, f"{usable} of {os.cpu_count()}{'' if limit is None else ', not limited below'}"
        )
    yield from check_load(usable)
    import torch

    threads, given = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    what = f"torch uses {threads}" + (f" (OMP_NUM_THREADS={given})" if given else "")
    if usable > 1 and (threads == 1 or threads > usable):
        advice = f"unset OMP_NUM_THREADS, or set it to at most {usable} divided by the processes on this machine"
        yield _Finding("threads", WARNING, what, advice)
    else:
        yield _Finding("threads", OK, what)


def check_load(usable):
    """Check that no other processes use the CPUs.

    Threads that wait for each other are several times slower than fewer of them.
    """
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0
    advice = "wait for the other programs, or set OMP_NUM_THREADS=1" if busy > usable else ""
    yield _Finding("load", WARNING if advice else OK, f"{busy:.1f} programs want a processor", advice)


def check_memory():
    found, limit = machine.read_memory(), machine.read_memory_limit()
    if found is None:
        yield _Finding("memory", OK, "the system does not tell")
        return
    total, free = (value if limit is None else min(value, limit) for value in found)
    advice = "lower data.workers and data.batch_size; leave out data.cache=ram" if free < 4 * GIB else ""
    yield _Finding("memory", WARNING if advice else OK, f"{free / GIB:.1f} of {total / GIB:.1f} GiB free", advice)
    sizes = machine.read_shared_memory()
    if sizes is None:
        yield _Finding("/dev/shm", OK, "not there on this system")
    else:
        shared, _ = sizes
        status = BAD if shared < GIB / 8 else WARNING if shared < GIB else OK
        advice = "docker run --shm-size=8g (or --ipc=host); until then data.workers=0" if status != OK else ""
        yield _Finding("/dev/shm", status, f"{shared / GIB:.2f} GiB, through which workers hand over batches", advice)


def _check_gpus():
    import torch

    if not torch.cuda.is_available():
        idle = shutil.which("nvidia-smi") is not None
        advice = "install a CUDA build of torch that fits the driver" if idle else ""
        found = "a driver is installed, but torch finds no GPU" if idle else "none: training runs on the CPU"
        yield _Finding("GPU", WARNING if idle else OK, found, advice)
        return
    built = torch.cuda.get_arch_list()
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        name = f"{torch.cuda.get_device_name(i)}, capability {major}.{minor}"
        fits = major in {int(arch.split("_")[1].rstrip("af")) // 10 for arch in built}
        advice = "" if fits else f"this torch has no kernels for it (it has {', '.join(built)}): install another build"
        yield _Finding(f"GPU {i}", OK if fits else BAD, name, advice)
    cudnn = torch.backends.cudnn.version() or 0
    yield _Finding("CUDA", OK, f"{torch.version.cuda}, cuDNN {cudnn}, driver {_read_driver_version()}")


def _read_driver_version():
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.splitlines()[0]
    except (OSError, IndexError, subprocess.TimeoutExpired):
        return "unknown"


def check_folders():

    cache = Path(os.environ.get("VIDEORES_CACHE") or Path(machine.find_cache_root(), "videores"))
    problem = _find_write_error(cache)
    advice = "set VIDEORES_CACHE to another folder; until then files may be probed again" if problem else ""
    yield _Finding("cache", WARNING if problem else OK, f"{cache}{': ' * bool(problem)}{problem}", advice)
    here = ("disk of this folder", Path.cwd(), "checkpoints take three times the network's size, twice")
    for what, folder, need in (here, ("disk of the cache", cache, "it has what is known of each video")):
        folder = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
        free = shutil.disk_usage(folder).free
        status = BAD if free < GIB / 2 else WARNING if free < 5 * GIB else OK
        advice = f"{need}: make room" if status != OK else ""
        yield _Finding(what, status, f"{free / GIB:.1f} GiB free", advice)


def _find_write_error(folder):
    """Return why a folder cannot be written, or nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror


# What is computed


def _check_decoders():
    """Read every frame of a numbered clip in an awkward order, and name the reader of `auto`."""
    from videores.data import decode, probe
    from videores.data.video import encode
    from videores.errors import UserError

    with tempfile.TemporaryDirectory(prefix="videores-doctor-") as folder:
        for name, (codec, options) in CODINGS.items():
            path = Path(folder, name)
            try:
                encode.write_video(path, make_numbered_frames(FRAMES), 25, codec=codec, options=options)
            except UserError:
                yield _Finding(name, OK, f"not tried: this FFmpeg writes no {codec}")
                continue
            info = probe.probe(path)
            order = [*range(FRAMES - 1, -1, -3), *range(0, FRAMES, 7)]
            wrong = [
                reader
                for reader in info.readers
                if read_frame_numbers(decode.read_frames(path, order, reader=reader, info=info)) != order
            ]
            exact = [reader for reader in info.readers if reader not in wrong]
            what = f"exact: {', '.join(exact) or 'none'}; auto takes {info.reader}"
            advice = f"{', '.join(wrong)} returned wrong frames after the probe passed it" if wrong else ""
            yield _Finding(name, BAD if wrong else OK, what, advice)


def make_numbered_frames(frames):
    """Return uint8 frames_THWC, each with its number as eight vertical bars."""
    import numpy as np

    bits_TB = (np.arange(frames)[:, None] >> np.arange(8)) & 1
    grey_TW = (40 + 175 * bits_TB).repeat(8, 1).astype(np.uint8)
    return np.broadcast_to(grey_TW[:, None, :, None], (frames, 48, 64, 3))


def read_frame_numbers(frames_THWC):
    grey_TB = frames_THWC[:, 24, 4::8].mean(-1)
    return [sum((1 << k) * bool(g > 127) for k, g in enumerate(row)) for row in grey_TB]


def check_conv_gradients():
    import torch

    from videores.compute import gradient_check, precision
    from videores.config.schema import TrainerConfig
    from videores.models.cpu_conv import Conv3d

    device = "cuda" if torch.cuda.is_available() else "cpu"
    setting = precision.select_setting(TrainerConfig(), device)
    own = find_worst_gradient(gradient_check, Conv3d, setting, device)
    advice = (
        "train with trainer.precision=fp32, and report this machine"
        if not own <= gradient_check.MAX_RELATIVE_ERROR
        else ""
    )
    found = f"{setting} (the rule's here): off by {own:.1e} at most, from float64"
    yield _Finding("gradients", BAD if advice else OK, found, advice)
    bf16 = precision.PrecisionSetting("bf16", True)
    plain = find_worst_gradient(gradient_check, torch.nn.Conv3d, bf16, device)
    known = (
        "has the known defect, which videores goes around"
        if not plain <= gradient_check.MAX_RELATIVE_ERROR
        else "is right"
    )
    yield _Finding("torch's bf16 conv3d", OK, f"{known} (off by {plain:.1e})")


def find_worst_gradient(gradients, make, setting, device):
    """Return the largest relative error of the convolutions of R3D and R(2+1)D.

    1, 2, 4 and 8 frames are left.
    """
    import torch

    torch.manual_seed(0)
    errors = []
    for kernel, padding in (((3, 3, 3), 1), ((3, 1, 1), (1, 0, 0)), ((1, 3, 3), (0, 1, 1))):
        for frames in (1, 2, 4, 8):
            layer = make(16, 24, kernel, 1, padding, bias=False).to(device)
            x = torch.randn(2, 16, frames, 7, 7, device=device)
            if setting.channels_last:
                x = x.contiguous(memory_format=torch.channels_last_3d)
            upstream = torch.randn(2, 24, frames, 7, 7, device=device)
            errors.append(gradients.compute_layer_error(layer, x, upstream, setting, torch.float64))
    return max(errors)


CHECKS = (
    *(_check_packages, _check_torch_pair, _check_decord_owner, _check_optional_packages),
    *(check_cpus, check_memory, _check_gpus, check_folders, _check_decoders, check_conv_gradients),
)
