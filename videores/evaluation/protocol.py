"""What a number is about, as one string: which views of which videos."""

import re


def format_protocol(cfg, part="test"):
    """`<frames>x<stride>@<crop>/<short side> <clips>x<crops> <fusion> <data set>-<split>[ <order>][ <damage>]`"""
    clip, t, views = cfg.data.clip, cfg.data.transform, getattr(cfg, part)
    rate = clip.stride if clip.fps is None else f"{clip.fps:g}fps"
    rate = "segments" if clip.sampling == "segments" else rate
    clips = f"dense{views.clips}" if views.starts == "dense" else views.clips
    shown = f"{clip.frames}x{rate}@{t.crop}/{t.short_side} {clips}x{views.crops} {views.fusion}"
    order = "" if views.order == "normal" else f" {views.order}"
    damage = "" if views.corruption == "none" else f" {views.corruption}-{views.severity}"
    return f"{shown} {cfg.data.name}-{format_split(cfg.data, part)}{order}{damage}"


def format_split(data, part):
    """Held-out training videos are not what others call the validation split."""
    split = {"ucf101": data.split, "hmdb51": data.split, "kinetics": "val", "ssv2": "val"}.get(data.format, "test")
    if part == "test":
        return split
    return f"{split}-heldout" if data.format in ("ucf101", "hmdb51") else "heldout"


def slugify(protocol):
    return re.sub(r"[^A-Za-z0-9.@-]+", "_", protocol)
