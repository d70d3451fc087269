"""What a run is: typed models with the default of every key. parse.py fills them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


def check_ascending(pair):
    if pair[0] > pair[1]:
        raise ValueError(f"{list(pair)} is not a range: give [smallest, largest]")
    return pair


def normalize_freeze(parts):
    """A list of all-but-fc is the word alone."""
    if isinstance(parts, str) or "all-but-fc" not in parts:
        return parts
    if len(parts) > 1:
        raise ValueError("all-but-fc names all parts but fc: give it alone")
    return parts[0]


FileNamePart = Annotated[str, Field(pattern=r"^[^/\\]*$")]  # part of a file's name
Range = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(check_ascending)]
NetworkParts = Annotated[str | tuple[str, ...], AfterValidator(normalize_freeze)]
FractionRange = Annotated[
    tuple[Annotated[PositiveFloat, Field(le=1)], Annotated[PositiveFloat, Field(le=1)]], AfterValidator(check_ascending)
]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


class RunConfig(Section):
    """Where a run writes, and how it may start."""

    name: FileNamePart | None = None  # appended to the config's name: runs/<config>-<name>
    dir: str | None = None  # replaces runs/<config>[-<name>]
    seed: int = Field(0, ge=0, lt=2**32)
    # auto: continue, start, or test again, whichever the folder asks for; inexact: continue also with other numbers of
    # processes or videos in a batch
    resume: Literal["none", "auto", "inexact"] = "none"
    overwrite: bool = False
    checkpoint_steps: PositiveInt | None = None  # a checkpoint also after so many steps, beside the end of each epoch
    checkpoint_minutes: PositiveFloat | Literal["auto"] | None = (
        "auto"  # and after these; auto: such that it costs under 1 %
    )
    autotune: bool = False  # measure which precision and memory layout train fastest: docs/precision.md


class ClipConfig(Section):
    """Which frames make a clip: `frames` of them, every `stride`-th, or at `fps` a second whatever the video's rate."""

    frames: PositiveInt = 16
    stride: PositiveInt = 1
    fps: float | None = Field(None, gt=0)
    short: Literal["loop", "last"] = "loop"  # what follows the end of a short video: its beginning, or its last frame
    sampling: Literal["dense", "segments"] = "dense"  # segments: one frame of each of `frames` equal parts of the video
    repeat: PositiveInt = 1  # training: clips of each video in a batch, from one decode; batch_size counts videos

    @model_validator(mode="after")
    def one_rate(self):
        if self.fps is not None and self.stride != 1:
            raise ValueError("give stride or fps, not both")
        return self

    @model_validator(mode="after")
    def segments_span_the_video(self):
        if self.sampling == "segments" and (self.stride != 1 or self.fps is not None or self.short != "loop"):
            raise ValueError("sampling=segments takes its frames from the whole video: leave out stride, fps and short")
        return self


class TransformConfig(Section):
    """From frames to network input: the short side is scaled to `short_side`, then a `crop` x `crop` square is cut."""

    short_side: PositiveInt = 128
    jitter: tuple[PositiveInt, PositiveInt] | None = None  # training: short side drawn from this range instead
    crop: PositiveInt = 112
    flip: Fraction = 0.5  # probability of a horizontal flip in training; 0 where left and right are labels
    mean: tuple[float, float, float] = (0.43216, 0.394666, 0.37645)  # Kinetics-400, as torchvision's video weights
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.22803, 0.22145, 0.216989)

    @model_validator(mode="after")
    def crop_fits(self):
        smallest = min(self.short_side, self.jitter[0] if self.jitter else self.short_side)
        if self.crop > smallest:
            raise ValueError(f"crop {self.crop} is larger than the scaled short side {smallest}")
        if self.jitter and self.jitter[0] > self.jitter[1]:
            raise ValueError(f"jitter {list(self.jitter)} is not a range: give [smallest, largest]")
        return self


