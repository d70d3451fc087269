"""Sound of videos: read at the right time, made into spectrograms, and the same however it is read."""

import csv
import os
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.sounds import SOUND_CODECS, clicks, has_sound_encoder, sounding_video, tone, write_sounds
from helpers.training import fit, make_config, make_data
from helpers.videos import write_csv
from scipy.signal import resample_poly

from videores.config import parse
from videores.config.schema import AudioConfig, ClipConfig, DataConfig, TransformConfig, ViewsConfig
from videores.data import audio, datamodule, decode, streams
from videores.data.dataset import VideoDataset
from videores.data.lists import Video
from videores.data.manifest import probe_all
from videores.data.probe import probe
from videores.errors import UnreadableVideo, UserError
from videores.inference.preprocessing import Preprocessing

RATE = 16000
CLICKS = (0.3, 0.93, 1.61, 2.48)
# AVI holds no time at which sound begins, nor what MP3 encoders put in front: 1105 samples, as FFmpeg decodes it
WRITTEN = {"pcm_avi": (0,), "mp3_avi": (0,), "aac_mp4": (0, 0.2, -0.2), "pcm_mov": (0.2, -0.2)}
CASES = [(codec, offset) for codec in SOUND_CODECS for offset in WRITTEN.get(codec, (0, 0.2))]
PRIMING = {"mp3_avi": 1105 / 44100}


def read(path, first, count, rate=RATE, info=None):
    return decode.read_sound(path, first, count, rate, info=info or probe(path, sound=True))


def dataset_of(path, clip, sound, **more):
    """The videos of a path, one or several, as a dataset."""
    paths = path if isinstance(path, list) else [path]
    infos = {one.name: probe(one, sound=True) for one in paths}
    videos, more = [Video(one.name, 0) for one in paths], {"views": None, **more}
    return VideoDataset(
        paths[0].parent, videos, infos, ClipConfig(**clip), TransformConfig(), stream="audio", audio=sound, **more
    )


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("codec", "offset"), CASES)
def test_a_click_is_in_the_column_of_its_time_wherever_a_clip_begins(tmp_path, codec, offset):
    if not has_sound_encoder(codec):
        pytest.skip(f"this PyAV has no encoder for {codec}")
    rate, shift = SOUND_CODECS[codec].rate, offset + PRIMING.get(codec, 0)
    path = sounding_video(tmp_path / "a", clicks(2.8, CLICKS, rate), codec, frames=70, offset=offset)
    sound, clip = AudioConfig(seconds=1.0), {"frames": 25}
    dataset, seen = dataset_of(path, clip, sound, views=ViewsConfig(clips=10)), 0
    info = dataset.info(0)  # an AVI file begins with an empty frame, for the time of what MP3 has in front
    begin_K = info.seconds_T[dataset.frames_shown(0)[:, 0]] + 25 / info.fps / 2 - sound.seconds / 2
    for begin, sound_S in zip(begin_K, dataset.fixed_views(0, 0)["frames"], strict=True):
        picture_HW = audio.make_spectrograms(sound_S[None, None], sound)[0, 0, 0, 0]
        power_W = (picture_HW * audio.STD).exp().sum(0).numpy()
        for middle in (np.array(CLICKS) + shift + 0.001 - begin) / sound.hop:
            if 2 < middle < 97:  # whole columns around it are in the clip
                near = int(middle) - 2 + np.argmax(power_W[int(middle) - 2 : int(middle) + 3])
                assert abs(near + 0.5 - middle) <= 1, (begin, middle, near)
                assert power_W[near] > 10 * np.median(power_W)
                seen += 1
    assert seen > 5


