"""Check that this machine is fit for training, with advice on each finding.

Decoders read clips that are written here, and gradients are computed. Of packages there is only what `pip check` does
not see; versions and hardware are in every run's env.json. A check that fails itself is a finding too.
"""

import os
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from videores.runtime import machine

if TYPE_CHECKING:
    import numpy as np

OK, WARNING, BAD = "ok", "WARNING", "BAD"
GIB = 2**30
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
    statuses = []
    for check in CHECKS:
        for finding in run_check(check):
            statuses.append(finding.status)
            print(f"{finding.status:7} {finding.what:17} {finding.found}", flush=True)
            if finding.advice:
                print(textwrap.indent(textwrap.fill(finding.advice, 100), " " * 26 + "-> "))
    print(", ".join(f"{statuses.count(status)} {status}" for status in (BAD, WARNING, OK)))
    return 1 if BAD in statuses else 0


def run_check(check: Callable[[], Iterable[_Finding]]) -> list[_Finding]:
    """Return the findings of a check; one that fails is a finding too."""
    try:
        return list(check())
    except Exception as error:  # a broken package may raise anything, and the other checks still say something
        what = check.__name__.removeprefix("check_").replace("_", " ")
        return [_Finding(what, BAD, f"{type(error).__name__}: {error}".splitlines()[0], "this check could not be made")]


# The machine


def check_cpus() -> Iterator[_Finding]:
    import torch

    usable, limit, threads = machine.count_cpus(), machine.read_cpu_limit(), torch.get_num_threads()
    granted = usable if limit is None else max(1, min(usable, int(limit)))
    advice = f"set OMP_NUM_THREADS={granted}, or threads wait for each other" if threads > granted else ""
    if threads == 1 < granted:
        advice = f"unset OMP_NUM_THREADS, or set it to {granted} divided by the processes on this machine"
    found = f"{usable} of {os.cpu_count()}, of which the container grants {granted}; torch uses {threads} threads"
    yield _Finding("CPUs", WARNING if advice else OK, found, advice)


def check_memory() -> Iterator[_Finding]:
    if memory := machine.read_memory():
        total, free = (min(size, machine.read_memory_limit() or size) for size in memory)
        advice = "lower data.workers and data.batch_size; leave out data.cache=ram" if free < 4 * GIB else ""
        found = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
        yield _Finding("memory", WARNING if advice else OK, found, advice)
    if sizes := machine.read_shared_memory():
        shared = sizes[0] / GIB
        status = BAD if shared < 1 / 8 else WARNING if shared < 1 else OK
        advice = "docker run --shm-size=8g (or --ipc=host); until then data.workers=0" if status != OK else ""
        yield _Finding("/dev/shm", status, f"{shared:.2f} GiB, through which workers hand over batches", advice)


def check_gpus() -> Iterator[_Finding]:
    import torch

    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        advice = "install a CUDA build of torch that fits the driver"
        yield _Finding("GPU", WARNING, "a driver is installed, but torch finds no GPU", advice)
    elif not torch.cuda.is_available():
        yield _Finding("GPU", OK, "none: training runs on the CPU")
    built = torch.cuda.get_arch_list()
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        fits = major in {int(arch.split("_")[1].rstrip("af")) // 10 for arch in built}
        advice = "" if fits else f"this torch has no kernels for it (it has {', '.join(built)}): install another build"
        name = f"{torch.cuda.get_device_name(i)}, capability {major}.{minor}"
        yield _Finding(f"GPU {i}", OK if fits else BAD, name, advice)


def check_cudnn() -> Iterator[_Finding]:
    import torch

    if torch.cuda.is_available() and (number := torch.backends.cudnn.version()):
        version = split_cudnn_version(number)
        advice = find_cudnn_defect(version)
        yield _Finding("cuDNN", WARNING if advice else OK, ".".join(map(str, version)), advice)


def split_cudnn_version(number: int) -> tuple[int, int, int]:
    """Return (major, minor, patch) of cuDNN's number: 8902 is 8.9.2, 91002 is 9.10.2."""
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1_000)
    return major, *divmod(rest, 100)


def find_cudnn_defect(version: tuple[int, int, int]) -> str:
    """Return advice about a version that is known to be wrong, "" for others.

    Source: https://github.com/pytorch/pytorch/issues/163539, 166643, 194367.
    """
    if version >= (9, 15, 0):
        return ""
    upgrade = "pip install -U 'nvidia-cudnn-cu12>=9.15' (or -cu13)"
    return f"below 9.15 it computes wrong bf16 3D convolutions; {upgrade}, or train with trainer.precision=fp32"


