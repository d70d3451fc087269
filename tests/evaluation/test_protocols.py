"""Test protocols: which frames and parts of the picture they take, against plain loops and against published ones."""

import json
import shutil

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from helpers.protocols import plainly
from helpers.training import make_config, make_data, make_task
from helpers.videos import numbered_video, read_numbers, write_csv
from torchvision.transforms.v2 import functional as F

from videores import run
from videores.config import parse, schema
from videores.config.schema import ClipConfig, ViewsConfig
from videores.data import datamodule, mirroring, sampling, transforms, views
from videores.errors import UserError
from videores.evaluation import metrics, protocol
from videores.evaluation import protocol as protocol_module
from videores.training import module as module_module

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

LENGTHS = (*range(1, 40), 64, 100, 301)
SPEEDS = ((8, 1, None), (4, 3, None), (1, 1, None), (8, 1, 10.0), (5, 1, 60.0))  # frames, stride, fps of the clip


def starts_of(num_frames, frames, stride, fps, **views_):
    clip = ClipConfig(frames=frames, stride=stride, fps=fps)
    return sampling.sample_view_clips(num_frames, 25, clip, ViewsConfig(**views_))


# -- clips in time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "stride", "fps"), SPEEDS)
def test_all_clips_cover_the_video_and_only_the_last_overlaps(frames, stride, fps):
    step = stride if fps is None else 25 / fps
    length = max(1, int(frames * step + 0.5))
    for num_frames in LENGTHS:
        index_KT = starts_of(num_frames, frames, stride, fps, clips="all")
        assert index_KT.min() == 0
        assert index_KT.max() < num_frames
        starts, fits = index_KT[:, 0], num_frames >= (frames - 1) * step + 1
        if not fits:
            assert len(index_KT) == 1
            continue
        assert (np.diff(starts[:-1]) == length).all()
        assert (np.diff(starts) > 0).all()
        span = sampling.compute_span(frames, step)  # more than the length where frames are shown twice
        assert starts[-1] + max(length, span) >= num_frames
        if stride == 1 and fps is None:
            assert set(index_KT.ravel()) == set(range(num_frames))
            assert len(index_KT) == -(-num_frames // frames)


def test_dense_clips_are_those_of_tsms_published_code():
    """8 frames, 8 apart, 10 clips: the function of its repository, written again from its definition."""
    for num_frames in (1, 30, 63, 64, 65, 100, 250, 301):
        places = max(1, 1 + num_frames - 64)
        expected = [
            [(t * 8 + start) % num_frames for t in range(8)] for start in np.linspace(0, places - 1, 10, dtype=int)
        ]
        assert starts_of(num_frames, 8, 8, None, clips=10, starts="dense").tolist() == expected


def test_uniform_clips_are_what_they_were():
    for num_frames in LENGTHS:
        clip = ClipConfig(frames=8, stride=2)
        expected = sampling.sample_uniform_clips(num_frames, 25, clip, 5)
        assert (sampling.sample_view_clips(num_frames, 25, clip, ViewsConfig(clips=5)) == expected).all()


@pytest.mark.parametrize("wrong", [["test.clips=all"], ["test.starts=dense"], ["val.clips=all"]])
def test_segments_take_a_number_of_uniform_clips_only(root, tmp_path, wrong):
    path = tmp_path / "c.yaml"
    path.write_text(parse.to_yaml(make_config(root, data={"clip": {"frames": 8, "sampling": "segments"}})))
    with pytest.raises(UserError, match=r"(val|test)\.(clips|starts).*segments"):
        parse.load_config(path, wrong)


# -- crops ------------------------------------------------------------------------------------------------------------


def picture(height, width, frames=2):
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (32, 32), (33, 47)])
def test_five_and_ten_crops_are_torchvisions(height, width):
    frames = picture(height, width)
    place = np.array([[0, 1]])
    channels_first = torch.from_numpy(frames).permute(0, 3, 1, 2)
    five = [crop.permute(0, 2, 3, 1) for crop in F.five_crop(channels_first, [32, 32])]
    assert torch.equal(transforms.crop_views(frames, place, 32, 5), torch.stack(five))
    ten = transforms.crop_views(frames, place, 32, 10)
    assert torch.equal(ten[:5], torch.stack(five))
    assert torch.equal(ten[5:], torch.stack(five).flip(3))
    if height % 2 == width % 2 == 0:  # else torchvision's centre of the mirror image is a pixel beside ours
        theirs = {crop.permute(0, 2, 3, 1).numpy().tobytes() for crop in F.ten_crop(channels_first, [32, 32])}
        assert {crop.numpy().tobytes() for crop in ten} == theirs