@pytest.mark.parametrize("codec", SOUND_CODECS)
def test_samples_are_the_same_whatever_is_read_with_them(tmp_path, codec):
    if not has_sound_encoder(codec):
        pytest.skip(f"this PyAV has no encoder for {codec}")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(5.1 * SOUND_CODECS[codec].rate))
    path = sounding_video(tmp_path / "a", noise, codec, frames=125)
    info = probe(path, sound=True)
    for rate in (RATE, 48000):
        whole = read(path, 0, 5 * rate, rate, info)
        assert whole.std() > 100
        for first, count in product((1, 7777, 2 * rate + 13, 4 * rate), (1, 3000)):
            assert np.array_equal(read(path, first, count, rate, info), whole[first : first + count]), (rate, first)


@pytest.mark.parametrize(
    ("codec", "decoder", "in_blocks"),
    [("aac_mp4", "aac", False), ("mp3_avi", "mp3float", False), ("opus_webm", "opus", True), ("mp2_mpg", "", False)],
)
def test_packets_are_decoded_without_their_container_where_that_is_exact(tmp_path, codec, decoder, in_blocks):
    if not has_sound_encoder(codec):
        pytest.skip(f"this PyAV has no encoder for {codec}")
    path = sounding_video(tmp_path / "a", tone(500, 5, SOUND_CODECS[codec].rate), codec, frames=125)
    found = probe(path, sound=True).sound
    assert (found.codec, found.in_blocks) == (decoder, in_blocks)


def test_resampling_is_that_of_a_long_filter(tmp_path):
    sound_S = tone(440, 2, 44100) * np.linspace(0.2, 1, 88200) + 0.3 * tone(3000, 2, 44100)
    path = sounding_video(tmp_path / "a", sound_S, "pcm_mov", frames=50, rate=44100)
    found, wanted = read(path, 0, 2 * RATE) / 2**15, resample_poly(sound_S, 160, 441)
    assert np.abs(found - wanted)[500:-500].max() < 3e-3


