"""Read what a container's own headers promise: where the file ends, and its length.

FFmpeg works out the length of a cut AVI or WMV file from the bytes that are there, so its word says nothing about what
is missing.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

HEADER_BYTES = 1 << 16  # in which FLV and ASF files have what is looked for
UNKNOWN_RIFF_SIZES = (0, 0xFFFFFFFF)  # of recordings that were not ended
EBML = b"\x1a\x45\xdf\xa3"
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def count_missing_bytes(path: str | Path) -> int | None:
    """Count the bytes that a file lacks of what its container says.

    Returns None where it is none of AVI, Matroska, WebM, MP4, MOV, FLV and WMV, or does not say where it ends.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            file.seek(0)
            end = next((find(file) for at, names, find in _CONTAINERS if head[at : at + 4] in names), None)
            return None if end is None else max(0, end - os.path.getsize(path))
    except OSError:  # FFmpeg then says why
        return None


def read_asf_seconds(path: str | Path) -> float | None:
    """Read how many seconds an ASF (WMV) file's header says that it lasts."""
    with open(path, "rb") as file:
        properties = _read_asf_properties(file)
    return properties and (properties[3] / 1e7 - properties[5] / 1e3)  # the second is the time to buffer


def _find_riff_end(file: BinaryIO) -> int | None:
    """Find the end of the last RIFF chunk, of which large files have several."""
    end = 0
    while True:
        file.seek(end + end % 2)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8))
        if name != b"RIFF":
            return end or None
        if size in UNKNOWN_RIFF_SIZES:
            return None
        end = file.tell() + size


def _find_segment_end(file: BinaryIO) -> int | None:
    """Find the end of the segment of a Matroska file."""
    for name in (EBML, b"\x18\x53\x80\x67"):  # its header, then the segment
        if file.read(4) != name or not (first := file.read(1)):
            return None
        length = 9 - first[0].bit_length()  # bytes that the size takes, in which leading zeros count
        if length > 8:
            return None
        size = int.from_bytes(first + file.read(length - 1)) & ~(1 << 7 * length)
        if size == (1 << 7 * length) - 1:  # of a live recording
            return None
        file.seek(size, os.SEEK_CUR)
    return file.tell()


def _find_box_end(file: BinaryIO) -> int | None:
    """Find the end of the last box of a MOV or MP4 file."""
    end, size = 0, os.fstat(file.fileno()).st_size
    while end < size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4])
        if length < 8:  # 0 is for up to the end, wherever that is
            return None
        end += length
    return end


def _find_flv_end(file: BinaryIO) -> int | None:
    head = file.read(HEADER_BYTES)
    at = head.find(b"\0\x08filesize\0")
    return (int(struct.unpack_from(">d", head, at + 11)[0]) or None) if 0 <= at <= len(head) - 19 else None


def _find_asf_end(file: BinaryIO) -> int | None:
    properties = _read_asf_properties(file)
    return properties and properties[0]


def _read_asf_properties(file):
    """Read (bytes, date, packets, length, time to send, time to buffer, flags)."""
    head = file.read(HEADER_BYTES)
    at = head.find(ASF_PROPERTIES)
    if not 0 <= at <= len(head) - 92:
        return None
    properties = struct.unpack_from("<6QI", head, at + 40)
    return None if properties[6] & 1 else properties  # a broadcast says nothing


_CONTAINERS = (  # where in the file its container has one of these names
    (0, (b"RIFF",), _find_riff_end),
    (0, (EBML,), _find_segment_end),
    (4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"), _find_box_end),
    (0, (b"FLV\1",), _find_flv_end),
    (0, (b"\x30\x26\xb2\x75",), _find_asf_end),
)
