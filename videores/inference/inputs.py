"""List the videos that a command line names: files, folders, patterns, a pipe, cameras and addresses."""

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from videores.data.formats import is_video_file
from videores.data.lists import IMAGE_SUFFIXES, list_files
from videores.data.video.pictures import is_frame_folder
from videores.data.video.sequential import OPEN_TIMEOUT, OpenVideo, SpooledPipe, is_address, open_video
from videores.errors import UnreadableVideo, UserError

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtp", "srt", "udp", "tcp")
PLAYLIST_SUFFIXES = (".m3u8", ".mpd")  # of addresses, which FFmpeg follows


class Input(NamedTuple):
    """A video that a command line names: a file, bytes that come, a camera or an address."""

    name: str
    source: Path | int | str  # a path, "-", a camera's number, an address

    @property
    def is_file(self) -> bool:
        """Return whether it is a file or a folder of frames."""
        return isinstance(self.source, Path)

    @property
    def path(self) -> Path:
        """Return the path of a file."""
        return Path(str(self.source))


def list_inputs(given: Sequence[str], network: bool, pictures: bool = False) -> list[Input]:
    """Return the videos that are named, those of folders and patterns sorted.

    With `pictures`, each picture is one. Raises UserError for names of nothing, and for cameras and addresses without
    `network`.
    """
    if given.count("-") > 1:
        raise UserError("- must stand once: a pipe is one video")
    return [one for name in given for one in _expand(name, network, pictures)]


def _expand(name: str, network: bool, pictures: bool) -> Iterator[Input]:
    if name == "-":
        yield Input(name, name)
    elif Path(name).is_dir():
        yield from _list_folder(Path(name), pictures)
    elif Path(name).exists():
        yield Input(name, Path(name))
    elif is_address(name) or name.isdecimal():
        yield _check_live(name, network)
    elif glob.has_magic(name):
        paths = sorted(glob.glob(name, recursive=True))
        if not paths:
            raise UserError(f"{name}: the pattern matches no file: look at the folder, and quote the pattern")
        for path in paths:
            yield from _list_folder(Path(path), pictures) if os.path.isdir(path) else [Input(path, Path(path))]
    else:
        yield Input(name, Path(name))  # which is not there: named with the other files that do not decode


def _check_live(name: str, network: bool) -> Input:
    what = "the address" if is_address(name) else "camera number"
    if not network:
        raise UserError(f"{what} {name} is only opened with --network: add it, or give a file")
    if is_address(name) and name.partition(":")[0].lower() not in SCHEMES:
        raise UserError(f"{name} must begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    return Input(name, name if is_address(name) else int(name))


def _list_folder(folder: Path, pictures: bool) -> Iterator[Input]:
    """Yield the videos under a folder; one that holds the frames of a video is one, unless pictures are."""
    if not pictures and is_frame_folder(os.listdir(folder)):
        yield Input(str(folder), folder)
        return
    paths = list_files(folder)
    frames = sorted({path.parent for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.parent != folder})
    found = [path for path in paths if is_video_file(path)]
    if pictures:
        found += [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    else:
        found += [path for path in frames if is_frame_folder(os.listdir(path))]
    if not found:
        raise UserError(f"{folder} must hold videos, and none is there by its suffix: give another folder, or files")
    yield from (Input(str(path), path) for path in sorted(found))


@contextmanager
def open_input(given: Input) -> Iterator[Path | SpooledPipe | OpenVideo]:
    """Yield a file's path, the bytes of a pipe or of a file on a server, or an open camera or address.

    Raises UnreadableVideo where a camera or address is not there.
    """
    if given.is_file:
        yield given.path
    elif given.source == "-":
        yield SpooledPipe(sys.stdin.buffer)
    elif _is_http_file(str(given.source)):
        with _request(given) as response:
            if response.length is not None:
                yield SpooledPipe(response)
            else:
                with open_video(_Unseekable(response), given.name) as opened:
                    yield opened
    else:
        with open_video(given.source, given.name) as opened:
            yield opened


class _Unseekable:
    """The bytes of a server's answer as they come."""

    def __init__(self, response: HTTPResponse):
        self.read = response.read1


def _is_http_file(address: str) -> bool:
    """Return whether a web server is asked for one file or stream, not for a list of them, which FFmpeg follows."""
    path = Path(address.partition("?")[0])
    return re.match("https?:", address, re.IGNORECASE) is not None and path.suffix.lower() not in PLAYLIST_SUFFIXES


def _request(given: Input) -> HTTPResponse:
    try:
        return urlopen(str(given.source), timeout=OPEN_TIMEOUT)
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreadableVideo(given.name, f"the address does not answer ({reason}); look whether it is right") from None
