"""The LightningModule by itself: it learns, it repeats itself, and it scores in float32."""

import math

import numpy as np
import pytest
import torch
from helpers.training import Watch, differing, fit, make_config, make_data, make_task, state

from videores.compute import precision
from videores.config.schema import TrainerConfig
from videores.data import transforms
from videores.training import optim
from videores.training.module import VideoClassifier, derive_seed

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

# Learning


def test_one_batch_is_learned_by_heart(root):
    _, watch, _ = fit(make_config(root, train={"epochs": 80, "lr": 0.02}))
    assert watch.losses[0] == pytest.approx(math.log(2), abs=0.3)
    assert watch.losses[-1] < 0.1


def test_loss_of_the_first_step_is_the_smoothed_cross_entropy(root):
    smoothing = 0.2
    cfg = make_config(root, train={"epochs": 1, "label_smoothing": smoothing})
    task = make_task(cfg).train()
    clips, label = torch.randn(3, 1, 3, 8, 32, 32), torch.tensor([0, 1, 1])
    task.log = lambda *args, **kwargs: None
    loss = task.training_step({"clips": clips, "label": label}, 0)["loss"].item()
    log_p = make_task(cfg).train().model(clips[:, 0]).log_softmax(1)
    target = torch.full((3, 2), smoothing / 2)
    target[torch.arange(3), label] += 1 - smoothing
    assert loss == pytest.approx(-(target * log_p).sum(1).mean().item(), rel=1e-5)


def test_learning_rate_follows_the_schedule_step_by_step_and_the_batch(root):
    train = {"schedule": "onecycle", "epochs": 3, "warmup": 1, "base_batch": 32}
    cfg = make_config(root, data={"batch_size": 2}, train=train)
    _, watch, _ = fit(cfg, Watch(lambda module: module.optimizers().param_groups[0]["lr"]))
    factors = [optim.compute_lr_factor(step, 4, cfg.train) for step in range(12)]
    assert watch.seen == pytest.approx([0.01 * 2 / 32 * factor for factor in factors])


# Repeating


def test_the_same_seed_gives_the_same_weights(root):
    cfg = make_config(root, data={"batch_size": 4, "transform": {"short_side": 32, "crop": 24}}, model={"dropout": 0.5})
    assert differing(state(fit(cfg)[0]), state(fit(cfg)[0])) == []


def test_another_seed_gives_other_initial_weights_and_another_order(root):
    first, second = (make_config(root, data={"batch_size": 4}, run={"seed": seed}) for seed in (0, 1))
    assert differing(state(make_task(first)), state(make_task(second)))
    orders = [
        [key for batch in make_data(cfg).train_dataloader().batch_sampler for key in batch] for cfg in (first, second)
    ]
    assert orders[0] != orders[1]


def dropout_mask(seed, rank, step):
    torch.manual_seed(derive_seed(seed, rank, step))
    return torch.nn.functional.dropout(torch.ones(64), 0.5)


def test_dropout_differs_over_seeds_ranks_and_steps_but_not_on_repetition():
    masks = {at: dropout_mask(*at) for at in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    for at, mask in masks.items():
        assert torch.equal(dropout_mask(*at), mask)
        assert sum(torch.equal(mask, other) for other in masks.values()) == 1


def test_dropout_of_a_training_step_hangs_on_nothing_that_came_before(root):
    cfg = make_config(root, model={"dropout": 0.5}, data={"batch_size": 4})
    draws = lambda module: torch.rand(3).tolist()

    class Disturbed(Watch):
        def on_train_batch_end(self, *args):
            super().on_train_batch_end(*args)
            torch.rand(7)

    assert differing(state(fit(cfg, Watch(draws))[0]), state(fit(cfg, Disturbed(draws))[0])) == []


def test_hash_is_the_same_on_every_machine_and_fits_a_seed():
    assert derive_seed(1, 2, 3) == 6498626229777268288
    seeds = {derive_seed(seed, rank, step) for seed in range(3) for rank in range(3) for step in range(50)}
    assert len(seeds) == 450
    assert all(0 <= seed < 2**63 for seed in seeds)


# Precision


def test_precision_is_the_configured_one_or_follows_the_device(monkeypatch):
    select = lambda device, **given: precision.select_setting(TrainerConfig(**given), device)[:2]
    for device in ("cpu", "mps"):
        assert select(device, precision="fp32", channels_last=False) == ("fp32", False)
        assert select(device, precision="bf16", channels_last=True) == ("bf16", True)
    assert select("cpu", precision="fp32") == ("fp32", False)
    assert select("cpu", precision="bf16") == ("bf16", True)
    assert select("cpu", precision="fp32", channels_last=True) == ("fp32", True)
    assert select("mps") == ("fp32", False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert select("cpu") == ("fp32", False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert select("cpu") == ("bf16", True)


def test_channels_last_changes_the_layout_but_no_value_name_or_shape(root):
    task = make_task(make_config(root))
    before = state(task)
    precision.to_channels_last(task.model)
    assert differing(before, state(task)) == []
    assert task.model.stem[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert list(task.state_dict()) == list(before)


def test_bf16_training_scores_in_fp32(root):
    """The validation inside a bf16 run, against the same weights in plain float32."""
    cfg = make_config(root, data={"val": 0.25, "batch_size": 2}, train={"epochs": 1}, trainer={"precision": "bf16"})
    seen = {}

    class Types(Watch):
        def on_train_batch_end(self, trainer, module, *args):
            seen["train"] = seen["now"]

        def on_validation_end(self, trainer, module):
            seen["val"] = seen["now"]
            seen["logits"] = module.logits_VKN

    def remember(module, args, output):
        seen["now"] = output.dtype

    original = VideoClassifier.setup

    def setup(self, stage):
        original(self, stage)
        self.model.stem[0].register_forward_hook(remember)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoClassifier, "setup", setup)
        task, _, trainer = fit(cfg, Types(), "bf16")
    assert seen["train"] == torch.bfloat16
    assert seen["val"] == torch.float32
    t, expected = cfg.data.transform, []
    for batch in trainer.datamodule.eval_loader("val"):
        for frames, place in zip(batch["frames"], batch["place"], strict=True):
            clips = transforms.normalize_clips(transforms.crop_views(frames, place, t.crop, 1)[None], t.mean, t.std)[0]
            with torch.no_grad():
                expected.append(task.eval()(clips).numpy())
    np.testing.assert_allclose(seen["logits"], np.stack(expected), atol=1e-5)
    assert {p.dtype for p in task.parameters()} == {torch.float32}
    assert not task.model.stem[0].weight.is_contiguous()
