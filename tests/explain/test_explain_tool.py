"""tools/explain.py: what is explained is what the test scores, and every file says so."""

import html
import json
import shutil

import explain
import numpy as np
import pytest
import torch
from helpers.commands import forked, succeeded
from helpers.videos import numbered_video, read_numbers

import videores
from videores.data.decode import read_frames
from videores.data.synthetic import writing
from videores.data.video.sequential import open_video
from videores.errors import UserError
from videores.explain import choice, commands, overlay, record
from videores.explain.checking import check_method, keep_for_check
from videores.explain.explanation import explain_video
from videores.explain.maps import METHODS
from videores.inference.predictor import Predictor
from videores.inference.preprocessing import Preprocessing
from videores.inference.source import TrainedNetwork
from videores.models import create_model
from videores.reporting import page
from videores.reporting.explanation import plot_explanation


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A working folder with a run that may be changed, data/, and a.mp4 of 60 frames."""
    folder = tmp_path_factory.mktemp("explain")
    shutil.copytree(trained[0], folder, dirs_exist_ok=True)
    numbered_video(folder / "a", 60, height=32, width=48)
    return folder


@pytest.fixture
def run(place, monkeypatch, capsys):
    """Runs the tool in this process: run(*arguments) -> exit code and what it printed."""

    def call(*arguments, source="runs/tiny"):
        monkeypatch.chdir(place)
        monkeypatch.setattr("sys.argv", ["explain.py", source, *map(str, arguments)])
        return explain.main(), capsys.readouterr()

    return call


def random_predictor(name="r3d_18", views=None, **model):
    torch.manual_seed(0)
    network = create_model(name, 3, **{"layers": [1], "width": 8, "stem": "small", **model}).eval()
    clip, transform = {"frames": 8}, {"short_side": 32, "crop": 24}
    preprocessing = Preprocessing.model_validate({"clip": clip, "transform": transform, "views": views or {}})
    return Predictor(TrainedNetwork("random", network, ("a", "b", "c"), preprocessing))


def test_the_tool_has_every_method():
    assert list(METHODS) == list(explain.METHODS)


@pytest.mark.parametrize("crops", [1, 3, 10])
def test_the_clips_that_are_explained_are_those_that_are_scored(place, crops):
    predictor = random_predictor(views={"clips": 3, "crops": crops})
    one = explain_video(predictor, place, "a.mp4")
    assert len(one.maps_VTHW) == 3 * crops == len(one.prediction.logits_KN)
    clips = predictor.preprocessing.normalize(torch.from_numpy(one.clips_VTHWC))
    assert np.array_equal(predictor.model(clips).detach().numpy(), one.prediction.logits_KN)
    frames_THWC = read_frames(place / "a.mp4", np.arange(60), short_side=32)
    for clip, frame_T, (top, left, height, width), flip in zip(
        one.clips_VTHWC, one.frame_VT, one.box_V4, one.flip_V, strict=True
    ):
        part = frames_THWC[frame_T, top : top + height, left : left + width]
        assert np.array_equal(clip, part[:, :, ::-1] if flip else part)
    assert one.flip_V.sum() == (15 if crops == 10 else 0)


def test_a_video_has_sheet_overlay_and_arrays(run, place):
    code, printed = run("a.mp4", "--out", "out")
    assert code == 0
    assert "a.mp4" in printed.out
    found = json.loads((place / "out/explanations.json").read_text())
    (entry,) = found["videos"]
    assert (found["method"], found["layer"], entry["map"]) == ("gradcam", "layer1", [8, 16, 16])
    predictor = videores.load(place / "runs/tiny")
    assert entry["label"] == entry["predicted"] == predictor.predict(place / "a.mp4").label
    with np.load(place / "out/a/attribution.npz") as arrays:
        assert arrays["maps"].shape == (2, 8, 16, 16)
        assert arrays["frame"].shape == (2, 8)
        assert np.array_equal(arrays["logits"], predictor.predict(place / "a.mp4").logits_KN)
        assert arrays["classes"][arrays["label"]] == entry["label"]
    assert (place / "out" / entry["picture"]).stat().st_size > 10_000
    with open_video(place / "a.mp4") as source, open_video(place / "out" / entry["overlay"]) as drawn:
        assert [round(seconds, 4) for seconds, _ in source.frames] == [round(seconds, 4) for seconds, _ in drawn.frames]


def test_heat_lies_where_the_views_were(place):
    """A view's map is 1 in its lower left quarter, in its second half."""
    predictor = random_predictor(views={"clips": 1, "crops": 3})
    one = explain_video(predictor, place, "a.mp4")
    map_THW = np.zeros((2, 8, 8), np.float32)
    map_THW[1, 4:, :4] = 1
    for view, flip in ((0, False), (2, False), (2, True)):
        chosen = {name: getattr(one, name)[[view]] for name in ("view_V", "frame_VT", "box_V4")}
        shown = type(one)(**{**vars(one), **chosen, "maps_VTHW": map_THW[None], "flip_V": np.array([flip])})
        first, last = shown.frame_VT[0][[0, -1]]
        assert overlay._find_heat(shown, first - 1) is None
        assert overlay._find_heat(shown, last + 1) is None
        assert overlay._find_heat(shown, first).max() == 0
        heat_HW = overlay._find_heat(shown, last)
        assert heat_HW.shape == (32, 48)
        top, left, height, width = shown.box_V4[0]
        y, x = np.argwhere(heat_HW > 0.5).mean(0)
        assert abs(y - (top + 0.75 * height)) < 2
        assert abs(x - (left + (0.75 if flip else 0.25) * width)) < 2
        assert shown.view_V[0] == view


