"""Preparing data sets: what is reported, that every copy is made once and is right, and that nothing stops it half-way.

`tool` runs tools/prepare.py here, `started` as a process of its own; both with the data set's own options.
"""

import csv
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from filelock import FileLock
from helpers.damage import BROKEN_JSON, VALUES, change, list_places
from helpers.processes import alive
from helpers.videos import numbered_video, read_numbers, write_csv, write_folder, write_lines, write_ucf101
from PIL import Image

from videores.config import schema
from videores.config.schema import DataConfig, ViewsConfig
from videores.data import datamodule, index, manifest, probe
from videores.data.decode import read_frames
from videores.data.prepare import copies, survey
from videores.data.synthetic import datasets
from videores.data.video import sandbox
from videores.data.video.encode import write_video
from videores.data.video.reencode import EncodingSettings
from videores.data.views import list_item_views
from videores.errors import UserError

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "prepare.py"


def options(values):
    """The tool's arguments for a data set of `write_...`."""
    splits = ["--splits", values["splits"]] if "splits" in values else []
    return [values["format"], "--root", values["root"], *splits]


@pytest.fixture
def tool(monkeypatch):
    def run(values, *more):
        few = ["--workers", 1] if "--out" in more else []  # a second process takes longer to start than it would save
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, [*options(values), *few, *more])])
        return runpy.run_path(str(TOOL))["main"]()

    return run


def started(values, *more, python=(), **how):
    command = [sys.executable, *python, str(TOOL), *map(str, [*options(values), *more])]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes, **how)


def ended(process, code=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err[-3000:]
    return out + err


def files(folder):
    """Relative path -> (size, modification time) of everything but the ledgers."""
    paths = [p for p in Path(folder).rglob("*") if p.is_file() and copies.LEDGER_DIR not in p.parts]
    return {p.relative_to(folder).as_posix(): (p.stat().st_size, p.stat().st_mtime_ns) for p in paths}


def videos(folder):
    return {path: what for path, what in files(folder).items() if Path(path).suffix in (".avi", ".mp4", ".webm")}


def result(out):
    return json.loads((out / "prepared.json").read_text())


def numbers(path):
    info = probe.probe(path)
    return read_numbers(read_frames(path, range(info.num_frames), info=info))


def rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))[1:]


# -- reports ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ucf(tmp_path):
    """8 training and 4 test videos in each of three splits, MPEG-4 in AVI."""
    return write_ucf101(tmp_path / "data")


def test_a_good_data_set_is_described(tool, ucf, tmp_path, capsys):
    before = files(tmp_path)
    assert tool(ucf) == 0
    said = capsys.readouterr().out
    for line in ("1  train       8      8         8", "3  test        4      4         4", "frames a second  25 (12)"):
        assert line in said
    assert "12 to 12, median 12, 144 in all" in said
    assert "need PyAV        12" in said
    assert files(tmp_path) == before


def test_bad_files_are_listed_with_reasons(tool, ucf, capsys):
    root = Path(ucf["root"])
    (root / "Run/v_Run_g01_c01.avi").write_bytes(b"no video")
    (root / "Walk/v_Walk_g02_c02.avi").unlink()
    assert tool(ucf) == 1
    said = capsys.readouterr().out
    assert "1  train       8      7         7" in said
    assert "1  test        4      4         3" in said
    assert "Invalid data" in said
    written = rows(next(line.split()[1][:-1] for line in said.splitlines() if line.startswith("wrote")))
    assert [row[0] for row in written] == ["Run/v_Run_g01_c01.avi", "Walk/v_Walk_g02_c02.avi"]
    assert written[1][1] == "there is no such file"


def test_files_that_are_read_with_warnings_are_listed(tool, ucf, tmp_path, capsys):
    """Lost bytes of the index at the end cost no frame."""
    path = Path(ucf["root"]) / "Run/v_Run_g01_c01.avi"
    path.write_bytes(path.read_bytes()[:-100])
    assert tool(ucf, "--out", tmp_path / "out") == 0
    assert "Run/v_Run_g01_c01.avi  100 bytes are missing at its end" in capsys.readouterr().out
    assert [row[0] for row in rows(tmp_path / "out/warnings.csv")] == ["Run/v_Run_g01_c01.avi"]
    numbered_video(path, 12, "mpeg4_avi")
    tool(ucf, "--out", tmp_path / "out")
    assert not (tmp_path / "out/warnings.csv").exists()


