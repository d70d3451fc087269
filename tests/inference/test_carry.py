"""Causal shifts: features know no later frame, and clips go on where others ended."""

import pytest
import torch

from videores.inference.carry import carry_shifts, find_shifts
from videores.models import create_model


def network(**options):
    torch.manual_seed(0)
    return create_model("f_r2d_18", 5, width=8, stem="small", **{"layers": (2, 1), "shift": 4, **options}).eval()


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("options", [{}, {"block": "preact"}, {"norm": "group", "se": 4}])
def test_a_later_frame_changes_no_feature_of_an_earlier_one(options):
    clips_BCTHW = torch.randn(2, 3, 9, 32, 32)
    other_BCTHW = clips_BCTHW.clone()
    other_BCTHW[:, :, 5] += 1
    for causal in (True, False):
        model = network(causal=causal, **options)
        changed_T = (model.features(clips_BCTHW) != model.features(other_BCTHW)).any(2).any(0)
        assert changed_T.tolist() == [(t >= 5 if causal else t >= 2) and t <= 8 for t in range(9)]


def test_features_depend_on_as_many_frames_before_as_there_are_shifts():
    model, clips_BCTHW = network(causal=True), torch.randn(1, 3, 9, 32, 32)
    assert len(find_shifts(model)) == 3
    whole_TD, later_TD = model.features(clips_BCTHW)[0], model.features(clips_BCTHW[:, :, 2:])[0]
    torch.testing.assert_close(later_TD[3:], whole_TD[5:], atol=1e-5, rtol=1e-5)
    for place in range(3):  # zeros came in
        assert (later_TD[place] - whole_TD[2 + place]).abs().max() > 1e-3


@pytest.mark.parametrize("options", [{}, {"block": "preact"}, {"norm": "none", "shortcut": "A"}])
def test_parts_that_are_carried_on_are_the_whole(options):
    model, clips_BCTHW = network(causal=True, **options), torch.randn(2, 3, 9, 32, 32)
    for scale in model.parameters():
        if not scale.any():
            scale.fill_(0.7)  # branches that start at 0
    parts, past = [], None
    for part_BCTHW in clips_BCTHW.split([4, 1, 3, 1], 2):
        with carry_shifts(model, past) as past:
            parts.append(model.features(part_BCTHW))
    whole_BTD = model.features(clips_BCTHW)
    torch.testing.assert_close(torch.cat(parts, 1), whole_BTD, atol=1e-5, rtol=1e-5)
    alone_BTD = model.features(clips_BCTHW[:, :, 4:5])  # nothing is left in the network
    assert (alone_BTD[:, 0] - whole_BTD[:, 4]).abs().max() > 1e-3