class AugmentConfig(Section):
    """Training only, off by default. One draw a clip, the same for all its frames; sources in docs/augmentation.md."""

    speed: Range | None = None  # frames are this many times as far apart, evenly over the logarithm
    resized_crop: FractionRange | None = (
        None  # share of the picture's area that becomes the crop, whatever short_side says
    )
    resized_aspect: Range = (3 / 4, 4 / 3)  # width / height of that
    multi_scale: tuple[Annotated[PositiveFloat, Field(le=1)], ...] | None = (
        None  # crop's height and width / the short side
    )
    flip_labels: Literal["none", "left-right"] | dict[str, str | None] = "none"  # or {class: class, or null}
    brightness: NonNegativeFloat = 0.0  # factor from 1 - strength to 1 + strength; so contrast and saturation
    contrast: NonNegativeFloat = 0.0
    saturation: NonNegativeFloat = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # shift up to this share of the colour circle
    grey: Fraction = 0.0  # probability
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees to either side
    randaugment: tuple[PositiveInt, Annotated[int, Field(ge=0, le=30)]] | None = None  # [operations, magnitude of 30]
    trivialaugment: bool = False
    erasing: Fraction = 0.0  # probability that a box through all frames is filled with noise
    erasing_area: FractionRange = (0.02, 1 / 3)  # its share of the picture
    mixup: NonNegativeFloat = 0.0  # alpha of Beta(alpha, alpha); with cutmix, each batch takes one of the two
    cutmix: NonNegativeFloat = 0.0

    @property
    def mixes(self):
        return self.mixup > 0 or self.cutmix > 0

    @model_validator(mode="after")
    def one_of_a_kind(self):
        if self.resized_crop and self.multi_scale is not None:
            raise ValueError("resized_crop and multi_scale both choose the crop: give one")
        if self.multi_scale == ():
            raise ValueError("multi_scale needs at least one scale, e.g. [1, 0.875, 0.75, 0.66]")
        for key, of in (("resized_aspect", "resized_crop"), ("erasing_area", "erasing")):
            if not getattr(self, of) and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} says how {of} is done, which is off: give {of} too, or leave {key} out")
        if self.randaugment and self.trivialaugment:
            raise ValueError("randaugment and trivialaugment both choose the operations: give one")
        return self


class ViewsConfig(Section):
    """The test protocol: `clips` in time x `crops` in space, scores fused per video; and what is done to the frames
    to probe what the network uses. docs/evaluation.md defines every value."""

    clips: PositiveInt | Literal["all"] = 1  # all: one after the other over the whole video
    starts: Literal["uniform", "dense"] = "uniform"  # uniform: from the first frame to the last; dense: as TSM's
    crops: Literal[1, 3, 5, 10, "full"] = 1  # full: the whole picture, not cut
    fusion: Literal["softmax-mean", "logit-mean", "max", "vote"] = "softmax-mean"
    order: Literal["normal", "shuffled", "reversed", "frozen", "subsampled"] = "normal"  # of the frames of each clip
    corruption: Literal["none", "noise", "blur", "brightness", "frame_drop", "compression"] = "none"
    severity: Annotated[int, Field(ge=1, le=5)] = 3  # of the corruption

    @model_validator(mode="after")
    def starts_are_used(self):
        if self.clips == "all" and self.starts == "dense":
            raise ValueError("starts=dense places a number of clips: give that number instead of clips=all")
        return self


ListFormat = Literal["ucf101", "hmdb51", "kinetics", "ssv2", "folder", "csv"]
SyntheticFormat = Literal["motion8", "appear8", "mixed16", "order8", "small"]  # written on first use: data/motion.py


class DataConfig(Section):
    """Which videos, and how they are read."""

    name: str  # names the data set in protocol strings and reports
    format: Literal[ListFormat, SyntheticFormat]
    root: str  # the folder that the lists' paths are relative to
    splits: str | None = None  # the folder of the lists; default: root
    split: Literal[1, 2, 3] = 1  # which of the three of UCF101 or HMDB51
    source: str | None = None  # where to get the data; shown when it is not there
    val: Fraction | Literal["none"] = 0.1  # share of the training groups held out for validation
    share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the other training groups that are used, of each class alike
    on_unreadable: Literal["stop", "skip"] = "stop"
    reader: Literal["auto", "decord", "pyav", "torchcodec"] = "auto"
    cache: Literal["none", "ram"] = "none"
    clip: ClipConfig = ClipConfig()
    transform: TransformConfig = TransformConfig()
    augment: AugmentConfig = AugmentConfig()
    balanced: bool = False  # training: an epoch shows as many videos of each class, some of them more than once
    batch_size: PositiveInt = 16  # videos per process
    workers: int = Field(4, ge=0)

    @model_validator(mode="after")
    def augment_fits(self):
        augment, clip = self.augment, self.clip
        if self.transform.jitter and (augment.resized_crop or augment.multi_scale):
            name = "resized_crop" if augment.resized_crop else "multi_scale"
            raise ValueError(f"transform.jitter and augment.{name} both choose the scale: give one")
        if augment.speed and clip.sampling == "segments":
            raise ValueError("augment.speed changes the stride, which clip.sampling=segments has not: leave it out")
        if augment.flip_labels != "none" and self.transform.flip == 0:
            raise ValueError(
                "augment.flip_labels says what a flip makes of the labels, and transform.flip=0 flips nothing: raise "
                "it, e.g. to 0.5, or leave flip_labels out"
            )
        if augment.mixes and self.batch_size * clip.repeat == 1:
            raise ValueError("augment.mixup and cutmix mix the clips of a batch, which has one: raise batch_size")
        return self


