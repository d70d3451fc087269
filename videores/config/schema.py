"""Typed sections of the configuration with the default of every key."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from videores.config import checks
from videores.config.network import NetworkOptions, Rate
from videores.config.streams import STREAMS, StreamName, Streams

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


def _check_ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("must be [smallest, largest]")
    return pair


def _check_streams(streams: Streams) -> Streams:
    if isinstance(streams, tuple) and (len(streams) < 2 or len(set(streams)) < len(streams)):
        raise ValueError("a list must have several different streams")
    return streams


def _normalize_freeze(parts: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return the word alone for a list of all-but-fc."""
    if isinstance(parts, str) or "all-but-fc" not in parts:
        return parts
    if len(parts) > 1:
        raise ValueError("all-but-fc must be the only part: it names all parts but fc")
    return parts[0]


def _expand_home(path: str) -> str:
    """Expand ~ at the start of a path, or of a file behind a prefix such as torchvision:."""
    prefix, colon, file = path.rpartition(":")
    return prefix + colon + os.path.expanduser(file)


IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def _check_import_path(path: str) -> str:
    if not IMPORT_PATH.fullmatch(path):
        raise ValueError("must be an import path, package.module:name")
    return path


FileNamePart = Annotated[str, Field(pattern=r"^[^/\\]*$")]  # part of a file's name
ImportPath = Annotated[str, AfterValidator(_check_import_path)]  # of an own part: docs/guide/own-parts.md
UserPath = Annotated[str, AfterValidator(_expand_home)]
IntRange = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_check_ascending)]
Range = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_check_ascending)]
NetworkParts = Annotated[str | tuple[str, ...], AfterValidator(_normalize_freeze)]
FractionRange = Annotated[tuple[PositiveFraction, PositiveFraction], AfterValidator(_check_ascending)]


class Section(BaseModel):
    """A section of keys: immutable, without unknown keys or contradictions."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)
    contradictions: ClassVar[Callable[[Any], Iterable[str]]] = lambda _: ()

    @model_validator(mode="after")
    def check_contradictions(self) -> Self:
        """Raise an error of type "contradiction", whose message names keys in full."""
        if messages := list(type(self).contradictions(self)):
            raise PydanticCustomError("contradiction", "{message}", {"message": "\n  ".join(messages)})
        return self

    def is_default(self, key: str) -> bool:
        """Return True where a key has its default."""
        return getattr(self, key) == type(self).model_fields[key].default


class RunConfig(Section):
    """Output folder of a run, seed, and whether it continues."""

    name: FileNamePart | None = None  # appended to the config's name: runs/<config>-<name>
    dir: UserPath | None = None  # replaces runs/<config>[-<name>]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # of weights, order, clips, augmentation and dropout
    # auto: start, continue or test again, as the folder requires; inexact: continue even with another world size or
    # batch size (docs/guide/resume.md)
    resume: Literal["none", "auto", "inexact"] = "none"
    overwrite: bool = False  # replace an existing run
    checkpoint_steps: PositiveInt | None = None  # steps between checkpoints, besides the one of each epoch
    checkpoint_minutes: PositiveFloat | Literal["auto"] | None = "auto"  # minutes between them; auto: costs under 1 %
    autotune: bool = False  # measure which dtype and memory layout train fastest: docs/guide/precision.md


class ClipConfig(Section):
    """Frames of a clip: every `stride`-th, or `fps` per second of any frame rate."""

    contradictions = checks.check_clip

    frames: PositiveInt = 16  # frames of a clip
    stride: PositiveInt = 1  # distance between frames
    fps: PositiveFloat | None = None  # frames per second, instead of stride
    short: Literal["loop", "last"] = "loop"  # what follows the end of a short video: its beginning, or its last frame
    sampling: Literal["dense", "segments"] = "dense"  # segments: one frame of each of `frames` equal parts of the video
    repeat: PositiveInt = 1  # training: clips of each video in a batch, from one decode; batch_size counts videos


class TransformConfig(Section):
    """Scaling of the short side, square crop, horizontal flip, and normalization."""

    contradictions = checks.check_transform

    short_side: PositiveInt = 128  # pixels that the short side of a frame is scaled to
    jitter: IntRange | None = None  # training: short side drawn from this range instead
    crop: PositiveInt = 112  # height and width of the crop
    flip: Fraction = 0.5  # probability of a horizontal flip in training; 0 where left and right are labels
    mean: tuple[float, float, float] = (0.43216, 0.394666, 0.37645)  # Kinetics-400, as torchvision's video weights
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.22803, 0.22145, 0.216989)  # the same


class AudioConfig(Section):
    """Log-mel spectrogram of a clip's sound, with data.stream=audio.

    Defaults: Hershey et al. 2017, arXiv:1609.09430, section 3, but all frequencies.
    """

    contradictions = checks.check_audio

    seconds: PositiveFloat | None = None  # of sound, around the clip's middle; null: frames / data.clip.fps
    rate: Annotated[int, Field(ge=1000, le=192000)] = 16000  # samples a second that sound is resampled to
    window: PositiveFloat = 0.025  # seconds that a column sees, through a Hann window
    hop: PositiveFloat = 0.01  # seconds from column to column
    bands: PositiveInt = 64  # rows: of the mel scale, from 0 Hz to rate / 2

    @property
    def window_samples(self) -> int:
        """Return the samples of a column."""
        return max(2, round(self.window * self.rate))

    @property
    def hop_samples(self) -> int:
        """Return the samples from column to column."""
        return max(1, round(self.hop * self.rate))

    def count_columns(self, clip: ClipConfig) -> int:
        """Return the columns of a spectrogram."""
        seconds = self.seconds or clip.frames / (clip.fps or 1)
        return max(1, round(seconds * self.rate / self.hop_samples))

    def count_samples(self, clip: ClipConfig) -> int:
        """Return the samples of a spectrogram, whose columns all are whole windows."""
        return (self.count_columns(clip) - 1) * self.hop_samples + self.window_samples


class AugmentConfig(Section):
    """Training augmentation, one draw per clip, off by default.

    Sources: docs/guide/augmentation.md.
    """

    contradictions = checks.check_augment

    speed: Range | None = None  # frames are this many times as far apart, evenly over the logarithm
    resized_crop: FractionRange | None = None  # share of the frame's area that becomes the crop, not short_side's
    resized_aspect: Range = (3 / 4, 4 / 3)  # width / height of the resized crop
    multi_scale: tuple[PositiveFraction, ...] | None = None  # crop's height and width / the short side
    flip_labels: Literal["none", "left-right"] | dict[str, str | None] = "none"  # or {class: class, or null}
    brightness: NonNegativeFloat = 0.0  # factor drawn from 1 - strength to 1 + strength
    contrast: NonNegativeFloat = 0.0  # as brightness
    saturation: NonNegativeFloat = 0.0  # as brightness
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # shift up to this share of the colour circle
    grey: Fraction = 0.0  # probability of a grey clip
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees to either side
    randaugment: tuple[PositiveInt, Annotated[int, Field(ge=0, le=30)]] | None = None  # [operations, magnitude of 30]
    trivialaugment: bool = False  # one random operation of random magnitude
    erasing: Fraction = 0.0  # probability that a box through all frames is filled with noise
    erasing_area: FractionRange = (0.02, 1 / 3)  # share of the frame that the box covers
    own: ImportPath | None = None  # a step of your own, after these on the CPU: docs/guide/own-parts.md
    mixup: NonNegativeFloat = 0.0  # alpha of Beta(alpha, alpha); with cutmix, each batch takes one of the two
    cutmix: NonNegativeFloat = 0.0  # alpha; labels are weighted by area

    @property
    def has_mixing(self) -> bool:
        """Return True where clips of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0


