"""Take features of videos from a network: what its classifier reads, or what one of its layers puts out.

The features of a video are the mean over its views, of which nothing is normalized before. So the classifier makes of
them the mean logits of the video. X clips of any videos, D features, R features of all networks together.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from videores.config.schema import Config, ViewsConfig
from videores.data import mirroring, streams
from videores.data.datamodule import VideoData, Videos
from videores.data.dataset import VideoDataset
from videores.errors import UnreadableVideo, UserError, format_suggestion
from videores.inference import testing
from videores.inference.exported import ExportedNetwork
from videores.inference.predictor import score_videos
from videores.inference.source import (
    TrainedNetwork,
    find_checkpoint,
    prepare_for_scores,
    select_device,
    select_number_format,
)
from videores.inference.testing import SourceTest
from videores.models import create_model
from videores.models.parts import split_into_parts


def prepare_source(source: str, cfg_name: str | None, overrides: Sequence[str], class_map: Path | None) -> SourceTest:
    """Return the network of a source and the configuration of the videos.

    These are by default those of its run. Raises UserError where there are none, and for a program, which has no
    features.
    """
    path = Path(source)
    if cfg_name:
        found = testing.prepare_weights_test(source, cfg_name, overrides, class_map)
    elif (path / "config.yaml").is_file():
        found = testing.prepare_file_test(find_checkpoint(path), overrides)
    else:
        found = testing.prepare_file_test(source, overrides)
    if isinstance(found.network.model, ExportedNetwork):
        raise UserError(
            f"{source} holds a program that puts out logits and has no features: give the run or checkpoint that it "
            f"is of ({found.network.model.about.source})"
        )
    return found


def place_network(network: TrainedNetwork, cfg: Config, device: str) -> TrainedNetwork:
    """Return a network that scores on a device as a test does.

    Raises UserError where the device is absent.
    """
    device = select_device(device)
    number_format = select_number_format(cfg, device)
    prepare_for_scores(network.model, device, number_format)
    return replace(network, device=device, number_format=number_format, batch_size=cfg.data.batch_size)


def create_random_network(network: TrainedNetwork, seed: int) -> nn.Module:
    """Return the same network with random weights.

    A training without `model.weights` begins with these.
    """
    assert network.network is not None  # as `prepare_source` refuses programs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create_model(network.network.name, len(network.classes), **network.network.overrides())
    prepare_for_scores(model, network.device, network.number_format)
    return model


def hash_weights(model: nn.Module) -> str:
    """Return a hash of the names and values of a network's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


class FeatureExtractor:
    """Map clips_XCTHW to float32 features_XD of a network in eval mode.

    They are what its classifier reads; with `layer`, the name of a module, what that puts out. Both are averaged over
    all places in time and space that there are. Raises UserError for a layer that is not there.
    """

    def __init__(self, model: nn.Module, layer: str | None = None):
        self.model, self.reads_classifier = model, layer is None
        name, self.module = _find_classifier(model) if layer is None else _find_layer(model, layer)
        self.name = f"input of {name}" if layer is None else name

    def __call__(self, clips_XCTHW: Any) -> Tensor:
        seen: list[Tensor] = []

        def keep(module, inputs, output=None):
            value = inputs[0] if self.reads_classifier else output
            seen.append(self._average(value, len(streams.pick_first(clips_XCTHW))))

        attach = self.module.register_forward_pre_hook if self.reads_classifier else self.module.register_forward_hook
        handle = attach(keep)
        try:
            self.model(clips_XCTHW)
        finally:
            handle.remove()
        if len(seen) != 1:
            raise UserError(f"--layer {self.name} must run once in a forward pass, not {len(seen)} times: give another")
        return seen[0]

    def _average(self, value, clips):
        if not isinstance(value, Tensor) or value.ndim < 2 or not value.is_floating_point() or len(value) % clips:
            got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"--layer {self.name} must put out numbers for each clip, got {got}: give another layer")
        value = value.to(torch.promote_types(value.dtype, torch.float32))
        is_map = value.ndim > 3 and not self.reads_classifier
        value = value.flatten(2).mean(2) if is_map else value.flatten(1, -2).mean(1) if value.ndim > 2 else value
        return value if len(value) == clips else value.unflatten(0, (clips, -1)).mean(1)  # 2D layers: of frames


def _find_classifier(model):
    """Return the name of the classifier and its linear layer."""
    within = {part for module in split_into_parts(model).get("fc", []) for part in module.modules()}
    linear = [(name, part) for name, part in model.named_modules() if part in within and isinstance(part, nn.Linear)]
    if getattr(model, "fusion", None) == "late":
        raise UserError(f"a late fusion has a classifier of each stream, not of all features: {_format_layers(model)}")
    if not linear:
        raise UserError(
            f"the network has no linear classifier `fc` whose input could be taken: {_format_layers(model)}"
        )
    return linear[-1]


def _find_layer(model, name):
    layers = dict(model.named_modules())
    if not name or name not in layers:
        raise UserError(
            f"--layer {name} is not in the network{format_suggestion(name, layers)}: {_format_layers(model)}"
        )
    return name, layers[name]


def _format_layers(model):
    shown = [name for name, _ in model.named_modules() if name and name.count(".") <= 1]
    return f"give --layer one of {', '.join(shown)}, or of the layers within them"


def make_dataset(cfg: Config, videos: Videos, part: str, views: ViewsConfig) -> VideoDataset:
    """Return the readable videos of a list in some views, as a test would see them.

    Raises UserError where there are none, or where the views mirror videos whose classes say left or right.
    """
    if not videos.readable(part):
        raise UserError(f"there are no {part} videos (nothing is held out without groups, or with data.val=none)")
    mirroring.check_mirrored_views(cfg.data, views, videos.index.classes)
    tested = replace(videos, index=replace(videos.index, test=videos.readable(part)))
    data = cfg.data.model_copy(update={"cache": "none"})  # each is read once
    return VideoData(data, tested, val=None, test=views, seed=cfg.run.seed).dataset("test")


def extract_features(
    network: TrainedNetwork, dataset: VideoDataset, extractors: Sequence[FeatureExtractor], workers: int = 0
) -> list[np.ndarray]:
    """Return float32 features_VD of each network, in one pass over the videos.

    A video that no longer decodes has NaN.
    """
    widths: list[int] = []

    def extract_all(clips_XCTHW):
        features = [extract(clips_XCTHW) for extract in extractors]
        widths[:] = [one_XD.shape[1] for one_XD in features]
        return torch.cat(features, 1)

    rows = []
    pass_through = replace(network, model=extract_all)  # type: ignore[arg-type]  # a function scores clips too
    for answer in tqdm(score_videos(pass_through, dataset, workers), "videos", len(dataset), disable=None):
        is_bad = isinstance(answer, UnreadableVideo)
        rows.append(np.array([np.nan]) if is_bad else np.mean(answer, 0, dtype=np.float64))  # type: ignore[arg-type]
    if not widths:
        raise UserError(f"{dataset.root}: no video decodes any more; see why by tools/prepare.py")
    table_VR = np.stack([np.broadcast_to(row, sum(widths)) for row in rows]).astype(np.float32)
    return np.split(table_VR, np.cumsum(widths)[:-1], axis=1)
