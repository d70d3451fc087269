"""One predictor, one answer: predict, windows, streams and evaluate score the same frames alike."""

import shutil
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.checkpoints import make_task, save
from helpers.commands import environment, forked, read_result, result, succeeded
from helpers.videos import numbered_video, read_numbers

import videores
from videores.data.probe import probe
from videores.data.video.sequential import open_video
from videores.errors import UnreadableVideo, UserError
from videores.inference import stream
from videores.inference.predictor import Predictor
from videores.inference.preprocessing import Preprocessing
from videores.inference.source import TrainedNetwork
from videores.models import create_model


class Tracked(np.ndarray):
    """An array that can be referred to weakly, with an identity of its own."""

    __hash__ = object.__hash__

    def __new__(cls, values):
        return np.asarray(values).view(cls)


DEPTH = 3
CAUSAL = {"shift": 2, "causal": True, "layers": [2, 1]}
NAMES = [f"test/{i:02}.mp4" for i in range(7)]


@pytest.fixture(scope="module")
def predictor(trained):
    return videores.load(trained[0] / "runs" / "tiny")


@pytest.fixture(scope="module")
def all_clips(trained, tmp_path_factory):
    """(metrics, arrays) of a test whose clips follow each other, by tools/evaluate.py."""
    place = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(trained[0], place, dirs_exist_ok=True)
    (process,) = forked([("evaluate.py", "--run", "runs/tiny", "test.clips=all")], place)
    succeeded(process)
    (folder,) = (place / "runs" / "tiny" / "test").glob("*allx1*")
    return read_result(folder)


def random_predictor(name="f_r2d_18", clip=None, views=None, **model):
    torch.manual_seed(0)
    network = create_model(name, 3, **{"layers": [1], "width": 8, "stem": "small", **model}).eval()
    preprocessing = Preprocessing(
        clip=clip or {"frames": 8}, transform={"short_side": 32, "crop": 32}, views=views or {}
    )
    return Predictor(TrainedNetwork("random", network, ("a", "b", "c"), preprocessing, batch_size=4))


def logits_of(predictions):
    return np.concatenate([one.logits_KN for one in predictions])


@pytest.mark.parametrize("workers", [0, 2])
def test_whole_videos_have_the_scores_of_the_test_bit_for_bit(trained, predictor, workers):
    answers = list(predictor.predict_videos(trained[0] / "data", NAMES, workers=workers))
    assert [path for path, _ in answers] == NAMES
    _, arrays = result(trained[0] / "runs" / "tiny")
    assert arrays["video"].tolist() == NAMES
    assert np.array_equal(np.stack([answer.logits_KN for _, answer in answers]), arrays["logits"])


def test_windows_have_the_scores_of_a_test_of_all_clips_bit_for_bit(trained, predictor, all_clips):
    _, arrays = all_clips
    for name, logits_KN in zip(NAMES, arrays["logits"], strict=True):
        windows = list(predictor.predict_windows(trained[0] / "data" / name))
        assert np.array_equal(logits_of(windows), logits_KN[np.isfinite(logits_KN[:, 0])]), name


def test_a_stream_has_the_same_scores_bit_for_bit_in_batches_as_large(trained, predictor):
    path = trained[0] / "data" / NAMES[0]
    windows = list(predictor.predict_windows(path))
    with open_video(path) as opened:
        frames = [frame for _, frame in opened.frames]
    alike = list(predictor.stream(frames, batch_size=predictor.network.batch_size))
    assert np.array_equal(logits_of(alike), logits_of(windows))
    times = [[(one.start, one.end) for one in some] for some in (alike, windows)]
    np.testing.assert_allclose(*times)
    single = list(predictor.stream(iter(frames)))
    np.testing.assert_allclose(logits_of(single), logits_of(windows), atol=1e-5)


