"""Volumes are clips of slices: MedMNIST's archives and NIfTI files, voxel by voxel; bad ones are named."""

import io
import re
import zipfile

import nibabel
import numpy as np
import pytest
import torch
from helpers.training import fit, make_config, make_data

from videores.config.schema import DataConfig, TransformConfig
from videores.data import datamodule, index, streams
from videores.data.dataset import VideoDataset
from videores.data.decode import read_frames
from videores.data.lists import Video
from videores.data.prepare import commands
from videores.data.probe import probe
from videores.data.video.reencode import EncodingSettings
from videores.errors import UnreadableVideo, UserError
from videores.evaluation import floors

SIZE = (10, 12, 14)  # D, H, W, all different so that no axis is taken for another
COUNTS = {"train": 8, "val": 2, "test": 4}


def make_volumes(count, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


def make_arrays():
    images = {f"{part}_images": make_volumes(n, seed=n) for part, n in COUNTS.items()}
    return images | {f"{part}_labels": np.arange(n)[:, None].astype(np.uint8) % 2 for part, n in COUNTS.items()}


def write_archive(folder, **changes):
    """An archive as MedMNIST writes it; a change to None leaves an array out."""
    arrays = {key: value for key, value in {**make_arrays(), **changes}.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "tiny.npz", **arrays)
    return folder / "tiny.npz"


def settings(root, **changes):
    transform = {"short_side": 12, "crop": 12, "flip": 0.0, "mean": [0.0] * 3, "std": [1.0] * 3}
    values = {"name": "tiny", "format": "npz", "root": str(root), "workers": 0, "clip": {"frames": SIZE[0]}}
    return DataConfig(**{**values, "transform": transform, **changes})


def write_nifti(path, values_WHT, affine=None, window=None, scale=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values_WHT, np.eye(4) if affine is None else affine)
    if window:
        image.header["cal_min"], image.header["cal_max"] = window
    if scale:
        image.header.set_slope_inter(*scale)
    nibabel.save(image, path)
    return path


# -- archives ---------------------------------------------------------------------------------------------------------


def test_an_archive_has_its_parts_labels_and_voxels(tmp_path):
    archive = write_archive(tmp_path)
    found = index.read_index(settings(archive))
    assert found.classes == ("0", "1")
    assert found.train == tuple(Video(f"train/{n}", n % 2) for n in range(8))
    assert [len(found.val), len(found.test)] == [2, 4]
    info = probe(archive / "test" / "3")
    assert (info.num_frames, info.height, info.width, info.fps, info.readers) == (*SIZE, 0, ("pyav",))
    frames_THWC = read_frames(archive / "test" / "3", [9, 0, 4, 4], info=info)
    truth_DHW = make_arrays()["test_images"][3]
    assert np.array_equal(frames_THWC, np.repeat(truth_DHW[[9, 0, 4, 4], ..., None], 3, axis=-1))


def test_classes_have_the_names_of_a_list(tmp_path):
    archive = write_archive(tmp_path)
    (tmp_path / "classes.txt").write_text("normal\nhyperplasia\n")
    assert index.read_index(settings(archive, splits=str(tmp_path))).classes == ("normal", "hyperplasia")


def test_a_real_archive_is_read_voxel_by_voxel(shared_data):
    archive = shared_data / "volumes" / "adrenalmnist3d.npz"
    found = index.read_index(settings(archive))
    assert [len(found.train), len(found.val), len(found.test)] == [1188, 98, 298]
    assert 100 * np.mean([video.label == 0 for video in found.test]) == pytest.approx(76.8, abs=0.05)
    frames_THWC = read_frames(archive / "test" / "297", range(28))
    with np.load(archive) as arrays:
        assert np.array_equal(frames_THWC[..., 1], arrays["test_images"][297])


def test_the_thumbnail_floor_sees_the_middle_of_a_volume(tmp_path):
    arrays = make_arrays()
    for part in COUNTS:  # empty at the ends, as masks are
        arrays[f"{part}_images"][:] = 0
        arrays[f"{part}_images"][:, SIZE[0] // 2] = 200 * arrays[f"{part}_labels"].reshape(-1, 1, 1)
    data = settings(write_archive(tmp_path, **arrays))
    assert floors.find_floors(data, datamodule.load_videos(data), "test")["thumbnail"] == 100


@pytest.mark.parametrize("stream", ["grey", "rgb"])
def test_a_clip_is_the_volume_in_one_channel_or_three(tmp_path, stream):
    data = settings(write_archive(tmp_path), stream=stream)
    videos = datamodule.load_videos(data)
    item = VideoDataset(
        data.root and datamodule.shards.locate(data.root),
        videos.index.train,
        videos.infos,
        data.clip,
        TransformConfig(short_side=12, crop=12, flip=0),
    ).item(0, 5)
    clip_CTHW = streams.make_input(item["clips"][None], data)[0, 0]
    truth_DHW = torch.from_numpy(make_arrays()["train_images"][5]) / 255
    left = [x for x in range(3) if torch.allclose(clip_CTHW[0], truth_DHW[:, :, x : x + 12])]
    assert len(left) == 1  # the crop is 12 of 14 columns, and all rows
    assert torch.equal(clip_CTHW, clip_CTHW[:1].expand_as(clip_CTHW))
    assert len(clip_CTHW) == {"grey": 1, "rgb": 3}[stream]


def test_a_run_trains_on_volumes_of_one_channel(tmp_path, one_quiet_thread):
    data = settings(write_archive(tmp_path), stream="grey").model_dump(exclude_unset=True)
    cfg = make_config(tmp_path, data=data, model={"stem": "cifar"}, train={"epochs": 1})
    watch = fit(cfg)[1]
    assert cfg.model.clip_channels == 1
    assert np.isfinite(watch.losses).all()


def test_mirrored_axes_are_drawn_each_for_itself(tmp_path):
    archive = write_archive(tmp_path)
    seen, truth_DHW = set(), make_arrays()["train_images"][0][:, :, :12]
    data = settings(archive, augment={"flip_axes": ["depth", "height"]})
    videos = datamodule.load_videos(data)
    square = TransformConfig(short_side=12, crop=12, flip=0)
    dataset = VideoDataset(archive, videos.index.train, videos.infos, data.clip, square, augment=data.augment)
    for epoch in range(60):
        clip_DHW = dataset.item(epoch, 0)["clips"][0, ..., 0].numpy()
        for flips in ((), (0,), (1,), (0, 1)):
            seen |= {flips} if np.array_equal(np.flip(clip_DHW, flips), truth_DHW) else set()
    assert seen == {(), (0,), (1,), (0, 1)}


# -- NIfTI ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_slices_of_nifti_go_to_the_head_rows_to_the_front_columns_to_the_right(tmp_path, name):
    values_WHT = make_volumes(1)[0].T  # right, anterior, superior
    path = write_nifti(tmp_path / name, values_WHT)
    assert np.array_equal(read_frames(path, range(10))[..., 0], make_volumes(1)[0])
    turned = write_nifti(tmp_path / "t" / name, values_WHT[::-1, :, ::-1], np.diag([-1.0, 1, -1, 1]))
    assert np.array_equal(read_frames(turned, range(10))[..., 0], make_volumes(1)[0])


def test_other_values_become_bytes_in_the_headers_window_or_from_least_to_greatest(tmp_path):
    values_WHT = np.linspace(-1000, 1000, 8 * 8 * 5).reshape(8, 8, 5).astype(np.float32)
    whole = read_frames(write_nifti(tmp_path / "a.nii", values_WHT), range(5))[..., 0]
    assert np.array_equal(whole.T, np.rint(255 * (values_WHT.astype(float) + 1000) / 2000))
    cut = read_frames(write_nifti(tmp_path / "b.nii", values_WHT, window=(0, 100)), range(5))[..., 0]
    assert np.array_equal(cut.T, np.rint(255 * (values_WHT.astype(float) / 100).clip(0, 1)))


def test_class_folders_may_hold_volumes_of_several_sizes(tmp_path):
    for part, count in (("train", 3), ("test", 1)):
        for label in ("healthy", "ill"):
            for n in range(count):
                write_nifti(tmp_path / part / label / f"{n}.nii.gz", make_volumes(1, (9 + n, 12, 14 + n), seed=n)[0].T)
    clip = {"frames": 8, "sampling": "segments"}
    videos = datamodule.load_videos(settings(tmp_path, format="folder", val="none", clip=clip))
    assert [video.path for video in videos.index.test] == ["test/healthy/0.nii.gz", "test/ill/0.nii.gz"]
    assert sorted({info.num_frames for info in videos.infos.values()}) == [9, 10, 11]


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train_labels": np.zeros((7, 1), np.uint8)}, "train_labels"),
        ({"test_labels": np.zeros((4, 3), np.uint8)}, "test_labels"),
        ({"test_labels": np.full((4, 1), 0.5)}, "test_labels"),
        ({"test_labels": np.full((4, 1), 2)}, "test_labels"),
        ({"test_labels": np.full((4, 1), -1)}, "test_labels"),
        ({"train_labels": np.arange(8)[:, None] % 2 * 2}, "train_labels"),  # no volume of class 1
        ({"train_labels": None}, "train_labels"),
        ({"val_labels": None}, "val_labels"),
        ({"train_images": make_volumes(8)[:, 0]}, "train_images"),
        ({"test_images": make_volumes(4, (20, 12, 14))}, "test_images 20x12x14"),
        ({"train_images": np.array([None] * 8)}, "train_images"),  # pickled, as are volumes of several sizes
        ({"train_labels": np.array([None] * 8)}, "tiny.npz"),
    ],
)
def test_archives_with_other_arrays_are_refused(tmp_path, changes, named):
    with pytest.raises(UserError) as error:
        index.read_index(settings(write_archive(tmp_path, **changes)))
    assert named in str(error.value)
    assert "tiny.npz" in str(error.value)


