"""Knowledge distillation: learn from a trained network beside the labels."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from videores.compute import cost
from videores.config import parse
from videores.config.schema import Config, DistillConfig, ModelConfig
from videores.config.streams import compute_input_shape
from videores.errors import UserError
from videores.models import create_model
from videores.models.weights import safe_load
from videores.models.weights.loading import LoadReport, load_weights
from videores.models.weights.preprocessing import extract_preprocessing
from videores.training.checkpoint_io import check_same_classes
from videores.training.losses import attention_transfer_loss, compute_attention_map, distillation_loss
from videores.training.run_folder import find_best_checkpoint


class Teacher:
    """A teacher in eval mode.

    It is no part of the student: neither checkpoints nor optimizers know of it.
    """

    def __init__(self, model: nn.Module, student: nn.Module, distill: DistillConfig):
        self.model, self.distill = model.eval().requires_grad_(False), distill
        self.recorders = {}
        if distill.attention:
            stages = _find_common_stages(model, student)
            self.recorders = {network: _AttentionRecorder(network, stages) for network in (model, student)}

    def add_loss(self, loss: Tensor, clips_XCTHW: Tensor, logits_XN: Tensor) -> Tensor:
        """Return the student's loss with the teacher's added.

        To be called just after the student's forward pass of the clips, which records its attention.
        """
        with torch.no_grad():
            teacher_XN = self.model(clips_XCTHW)
        weight = self.distill.weight
        loss = (1 - weight) * loss + weight * distillation_loss(logits_XN, teacher_XN, self.distill.temperature)
        if not self.recorders:
            return loss
        theirs, ours = (recorder.maps for recorder in self.recorders.values())
        return loss + self.distill.attention * sum(attention_transfer_loss(ours[name], theirs[name]) for name in ours)


class _AttentionRecorder:
    """The attention maps of a network's stages at its last forward pass.

    Of a student only training steps count. Its frozen stages are recorded too, since the layers before them learn
    through them.
    """

    def __init__(self, model, stages):
        self.maps = {}
        for name in stages:
            record = lambda stage, inputs, x, name=name: self.record(name, x, clips=inputs[1], training=model.training)
            getattr(model, name).register_forward_hook(record)
        self.is_teacher = not any(p.requires_grad for p in model.parameters())

    def record(self, name, x, clips, training):
        if training or self.is_teacher:
            x_XCTHW = x if x.ndim == 5 else x.unflatten(0, (clips, -1)).transpose(1, 2)
            self.maps[name] = compute_attention_map(x_XCTHW)


def _find_common_stages(teacher, student):
    names = [name for name in getattr(student, "stages", ()) if name in getattr(teacher, "stages", ())]
    if not names:
        raise UserError("train.distill.attention needs stages layer1, ... in both networks: leave it out")
    return names


def load_teacher(cfg: Config, student: nn.Module, classes: Sequence[str]) -> tuple[Teacher | None, LoadReport | None]:
    """Return the Teacher of a configuration and its weights' report, or Nones.

    Raises UserError for a teacher of other classes, of another normalization, or that cannot take the student's clips.
    """
    if cfg.train.distill.teacher is None:
        return None, None
    path = find_teacher_checkpoint(cfg.train.distill.teacher)
    stored = safe_load.read_checkpoint(path)
    safe_load.check_run_checkpoint(f"train.distill.teacher: {path}", stored)
    hyper_parameters = stored["hyper_parameters"]
    check_same_classes(f"train.distill.teacher: {path}", hyper_parameters["classes"], list(classes))
    network = parse.build_section(ModelConfig, hyper_parameters["config"]["model"], f"train.distill.teacher: {path}")
    with torch.random.fork_rng(devices=[]):  # the student's run draws the same numbers without a teacher
        model = create_model(network.name, len(classes), **network.overrides())
    try:
        cost.count_gmacs(model, (1, *compute_input_shape(cfg.data)))
    except UserError as error:
        raise UserError(f"train.distill.teacher: {path} does not take the clips of this run: {error}") from None
    preprocessing = extract_preprocessing(parse.dump_config(cfg)["data"])
    report = load_weights(model, path, list(classes), preprocessing=preprocessing)
    return Teacher(model, student, cfg.train.distill), report


def find_teacher_checkpoint(source: str) -> Path:
    """Return the path of a checkpoint: `source`, or a run folder's best."""
    safe_load.check_local_path(source)
    path = Path(source)
    return find_best_checkpoint(path) if (path / "checkpoints").is_dir() else path
