"""Averaged weights against torch's and the closed formula, precise statistics, and early stopping."""

import math

import lightning.pytorch as pl
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers.training import Watch, differing, fit, make_config, make_task, state
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from videores.training.callbacks import precise_bn, weight_averaging
from videores.training.module import VideoClassifier

pytestmark = pytest.mark.usefixtures("one_quiet_thread")

HELD = {"val": 0.5, "batch_size": 2}  # two steps an epoch, four validation videos


class Keep(pl.Callback):
    """Remembers the learning weights after each step, what validation sees, and writes a checkpoint an epoch."""

    def __init__(self, folder):
        self.folder, self.learning, self.validated = folder, [], []

    def on_train_batch_end(self, trainer, module, *_):
        self.learning.append(state(module))

    def on_validation_epoch_start(self, trainer, module):
        self.validated.append(state(module))

    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt")

    def stored(self, epoch):
        return torch.load(self.folder / f"{epoch}.ckpt", weights_only=True)


def kept(root, folder, **train):
    cfg = make_config(root, data=HELD, train={"epochs": 3, **train})
    keep = Keep(folder)
    fit(cfg, more=[keep])
    return cfg, keep


def assert_close(ours, theirs):
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-5, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


# The shares


def average_of(weights, compute_share):
    average = {"w": torch.tensor(9.0)}
    for count, w in enumerate(weights):
        weight_averaging.blend(average, {"w": torch.tensor(w)}, compute_share(count))
    return average["w"].item()


def test_ema_is_its_closed_formula_after_a_warm_up_to_its_decay():
    """Of the initial 9: sum of (1 - d) d^(n - k) w_k and d^n 9."""
    decay, weights = 0.8, [float(k) for k in range(60)]
    found = average_of(weights, lambda count: weight_averaging.compute_ema_share(count + 1000, decay))
    expected = sum((1 - decay) * decay ** (len(weights) - 1 - k) * w for k, w in enumerate(weights))
    assert found == pytest.approx(expected + 9 * decay ** len(weights), rel=1e-4)
    shares = [weight_averaging.compute_ema_share(count, 0.9) for count in range(200)]
    assert shares[:3] == pytest.approx([9 / 10, 9 / 11, 9 / 12])
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(0.1)


def test_swa_weighs_all_alike():
    assert average_of([1.0, 2.0, 6.0], weight_averaging.compute_swa_share) == pytest.approx(3.0)


def test_ema_equals_torchs():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)
    theirs.update_parameters(net)
    ours = state(net)
    for _ in range(5):
        with torch.no_grad():
            [p.add_(torch.randn_like(p)) for p in net.parameters()]
        net(torch.randn(8, 3))
        theirs.update_parameters(net)
        weight_averaging.blend(ours, net.state_dict(), weight_averaging.compute_ema_share(100, 0.7))
    floats = {key: value for key, value in ours.items() if value.is_floating_point()}  # torch averages counters too
    assert_close(floats, theirs.module.state_dict())
    assert ours["1.num_batches_tracked"] == net[1].num_batches_tracked


# In training


def test_validation_and_checkpoints_have_the_average_and_learning_goes_on_without_it(root, tmp_path):
    cfg, keep = kept(root, tmp_path, ema=0.5)
    plain = fit(make_config(root, data=HELD, train={"epochs": 3}))[0]
    assert differing(state(plain), keep.learning[-1]) == []
    average = state(make_task(cfg))
    for count, weights in enumerate(keep.learning):
        weight_averaging.blend(average, weights, weight_averaging.compute_ema_share(count, 0.5))
        if count % 2:
            epoch, validated = count // 2, keep.validated[count // 2]
            assert differing(average, validated) == []
            assert differing(average, keep.stored(epoch)["state_dict"]) == []
            assert differing(weights, keep.stored(epoch)["learning"]) == []


