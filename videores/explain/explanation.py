"""Explain the answer for a video: the maps of the clips that its test scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from videores.config.streams import format_streams, has_sound
from videores.data import transforms, views
from videores.data.dataset import VideoDataset
from videores.data.lists import Video
from videores.data.manifest import probe_all
from videores.data.shards import Root
from videores.errors import UnreadableVideo, UserError, format_suggestion
from videores.explain.cascade import Explain
from videores.explain.layers import find_layer
from videores.explain.maps import LAYER_METHODS, METHODS
from videores.inference.prediction import Prediction
from videores.inference.predictor import Predictor

ZERO = 1e-6  # of the largest logit, below which a map is its rounding
FULL = 0.995  # share of a map's values that are drawn without a limit


@dataclass(frozen=True)
class Explanation:
    """The maps of a video's views for one class.

    V of its K views are explained, and one of them is shown.
    """

    video: str
    truth: str | None  # its class, where a list says it
    prediction: Prediction
    label: int  # the class that is explained
    method: str
    layer: str | None
    view_V: np.ndarray  # which views are explained
    maps_VTHW: np.ndarray
    clips_VTHWC: np.ndarray  # what the network saw
    frame_VT: np.ndarray  # numbers of the frames in the video
    box_V4: np.ndarray  # top, left, height and width of the view within the scaled frame
    flip_V: np.ndarray
    scaled_size: tuple[int, int]  # height and width of the scaled frame
    span_K2: np.ndarray  # first and last frame of each view

    @property
    def name(self) -> str:
        """Return the name of the class that is explained."""
        return self.prediction.classes[self.label]

    @property
    def probability_K(self) -> np.ndarray:
        """Return the probability of the class in each view."""
        return torch.from_numpy(self.prediction.logits_KN).softmax(1)[:, self.label].numpy()

    @property
    def shown(self) -> int:
        """Return which of the V views has the highest probability of the class."""
        return int(self.probability_K[self.view_V].argmax())

    @cached_property
    def is_zero(self) -> bool:
        """Return whether the maps hold nothing but rounding."""
        return float(np.abs(self.maps_VTHW).max()) <= ZERO * float(np.abs(self.prediction.logits_KN).max())

    @cached_property
    def full(self) -> float:
        """Return the absolute value that is drawn in full color, which only few exceed."""
        return float(np.quantile(np.abs(self.maps_VTHW), FULL) or np.abs(self.maps_VTHW).max())

    @property
    def answer(self) -> str:
        """Return the class that is explained, its probability, and what is predicted and true where it differs."""
        others = {"predicted": self.prediction.label, "true": self.truth}
        differing = [f"{what} {name}" for what, name in others.items() if name not in (None, self.name)]
        about = f" ({', '.join(differing)})" if differing else ""
        return f"{self.name} {self.prediction.scores_N[self.label]:.2f}{about}"

    @property
    def resolution(self) -> str:
        """Return the steps of a map in time, height and width."""
        return " x ".join(map(str, self.maps_VTHW.shape[1:]))

    def list_arrays(self) -> dict[str, Any]:
        """Return the arrays of attribution.npz."""
        return {
            "maps": self.maps_VTHW,
            "view": self.view_V,
            "frame": self.frame_VT,
            "box": self.box_V4,
            "flip": self.flip_V,
            "scaled_size": np.array(self.scaled_size),
            "logits": self.prediction.logits_KN,
            "classes": np.array(self.prediction.classes),
            "label": np.array(self.label),
            "video": np.array(self.video),
            "method": np.array(self.method),
            "layer": np.array(self.layer or ""),
        }


def find_class(classes: tuple[str, ...], name: str) -> int:
    """Return the number of a class. Raises UserError for one that the network does not know."""
    if name not in classes:
        listed = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
        raise UserError(f"--class {name} is no class of the network{format_suggestion(name, classes)}: it has {listed}")
    return classes.index(name)


def check_pictures(predictor: Predictor) -> None:
    """Raise UserError unless a network sees pictures of one stream."""
    stream = predictor.preprocessing.stream
    if has_sound(stream) or not isinstance(stream, str):
        raise UserError(f"maps are of pictures of one stream, and this network sees {format_streams(stream)}")


def explain_video(
    predictor: Predictor,
    root: Root,
    path: str,
    *,
    method: str = "gradcam",
    layer: str | None = None,
    label: int | None = None,
    truth: str | None = None,
) -> Explanation:
    """Explain a video under a root, by default for the class that is predicted.

    Methods of layers explain all views; the others, which take many forward passes, the view where the class is most
    probable. Maps are computed in float32, whatever the scores are. Raises UnreadableVideo, and UserError for a method
    that the network has not.
    """
    check_pictures(predictor)
    if method in LAYER_METHODS:
        layer = find_layer(predictor.network.model, layer)[0]
    ((_, prediction),) = predictor.predict_videos(root, [path])
    if isinstance(prediction, UnreadableVideo):
        raise prediction
    label = int(prediction.scores_N.argmax()) if label is None else label
    dataset = make_dataset(predictor, root, path)
    item = dataset.fixed_views(0, 0)
    clips_KTHWC = cut_views(predictor, item)
    view_V = np.arange(len(clips_KTHWC))
    if method not in LAYER_METHODS:
        view_V = np.array([prediction.logits_KN[:, label].argmax()])
    placed = _place_views(predictor, item["frames"], dataset.frames_shown(0))
    span_K2 = np.stack([placed["frame_VT"].min(1), placed["frame_VT"].max(1)], 1)
    return Explanation(
        video=path,
        truth=truth,
        prediction=prediction,
        label=label,
        method=method,
        layer=layer,
        view_V=view_V,
        maps_VTHW=_compute_maps(predictor, clips_KTHWC[view_V], label, select_method(method, layer)),
        clips_VTHWC=clips_KTHWC[view_V].numpy(),
        scaled_size=tuple(item["frames"].shape[1:3]),
        span_K2=span_K2,
        **{name: values[view_V] for name, values in placed.items()},
    )


def select_method(method: str, layer: str | None) -> Explain:
    """Return a function (network, clips_BCTHW, classes_B) -> maps_BTHW."""
    return partial(METHODS[method], layer=layer) if method in LAYER_METHODS else METHODS[method]


def make_dataset(predictor: Predictor, root: Root, path: str) -> VideoDataset:
    """Return the dataset of one video, with the views of the test."""
    infos, _ = probe_all(root, [path], progress=False)
    return predictor.preprocessing.make_dataset(root, [Video(path, 0)], infos)


def cut_views(predictor: Predictor, item: Mapping[str, Any]) -> torch.Tensor:
    """Return uint8 clips_KTHWC, all views of an item of such a dataset."""
    return views.list_item_views(item, predictor.preprocessing.transform.crop, predictor.preprocessing.views)


def _place_views(predictor, frames_UHWC, frame_CT):
    """Return where and when each of K views shows the video, by the names of Explanation."""
    crop, crops = predictor.preprocessing.transform.crop, predictor.preprocessing.views.crops
    height, width = frames_UHWC.shape[1:3]
    corners = transforms.compute_view_corners(height, width, crop, crops)
    size = transforms.compute_view_size(height, width, crop, crops)
    return {
        "frame_VT": frame_CT.repeat(len(corners), 0),
        "box_V4": np.array([(*corner, *size) for corner in corners] * len(frame_CT)),
        "flip_V": np.array([n >= len(transforms.CORNERS_AND_CENTER) for n in range(len(corners))] * len(frame_CT)),
    }


def _compute_maps(predictor, clips_VTHWC, label, explain):
    network, device = predictor.network, predictor.network.device
    maps = []
    for some in clips_VTHWC.split(network.batch_size):
        clips_BCTHW = predictor.preprocessing.normalize(some.to(device)).contiguous()
        maps.append(explain(network.model, clips_BCTHW, torch.full((len(some),), label, device=device)))
    return torch.cat(maps).cpu().numpy()
