"""Pool over time: features_BTD -> features_BD, for 2D and 3D networks alike.

f-R2D keeps every frame (T = frames of the clip), the 3D networks what their strides left. The poolings of ORDERLESS do
not know the order of what they pool, so a network of 2D convolutions with one of them answers the same for a clip and
for its reversal. What is pooled may be logits too (consensus after the classifier, Wang et al. 2016, arXiv:1608.00859).
"""

import torch
from torch import nn
from torch.nn import functional as F

from videores.errors import UserError


def _mean_pool(features_BTD):
    return features_BTD.mean(1)


def _max_pool(features_BTD):
    return features_BTD.amax(1)


class GeMPool(nn.Module):
    """mean(x ** p) ** (1 / p) of features that are not negative; p starts at 3 (Radenovic et al. 2018, 1711.02512)."""

    def __init__(self, channels, frames):
        super().__init__()
        self.log_p = nn.Parameter(torch.zeros(()))  # of p / 3, so that weight decay draws p to where it starts

    def forward(self, features_BTD):
        p = 3 * self.log_p.exp()
        return features_BTD.clamp(min=1e-6).pow(p).mean(1).pow(1 / p)


class _AttentionPool(nn.Module):
    """A weighted mean, with weights from each time step alone (Ilse et al. 2018, arXiv:1802.04712, equation 8)."""

    def __init__(self, channels, frames, hidden=128):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(channels, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, features_BTD):
        return (self.score(features_BTD).softmax(1) * features_BTD).sum(1)


class _WeightedPool(nn.Module):
    """A weighted mean, with one learned weight a time step; starts as the mean."""

    def __init__(self, channels, frames):
        super().__init__()
        self.logit_T = nn.Parameter(torch.zeros(frames))

    def forward(self, features_BTD):
        if features_BTD.shape[1] != len(self.logit_T):
            raise UserError(
                f"pool=weights was made for {len(self.logit_T)} time steps and got {features_BTD.shape[1]}: "
                "clips must have as many frames as the model's `frames` says"
            )
        return torch.einsum("t,btd->bd", self.logit_T.softmax(0), features_BTD)


class _ConvPool(nn.Module):
    """relu(convolution over 3 time steps), then the mean."""

    def __init__(self, channels, frames):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, features_BTD):
        return F.relu(self.conv(features_BTD.transpose(1, 2))).mean(2)


class _LSTMPool(nn.Module):
    """The last output of an LSTM as wide as its input (Donahue et al. 2015, arXiv:1411.4389)."""

    def __init__(self, channels, frames):
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, batch_first=True)

    def forward(self, features_BTD):
        return self.lstm(features_BTD)[0][:, -1]


# A new pooling is a word of config.network.Pool, a row of one of the two tables, and a word of ORDERLESS where it
# ignores the order: tests hold it to that.
ORDERLESS = ("mean", "max", "gem", "attention")
_FUNCTIONS = {"mean": _mean_pool, "max": _max_pool}
_MODULES = {"gem": GeMPool, "attention": _AttentionPool, "weights": _WeightedPool, "conv": _ConvPool, "lstm": _LSTMPool}


def make_pool(name, channels, frames=None):
    """Make the pooling called `name` of features with `channels` channels.

    Only `weights` uses `frames`, its number of time steps.
    """
    return _FUNCTIONS[name] if name in _FUNCTIONS else _MODULES[name](channels, frames)
