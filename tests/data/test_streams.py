"""What each stream makes of a clip, what it refuses, and that no file is taken for one of another stream."""

import shutil

import av
import numpy as np
import pytest
import torch
from helpers.training import fit, make_config, make_data
from helpers.videos import write_csv
from PIL import Image

from videores.config import parse
from videores.config.schema import AugmentConfig, DataConfig, TransformConfig, ViewsConfig
from videores.config.streams import STREAMS
from videores.data import datamodule, mixing, streams, transforms
from videores.data.dataset import collate_training
from videores.data.decode import read_frames
from videores.data.prepare import copies
from videores.data.probe import probe
from videores.data.video import flow
from videores.data.video.encode import write_video
from videores.data.video.reencode import EncodingSettings, reencode
from videores.errors import UnreadableVideo, UserError
from videores.evaluation.protocol import format_protocol
from videores.inference.preprocessing import Preprocessing
from videores.models import create_model

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (2, 1, 6, 8, 8, 3), dtype=np.uint8))


def make(stream, clips=PIXELS):
    return streams.make_input(clips, Preprocessing(stream=stream))


# -- what a clip becomes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [name for name in STREAMS if name != "audio"])
def test_a_clip_has_the_channels_that_its_stream_states_and_its_frames(stream):
    assert make(stream).shape == (2, 1, STREAMS[stream].channels, 6, 8, 8)


def test_rgb_is_the_normalized_picture_bit_for_bit():
    t = Preprocessing().transform
    assert torch.equal(make("rgb"), transforms.normalize_clips(PIXELS, t.mean, t.std))


def test_a_difference_is_to_the_next_frame_and_zero_for_the_last():
    rgb, signed = make("rgb"), make("difference")
    for t in range(5):
        assert torch.equal(signed[:, :, :, t], rgb[:, :, :, t + 1] - rgb[:, :, :, t])
    assert not signed[:, :, :, 5].any()
    assert torch.equal(make("unsigned-difference"), signed.abs())
    assert torch.equal(make("rgb+difference"), torch.cat([rgb, signed], 2))
    assert torch.equal(make("rgb+unsigned-difference"), torch.cat([rgb, signed.abs()], 2))


def test_a_clip_and_its_reversal_have_the_same_set_of_unsigned_differences():
    """The proof that a network of single frames stays at 50 % on motion8: bit for bit, up to order."""
    one, other = (make("unsigned-difference", clips).movedim(3, 0) for clips in (PIXELS, PIXELS.flip(2)))
    assert torch.equal(other[:5].flip(0), one[:5])
    assert torch.equal(other[5], one[5])


@pytest.mark.parametrize("stream", ["unsigned-difference", "rgb+difference"])
def test_only_signed_differences_let_a_network_of_single_frames_see_the_order(stream):
    torch.manual_seed(0)
    model = create_model("f_r2d_18", 3, layers=(1,), width=8, stem="small", channels=STREAMS[stream].channels).eval()
    one, other = (model(make(stream, clips)[:, 0]) for clips in (PIXELS, PIXELS.flip(2)))
    assert torch.allclose(one, other, atol=1e-6) == (stream == "unsigned-difference")


def test_flow_is_in_short_sides_a_second_and_a_flip_negates_dx_alone():
    clips = torch.full((1, 1, 2, 4, 4, 3), flow.ZERO, dtype=torch.uint8)
    clips[..., 0, 0], clips[..., 1, 1] = 255, 1
    got = make("flow", clips)[0, 0]
    assert got[0, :, :, 0] == pytest.approx(flow.LIMIT)
    assert got[1, :, :, 1] == pytest.approx(-flow.LIMIT)
    assert not got[:, :, :, 2:].any()
    mirrored = clips[0, 0].flip(-2).clone()
    streams.mirror_values(mirrored, "flow")
    flipped = make("flow", mirrored[None, None])[0, 0]
    assert torch.equal(flipped[0], -got[0].flip(-1))
    assert torch.equal(flipped[1], got[1].flip(-1))


def test_mirroring_changes_no_color():
    clip = PIXELS[0, 0].clone()
    streams.mirror_values(clip, "rgb+difference")
    assert torch.equal(clip, PIXELS[0, 0])


