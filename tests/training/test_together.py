"""Every pair of tools trains together, and a resumed run with all of them ends as the whole one does.

Tools that do not contradict each other are put into as few sets as hold every pair; each set is one small run. The sets
that hold a tool for the first time run by default.
"""

from itertools import combinations

import lightning.pytorch as pl
import pytest
import torch
from helpers.training import Watch, differing, fit

from videores.config import parse
from videores.errors import UserError

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

TOOLS = {
    "coupled decay": ["train.optimizer=sgd", "train.weight_decay=0.01"],
    "coupled adam": ["train.optimizer=adam", "train.weight_decay=0.01"],
    "decoupled decay": ["train.optimizer=adamw", "train.weight_decay=0.01"],
    "dropout": ["model.dropout=0.3"],
    "spatial dropout": ["model.spatial_dropout=0.3"],
    "stochastic depth": ["model.drop_path=0.3"],
    "label smoothing": ["train.label_smoothing=0.1"],
    "mixup": ["data.augment.mixup=0.8"],
    "cutmix": ["data.augment.cutmix=1"],
    "randaugment": ["data.augment.randaugment=[2, 9]"],
    "erasing": ["data.augment.erasing=0.5"],
    "flip": ["data.transform.flip=0.5", "data.augment.flip_labels={a: b, b: a}"],
    "repeat": ["data.clip.repeat=2"],
    "balanced sampling": ["data.balanced=true"],
    "class weights": ["train.class_weights=balanced"],
    "ema": ["train.ema=0.9"],
    "swa": ["train.swa=0"],
    "precise bn": ["train.precise_bn=1"],
    "patience": ["train.patience=5"],
    "freeze": ["train.freeze=[stem]"],
    "probe": ["train.freeze=all-but-fc"],
    "freeze bn": ["train.freeze_bn=true"],
    "layer decay": ["train.layer_decay=0.7"],
    "distillation": ["train.distill.teacher=TEACHER", "train.distill.attention=10"],
    "plateau": ["train.schedule=plateau", "train.plateau=1"],
    "step": ["train.schedule=step", "train.milestones=[1]"],
    "cosine": ["train.schedule=cosine"],
    "onecycle": ["train.schedule=onecycle"],
    "warm-up": ["train.warmup=0.5"],
    "accumulation": ["train.accumulate=2"],
}
REFUSED = {
    ("balanced sampling", "class weights"),
    ("ema", "swa"),
    ("precise bn", "freeze bn"),
    ("precise bn", "probe"),
    ("probe", "layer decay"),
    ("probe", "distillation"),
}


def config(root, tools, teacher="TEACHER"):
    values = {
        "data": {"name": "tiny", "format": "csv", "root": str(root), "val": 0.5, "batch_size": 2, "workers": 0},
        "model": {"name": "r3d_18", "layers": [1, 1], "width": 4, "stem": "small"},
        "train": {"epochs": 2, "lr": 0.01, "schedule": "constant"},
        "trainer": {"accelerator": "cpu", "precision": "fp32"},
    }
    values["data"] |= {"clip": {"frames": 4}, "transform": {"short_side": 32, "crop": 24, "flip": 0}, "cache": "ram"}
    for override in (override for tool in tools for override in TOOLS[tool]):
        parse.apply_override(values, override.replace("TEACHER", str(teacher)))
    return parse.build_config(values, "test")


def alternatives(one, other):
    """Whether both are values of one key."""
    keys = [{override.partition("=")[0] for override in TOOLS[tool]} - {"train.weight_decay"} for tool in (one, other)]
    return bool(keys[0] & keys[1])


def refused(one, other):
    try:
        config("videos", (one, other))
    except UserError:
        return True
    return False


PAIRS = [pair for pair in combinations(TOOLS, 2) if not alternatives(*pair)]
TOGETHER = {frozenset(pair) for pair in PAIRS if pair not in REFUSED}


def covering(pairs):
    """Sets of tools, in each of which all go together, that hold every pair."""
    waiting, sets = set(pairs), []
    while waiting:
        chosen = sorted(min(waiting, key=sorted))
        for tool in sorted(TOOLS, key=lambda tool: -sum(tool in pair for pair in waiting)):
            if all(frozenset((tool, other)) in pairs for other in chosen):
                chosen.append(tool)
        sets.append(tuple(sorted(chosen)))
        waiting -= {frozenset(pair) for pair in combinations(chosen, 2)}
    return sets


SETS = covering(TOGETHER)
FIRST = [tools for n, tools in enumerate(SETS) if set(tools) - {tool for earlier in SETS[:n] for tool in earlier}]


def test_what_contradicts_itself_is_refused_and_the_sets_hold_every_other_pair():
    assert {pair for pair in PAIRS if refused(*pair)} == REFUSED
    assert {frozenset(pair) for tools in SETS for pair in combinations(tools, 2)} == TOGETHER


class Keep(pl.Callback):
    """Checkpoints at the end of each epoch, as 0.ckpt, ..., and after each step within one, as 0-1.ckpt, ..."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if module.ends_step(batch_idx) and batch_idx + 1 < trainer.num_training_batches:
            trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}-{batch_idx + 1}.ckpt")

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt")

    def weights(self, epoch):
        stored = torch.load(self.folder / f"{epoch}.ckpt", weights_only=True)
        return {
            f"{kind}.{key}": value for kind in ("state_dict", "learning") for key, value in stored.get(kind, {}).items()
        }


@pytest.fixture(scope="module")
def teacher(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    torch.set_num_threads(1)
    fit(config(root, ["onecycle"]), more=[Keep(folder)])
    return folder / "1.ckpt"


CASES = [pytest.param(tools, marks=[] if tools in FIRST else pytest.mark.slow) for tools in SETS]


@pytest.mark.parametrize("tools", CASES, ids=range(len(SETS)))
def test_tools_train_together_and_resume_exactly(root, teacher, tmp_path, tools):
    cfg, watch, whole, resumed = config(root, tools, teacher), Watch(), Keep(tmp_path), Keep(tmp_path / "resumed")
    fit(cfg, watch, more=[whole])
    assert len(watch.losses) == 4
    assert all(torch.isfinite(torch.tensor(watch.losses)))
    assert differing(whole.weights(0), whole.weights(1)) != []
    fit(cfg, more=[resumed], start=tmp_path / ("1-1.ckpt" if cfg.train.accumulate == 1 else "0.ckpt"))
    assert differing(whole.weights(1), resumed.weights(1)) == []
