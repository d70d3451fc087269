"""motiontone and motionhue: one stream knows an eighth of the answers at most, counted on the files that are written.

Each test decodes what a stream sees. `best_accuracy` is that of the best of all functions of it.
"""

from collections import Counter
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.embedded import best_accuracy, decode, rows
from helpers.embedded import windows as count_windows

from videores.data.decode import read_frames
from videores.data.probe import probe
from videores.data.synthetic import datasets, sounds, writing
from videores.data.video import flow
from videores.data.video.encode import SOUND_RATE, write_video

SIZES = {"train": 64, "test": 128}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    for name in ("motiontone", "motionhue"):
        writing.prepare_dataset(folder / name, 3, False, SIZES, name=name)
    return {name: folder / name for name in ("motiontone", "motionhue")}


@pytest.fixture(scope="module")
def tested(roots):
    """name -> [(label, path, frames_THWC)] of the test videos."""
    read = lambda root, row: (row["label"], root / row["path"], decode(root / row["path"]))
    return {name: [read(root, row) for row in rows(root, "test")] for name, root in roots.items()}


def decode_sound(path):
    """(samples_S, seconds from the first frame to the first sample) of a sequential decode."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        frames = [frame for frame in container.decode(audio=0) if frame.samples]
    assert {(frame.sample_rate, frame.layout.name) for frame in frames} == {(SOUND_RATE, "mono")}
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]), frames[0].time - first


def find_tone(samples_S):
    """The tone nearest, in octaves, to the strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples_S * np.hanning(len(samples_S)), 8 * len(samples_S)))
    hertz = spectrum.argmax() * SOUND_RATE / (8 * len(samples_S))
    return min(sounds.TONES, key=lambda tone: abs(np.log(hertz / tone)))


# -- motiontone -------------------------------------------------------------------------------------------------------


def test_every_clip_has_every_track(tested):
    labels = [label for label, _, _ in tested["motiontone"]]
    clips = [frames_THWC.tobytes() for _, _, frames_THWC in tested["motiontone"]]
    tracks = [decode_sound(path)[0].tobytes() for _, path, _ in tested["motiontone"]]
    assert set(Counter(clips).values()) == set(Counter(tracks).values()) == {8}
    assert len(set(zip(clips, tracks, strict=True))) == len(labels)
    assert best_accuracy(clips, labels) == best_accuracy(tracks, labels) == 100 / 8
    assert best_accuracy(zip(clips, tracks, strict=True), labels) == 100


def test_without_the_order_of_frames_half_of_the_classes_stay_open(tested):
    labels = [label for label, _, _ in tested["motiontone"]]
    sets = [count_windows(frames_THWC, 1) for _, _, frames_THWC in tested["motiontone"]]
    tracks = [decode_sound(path)[0].tobytes() for _, path, _ in tested["motiontone"]]
    assert best_accuracy(sets, labels) == 100 / 16
    assert best_accuracy(zip(sets, tracks, strict=True), labels) == 50


def test_the_sound_is_the_tone_of_the_class_at_any_time(tested):
    for label, path, _ in tested["motiontone"]:
        samples_S, begin = decode_sound(path)
        tone = int(label.split("hz")[0])
        assert abs(begin) < 1e-3
        assert abs(len(samples_S) - 0.64 * SOUND_RATE) <= 1024
        for start in range(0, 10000 - 800, 2300):  # windows of 50 ms
            assert find_tone(samples_S[start : start + 800]) == tone


def test_tones_are_those_that_are_drawn_but_for_coding(tested):
    drawn = datasets.render_sounds(datasets.SETS["motiontone"], 3, "test", 0)
    for sound_S, (_, path, _) in zip(drawn, tested["motiontone"][: len(drawn)], strict=True):
        decoded_S = decode_sound(path)[0][: len(sound_S)]
        assert np.corrcoef(decoded_S, sound_S[: len(decoded_S)])[0, 1] > 0.9
    amplitudes, apart = [np.abs(np.fft.rfft(sound_S)).max() for sound_S in drawn[:8]], len({s.tobytes() for s in drawn})
    assert apart == 8
    assert max(amplitudes) > 1.2 * min(amplitudes)


