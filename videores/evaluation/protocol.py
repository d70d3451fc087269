"""Format the test protocol of a number as one string: which views of which videos."""

import re

from videores.config.schema import ClipConfig, Config, DataConfig, ViewsConfig
from videores.config.streams import format_streams, has_sound
from videores.data.streams import ClipFormat


def format_protocol(cfg: Config, part: str = "test") -> str:
    """Return the protocol string of a part, "test" or "val".

    `<frames>x<stride>@<crop>/<short side>[:<stream>] <clips>x<crops> <fusion> <data set>-<split>[ <order>][ <damage>]`
    Of sound, `<bands>x<columns>` stands for `<crop>/<short side>`.
    """
    views = getattr(cfg, part)
    order = "" if views.order == "normal" else f" {views.order}"
    corruption = "" if views.corruption == "none" else f" {views.corruption}-{views.severity}"
    views_text = format_views(cfg.data, views)
    return f"{views_text} {cfg.data.name}-{format_split(cfg.data, part)}{order}{corruption}"


def format_views(data: ClipFormat, views: ViewsConfig) -> str:
    """Return the part of a protocol string that tells clips, crops and fusion."""
    clips = f"dense{views.clips}" if views.starts == "dense" else views.clips
    stream = "" if data.stream == "rgb" else f":{format_streams(data.stream)}"
    size = f"{data.transform.crop}/{data.transform.short_side}"
    if has_sound(data.stream):
        sound = f"{data.audio.bands}x{data.audio.count_columns(data.clip)}"
        size = sound if data.stream == "audio" else f"{size},{sound}"
    return f"{format_sampling(data.clip, size)}{stream} {clips}x{views.crops} {views.fusion}"


def format_sampling(clip: ClipConfig, size: str) -> str:
    """Return the part of a protocol string that tells the frames and size of a clip."""
    rate = clip.stride if clip.fps is None else f"{clip.fps:g}fps"
    rate = "segments" if clip.sampling == "segments" else rate
    return f"{clip.frames}x{rate}@{size}"


def format_split(data: DataConfig, part: str) -> str:
    """Return the name of the split; held-out training videos are no official split."""
    numbered = data.format in ("ucf101", "hmdb51")
    split = str(data.split) if numbered else "val" if data.format in ("kinetics", "ssv2") else "test"
    if part == "test":
        return split
    return f"{split}-heldout" if numbered else "heldout"


def slugify(protocol: str) -> str:
    """Return a protocol string as a folder name."""
    return re.sub(r"[^A-Za-z0-9.@-]+", "_", protocol)