def test_a_full_view_is_the_whole_picture():
    frames = picture(40, 60, 3)
    got = transforms.crop_views(frames, np.array([[2, 0], [1, 1]]), 32, "full")
    assert (got.numpy() == frames[[[2, 0], [1, 1]]]).all()


CLASSES = {"handed": ("turn left", "turn right"), "plain": ("a", "b")}


def test_ten_crops_are_refused_where_a_mirror_image_has_another_label(root):
    ten = ViewsConfig(crops=10)
    plain = make_config(root, data={"transform": {"short_side": 32, "crop": 32}}).data
    mirroring.check_mirrored_views(plain, ten, CLASSES["plain"])
    with pytest.raises(UserError, match=r"crops=5\n  turn left\n  turn right"):
        mirroring.check_mirrored_views(plain, ten, CLASSES["handed"])
    mirroring.check_mirrored_views(plain, ViewsConfig(crops=5), CLASSES["handed"])
    mapped = plain.model_copy(update={"augment": schema.AugmentConfig(flip_labels={"a": "b"})})
    with pytest.raises(UserError, match="crops=5"):
        mirroring.check_mirrored_views(mapped, ten, CLASSES["plain"])
    with pytest.raises(UserError, match=r"transform\.flip=0"):
        mirroring.check_mirrored_views(make_config(root).data, ten, CLASSES["plain"])


# -- micro-batches ----------------------------------------------------------------------------------------------------


def batch_of(*videos):
    """A batch of videos, each (clips, height, width), of 4 frames that show random pixels."""
    items = [
        {
            "frames": torch.from_numpy(picture(height, width, 4)),
            "place": torch.arange(clips)[:, None] % 4 + torch.tensor([0, 0]),
            "video": 10 + number,
            "label": 0,
        }
        for number, (clips, height, width) in enumerate(videos)
    ]
    return views.collate_items(items)


@pytest.mark.parametrize("limit", [1, 4, 100])
@pytest.mark.parametrize("crops", [1, 3, 5, "full"])
def test_micro_batches_are_all_views_in_order_and_never_more_than_asked(limit, crops):
    batch = batch_of((3, 32, 40), (1, 32, 40), (5, 36, 32))
    seen, clips = [], {}
    for video_X, view_X, clips_XTHWC in views.split_batch(batch, 32, ViewsConfig(crops=crops), limit):
        assert len(video_X) == len(view_X) == len(clips_XTHWC)
        assert len(clips_XTHWC) <= limit
        seen += zip(video_X.tolist(), view_X.tolist(), strict=True)
        clips |= dict(zip(seen[-len(video_X) :], clips_XTHWC, strict=True))
    number = 1 if crops == "full" else crops
    assert seen == [(10 + v, k) for v, clips_ in enumerate((3, 1, 5)) for k in range(clips_ * number)]
    for v, (frames, place) in enumerate(zip(batch["frames"], batch["place"], strict=True)):
        for k, clip in enumerate(transforms.crop_views(frames, place, 32, crops)):
            assert torch.equal(clips[10 + v, k], clip)


def test_whole_pictures_go_in_smaller_batches():
    batch = batch_of((6, 64, 64))
    sizes = [len(clips) for *_, clips in views.split_batch(batch, 32, ViewsConfig(crops="full"), 8)]
    assert sizes == [2, 2, 2]


def test_an_empty_batch_has_no_views():
    assert list(views.split_batch(views.collate_items([]), 32, ViewsConfig(crops=3), 4)) == []


# -- through the network ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Seven test videos of several sizes and lengths, and some to train on."""
    folder = tmp_path_factory.mktemp("videos")
    train = [(f"t{i}.mp4", "ab"[i % 2], f"g{i}") for i in range(6)]
    test = [(f"e{i}.mp4", "ab"[i % 2], f"h{i // 2}") for i in range(7)]
    write_csv(folder, {"train": train, "test": test}, height=32, width=32)
    for i, (frames, height, width) in enumerate(((21, 48, 64), (8, 64, 48), (29, 32, 32), (3, 40, 60))):
        numbered_video(folder / f"e{i}", frames, start=1000 + 100 * i, height=height, width=width)
    return folder