class ViewsConfig(Section):
    """Evaluation protocol: `clips` in time x `crops` in space, fused per video.

    With perturbations of the frames; docs/guide/evaluation.md defines every value.
    """

    clips: PositiveInt | Literal["all"] = 1  # all: one after the other over the whole video
    starts: Literal["uniform", "dense"] = "uniform"  # uniform: from the first frame to the last; dense: as TSM's
    crops: Literal[1, 3, 5, 10, "full"] = 1  # full: the whole picture, not cut
    fusion: Literal["softmax-mean", "logit-mean", "max", "vote"] = "softmax-mean"  # of the scores of views
    order: Literal["normal", "shuffled", "reversed", "frozen", "static", "subsampled"] = (
        "normal"  # of the frames of each clip
    )
    corruption: Literal["none", "noise", "blur", "brightness", "frame_drop", "compression"] = "none"  # of the frames
    severity: Annotated[int, Field(ge=1, le=5)] = 3  # of the corruption
    metrics: tuple[ImportPath, ...] = ()  # own numbers beside those of metrics.json: docs/guide/own-parts.md


ListFormat = Literal["ucf101", "hmdb51", "kinetics", "ssv2", "folder", "csv"]
# written on first use: data/synthetic
SyntheticFormat = Literal["motion8", "appear8", "mixed16", "order8", "small", "motiontone", "motionhue"]