def test_an_archive_that_is_cut_or_not_there_is_named(tmp_path):
    archive = write_archive(tmp_path)
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"tiny\.npz"):
        index.read_index(settings(archive))
    np.save(tmp_path / "one.npy", make_volumes(2))
    (tmp_path / "one.npy").rename(archive)
    with pytest.raises(UserError, match=r"tiny\.npz"):
        index.read_index(settings(archive))
    archive.unlink()
    with pytest.raises(UserError, match=r"data\.root"):
        index.read_index(settings(archive))


def test_damaged_bytes_within_an_archive_make_bad_volumes(tmp_path):
    archive, content = tmp_path / "tiny.npz", bytearray(write_archive(tmp_path).read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as file:
        start = file.getinfo("train_images.npy").header_offset
    content[start + 3000 : start + 3100] = bytes(100)
    archive.write_bytes(bytes(content))
    with pytest.raises(UnreadableVideo, match="train/0"):
        probe(archive / "train" / "0")
    with pytest.raises(UnreadableVideo, match="test/4"):
        probe(archive / "test" / "4")  # it has four


def test_volumes_without_numbers_or_of_four_axes_are_bad(tmp_path):
    values_WHT = np.zeros((8, 8, 5), np.float32)
    values_WHT[1, 2, 3] = np.nan
    with pytest.raises(UnreadableVideo, match="NaN"):
        probe(write_nifti(tmp_path / "nan.nii", values_WHT))
    with pytest.raises(UnreadableVideo, match="shape"):
        probe(write_nifti(tmp_path / "time.nii", np.zeros((8, 8, 5, 2), np.float32)))
    whole = write_nifti(tmp_path / "cut.nii.gz", make_volumes(1)[0].T)
    whole.write_bytes(whole.read_bytes()[:-400])
    with pytest.raises(UnreadableVideo, match="cut"):
        probe(whole)


def test_what_volumes_do_not_have_is_refused(tmp_path):
    archive = write_archive(tmp_path)
    for changes, key in (
        ({"clip": {"fps": 5}}, "data.clip.fps"),
        ({"transform": {"short_side": 12, "crop": 12}}, "data.transform.flip"),
        ({"reader": "decord"}, "data.reader"),
    ):
        with pytest.raises(UserError, match=re.escape(key)):
            datamodule.load_videos(settings(archive, **changes))


def test_the_survey_reports_volumes_and_refuses_to_copy_or_pack_them(tmp_path, capsys):
    archive = write_archive(tmp_path, test_images=np.full((4, *SIZE), np.nan, np.float32))
    assert commands.prepare(commands.Options("npz", archive, None, "all", EncodingSettings())) == 1
    assert "test/3" in capsys.readouterr().out
    for more in ({"out": tmp_path / "copies"}, {"shards": tmp_path / "shards"}):
        with pytest.raises(UserError, match="volumes"):
            commands.prepare(commands.Options("npz", archive, None, "all", EncodingSettings(), **more))


def test_a_gain_multiplies_the_voxels_without_a_limit(tmp_path):
    """As MedMNIST trains on shape sets: times 0 to 1, where the test takes a half."""
    transform = {"short_side": 12, "crop": 12, "flip": 0.0, "mean": [0.0] * 3, "std": [2.0] * 3}
    archive = write_archive(tmp_path, train_images=np.full((8, *SIZE), 255, np.uint8))
    cfg = make_config(
        tmp_path,
        data={
            **settings(archive, transform=transform).model_dump(exclude_unset=True),
            "augment": {"gain": [0.0, 2.0]},
            "batch_size": 8,
        },
    )
    (batch,) = make_data(cfg).training_batches(0, 1, torch.device("cpu"))
    factor_B = batch["clips"].flatten(1).amax(1)
    assert torch.equal(batch["clips"], factor_B.view(-1, 1, 1, 1, 1, 1).expand_as(batch["clips"]))
    assert len(factor_B.unique()) == 8
    assert factor_B.min() < 0.5 < factor_B.max() <= 1
