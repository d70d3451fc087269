"""Define how a network's clips are made from a video, and make them as the test loop does.

A `Preprocessing` travels as JSON in the metadata of exported files. It has the keys of a configuration, and applies the
functions of `videores.data` that validation and test apply.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from videores.config.parse import build_section
from videores.config.schema import AudioConfig, ClipConfig, Config, Section, TransformConfig, ViewsConfig
from videores.config.streams import StreamName, Streams, format_streams, has_sound, list_sources
from videores.data import shards, streams, transforms, views
from videores.data.dataset import VideoDataset
from videores.data.lists import Video
from videores.data.probe import VideoInfo, probe
from videores.data.shards import Root
from videores.errors import UserError
from videores.evaluation.protocol import format_views


class Preprocessing(Section):
    """The clips of a video: which frames, their size and colors, and which views.

    The keys are data.stream and those of data.clip, data.transform, data.audio and test of a configuration.
    """

    stream: Streams = "rgb"
    clip: ClipConfig = ClipConfig()
    transform: TransformConfig = TransformConfig()
    audio: AudioConfig = AudioConfig()
    views: ViewsConfig = ViewsConfig()

    @classmethod
    def from_config(cls, cfg: Config, part: str = "test") -> Self:
        """Return that of a run's configuration, with the views of `part` on normal frames."""
        usual = dict(order="normal", corruption="none")
        data, views = cfg.data, getattr(cfg, part).model_copy(update=usual)
        return cls(stream=data.stream, clip=data.clip, transform=data.transform, audio=data.audio, views=views)

    @classmethod
    def from_weights(cls, known: Mapping[str, Any], views: ViewsConfig = ViewsConfig()) -> Self:  # noqa: B008 (frozen)
        """Return that of weights: what `extract_preprocessing` knows, defaults else."""
        given = {key: value for key, value in known.items() if value is not None}
        pick = lambda section: {key: given[key] for key in section.model_fields if key in given}
        clip, transform = ClipConfig(**pick(ClipConfig)), TransformConfig(**pick(TransformConfig))
        audio = AudioConfig(**given.get("audio", {}))
        return cls(stream=given.get("stream", "rgb"), clip=clip, transform=transform, audio=audio, views=views)

    @classmethod
    def from_json(cls, text: str, where: Path | str) -> Self:
        """Read it from JSON that `where` names. Raises UserError."""
        try:
            return build_section(cls, json.loads(text), where)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: its preprocessing must be JSON, got {error}; export the network again") from None

    def to_json(self) -> str:
        """Format it as JSON, for `from_json`."""
        return self.model_dump_json()

    def with_views(self, **changes: Any) -> Self:
        """Return it with other views, such as clips="all". Raises UserError."""
        values = self.views.model_dump() | changes
        return self.model_copy(update={"views": build_section(ViewsConfig, values, "views")})

    def __str__(self) -> str:
        """Format it as protocol strings do, without the data set."""
        return format_views(self, self.views)

    # Apply

    def make_dataset(
        self, root: str | Root, videos: Sequence[Video], infos: Mapping[str, VideoInfo], reader: str = "auto"
    ) -> VideoDataset:
        """Return the dataset of a test; a video that no longer decodes is marked.

        Use it with `views.collate_items` and `views.split_batch`, as the test loop does.
        """
        self.check_one_file()
        streams.check_content({video.path: infos[video.path] for video in videos if video.path in infos}, self.stream)
        clip, transform, views = self.clip, self.transform, self.views
        options: dict[str, Any] = dict(stream=self.stream, audio=self.audio, views=views, reader=reader)
        first, *others = list_sources(self.stream)
        options["marks_unreadable"] = True
        make = partial(VideoDataset, shards.locate(root), videos, infos, clip, transform, **options)
        return make(source=first, others=[make(source=source) for source in others])

    @property
    def one_stream(self) -> StreamName:
        """Return the stream of a network that has one. Raises UserError where it has several."""
        if isinstance(self.stream, str):
            return self.stream
        raise UserError(
            f"a network of {format_streams(self.stream)} takes clips of each, and a program has one input: "
            "--format safetensors keeps its weights"
        )

    def check_one_file(self) -> None:
        """Check that a file has all that the network sees. Raises UserError for flow beside another stream."""
        if self.stream != "flow" and "flow" in list_sources(self.stream):
            raise UserError(
                f"a network of {format_streams(self.stream)} needs two files for each video, which a configuration "
                "names: test it by tools/evaluate.py --run"
            )

    def read_views(self, path: str | Path) -> torch.Tensor:
        """Return uint8 clips_VTHWC, or int16 sound_VS, all views of a video file.

        Raises UnreadableVideo.
        """
        path = Path(path)
        info = probe(path, sound=has_sound(self.stream))
        dataset = self.make_dataset(path.parent, [Video(path.name, 0)], {path.name: info})
        return views.list_item_views(dataset.fixed_views(0, 0), self.transform.crop, self.views)

    def scale(self, frame_HWC: np.ndarray) -> np.ndarray:
        """Scale one uint8 frame to the short side."""
        return transforms.scale_frame(frame_HWC, self.transform.short_side)

    def cut_views(self, scaled_UHWC: np.ndarray, place_KT: np.ndarray) -> torch.Tensor:
        """Return uint8 clips_VTHWC: K clips of scaled frames, each in all crops."""
        return transforms.crop_views(scaled_UHWC, place_KT, self.transform.crop, self.views.crops)

    def normalize(self, clips_XTHWC: Any) -> Any:
        """Return float32 clips_XCTHW, the input of the network, from what `read_views` returns."""
        clips = streams.make_input(streams.map_sources(lambda x: x[None], clips_XTHWC), self)
        return streams.map_sources(lambda x: x[0], clips)
