"""The start-up summary of a run and the end of a training as text."""

import math
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from videores.compute import cost, precision
from videores.config.schema import AugmentConfig, Section, TrainConfig
from videores.config.streams import compute_input_shape, format_streams
from videores.data.datamodule import PARTS
from videores.models.norms import list_batch_norms
from videores.training import optim
from videores.training.module import Run
from videores.training.resume import ResumePoint

# keys of train that other lines of the summary hold
EXCLUDED_TRAIN_KEYS = (
    *("epochs", "optimizer", "lr", "base_batch", "accumulate", "schedule", "weight_decay", "gap_videos"),
)
MIN_VALIDATION_VIDEOS = 30  # with fewer the choice of a checkpoint is said to be uncertain


def format_start(run: Run, gmacs: float, readers: dict[str, int], resume_point: ResumePoint | None = None) -> str:
    """Return the start-up summary: data, model, recipe, cost, hardware, folder.

    `gmacs` are those of one clip, `readers` the number of files that each reader reads.
    """
    cfg, ranks, device = run.cfg, run.trainer.world_size, run.trainer.strategy.root_device.type
    setting = "as run.autotune finds" if cfg.run.autotune else precision.select_setting(cfg.trainer, device)
    return _format_lines(
        [
            ("data", _format_data(run, readers)),
            ("", _format_validation(run)),
            *_list_validation_warnings(run),
            ("model", _format_model(run, gmacs)),
            ("recipe", _format_recipe(run)),
            ("", optim.format_batch_and_lr(cfg, ranks)),
            *_list_batch_norm_lines(run),
            ("", _format_options(cfg)),
            ("cost", _format_test_cost(cfg, gmacs)),
            ("run", f"{ranks} process(es) on {device}, {setting}; writes {run.folder}"),
            *([("resume", f"from step {resume_point.step:,} of {resume_point.path}")] if resume_point else []),
        ]
    )


def _format_lines(lines: Iterable[tuple[str, str]]) -> str:
    """Return (label, text) pairs as lines, the texts in one column."""
    return "\n".join(f"{label:<8}{text}" for label, text in lines)


def _format_data(run, readers):
    index = run.data.videos.index
    counts = ", ".join(f"{len(getattr(index, part)):,} {part}" for part in PARTS)
    files = ", ".join(f"{name} ({count})" for name, count in readers.items())
    stream = "" if run.cfg.data.stream == "rgb" else f"; stream {format_streams(run.cfg.data.stream)}"
    return f"{run.cfg.data.name}: {counts} videos, {len(index.classes)} classes; read by {files}{stream}"


def _format_validation(run):
    val, gap_videos = run.data.videos.index.val, len(run.data.gap)
    if not val:
        return "nothing is held out (no groups, or data.val=none): the last checkpoint is tested, no gap is measured"
    held_out = len({video.group for video in val} - {None})
    groups = f"of {held_out} groups" if held_out else "without groups"
    gap = f"with {gap_videos:,} training videos beside them, for the gap" if gap_videos else "no gap"
    return f"validation videos are {groups}; {gap}"


def _list_validation_warnings(run):
    """Return a line where few validation videos choose the checkpoint, else none."""
    count = len(run.data.videos.index.val)
    if not 0 < count < MIN_VALIDATION_VIDEOS:
        return []
    points = 196 * math.sqrt(0.25 / count)  # at 50 %, where it is largest
    unsure = f"is uncertain by up to +-{points:.0f} points (95 %), and with it the choice of a checkpoint"
    return [("", f"accuracy on {count} validation video(s) {unsure}; raise data.val, or list more")]


def _format_model(run, gmacs):
    shapes = compute_input_shape(run.cfg.data)
    shapes = list(dict.fromkeys(shapes.values())) if isinstance(shapes, dict) else [shapes]
    size = " and ".join("x".join(map(str, shape[1:])) for shape in shapes)
    parameters = cost.count_parameters(run.module)
    trainable = sum(p.numel() for p in run.module.parameters() if p.requires_grad)
    share = "all" if trainable == parameters else f"{100 * trainable / parameters:.1f} %"
    clip = f"{_format_number(gmacs)} GMAC a clip of {size}"
    return f"{run.cfg.model.name}: {parameters:,} parameters, {share} trained; {clip}"


def _format_recipe(run):
    train = run.cfg.train
    steps = len(run.data.videos.index.train) // optim.compute_global_batch_size(run.cfg, run.trainer.world_size)
    steps_in_all = f"{steps:,} steps an epoch, {train.epochs * steps:,} in all"
    return f"{train.epochs} epochs of {train.optimizer}, {train.schedule}; {steps_in_all}"


def _list_batch_norm_lines(run):
    """Return a line where batch norms see the parts of a step one by one, else none."""
    parts = run.cfg.train.accumulate * (1 if run.cfg.trainer.sync_batchnorm else run.trainer.world_size)
    if parts == 1 or not list_batch_norms(run.module.model):
        return []
    return [("", f"batch norm sees {parts} parts of a step, one by one: not equal to one large batch")]


def _format_options(cfg):
    """Return weight decay, and the keys of recipe and augmentation that are set."""
    data, model = cfg.data, cfg.model
    options = {"weight_decay": cfg.train.weight_decay}
    options |= _select_non_default(cfg.train, TrainConfig, EXCLUDED_TRAIN_KEYS)
    switches = {name: getattr(model, name) for name in ("dropout", "spatial_dropout", "drop_path")}
    switches |= {"balanced": data.balanced, "jitter": data.transform.jitter, "flip": data.transform.flip}
    options |= {name: value for name, value in switches.items() if value}
    options |= {"repeat": data.clip.repeat} if data.clip.repeat > 1 else {}
    options |= _select_non_default(data.augment, AugmentConfig)
    return ", ".join(f"{name}={_format_value(value)}" for name, value in options.items())


def _select_non_default(section: Section, kind: type[Section], but: Collection[str] = ()) -> dict[str, Any]:
    fields = {name: field for name, field in kind.model_fields.items() if name not in but}
    return {name: getattr(section, name) for name, field in fields.items() if getattr(section, name) != field.default}


def _format_value(value):
    if isinstance(value, Section):
        options = _select_non_default(value, type(value))
        return f"({', '.join(f'{name}={_format_value(one)}' for name, one in options.items())})"
    if isinstance(value, float):
        return f"{value:g}"
    return f"[{', '.join(map(_format_value, value))}]" if isinstance(value, tuple) else str(value)


def _format_test_cost(cfg, gmacs):
    """Return the views of a test video and their GMACs, where they are known.

    A whole picture costs more than the square that is counted, and `all` clips of a video are as many as it has.
    """
    clips, crops = cfg.test.clips, cfg.test.crops
    if "all" in (clips, crops) or crops == "full":
        return f"test: {clips} clips x {crops} crops a video"
    views = clips * crops
    return f"test: {clips} clips x {crops} crops = {views} views, {_format_number(views * gmacs)} GMAC a video"


def format_end(steps: int, seconds: float, epochs: int) -> str:
    """Return the last line of training: the steps of this start, the epochs in all."""
    return _format_lines([("trained", f"{steps:,} steps in {format_duration(seconds)}, {epochs} epochs in all")])


def format_next_command(folder: Path) -> str:
    """Return the last line of a run: what to try next."""
    return _format_lines(
        [("next", f"python tools/report.py --run {shlex.quote(str(folder))}  # one HTML page of this run")]
    )


def _format_number(number):
    return f"{number:,.2f}" if number >= 1 else f"{number:.3g}"


def format_duration(seconds: float) -> str:
    """Return the two largest units that matter: 48 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
    seconds = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"