@pytest.mark.parametrize("crops", [1, 3, 10, "full"])
def test_windows_are_cut_as_the_views_of_a_test(shared_data, crops):
    clip, views = {"frames": 4, "stride": 3}, {"clips": "all", "crops": crops}
    one = random_predictor("r3d_18", clip, views)
    path = next((shared_data / "ut-interaction-6").rglob("*.avi"))
    clips_VTHWC = one.preprocessing.read_views(path)
    with torch.inference_mode():
        wanted = torch.cat([one.model(one.preprocessing.normalize(clip[None])) for clip in clips_VTHWC])
    found = logits_of(one.predict_windows(path))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("clip", [{"frames": 8}, {"frames": 4, "fps": 10}])
def test_networks_that_see_single_frames_score_each_frame_once(tmp_path, crops, clip):
    path = numbered_video(tmp_path / "a", 60)
    one = random_predictor(clip=clip, views={"crops": crops})
    seen, features = [], one.model.features
    one.model.features = lambda clips: seen.append(len(clips)) or features(clips)
    found = list(one.predict_windows(path, every=0.2))
    assert len(found) == pytest.approx(11, abs=1)
    shown = 60 if "fps" not in clip else sum(seen) // crops
    assert sum(seen) == crops * shown <= crops * 60
    one.model.features = features
    whole = Predictor(replace(one.network, model=lambda clips: one.model(clips)))  # of which nothing is known
    np.testing.assert_allclose(logits_of(found), logits_of(whole.predict_windows(path, every=0.2)), atol=1e-5)


@pytest.mark.parametrize("every", [0.04, 0.12, 0.2, 0.6])
@pytest.mark.parametrize("clip", [{"frames": 8}, {"frames": 6, "stride": 2}, {"frames": 6, "fps": 10}])
def test_causal_shifts_score_only_what_depends_on_the_window(tmp_path, every, clip):
    path = numbered_video(tmp_path / "a", 40)
    one = random_predictor(clip=clip, views={"crops": 3}, **CAUSAL)
    seen, features = [], one.model.features
    one.model.features = lambda clips: seen.append(clips.shape[2]) or features(clips)
    found = list(one.predict_windows(path, every=every))
    one.model.features = features
    whole = Predictor(replace(one.network, model=lambda clips: one.model(clips)))  # of which nothing is known
    np.testing.assert_allclose(logits_of(found), logits_of(whole.predict_windows(path, every=every)), atol=1e-5)
    if every == 0.04 and "fps" not in clip:  # a window a frame: its new frame and its first 3, after one for each phase
        phases = clip.get("stride", 1)
        assert sum(seen) == phases * clip["frames"] + (len(found) - phases) * (1 + DEPTH)


def test_what_causal_shifts_keep_does_not_grow(tmp_path, monkeypatch):
    kept, forget = [], stream._CausalScorer.forget

    def count(scorer, number):
        forget(scorer, number)
        kept.append(max(len(scorer.features), len(scorer.shifted)))

    monkeypatch.setattr(stream._CausalScorer, "forget", count)
    list(random_predictor(**CAUSAL).predict_windows(numbered_video(tmp_path / "a", 60), every=0.04))
    assert len(kept) > 50
    assert 0 < max(kept) <= 8


def test_networks_that_see_time_score_windows_whole(tmp_path):
    path = numbered_video(tmp_path / "a", 30)
    deep = {"shift": 8, "causal": True, "layers": [7]}  # every feature depends on the window's first frame
    for model in ({"shift": 8}, deep, {"name": "r3d_18"}, {"stage_pool": True, "layers": [1, 1]}):
        one = random_predictor(**model)
        found = list(one.predict_windows(path, every=0.2))
        with torch.inference_mode():
            start = round(found[1].start * 25)
            with open_video(path) as opened:
                frames = np.stack([frame for _, frame in opened.frames][start : start + 8])
            scaled = np.stack([one.preprocessing.scale(frame) for frame in frames])
            clip = one.preprocessing.cut_views(scaled, np.arange(8)[None])
            wanted = one.model(one.preprocessing.normalize(clip))
        np.testing.assert_allclose(found[1].logits_KN, wanted, atol=1e-5)


