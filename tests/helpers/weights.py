"""Small networks with random weights, and files of them."""

import pytest
import torch

from videores.errors import UserError
from videores.models.weights import loading

TINY = {"layers": [1, 1], "width": 8, "stem": "small"}
PREPROCESSING = {
    "mean": [0.43216, 0.394666, 0.37645],
    "std": [0.22803, 0.22145, 0.216989],
    **{"crop": 112, "short_side": 128, "frames": 16, "stride": 2, "fps": None},
}


def randomise(model):
    """Every tensor gets random values, the norms' statistics too, so that no two are alike."""
    generator = torch.Generator().manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        else:
            value.fill_(3)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # keeps the size of activations
            fan_in = parameter[0].numel()
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return model


def clips(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model, clips_BCTHW):
    return model.eval()(clips_BCTHW)


def refusal(*args, **options):
    with pytest.raises(UserError) as caught:
        loading.load_weights(*args, **options)
    return str(caught.value)


def save(content, path):
    torch.save(content, path)
    return path


def same_states(one, other):
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)