def test_paint_says_for_and_against():
    grey = np.full((1, 3, 3), 100, np.uint8)
    painted = overlay.paint_heat(grey, np.array([[2.0, 0.0, -1.0]]))[0].astype(int)
    assert painted[0, 0] > 180 > 100 > painted[0, 2]
    assert painted[1].tolist() == [100] * 3
    assert painted[2, 2] > 180 > 100 > painted[2, 0]


def test_a_zero_map_is_said_and_not_drawn(place, tmp_path):
    predictor = random_predictor("f_r2d_18")
    options = commands.Options(tmp_path, plot_explanation, method="order")
    assert commands.explain_inputs(predictor, [choice.Choice(place, "a.mp4")], options) == 0
    (entry,) = record.read_record(tmp_path / record.FILE_NAME)["videos"]
    assert entry["zero"]
    with open_video(place / "a.mp4") as source, open_video(tmp_path / entry["overlay"]) as drawn:
        for (_, frame), (_, other) in zip(source.frames, drawn.frames, strict=True):
            assert np.abs(frame[16:].astype(int) - other[16:]).mean() < 8  # but for the label, and the coding
    text = (tmp_path / "a/sheet.svg").read_text()
    assert "the map is zero" in text
    assert "step 1" not in text


def test_worst_mistakes_and_videos_of_each_class_are_those_of_the_test(place):
    (folder,) = (place / "runs/tiny/test").iterdir()
    worst = [mistake["video"] for mistake in json.loads((folder / "metrics.json").read_text())["worst"]]
    chosen = choice.choose_tested(place / "runs/tiny", 2, 1, [f"data.root={place / 'data'}"])
    assert [one.path for one in chosen[:2]] == worst[:2]
    assert {one.path for one in chosen} == {*worst[:2], *(f"test/{i:02}.mp4" for i in range(6))}
    assert len(chosen) == len({one.path for one in chosen})
    assert {one.truth for one in chosen} == {"up", "down", "left", "right", "near", "far"}
    assert all((one.root / one.path).is_file() for one in chosen)


def test_the_report_shows_what_was_explained_and_whether_it_was_checked(run, place):
    code, printed = run("--worst", 2, "--check", "--layer", "stem")
    assert code == 0
    assert "report.html" in printed.out
    folder = place / "runs/tiny/explain/gradcam-stem"
    text = (place / "runs/tiny/report.html").read_text()
    assert "What decides" in text
    assert "gradcam of stem</h3>" in text
    assert "was not checked" not in text
    lines = json.loads((folder / "explanations.json").read_text())["check"]
    assert all(line in printed.out and html.escape(line) in text for line in lines)
    (checked,) = json.loads((folder / "check.json").read_text())["methods"].values()
    assert checked["videos"] == 2
    assert checked["pointing"] is None
    (folder / "explanations.json").write_text("{")
    text = page.write_page(place / "runs/tiny").read_text()
    assert "cannot be shown" in text