def test_one_split_alone_can_be_asked_for(tool, ucf, capsys):
    Path(ucf["splits"], "trainlist02.txt").unlink()
    assert tool(ucf, "--split", 1) == 0
    assert "2  train" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"trainlist02\.txt"):
        tool(ucf)


def test_videos_that_vanished_from_the_web_are_counted_and_not_bad(tool, tmp_path, capsys):
    values = write_kinetics(tmp_path)
    Path(values["root"], "val/b0_000010_000020.mp4").unlink()
    assert tool(values, "--out", tmp_path / "out") == 0
    assert "1  test        2      1         1" in capsys.readouterr().out
    assert result(tmp_path / "out")["videos"] == {"expected": 4, "prepared": 3, "bad": 0}


def test_equal_videos_in_two_lists_are_named(tool, tmp_path, capsys):
    values = write_folder(tmp_path)
    twin = (tmp_path / "train/run/01.mp4").read_bytes()
    (tmp_path / "test/walk/00.mp4").write_bytes(twin + b"\0\0\0\x08free")  # another file, the same frames
    (tmp_path / "train/run/03.mp4").write_bytes(twin)
    assert tool(values) == 0
    assert tool(values, "--duplicates") == 1
    said = capsys.readouterr().out
    assert "3 pairs of videos with equal frames" in said
    assert "train/run/01.mp4  equals train/run/03.mp4, in train of split 1" in said
    for path in ("train/run/01.mp4", "train/run/03.mp4"):
        assert f"{path}  equals test/walk/00.mp4, in train and test of split 1, as run and walk" in said


def test_a_group_in_two_lists_is_refused(tool, tmp_path):
    lists = {"train": [("a.mp4", "x", "g1"), ("b.mp4", "y", "g2")], "test": [("c.mp4", "x", "g1")]}
    with pytest.raises(UserError, match=r"train and test share 1 group.*\n  g1"):
        tool(write_csv(tmp_path, lists))


# -- copies -----------------------------------------------------------------------------------------------------------


def write_hmdb51(root):
    names = [f"{film}_wave_h_cm_np1_fr_goo_0.avi" for film in ("A", "B")]
    for start, name in enumerate(names):
        numbered_video(root / "videos/wave" / name, 12, "mpeg4_avi", start=100 * start)
    for split in (1, 2, 3):
        write_lines(root / f"lists/wave_test_split{split}.txt", [f"{names[0]} 1", f"{names[1]} 2"])
    return dict(name="tiny", format="hmdb51", root=str(root / "videos"), splits=str(root / "lists"))


def write_kinetics(root):
    for number, part, letter in ((0, "train", "a"), (200, "val", "b")):
        lines = [f"wave,{letter}{i},10,20,{part}" for i in range(2)]
        write_lines(root / f"lists/{part}.csv", ["label,youtube_id,time_start,time_end,split", *lines])
        for i in range(2):
            numbered_video(root / f"videos/{part}/{letter}{i}_000010_000020", 12, start=number + 100 * i)
    return dict(name="tiny", format="kinetics", root=str(root / "videos"), splits=str(root / "lists"))


def write_ssv2(root):
    entries = [{"id": str(i), "template": "Moving [something] up"} for i in range(4)]
    for i in range(4):
        numbered_video(root / f"videos/{i}", 12, "vp9_webm", start=100 * i)
    (root / "lists").mkdir()
    lists = {"labels": {"Moving something up": "0"}, "train": entries[:2], "validation": entries[2:]}
    for name, content in lists.items():
        (root / f"lists/{name}.json").write_text(json.dumps(content))
    return dict(name="tiny", format="ssv2", root=str(root / "videos"), splits=str(root / "lists"))


def write_table(root):
    lists = {
        "train": [("a/1.mp4", "x", "g1"), ("2.mp4", "y", "g2")],
        "test": [("a/3.mp4", "x", ""), ("4.mp4", "y", "")],
    }
    return write_csv(root, lists, classes=["y", "x"])


def write_emotions(root, name, paths):
    for i, path in enumerate(paths):
        numbered_video(root / path, 12, start=100 * i)
    return dict(name="tiny", format=name, root=str(root))


