"""Videos in tar files: batches as from files, from a folder, by HTTP and from an object store; wrong input, named."""

import json
import os
import re
import shutil
import tarfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import numpy as np
import pytest
import torch
from helpers.commands import forked, succeeded, write_place
from helpers.videos import AVAILABLE, read_numbers, write_csv, write_folder, write_ucf101
from PIL import Image

from videores.config.schema import DataConfig, ViewsConfig
from videores.data import manifest, probe, shards
from videores.data.datamodule import VideoData, load_videos
from videores.data.decode import read_frames
from videores.data.prepare import commands, pack
from videores.data.video.reencode import EncodingSettings
from videores.errors import UnreadableVideo, UserError


class Ranged(SimpleHTTPRequestHandler):
    """A file server with byte ranges, as every object store has them; the standard one has none."""

    ranges = True

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not (wanted and self.ranges and path.is_file()):
            return super().do_GET()
        start, end = int(wanted[1]), int(wanted[2]) + 1
        content = path.read_bytes()[start:end]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{path.stat().st_size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def served(folder, handler=Ranged):
    """Serves a folder; yields its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_shards(values, out, size=20_000):
    """Packs a data set into several tar files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "SHARD_BYTES", size)
        splits = Path(values["splits"]) if "splits" in values else None
        options = commands.Options(
            values["format"], Path(values["root"]), splits, "all", EncodingSettings(), shards=out, workers=1
        )
        assert commands.prepare(options) in (0, 1)
    return {**values, "root": str(out), "splits": None}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_ucf101(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def packed(files, tmp_path_factory):
    return write_shards(files, tmp_path_factory.mktemp("packed") / "shards")


@pytest.fixture
def copied(packed, tmp_path):
    """A copy of the shards, to be spoiled."""
    return {**packed, "root": shutil.copytree(packed["root"], tmp_path / "shards").as_posix()}


def module(values, **more):
    usual = dict(val=0.5, batch_size=2, workers=0, clip={"frames": 4}, transform={"short_side": 48, "crop": 32})
    data = DataConfig(**{**values, **usual, **more})
    return VideoData(data, load_videos(data), val=ViewsConfig(), test=ViewsConfig(clips=2), seed=3)


def contents(values, **more):
    """Every batch of two epochs, and of validation and test."""
    data = module(values, **more)
    batches = [batch for epoch in (0, 1) for batch in data.training_batches(epoch, None, torch.device("cpu"))]
    return [*batches, *data.val_dataloader(), *data.test_dataloader()]


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def refused(call, kind=UserError):
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def shard_names(root):
    return sorted(path.name for path in Path(root).glob("*.tar"))


# -- equality ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_from_shards_are_those_from_files(files, packed, workers):
    assert len(shard_names(packed["root"])) > 1
    assert equal(contents(files, workers=workers), contents(packed, workers=workers))


def test_batches_over_http_are_those_from_files(files, packed):
    with served(packed["root"]) as url:
        assert equal(contents(files), contents({**packed, "root": url}, workers=2))


def test_batches_from_an_object_store_are_those_from_files(files, packed):
    store = fsspec.filesystem("memory")
    store.put(packed["root"], "/bucket/shards", recursive=True)
    assert equal(contents(files), contents({**packed, "root": "memory://bucket/shards"}))


def test_groups_order_and_counts_are_those_of_files(files, packed):
    for split in (1, 2, 3):
        one, other = (module(values, split=split).videos for values in (files, packed))
        assert one.index == other.index
        assert {p: i.digest for p, i in one.infos.items()} == {p: i.digest for p, i in other.infos.items()}


def test_shards_come_with_what_the_probe_found(packed, monkeypatch):
    monkeypatch.setattr(manifest, "probe_in_helper", lambda *_: pytest.fail("a video was probed again"))
    module(packed)


def test_videos_are_probed_again_where_another_version_packed_them(files, copied):
    path = Path(copied["root"], "shards.json")
    content = json.loads(path.read_text())
    content["manifest"]["made_by"]["av"] = "0"
    path.write_text(json.dumps(content))
    assert equal(contents(files), contents(copied))


@pytest.mark.parametrize("codec", AVAILABLE)
def test_every_exact_reader_returns_the_frames_of_the_file(numbered, tmp_path, codec):
    root = tmp_path / "root"
    values = write_csv(root, {"train": [("a.mp4", "a", "")], "test": [("b.mp4", "a", "")]}, frames=2)
    shutil.copy(numbered[codec], root / "a.mp4")
    video = shards.locate(write_shards(values, tmp_path / "shards")["root"]) / "a.mp4"
    info = probe.probe(video)
    assert info.readers == probe.probe(root / "a.mp4").readers
    for reader in ("auto", *info.readers):
        for wanted in ([0], [39, 3, 3, 20], list(range(9, 40, 2))):
            assert read_numbers(read_frames(video, wanted, reader=reader, info=info)) == wanted
    small = read_frames(video, [4, 30], short_side=20)
    assert (small == read_frames(root / "a.mp4", [4, 30], short_side=20)).all()


def test_parts_of_videos_are_read_from_shards(tmp_path):
    rows = {"train": [("a.mp4", "a,0.4,0.8", "")], "test": [("b.mp4", "a,,", "")]}
    values = write_csv(tmp_path / "root", rows, header="path,label,start,end,group", frames=30)
    packed = write_shards(values, tmp_path / "shards")
    assert equal(contents(values, val="none", batch_size=1), contents(packed, val="none", batch_size=1))


def test_bad_videos_are_packed_and_reported_as_from_files(tmp_path):
    values = write_folder(tmp_path / "root")
    Path(values["root"], "test/run/00.mp4").write_bytes(b"no video")
    one = module(values, val="none").videos
    other = module(write_shards(values, tmp_path / "shards"), val="none").videos
    assert one.unreadable == other.unreadable
    assert one.unreadable["test"].keys() == {"test/run/00.mp4"}


def test_the_same_command_writes_the_same_bytes(files, packed, tmp_path):
    again = write_shards(files, tmp_path / "shards")
    for name in (*shard_names(packed["root"]), "shards.json"):
        assert Path(packed["root"], name).read_bytes() == Path(again["root"], name).read_bytes()


def test_any_tar_unpacks_the_videos(files, packed, tmp_path):
    for name in shard_names(packed["root"]):
        with tarfile.open(Path(packed["root"], name)) as tar:
            tar.extractall(tmp_path, filter="data")
    paths = [path.relative_to(files["root"]) for path in Path(files["root"]).rglob("*.avi")]
    assert [(tmp_path / path).read_bytes() for path in paths] == [Path(files["root"], p).read_bytes() for p in paths]


# -- wrong input ------------------------------------------------------------------------------------------------------


def test_a_missing_shard_is_named(copied):
    name = shard_names(copied["root"])[1]
    Path(copied["root"], name).unlink()
    assert name in refused(lambda: module(copied))


def test_a_cut_shard_is_named(copied):
    name = shard_names(copied["root"])[1]
    os.truncate(Path(copied["root"], name), 3000)
    assert name in refused(lambda: module(copied))


def test_the_index_of_other_shards_is_noticed(files, copied):
    """Of equal sizes and names, with other videos."""
    one = Path(copied["root"], shard_names(copied["root"])[0])
    content = bytearray(one.read_bytes())
    content[512:600] = os.urandom(88)
    one.write_bytes(content)
    assert one.name in refused(lambda: module(copied))


def test_a_video_that_changed_is_named_when_it_is_read(copied):
    data = module(copied, val="none")
    root = shards.locate(copied["root"])
    path = data.dataset("train").videos[1].path
    shard, offset, size, _ = root.extents[path]
    with open(Path(copied["root"], shard), "r+b") as file:
        file.seek(offset + size // 2)
        file.write(b"\xa5" * 64)
    assert path in refused(lambda: data.dataset("train")[0, 1], UnreadableVideo)


def test_an_index_that_is_damaged_is_named(tmp_path):
    (tmp_path / "shards.json").write_text('{"version": 1, "shards": {')
    assert "shards.json" in refused(lambda: shards.locate(tmp_path))


def test_the_lists_are_those_of_the_shards(files, packed):
    assert "data.splits" in refused(lambda: module({**packed, "splits": files["splits"]}))
    assert "data.format" in refused(lambda: module({**packed, "format": "csv"}))


def test_a_url_without_shards_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "RETRY_SECONDS", ())
    with served(tmp_path) as url:
        assert f"{url}/shards.json" in refused(lambda: shards.locate(url))
    assert f"{url}/shards.json" in refused(lambda: shards.locate(f"{url}"))  # nobody answers any more
    assert "nothing://a/shards.json" in refused(lambda: shards.locate("nothing://a"))


def test_a_server_without_byte_ranges_is_refused(packed, monkeypatch):
    class Plain(Ranged):
        ranges = False

    with served(packed["root"], Plain) as url:
        assert "byte ranges" in refused(lambda: module({**packed, "root": url}))


def test_a_server_that_fails_stops_a_test_instead_of_a_wrong_answer(packed, monkeypatch):
    monkeypatch.setattr(shards, "RETRY_SECONDS", ())
    with served(packed["root"]) as url:
        data = module({**packed, "root": url})
    assert url in refused(lambda: list(data.test_dataloader()))


def test_a_broken_connection_is_tried_again(packed, monkeypatch):
    class Shaky(Ranged):
        asked = 0

        def do_GET(self):
            Shaky.asked += 1
            if Shaky.asked % 2:
                self.send_error(503)
            else:
                super().do_GET()

    monkeypatch.setattr(shards, "RETRY_SECONDS", (0, 0, 0, 0))
    with served(packed["root"], Shaky) as url:
        assert len(list(module({**packed, "root": url}).test_dataloader())) == 4


def test_folders_of_frames_are_refused(tmp_path):
    values = write_csv(tmp_path / "root", {"train": [("a", "a", "")], "test": [("b.mp4", "a", "")]}, frames=2)
    folder = tmp_path / "root" / "frames"
    folder.mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (32, 32)).save(folder / f"{number:03}.png")
    (tmp_path / "root" / "train.csv").write_text("path,label\nframes,a\n")
    assert "frames" in refused(lambda: write_shards(values, tmp_path / "shards"))


def test_a_folder_of_others_files_is_not_written_into(files, tmp_path):
    (tmp_path / "notes.txt").touch()
    assert "notes.txt" in refused(lambda: write_shards(files, tmp_path))


# -- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_from_shards_is_the_run_from_files(tmp_path):
    place = write_place(tmp_path)
    train = ("train.py", "--cfg", "tiny.yaml", "train.epochs=1")
    commands_ = [
        ("prepare.py", "csv", "--root", "data", "--shards", "shards"),
        (*train, "run.dir=one"),
        (*train, "run.dir=other", "data.root=shards"),
    ]
    for process in forked(commands_, cwd=place):
        succeeded(process)
    one, other = (np.load(next((place / run / "test").glob("*/predictions.npz"))) for run in ("one", "other"))
    assert all(np.array_equal(one[key], other[key]) for key in ("video", "label", "logits"))
    lists = [json.loads((place / run / "env.json").read_text())["manifest"] for run in ("one", "other")]
    assert lists[0] == lists[1]