class ModelConfig(Section):
    """An architecture's name and what to change in it (models/design.py); None leaves what the name says."""

    name: str
    layers: tuple[PositiveInt, ...] | None = None
    width: PositiveInt | None = None
    stem: str | None = None
    block: str | None = None
    conv: str | tuple[str, ...] | None = None
    connect: str | None = None
    groups: PositiveInt | None = None
    base_width: PositiveInt | None = None
    mid: str | None = None
    stride_in: str | None = None
    shortcut: str | None = None
    norm: str | None = None
    norm_eps: PositiveFloat | None = None
    bias: bool | None = None
    zero_init: bool | None = None
    se: PositiveInt | None = None
    shift: PositiveInt | None = None
    stage_pool: bool | None = None
    drop_path: Rate | None = None
    pool: str | None = None
    consensus: str | None = None
    dropout: Rate | None = None
    spatial_dropout: Rate | None = None
    checkpoint: str | None = None
    frames: PositiveInt | None = None  # of r2d and pool=weights, which are made for clips of one length
    control: str | None = None  # a negative control: videores/models/controls.py
    weights: str | None = None  # what it starts from: docs/weights.md
    inflate: Literal["mean", "centre"] | None = None  # how 2D weights fill 3D kernels
    head: Literal["auto", "keep", "new"] = "auto"  # the weights' classifier; auto: new for another number of classes

    @model_validator(mode="after")
    def weights_are_given(self):
        unused = [key for key, default in (("inflate", None), ("head", "auto")) if getattr(self, key) != default]
        if self.weights is None and unused:
            raise ValueError(
                f"{unused[0]} says how to load model.weights, and there are none: give them or leave it out"
            )
        return self

    def overrides(self):
        return self.model_dump(exclude={"name", "weights", "inflate", "head"}, exclude_none=True)


class DistillConfig(Section):
    """What a trained network teaches this one, beside the labels. Sources in docs/regularisation.md."""

    teacher: str | None = None  # a run folder, or a checkpoint of one
    temperature: PositiveFloat = 4.0  # what both networks' logits are divided by
    weight: Fraction = 0.9  # of the teacher's answers; the labels have the rest
    attention: NonNegativeFloat = (
        0.0  # weight of the difference between the stages' attention maps; the authors took 1000
    )

    @model_validator(mode="after")
    def teacher_teaches(self):
        others = [key for key, field in type(self).model_fields.items() if getattr(self, key) != field.default]
        if self.teacher is None and others:
            raise ValueError(f"{others[0]} says how to learn from a teacher, and there is none: give teacher too")
        if self.teacher is not None and self.weight == 0 and self.attention == 0:
            raise ValueError("weight=0 and attention=0 leave the teacher nothing to teach: raise one or drop teacher")
        return self


