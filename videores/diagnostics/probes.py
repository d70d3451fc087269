"""Probe a trained run: frames out of order, corrupted frames, the blocks' responses, checks of heat maps.

Tests are ordinary ones, under <run>/test/. What they say together is in <run>/probe/<protocol>/, a JSON file and a
picture for each part.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from videores import run
from videores.config.schema import Config, ViewsConfig
from videores.config.streams import format_streams, has_sound
from videores.data.datamodule import VideoData, load_videos
from videores.data.streams import make_input
from videores.data.synthetic import answers
from videores.data.views import list_item_views
from videores.errors import UserError, format_suggestion
from videores.evaluation import probes
from videores.evaluation.predictions import Predictions, read_predictions
from videores.evaluation.protocol import format_protocol, slugify
from videores.explain import checks, maps, responses
from videores.inference.source import TrainedNetwork, resolve_source
from videores.reporting import probe_plots, results
from videores.runtime.files import write_text
from videores.runtime.launch import is_rank_zero

PARTS = ("orders", "corruptions", "responses", "maps")
SEVERITIES = (1, 2, 3, 4, 5)
METHODS = ("gradcam", "layercam")  # whose maps are checked; the others run the network hundreds of times for a map
_choices = lambda key: get_args(ViewsConfig.model_fields[key].annotation)
ORDERS = tuple(order for order in _choices("order") if order != "normal")
CORRUPTIONS = tuple(corruption for corruption in _choices("corruption") if corruption != "none")

_Key = tuple[str, int] | str  # (corruption, severity), or the order


class _Clips(NamedTuple):
    """The middle clip of some test videos."""

    clips_BCTHW: torch.Tensor  # normalized
    groups: list[str | None]
    masks_BTHW: torch.Tensor | None  # where the object is, of embedded sets


def probe_run(
    cfg: Config,
    folder: Path,
    parts: Sequence[str] = PARTS,
    *,
    severities: Sequence[int] = SEVERITIES,
    methods: Sequence[str] = METHODS,
    videos: int = 64,
    out: Path | None = None,
) -> int:
    """Probe a run's best checkpoint, write and print the results.

    Args:
        cfg: of the run; its test views are those of the tests.
        folder: the run folder.
        parts: of PARTS.
        severities: of the corruptions.
        methods: of `maps.METHODS`, for maps.
        videos: number of test videos for responses and maps, drawn at random.
        out: where to write, instead of <run>/probe/<protocol>/.

    Returns:
        The exit code, 1 where videos do not decode.

    Raises:
        UserError: for wrong input.
    """
    _check_words("--only", parts, PARTS)
    _check_words("--methods", methods, maps.METHODS)
    if has_sound(cfg.data.stream) or not isinstance(cfg.data.stream, str):
        shown = format_streams(cfg.data.stream)
        raise UserError(f"{folder} is of data.stream={shown}, and the probes change and explain pictures of one stream")
    if "orders" in parts and cfg.data.format == "npz":
        raise UserError("--only must be without orders for volumes, as depth is not time: corruptions,responses,maps")
    cfg = _change_views(cfg, order="normal", corruption="none")
    tested, code = _test_all(cfg, folder, _list_tests(cfg, parts, severities))
    if not is_rank_zero():
        return code
    found = _summarize_tests(cfg, parts, tested)
    if {"responses", "maps"} & set(parts):
        found |= _look_inside(cfg, folder, parts, methods, videos)
    target = out or folder / "probe" / slugify(format_protocol(cfg))
    for part in parts:
        _write_part(target, part, {"protocol": format_protocol(cfg), **found[part]})
    print(f"wrote   {target}")
    return code


def _check_words(option, words, known):
    for word in words:
        if word not in known:
            raise UserError(f"{option} must be of {', '.join(known)}, got {word}{format_suggestion(word, known)}")


def _write_part(target, part, found):
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / f"{part}.json", results.format_json(found))
    probe_plots.PLOTS[part](target / f"{part}.png", found)
    for line in probe_plots.FORMATS[part](found):
        print(line)


# Tests


def _list_tests(cfg, parts, severities) -> dict[_Key, Config]:
    keys = [(corruption, severity) for corruption in CORRUPTIONS for severity in severities]
    orders = {order: _change_views(cfg, order=order) for order in ORDERS}
    corrupted = {key: _change_views(cfg, corruption=key[0], severity=key[1]) for key in keys}
    return (orders if "orders" in parts else {}) | (corrupted if "corruptions" in parts else {})


def _change_views(cfg, **changes):
    return cfg.model_copy(update={"test": cfg.test.model_copy(update=changes)})


def _test_all(cfg, folder, tests) -> tuple[dict[_Key, Predictions], int]:
    """Test with normal frames and with changed ones; only rank 0 reads the predictions."""
    if not tests:
        return {}, 0
    with contextlib.redirect_stdout(io.StringIO()):  # of each test; the files have it all
        ends = run.evaluate_protocols([cfg, *tests.values()], folder)
    keys = ("normal", *tests)
    tested = {key: read_predictions(end.folder) for key, end in zip(keys, ends, strict=True) if end.folder}
    return tested, max(end.exit_code for end in ends)


def _summarize_tests(cfg, parts, tested: Mapping[_Key, Predictions]) -> dict[str, dict[str, Any]]:
    found = {}
    if "orders" in parts:
        orders = {key: tested[key] for key in ORDERS}
        partners = {} if cfg.data.pretext else answers.find_partners(cfg.data.root)  # a pretext has other classes
        found["orders"] = probes.compare_orders(tested["normal"], orders, partners)
    if "corruptions" in parts:
        corrupted = {key: p for key, p in tested.items() if isinstance(key, tuple)}
        found["corruptions"] = probes.summarize_corruptions(tested["normal"], corrupted)
    return found


# Inside the network


def _look_inside(cfg, folder, parts, methods, videos) -> dict[str, dict[str, Any]]:
    trained = resolve_source(folder, "cpu" if cfg.trainer.accelerator == "cpu" else "auto")
    network, clips = trained.model, _read_clips(cfg, videos, trained)
    found: dict[str, dict[str, Any]] = {}
    if "responses" in parts:
        batches = clips.clips_BCTHW.split(trained.batch_size)
        found["responses"] = {"videos": len(clips.groups), "blocks": responses.measure_responses(network, batches)}
    if "maps" in parts:
        with torch.no_grad():
            logits_BN = torch.cat([network(batch) for batch in clips.clips_BCTHW.split(trained.batch_size)])
        check = partial(checks.check_maps, masks_BTHW=clips.masks_BTHW, groups=clips.groups, seed=cfg.run.seed)
        predicted_B = logits_BN.argmax(1)
        found["maps"] = {
            "methods": {m: check(network, clips.clips_BCTHW, predicted_B, maps.METHODS[m]) for m in methods}
        }
    return found


def _read_clips(cfg, count, trained: TrainedNetwork) -> _Clips:
    """Read the middle clip of test videos, and the masks of embedded ones, which are cut and scaled alike."""
    cfg = _change_views(cfg, clips=1, crops=1, starts="uniform")
    dataset = VideoData.from_config(cfg, load_videos(cfg.data, parts=("test",))).dataset("test")
    numbers = np.random.default_rng(cfg.run.seed).permutation(len(dataset))[:count].tolist()

    def read():
        items = [dataset.fixed_views(0, number) for number in numbers]
        return torch.cat([list_item_views(item, cfg.data.transform.crop, cfg.test) for item in items])

    clips_BCTHW = make_input(read()[None], cfg.data)[0].to(trained.device)
    masks_BTHW = None
    if spec := answers.find_embedded(cfg.data.root):
        dataset.cache = answers.SpriteMasks(spec, [video.path for video in dataset.videos])
        masks_BTHW = (read()[..., 0] > 127).to(trained.device)
    return _Clips(clips_BCTHW, [dataset.videos[number].group for number in numbers], masks_BTHW)