def test_swa_is_torchs_mean_of_the_epochs_ends_with_statistics_of_its_own(root, tmp_path):
    cfg, keep = kept(root, tmp_path, swa=1)
    assert "learning" not in keep.stored(0)
    assert differing(keep.learning[1], keep.validated[0]) == []
    theirs = AveragedModel(make_task(cfg).model)
    for weights in (keep.learning[3], keep.learning[5]):
        net = make_task(cfg).model
        net.load_state_dict({key.removeprefix("model."): value for key, value in weights.items()})
        theirs.update_parameters(net)
    found = keep.stored(2)["state_dict"]
    assert_close(dict(theirs.module.named_parameters()), {k.removeprefix("model."): v for k, v in found.items()})
    assert differing(found, keep.validated[2]) == []
    task, _, trainer = fit(make_config(root, data=HELD, train={"epochs": 1}))  # for its loader
    batches = [task.clips_of(batch) for batch in trainer.datamodule.training_batches(2, None, "cpu")]
    update_bn(batches, theirs)  # momentum 1 / n: means of the batches'
    for name, ours in found.items():
        if name.endswith("running_mean"):
            torch.testing.assert_close(
                ours, theirs.module.state_dict()[name.removeprefix("model.")], rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("average", [{"ema": 0.5}, {"swa": 1}])
def test_a_resumed_run_ends_as_the_whole_one(root, tmp_path, average):
    cfg, keep = kept(root, tmp_path, **average, precise_bn=1)
    again = Keep(tmp_path / "again")
    fit(cfg, more=[again], start=tmp_path / "1.ckpt")
    for key in ("state_dict", "learning"):
        assert differing(keep.stored(2)[key], again.stored(2)[key]) == []
    assert differing(keep.validated[-1], again.validated[-1]) == []


# Statistics


def clips(count, batches=3):
    torch.manual_seed(5)
    return [2 + torch.randn(count, 3, 4, 16, 16) for _ in range(batches)]


def test_precise_statistics_are_the_moments_of_all_clips(root):
    """Of the first norm, whose input hangs on no other; behind it they are of batches that norms saw."""
    model = make_task(make_config(root)).model
    batches = clips(4)
    precise_bn.recompute_statistics(model, batches)
    x = torch.cat([model.stem[0](batch) for batch in batches]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model.stem[1].running_mean, x.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.stem[1].running_var, x.var(1), rtol=1e-4, atol=1e-5)


def test_precise_statistics_normalise_what_training_normalised(root):
    """With one batch, eval mode gives what training mode gives (but for n / (n - 1)), through all layers."""
    model = make_task(make_config(root)).model.train()
    (batch,) = clips(8, 1)
    expected = model(batch)
    precise_bn.recompute_statistics(model, [batch])
    torch.testing.assert_close(model.eval()(batch), expected, rtol=1e-2, atol=1e-3)


def test_recomputing_leaves_modes_counters_parameters_and_what_is_frozen(root):
    task = make_task(make_config(root, model={"dropout": 0.5, "layers": [1, 1]}, train={"freeze": ["stem"]})).train()
    before, modes = state(task), [m.training for m in task.modules()]
    precise_bn.recompute_statistics(task.model, clips(2))
    assert [m.training for m in task.modules()] == modes
    statistics = {key for key in before if "running_" in key and ".stem." not in key}
    assert set(differing(before, state(task))) == statistics
    again = state(task)
    precise_bn.recompute_statistics(task.model, clips(2))
    assert differing(again, state(task)) == []  # they hang on the clips alone, not on what was there


def recompute_share(rank, folder):
    """One of two processes: statistics over every other batch."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    norm = nn.Sequential(nn.BatchNorm3d(3))
    precise_bn.recompute_statistics(norm, clips(4, 6)[rank::2])
    torch.save(norm.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_moments_of_all_their_clips(tmp_path):
    mp.start_processes(recompute_share, (tmp_path,), nprocs=2, start_method="fork")
    whole = nn.Sequential(nn.BatchNorm3d(3))
    precise_bn.recompute_statistics(whole, clips(4, 6))
    for rank in (0, 1):
        assert_close(whole.state_dict(), torch.load(tmp_path / f"{rank}.pt", weights_only=True))


def test_training_is_the_same_with_precise_statistics_and_validation_has_them(root, tmp_path):
    _, keep = kept(root, tmp_path, precise_bn=2, epochs=1)
    plain = fit(make_config(root, data=HELD, train={"epochs": 1}))[0]
    assert {key.rpartition(".")[2] for key in differing(state(plain), keep.validated[0])} == {
        "running_mean",
        "running_var",
    }
    task, _, trainer = fit(make_config(root, data=HELD, train={"epochs": 1}))
    precise_bn.recompute_statistics(
        task.model, [task.clips_of(b) for b in trainer.datamodule.training_batches(0, 2, "cpu")]
    )
    assert differing(keep.validated[0], state(task)) == []


# Early stopping


@pytest.fixture
def validated(monkeypatch):
    """validated(values): what best.ckpt is chosen by is values[epoch] from now on."""
    log = VideoClassifier.log

    def script(values):
        def scripted(self, name, value, **options):
            log(self, name, values[self.current_epoch] if name == "best_by" else value, **options)

        monkeypatch.setattr(VideoClassifier, "log", scripted)

    return script


def rate(module):
    return module.optimizers().param_groups[0]["lr"]


def test_training_stops_after_so_many_epochs_without_a_better_validation(root, tmp_path, validated):
    validated([1.0, 3.0, 2.0, 3.0, 9.0, 9.0])
    cfg, keep = kept(root, tmp_path, epochs=6, patience=2)
    assert len(keep.validated) == 4
    again, watch = Keep(tmp_path / "again"), Watch()
    fit(cfg, watch, more=[again], start=tmp_path / "2.ckpt")
    assert len(again.validated) == 1
    fit(cfg, watch, start=tmp_path / "3.ckpt")
    assert len(watch.losses) == 2  # a run that has stopped does not go on


def test_a_validation_without_a_number_is_no_better_and_spoils_no_later_one(root, tmp_path, validated):
    validated([math.nan, 1.0, 2.0, math.nan, 3.0])
    _, keep = kept(root, tmp_path, epochs=5, patience=2)
    assert len(keep.validated) == 5


def test_plateau_in_training_lowers_the_rate_and_resumes(root, tmp_path, validated):
    validated([1.0, 3.0, 2.0, 2.0, 1.0])
    recipe = {"schedule": "plateau", "plateau": 1, "gamma": 0.5, "warmup": 1}
    cfg, whole = make_config(root, data=HELD, train={"epochs": 5, **recipe}), Watch(rate)
    fit(cfg, whole, more=[Keep(tmp_path)])
    rates = [1 / 3, 2 / 3, 1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert whole.seen == pytest.approx([0.01 * value for value in rates])
    resumed = Watch(rate)
    fit(cfg, resumed, start=tmp_path / "2.ckpt")
    assert resumed.seen == whole.seen[6:]
    assert resumed.losses == whole.losses[6:]