class TrainConfig(Section):
    """The recipe. What is against overfitting is off by default; sources in docs/regularisation.md."""

    epochs: PositiveInt
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"  # decay is coupled in the first two, decoupled in adamw
    lr: float = Field(0.01, gt=0)
    base_batch: PositiveInt | None = None  # the videos of a step, over all processes, that `lr` is for; else scaled
    accumulate: PositiveInt = 1  # batches whose mean gradient makes a step; an epoch has whole steps only
    momentum: Fraction = 0.9
    weight_decay: float = Field(1e-4, ge=0)
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None  # lr of a part / lr of the part that follows
    schedule: Literal["constant", "cosine", "step", "plateau", "onecycle"] = "cosine"
    warmup: float = Field(0, ge=0)  # epochs of linear warm-up (onecycle: of its rise)
    milestones: tuple[float, ...] = ()  # step: epochs after which the rate is multiplied by gamma
    plateau: PositiveInt = 3  # plateau: epochs without a better validation until the rate is multiplied by gamma
    gamma: float = Field(0.1, gt=0)
    patience: PositiveInt | None = None  # epochs without a better validation until training ends
    label_smoothing: Rate = 0.0
    class_weights: Literal["none", "balanced"] = "none"  # balanced: the loss weighs a class by 1 / its share of videos
    freeze: NetworkParts = ()  # parts that stay as they are: stem, layer1, ...; all-but-fc is a linear probe
    freeze_bn: bool = False  # batch norms stay as they are, their statistics too
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of a moving average of the weights, which is tested
    swa: Annotated[int, Field(ge=0)] | None = None  # from this epoch on (0 is the first) the mean of weights is tested
    precise_bn: PositiveInt | None = (
        None  # training batches a process, of which batch norms have statistics when scored
    )
    distill: DistillConfig = DistillConfig()
    # training videos that are scored at each validation as the validation videos are (docs/watching.md); auto: as many
    gap_videos: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"

    @model_validator(mode="after")
    def one_average(self):
        if self.ema is not None and self.swa is not None:
            raise ValueError("ema and swa are both averages of the weights, and one is tested: give one")
        if self.swa is not None and self.swa >= self.epochs:
            raise ValueError(f"swa={self.swa} is no epoch of {self.epochs}, the first of which is 0: lower it")
        return self

    @model_validator(mode="after")
    def learns_at_several_depths(self):
        if self.layer_decay is not None and self.freeze == "all-but-fc":
            raise ValueError(
                "layer_decay gives parts rates of their own, and with freeze=all-but-fc one learns: drop one"
            )
        return self

    @model_validator(mode="after")
    def taught_stages_learn(self):
        if self.distill.attention and self.freeze == "all-but-fc":
            raise ValueError(
                "distill.attention teaches the stages, which freeze=all-but-fc leaves as they are: drop one"
            )
        return self

    @model_validator(mode="after")
    def plateau_lowers(self):
        if self.schedule == "plateau" and self.gamma >= 1:
            raise ValueError(f"schedule=plateau multiplies the rate by gamma={self.gamma:g}, which does not lower it")
        return self

    @model_validator(mode="after")
    def schedule_fits(self):
        if self.warmup >= self.epochs and self.warmup > 0:
            raise ValueError(f"warmup {self.warmup:g} leaves nothing of {self.epochs} epochs: lower it too")
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("milestones belong to schedule=step, and it needs them")
        if any(m <= self.warmup for m in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones {list(self.milestones)} must rise and lie after the warm-up")
        return self


class TrainerConfig(Section):
    """What it runs on."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: PositiveInt | Literal["auto"] = 1
    num_nodes: PositiveInt = 1
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"  # of training
    score_precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of validation and test: docs/evaluation.md
    channels_last: bool | Literal["auto"] = "auto"
    sync_batchnorm: bool = False  # several GPUs: batch norms take their statistics from the clips of all
    timeout: PositiveFloat = 10.0  # minutes that processes wait for one that does not answer
    compression: Literal["none", "fp16", "bf16"] = "none"  # several GPUs: of the gradients that they exchange
    compile: bool | Literal["auto"] = "auto"  # training steps by torch.compile; auto: no, but for what autotune finds
    log_every: PositiveInt = 20  # steps


class WatchConfig(Section):
    """What else is looked at while it trains, off by default: docs/watching.md."""

    gradients: bool = False  # the norm of each part's gradient, at the steps that are logged
    activations: bool = False  # mean, standard deviation and share of zeros of what each part puts out
    tensorboard: bool = False  # the rows of metrics.jsonl too in <run folder>/tensorboard/
    wandb: str | None = None  # and in this project of Weights & Biases


class Config(Section):
    run: RunConfig = RunConfig()
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    val: ViewsConfig = ViewsConfig()
    test: ViewsConfig = ViewsConfig(clips=10)
    trainer: TrainerConfig = TrainerConfig()
    watch: WatchConfig = WatchConfig()

    @model_validator(mode="after")
    def network_fits_clips(self):
        made_for, frames = self.model.frames, self.data.clip.frames
        if made_for not in (None, frames):
            raise ValueError(f"model.frames={made_for}, but clips have data.clip.frames={frames}: make them equal")
        return self

    @model_validator(mode="after")
    def batch_norms_are_there(self):
        train, norm = self.train, self.model.norm
        if train.freeze_bn and norm in ("group", "none"):
            raise ValueError(f"train.freeze_bn freezes batch norms, and model.norm={norm} has none: drop it")
        frozen = "train.freeze_bn" if train.freeze_bn else "train.freeze=all-but-fc"
        frozen = f"model.norm={norm}" if norm in ("group", "none", "frozen") else frozen
        if train.precise_bn and (
            train.freeze_bn or train.freeze == "all-but-fc" or norm in ("group", "none", "frozen")
        ):
            raise ValueError(
                f"train.precise_bn sets statistics of batch norms, and {frozen} leaves none to set: drop one"
            )
        return self

    @model_validator(mode="after")
    def activations_are_seen(self):
        compile = self.trainer.compile
        if self.watch.activations and (compile is True or (self.run.autotune and compile == "auto")):
            raise ValueError(
                "watch.activations looks into the network at some steps, and a compiled one does not show it: give "
                "trainer.compile=false"
            )
        return self

    @model_validator(mode="after")
    def balanced_once(self):
        if self.data.balanced and self.train.class_weights == "balanced":
            raise ValueError(
                "data.balanced and train.class_weights=balanced both make up for rare classes, which would then count "
                "more than frequent ones: give one"
            )
        return self

    @model_validator(mode="after")
    def segments_are_whole_videos(self):
        for part, views in (("val", self.val), ("test", self.test)):
            if self.data.clip.sampling == "segments" and (views.clips == "all" or views.starts == "dense"):
                raise ValueError(
                    f"with data.clip.sampling=segments each clip spans the whole video: give a number as {part}.clips "
                    f"and leave out {part}.starts"
                )
        return self