def check_folders() -> Iterator[_Finding]:
    cache = Path(os.environ.get("VIDEORES_CACHE") or Path(machine.find_cache_root(), "videores"))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            yield _Finding("cache", OK, str(cache))
    except OSError as error:
        advice = "set VIDEORES_CACHE to another folder; until then files may be probed again"
        yield _Finding("cache", WARNING, f"{cache}: {error.strerror}", advice)
    here = ("disk of this folder", Path.cwd(), "checkpoints take three times the network's size, twice")
    for what, folder, need in (here, ("disk of the cache", cache, "it has what is known of each video")):
        folder = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
        free = shutil.disk_usage(folder).free
        status = BAD if free < GIB / 2 else WARNING if free < 5 * GIB else OK
        yield _Finding(what, status, f"{free / GIB:.1f} GiB free", f"{need}: make room" if status != OK else "")


# What is computed


def check_decord() -> Iterator[_Finding]:
    """Check that one package alone owns the folder decord/.

    decord, decord2 and eva-decord all install it: the last one wins, an uninstall breaks all.
    """
    owners = sorted(set(metadata.packages_distributions().get("decord", ())))
    advice = "pip uninstall -y decord decord2 eva-decord; pip install decord" if len(owners) != 1 else ""
    found = f"{', '.join(owners)} overwrite each other's folder" if len(owners) > 1 else "".join(owners) or "missing"
    yield _Finding("decord", BAD if advice else OK, found, advice)


def check_decoders() -> Iterator[_Finding]:
    """Read every third frame of numbered clips backwards by each reader that is exact."""
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
            found = f"exact: {', '.join(exact) or 'none'}; auto takes {info.reader}"
            advice = f"{', '.join(wrong)} returned wrong frames after the probe passed it" if wrong else ""
            yield _Finding(name, BAD if wrong else OK, found, advice)


def make_numbered_frames(frames: int) -> "np.ndarray":
    """Return uint8 frames_THWC, each with its number as eight vertical bars."""
    import numpy as np

    bits_TB = (np.arange(frames)[:, None] >> np.arange(8)) & 1
    grey_TW = (40 + 175 * bits_TB).repeat(8, 1).astype(np.uint8)
    return np.broadcast_to(grey_TW[:, None, :, None], (frames, 48, 64, 3))


def read_frame_numbers(frames_THWC):
    grey_TB = frames_THWC[:, 24, 4::8].mean(-1)
    return [sum((1 << k) * bool(g > 127) for k, g in enumerate(row)) for row in grey_TB]


def check_gradients() -> Iterator[_Finding]:
    import torch

    from videores.compute import gradient_check, precision
    from videores.config.schema import TrainerConfig

    device = "cuda" if torch.cuda.is_available() else "cpu"
    setting = precision.select_setting(TrainerConfig(), device)
    error = find_worst_gradient(setting, device)
    fits = error <= gradient_check.MAX_RELATIVE_ERROR  # NaN does not
    advice = "" if fits else "train with trainer.precision=fp32, and report this machine"
    yield _Finding("gradients", OK if fits else BAD, f"{setting}: off by {error:.1e} at most, from float64", advice)


def find_worst_gradient(setting, device):
    """Return the largest relative error of the convolutions of R3D and R(2+1)D.

    1, 2, 4 and 8 frames are left.
    """
    import torch

    from videores.compute import gradient_check
    from videores.models.cpu_conv import Conv3d

    torch.manual_seed(0)
    errors = []
    for kernel, padding in (((3, 3, 3), 1), ((3, 1, 1), (1, 0, 0)), ((1, 3, 3), (0, 1, 1))):
        for frames in (1, 2, 4, 8):
            layer = Conv3d(16, 24, kernel, 1, padding, bias=False).to(device)
            x = torch.randn(2, 16, frames, 7, 7, device=device)
            if setting.channels_last:
                x = x.contiguous(memory_format=torch.channels_last_3d)
            upstream = torch.randn(2, 24, frames, 7, 7, device=device)
            errors.append(gradient_check.compute_layer_error(layer, x, upstream, setting, torch.float64))
    return max(errors)


CHECKS = (
    check_cpus,
    check_memory,
    check_gpus,
    check_cudnn,
    check_folders,
    check_decord,
    check_decoders,
    check_gradients,
)