def scored(cfg):
    """The task after a test of an untrained network, whose weights follow from the seed, and the data."""
    task, data = make_task(cfg), make_data(cfg)
    quiet_trainer().test(task, data, verbose=False)
    return task, data


def quiet_trainer(**options):
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    return pl.Trainer(accelerator="cpu", devices=1, use_distributed_sampler=False, **quiet, **options)


def configured(root, views_, **data):
    data = {"transform": {"short_side": 36, "crop": 32, "flip": 0.5}, "clip": {"frames": 4}, "batch_size": 3} | data
    return make_config(root, data=data, test=views_)


PROTOCOLS = {
    "1 x 1": {"clips": 1},
    "3 x 3": {"clips": 3, "crops": 3},
    "2 x 10": {"clips": 2, "crops": 10},
    "all x 1": {"clips": "all"},
    "2 x full": {"clips": 2, "crops": "full"},
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_scores_are_those_of_a_plain_loop_over_views(root, name):
    cfg = configured(root, PROTOCOLS[name])
    task, data = scored(cfg)
    network, right = task.model.eval(), []
    with torch.no_grad():
        for number, video in enumerate(data.dataset("test").videos):
            expected = plainly(root / video.path, network, 4, PROTOCOLS[name]).numpy()
            got = task.logits_VKN[number]
            np.testing.assert_allclose(got[: len(expected)], expected, atol=1e-4)
            assert np.isnan(got[len(expected) :]).all()
            right.append(torch.tensor(expected).softmax(1).mean(0).argmax() == video.label)
    counts = data.dataset("test").view_counts()
    label_V = np.array([video.label for video in data.dataset("test").videos])
    found = metrics.compute_metrics(task.logits_VKN, label_V, "softmax-mean", views_V=counts)
    assert found["video_top1"] == pytest.approx(100 * np.mean(right))


@pytest.mark.parametrize("crops", [1, 10, "full"])
def test_scores_do_not_depend_on_the_batch_size(root, crops):
    cfgs = [configured(root, {"clips": 3, "crops": crops}, batch_size=size) for size in (1, 7)]
    one, seven = (scored(cfg)[0].logits_VKN for cfg in cfgs)
    np.testing.assert_allclose(one, seven, atol=1e-5)


def test_the_network_never_sees_more_clips_than_a_batch(root):
    cfg = configured(root, {"clips": "all", "crops": 5}, batch_size=4)
    task, sizes = make_task(cfg), []
    task.model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    quiet_trainer().test(task, make_data(cfg), verbose=False)
    assert max(sizes) == 4


def test_each_video_is_decoded_once_whatever_the_views(root, monkeypatch):
    from videores.data import dataset

    calls, read = [], dataset.read_frames
    monkeypatch.setattr(
        dataset, "read_frames", lambda path, *args, **keys: calls.append(path) or read(path, *args, **keys)
    )
    scored(configured(root, {"clips": 10, "crops": 3}, cache="none"))
    assert len(calls) == len(set(calls)) == 7


def test_an_item_does_not_grow_with_the_views(root):
    sizes = []
    for clips, crops in ((2, 1), (30, 10)):
        item = make_data(configured(root, {"clips": clips, "crops": crops})).dataset("test")[0, 2]
        sizes.append(item["frames"].nbytes)
    assert sizes[1] <= 29 * 36 * 36 * 3  # the frames of the video, once


# -- no number that is not one ----------------------------------------------------------------------------------------


def validated(root, tmp_path, views_):
    """A configuration whose validation videos are copies of the test videos, with one protocol for both."""
    folder = tmp_path / "copy"
    shutil.copytree(root, folder)
    rows = (folder / "test.csv").read_text().splitlines()
    for row in rows[1:]:
        shutil.copy(folder / row.split(",")[0], folder / f"v{row.split(',')[0]}")
    renamed = [f"v{row.rsplit(',', 1)[0]},v{row.rsplit(',', 1)[1]}" for row in rows[1:]]
    (folder / "val.csv").write_text("\n".join([rows[0], *renamed]) + "\n")
    data = {"transform": {"short_side": 36, "crop": 32, "flip": 0.5}, "clip": {"frames": 4}, "batch_size": 2}
    return make_config(folder, data=data, val=views_, test=views_, train={"epochs": 1})


def test_validation_and_test_under_one_protocol_give_one_number(root, tmp_path):
    cfg = validated(root, tmp_path, {"clips": "all", "crops": 3, "fusion": "max"})
    task, data = make_task(cfg), make_data(cfg)
    trainer = quiet_trainer(max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(task, data)
    logged, logits = {k: float(v) for k, v in trainer.callback_metrics.items()}, task.logits_VKN
    quiet_trainer().test(task, data, verbose=False)
    np.testing.assert_array_equal(task.logits_VKN, logits)
    label_V = np.array([video.label for video in data.dataset("test").videos])
    found = metrics.compute_metrics(task.logits_VKN, label_V, "max", views_V=data.dataset("test").view_counts())
    assert logged["val/video_top1"] == pytest.approx(found["video_top1"])
    assert logged["val/clip_top1"] == pytest.approx(found["clip_top1"])


@pytest.mark.parametrize("limit", [{"limit_test_batches": 1}, {"limit_test_batches": 0.5}, {"fast_dev_run": True}])
def test_a_part_of_the_test_gives_no_number(root, limit):
    cfg = configured(root, {"clips": 2})
    with pytest.raises(RuntimeError, match="scored exactly once"):
        quiet_trainer(**limit).test(make_task(cfg), make_data(cfg), verbose=False)


def test_a_sanity_check_logs_no_number_and_a_limited_validation_is_refused(root, tmp_path):
    cfg = validated(root, tmp_path, {"clips": 2})
    seen = []

    class Look(pl.Callback):
        def on_sanity_check_end(self, trainer, module):
            seen.append(sorted(trainer.callback_metrics))

    trainer = quiet_trainer(max_epochs=1, num_sanity_val_steps=1, callbacks=[Look()])
    trainer.fit(make_task(cfg), make_data(cfg))
    assert seen == [[]]
    assert "val/video_top1" in trainer.callback_metrics
    limited = quiet_trainer(max_epochs=1, num_sanity_val_steps=0, limit_val_batches=1)
    with pytest.raises(RuntimeError, match="scored exactly once"):
        limited.fit(make_task(cfg), make_data(cfg))
    assert "val/video_top1" not in limited.callback_metrics


@pytest.mark.parametrize("workers", [0, 1])
def test_a_test_video_that_no_longer_decodes_counts_as_wrong(root, tmp_path, capfd, workers):
    folder = tmp_path / "copy"
    shutil.copytree(root, folder)
    cfg = configured(folder, {"clips": "all", "crops": 3}, workers=workers, cache="none")
    videos = datamodule.load_videos(cfg.data, parts=("test",))
    (folder / "e2.mp4").write_bytes(b"no video any more")
    (folder / "e4.mp4").unlink()
    task, data = make_task(cfg), datamodule.VideoData.from_config(cfg, videos)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    parts = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams), "epoch": 0, "global_step": 0}
    torch.save(parts, checkpoint)
    assert run.test(module_module.Run(cfg, tmp_path / "run", task, data, quiet_trainer()), checkpoint, "test") == 1
    (target,) = (tmp_path / "run" / "test").iterdir()
    found = json.loads((target / "metrics.json").read_text())
    assert found["videos"] == {"expected": 7, "scored": 5, "unreadable": ["e2.mp4", "e4.mp4"]}
    with np.load(target / "predictions.npz") as arrays:
        assert np.isnan(arrays["logits"]).all((1, 2)).tolist() == [i in (2, 4) for i in range(7)]
        assert found["protocol"] == "4x1@32/36 allx3 softmax-mean tiny-test"
        assert arrays["clip"].tolist() == [k // 3 for k in range(arrays["logits"].shape[1])]
    told = capfd.readouterr().err
    assert "e2.mp4: the file changed" in told
    assert "e4.mp4: there is no such file" in told


def test_a_validation_video_that_no_longer_decodes_stops_the_run(root, tmp_path):
    cfg = validated(root, tmp_path, {"clips": 2})
    data = make_data(cfg)
    (tmp_path / "copy" / "ve3.mp4").write_bytes(b"no video any more")
    with pytest.raises(UserError, match=r"ve3\.mp4"):
        quiet_trainer(max_epochs=1, num_sanity_val_steps=0).fit(make_task(cfg), data)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("views_", "clip", "expected"),
    [
        ({"clips": 10, "crops": 3}, {"frames": 16, "stride": 2}, "16x2@32/36 10x3 softmax-mean tiny-test"),
        ({"clips": "all"}, {"frames": 16, "stride": 2}, "16x2@32/36 allx1 softmax-mean tiny-test"),
        ({"clips": 10, "crops": "full", "fusion": "vote"}, {"frames": 8}, "8x1@32/36 10xfull vote tiny-test"),
        ({"clips": 10, "starts": "dense", "crops": 5, "fusion": "max"}, {}, "16x1@32/36 dense10x5 max tiny-test"),
        ({"clips": 2}, {"frames": 8, "sampling": "segments"}, "8xsegments@32/36 2x1 softmax-mean tiny-test"),
        ({"clips": 2}, {"frames": 8, "fps": 12.5}, "8x12.5fps@32/36 2x1 softmax-mean tiny-test"),
        (
            {"order": "shuffled", "corruption": "frame_drop", "severity": 5},
            {"frames": 8},
            "8x1@32/36 1x1 softmax-mean tiny-test shuffled frame_drop-5",
        ),
    ],
)
def test_protocol_strings(root, views_, clip, expected):
    cfg = configured(root, views_, clip=clip)
    assert protocol_module.format_protocol(cfg) == expected
    assert protocol_module.slugify(expected) == protocol_module.slugify(protocol_module.slugify(expected))