def test_channels_are_mixed_and_low_rates_are_raised(tmp_path):
    left = np.stack([tone(500), np.zeros_like(tone(500))], -1)
    stereo = sounding_video(tmp_path / "stereo", left, "pcm_mov", layout="stereo", rate=44100)
    assert np.abs(read(stereo, 1000, 6000)).max() == pytest.approx(2**15 * 0.25, rel=0.03)
    six = np.repeat(tone(500)[:, None], 6, 1)
    for name, sound_S, more in (
        ("5.1", six, {"layout": "5.1", "rate": 44100}),
        ("8k", tone(500, rate=8000), {"rate": 8000}),
    ):
        sound_S = read(sounding_video(tmp_path / name, sound_S, "pcm_mov", **more), 1000, RATE // 2 - 1000)
        spectrum = np.abs(np.fft.rfft(sound_S.astype(float) * np.hanning(len(sound_S))))
        assert np.argmax(spectrum) * RATE / len(sound_S) == pytest.approx(500, abs=5)
        assert sound_S.std() > 3000


def test_of_several_tracks_the_first_is_heard(tmp_path):
    path = sounding_video(tmp_path / "a", [tone(500), tone(2000)], "aac_mp4")
    spectrum = np.abs(np.fft.rfft(read(path, 0, 8000).astype(float)))
    assert np.argmax(spectrum) * 2 == pytest.approx(500, abs=10)


def test_sound_beyond_the_pictures_and_pictures_beyond_sound(tmp_path):
    long = sounding_video(tmp_path / "long", tone(500, 3), frames=25)
    short = sounding_video(tmp_path / "short", tone(500, 0.4), frames=50)
    dataset = dataset_of([long, short], {"frames": 8}, AudioConfig(seconds=2.0), views=ViewsConfig())
    one, other = (dataset.fixed_views(0, number)["frames"][0].numpy() for number in (0, 1))
    assert len(one) == len(other) == 199 * 160 + 400
    heard = np.flatnonzero(one)  # pictures of 1 s, and the clip's middle is 0.5 s
    assert (heard[[0, -1]] - len(one) / 2) / RATE == pytest.approx([-0.48, 0.52], abs=0.03)
    heard = np.flatnonzero(np.abs(other) > 50)  # up to 0.4 of 2 s, and the clip's middle is 1 s
    assert (heard[-1] - len(other) / 2) / RATE == pytest.approx(0.4 - 1.0, abs=0.05)


def test_a_video_shorter_than_the_clip_is_heard(tmp_path):
    path = sounding_video(tmp_path / "a", tone(500, 0.2), frames=5)
    sound_KS = dataset_of(path, {"frames": 32, "stride": 2}, AudioConfig(seconds=0.3))[0, 0]["clips"]
    assert (np.abs(sound_KS[0].numpy()) > 50).mean() > 0.5


def test_sound_goes_by_time_at_any_frame_rate_and_within_parts(tmp_path):
    paths = [
        sounding_video(tmp_path / f"{fps}", clicks(2, [1.2], 44100), frames=2 * fps, fps=fps) for fps in (10, 25, 50)
    ]
    dataset = dataset_of(paths, {"frames": 5, "fps": 5}, AudioConfig(), views=ViewsConfig())
    pictures = [audio.make_spectrograms(dataset.fixed_views(0, n)["frames"][None], AudioConfig()) for n in range(3)]
    assert [picture.shape for picture in pictures] == [(1, 1, 1, 1, 64, 100)] * 3
    loudest = [int(picture[0, 0, 0, 0, 8:].mean(0).argmax()) for picture in pictures]
    starts = [dataset.frames_shown(n)[0, 0] / fps for n, fps in enumerate((10, 25, 50))]
    assert np.abs(np.array(loudest) - (1.2 - np.array(starts)) * 100).max() <= 1
    part = f"{paths[1]}#t=0.8,1.6"
    info = probe(part, sound=True)
    assert (info.first, info.num_frames) == (20, 20)
    assert np.argmax(np.abs(read(part, 0, 8000, info=info)) > 3000) / RATE == pytest.approx(0.4, abs=0.002)


# -- spectrograms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"rate": 22050, "window": 0.05, "hop": 0.0125, "bands": 80}])
def test_spectrograms_are_those_of_the_definition_and_of_torchaudio(options):
    sound = AudioConfig(seconds=0.7, **options)
    sound_BKS = torch.randint(-9000, 9000, (2, 1, sound.count_samples(ClipConfig())), dtype=torch.int16)
    found_BHW = audio.make_spectrograms(sound_BKS, sound)[:, 0, 0, 0] * audio.STD + audio.MEAN
    for found_HW, sound_S in zip(found_BHW.numpy(), sound_BKS[:, 0].numpy() / 2**15, strict=True):
        np.testing.assert_allclose(found_HW, log_mel(sound_S, sound), atol=1e-4)
    try:
        from torchaudio.transforms import MelSpectrogram
    except ImportError:  # it needs its own version of torch: the definition above has been compared with it
        return
    theirs = MelSpectrogram(
        sound.rate, sound.window_samples, hop_length=sound.hop_samples, n_mels=sound.bands, center=False
    )
    torch.testing.assert_close(found_BHW, (theirs(sound_BKS[:, 0] / 2**15) + audio.FLOOR).log(), atol=1e-4, rtol=0)


def log_mel(sound_S, sound):
    """The definition in float64: squared DFT of periodic Hann windows, triangles on HTK's mel scale, log."""
    size, hop = sound.window_samples, sound.hop_samples
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    columns = [np.abs(np.fft.rfft(sound_S[i : i + size] * window)) ** 2 for i in range(0, len(sound_S) - size + 1, hop)]
    to_hertz = lambda mel: 700 * (10 ** (mel / 2595) - 1)
    corners = to_hertz(np.linspace(0, 2595 * np.log10(1 + sound.rate / 1400), sound.bands + 2))
    hertz = np.arange(size // 2 + 1) * sound.rate / size
    weights = [np.interp(hertz, corners[k : k + 3], [0, 1, 0]) for k in range(sound.bands)]
    return np.log(np.array(weights) @ np.array(columns).T + audio.FLOOR)


def test_silence_is_zero_and_other_clips_do_not_change_with_it():
    sound = AudioConfig(seconds=0.3)
    sound_BKS = torch.randint(-9000, 9000, (1, 3, sound.count_samples(ClipConfig())), dtype=torch.int16)
    alone = audio.make_spectrograms(sound_BKS, sound)
    sound_BKS[0, 1] = 0
    found = audio.make_spectrograms(sound_BKS, sound)
    assert audio.find_sound(sound_BKS).tolist() == [[True, False, True]]
    assert not found[0, 1].any()
    assert torch.equal(found[0, [0, 2]], alone[0, [0, 2]])


def test_autocast_changes_no_spectrogram():
    sound = AudioConfig(seconds=0.3)
    sound_BKS = torch.randint(-9000, 9000, (1, 2, sound.count_samples(ClipConfig())), dtype=torch.int16)
    with torch.autocast("cpu", torch.bfloat16):
        found = audio.make_spectrograms(sound_BKS, sound)
    assert torch.equal(found, audio.make_spectrograms(sound_BKS, sound))


# -- data sets --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return write_sounds(tmp_path_factory.mktemp("sounds"), ("a", "b"), train=8, test=3)


def load(values, **more):
    settings = {"stream": "audio", "audio": {"seconds": 0.3}, "val": "none", "workers": 0}
    data = DataConfig(**{**values, **settings, **more})
    return datamodule.VideoData(data, datamodule.load_videos(data), val=ViewsConfig(), test=ViewsConfig(clips=2))


def test_videos_without_sound_are_named_and_a_set_of_them_is_refused(sounds, tmp_path, capsys):
    data = load(sounds)
    assert "1 of 11 files have no sound" in (said := capsys.readouterr().err)
    assert "test/02.mp4" in said
    assert not data.dataset("test").fixed_views(0, 2)["frames"].any()
    silent = write_csv(tmp_path, {"train": [("t.mp4", "a", "g")], "test": [("e.mp4", "a", "h")]}, frames=4)
    with pytest.raises(UserError, match=r"data\.stream=audio"):
        load(silent)


def test_training_clips_are_drawn_as_those_of_pictures_and_cached_ones_are_equal(sounds):
    clip = {"frames": 4, "repeat": 2}
    plain, cached = (load(sounds, clip=clip, cache=cache).dataset("train") for cache in ("none", "ram"))
    pictures = load(sounds, clip=clip, stream="rgb").dataset("train")
    for key in ((0, 0), (3, 1), (3, 7)):
        sound_KS = plain[key]["clips"]
        assert sound_KS.dtype == torch.int16
        assert sound_KS.any(-1).all()
        assert torch.equal(sound_KS, cached[key]["clips"])
        for view in range(2):
            assert (plain.draw(*key, view).index_T == pictures.draw(*key, view).index_T).all()
    plain, cached = (load(sounds, cache=cache).dataset("test") for cache in ("none", "ram"))
    assert all(torch.equal(plain[0, n]["frames"], cached[0, n]["frames"]) for n in range(3))


def damage_sound(path, kind):
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(container.streams.audio[0]) if packet.size]
    for at, size in packets[1:] if kind == "packets" else ():
        content[at : at + size] = bytes([255]) * size
    if kind == "codec":
        content = content.replace(b"mp4a", b"xxxx").replace(b"esds", b"free")
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["codec", "packets"])
def test_damaged_sound_is_a_bad_video_before_training(tmp_path, kind):
    values = write_sounds(tmp_path, ("a", "b"), train=4, test=2)
    path = tmp_path / "train/02.mp4"
    damage_sound(path, kind)
    assert probe(path).has_audio
    with pytest.raises(UserError, match=r"train/02\.mp4: .*sound"):
        load(values)
    with pytest.raises(UnreadableVideo, match="sound"):
        probe(path, sound=True)
    assert load(values, stream="rgb").dataset("train").infos.keys() >= {"train/02.mp4"}
    assert "train/02.mp4" not in load(values, on_unreadable="skip").dataset("train").infos


