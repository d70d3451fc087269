"""tools/predict.py: every entrance gives one answer; what is bad is named, and the rest goes on."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import predict
import pytest
from helpers.commands import ROOT, environment
from helpers.videos import numbered_video

from videores.errors import UserError
from videores.inference.inputs import list_inputs


@contextmanager
def serve(content, *, length=True, cut=0):
    """A server of this machine that sends some bytes, with their number or as a stream; the last `cut` never come."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header(*(("Content-Length", str(len(content))) if length else ("Connection", "close")))
            self.end_headers()
            self.wfile.write(content[: len(content) - cut])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/video"
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A working folder with a run, a.mp4, b.avi of the same frames, and nothing else."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "run").symlink_to(trained[0] / "runs" / "tiny")
    numbered_video(folder / "a", 60, height=32, width=48)
    return folder


@pytest.fixture
def run(place, monkeypatch, capsys):
    """Runs the tool in this process: run(*arguments) -> exit code, what it printed, and the JSON without names."""

    def call(*arguments, stdin=None):
        monkeypatch.chdir(place)
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(stdin.read_bytes())))
        monkeypatch.setattr("sys.argv", ["predict.py", "run", *map(str, arguments), "--json", "answers.json"])
        (place / "answers.json").unlink(missing_ok=True)
        code = predict.main()
        content = json.loads((place / "answers.json").read_text())
        return code, capsys.readouterr(), content

    return call


def strip(content):
    """The JSON without what tells the entrance: the name, and when frames arrived."""
    return content | {
        "records": [
            {key: value for key, value in record.items() if key not in ("input", "latency")}
            for record in content["records"]
        ]
    }


@pytest.mark.parametrize("options", [(), ("--every", "0.2"), ("--timeline",)])
def test_file_folder_pattern_pipe_and_server_give_one_json(run, place, options):
    content = (place / "a.mp4").read_bytes()
    (place / "folder").mkdir(exist_ok=True)
    shutil.copy(place / "a.mp4", place / "folder" / "x.mp4")
    code, _, wanted = run("a.mp4", *options)
    assert code == 0
    assert len(wanted["records"]) >= 1
    with serve(content) as address:
        for given in (("folder",), ("fold*/*.mp4",), (address, "--network")):
            code, _, found = run(*given, *options)
            assert (code, strip(found)) == (0, strip(wanted)), given
    code, _, found = run("-", *options, stdin=place / "a.mp4")
    assert (code, strip(found)) == (0, strip(wanted))


def test_a_stream_without_an_end_that_is_known_gives_the_same_windows(run, place):
    path = numbered_video(place / "ts", 60, height=32, width=48)
    streamable = place / "ts.mkv"
    remux(path, streamable)
    _, _, wanted = run(streamable, "--every", "0.2")
    with serve(streamable.read_bytes(), length=False) as address:
        code, printed, found = run(address, "--network", "--every", "0.2")
    assert (code, strip(found)) == (0, strip(wanted))
    assert all(record["latency"] >= 0 for record in found["records"])
    assert "latency" in printed.out
    assert "frames/s" in printed.out


def remux(source, target):
    import av

    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        track = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = track
                write.mux(packet)


def test_what_is_bad_is_named_and_the_rest_goes_on(run, place):
    (place / "bad").mkdir(exist_ok=True)
    (place / "bad" / "text.mp4").write_text("this is no video\n" * 50)
    (place / "bad" / "empty.mp4").write_bytes(b"")
    shutil.copy(place / "a.mp4", place / "bad" / "good.mp4")
    for options in ((), ("--timeline",)):
        code, printed, content = run("bad", "absent.mp4", "a.mp4", *options)
        assert code == 1
        errors = {record["input"] for record in content["records"] if record["kind"] == "error"}
        assert errors == {"bad/text.mp4", "bad/empty.mp4", "absent.mp4"}
        assert {record["input"] for record in content["records"]} - errors == {"bad/good.mp4", "a.mp4"}
        assert all(f"error: {name}: " in printed.err for name in errors)


def test_sound_without_pictures_is_named(run, place):
    write_sound(place / "sound.mp4")
    for options in ((), ("--every", "1")):
        code, printed, _ = run("sound.mp4", *options)
        assert code == 1
        assert "sound.mp4: it has no video stream" in printed.err