def test_checks_know_where_the_sprite_is(tmp_path):
    writing.prepare_dataset(tmp_path, 3, False, {"train": 8, "test": 8}, name="motion8")
    predictor = random_predictor(views={"clips": 2})
    chosen = [choice.Choice(tmp_path, path.relative_to(tmp_path).as_posix()) for path in tmp_path.glob("test/*.mp4")]
    kept = [keep_for_check(predictor, one, explain_video(predictor, tmp_path, one.path)) for one in chosen[:3]]
    for clip in kept:
        bright_THW = clip.clip_THWC.max(-1) > 0.575 * 255  # backgrounds are below 0.55, sprites above 0.6
        assert (clip.mask_THW & bright_THW).sum() > 0.7 * (clip.mask_THW | bright_THW).sum()
    (found,) = check_method(predictor, kept, "gradcam", "layer1")["methods"].values()
    assert found["pointing"]["uniform"] == pytest.approx(
        100 * np.mean([clip.mask_THW.mean() for clip in kept]), rel=1e-3
    )
    kept[0] = kept[0]._replace(clip_THWC=kept[0].clip_THWC[:, :, 1:])
    with pytest.raises(UserError, match="one size"):
        check_method(predictor, kept, "gradcam", "layer1")


@pytest.fixture
def add(tmp_path):
    """Explains videos into a folder with random weights: add(*paths, ...) -> the record. Sheets are empty files."""

    def call(*paths, predictor=None, method="order", code=0, **options):
        predictor = predictor or random_predictor()
        options = commands.Options(tmp_path / "out", lambda path, one: path.touch(), method=method, **options)
        assert commands.explain_inputs(predictor, [choice.Choice(p.parent, p.name) for p in paths], options) == code
        return record.read_record(tmp_path / "out" / record.FILE_NAME)

    return call


@pytest.fixture
def videos(tmp_path):
    """a.mp4, b.mp4 and another a.mp4, of 12 frames."""
    (tmp_path / "more").mkdir()
    return [numbered_video(tmp_path / name, 12, height=32, width=32) for name in ("a", "b", "more/a")]