# -- the configuration ------------------------------------------------------------------------------------------------


def config(*overrides):
    values = parse.dump_config(make_config("data"))
    for override in overrides:
        parse.apply_override(values, override)
    return parse.build_config(values, "test")


def test_the_network_gets_the_channels_of_the_stream_and_the_protocol_its_name():
    assert config().model.channels is None
    cfg = config("data.stream=rgb+difference")
    assert cfg.model.channels == cfg.model.clip_channels == 6
    assert parse.build_config(parse.dump_config(cfg), "again") == cfg
    assert format_protocol(cfg) == format_protocol(config()).replace("@32/32", "@32/32:rgb+difference")
    assert "@32/32:rgb+difference" in str(Preprocessing.from_config(cfg))


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["data.stream=flow", "data.augment.brightness=0.2"], "data.augment.brightness"),
        (["data.stream=flow", "data.augment.rotation=5"], "data.augment.rotation"),
        (["data.stream=flow", "data.augment.speed=[0.5, 2]"], "data.augment.speed"),
        (["data.stream=flow", "data.transform.mean=[0.5, 0.5, 0.5]"], "data.transform.mean"),
        (["data.stream=flow", "test.corruption=noise"], "test.corruption"),
        (["data.stream=flow", "val.crops=10"], "val.crops"),
        (["data.stream=difference", "model.channels=6"], "model.channels"),
        (["model.channels=6"], "model.channels"),
        (["data.stream=sound"], "data.stream"),
        (["model.adapt=mean"], "model.adapt"),
    ],
)
def test_what_does_not_suit_a_stream_is_refused(overrides, key):
    with pytest.raises(UserError, match=key):
        config(*overrides)


def test_networks_of_three_channels_refuse_others():
    with pytest.raises(UserError, match="channels"):
        create_model("pytorchvideo/slow_r50", 3, channels=6)
    with pytest.raises(UserError, match="B x 2 x T"):
        create_model("r3d_18", 3, layers=(1,), width=8, channels=2)(torch.zeros(1, 3, 4, 16, 16))


def test_frames_folded_into_channels_have_all_of_the_stream():
    model = create_model("r2d_18", 3, layers=(1,), width=8, stem="small", frames=4, channels=6)
    assert model.conv1.weight.shape[1] == 24
    assert model(torch.zeros(1, 6, 4, 16, 16)).shape == (1, 3)


# -- files of flow ----------------------------------------------------------------------------------------------------


