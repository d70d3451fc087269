"""What a run is, when it starts, and what became of it, each on one screen: text from facts that others gather."""

from typing import NamedTuple

from videores.compute import precision
from videores.config.schema import AugmentConfig, Section, TrainConfig

# keys of train that the summary says elsewhere
EXCLUDED_TRAIN_KEYS = (
    "epochs",
    "optimizer",
    "lr",
    "base_batch",
    "accumulate",
    "schedule",
    "weight_decay",
    "gap_videos",
)


class Facts(NamedTuple):
    """What the configuration alone does not say."""

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
    processes: int
    device: str
    precision: str
    channels_last: bool
    folder: str
    compiled: bool = False


def format_start(cfg, facts):
    return format_lines(
        [
            ("data", format_data(cfg, facts)),
            ("", format_validation(facts)),
            ("model", format_model(cfg, facts)),
            ("recipe", format_recipe(cfg, facts)),
            ("", facts.step),
            *([("", format_batch_norms(facts))] if facts.norm_parts > 1 else []),
            ("", format_options(cfg)),
            ("cost", format_test_cost(cfg, facts)),
            ("run", format_run(cfg, facts)),
        ]
    )


def format_lines(lines):
    return "\n".join(f"{label:<8}{said}" for label, said in lines)


def format_data(cfg, facts):
    counts = ", ".join(f"{count:,} {part}" for part, count in facts.videos.items())
    readers = ", ".join(f"{name} ({count})" for name, count in facts.readers.items())
    return f"{cfg.data.name}: {counts} videos, {facts.classes} classes; read by {readers}"


def format_validation(facts):
    if not facts.videos["val"]:
        return "nothing is held out (no groups, or data.val=none): the last checkpoint is tested, no gap is measured"
    groups = f"of {facts.held_out} groups" if facts.held_out else "without groups"
    gap = f"with {facts.gap_videos:,} training videos beside them, for the gap" if facts.gap_videos else "no gap"
    return f"validation videos are {groups}; {gap}"


def format_model(cfg, facts):
    clip, t = cfg.data.clip, cfg.data.transform
    share = 100 * facts.trainable / facts.parameters
    trained = "all" if facts.trainable == facts.parameters else f"{share:.1f} %"
    cost = f"{format_number(facts.gmacs)} GMAC a clip of {clip.frames}x{t.crop}x{t.crop}"
    return f"{cfg.model.name}: {facts.parameters:,} parameters, {trained} trained; {cost}"


def format_recipe(cfg, facts):
    steps = f"{facts.steps:,} steps an epoch, {cfg.train.epochs * facts.steps:,} in all"
    return f"{cfg.train.epochs} epochs of {cfg.train.optimizer}, {cfg.train.schedule}; {steps}"


def format_batch_norms(facts):
    return f"batch norm sees {facts.norm_parts} parts of a step, one by one: not equal to one large batch"


def format_options(cfg):
    """What else is on: weight decay, and every key of the recipe and of augmentation that differs from its default."""
    t, model = cfg.data.transform, cfg.model
    on = {"weight_decay": cfg.train.weight_decay, **select_non_default(cfg.train, TrainConfig, EXCLUDED_TRAIN_KEYS)}
    on |= {name: getattr(model, name) for name in ("dropout", "spatial_dropout", "drop_path") if getattr(model, name)}
    on |= {
        name: value
        for name, value in (("balanced", cfg.data.balanced), ("jitter", t.jitter), ("flip", t.flip))
        if value
    }
    on |= {"repeat": cfg.data.clip.repeat} if cfg.data.clip.repeat > 1 else {}
    on |= select_non_default(cfg.data.augment, AugmentConfig)
    return ", ".join(f"{name}={format_value(value)}" for name, value in on.items())


def select_non_default(section, kind, but=()):
    fields = {name: field for name, field in kind.model_fields.items() if name not in but}
    return {name: getattr(section, name) for name, field in fields.items() if getattr(section, name) != field.default}


def format_value(value):
    if isinstance(value, Section):
        options = select_non_default(value, type(value))
        return f"({', '.join(f'{name}={format_value(one)}' for name, one in options.items())})"
    if isinstance(value, float):
        return f"{value:g}"
    return f"[{', '.join(map(format_value, value))}]" if isinstance(value, tuple) else str(value)


def format_test_cost(cfg, facts):
    """A whole picture costs more than the square that is counted, and `all` clips of a video are as many as it has."""
    clips, crops = cfg.test.clips, cfg.test.crops
    if "all" in (clips, crops) or crops == "full":
        return f"test: {clips} clips x {crops} crops a video"
    views = clips * crops
    return f"test: {clips} clips x {crops} crops = {views} views, {format_number(views * facts.gmacs)} GMAC a video"


def format_run(cfg, facts):
    setting = precision.PrecisionSetting(facts.precision, facts.channels_last, facts.compiled)
    how = "as run.autotune finds" if cfg.run.autotune else setting
    return f"{facts.processes} process(es) on {facts.device}, {how}; writes {facts.folder}"


def format_end(steps, seconds, epochs):
    """Of this start; the lines of the test follow."""
    return format_lines([("trained", f"{steps:,} steps in {format_duration(seconds)}, {epochs} epochs in all")])


def format_number(number):
    return f"{number:,.2f}" if number >= 1 else f"{number:.3g}"


def format_duration(seconds):
    """The two largest units that matter: 48 s, 12 min 5 s, 3 h 20 min, 2 d 4 h."""
    seconds = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"
