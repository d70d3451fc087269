"""Losses that need no labels: clips of a video alike, and clips rebuilt by a decoder, seen or hidden."""

import math

import pytest
import torch
from helpers.training import Watch, fit, make_config
from torch import nn

from videores.errors import UserError
from videores.models.registry import create_model
from videores.models.weights import loading
from videores.training import unlabelled

pytestmark = pytest.mark.usefixtures("one_quiet_thread")


def test_the_contrastive_loss_is_the_cross_entropy_of_the_other_clip_of_a_video():
    features_XD = torch.tensor([[2.0, 0], [1, 1], [0, 3], [-1, 1]])
    unit = features_XD / features_XD.norm(dim=1, keepdim=True)
    terms = []
    for clip, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        scores = [math.exp(10 * float(unit[clip] @ unit[n])) for n in range(4) if n != clip]
        terms.append(math.log(sum(scores)) - 10 * float(unit[clip] @ unit[other]))
    assert unlabelled.contrastive_loss(features_XD, 2).item() == pytest.approx(sum(terms) / 4, rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert unlabelled.contrastive_loss(features_XD.bfloat16(), 2).item() == pytest.approx(sum(terms) / 4, rel=1e-2)


@pytest.mark.parametrize("share", [0, 0.25, 0.5])
def test_hidden_blocks_are_tubes_of_the_share_and_alone_count(share):
    clips_XCTHW = torch.rand(3, 3, 4, 32, 32) + 1
    shown, hidden_X11HW = unlabelled.hide_blocks(clips_XCTHW, share)
    assert (hidden_X11HW.mean((1, 2, 3, 4)) == (share or 1)).all()
    assert torch.equal(shown, clips_XCTHW * (1 - hidden_X11HW) if share else clips_XCTHW)
    rebuilt = nn.functional.adaptive_avg_pool3d(clips_XCTHW, (4, 8, 8)) + 2
    weight = nn.functional.avg_pool2d(hidden_X11HW[:, 0], 4)[:, None]
    wrong_where_shown = rebuilt + 9 * (1 - weight)
    assert unlabelled.reconstruction_loss(wrong_where_shown, clips_XCTHW, hidden_X11HW).item() == pytest.approx(4)


@pytest.mark.parametrize("name", ["r3d_18", "f_r2d_18"])
def test_a_decoder_learns_beside_the_network_and_is_no_part_of_its_weights(root, tmp_path, name):
    class Save(Watch):
        def on_train_end(self, trainer, module):
            trainer.save_checkpoint(tmp_path / "last.ckpt")

    model = {"name": name, "layers": [1, 1], "width": 8, "stem": "small"}
    train = {"epochs": 40, "lr": 0.01, "reconstruct": 0.9, "contrast": 0.1}
    watch = Save()
    task, *_ = fit(make_config(root, model=model, train=train, data={"clip": {"frames": 8, "repeat": 2}}), watch)
    assert sum(watch.losses[-3:]) < 0.7 * sum(watch.losses[:3])
    tuned = create_model(name, 2, layers=[1, 1], width=8, stem="small")
    report = loading.load_weights(tuned, tmp_path / "last.ckpt", task.classes)
    assert report.unused == []
    assert all(torch.equal(tuned.state_dict()[key], value) for key, value in task.model.state_dict().items())


@pytest.mark.parametrize("key", ["reconstruct", "contrast"])
def test_a_network_without_what_a_loss_reads_is_refused(root, key):
    cfg = make_config(root, train={key: 0.5}, data={"clip": {"repeat": 2}})
    model = nn.Sequential(nn.Linear(1, 1))
    model.import_path = "package:net"
    with pytest.raises(UserError, match=rf"train\.{key} needs a network"):
        unlabelled.make_helpers(model, cfg.train)