def test_held_out_videos_are_not_called_the_test():
    assert protocol.format_split(schema.DataConfig(name="u", format="ucf101", root="x", split=2), "val") == "2-heldout"
    assert protocol.format_split(schema.DataConfig(name="k", format="kinetics", root="x"), "val") == "heldout"


# -- probes -----------------------------------------------------------------------------------------------------------


def shown(root, number=2, **views_):
    """The numbers that the clips of a test video show."""
    data = make_data(configured(root, {"clips": 3, **views_}, transform={"short_side": 32, "crop": 32, "flip": 0}))
    item = data.dataset("test")[0, number]
    clips = transforms.crop_views(item["frames"], item["place"], 32, 1)
    return np.array([read_numbers(clip) for clip in clips]) - 1000 - 100 * number


def test_orders_of_frames_are_what_they_say(root):
    normal = shown(root)
    assert (np.diff(normal, axis=1) == 1).all()
    assert (shown(root, order="reversed") == normal[:, ::-1]).all()
    assert (shown(root, order="frozen") == normal[:, [2, 2, 2, 2]]).all()
    assert (shown(root, order="subsampled") == normal[:, [0, 0, 2, 2]]).all()
    shuffled = shown(root, order="shuffled")
    assert (np.sort(shuffled, axis=1) == normal).all()
    assert (shuffled != normal).any()
    assert (shown(root, order="shuffled") == shuffled).all()


def test_lost_frames_show_the_one_before_in_every_clip(root):
    normal, lost = shown(root), shown(root, corruption="frame_drop", severity=5)
    assert (lost <= normal).all()
    assert (lost < normal).any()
    pairs = {(n, k) for n, k in zip(normal.ravel().tolist(), lost.ravel().tolist(), strict=True)}
    assert len(pairs) == len({n for n, _ in pairs})  # overlapping clips lose the same frames


def test_a_network_of_2d_convolutions_cannot_tell_the_order(root):
    scores = {}
    for order in ("normal", "reversed", "shuffled"):
        cfg = configured(root, {"clips": 2, "order": order})
        cfg = cfg.model_copy(update={"model": schema.ModelConfig(name="f_r2d_18", layers=[1], width=8)})
        scores[order] = scored(cfg)[0].logits_VKN
    np.testing.assert_allclose(scores["reversed"], scores["normal"], atol=1e-5)
    np.testing.assert_allclose(scores["shuffled"], scores["normal"], atol=1e-5)
