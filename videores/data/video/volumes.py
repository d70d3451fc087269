"""Read volumes as videos, whose frames are the slices along the depth, in grey.

Archives (.npz) hold volumes of one size in arrays of NDHW. A volume's path is `<archive>.npz/<part>/<number>`, as if
the archive were a folder. NIfTI files (.nii, .nii.gz) are turned to the nearest of the axes right, anterior, superior:
columns go to the right of the body, rows to the front, slices to the head. Voxels count as cubes.

Bytes are taken as they are. Other values become bytes from the least to the greatest of the volume, or in the window
that a NIfTI header gives (cal_min, cal_max).
"""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from videores.data.lists import is_nifti_file, split_volume
from videores.data.video import cifar, pictures
from videores.errors import UnreadableVideo, UserError

# what readers make of a damaged file
DAMAGES = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile)
ARRAYS_KEPT = 3  # parts of archives that a process keeps, as each is decompressed as a whole


def find_frame_decoder(path: Any) -> Callable[..., Iterator[av.VideoFrame]] | None:
    """Return what decodes folders and archives of pictures, None for other files."""
    if hasattr(path, "read"):
        return None
    archived = split_volume(path)[1]
    if archived and not archived[0]:
        return cifar.decode_picture
    if is_nifti_file(path) or archived or Path(path).suffix == ".npz":
        return decode_slices
    return pictures.decode_pictures if os.path.isdir(path) else None


def decode_slices(path: str | Path, indices: Sequence[int] | None = None) -> Iterator[av.VideoFrame]:
    """Yield the slices of a volume, all or some, as frames of three equal colors."""
    volume_THW = _read_nifti(path) if is_nifti_file(path) else _read_archived(path)
    for index in range(len(volume_THW)) if indices is None else indices:
        yield av.VideoFrame.from_ndarray(np.repeat(volume_THW[index][..., None], 3, axis=2), format="rgb24")


# Archives


def read_archived_labels(archive: Path, part: str) -> np.ndarray:
    """Return label_V of the volumes of a part.

    It is empty for a validation part that is not there. Raises UserError for an archive that is damaged, has not both
    arrays, or has not one label a volume.
    """
    images, labels = keys = f"{part}_images", f"{part}_labels"
    try:
        with zipfile.ZipFile(archive) as file:
            there = [key for key in keys if f"{key}.npy" in file.namelist()]
        if part == "val" and not there:
            return np.zeros(0, int)
        (shape, kind), label_VX = _read_header(archive, images), _read_array(archive, labels)
    except KeyError:
        what = f"must have the arrays {' and '.join(keys)}, and has {', '.join(there) or 'none'}"
        raise UserError(f"{archive}: {what}") from None
    except DAMAGES as error:
        raise UserError(f"{archive}: must be a whole .npz archive of numbers; get it again ({error})") from None
    if len(shape) != 4 or kind.kind not in "buif":
        raise UserError(f"{archive}: {images} must hold numbers of the shape N, D, H, W, got {shape} of {kind}")
    is_one_each = label_VX.shape[:1] == shape[:1] and label_VX.size == shape[0]
    if not is_one_each or label_VX.dtype.kind not in "ui" or (label_VX < 0).any():
        what = f"must be {shape[0]} whole numbers from 0 on, one a volume, got {label_VX.shape} of {label_VX.dtype}"
        raise UserError(f"{archive}: {labels} {what}")
    return label_VX.reshape(-1)


def check_one_size(archive: Path, parts: Iterable[str]) -> None:
    """Check that the volumes of all parts have one size, or clips would show other shares of them."""
    sizes = {f"{part}_images": _read_header(archive, f"{part}_images")[0][1:] for part in parts}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{key} {'x'.join(map(str, size))}" for key, size in sizes.items())
        raise UserError(f"{archive}: volumes must have one size, got {shown}; resample them")


def _read_header(archive, key):
    """Return shape and type of an array, without decompressing it."""
    with zipfile.ZipFile(archive) as file, file.open(f"{key}.npy") as member:
        is_first = np.lib.format.read_magic(member) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        shape, _, kind = read(member)
    return shape, kind


def _read_array(archive, key):
    with np.load(archive, allow_pickle=False) as arrays:
        return arrays[key]


@lru_cache(maxsize=ARRAYS_KEPT)
def _read_volumes(archive, key, _stamp):
    return _read_array(archive, key)


def _read_archived(path):
    archive, volume = split_volume(path)
    if volume is None:
        raise UnreadableVideo(path, "an archive holds many volumes: name one as a file in it, <archive>.npz/test/0")
    part, number = volume
    try:
        stamp = os.stat(archive)
        volumes_NDHW = _read_volumes(archive, f"{part}_images", (stamp.st_size, stamp.st_mtime_ns))
    except DAMAGES as error:
        what = f"the archive is damaged ({type(error).__name__}: {error}); copy it again"
        raise UnreadableVideo(path, what) from None
    if volumes_NDHW.ndim != 4 or number >= len(volumes_NDHW):
        raise UnreadableVideo(path, f"{part}_images has the shape {volumes_NDHW.shape}, and no volume {number}")
    return _to_bytes(path, volumes_NDHW[number])


# NIfTI


def _read_nifti(path):
    try:
        import nibabel
    except ImportError:
        what = "NIfTI files are read by nibabel: pip install 'videores[volumes]'"
        raise UnreadableVideo(path, what, lasting=False) from None
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        values_WHT = np.asanyarray(image.dataobj)
        window = tuple(float(image.header[key]) for key in ("cal_min", "cal_max"))
    except (*DAMAGES, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise UnreadableVideo(path, f"it does not decode as NIfTI ({error})") from None
    values_WHT = values_WHT.reshape(values_WHT.shape[:3]) if set(values_WHT.shape[3:]) == {1} else values_WHT
    if values_WHT.ndim != 3 or values_WHT.dtype.kind not in "buif":
        what = f"it has the shape {values_WHT.shape} of {values_WHT.dtype}: a volume has three axes of real numbers"
        raise UnreadableVideo(path, what)
    return _to_bytes(path, values_WHT.T, window)


def _to_bytes(path, values, window=(0.0, 0.0)):
    """Return the values as uint8: 0 to 255 is the window, or the range of all."""
    if not np.isfinite(values).all():
        raise UnreadableVideo(path, "it has values that are no finite numbers (NaN); replace them")
    if window[0] >= window[1]:
        if values.dtype == np.uint8:
            return values
        window = float(values.min()), float(values.max())
    share = (values.astype(np.float64) - window[0]) / ((window[1] - window[0]) or 1)
    return np.rint(255 * share.clip(0, 1)).astype(np.uint8)
