"""What a file holds and which readers are exact for it; bad files by name and reason; the manifest."""

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import damage
from helpers.videos import AVAILABLE, CODECS, numbered_frames, numbered_video, read_numbers

from videores.data import probe as probe_module
from videores.data.decode import read_frames
from videores.data.manifest import find_manifest_path, probe_all, probe_one
from videores.data.probe import examine, probe, probe_in_helper
from videores.data.video import readers
from videores.data.video.sandbox import Helper, get_process_helper
from videores.errors import UnreadableVideo


def without_reader(infos):
    """`reader` is the fastest in a race, the rest is a property of the file."""
    return {path: replace(info, reader="") for path, info in infos.items()}


# -- good files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", AVAILABLE)
def test_what_a_file_holds(numbered, codec):
    info = probe(numbered[codec])
    assert (info.num_frames, info.width, info.height, info.rotation, info.has_audio) == (40, 64, 48, 0, False)
    assert info.fps == pytest.approx(25)
    assert "pyav" in info.readers
    assert info.reader in info.readers


@pytest.mark.parametrize("fps", [6, 12.5, 30000 / 1001])
def test_frame_rate(tmp_path, fps):
    assert probe(numbered_video(tmp_path / "x", 12, fps=fps)).fps == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@pytest.mark.parametrize("codec", ["h264", "mpeg4_avi"])
def test_short_videos(tmp_path, codec, frames):
    assert probe(numbered_video(tmp_path / "x", frames, codec)).num_frames == frames


def test_audio_is_seen(tmp_path):
    write_sound(tmp_path / "x.mkv", pictures=True)
    info = probe(tmp_path / "x.mkv")
    assert (info.has_audio, info.num_frames) == (True, 10)


def write_sound(path, pictures):
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        video = container.add_stream("libx264", rate=25) if pictures else None
        if video:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for image in numbered_frames(10):
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 3200), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def test_of_two_video_streams_that_which_ffmpeg_calls_best_is_taken(tmp_path):
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, size in zip(streams, (32, 64), strict=True):
            stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        streams[1].disposition = av.stream.Disposition.default
        container.start_encoding()
        for stream in streams:
            for image in numbered_frames(stream.width // 4, 100 * stream.width, stream.height, stream.width):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    info = probe(tmp_path / "x.mkv")
    assert (info.width, info.num_frames) == (64, 16)
    for reader in info.readers:
        assert read_numbers(readers.READERS[reader](tmp_path / "x.mkv", [0, 15])) == [6400, 6415]


def test_keyframes_are_few_and_true(numbered):
    """Some, for seeking: every 12th frame of one file, and a thinned list where every frame is one."""
    assert [i for i, _ in probe(numbered["h264_gop"]).keyframes] == [0, 12, 24, 36]
    assert [i for i, _ in probe(numbered["h264_intra"]).keyframes] == [0, 8, 16, 24, 32]


def test_a_probe_is_deterministic_but_for_the_fastest_reader(numbered):
    for path in numbered.values():
        assert replace(probe(path), reader="") == replace(probe(path), reader="")


def test_names_with_spaces_and_accents(tmp_path):
    assert probe(numbered_video(tmp_path / "grüße an alle", 5)).num_frames == 5


def test_file_whose_title_is_no_utf8_is_read(tmp_path):
    path = numbered_video(tmp_path / "x", 10, "mpeg4_avi")
    content = path.read_bytes()
    assert b"Lavf" in content  # the name of the writing program
    path.write_bytes(content.replace(b"Lavf", b"\xe9avf"))
    info = probe(path)
    assert info.num_frames == 10
    for reader in info.readers:
        assert read_numbers(readers.READERS[reader](path, [3, 9])) == [3, 9]


# -- readers that are wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "wanted"), [("mpeg4_avi", [39]), ("mpeg4_mp4", [5, 13, 30]), ("mpeg2_mpg", [5, 13, 30])]
)
def test_reader_that_returns_wrong_frames_is_not_allowed(numbered, codec, wanted):
    """decord 0.6.0 returns neighbours of these frames, in the AVI and MPEG files not at every read."""
    assert read_numbers(readers.read_pyav(numbered[codec], wanted)) == wanted
    assert "decord" not in probe(numbered[codec]).readers


def test_reader_that_is_right_is_allowed(numbered):
    assert {"decord", "pyav"} <= set(probe(numbered["h264"]).readers)


def test_wrong_readers_are_not_allowed_on_real_files(shared_data):
    assert "decord" not in probe(shared_data / "videos" / "hevc_128x128.mp4").readers
    assert "decord" not in probe(shared_data / "videos" / "av1_640x360.mkv").readers  # it cannot open it
    paths = sorted((shared_data / "ut-interaction-6" / "videos").rglob("*.avi"))[::30]
    assert [probe(path).readers for path in paths] == [("pyav",)] * 4


