"""Checks and preparations between the data and the first step of a run."""

import hashlib
import json
import sys

from videores.compute import cost
from videores.config import parse
from videores.data import datamodule, mirroring
from videores.errors import UserError
from videores.models.weights import compatibility, loading, preprocessing
from videores.runtime import launch


def load_initial_weights(cfg, task):
    """Starts the network from model.weights. Returns the report, or None."""
    if cfg.model.weights is None:
        return None
    fed = preprocessing.extract_preprocessing(parse.dump_config(cfg)["data"])
    options = {"head": cfg.model.head, "inflate": cfg.model.inflate, "preprocessing": fed}
    report = loading.load_weights(task.model, cfg.model.weights, task.classes, **options)
    if launch.is_rank_zero():
        print(f"weights {report}")
    return report


def check_monitor(train, videos):
    waiting = [
        key for key, on in (("patience", train.patience), ("schedule=plateau", train.schedule == "plateau")) if on
    ]
    if waiting and not videos.index.val:
        raise UserError(
            f"train.{waiting[0]} waits for a better validation, and there are no validation videos (no groups, or "
            "data.val=none): hold some out, or leave it out"
        )


def warn_mirrored_classes(data, classes):
    """Where training would show videos of one class as those of another."""
    changed = mirroring.find_changed_classes(classes)
    if changed and data.transform.flip and data.augment.flip_labels == "none" and launch.is_rank_zero():
        print(
            f"warning: data.transform.flip={data.transform.flip:g} mirrors videos whose classes say left or right "
            f"({', '.join(changed[:4])}): data.transform.flip=0 leaves that out, and "
            "data.augment.flip_labels=left-right mirrors the labels too",
            file=sys.stderr,
        )


def check_readable_videos(videos, part):
    if not videos.readable(part):
        raise UserError(f"there are no {part} videos (nothing is held out without groups, or with data.val=none)")


def check_model_and_normalization(path, trained, task):
    """Raises UserError where the shapes of the weights do not show that they are used as another network, or on other
    colours, than they were trained for."""
    lines = compatibility.find_differences(trained["model"], task.model)
    theirs, ours = trained["data"]["transform"], task.cfg.data.transform
    for key in ("mean", "std"):
        if not preprocessing.is_close(theirs[key], getattr(ours, key)):
            lines.append(f"data.transform.{key} is {list(getattr(ours, key))} here, {theirs[key]} where it was trained")
    if lines:
        raise UserError(f"{path} would be tested as what it is not:\n  " + "\n  ".join(lines))


def compute_clip_gmacs(cfg, task):
    """GMACs of a clip. Raises UserError, before a run folder is made, for clips that the network cannot take."""
    size = cfg.data.transform.crop
    return cost.count_gmacs(task.model, (1, 3, cfg.data.clip.frames, size, size))


def fingerprint_lists(videos):
    """A hash for each list: which videos, labels and frame counts the numbers are about."""
    return {part: hash_video_list(getattr(videos.index, part), videos.infos) for part in datamodule.PARTS}


def make_list_signature(videos, parts=datamodule.PARTS):
    """The same, as what all processes must agree on, and a run that is continued on those it learns from."""
    return {f"the list of {part} videos": value for part, value in fingerprint_lists(videos).items() if part in parts}


def hash_video_list(listed, infos):
    rows = sorted((v.path, v.label, infos[v.path].num_frames if v.path in infos else None) for v in listed)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
