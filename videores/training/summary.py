"""The start-up summary of a run and the end of a training as text."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from videores.compute.precision import PrecisionSetting
from videores.config.schema import AugmentConfig, Config, Section, TrainConfig

# keys of train that other lines of the summary hold
EXCLUDED_TRAIN_KEYS = (
    *("epochs", "optimizer", "lr", "base_batch", "accumulate", "schedule", "weight_decay"),
    "gap_videos",
)


class Facts(NamedTuple):
    """Facts of a run that its configuration does not hold."""

    videos: dict[str, int]  # of train, val, test
    held_out: int  # groups of the training list
    gap_videos: int
    classes: int
    readers: dict[str, int]  # reader -> files
    parameters: int
    trainable: int  # of them
    gmacs: float  # of one clip
    step: str  # its videos and learning rate
    steps: int  # an epoch
    norm_parts: int  # of a step, which batch norm sees one by one
    processes: int  # ranks
    device: str
    setting: PrecisionSetting
    folder: Path


def format_start(cfg: Config, facts: Facts) -> str:
    """Return the start-up summary: data, model, recipe, cost, hardware and folder."""
    parts = f"batch norm sees {facts.norm_parts} parts of a step, one by one: not equal to one large batch"
    setting = "as run.autotune finds" if cfg.run.autotune else facts.setting
    return format_lines(
        [
            ("data", _format_data(cfg, facts)),
            ("", _format_validation(facts)),
            ("model", _format_model(cfg, facts)),
            ("recipe", _format_recipe(cfg, facts)),
            ("", facts.step),
            *([("", parts)] if facts.norm_parts > 1 else []),
            ("", _format_options(cfg)),
            ("cost", _format_test_cost(cfg, facts)),
            ("run", f"{facts.processes} process(es) on {facts.device}, {setting}; writes {facts.folder}"),
        ]
    )


def format_lines(lines: Iterable[tuple[str, str]]) -> str:
    """Return (label, text) pairs as lines, the texts in one column."""
    return "\n".join(f"{label:<8}{text}" for label, text in lines)


def _format_data(cfg, facts):
    counts = ", ".join(f"{count:,} {part}" for part, count in facts.videos.items())
    readers = ", ".join(f"{name} ({count})" for name, count in facts.readers.items())
    return f"{cfg.data.name}: {counts} videos, {facts.classes} classes; read by {readers}"


def _format_validation(facts):
    if not facts.videos["val"]:
        return "nothing is held out (no groups, or data.val=none): the last checkpoint is tested, no gap is measured"
    groups = f"of {facts.held_out} groups" if facts.held_out else "without groups"
    gap = f"with {facts.gap_videos:,} training videos beside them, for the gap" if facts.gap_videos else "no gap"
    return f"validation videos are {groups}; {gap}"


def _format_model(cfg, facts):
    crop = cfg.data.transform.crop
    share = 100 * facts.trainable / facts.parameters
    trained = "all" if facts.trainable == facts.parameters else f"{share:.1f} %"
    cost = f"{_format_number(facts.gmacs)} GMAC a clip of {cfg.data.clip.frames}x{crop}x{crop}"
    return f"{cfg.model.name}: {facts.parameters:,} parameters, {trained} trained; {cost}"


def _format_recipe(cfg, facts):
    steps = f"{facts.steps:,} steps an epoch, {cfg.train.epochs * facts.steps:,} in all"
    return f"{cfg.train.epochs} epochs of {cfg.train.optimizer}, {cfg.train.schedule}; {steps}"


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


def _format_test_cost(cfg, facts):
    """Return the views of a test video and their GMACs, where they are known.

    A whole picture costs more than the square that is counted, and `all` clips of a video are as many as it has.
    """
    clips, crops = cfg.test.clips, cfg.test.crops
    if "all" in (clips, crops) or crops == "full":
        return f"test: {clips} clips x {crops} crops a video"
    views = clips * crops
    return f"test: {clips} clips x {crops} crops = {views} views, {_format_number(views * facts.gmacs)} GMAC a video"


def format_end(steps: int, seconds: float, epochs: int) -> str:
    """Return the last line of training: the steps of this start, the epochs in all."""
    return format_lines([("trained", f"{steps:,} steps in {format_duration(seconds)}, {epochs} epochs in all")])


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