class DataConfig(Section):
    """Data set, and how its videos are read."""

    contradictions = checks.check_data

    name: str  # names the data set in protocol strings and reports
    # what the network sees of a video, or a list for a network of several streams: docs/guide/streams.md
    stream: Annotated[Streams, AfterValidator(_check_streams)] = "rgb"
    # of the lists, or an embedded data set: docs/guide/own-videos.md; or an import path: docs/guide/own-parts.md
    format: Literal[ListFormat, SyntheticFormat] | ImportPath
    root: UserPath  # the folder that the lists' paths are relative to, or a folder or URL of shards
    splits: UserPath | None = None  # the folder of the lists; default: root
    flow: UserPath | None = None  # the folder of flow of the same videos, where data.stream lists flow beside others
    split: Literal[1, 2, 3] = 1  # which of the three of UCF101 or HMDB51
    source: str | None = None  # where to get the data; shown when it is not there
    val: Fraction | Literal["none"] = 0.1  # share of the training videos held out for validation, by groups
    share: PositiveFraction = 1.0  # of the other training groups that are used, of each class alike
    on_unreadable: Literal["stop", "skip"] = "stop"  # training and validation videos that do not decode
    reader: Literal["auto", "decord", "pyav", "torchcodec"] = "auto"  # auto: the fastest exact one for each file
    cache: Literal["none", "ram"] = "none"  # ram: decoded frames stay in memory
    clip: ClipConfig = ClipConfig()
    transform: TransformConfig = TransformConfig()
    audio: AudioConfig = AudioConfig()
    augment: AugmentConfig = AugmentConfig()
    balanced: bool = False  # training: an epoch draws as many videos of each class, some repeatedly
    batch_size: PositiveInt = 16  # videos per rank
    workers: NonNegativeInt = 4  # DataLoader workers per rank


_KINDS = get_type_hints(NetworkOptions, include_extras=True)
_OVERRIDES: dict[str, Any] = {key: (kind | None, None) for key, kind in _KINDS.items()}  # None keeps what the name says
StreamNetwork = create_model("StreamNetwork", __base__=Section, name=(str | None, None), **_OVERRIDES)


class _NamedNetwork(Section):
    name: str  # docs/reference/networks.md lists the names; or an import path: docs/guide/own-parts.md
    streams: Mapping[StreamName, StreamNetwork] = {}
    # of a list of streams: joint has a classifier of the features of all, late the mean of the probabilities of each
    fusion: Literal["joint", "late"] | None = None


NetworkConfig = create_model("NetworkConfig", __base__=_NamedNetwork, **_OVERRIDES)


class _InitialWeights(Section):
    contradictions = checks.check_weights

    weights: UserPath | None = None  # initial weights: docs/guide/weights.md
    inflate: Literal["mean", "centre"] | None = None  # how 2D weights fill 3D kernels
    head: Literal["auto", "keep", "new"] = "auto"  # the weights' classifier; auto: new for another number of classes
    adapt: Literal["mean"] | None = None  # how weights of another stream fill the first convolution


class StreamConfig(_InitialWeights, StreamNetwork):
    """One of several streams: its network, whose options are those of `model`, and its initial weights."""


class ModelConfig(_InitialWeights, NetworkConfig):
    """A network, its options and its initial weights; null keeps what the name says."""

    # of a list of streams: {stream: its options and weights}; one with a name of its own takes no other option of model
    streams: dict[StreamName, StreamConfig] = {}

    def overrides(self) -> dict[str, Any]:
        """Return the changes to the named network, for `create_model`."""
        keys, weights = set(NetworkConfig.model_fields) - {"name"}, set(_InitialWeights.model_fields)
        of_streams: Any = {"streams": {"__all__": weights} if self.streams else True}
        return self.model_dump(include=keys, exclude=of_streams, exclude_none=True)

    @property
    def clip_channels(self) -> int:
        """Return the channels of the clips that the network takes."""
        return self.overrides().get("channels", NetworkOptions.channels)


class DistillConfig(Section):
    """Distillation from a trained network. Sources: docs/guide/regularization.md."""

    contradictions = checks.check_distill

    teacher: UserPath | None = None  # a run folder, or a checkpoint of one
    temperature: PositiveFloat = 4.0  # divides both networks' logits
    weight: Fraction = 0.9  # of the teacher's answers; the labels have the rest
    attention: NonNegativeFloat = 0.0  # weight of the attention maps' difference (of stages); the authors took 1000