def write_ravdess(root):
    actors = (2, 3, 10, 8, 1)  # one of each fold
    return write_emotions(root, "ravdess", [f"Actor_{n:02}/01-01-{3 + n % 2:02}-01-01-01-{n:02}" for n in actors])


def write_crema_d(root):
    return write_emotions(root, "crema-d", [f"{n}_DFA_{('ANG', 'SAD')[n % 2]}_XX" for n in range(1001, 1006)])


def write_afew(root):
    return write_emotions(root, "afew", ["Train/Happy/A_1", "Train/Sad/B_1", "Val/Happy/C_1"])


WRITERS = {
    "ucf101": write_ucf101,
    "hmdb51": write_hmdb51,
    "kinetics": write_kinetics,
    "ssv2": write_ssv2,
    "ravdess": write_ravdess,
    "crema-d": write_crema_d,
    "afew": write_afew,
    "folder": write_folder,
    "csv": write_table,
}


def test_all_formats_of_videos_are_tried():
    assert {*WRITERS, *datasets.SETS, "npz", "cifar10"} == {
        *get_args(schema.ListFormat),
        *get_args(schema.SyntheticFormat),
    }


@pytest.mark.parametrize("name", WRITERS)
def test_copies_serve_in_place_of_the_sources(tool, tmp_path, name, capsys):
    """With nothing changed but data.root: the same lists, names, labels and frames."""
    values = WRITERS[name](tmp_path / "data")
    out, before = tmp_path / "out", files(tmp_path / "data")
    assert tool(values, "--out", out, "--short-side", 32, "--duplicates") == 0
    assert files(tmp_path / "data") == before
    said = capsys.readouterr().out
    assert f"wrote {out} (train with data.root={out}) and {out / 'prepared.json'}" in said
    settings = dict(val="none", on_unreadable="stop")
    original, copied = (
        index.read_index(DataConfig(**{**values, **settings, "root": str(r)})) for r in (values["root"], out)
    )
    assert copied == original
    paths = [video.path for video in (*copied.train, *copied.test, *copied.val)]
    infos, bad = manifest.probe_all(out, paths, progress=False)
    assert not bad
    for path in paths:
        assert "decord" in infos[path].readers
        assert min(infos[path].width, infos[path].height) == 32
        assert numbers(out / path) == numbers(Path(values["root"], path))
    assert result(out)["videos"] == {"expected": len(videos(out)), "prepared": len(videos(out)), "bad": 0}


def test_training_from_copies_sees_the_sources_frames(tool, ucf, tmp_path):
    tool(ucf, "--out", tmp_path / "out")
    usual = dict(
        val="none", batch_size=2, workers=0, clip={"frames": 4}, transform=dict(short_side=48, crop=48, flip=0)
    )
    shown = {}
    for root in (ucf["root"], str(tmp_path / "out")):
        data = DataConfig(**{**ucf, **usual, "root": root})
        module = datamodule.VideoData(data, datamodule.load_videos(data), val=ViewsConfig(), test=ViewsConfig(clips=3))
        sets = [module.dataset(part) for part in ("train", "test")]
        train, test = sets
        clips = [train[0, i]["clips"] for i in range(len(train))]
        clips += [list_item_views(test[0, i], 48, test.views) for i in range(len(test))]
        shown[root] = [[read_numbers(clip) for clip in clips_KTHWC] for clips_KTHWC in clips]
    one, other = shown.values()
    assert one == other
    assert len(one) == 12


def test_images_are_copied_as_they_are(tool, tmp_path):
    for part in ("train", "test"):
        for name in ("x", "y"):
            (tmp_path / f"data/{part}/{name}").mkdir(parents=True)
            image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / f"data/{part}/{name}/1.jpg")
    assert tool(dict(format="folder", root=str(tmp_path / "data")), "--out", tmp_path / "out") == 0
    assert (tmp_path / "out/test/y/1.jpg").read_bytes() == (tmp_path / "data/test/y/1.jpg").read_bytes()


