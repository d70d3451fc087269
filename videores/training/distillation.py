"""Knowledge distillation: a trained network whose answers and attention another one learns beside the labels."""

from pathlib import Path

import torch

from videores.compute import cost
from videores.config import parse
from videores.config.schema import ModelConfig
from videores.errors import UserError
from videores.models import create_model
from videores.models.weights import loading, preprocessing, safe_load
from videores.training import checkpoint_io, losses, run_folder


class Teacher:
    """The teacher in eval mode. It is no part of the student: neither checkpoints nor optimizers know of it."""

    def __init__(self, model, student, distill):
        self.model, self.distill = model.eval().requires_grad_(False), distill
        self.attention = {}
        if distill.attention:
            stages = find_common_stages(model, student)
            self.attention = {network: AttentionRecorder(network, stages) for network in (model, student)}

    def loss(self, loss, clips_XCTHW, logits_XN):
        """The student's loss with the teacher's added; the student has just answered `logits_XN` to the clips."""
        with torch.no_grad():
            theirs_XN = self.model(clips_XCTHW)
        weight = self.distill.weight
        loss = (1 - weight) * loss + weight * losses.distillation_loss(logits_XN, theirs_XN, self.distill.temperature)
        if not self.attention:
            return loss
        theirs, ours = (attention.maps for attention in self.attention.values())
        return loss + self.distill.attention * sum(
            losses.attention_transfer_loss(ours[name], theirs[name]) for name in ours
        )


class AttentionRecorder:
    """The attention maps of a network's stages when it last ran; of a student, when it last trained, those of its
    frozen stages too, through which what is before them learns."""

    def __init__(self, model, stages):
        self.maps = {}
        for name in stages:
            keep = lambda stage, inputs, x, name=name: self.keep(name, x, clips=inputs[1], needed=model.training)
            getattr(model, name).register_forward_hook(keep)
        self.always = not any(p.requires_grad for p in model.parameters())

    def keep(self, name, x, clips, needed):
        if needed or self.always:
            x_XCTHW = x if x.ndim == 5 else x.unflatten(0, (clips, -1)).transpose(1, 2)
            self.maps[name] = losses.compute_attention_map(x_XCTHW)


def find_common_stages(teacher, student):
    found = [name for name in getattr(student, "stages", ()) if name in getattr(teacher, "stages", ())]
    if not found:
        raise UserError(
            "train.distill.attention compares stages layer1, ..., which one of the networks has not: leave it out"
        )
    return found


def load_teacher(cfg, student, classes):
    """The Teacher of a configuration, and a report of what was loaded; (None, None) if there is none.

    Raises UserError for a teacher of other classes, one that was trained with other colours, or one that cannot take
    the student's clips.
    """
    if cfg.train.distill.teacher is None:
        return None, None
    path = find_teacher_checkpoint(cfg.train.distill.teacher)
    stored = safe_load.read_checkpoint(path)
    if not safe_load.extract_config(stored):
        raise UserError(f"train.distill.teacher: {path} was not written by tools/train.py")
    known = stored["hyper_parameters"]
    checkpoint_io.check_same_classes(f"train.distill.teacher: {path}", known["classes"], list(classes))
    network = ModelConfig(**known["config"]["model"])
    with torch.random.fork_rng(devices=[]):  # the student's run draws the same numbers without a teacher
        model = create_model(network.name, len(classes), **network.overrides())
    check_teacher_input(path, model, cfg.data)
    report = loading.load_weights(
        model, path, list(classes), preprocessing=preprocessing.extract_preprocessing(parse.dump_config(cfg)["data"])
    )
    return Teacher(model, student, cfg.train.distill), report


def check_teacher_input(path, model, data):
    """Before a run folder is made, not in the first step."""
    size = data.transform.crop
    try:
        cost.count_gmacs(model, (1, 3, data.clip.frames, size, size))
    except UserError as error:
        raise UserError(f"train.distill.teacher: {path} cannot take the clips of this run: {error}") from None


def find_teacher_checkpoint(source):
    """A checkpoint, or the one of a run folder that is tested."""
    safe_load.check_local_path(source)
    path = Path(source)
    return run_folder.find_best_checkpoint(path) if (path / "checkpoints").is_dir() else path