def test_what_is_found_of_sound_is_kept(sounds):
    root = sounds["root"]
    first, bad = probe_all(root, ["train/00.mp4", "test/02.mp4"], sound=True)
    assert bad == {}
    again, _ = probe_all(root, ["train/00.mp4", "test/02.mp4"])
    assert again == first
    assert again["train/00.mp4"].sound.rate == 44100
    assert again["test/02.mp4"].sound is None


USUAL = {"data.stream": "audio", "data.audio.seconds": "1"}


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"data.audio.seconds": "null"}, r"data\.audio\.seconds"),
        ({"data.audio.bands": "200"}, r"data\.audio\.bands"),
        ({"data.clip.sampling": "segments"}, r"data\.clip\.sampling"),
        ({"data.augment.hue": "0.1"}, r"data\.augment\.hue"),
        ({"data.augment.speed": "[0.5,2]"}, r"data\.augment\.speed"),
        ({"data.augment.mixup": "1"}, r"data\.augment\.mixup"),
        ({"test.crops": "3"}, r"test\.crops"),
        ({"data.stream": "[rgb, audio]", "data.augment.flip_axes": "[depth]"}, r"data\.augment\.flip_axes"),
        ({"data.stream": "[flow, audio]", "data.flow": "x", "data.augment.own": "a.py:b"}, r"data\.augment\.own"),
        ({"test.order": "reversed"}, r"test\.order"),
        ({"val.corruption": "noise"}, r"val\.corruption"),
        ({"model.frames": "16", "model.pool": "weights"}, r"model\.frames"),
        ({"model.channels": "3"}, r"model\.channels"),
    ],
)
def test_what_does_not_suit_sound_is_refused(overrides, key):
    with pytest.raises(UserError, match=key):
        parse.load_config("f_r2d_motion.yaml", [f"{k}={v}" for k, v in (USUAL | overrides).items()])