def test_a_bad_file_gets_no_copy_and_the_others_do(tool, ucf, tmp_path, capsys):
    bad = "Run/v_Run_g01_c01.avi"
    good = Path(ucf["root"], bad).read_bytes()
    assert tool(ucf, "--out", tmp_path / "out") == 0
    Path(ucf["root"], bad).write_bytes(good[:3000])
    assert tool(ucf, "--out", tmp_path / "out") == 1  # and its old copy, which is of another file, goes
    found = result(tmp_path / "out")
    assert found["videos"] == {"expected": 12, "prepared": 11, "bad": 1}
    assert list(found["bad"]) == [bad]
    assert bad not in videos(tmp_path / "out")
    assert len(videos(tmp_path / "out")) == 11
    assert [row[0] for row in rows(tmp_path / "out/bad.csv")] == [bad]
    Path(ucf["root"], bad).write_bytes(good)
    assert tool(ucf, "--out", tmp_path / "out") == 0
    assert len(videos(tmp_path / "out")) == 12
    assert not (tmp_path / "out/bad.csv").exists()


def test_what_is_done_is_not_done_again(tool, ucf, tmp_path):
    out = tmp_path / "out"
    tool(ucf, "--out", out)
    before = videos(out)
    assert len(before) == 12
    tool(ucf, "--out", out)
    assert videos(out) == before
    changed, deleted, touched = list(before)[:3]
    numbered_video(Path(ucf["root"], changed), 15, "mpeg4_avi", start=7)
    os.utime(Path(ucf["root"], changed), (0, 0))  # older than its copy, as unpacked or synchronized files are
    (out / deleted).unlink()
    (out / touched).write_bytes(b"something else")
    tool(ucf, "--out", out)
    assert {path for path, what in videos(out).items() if what != before[path]} == {changed, deleted, touched}
    assert numbers(out / changed) == list(range(7, 22))
    assert numbers(out / touched) == numbers(Path(ucf["root"], touched))


def test_other_settings_make_all_copies_anew(tool, ucf, tmp_path):
    out = tmp_path / "out"
    tool(ucf, "--out", out)
    before = videos(out)
    tool(ucf, "--out", out, "--short-side", 24, "--keyframes", 8, "--crf", 30, "--audio", "keep")
    assert not set(videos(out).values()) & set(before.values())
    path = next(iter(before))
    info = probe.probe(out / path)
    assert (info.width, info.height) == (24, 24)
    changed = dict(short_side=24, keyframes=8, crf=30, audio="keep", flow="none", recipe=0)
    assert result(out)["settings"] | {"recipe": 0} == changed


def test_a_source_folder_that_may_not_be_written_to(tool, ucf, tmp_path):
    folders = [p for p in (tmp_path / "data").rglob("*") if p.is_dir()]
    before = files(tmp_path / "data")
    try:
        for folder in folders:
            folder.chmod(0o555)
        assert tool(ucf, "--out", tmp_path / "out") == 0
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert files(tmp_path / "data") == before  # also where the tests' user may write anywhere


# -- what interrupts it -----------------------------------------------------------------------------------------------


def write_slow(root, count=7, frames=80):
    """Videos that take some tenths of a second each."""
    lists = {"train": [(f"{i:02}.mp4", "x", "") for i in range(count)], "test": [("test.mp4", "x", "")]}
    return write_csv(root, lists, frames=frames, height=160, width=240)


def recorded(out):
    for ledger in (out / copies.LEDGER_DIR).glob("*.jsonl"):
        yield from copies.read_ledger(ledger)


def wait_for(condition, process=None, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def children(process_id):
    return [
        int(child) for file in Path(f"/proc/{process_id}/task").glob("*/children") for child in file.read_text().split()
    ]


def test_a_killed_run_leaves_whole_files_and_is_continued(tool, tmp_path):
    values, out = write_slow(tmp_path / "data"), tmp_path / "out"
    process = started(values, "--out", out, "--workers", 1)
    wait_for(lambda: out.exists() and len(list(recorded(out))) >= 2, process)
    helpers = children(process.pid)
    assert helpers
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(map(alive, helpers)))  # they end when they find that they are alone
    before = videos(out)
    done = {path: what for path, what in before.items() if not Path(path).name.startswith(".")}
    assert 2 <= len(done) < 8
    assert not (out / "prepared.json").exists()
    for path in done:
        assert numbers(out / path) == numbers(tmp_path / "data" / path)
    with open(next((out / copies.LEDGER_DIR).glob("*.jsonl")), "a") as ledger:
        ledger.write('\n{"path": "00.m')  # as if it had been writing this line
    torn = [out / f".{path[:-4]}.99999999.tmp.mp4" for path in set(videos(tmp_path / "data")) - set(done)]
    for path in torn:
        path.write_bytes(b"the beginning of a file")
    known = {line["path"] for line in recorded(out)}
    assert tool(values, "--out", out) == 0
    after = videos(out)
    assert set(after) == set(videos(tmp_path / "data"))  # the leftovers are gone
    assert all(after[path] == done[path] for path in known)
    assert result(out)["videos"] == {"expected": 8, "prepared": 8, "bad": 0}
    for path in after:
        assert numbers(out / path) == numbers(tmp_path / "data" / path)