def write_sound(path):
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_server_that_stops_keeps_what_came(run, place):
    path = numbered_video(place / "long", 400, "mpeg4_avi", height=96, width=128)
    content = path.read_bytes()
    with serve(content, cut=len(content) // 2) as address:
        code, printed, found = run(address, "--network", "--every", "0.32")
        assert code == 1
        kinds = [record["kind"] for record in found["records"]]
        assert kinds.count("window") > 5
        assert kinds[-1] == "error"
        assert "bytes are missing" in printed.err
        assert run(address, "--network")[0] == 1
    code, printed, _ = run(address, "--network")  # nobody listens any more
    assert code == 1
    assert address in printed.err


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (("rtsp://127.0.0.1:9/x",), "--network"),
        (("http://127.0.0.1:9/x",), "--network"),
        (("0",), "--network"),
        (("ftp://127.0.0.1/x", "--network"), "ftp://127.0.0.1/x"),
        (("nothing*.mp4",), r"nothing\*\.mp4"),
        (("emptyfolder",), "emptyfolder"),
        (("-", "-"), "-"),
    ],
)
def test_names_of_nothing_are_refused_before_anything_is_loaded(run, place, given, names):
    (place / "emptyfolder").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=names):
        run(*given)
    assert not (place / "answers.json").exists()


@pytest.mark.parametrize("given", ["7777", "rtsp://127.0.0.1:9/x"])
def test_a_camera_or_address_that_is_not_there_is_named(run, given):
    code, printed, content = run(given, "a.mp4", "--network")
    assert code == 1
    assert f"error: {given}: " in printed.err
    assert [record["kind"] for record in content["records"]] == ["error", "video"]


def test_a_short_video_is_answered_with_a_warning(run, place):
    numbered_video(place / "short", 3, height=32, width=48)
    for options in ((), ("--every", "1")):
        code, printed, content = run("short.mp4", *options)
        assert code == 0
        assert "warning: short.mp4" in printed.err
        assert len(content["records"]) == 1


def test_outputs_of_inputs_of_one_name_do_not_replace_each_other(run, place):
    given = ["one/x.mp4", "two/x.mp4", "two/x-2.mp4"]
    for name in given:
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copy(place / "a.mp4", place / name)
    code, printed, _ = run(*given, "--video", "--out", "labeled")
    assert code == 0
    assert len(list((place / "labeled").iterdir())) == 3
    assert printed.out.count("60 frames") == 3


def test_video_of_a_stream_is_refused_by_name_and_the_rest_goes_on(run, place):
    remux(place / "a.mp4", place / "a.mkv")
    with serve((place / "a.mkv").read_bytes(), length=False) as address:
        code, printed, content = run(address, "a.mp4", "--network", "--video", "--out", "streamed")
    assert code == 1
    assert f"error: {address}: --video" in printed.err
    assert [record["kind"] for record in content["records"]] == ["error", "video"]
    assert [path.name for path in (place / "streamed").iterdir()] == ["a_labeled.mp4"]


def test_csv_has_the_answers_of_json(run, place):
    _, _, content = run("a.mp4", "absent.mp4", "--every", "0.5", "--csv", "answers.csv", "--top", "2")
    with (place / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = [
        (record["input"], record["kind"], str(record["start"]), str(rank), top["class"], str(top["probability"]))
        for record in content["records"]
        if "top" in record
        for rank, top in enumerate(record["top"], 1)
    ]
    keys = ("input", "kind", "start", "rank", "class", "probability")
    assert [tuple(row[key] for key in keys) for row in rows if row["kind"] != "error"] == wanted
    assert [(row["input"], row["error"]) for row in rows if row["kind"] == "error"] == [
        ("absent.mp4", "there is no such file")
    ]
    assert {row["schema"] for row in rows} == {content["schema"]} == {"videores.predict/1"}


@contextmanager
def watched(process, seconds=120):
    """Aborts a process that hangs: with PYTHONFAULTHANDLER it prints where, and its pipes end."""
    timer = threading.Timer(seconds, process.send_signal, [signal.SIGABRT])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def test_the_tool_as_a_command_writes_whole_files_when_it_is_interrupted(place):
    """A pipe that never ends: what came is in the files, which are whole, when Ctrl-C ends the command."""
    remux(place / "a.mp4", place / "a.mkv")
    command = [sys.executable, str(ROOT / "tools" / "predict.py"), "run", "-", "--every", "0.2", "--json", "cut.json"]
    shown = environment() | {"PYTHONFAULTHANDLER": "1"}
    process = subprocess.Popen(command, cwd=place, env=shown, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with watched(process):
        process.stdin.write((place / "a.mkv").read_bytes())
        process.stdin.flush()
        for _ in range(3):
            assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(json.loads((place / "cut.json").read_text())["records"]) >= 3


def test_numbered_pictures_are_the_frames_of_a_video_or_one_each(tmp_path):
    names = [str(tmp_path / f"{number}.jpg") for number in range(3)]
    for name in names:
        Path(name).touch()
    assert [one.name for one in list_inputs([str(tmp_path)], False)] == [str(tmp_path)]
    assert [one.name for one in list_inputs([str(tmp_path)], False, pictures=True)] == names