def test_a_clip_with_a_rate_gives_the_seconds_of_its_sound():
    cfg = parse.load_config("f_r2d_motion.yaml", ["data.stream=audio", "data.clip.frames=12", "data.clip.fps=10"])
    assert cfg.data.audio.count_columns(cfg.data.clip) == 120
    assert cfg.model.channels == 1


@pytest.mark.parametrize("name", ["audio_r2d_18", "r3d_18"])
def test_networks_train_on_sound(sounds, name, one_quiet_thread):
    data = {"stream": "audio", "audio": {"seconds": 0.3}, "cache": "none"}
    cfg = make_config(sounds["root"], data=data, model={"name": name}, train={"epochs": 4})
    assert make_data(cfg).dataset("test").stream == "audio"
    losses = fit(cfg)[1].losses
    assert losses[-1] < losses[0]


def test_noise_is_what_a_network_of_the_stream_takes():
    for stream in ("rgb", "audio"):
        one = Preprocessing(stream=stream, audio={"seconds": 0.5})
        assert (
            one.normalize(streams.draw_noise(2, one)).shape[1:]
            == ((3, 16, 112, 112), (1, 1, 64, 50))[stream == "audio"]
        )


# -- real files -------------------------------------------------------------------------------------------------------

SHARED = os.environ.get("VIDEORES_TEST_DATA")


@pytest.mark.skipif(not SHARED, reason="VIDEORES_TEST_DATA names no folder of real videos")
def test_the_sound_of_real_files_decodes_alike_from_any_place():
    folder = Path(str(SHARED), "videos")
    with open(folder / "manifest.csv") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["frames"] and row["audio"] != "0"]
    assert len(names) == 3
    for name in names:
        info = probe(folder / name, sound=True)
        whole = read(folder / name, 0, audio.count_video_samples(info, RATE), info=info)
        assert whole.std() > 10
        for first in (0, 20000, len(whole) // 2, len(whole) - 5000):
            assert np.array_equal(read(folder / name, first, 5000, info=info), whole[first : first + 5000]), name