def test_a_changed_line_of_a_ledger_is_told_or_makes_no_difference(tool, tmp_path):
    """A line that is no JSON is half of one, as a killed process leaves it: its copy is made again."""
    values = write_csv(tmp_path / "data", {"train": [("a.mp4", "x", "")], "test": [("b.mp4", "x", "")]})
    out = tmp_path / "out"
    assert tool(values, "--out", out) == 0
    (ledger,) = (out / copies.LEDGER_DIR).glob("*.jsonl")
    whole = ledger.read_text()
    line = json.loads(whole.splitlines()[1])
    changes = [
        json.dumps(change(line, place, VALUES[number % len(VALUES)])).encode()
        for first in range(len(VALUES))
        for number, place in enumerate(list_places(line), first)
    ]
    for content in [*changes, *BROKEN_JSON]:
        ledger.write_bytes(content)
        try:
            copies.summarize_copies(Path(values["root"]), out, ["a.mp4", "b.mp4"], EncodingSettings())
        except UserError as error:
            assert str(error).startswith(f"{ledger}, line 1")  # noqa: PT017
    ledger.write_text(f'{whole}\n{{"path": "a.mp4"}}')
    with pytest.raises(UserError, match=r"line 4 .*time.*remove the line"):
        tool(values, "--out", out)
    ledger.write_text(whole)
    assert tool(values, "--out", out) == 0


def test_shards_are_disjoint_and_complete_and_may_run_side_by_side(tmp_path):
    values, out = write_ucf101(tmp_path / "data"), tmp_path / "out"
    processes = [started(values, "--out", out, "--shard", f"{i}/3", "--workers", 1) for i in (1, 2, 3)]
    said = [ended(process) for process in processes]
    assert len(videos(out)) == 12
    shares = [{line["path"] for line in copies.read_ledger(p)} for p in (out / copies.LEDGER_DIR).glob("*.jsonl")]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert set.union(*shares) == set(videos(out))
    assert result(out)["videos"] == {"expected": 12, "prepared": 12, "bad": 0}
    assert any("prepared 12 of 12 videos" in text for text in said)


def test_the_last_shard_says_what_all_have_done(tool, ucf, tmp_path, capsys):
    out = tmp_path / "out"
    (bad,) = copies.select_shard(
        survey.count_listed(survey.read_all_lists("ucf101", ucf["root"], ucf["splits"])), (2, 2)
    )[:1]
    Path(ucf["root"], bad).write_bytes(b"no video")
    assert tool(ucf, "--out", out, "--shard", "2/2") == 1
    assert "shard 2/2 is done" in capsys.readouterr().out
    assert not (out / "prepared.json").exists()
    assert tool(ucf, "--out", out, "--shard", "1/2") == 0
    assert result(out)["videos"] == {"expected": 12, "prepared": 11, "bad": 1}
    before = videos(out)
    assert tool(ucf, "--out", out) == 1  # all of it at once finds all done
    assert videos(out) == before


@pytest.mark.parametrize(("count", "shards"), [(0, 3), (1, 3), (7, 3), (12, 12), (5, 1)])
def test_every_video_is_in_one_shard(count, shards):
    paths = [f"{i}.mp4" for i in range(count)]
    parts = [copies.select_shard(reversed(paths), (i, shards)) for i in range(1, shards + 1)]
    assert sorted(path for part in parts for path in part) == sorted(paths)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_shard_that_is_being_prepared_is_refused(tool, ucf, tmp_path):
    (tmp_path / "out" / copies.LEDGER_DIR).mkdir(parents=True)
    with FileLock(tmp_path / "out" / copies.LEDGER_DIR / "1-of-1.jsonl.lock"):
        with pytest.raises(UserError, match="another process is preparing this shard"):
            tool(ucf, "--out", tmp_path / "out")
        assert tool(ucf, "--out", tmp_path / "out", "--shard", "1/2") == 0


