"""A student and its teacher: what is learned, and which teachers are refused."""

import pytest
import torch
import torch.nn.functional as F
from helpers.training import Watch, differing, fit, make_config, make_task, state

from videores.errors import UserError
from videores.models.weights import safe_load
from videores.training import distillation

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

NET = {"layers": [1, 1]}


class Save(Watch):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_end(self, trainer, module):
        trainer.save_checkpoint(self.path)


@pytest.fixture(scope="module")
def teacher(root, tmp_path_factory):
    """A run folder with the checkpoint of a trained, wider network of two stages."""
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "checkpoints").mkdir()
    cfg = make_config(root, model={**NET, "width": 12, "dropout": 0.5}, train={"epochs": 3})
    torch.set_num_threads(1)
    fit(cfg, Save(folder / "checkpoints" / "last.ckpt"))
    return folder


def taught(root, teacher, model=NET, freeze=(), **distill):
    distill = {"teacher": str(teacher), **distill}
    cfg = make_config(root, model=model, train={"epochs": 1, "freeze": freeze, "distill": distill})
    task = make_task(cfg)
    task.teacher, report = distillation.load_teacher(cfg, task.model, task.classes)
    task.log = lambda *args, **kwargs: None
    return task.train(), report


def batch():
    torch.manual_seed(7)
    return {"clips": torch.randn(4, 1, 3, 8, 32, 32), "label": torch.tensor([0, 1, 1, 0])}


def test_the_loss_is_the_labels_and_the_teachers_in_proportion(root, teacher):
    task, _ = taught(root, teacher, temperature=3.0, weight=0.7)
    loss = task.training_step(batch(), 0)["loss"]
    twin = make_task(task.cfg).train()
    logits_XN, theirs_XN = twin.model(batch()["clips"][:, 0]), task.teacher.model(batch()["clips"][:, 0])
    labels = F.cross_entropy(logits_XN, batch()["label"])
    kl = F.kl_div((logits_XN / 3).log_softmax(1), (theirs_XN / 3).softmax(1), reduction="batchmean")
    assert loss.item() == pytest.approx((0.3 * labels + 0.7 * 9 * kl).item(), rel=1e-5)


def test_attention_is_added_for_each_stage(root, teacher):
    task, _ = taught(root, teacher, weight=0.0, attention=10.0)
    loss = task.training_step(batch(), 0)["loss"]
    twin, x, y = make_task(task.cfg).train().model, batch()["clips"][:, 0], batch()["clips"][:, 0]
    other, expected = task.teacher.model, 0.0
    labels = F.cross_entropy(twin(x), batch()["label"])
    twin = make_task(task.cfg).train().model
    x, y = twin.stem(x), other.stem(y)
    for name in ("layer1", "layer2"):
        x, y = getattr(twin, name)(x, 4), getattr(other, name)(y, 4)
        unit = lambda f: F.normalize(f.square().mean(1).flatten(1))
        expected = expected + (unit(x) - unit(y)).square().mean()
    assert loss.item() == pytest.approx((labels + 10 * expected).item(), rel=1e-4)


def test_frozen_stages_are_compared_too_for_what_is_before_them_learns(root, teacher):
    task, _ = taught(root, teacher, freeze=["layer1", "layer2"], weight=0.0, attention=10.0)
    task.training_step(batch(), 0)
    maps = task.teacher.recorders[task.model].maps
    assert set(maps) == {"layer1", "layer2"}
    assert all(attention_XTHW.requires_grad for attention_XTHW in maps.values())


def test_attention_between_a_frame_network_and_a_3d_one_pools_what_differs(root, teacher):
    task, _ = taught(
        root, teacher, weight=0.5, attention=1.0, model={"name": "f_r2d_18", "layers": [1, 1], "stem": "small"}
    )
    task.training_step(batch(), 0)["loss"].backward()
    assert all(p.grad is not None for p in task.model.layer1.parameters())


def test_the_teacher_does_not_learn_drops_nothing_and_is_in_no_checkpoint(root, teacher, tmp_path):
    cfg = make_config(
        root,
        model=NET,
        data={"batch_size": 4},
        train={"epochs": 1, "distill": {"teacher": str(teacher), "attention": 5}},
    )
    task, _, _ = fit(cfg, Save(tmp_path / "student.ckpt"))
    path = teacher / "checkpoints" / "last.ckpt"
    stored = {key.removeprefix("model."): value for key, value in safe_load.read_checkpoint(path)["state_dict"].items()}
    assert differing(stored, task.teacher.model.state_dict()) == []
    assert not any(m.training for m in task.teacher.model.modules())
    assert set(safe_load.read_checkpoint(tmp_path / "student.ckpt")["state_dict"]) == set(make_task(cfg).state_dict())
    assert {id(p) for p in task.parameters()}.isdisjoint(id(p) for p in task.teacher.model.parameters())


def test_the_students_first_weights_and_draws_are_the_same_without_a_teacher(root, teacher):
    task, _ = taught(root, teacher)
    after = torch.rand(3)
    assert differing(state(make_task(make_config(root, model=NET))), state(task)) == []
    assert torch.equal(after, torch.rand(3))


def load(root, source, classes=("a", "b"), student=None, attention=0, **data):
    distill = {"teacher": str(source), "attention": attention}
    cfg = make_config(root, model=NET, data=data, train={"epochs": 1, "distill": distill})
    return distillation.load_teacher(cfg, student or make_task(cfg).model, list(classes))


def test_a_teacher_that_does_not_fit_is_refused_with_the_difference(root, teacher, tmp_path):
    crop = {"short_side": 32, "crop": 24, "flip": 0}
    assert "crop is 24 here, 32 where it was trained" in str(load(root, teacher, transform=crop)[1])
    task = make_task(make_config(root, model={"name": "r2d_18", "frames": 8}))
    stored = {"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict(), "epoch": 0, "global_step": 1}
    torch.save(stored, tmp_path / "r2d.ckpt")
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    for pattern, source, options in (
        (r"data\.transform\.mean=", teacher, {"transform": {**crop, "mean": [0.5, 0.5, 0.5]}}),
        (r"train\.distill\.teacher: .*8 frames", tmp_path / "r2d.ckpt", {"clip": {"frames": 4}}),
        (r"(?s)train\.distill\.teacher.*1: b / c", teacher, {"classes": ["a", "c"]}),
        (r"train\.distill\.teacher", teacher, {"classes": ["a", "b", "c"]}),
        (r"train\.distill\.attention", teacher, {"student": torch.nn.Linear(2, 2), "attention": 1}),
        (r"other\.pth", tmp_path / "other.pth", {}),
        (r"none\.ckpt", tmp_path / "none.ckpt", {}),
    ):
        with pytest.raises(UserError, match=pattern):
            load(root, source, **options)
    with pytest.raises(UserError, match=r"^https://a.b/c "):
        distillation.find_teacher_checkpoint("https://a.b/c")
