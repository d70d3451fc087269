"""browse shows what the network is given: the right frames, numbers, labels and views, in pictures and videos."""

from itertools import islice
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from helpers.commands import forked
from helpers.videos import read_numbers, write_ucf101

from videores.config import parse
from videores.data import datamodule
from videores.data.decode import read_frames
from videores.diagnostics import browse


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """8 training and 4 test videos of 30 frames, 48 x 48; classes Run and Walk."""
    return write_ucf101(tmp_path_factory.mktemp("tiny"), frames=30)


def make_config(tiny, test=None, **data):
    usual = dict(batch_size=4, val="none", clip=dict(frames=12), transform=dict(short_side=48, crop=48, flip=0))
    sections = dict(data={**tiny, **usual, **data}, model={"name": "r3d_18"}, train={"epochs": 1}, test=test or {})
    return parse.build_config(sections, "test")


def module(cfg):
    return datamodule.VideoData.from_config(cfg, datamodule.load_videos(cfg.data))


def test_training_rows_are_the_first_batches_with_their_frame_numbers_and_labels(tiny):
    data = module(make_config(tiny, clip=dict(frames=12, repeat=2)))
    found = list(browse.read_training_rows(data))
    order = [number for batch in data.train_dataloader() for number in batch["video"].tolist()]
    assert len(found) == len(order) == 8
    first = {
        video.path: read_numbers(read_frames(Path(tiny["root"], video.path), [0]))[0]
        for video in data.dataset("train").videos
    }
    for fps, rows in found:
        assert fps == 25
        assert len(rows) == 2
        for row in rows:
            name, path = row.title.split()
            assert path.startswith(f"{name}/v_{name}_")
            assert read_numbers(row.clip_THWC) == [first[path] + i for i in row.index_T]


def test_test_rows_are_the_views_of_videos_from_the_whole_list(tiny):
    transform = dict(short_side=48, crop=48)
    data = module(make_config(tiny, test=dict(clips=3), transform=transform, clip=dict(frames=6, stride=2)))
    found = list(browse.read_test_rows(data, 2))
    assert [rows[0].title.split()[0] for _, rows in found] == ["Run", "Walk"]
    for fps, rows in found:
        assert fps == 12.5  # every other frame
        assert [row.title.split("   ")[2] for row in rows] == [f"clip {k} of 3, crop 1 of 1" for k in (1, 2, 3)]
        assert [row.index_T[0] for row in rows] == [0, 9, 19]
        for row in rows:
            assert [n % 100 for n in read_numbers(row.clip_THWC)] == row.index_T.tolist()


def test_the_pixels_are_those_that_are_normalised(tiny):
    augment = dict(hue=0.2, brightness=0.3, erasing=0.5, mixup=1.0)
    data = module(make_config(tiny, augment=augment))
    t, batch = data.data.transform, next(iter(data.train_dataloader()))
    clips_BCTHW = data.on_after_batch_transfer(batch, 0)["clips"][:, 0]
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (t.mean, t.std))
    expected = (255 * (clips_BCTHW * std + mean)).movedim(1, -1)
    rows = [row for _, (row,) in islice(browse.read_training_rows(data), len(expected))]  # the batch comes first
    for clip, row in zip(expected, rows, strict=True):
        assert np.abs(clip.numpy() - row.clip_THWC).max() < 0.51


def test_mixed_labels_are_named_with_their_shares():
    assert browse.format_label(torch.tensor(1), ("Run", "Walk")) == "Walk"
    assert browse.format_label(torch.tensor([0.25, 0, 0.75]), ("Run", "Walk", "Sit")) == "0.75 Sit + 0.25 Run"
    assert browse.format_label(torch.tensor([0.0, 1.0]), ("Run", "Walk")) == "1.00 Walk"


@pytest.mark.parametrize("crop", [47, 48])
def test_sheets_and_videos_show_the_clips(tiny, tmp_path, capsys, crop):
    cfg = make_config(tiny, test=dict(clips=2, crops=3), transform=dict(short_side=48, crop=crop, flip=0))
    assert browse.collect_rows(cfg, tmp_path / "out", 3) == 0
    names = ["test_sheet1.png", *(f"test_video{i}.mp4" for i in (1, 2, 3))]
    names += [name.replace("test", "train") for name in names]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'out' / 'train'}_sheet*.png and {tmp_path / 'out' / 'train'}_video*.mp4: 3 clips" in printed
    assert "18 clips of 3 videos" in printed
    _, rows = next(browse.read_training_rows(module(cfg)))
    sheet = (255 * matplotlib.image.imread(tmp_path / "out" / "train_sheet1.png")[..., :3]).round()
    side, top = 3 * crop, browse.HEAD  # 48 pixels are shown three times as large
    for column, t in enumerate(browse.select_frames(12)):
        left = column * (side + browse.GAP)
        tile = sheet[top + 30 : top + side, left : left + side]  # below the frame's number
        assert (tile == browse.enlarge_clip(rows[0].clip_THWC)[t, 30:]).mean() > 0.95
    frames = read_frames(tmp_path / "out" / "test_video1.mp4", range(12))
    assert frames.shape == (12, 2 * side + 2 * side % 2, 3 * side + 3 * side % 2, 3)
    _, views = next(browse.read_test_rows(module(cfg), 3))
    assert read_numbers(frames[:, :side, side : 2 * side]) == read_numbers(views[1].clip_THWC)
    assert read_numbers(frames[:, side : 2 * side, :side]) == read_numbers(views[3].clip_THWC)


def test_many_clips_take_several_sheets(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(browse, "ROWS", 4)
    cfg = make_config(tiny, test=dict(clips=3, crops=3), clip=dict(frames=4))
    browse.collect_rows(cfg, tmp_path, 1)
    assert sorted(path.name for path in tmp_path.glob("*sheet*")) == [
        *(f"test_sheet{i}.png" for i in (1, 2, 3)),
        "train_sheet1.png",
    ]


def test_fewer_training_videos_than_a_batch_can_be_looked_at(tiny, tmp_path):
    many = make_config(tiny, batch_size=500)
    assert browse.collect_rows(many, tmp_path / "few", 2) == 0
    assert list((tmp_path / "few").glob("train_sheet*.png"))


def test_bad_test_videos_are_said_by_the_exit_code(tmp_path):
    values = write_ucf101(tmp_path)
    Path(values["root"], "Run/v_Run_g01_c02.avi").write_bytes(b"no video")
    assert browse.collect_rows(make_config(values, clip=dict(frames=4)), tmp_path / "out", 2) == 1


def test_the_tool_writes_to_results_by_default(tiny, tmp_path):
    (tmp_path / "mine.yaml").write_text(parse.to_yaml(make_config(tiny)))
    command = ("browse.py", "--cfg", "mine.yaml", "--videos", "1", "data.clip.frames=4")
    process, wrong = forked([command, (*command, "--videos", "0")], tmp_path)
    assert process.returncode == 0, process.stderr
    assert "results/browse/mine/train_sheet*.png" in process.stdout
    assert (tmp_path / "results" / "browse" / "mine" / "test_sheet1.png").is_file()
    assert (wrong.returncode, "at least 1" in wrong.stderr) == (2, True)