def test_videos_of_one_name_get_folders_of_their_own_and_bad_ones_are_named(add, videos, tmp_path, capsys):
    (tmp_path / "bad.mp4").write_text("no video")
    found = add(videos[0], tmp_path / "bad.mp4", videos[2], code=1)
    assert "bad.mp4" in capsys.readouterr().err
    assert [entry["picture"] for entry in found["videos"]] == ["a/sheet.png", "a-2/sheet.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "a-2", "explanations.json"]


def test_another_command_adds_its_videos_and_loses_none_nor_the_check(add, videos, tmp_path):
    a, b, other = videos
    add(a, b, report_check=lambda path, found: [f"{len(found['methods'])} method"])
    found = add(other, a, a)
    shown = [(entry["file"], entry["picture"]) for entry in found["videos"]]
    assert shown == [(str(other), "a-2/sheet.png"), (str(a), "a/sheet.png"), (str(b), "b/sheet.png")]
    assert found["check"] == ["1 method"]
    for label in "abc":  # one of them is predicted
        found = add(b, label=label)
    labels = [entry["label"] for entry in found["videos"] if entry["video"] == "b.mp4"]
    assert sorted(labels) == list("abc")
    assert len({entry["arrays"] for entry in found["videos"]}) == 5
    assert all((tmp_path / "out" / entry["arrays"]).is_file() for entry in found["videos"])


def test_a_folder_does_not_mix_methods_or_weights(add, videos):
    add(videos[0])
    with pytest.raises(UserError, match=r"method order, not frames.*--out"):
        add(videos[0], method="frames")
    changed = random_predictor()
    changed.network.model.fc.weight.data += 1
    with pytest.raises(UserError, match=r"weights .*--out"):
        add(videos[0], predictor=changed)


def test_a_check_of_a_single_video_that_decodes_is_refused_after_it_is_written(add, videos, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(UserError, match="--check"):
        add(videos[0], tmp_path / "bad.mp4", report_check=lambda path, found: [])
    assert len(add(videos[1])["videos"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("VIDEO", "--worst")),
        (("a.mp4", "--class", "rigth"), ("--class rigth", "right")),
        (("a.mp4", "--layer", "layer9"), ("layer9", "layer1")),
        (("a.mp4", "--layer", "fc"), ("fc", "maps")),
        (("a.mp4", "--layer", "layer1", "--method", "ig"), ("--layer", "ig")),
        (("a.mp4", "--check"), ("--check", "--per-class")),
        (("-",), ("-", "file")),
        (("--per-class", "1", "--layer", "layer9", "data.root=data"), ("layer9",)),
    ],
)
def test_wrong_options_are_refused(run, arguments, words):
    with pytest.raises(UserError) as error:
        run(*arguments)
    assert all(word in str(error.value) for word in words)


def test_a_source_without_a_test_has_no_worst_mistakes(run, place, tmp_path):
    with pytest.raises(UserError, match="--worst"):
        run("--worst", 1, source="runs/tiny/checkpoints/last.ckpt")
    shutil.copytree(place / "runs/tiny", tmp_path / "untested", ignore=shutil.ignore_patterns("test"))
    with pytest.raises(UserError, match=r"evaluate\.py"):
        run("--per-class", 1, source=str(tmp_path / "untested"))


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_exported_networks_are_explained_without_gradients(run, place, suffix):
    if not (place / f"network{suffix}").exists():
        arguments = ("--run", "runs/tiny", "--format", suffix[1:], "--out", f"network{suffix}")
        (process,) = forked([("export.py", *arguments)], place)
        succeeded(process)
    for method in ("gradcam", "ig"):
        with pytest.raises(UserError, match=r"gradients.*occlusion"):
            run("a.mp4", "--method", method, source=f"network{suffix}")
    with pytest.raises(UserError, match="--check"):
        run("a.mp4", "a.mp4", "--method", "order", "--check", source=f"network{suffix}")
    out = f"exported{suffix}"
    assert run("a.mp4", "--method", "order", "--out", out, source=f"network{suffix}")[0] == 0
    assert run("a.mp4", "--method", "order", "--out", "own")[0] == 0
    with np.load(place / out / "a/attribution.npz") as ours, np.load(place / "own/a/attribution.npz") as theirs:
        np.testing.assert_allclose(ours["maps"], theirs["maps"], atol=1e-5)


def test_frames_between_those_of_a_clip_have_the_nearer_ones_map(place):
    predictor = random_predictor()
    predictor.network.preprocessing.clip.__dict__["stride"] = 4
    one = explain_video(predictor, place, "a.mp4", label=2)
    assert np.diff(one.frame_VT[0]).tolist() == [4] * 7
    assert read_numbers(read_frames(place / "a.mp4", one.frame_VT[0])) == one.frame_VT[0].tolist()
    step = lambda number: overlay._find_heat(one, number)
    assert np.array_equal(step(one.frame_VT[0][1]), step(one.frame_VT[0][1] + 1))
    assert not np.array_equal(step(one.frame_VT[0][1]), step(one.frame_VT[0][1] + 3))


def test_videos_of_shards_are_explained_and_checked_as_their_files(place, run):
    """The network scored them, so it explains them; only the overlay needs a file."""
    succeeded(*forked([("prepare.py", "csv", "--root", "data", "--shards", "shards")], place))
    kept = {}
    for root in ("data", "shards"):
        code, printed = run("--per-class", 2, "--out", f"of-{root}", "--check", f"data.root={root}")
        assert code == 0, printed.err
        entries = json.loads((place / f"of-{root}/explanations.json").read_text())["videos"]
        kept[root] = {one["video"]: np.load(place / f"of-{root}" / one["arrays"])["maps"] for one in entries}
    assert kept["data"].keys() == kept["shards"].keys() != set()
    assert all(np.array_equal(kept["data"][name], kept["shards"][name]) for name in kept["data"])
    assert "overlay" in printed.err