# -- bad files --------------------------------------------------------------------------------------------------------


def reason(path):
    with pytest.raises(UnreadableVideo) as caught:
        probe(path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_missing_file(tmp_path):
    assert reason(tmp_path / "x.mp4") == "there is no such file"


def test_folder_without_frames(tmp_path):
    assert reason(tmp_path) == "it has no numbered pictures"


def test_empty_file(tmp_path):
    (tmp_path / "x.mp4").touch()
    assert "0 bytes" in reason(tmp_path / "x.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".webm"])
def test_text_file(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_text("<html>404 not found</html>\n" * 50)
    assert reason(tmp_path / f"x{suffix}")


def test_text_file_that_lists_other_files(tmp_path):
    numbered_video(tmp_path / "good", 12)
    (tmp_path / "x.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    assert reason(tmp_path / "x.mp4") == "it is a list of other files, no video"


def test_sound_without_pictures(tmp_path):
    write_sound(tmp_path / "x.mkv", pictures=False)
    assert "no video stream" in reason(tmp_path / "x.mkv")


@pytest.mark.parametrize("codec", [c for c in AVAILABLE if c != "mpeg2_mpg"])  # whose header promises nothing
@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
def test_truncated_file(tmp_path, codec, share):
    path = numbered_video(tmp_path / "x", 60, codec)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert reason(path)


def test_truncated_file_with_its_header_in_front(tmp_path):
    """As downloads that broke off: the header promises frames that are not there."""
    path = numbered_video(tmp_path / "x", 200, "h264_gop")
    front = tmp_path / "front.mp4"
    with av.open(str(path)) as source, av.open(str(front), "w", options={"movflags": "+faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert probe(front).num_frames == 200
    content = front.read_bytes()
    front.write_bytes(content[: 3 * len(content) // 4])
    assert reason(front)


def test_broken_real_file(shared_data):
    assert reason(shared_data / "videos" / "broken_corrupted.mp4")


# -- the manifest -----------------------------------------------------------------------------------------------------


def numbered_set(root, count, **video):
    return [numbered_video(root / f"{i:03}", start=i, **video).name for i in range(count)]


def replace_unseen(path, content):
    """Another content of the same size and time: whoever decodes the file again notices."""
    before = path.stat()
    path.write_bytes(content[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def probed(root, paths):
    return probe_all(root, paths, progress=False)


def test_manifests_are_in_the_cache_folder_not_beside_the_videos(tmp_path, cache_folder):
    paths = numbered_set(tmp_path, 2, frames=5)
    probed(tmp_path, paths)
    assert find_manifest_path(tmp_path).is_relative_to(cache_folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == paths


def test_a_second_probe_decodes_nothing(tmp_path):
    paths = numbered_set(tmp_path, 3, frames=5)
    (tmp_path / "bad.mp4").write_text("no video")
    first = probed(tmp_path, [*paths, "bad.mp4", "missing.mp4"])
    assert list(first[1]) == ["bad.mp4", "missing.mp4"]
    for path in paths:
        replace_unseen(tmp_path / path, b"")
    written = find_manifest_path(tmp_path).stat().st_mtime_ns
    assert probed(tmp_path, [*paths, "bad.mp4", "missing.mp4"]) == first
    assert find_manifest_path(tmp_path).stat().st_mtime_ns == written


def test_results_come_as_they_were_probed(tmp_path):
    """Through JSON and back: tuples, not lists."""
    (path,) = numbered_set(tmp_path, 1, frames=20, codec="h264_gop")
    first, again = (probed(tmp_path, [path])[0][path] for _ in range(2))
    assert first == again
    assert replace(first, reader="") == replace(probe(tmp_path / path), reader="")
    assert hash(again)


def test_only_what_changed_is_probed_again(tmp_path):
    paths = numbered_set(tmp_path, 3, frames=5)
    probed(tmp_path, paths)
    replace_unseen(tmp_path / paths[0], b"")  # must go unnoticed
    numbered_video(tmp_path / paths[1], 9)
    (tmp_path / paths[2]).write_text("no video")
    infos, bad = probed(tmp_path, paths)
    assert [infos[path].num_frames for path in paths[:2]] == [5, 9]
    assert list(bad) == paths[2:]


def test_a_new_time_alone_is_a_change(tmp_path):
    (path,) = numbered_set(tmp_path, 1, frames=5)
    probed(tmp_path, [path])
    replace_unseen(tmp_path / path, b"")
    os.utime(tmp_path / path, ns=(1, 1))
    assert list(probed(tmp_path, [path])[1]) == [path]


def test_a_repaired_file_is_found_good(tmp_path):
    assert list(probed(tmp_path, ["x.mp4"])[1]) == ["x.mp4"]
    numbered_video(tmp_path / "x", 5)
    assert list(probed(tmp_path, ["x.mp4"])[0]) == ["x.mp4"]


def test_a_subset_does_not_forget_the_rest(tmp_path):
    paths = numbered_set(tmp_path, 3, frames=5)
    probed(tmp_path, paths)
    probed(tmp_path, paths[:1])
    replace_unseen(tmp_path / paths[2], b"")
    assert set(probed(tmp_path, paths)[0]) == set(paths)


@pytest.mark.parametrize("content", [*damage.BROKEN_JSON, b'{"version": -1, "videos": {}}'])
def test_a_damaged_or_foreign_manifest_is_made_anew(tmp_path, content):
    paths = numbered_set(tmp_path, 1, frames=5)
    probed(tmp_path, paths)
    find_manifest_path(tmp_path).write_bytes(content)
    assert list(probed(tmp_path, paths)[0]) == paths
    assert json.loads(find_manifest_path(tmp_path).read_text())["videos"]


def test_a_manifest_with_any_value_changed_is_read_or_made_anew_with_a_warning(tmp_path, capsys):
    paths = numbered_set(tmp_path, 1, frames=12, codec="h264_gop")
    first, file = probed(tmp_path, paths), find_manifest_path(tmp_path)
    whole, told = file.read_text(), 0
    places = [path for path in damage.list_places(json.loads(whole)) if path[:1] != ("made_by",)]
    for n, path in enumerate(places):
        file.write_text(json.dumps(damage.change(json.loads(whole), path, damage.VALUES[n % len(damage.VALUES)])))
        infos, bad = probed(tmp_path, paths)
        assert [*infos, *bad] == paths
        told += str(file) in capsys.readouterr().err
    assert told > len(places) / 2
    file.write_text(whole)
    assert probed(tmp_path, paths) == first


def test_a_manifest_of_another_version_is_made_anew_and_named(tmp_path, capsys):
    paths = numbered_set(tmp_path, 1, frames=5)
    first, file = probed(tmp_path, paths), find_manifest_path(tmp_path)
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "made_by": {**content["made_by"], "manifest": 1}, "videos": {"x": 7}}))
    capsys.readouterr()
    assert probed(tmp_path, paths) == first
    assert str(file) in capsys.readouterr().err


def test_data_sets_of_the_same_name_have_manifests_of_their_own(tmp_path):
    for i, name in enumerate("ab"):
        numbered_video(tmp_path / name / "videos" / "x", 5 + i)
    counts = [probed(tmp_path / name / "videos", ["x.mp4"])[0]["x.mp4"].num_frames for name in "ab"]
    assert counts == [5, 6]


def test_an_interrupted_probe_goes_on_where_it_stopped(tmp_path):
    paths = numbered_set(tmp_path, 60, frames=80)
    code = f"from videores.data.manifest import probe_all; probe_all({str(tmp_path)!r}, {paths!r})"
    # A program that a shell runs in the background ignores Ctrl-C, and so would its children.
    heeding = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, preexec_fn=heeding)
    seen = b""
    while b"/60" not in seen or b" 0/60" in seen.rsplit(b"\r", 1)[-1]:
        chunk = child.stderr.read1(4096)
        assert chunk, seen
        seen += chunk
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    done = json.loads(find_manifest_path(tmp_path).read_text())["videos"]
    assert 0 < len(done) < 60
    for path in done:
        replace_unseen(tmp_path / path, b"")
    infos, bad = probed(tmp_path, paths)
    assert (len(infos), bad) == (60, {})


def test_parallel_equals_serial(tmp_path):
    paths = numbered_set(tmp_path, 68, frames=4, height=16, width=16)  # from 64 on in several processes
    paths += numbered_set(tmp_path / "avi", 4, frames=9, codec="mpeg4_avi")
    paths = [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*.*"))]
    (tmp_path / paths[7]).write_text("no video")
    infos, bad = probed(tmp_path, paths)
    serial = dict(probe_one(str(tmp_path), get_process_helper(os.getpid()), path) for path in paths)
    assert bad == {path: result.bad for path, result in serial.items() if result.bad is not None}
    assert list(bad) == [paths[7]]
    expected = {path: probe(tmp_path / path) for path in paths if path not in bad}
    assert without_reader(infos) == without_reader(expected)
    assert list(infos) == list(expected)


def test_a_root_may_be_given_in_any_form(tmp_path, monkeypatch):
    numbered_video(tmp_path / "x", 5)
    monkeypatch.chdir(tmp_path)
    assert find_manifest_path(".") == find_manifest_path(tmp_path) == find_manifest_path(str(tmp_path) + "/")
    assert list(probed(Path("."), ["x.mp4"])[0]) == ["x.mp4"]


def test_every_suffix_that_the_tests_write_is_indexed():
    from videores.data.lists import VIDEO_SUFFIXES

    assert {coding.suffix for coding in CODECS.values()} <= VIDEO_SUFFIXES


# -- readers that crash or hang ---------------------------------------------------------------------------------------


def examine_with_broken(name, break_, path, without, beat):
    """`examine` in a helper where one reader (or "scan") is broken; the helper is not used again."""

    def broken(*_):
        ctypes.string_at(0) if break_ == "crash" else time.sleep(60)

    if name == "scan":
        probe_module.scan = lambda path, beat: (beat("decoding"), broken())
    else:
        setattr(readers, {"pyav": "decode_chosen", "decord": "_open_decord"}[name], broken)
    return examine(path, without, beat)


@pytest.mark.parametrize("break_", ["crash", "hang"])
@pytest.mark.parametrize("broken", ["decord", "pyav", "scan"])
def test_a_reader_that_crashes_or_hangs_costs_itself_or_the_file(numbered, monkeypatch, broken, break_):
    whole = probe(numbered["h264"])
    monkeypatch.setattr("videores.data.probe.examine", partial(examine_with_broken, broken, break_))
    helper = Helper(patience=6)  # in which it must start, too
    if broken == "decord":
        info = probe_in_helper(helper, numbered["h264"])
        assert replace(info, reader="") == replace(whole, reader="", readers=("pyav",))
    else:
        with pytest.raises(UnreadableVideo, match="crashed .SIGSEGV." if break_ == "crash" else "hung") as caught:
            probe_in_helper(helper, numbered["h264"])
        assert caught.value.path == str(numbered["h264"])
    helper.end()


def test_pictures_that_change_size_are_refused(tmp_path):
    pictures = [picture for size in (64, 96) for picture in jpegs(numbered_frames(5, height=size, width=size))]
    (tmp_path / "x.mjpeg").write_bytes(b"".join(pictures))
    assert "change size from 64x64 to 96x96 at frame 5" in reason(tmp_path / "x.mjpeg")


def jpegs(images):
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width, codec.pix_fmt = *images[0].shape[:2], "yuvj420p"
    codec.time_base = Fraction(1, 25)
    for image in images:
        yield from map(
            bytes, codec.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuvj420p"))
        )


def test_a_cut_without_re_encoding_is_not_truncated(tmp_path):
    """Its file holds the frames since the keyframe before; the edit list hides them, but the header counts them."""
    source = numbered_video(tmp_path / "x", 100, "h264", bf="0")  # with one keyframe
    with av.open(str(source)) as whole, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.pts = packet.dts = packet.pts - round(Fraction("1.6") / packet.time_base)  # 40 frames
                packet.stream = stream
                cut.mux(packet)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.video[0].frames == 100
    info = probe(tmp_path / "cut.mp4")
    assert info.num_frames == 60
    for reader in info.readers:
        assert read_numbers(read_frames(tmp_path / "cut.mp4", [0, 31, 59], reader=reader, info=info)) == [40, 71, 99]


def test_a_file_without_permission_is_probed_again(tmp_path, monkeypatch):
    """What the machine is at fault for is not remembered."""
    (path,) = numbered_set(tmp_path, 1, frames=5)
    monkeypatch.setattr("videores.data.probe.examine", examine_without_permission)
    assert "Permission denied" in probed(tmp_path, [path])[1][path]
    monkeypatch.setattr("videores.data.probe.examine", examine)
    assert probed(tmp_path, [path])[0][path].num_frames == 5


def examine_without_permission(path, without, beat):
    """A real error of av.open, as the tests may run as root, who may read everything."""
    beat("opening")

    def denied(*_, **__):
        raise av.error.PermissionError(errno.EACCES, "Permission denied", path)

    whole, av.open = av.open, denied
    try:
        return examine(path, without, beat)
    finally:
        av.open = whole


def test_helpers_do_not_import_from_the_current_folder(tmp_path, monkeypatch):
    path = numbered_video(tmp_path / "x", 5)
    for name in ("av.py", "filelock.py", "numpy.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    helper = Helper()
    assert probe_in_helper(helper, path).num_frames == 5
    helper.end()


def test_a_user_without_home_or_writable_cache_gets_a_folder_that_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIDEORES_CACHE", str(tmp_path / "file" / "cache"))  # not even root can write there
    (path,) = numbered_set(tmp_path / "videos", 1, frames=5)
    assert list(probed(tmp_path / "videos", [path])[0]) == [path]
    assert "cannot write" in capsys.readouterr().err