def test_loading_and_predicting_imports_no_lightning(trained):
    path = trained[0] / "data" / NAMES[0]
    code = (
        "import sys, videores\n"
        "assert 'torch' not in sys.modules\n"
        f"one = videores.load({str(trained[0] / 'runs' / 'tiny')!r})\n"
        f"print(one.predict({str(path)!r}).label, len(list(one.predict_windows({str(path)!r}))))\n"
        "sys.exit(' '.join({'lightning', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_predictions_tell_classes_and_seconds(trained, predictor):
    answer = predictor.predict(trained[0] / "data" / NAMES[0])
    assert (answer.start, answer.end) == (0, pytest.approx(0.48))
    assert answer.spans == (pytest.approx((0, 0.32)), pytest.approx((0.16, 0.48)))  # 2 clips of 8 of 12 frames
    assert answer.label == answer.top(1)[0][0] == predictor.classes[int(answer.scores_N.argmax())]
    assert sum(probability for _, probability in answer.top(6)) == pytest.approx(1)
    assert not answer.is_short
    assert predictor.predict(trained[0] / "data" / NAMES[6]).is_short


def test_seconds_are_those_of_the_time_stamps(shared_data):
    one = random_predictor(views={"clips": 2})
    path = shared_data / "videos" / "h264_variable_rate.mp4"
    path = path if path.exists() else next((shared_data / "videos").glob("*.mp4"))
    info, answer = probe(path), one.predict(path)
    with open_video(path) as opened:
        seconds = [seconds for seconds, _ in opened.frames]
    assert len(seconds) == info.num_frames
    assert answer.spans[0][0] == 0
    assert answer.spans[1][0] == pytest.approx(seconds[info.num_frames - 8], abs=1e-6)


def test_a_file_that_stops_to_decode_gives_the_windows_before_that(tmp_path, predictor):
    path = numbered_video(tmp_path / "a", 400, "mpeg4_avi", height=96, width=128)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    found = []
    with pytest.raises(UnreadableVideo):
        predictor.predict(path)
    for window in predictor.predict_windows(path):
        found.append(window)
    assert 15 < len(found) < 35


def test_scores_that_are_not_finite_are_refused(tmp_path):
    one = random_predictor("r3d_18")
    one.model.fc.weight.data.fill_(torch.nan)
    with pytest.raises(UserError, match="finite"):
        one.predict(numbered_video(tmp_path / "a", 12))


def test_sequential_frames_are_the_frames(numbered):
    for path in numbered.values():
        with open_video(path) as opened:
            seconds, frames = zip(*opened.frames, strict=True)
        assert read_numbers(np.stack(frames)) == list(range(40))
        assert seconds == pytest.approx(np.arange(40) / 25, abs=0.021)
        assert sorted(set(seconds)) == list(seconds)


def test_a_checkpoint_of_its_own_loads(tmp_path):
    path = save(tmp_path / "own.ckpt", make_task())
    assert videores.load(path).classes == ("a", "b", "c")


@pytest.mark.parametrize("every", [None, 0.2])
@pytest.mark.parametrize("name", ["f_r2d_18", "r3d_18"])
def test_frames_of_a_long_stream_are_let_go(name, every):
    """Scaled frames, which a 40 x 32 picture makes new ones."""
    one, alive, scaled = random_predictor(name), [], weakref.WeakSet()
    scale = type(one.preprocessing).scale

    def watch(self, frame_HWC):
        frame = Tracked(scale(self, frame_HWC))
        scaled.add(frame)
        alive.append(len(scaled))
        return frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(one.preprocessing), "scale", watch)
        frames = (np.full((40, 50, 3), number % 256, np.uint8) for number in range(400))
        assert sum(1 for _ in one.stream(frames, every=every)) >= 50
    assert max(alive) < 30
