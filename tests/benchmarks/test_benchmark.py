"""That the benchmark compares like with like: the same frames, floor, rounds and ratios; and what it writes."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from benchmarks import clip_loading, memory, pages, peers, probing, report, videos, view_loading
from benchmarks import contenders as measure
from benchmarks.contenders import ALL_FRAMES, FLOOR, FRAMES, OURS, PREPARED, SCAN, SHARDS, Contender
from benchmarks.material import Material, Plan, training_clips, view_clips
from benchmarks.report import TARGETS, Row, Target
from helpers.videos import numbered_video, read_numbers, write_ucf101

from videores.config.schema import ClipConfig, TransformConfig, ViewsConfig
from videores.data.probe import probe
from videores.errors import UnreadableVideo, UserError

ROOT = Path(__file__).parents[2]
WHOLE = TransformConfig(short_side=48, crop=48, flip=0, mean=(0, 0, 0), std=(1, 1, 1))  # frames as they are
PLAN = Plan(ClipConfig(frames=4, stride=2), WHOLE, ViewsConfig(clips=3, crops=3))
PEERS = ["pytorchvideo, decord", "pytorchvideo, pyav"]


def arguments(module, *words):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def entrants(make, paths, scratch, *more, prepared=True, plan=PLAN):
    return {c.name: c for c in make(videos.VideoSet("these", tuple(paths), prepared), plan, scratch, *more)}


@pytest.fixture(scope="module")
def contenders(numbered, tmp_path_factory):
    """Of four training clips of two videos."""
    paths = numbered["h264_gop"], numbered["h264"]
    return entrants(clip_loading.entrants, paths, tmp_path_factory.mktemp("scratch"), 4)


# -- the same work for all ---------------------------------------------------------------------------------------------


def test_contenders_are_ours_with_each_exact_reader_the_floor_and_both_of_pytorchvideos_decoders(contenders, numbered):
    exact = [f"{OURS}, {reader}" for reader in probe(numbered["h264_gop"]).readers]
    assert list(contenders) == [OURS, ALL_FRAMES, *exact, SHARDS, PREPARED, FRAMES, FLOOR, *PEERS]
    assert [c.name for c in contenders.values() if c.peer] == PEERS


def test_training_clips_have_the_sizes_that_networks_take(numbered, tmp_path):
    plan = Plan(transform=TransformConfig(short_side=40, crop=32))
    made = entrants(clip_loading.entrants, [numbered["h264_gop"]], tmp_path, 1, plan=plan)
    for name, contender in made.items():
        clip = contender.read(0)
        if contender.peer:
            assert (clip.shape, clip.dtype) == ((3, 16, 32, 32), torch.float32), name
        elif name not in (FRAMES, FLOOR):
            assert (clip.shape, clip.dtype) == ((1, 16, 32, 32, 3), torch.uint8), name
    assert made[FRAMES].read(0).shape == (16, 48, 64, 3)


def test_all_make_the_clips_that_our_data_set_draws(tmp_path):
    square = [numbered_video(tmp_path / codec, codec=codec, height=64) for codec in ("h264_gop", "mpeg4_avi")]
    material, plan = Material(square), Plan(PLAN.clip, TransformConfig(short_side=64, crop=64, flip=0))
    asked = training_clips(material, plan, 6, tmp_path)
    drawn = [read_numbers(material.data_set(plan)[key]["clips"][0]) for key in asked.keys]
    assert asked.frames_UKT[:, 0].tolist() == drawn
    assert [number for _, number in asked.keys] == [0, 1, 0, 1, 0, 1]
    assert len({tuple(clip) for clip in drawn}) > 2

    contender = clip_loading.ours(OURS, material, plan, asked)
    assert [read_numbers(contender.read(k)[0]) for k in range(6)] == drawn
    for decoder in peers.DECODERS:
        wanted = [(square[0], clip[0], 8, 25.0) for clip in drawn]
        read = peers.pytorchvideo_clips(wanted, plan.clip, None, decoder)
        shown = [read_numbers(read(k).permute(1, 2, 3, 0)) for k in range(6)]
        assert shown == [list(range(clip[0], clip[0] + 8)) for clip in drawn], decoder


def test_another_seed_asks_for_other_clips(numbered, tmp_path):
    material = Material([numbered["h264_gop"]])
    one, other = (training_clips(material, Plan(PLAN.clip, WHOLE, seed=s), 6, tmp_path).frames_UKT for s in (0, 1))
    assert one.tolist() != other.tolist()


@pytest.mark.parametrize("codec", ["h264", "vp9_webm"])  # webm says neither how many frames nor how long they are
@pytest.mark.parametrize("decoder", peers.DECODERS)
def test_a_single_view_has_the_frames_from_the_first_to_the_end_of_the_clips_time(numbered, codec, decoder):
    if codec not in numbered:
        pytest.skip(f"this PyAV writes no {codec}")
    clip_CTHW = peers.one_view(numbered[codec], 10, 8, 1, PLAN.clip, WHOLE, decoder)
    assert (clip_CTHW.shape, clip_CTHW.dtype) == ((3, 4, 48, 48), torch.float32)
    wide = peers.one_view(numbered[codec], 10, 8, 1, PLAN.clip, WHOLE.model_copy(update={"crop": 32}), decoder)
    assert wide.shape == (3, 4, 32, 32)
    read = {"pyav": peers.window_pyav, "decord": peers.window_decord}[decoder]
    assert read_numbers(read(numbered[codec], 10, 8, 4)) == [10, 12, 14, 17]


@pytest.mark.parametrize(("shape", "axis"), [((4, 9), 3), ((9, 4), 2)])
def test_the_three_crops_lie_along_the_longer_side(shape, axis):
    picture = torch.arange(36).reshape(1, 1, *shape)
    cut = [peers.crop(picture, place, 4) for place in range(3)]
    assert all(torch.equal(c, picture.narrow(axis, start, 4)) for c, start in zip(cut, (0, 3, 5), strict=True))


def test_all_views_of_a_video_are_made(numbered, tmp_path):
    material = Material([numbered["h264_gop"]])
    asked = view_clips(material, PLAN, tmp_path)
    assert asked.frames_UKT.shape == (1, 3, 4)
    assert (asked.frames_UKT.min(), asked.frames_UKT.max()) == (0, 39)  # from the first frame to the last
    made = entrants(view_loading.entrants, material.paths, tmp_path)
    assert made[OURS].read(0).shape == made[PREPARED].read(0).shape == (9, 4, 48, 48, 3)
    assert made[FRAMES].read(0).shape == (12, 48, 64, 3)
    for decoder in peers.DECODERS:
        clips = made[f"one view at a time, {decoder}"].read(0)
        assert [tuple(clip.shape) for clip in clips] == [(3, 4, 48, 48)] * 9


@pytest.mark.parametrize(
    ("frames", "span"), [([3, 5, 7], 6), ([3, 4, 5], 3), ([2], 1), ([9, 0, 1], 13), ([0, 10, 19], 29), ([4, 4], 1)]
)
def test_a_clips_time_ends_where_its_next_frame_would_be(frames, span):
    assert peers.span_of(frames) == span


# -- the floor ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "last", "seeking", "straight"), [(0, 0, 1, 1), (15, 20, 9, 21), (24, 39, 16, 40)])
@pytest.mark.parametrize("codec", ["h264_gop", "mpeg4_mp4"])  # a keyframe every 12 frames, B-frames
def test_the_floor_decodes_from_the_keyframe_to_the_last_frame(numbered, codec, first, last, seeking, straight):
    keyframes = probe(numbered[codec]).keyframes
    assert [index for index, _ in keyframes] == [0, 12, 24, 36]
    assert peers.decode_only(numbered[codec], first, last, keyframes) - seeking in range(3)  # B-frames before the key
    assert peers.decode_only(numbered[codec], first, last) == straight


# -- wrong frames ------------------------------------------------------------------------------------------------------


def test_the_truth_is_every_frame_in_order(numbered):
    for codec, path in numbered.items():
        truth_THWC = peers.truth(path)
        assert read_numbers(truth_THWC) == list(range(40)), codec
        assert read_numbers(peers.truth(path, side=48)) != list(range(40)), codec  # of the left square alone


def test_wrong_frames_are_counted(numbered):
    truth_THWC = peers.truth(numbered["h264"])
    shown_THWC = truth_THWC[[5, 6, 9, 8, 9]]
    for peer, asked, wrong in [(False, range(5, 10), 1), (False, range(4, 9), 5), (True, range(4, 9), 1)]:
        contender = Contender("some", peer=peer)
        contender.check(shown_THWC, asked, truth_THWC)
        assert (contender.wrong, contender.checked) == (wrong, 5)


def test_frames_of_another_size_or_outside_of_the_video_are_wrong(numbered):
    truth_THWC = peers.truth(numbered["h264"])
    assert measure.count_wrong(truth_THWC[:3, :, :8], [0, 1, 2], truth_THWC) == 3
    assert measure.count_wrong(truth_THWC[:2], [-1, 40], truth_THWC) == 2


def test_nobody_is_wrong_on_well_behaved_files(contenders):
    for name, contender in contenders.items():
        assert contender.wrong == (None if name in (FRAMES, FLOOR) else 0), name
        assert contender.checked == (0 if name in (FRAMES, FLOOR) else 32 if contender.peer else 16), name


def test_the_data_set_itself_is_checked_in_test_views(numbered, tmp_path):
    made = entrants(view_loading.entrants, [numbered["mpeg4_avi"], numbered["h264"]], tmp_path)
    assert {(c.wrong, c.checked) for c in made.values() if c.name.startswith(OURS) and c.name != FRAMES} == {(0, 24)}


# -- rounds and ratios -------------------------------------------------------------------------------------------------


def test_every_round_runs_each_contender_once_in_an_order_that_rotates():
    calls = []
    made = [Contender(name, lambda k, name=name: calls.append((name, k))) for name in "abc"]
    measure.race(made, 2, 4)
    passes = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    assert all([k for _, k in both] == [0, 1] and len({name for name, _ in both}) == 1 for both in passes)
    order = "".join(both[0][0] for both in passes)
    assert order == "abc" + "abc" + "bca" + "cab" + "abc"  # a rehearsal, then four rounds
    assert all(len(c.elapsed_ms) == len(c.cpu_ms) == 4 for c in made)


def row_of(**ms):
    names = {"ours": OURS, "prepared": PREPARED, "floor": FLOOR}
    made = [Contender(names.get(k, k), peer=k.startswith("peer"), cpu_ms=v, elapsed_ms=v) for k, v in ms.items()]
    return Row("mpeg4_320x240_25fps_audio.avi", ["a.avi"], 2, made), {c.name: c for c in made}


def test_ratios_are_those_of_medians_and_against_the_fastest_peer():
    times = {"ours": [9, 10, 90], "floor": [8, 8, 1], "peer1": [30, 45, 46], "peer2": [80, 1, 70], "peer3": []}
    row, made = row_of(**times)
    assert row.faster(made[OURS]) == 4.5  # 45 / 10
    assert row.of_floor(made[OURS]) == 1.25
    assert row.faster(made["peer3"]) is None


@pytest.mark.parametrize(("target", "reached"), [(Target(4), True), (Target(5), False), (Target(4.5), True)])
def test_a_target_against_peers_is_a_lower_bound(target, reached):
    row, made = row_of(ours=[10], peer=[45])
    assert target.reached(row, made[OURS]) == reached


@pytest.mark.parametrize(("factor", "reached"), [(1.3, True), (1.25, True), (1.2, False)])
def test_a_target_against_decoding_is_an_upper_bound(factor, reached):
    row, made = row_of(ours=[10], floor=[8])
    assert Target(factor, over=FLOOR).reached(row, made[OURS]) == reached


def test_a_target_is_not_reached_where_there_is_nothing_to_compare_with():
    row, made = row_of(ours=[10], peer=[])
    assert not Target(4).reached(row, made[OURS])


def test_the_table_says_which_targets_are_reached():
    row, _ = row_of(ours=[10], prepared=[9], floor=[20], peer=[45])
    lines = report.table("loader", [row]).splitlines()
    assert f"at most 0.85x {FLOOR}: reached" in lines[2]
    assert "at least 8x: **not** reached" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_the_table_says_that_the_machine_was_busy():
    row, made = row_of(ours=[10, 10, 30], peer=[45])
    assert list(report.disturbed([row])) == []
    made[OURS].elapsed_ms = [20]
    assert "2.0x the processor times" in next(report.disturbed([row]))


def test_targets_are_of_rows_that_are_measured():
    for measurement, rows in TARGETS.items():
        assert set(rows) <= {name for name, row in videos.SHARED.items() if measurement in row[2].split()}


def test_a_peer_that_fails_is_listed_with_its_reason_and_not_compared_with():
    def fail(k):
        raise RuntimeError("no | such frame\nand more")

    made = [Contender(OURS, lambda k: k), Contender("peer", fail, peer=True), Contender("other", peer=True)]
    with made[2].may_fail():
        raise ValueError("while it was made")
    measure.race(made, 1, 2)
    row = Row("some", ["a.avi"], 1, made)
    assert made[2].failed == "ValueError: while it was made"
    assert row.faster(made[0]) is None
    assert r"fails: RuntimeError: no \| such frame" in report.line("loader", row, made[1])


def test_a_failure_of_ours_is_not_a_result():
    with pytest.raises(ZeroDivisionError):
        measure.race([Contender(OURS, lambda k: 1 / 0)], 1, 1)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not hold processes on cores")
def test_measuring_takes_one_core_and_gives_the_others_back():
    before = os.sched_getaffinity(0), torch.get_num_threads()
    with measure.held(one_core=True):
        assert (len(os.sched_getaffinity(0)), torch.get_num_threads()) == (1, 1)
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == before
    with measure.held(one_core=False):
        assert (os.sched_getaffinity(0), torch.get_num_threads()) == (before[0], 1)


def test_a_probe_is_measured_beside_its_scan_and_decoding_alone(numbered):
    row = probing.measure(videos.VideoSet("these", (numbered["h264"], numbered["mpeg4_avi"])), 2)
    assert [c.name for c in row.contenders] == [OURS, SCAN, FLOOR]
    assert row.of_floor(row.contenders[0]) > 1
    assert list(report.totals([row])) == []


# -- videos ------------------------------------------------------------------------------------------------------------


def test_without_videos_it_writes_two_kinds_itself(tmp_path, monkeypatch):
    monkeypatch.delenv("VIDEORES_TEST_DATA", raising=False)
    found = videos.find_sets("loader", [], None, tmp_path, quick=True)
    assert [row.paths[0].suffix for row in found] == [".avi", ".mp4"]
    for row in found:
        truth_THWC = peers.truth(row.paths[0])
        assert len(truth_THWC) == probe(row.paths[0]).num_frames == 40
        assert measure.count_wrong(truth_THWC, range(40), truth_THWC) == 0  # no two alike


@pytest.mark.slow
def test_the_shared_videos_are_the_rows_of_the_targets(shared_data, tmp_path):
    found = {row.name: row for row in videos.find_sets("loader", [shared_data], None, tmp_path)}
    assert set(found) == set(TARGETS["loader"])
    assert [row.name for row in found.values() if row.prepared] == [
        n for n, t in TARGETS["loader"].items() if PREPARED in t
    ]
    assert len({path.parent.name for path in found["ut-interaction-6"].paths}) == 6  # one of each class
    large = probe(found[videos.LARGE].paths[0])
    assert (large.width, large.height, large.num_frames) == (1280, 720, 100)


def test_a_file_is_a_row_and_so_is_a_folder(numbered, tmp_path):
    for name in "abcdefgh":
        numbered_video(tmp_path / "in" / name / "same", 4)
    found = videos.find_sets("loader", [numbered["h264"], tmp_path / "in"], None, tmp_path, prepared=True)
    assert [(row.name, len(row.paths), row.prepared) for row in found] == [("h264.mp4", 1, True), ("in", 6, True)]
    assert [path.parent.name for path in found[1].paths] == ["a", "b", "d", "e", "g", "h"]
    copies = [videos.numbered_copy(path, tmp_path) for path in found[1].paths]
    assert len(set(copies)) == 6  # though all have one name


def test_a_prepared_copy_has_the_same_frames_and_the_short_side(numbered, tmp_path):
    copy = videos.prepared_copy(
        numbered["mpeg4_avi"], TransformConfig(short_side=30, jitter=(30, 31), crop=24), tmp_path
    )
    info = probe(copy)
    assert (info.num_frames, min(info.width, info.height), info.fps) == (40, 32, 25)
    assert read_numbers(peers.truth(copy)) == list(range(40))


@pytest.mark.parametrize("size", [(48, 64), (37, 51)])
def test_a_numbered_copy_shows_its_numbers_however_it_is_cut(tmp_path, size):
    path = numbered_video(tmp_path / "long", 70, "mjpeg_avi", height=size[0], width=size[1])
    copy = videos.numbered_copy(path, tmp_path)
    info = probe(copy)
    assert (info.num_frames, info.height, info.width, info.fps) == (70, *size, 25)
    frames_THWC = peers.truth(copy)
    assert videos.numbers_shown(frames_THWC[:, 3:9, 20:]).tolist() == list(range(70))


@pytest.mark.parametrize("missing", ["nothing.mp4", "empty"])
def test_videos_that_are_not_there_are_named(tmp_path, missing):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=missing):
        videos.find_sets("loader", [tmp_path / missing], None, tmp_path)


def test_a_folder_that_is_not_the_shared_data_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEORES_TEST_DATA", str(tmp_path))
    with pytest.raises(UserError, match="mpeg4_320x240"):
        videos.find_sets("loader", [], None, tmp_path)


def test_a_video_that_does_not_decode_stops_it(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(UnreadableVideo, match=r"bad\.mp4"):
        clip_loading.main(
            arguments(clip_loading, "--videos", tmp_path / "bad.mp4", "--quick", "--out", tmp_path / "out")
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--rounds", "many"], ["--clips", "-1"], ["--cores", "2"]])
def test_numbers_that_make_no_sense_are_refused(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        arguments(clip_loading, *words)
    assert stopped.value.code == 2
    assert words[0] in capsys.readouterr().err


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tool_works_anywhere_and_writes_a_table_and_every_time(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "VIDEORES_TEST_DATA"}
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "loader", "--quick"]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    folder = tmp_path / "results" / "benchmark" / "loader"
    table, record = (folder / "table.md").read_text(), json.loads((folder / "results.json").read_text())
    assert table in process.stdout
    assert f"wrote {Path('results', 'benchmark', 'loader', 'table.md')}" in process.stdout
    assert {"cpu_model", "cores_usable", "versions", "git", "seed", "date", "command", "cores"} <= set(record)
    assert (record["protocol"], record["rounds"], record["seed"]) == ("16x2@112/128", 2, 0)
    assert [row["videos"] for row in record["rows"]] == ["moving_mpeg4.avi", "moving_h264.mp4"]
    for row in record["rows"]:
        made = {c["name"]: c for c in row["contenders"]}
        assert {OURS, PREPARED, FRAMES, FLOOR, *PEERS} <= set(made)
        assert all(len(c["elapsed_ms"]) == 2 and c["ms"] == sum(c["cpu_ms"]) / 2 for c in made.values())
        peer = min(made[name]["ms"] for name in PEERS)
        assert made[OURS]["times_fastest_peer"] == pytest.approx(peer / made[OURS]["ms"])
        assert made[OURS]["of_floor"] == pytest.approx(made[OURS]["ms"] / made[FLOOR]["ms"])
        assert made[OURS]["wrong"] == made[PREPARED]["wrong"] == 0
        assert all(f"| {row['videos']} | {name} |" in table for name in made)
    assert "torchvision.transforms.functional_tensor" not in sys.modules


def test_test_views_are_measured_with_prepared_copies_on_request(numbered, tmp_path, capsys):
    words = ["--videos", numbered["h264"], "--rounds", 1, "--out", tmp_path]
    assert view_loading.main(arguments(view_loading, *words, "--prepared")) == 0
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["protocol"] == "16x2@112/128 10x3"
    names = [c["name"] for c in record["rows"][0]["contenders"]]
    assert PREPARED in names
    assert names[-2:] == ["one view at a time, decord", "one view at a time, pyav"]
    assert "ms a video" in capsys.readouterr().out


def test_a_configuration_gives_clips_sizes_seed_and_videos(tmp_path):
    data = write_ucf101(tmp_path / "data")
    data |= {
        "val": "none",
        "clip": {"frames": 4, "stride": 3, "repeat": 2},
        "transform": {"short_side": 40, "crop": 32},
    }
    tiny = {"run": {"seed": 5}, "data": data, "model": {"name": "r3d_18"}, "train": {"epochs": 1}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    clip_loading.main(arguments(clip_loading, "--cfg", tmp_path / "tiny.yaml", "--quick", "--out", tmp_path / "out"))
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (record["protocol"], record["seed"]) == ("4x3@32/40", 5)
    assert [(row["videos"], len(row["files"])) for row in record["rows"]] == [("tiny", 6)]


# -- memory ------------------------------------------------------------------------------------------------------------


def test_memory_is_watched_over_all_reads(numbered, tmp_path, capsys):
    words = ["--videos", numbered["h264"], numbered["mpeg4_avi"], "--reads", 40, "--out", tmp_path]
    assert memory.main(arguments(memory, *words)) == 0
    record = json.loads((tmp_path / "results.json").read_text())
    assert (record["reads"], record["videos"]) == (40, ["h264.mp4", "mpeg4_avi.avi"])
    assert 0 < record["before_MiB"] <= record["peak_MiB"] >= record["after_MiB"]
    assert "slope KiB per 1000 reads" in (tmp_path / "table.md").read_text()


def test_the_slope_is_of_what_follows_the_warm_up():
    reads = np.arange(0, 1001, 10)
    rising = np.where(reads < 100, 2**20 * reads, 100 * 2**20 + 512 * (reads - 100))
    found = memory.summary(reads, rising)
    assert found["slope_KiB_per_1000_reads"] == 500  # 512 bytes a read
    assert (found["before_MiB"], found["after_warm_up_MiB"]) == (0, 100)
    assert found["peak_MiB"] == found["after_MiB"] == round(100 + 900 * 512 / 2**20, 1)


def test_a_table_replaces_the_one_on_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Text\n\n<!-- probe -->\nold\n<!-- end of probe -->\n\nmore\n")
    row = Row("a.mp4", ["a.mp4"], 1, [Contender(OURS, cpu_ms=[2.0], elapsed_ms=[2.0])])
    report.save(tmp_path / "probe", "probe", {"protocol": "p", "cores": "one", "rounds": 1, "seed": 0}, [row])
    pages.write_part(page, "probe", (tmp_path / "probe" / "table.md").read_text())
    text = page.read_text()
    assert text.startswith("# Text\n\n<!-- probe -->\n")
    assert text.endswith("<!-- end of probe -->\n\nmore\n")
    assert report.line("probe", row, row.contenders[0]) in text.splitlines()
    assert "old" not in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120
    with pytest.raises(UserError, match="<!-- loader -->"):
        pages.write_part(page, "loader", "text")


def test_the_page_of_the_documentation_has_a_place_for_each_measurement():
    lines = pages.PAGE.read_text().splitlines()
    for name in pages.MEASUREMENTS:
        assert lines.index(f"<!-- {name} -->") < lines.index(f"<!-- end of {name} -->")
