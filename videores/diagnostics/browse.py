"""Show what the model sees: sheets and short videos of training clips and test views.

The pixels are those that the network is given, after everything that the loader and the device do to them but the
normalisation. Training clips are the first of a run with the same configuration.
"""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from videores.config.schema import Config
from videores.config.streams import list_sources
from videores.data import audio, datamodule, mixing
from videores.data.video.encode import write_video
from videores.data.views import count_crops, list_item_views

matplotlib.use("Agg")

COLUMNS, ROWS = 8, 30  # of a sheet
SMALLEST, GAP, HEAD = 112, 4, 18  # pixels: a frame's side, between frames, above a row


class Row(NamedTuple):
    """One clip: uint8 clip_THWC, the numbers of its frames, and what is written above it."""

    clip_THWC: np.ndarray
    index_T: np.ndarray
    title: str


def collect_rows(cfg: Config, folder: Path, count: int) -> int:
    """Write a sheet and videos of `count` training and as many test videos.

    Returns the exit code.
    """
    videos = datamodule.load_videos(cfg.data)
    batch_size = min(cfg.data.batch_size, len(videos.readable("train")))  # a look needs no whole step
    data = cfg.data.model_copy(update={"workers": 0, "cache": "none", "batch_size": batch_size})
    module = datamodule.VideoData.from_config(cfg.model_copy(update={"data": data}), videos)
    folder.mkdir(parents=True, exist_ok=True)
    sources = list_sources(cfg.data.stream)
    for source in sources:
        which = f"_{source}" if len(sources) > 1 else ""
        _write_browser(folder / f"train{which}", list(islice(read_training_rows(module, source), count)))
        _write_browser(folder / f"test{which}", list(read_test_rows(module, count, source)))
    return 1 if any(videos.unreadable.values()) else 0


def _write_browser(path, found):
    clips = [row for _, rows in found for row in rows]
    for i in range(0, len(clips), ROWS):
        _plot_sheet(f"{path}_sheet{i // ROWS + 1}.png", clips[i : i + ROWS])
    for i, (fps, rows) in enumerate(found, 1):
        write_video(f"{path}_video{i}.mp4", _tile_rows(rows), fps, options={"crf": "15"})
    print(f"wrote   {path}_sheet*.png and {path}_video*.mp4: {len(clips)} clips of {len(found)} videos")


def read_training_rows(module, source):
    """Yield (fps, rows of its clips) of each video of the first epoch, as a source has them."""
    dataset, classes = module.dataset("train"), module.videos.index.classes
    for batch in module.train_dataloader():
        batch = mixing.finish_batch(batch, len(classes))
        for number, clips, label in zip(
            batch["video"].tolist(), _pick(batch["clips"], source), batch["label"], strict=True
        ):
            draws = [dataset.draw(0, number, view) for view in range(len(clips))]
            labels = label.expand(len(clips), *label.shape[1:])
            pixels = _to_pixels(clips, dataset.of(source))
            titles = [f"{format_label(one, classes)}   {dataset.videos[number].path}" for one in labels]
            indices = [draw.index_T for draw in draws]
            yield _format_frame_rate(dataset.info(number), indices[0]), list(map(Row, pixels, indices, titles))


def read_test_rows(module, count, source):
    """Yield (fps, rows of its views) of `count` videos, evenly over the list, as a source has them."""
    dataset, classes = module.dataset("test"), module.videos.index.classes
    for number in np.unique(np.linspace(0, len(dataset) - 1, count).astype(int)).tolist():
        info, video, views = dataset.info(number), dataset.videos[number], dataset.views
        index_KT, crops = dataset.frames_shown(number), count_crops(views)
        places = [(k, crop) for k in range(len(index_KT)) for crop in range(crops)]
        where = [f"clip {k + 1} of {len(index_KT)}, crop {crop + 1} of {crops}" for k, crop in places]
        titles = [f"{classes[video.label]}   {video.path}   {place}" for place in where]
        clips = _pick(list_item_views(dataset[0, number], dataset.transform.crop, views), source)
        clips = _to_pixels(clips, dataset.of(source))
        yield _format_frame_rate(info, index_KT[0]), list(map(Row, clips, [index_KT[k] for k, _ in places], titles))