def test_a_full_disk_stops_it_with_a_message_and_it_is_continued(tool, tmp_path):
    """A limit on the size of files stands in for the disk: both refuse a write half-way."""
    lists = {"train": [("a.mp4", "x", ""), ("b.mp4", "x", ""), ("c.mp4", "x", "")], "test": [("d.mp4", "x", "")]}
    values, out = write_csv(tmp_path / "data", lists), tmp_path / "out"
    noise = np.random.default_rng(0).integers(0, 255, (60, 128, 128, 3), dtype=np.uint8)
    write_video(tmp_path / "data/b.mp4", noise, 25)
    assert tool(values) == 0  # probed: what is written from here on are copies and their ledger
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    said = ended(started(values, "--out", out, "--workers", 1, preexec_fn=limit), code=2)
    assert f"error: cannot write {out / 'b.mp4'}: File too large" in said
    assert "MB are free there; make room and run the same command again" in said
    before = videos(out)
    assert set(before) == {"a.mp4"}
    assert numbers(out / "a.mp4") == numbers(tmp_path / "data/a.mp4")
    assert tool(values, "--out", out) == 0
    assert len(videos(out)) == 4
    assert videos(out)["a.mp4"] == before["a.mp4"]


def helped(work, helper, values, out):
    """What `prepare.make` says of the first video, done with this helper while `work` goes on."""
    root = Path(values["root"])
    infos, _ = manifest.probe_all(root, ["00.mp4"], progress=False)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        return copies.make_copy(root, out, infos, EncodingSettings(), helper, "00.mp4")
    finally:
        thread.join()
        helper.end()


def test_a_decoder_that_crashes_or_hangs_costs_that_file(tmp_path):
    values = write_slow(tmp_path / "data", 1)
    busy = lambda: any(path.name.startswith(".") for path in (tmp_path / "out").glob(".*"))
    for number, reason in ((signal.SIGSEGV, "the process crashed (SIGSEGV)"), (signal.SIGSTOP, "the process hung")):
        helper = sandbox.Helper(patience=3)

        def strike(helper=helper, number=number):
            wait_for(busy)
            helper.process.send_signal(number)

        line = helped(strike, helper, values, tmp_path / "out")
        assert line["reason"].startswith(reason)
        assert line["copy"] is None
        assert list((tmp_path / "out").iterdir()) == []


def test_a_source_that_changes_meanwhile_is_not_taken_for_done(tmp_path):
    values = write_slow(tmp_path / "data", 1, frames=3)
    line = helped(lambda: os.utime(tmp_path / "data/00.mp4"), sandbox.Helper(), values, tmp_path / "out")
    assert line["reason"] == "it changed while it was prepared"


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["data/videos", "data/videos/small", "data/lists/../videos/x"])
def test_an_output_folder_in_the_source_folder_is_refused(tool, ucf, tmp_path, out):
    before = files(tmp_path)
    with pytest.raises(UserError, match="lies in the source folder"):
        tool(ucf, "--out", tmp_path / out)
    assert files(tmp_path) == before


def test_a_link_into_the_source_folder_is_refused(tool, ucf, tmp_path):
    (tmp_path / "link").symlink_to(ucf["root"])
    with pytest.raises(UserError, match="lies in the source folder"):
        tool(ucf, "--out", tmp_path / "link" / "x")


def test_a_folder_with_files_of_others_is_refused(tool, ucf, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="has files that this tool did not write"):
        tool(ucf, "--out", tmp_path / "out")
    assert files(tmp_path / "out").keys() == {"thesis.txt"}


@pytest.mark.parametrize("absolute", [True, False])
def test_a_listed_path_that_leads_out_of_the_folder_is_refused(tool, tmp_path, absolute):
    numbered_video(tmp_path / "elsewhere", 3)
    path = tmp_path / "elsewhere.mp4" if absolute else "../elsewhere.mp4"
    values = write_csv(tmp_path / "data", {"train": [(path, "x", "")], "test": [("b.mp4", "x", "")]}, frames=3)
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"elsewhere\.mp4.*lists"):
        tool(values, "--out", tmp_path / "out")
    assert files(tmp_path) == before