class TrainConfig(Section):
    """Training recipe; regularization is off by default: docs/guide/regularization.md."""

    contradictions = checks.check_train

    epochs: PositiveInt  # passes over the training videos
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"  # decay is coupled in the first two, decoupled in adamw
    lr: PositiveFloat = 0.01  # learning rate, after warm-up
    base_batch: PositiveInt | None = None  # global batch that `lr` is for; the learning rate scales with another
    accumulate: PositiveInt = 1  # batches whose mean gradient makes a step; an epoch has whole steps only
    momentum: Fraction = 0.9  # of sgd
    weight_decay: NonNegativeFloat = 1e-4  # of weights, not of biases and norms
    layer_decay: PositiveFraction | None = None  # lr of a part / lr of the part that follows
    schedule: Literal["constant", "cosine", "step", "plateau", "onecycle"] = "cosine"  # of lr
    warmup: NonNegativeFloat = 0  # epochs of linear warm-up (onecycle: of its rise)
    milestones: tuple[float, ...] = ()  # step: epochs after which the learning rate is multiplied by gamma
    plateau: PositiveInt = 3  # plateau: epochs without improvement until it is multiplied by gamma
    gamma: PositiveFloat = 0.1  # factor of step and plateau
    patience: PositiveInt | None = None  # epochs without improvement until training ends
    label_smoothing: Rate = 0.0  # share of the label that is spread over all classes
    class_weights: Literal["none", "balanced"] = "none"  # balanced: the loss weighs a class by 1 / its share of videos
    # of several streams: weights of the cross-entropies of "joint" and of each stream; default: 1 of what is tested
    loss_weights: dict[StreamName | Literal["joint"], NonNegativeFloat] = {}
    freeze: NetworkParts = ()  # parts that do not train: stem, layer1, ...; all-but-fc is a linear probe
    freeze_bn: bool = False  # batch norms do not train, nor change their statistics
    keep_zeros: bool = False  # weights that are 0 at the start stay 0: of tools/compress.py prune --scope weights
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of a moving average of the weights, which is tested
    swa: NonNegativeInt | None = None  # from this epoch on (from 0) the mean of weights is tested
    precise_bn: PositiveInt | None = None  # training batches per rank that batch norms take their statistics from
    distill: DistillConfig = DistillConfig()
    # training videos that each validation scores for the gap (docs/guide/monitoring.md); auto: as many as validation
    # videos
    gap_videos: Literal["auto"] | NonNegativeInt = "auto"


class TrainerConfig(Section):
    """Hardware, dtypes and ranks."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"  # auto: a GPU where there is one
    devices: PositiveInt | Literal["auto"] = 1  # ranks per node; auto: all GPUs
    num_nodes: PositiveInt = 1  # nodes, each with as many devices
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"  # of training: docs/guide/precision.md
    score_precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of validation and test: docs/guide/evaluation.md
    channels_last: bool | Literal["auto"] = "auto"  # memory layout; auto: by device
    sync_batchnorm: bool = False  # batch norms take their statistics from the clips of all GPUs
    timeout: PositiveFloat = 10.0  # minutes that ranks wait for one that does not answer
    compression: Literal["none", "fp16", "bf16"] = "none"  # of the gradients that GPUs exchange
    compile: bool | Literal["auto"] = "auto"  # training steps by torch.compile; auto: only where autotune selects it
    log_every: PositiveInt = 20  # steps between rows of metrics.jsonl


class WatchConfig(Section):
    """Additional records of training, off by default: docs/guide/monitoring.md."""

    gradients: bool = False  # norm of each part's gradient, at logged steps
    activations: bool = False  # mean, standard deviation and share of zeros of each part's output
    tensorboard: bool = False  # the rows of metrics.jsonl too in <run folder>/tensorboard/
    wandb: str | None = None  # the rows of metrics.jsonl too in this Weights & Biases project


class Config(Section):
    """The whole configuration of a run."""

    contradictions = checks.check_config

    run: RunConfig = RunConfig()
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    val: ViewsConfig = ViewsConfig()
    test: ViewsConfig = ViewsConfig(clips=10)
    trainer: TrainerConfig = TrainerConfig()
    watch: WatchConfig = WatchConfig()

    @model_validator(mode="before")
    @classmethod
    def fill_channels(cls, values: Any) -> Any:
        """Write the channels of data.stream into `model`, where they are not given."""
        data, model = (values.get(name) if isinstance(values, dict) else None for name in ("data", "model"))
        if not isinstance(data, dict) or not isinstance(model, dict):
            return values
        stream: Any = data.get("stream", "rgb")
        if isinstance(stream, (list, tuple)):
            return {**values, "model": _fill_streams(stream, model)}
        facts = STREAMS[stream] if isinstance(stream, str) and stream in STREAMS else None
        if facts is None or facts.channels == NetworkOptions.channels or model.get("channels") is not None:
            return values
        return {**values, "model": {**model, "channels": facts.channels}}


def _fill_streams(names: Sequence[Any], model: dict[str, Any]) -> dict[str, Any]:
    """Return `model` with an entry for each stream of a list, in its order, and the kind of fusion."""
    given = model.get("streams") or {}
    if not isinstance(given, dict) or not all(isinstance(one or {}, dict) for one in given.values()):
        return model
    filled: dict[Any, Any] = {}
    for name in names:
        if isinstance(name, str) and name in STREAMS:
            own = {key: value for key, value in (given.get(name) or {}).items() if value is not None}
            filled[name] = {"channels": STREAMS[name].channels, **own}
    others = {name: own for name, own in given.items() if name not in filled}
    return {**model, "streams": filled | others, "fusion": model.get("fusion") or "joint"}