def _pick(clips, source):
    return clips[source] if isinstance(clips, Mapping) else clips


def _to_pixels(clips_KTHWC, dataset):
    """Return uint8 clips_KTHWC.

    Of sound, they are spectrograms, the highest band on top, black to white from -2 to 2.
    """
    if dataset.source == "audio":
        picture_KTHW = audio.make_spectrograms(clips_KTHWC[None], dataset.audio)[0, :, 0].flip(-2)
        clips_KTHWC = ((picture_KTHW + 2) * 255 / 4).clamp(0, 255)[..., None].expand(-1, -1, -1, -1, 3)
    return clips_KTHWC.round().byte().numpy() if clips_KTHWC.is_floating_point() else clips_KTHWC.numpy()


def format_label(label, classes):
    """Format the class, or the shares of those that were mixed."""
    if not label.ndim:
        return classes[label]
    return " + ".join(f"{label[i]:.2f} {classes[i]}" for i in label.argsort(descending=True) if label[i] > 0)


def _format_frame_rate(info, index_T):
    """Format the rate at which the clip plays as fast as the video."""
    return max(1, (info.fps or 25) / max(1, float(np.median(np.diff(index_T)))) if len(index_T) > 1 else 1)


def _plot_sheet(path, rows):
    """Plot a row a clip, of up to COLUMNS of its frames, with the frames' numbers."""
    picture, texts = np.full((*_compute_sheet_size(rows), 3), 255, np.uint8), []
    top = 0
    for clip_THWC, index_T, title in rows:
        clip_THWC = enlarge_clip(clip_THWC)
        texts.append((GAP, top + HEAD - 5, title, {}))
        for column, t in enumerate(select_frames(len(clip_THWC))):
            left = column * (clip_THWC.shape[2] + GAP)
            picture[top + HEAD : top + HEAD + clip_THWC.shape[1], left : left + clip_THWC.shape[2]] = clip_THWC[t]
            texts.append((left + 3, top + HEAD + 11, f"{index_T[t]}", NUMBER))
        top += HEAD + clip_THWC.shape[1] + GAP
    _save_picture(path, picture, texts)


NUMBER = dict(color="white", bbox=dict(facecolor="black", alpha=0.6, pad=1, linewidth=0))


def _compute_sheet_size(rows):
    clip_THWC = enlarge_clip(rows[0].clip_THWC[:1])
    columns = len(select_frames(len(rows[0].clip_THWC)))
    return len(rows) * (HEAD + clip_THWC.shape[1] + GAP), columns * (clip_THWC.shape[2] + GAP)


def select_frames(frames):
    return np.unique(np.linspace(0, frames - 1, COLUMNS).round().astype(int))


def enlarge_clip(clip_THWC):
    """Small pictures by a whole number, each pixel a square."""
    zoom = -(-SMALLEST // clip_THWC.shape[1])
    return clip_THWC.repeat(zoom, axis=1).repeat(zoom, axis=2)


def _save_picture(path, picture_HWC, texts):
    height, width = picture_HWC.shape[:2]
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture_HWC, interpolation="nearest", aspect="auto")
    axes.axis("off")
    for left, bottom, text, style in texts:
        axes.text(left, bottom, text.replace("$", r"\$"), fontsize=7, **style)  # no formulas
    figure.savefig(path)
    plt.close(figure)


def _tile_rows(rows):
    """Return the clips of a video side by side, uint8 frames_THWC of even size."""
    clips = [enlarge_clip(row.clip_THWC) for row in rows]
    columns = int(np.ceil(np.sqrt(len(clips))))
    clips += [np.zeros_like(clips[0])] * (-len(clips) % columns)
    lines = [np.concatenate(clips[i : i + columns], axis=2) for i in range(0, len(clips), columns)]
    frames_THWC = np.concatenate(lines, axis=1)
    return np.pad(frames_THWC, [(0, 0), *((0, size % 2) for size in frames_THWC.shape[1:3]), (0, 0)])