WRONG = [
    (["--shards", "shards", "--shard", "1/2"], "--shards"),
    (["--shards", "shards", "--out", "out"], "--shards"),
    (["--out", "out", "--shard", "1/2", "--duplicates"], "--duplicates"),
    (["--out", "out", "--shard", "1/2", "--slurm", "2"], "--shard"),
    (["--out", "out", "--slurm", "none"], "--slurm.*none"),
    (["--out", "out", "--slurm", "2", "partition"], "override 'partition'"),
    (["--out", "out", "--slurm", "2", "cluster=local", "local_speed=9"], "submitit: .*speed"),
    (["--splits", "nowhere"], "--splits.*nowhere"),
]


@pytest.mark.parametrize(("more", "message"), WRONG, ids=[" ".join(more) for more, _ in WRONG])
def test_half_a_request_is_refused(tool, ucf, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        tool(ucf, *more)


@pytest.mark.parametrize(
    "more",
    [
        ["--short-side", 127],
        ["--short-side", 0],
        ["--keyframes", "x"],
        ["--crf", 52],
        ["--shard", "0/2"],
        ["--shard", "3/2"],
    ],
    ids=str,
)
def test_wrong_values_are_refused(tool, ucf, more):
    with pytest.raises(SystemExit) as caught:
        tool(ucf, *more)
    assert caught.value.code == 2


# -- SLURM ------------------------------------------------------------------------------------------------------------


def test_shards_are_submitted_and_run_by_submitit(tmp_path):
    """Its local executor stands in for SLURM: the same pickled jobs, run by the same program."""
    values, out = write_ucf101(tmp_path / "data"), tmp_path / "out"
    said = ended(started(values, "--out", out, "--workers", 1, "--slurm", 2, "cluster=local", "timeout_min=5"))
    assert "submitted 2 jobs" in said
    logs = out / copies.LEDGER_DIR / "slurm"
    wait_for(lambda: len(list(logs.rglob("*_result.pkl"))) == 2)
    assert result(out)["videos"] == {"expected": 12, "prepared": 12, "bad": 0}
    assert {p.name for p in (out / copies.LEDGER_DIR).glob("*.jsonl")} == {"1-of-2.jsonl", "2-of-2.jsonl"}
    assert len(videos(out)) == 12


def test_without_submitit_or_slurm_it_says_so(ucf, tmp_path):
    missing = ["-c", f"import sys; sys.modules['submitit'] = None; sys.argv[0] = {str(TOOL)!r}; import runpy; "
               f"del sys.argv[1]; runpy.run_path({str(TOOL)!r}, run_name='__main__')"]  # fmt: skip
    said = ended(started(ucf, "--out", tmp_path / "out", "--slurm", 2, python=missing), code=2)
    assert said == "error: submitting jobs needs submitit: pip install 'videores[slurm]'\n"
    said = ended(started(ucf, "--out", tmp_path / "out", "--slurm", 2), code=2)
    assert said.startswith("error: submitit: Could not detect")


# -- real data --------------------------------------------------------------------------------------------------------


def test_real_files_are_prepared_and_the_broken_one_is_named(tool, shared_data, tmp_path, capsys):
    names = ["broken_corrupted.mp4", "h264_rotation_90.mov", "hevc_128x128.mp4", "mpeg4_320x240_25fps_audio.avi"]
    for part, listed in (("train", names), ("test", ["h264_unordered.mov"])):
        write_lines(tmp_path / f"{part}.csv", ["path,label", *(f"{name},x" for name in listed)])
    values = dict(format="csv", root=str(shared_data / "videos"), splits=str(tmp_path))
    assert tool(values, "--out", tmp_path / "out", "--audio", "keep") == 1
    found = result(tmp_path / "out")
    assert found["videos"] == {"expected": 5, "prepared": 4, "bad": 1}
    assert list(found["bad"]) == ["broken_corrupted.mp4"]
    assert found["frames"] == 3 + 10 + 164 + 4
    infos, _ = manifest.probe_all(tmp_path / "out", [*names[1:], "h264_unordered.mov"], progress=False)
    assert {path: (info.num_frames, info.has_audio) for path, info in infos.items()} == {
        "h264_rotation_90.mov": (3, False),
        "hevc_128x128.mp4": (10, False),
        "mpeg4_320x240_25fps_audio.avi": (164, True),
        "h264_unordered.mov": (4, False),
    }