def test_sounds_are_those_of_version_1():
    """Who changes what is drawn must raise the version. The last bit of a sine differs between processors."""
    embedded = datasets.SETS["motiontone"]
    shown = [np.abs(datasets.render_sounds(embedded, 0, split, 3)[5][:100]).mean() for split in ("train", "test")]
    np.testing.assert_allclose(shown, FIRST_SOUNDS, rtol=1e-4)
    assert embedded.version == 1


FIRST_SOUNDS = [0.231026, 0.246169]


def test_frames_of_a_file_with_sound_are_those_without(tmp_path):
    frames_THWC = datasets.render_scene(datasets.SETS["motiontone"], 3, "test", 0)[9]
    tone_S = sounds.draw_tone(600, 0.64, np.random.default_rng(0))
    write_video(tmp_path / "silent.mp4", frames_THWC, Fraction(25), **writing.CODING)
    write_video(tmp_path / "loud.mp4", frames_THWC, Fraction(25), sound_S=tone_S, **writing.CODING)
    silent, loud = (probe(tmp_path / name) for name in ("silent.mp4", "loud.mp4"))
    assert (silent.has_audio, loud.has_audio) == (False, True)
    assert (loud.num_frames, loud.fps, loud.digest) == (silent.num_frames, silent.fps, silent.digest)
    for name in ("silent.mp4", "loud.mp4"):
        shown = read_frames(tmp_path / name, [15, 0, 7])
        np.testing.assert_array_equal(shown, decode(tmp_path / "silent.mp4")[[15, 0, 7]])


# -- motionhue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_flow_does_not_know_the_hue(tested, method):
    pytest.importorskip("cv2")
    labels = [label for label, _, _ in tested["motionhue"]][:32]
    seen = [see_flow(frames_THWC, method) for _, _, frames_THWC in tested["motionhue"]][:32]
    assert best_accuracy(seen, labels) == 100 / 8
    motions = [label.partition("_")[2] for label in labels]
    assert best_accuracy(seen, motions) == 100


def see_flow(frames_THWC, method):
    pictures = flow.compute_flow(frames_THWC, np.arange(16) / 25, method, flow.FlowCounts())
    return np.stack(list(pictures)).tobytes()


def test_all_hues_are_equally_bright(tested):
    for first in range(0, SIZES["test"], 16):
        scene = [frames_THWC for _, _, frames_THWC in tested["motionhue"][first : first + 16]]
        for direction in (0, 1):
            grey = {round_grey(frames_THWC).tobytes() for frames_THWC in scene[direction::2]}
            assert len(grey) == 1


def round_grey(frames_THWC):
    return np.rint(frames_THWC @ np.array([0.299, 0.587, 0.114])).astype(int)


def test_frames_without_their_order_show_the_hue_and_half_of_the_classes(tested):
    labels = [label for label, _, _ in tested["motionhue"]]
    sets = [count_windows(frames_THWC, 1) for _, _, frames_THWC in tested["motionhue"]]
    assert best_accuracy(sets, labels) == 50
    for label, _, frames_THWC in tested["motionhue"]:
        red, green, blue = np.moveaxis(frames_THWC[8].astype(float), -1, 0)
        off = np.abs(red - green) + np.abs(blue - green) > 20
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        angle = np.arctan2((blue - grey)[off].mean(), (red - grey)[off].mean())
        assert datasets.TINTS[round(angle / (2 * np.pi) * 8) % 8] == label.partition("_")[0]


def test_files_are_what_is_drawn_without_loss(roots, tested):
    drawn = datasets.render_scene(datasets.SETS["motionhue"], 3, "test", 0)
    for frames_THWC, (_, path, decoded_THWC) in zip(drawn, tested["motionhue"][: len(drawn)], strict=True):
        np.testing.assert_array_equal(frames_THWC, decoded_THWC)
        np.testing.assert_array_equal(read_frames(path, [9, 2]), decoded_THWC[[9, 2]])