def textured(frames, step=3, height=48, width=64):
    """uint8 frames_THWC of a texture that moves `step` pixels to the right a frame."""
    rng = np.random.default_rng(0)
    small = torch.from_numpy(rng.random((1, 3, height // 4, 40 + width // 4)))
    wide = torch.nn.functional.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)[0]
    first = wide.shape[2] - width
    shown = [wide[:, :, first - step * t : first - step * t + width] for t in range(frames)]
    return (255 * torch.stack(shown)).byte().permute(0, 2, 3, 1).numpy()


LOSSLESS = {"qp": "0", "g": "4", "bf": "0"}


def write_flow(source, target, **settings):
    info = probe(source)
    settings = EncodingSettings(**{"crf": 0, "flow": "dis", "short_side": 48, **settings})
    reencode(source, target, settings, info.num_frames, lambda stage: None, seconds_T=info.seconds_T)
    return probe(target)


@pytest.mark.parametrize(("method", "fps"), [("dis", 25), ("dis", 10), ("farneback", 25)])
def test_a_picture_that_moves_three_pixels_has_that_flow(tmp_path, method, fps):
    write_video(tmp_path / "a.mp4", textured(6), fps, options=LOSSLESS)
    info = write_flow(tmp_path / "a.mp4", tmp_path / "flow.mp4", flow=method)
    assert (info.num_frames, info.fps, info.width, info.height) == (6, fps, 64, 48)
    found = flow.decode_flow(read_frames(tmp_path / "flow.mp4", range(6)))
    step = flow.LIMIT / flow.STEPS
    assert np.median(found[:5, 8:-8, 8:-8, 0]) == pytest.approx(3 / 48 * fps, abs=step)
    assert np.median(found[:5, 8:-8, 8:-8, 1]) == pytest.approx(0, abs=step)
    assert not found[5].any()


def test_flow_is_the_same_at_half_the_size(tmp_path):
    write_video(tmp_path / "a.mp4", textured(4, step=4, height=96, width=128), 25, options=LOSSLESS)
    info = write_flow(tmp_path / "a.mp4", tmp_path / "flow.mp4", short_side=48)
    assert (info.width, info.height) == (64, 48)
    found = flow.decode_flow(read_frames(tmp_path / "flow.mp4", range(3)))
    assert np.median(found[:, 8:-8, 8:-8, 0]) == pytest.approx(4 / 96 * 25, abs=flow.LIMIT / flow.STEPS)


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_every_reader_returns_the_bytes_of_flow_that_were_written(tmp_path, reader):
    frames, counts = textured(14), flow.FlowCounts()
    write_video(tmp_path / "a.mp4", frames, 25, options=LOSSLESS)
    shown = read_frames(tmp_path / "a.mp4", range(14))
    wanted = np.stack(list(flow.compute_flow(shown, np.arange(14) / 25, "dis", counts)))
    info = write_flow(tmp_path / "a.mp4", tmp_path / "flow.mp4")
    assert reader in info.readers
    index = [13, 5, 5, 0, 9]
    assert np.array_equal(read_frames(tmp_path / "flow.mp4", index, reader=reader, info=info), wanted[index])


def test_flow_beyond_the_limit_is_counted():
    counts = flow.FlowCounts()
    picture = flow.encode_flow(np.array([[[9.0, 0], [1, -2]]]), counts)
    assert (counts.vectors, counts.beyond) == (2, 1)
    assert picture[0, 0].tolist() == [255, flow.ZERO, flow.ZERO]


ROWS = {"train": [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(8)]}
ROWS["test"] = [("e.mp4", "a", "h"), ("f.mp4", "b", "i")]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """(values of videos, the same of their flow)"""
    folder = tmp_path_factory.mktemp("sets")
    values = write_csv(folder / "videos", ROWS, height=32, width=32)
    root, out = folder / "videos", folder / "flow"
    paths = [row[0] for part in ROWS.values() for row in part]
    infos = {path: probe(root / path) for path in paths}
    settings = EncodingSettings(short_side=32, crf=0, flow="dis")
    assert copies.prepare_copies(root, out, infos, {}, settings, shard=(1, 1), workers=1) == {}
    copies.copy_lists(root, None, out)
    return values, {**values, "root": str(out)}


def load(values, **more):
    return datamodule.load_videos(DataConfig(**{**values, "val": "none", "workers": 0, **more}))


def test_flow_and_pictures_are_not_taken_for_each_other(sets):
    videos, flows = sets
    assert load(flows, stream="flow").infos.keys() == load(videos).infos.keys()
    with pytest.raises(UserError, match=r"data\.stream=flow(.|\n)*--flow(.|\n)*t0\.mp4"):
        load(videos, stream="flow")
    with pytest.raises(UserError, match=r"data\.stream=rgb(.|\n)*holds optical flow(.|\n)*t0\.mp4"):
        load(flows)


def test_flow_of_another_size_rate_or_length_than_its_video_is_refused(sets, tmp_path):
    flows = sets[1]
    for name, change in {
        "size": dict(height=48, width=32),
        "rate": dict(fps=5),
        "length": dict(frames=7),
    }.items():
        shutil.copytree(flows["root"], tmp_path / name)
        path, usual = tmp_path / name / "t3.mp4", dict(frames=12, height=32, width=32, fps=25)
        retag(path, probe(path).flow, **{**usual, **change})
        with pytest.raises(UserError, match=r"as they were written(.|\n)*t3\.mp4"):
            load({**flows, "root": str(tmp_path / name)}, stream="flow")


def retag(path, tag, frames, height, width, fps):
    """Writes another video in the place of one of flow, with the same tag."""
    with av.open(str(path), "w") as container:
        container.metadata[flow.TAG] = tag
        stream = container.add_stream("libx264", rate=fps, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in np.zeros((frames, height, width, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def test_flow_of_two_methods_is_refused(sets, tmp_path):
    videos, flows = sets
    shutil.copytree(flows["root"], tmp_path / "mixed")
    write_flow(f"{videos['root']}/t1.mp4", tmp_path / "mixed" / "t1.mp4", flow="farneback", short_side=32)
    with pytest.raises(UserError, match=r"one method(.|\n)*farneback"):
        load({**flows, "root": str(tmp_path / "mixed")}, stream="flow")


def test_no_copies_are_made_of_flow_and_a_single_picture_has_none(sets, tmp_path):
    source = f"{sets[1]['root']}/t0.mp4"
    with pytest.raises(UnreadableVideo, match="holds optical flow"):
        reencode(source, tmp_path / "copy.mp4", EncodingSettings(), 12, lambda stage: None)
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    with pytest.raises(UnreadableVideo, match="no flow"):
        write_flow(tmp_path / "one.png", tmp_path / "flow.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png"]


def test_missing_flow_is_named(sets, tmp_path):
    shutil.copytree(sets[1]["root"], tmp_path / "some")
    (tmp_path / "some" / "t5.mp4").unlink()
    with pytest.raises(UserError, match=r"t5\.mp4"):
        load({**sets[1], "root": str(tmp_path / "some")}, stream="flow")


def test_training_clips_of_flow_are_mirrored_with_their_vectors(sets):
    data = DataConfig(**{**sets[1], "stream": "flow", "val": "none", "workers": 0})
    data = data.model_copy(update={"transform": data.transform.model_copy(update=dict(short_side=32, crop=32))})
    videos = datamodule.load_videos(data)

    def clip(flip):
        some = data.model_copy(update={"transform": data.transform.model_copy(update={"flip": flip})})
        module = datamodule.VideoData(some, videos, val=ViewsConfig(), test=ViewsConfig())
        return streams.make_input(module.dataset("train")[0, 2]["clips"][None], some)[0, 0]

    plain, flipped = clip(0.0), clip(1.0)
    assert plain.abs().max() > 0.1
    assert torch.equal(flipped[0], -plain[0].flip(-1))
    assert torch.equal(flipped[1], plain[1].flip(-1))


# -- several streams ---------------------------------------------------------------------------------------------------


def test_a_box_of_another_size_has_the_same_shares():
    assert transforms.scale_box((10, 20, 30, 40), (100, 200), (100, 200)) == (10, 20, 30, 40)
    assert transforms.scale_box((10, 20, 30, 40), (100, 200), (50, 100)) == (5, 10, 15, 20)
    assert transforms.scale_box((99, 0, 1, 1), (100, 100), (8, 8)) == (7, 0, 1, 1)


def read_item(values, stream, transform, augment=None, views=None, **more):
    """The training item of video 3 in epoch 2, or its test item, of streams."""
    data = DataConfig(**{**values, "val": "none", "workers": 0, "stream": stream, "augment": augment or {}, **more})
    data = data.model_copy(update={"transform": TransformConfig(**transform)})
    usual = ViewsConfig(**(views or {}))
    module = datamodule.VideoData(data, datamodule.load_videos(data), val=usual, test=usual)
    return module.dataset("test" if views else "train")[2, 1 if views else 3]


@pytest.mark.parametrize("side", [32, 16])
def test_streams_of_a_list_show_the_same_moments_crops_and_flips(sets, tmp_path, side):
    """Each as it would be alone; flow of half the size has the same shares of the picture."""
    videos, flows = sets
    if side != 32:
        infos = {path: probe(f"{videos['root']}/{path}") for path in (row[0] for part in ROWS.values() for row in part)}
        settings = EncodingSettings(short_side=side, crf=0, flow="dis")
        assert copies.prepare_copies(videos["root"], tmp_path, infos, {}, settings, shard=(1, 1), workers=1) == {}
    folder = str(flows["root"]) if side == 32 else str(tmp_path)
    shape = {"short_side": side, "crop": 8, "flip": 1.0}
    both = read_item(videos, ("rgb", "flow"), shape, flow=folder)["clips"]
    assert torch.equal(both["rgb"], read_item(videos, "rgb", shape)["clips"])
    if side == 32:
        assert torch.equal(both["flow"], read_item(flows, "flow", shape)["clips"])
    assert both["flow"].shape == both["rgb"].shape
    tested = read_item(videos, ("rgb", "flow"), shape, views={"clips": 3, "crops": 3}, flow=folder)
    assert torch.equal(tested["place"]["rgb"], tested["place"]["flow"])
    assert torch.equal(tested["frames"]["rgb"], read_item(videos, "rgb", shape, views={"clips": 3})["frames"])


def test_augmentation_of_colors_changes_the_pictures_alone(sets):
    videos, flows = sets
    shape, both = {"short_side": 32, "crop": 24}, dict(flow=str(flows["root"]))
    plain = read_item(videos, ("rgb", "flow"), shape, **both)
    changed = read_item(videos, ("rgb", "flow"), shape, {"brightness": 0.9, "hue": 0.3}, **both)
    assert not torch.equal(changed["clips"]["rgb"], plain["clips"]["rgb"])
    assert torch.equal(changed["clips"]["flow"], plain["clips"]["flow"])
    batch = collate_training([changed, changed], AugmentConfig(), 24)
    batch["clips"]["rgb"] = torch.randint(256, batch["clips"]["rgb"].shape, dtype=torch.uint8)
    shifted = mixing.finish_batch(batch, 2)
    assert torch.equal(shifted["clips"]["flow"], batch["clips"]["flow"])
    assert not torch.equal(shifted["clips"]["rgb"], batch["clips"]["rgb"].float())


def test_flow_beside_videos_is_that_of_these_videos(sets, tmp_path):
    videos, flows = sets
    shutil.copytree(flows["root"], tmp_path / "less")
    (tmp_path / "less" / "t5.mp4").unlink()
    pair = {**videos, "stream": ("rgb", "flow")}
    with pytest.raises(UserError, match=r"data\.flow=\S+less(.|\n)*t5\.mp4"):
        load({**pair, "flow": str(tmp_path / "less")})
    with pytest.raises(UserError, match=r"data\.flow(.|\n)*holds no optical flow"):
        load({**pair, "flow": videos["root"]})
    for name, (frames, width) in {"frames": (5, 32), "pixels": (12, 48)}.items():
        video = textured(frames, height=32, width=width)
        shutil.copytree(flows["root"], tmp_path / name)
        write_video(tmp_path / f"{name}.mp4", video, 25, options=LOSSLESS)
        write_flow(tmp_path / f"{name}.mp4", tmp_path / name / "t2.mp4", short_side=32)
        with pytest.raises(UserError, match=rf"data\.flow(.|\n)*t2\.mp4: \S+ {name}, the video has"):
            load({**pair, "flow": str(tmp_path / name)})


def test_mixup_mixes_sound_as_a_whole():
    mix = mixing.draw_mix(AugmentConfig(mixup=1.0), (2, 1), 8, np.random.default_rng(0))
    clips = {"rgb": PIXELS, "audio": torch.tensor([[[100] * 5], [[0] * 5]], dtype=torch.int16)}
    mixed = mixing.finish_batch({"clips": clips, "label": torch.tensor([0, 1]), "mix": mix}, 2)
    share = float(mixed["label"][0, 0, 0])
    assert torch.allclose(mixed["clips"]["audio"][0], torch.full((1, 5), 100 * share), atol=1e-3)
    assert torch.allclose(mixed["clips"]["rgb"][0], torch.lerp(PIXELS[1].float(), PIXELS[0].float(), share), atol=1e-3)


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [name for name in STREAMS if name not in ("rgb", "audio")])
def test_every_stream_trains_and_workers_change_nothing(sets, stream, one_quiet_thread):
    root = sets[stream == "flow"]["root"]
    states = []
    for workers in (0, 2) if stream == "flow" else (0,):
        sections = dict(data={"stream": stream, "workers": workers, "cache": "none"}, train={"epochs": 1})
        sections["data"]["transform"] = {"short_side": 32, "crop": 24, "flip": 0.5}
        cfg = make_config(root, **sections)
        assert make_data(cfg).dataset("test").stream == stream
        states.append(fit(cfg)[0].model.state_dict())
    assert all(torch.equal(states[0][key], states[-1][key]) for key in states[0])
