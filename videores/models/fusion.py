"""Join the networks of several streams: one classifier of their features, and one of each.

joint   logits of the features of all streams, one beside the other (Wang et al. 2020, arXiv:1905.12681, section 3.1).
        Those of a clip without sound are 0. The classifiers of the single streams are trained where
        `train.loss_weights` asks for it.
late    the mean of the probabilities of each stream's classifier: what an ensemble of single networks answers.

The networks of streams have the names that they have alone, after `streams.<stream>.`
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from videores.config.streams import JOINT
from videores.errors import UserError
from videores.models.layers import disable_autocast
from videores.models.resnet import ResNet


class FusionNetwork(nn.Module):
    """{stream: clips_BCTHW} -> logits_BN of several networks."""

    def __init__(self, networks: Mapping[str, ResNet], num_classes: int, fusion: str, dropout: float = 0.0):
        super().__init__()
        self.streams, self.fusion = nn.ModuleDict(networks), fusion
        if fusion == JOINT:
            self.dropout = nn.Dropout(dropout)
            self.fc = nn.Linear(sum(network.num_features for network in networks.values()), num_classes)

    def forward(self, clips: Mapping[str, Tensor]) -> Tensor:
        """Return the logits that are tested."""
        return self.fuse(self.score_heads(clips))

    def score_heads(self, clips: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return {head: logits_BN} of each stream, and of all together."""
        if missing := [name for name in self.streams if name not in clips]:
            raise UserError(
                f"a network of {', '.join(self.streams)} needs clips of each stream, {missing[0]} is missing"
            )
        networks: dict[str, Any] = dict(self.streams.items())
        features = {name: network.features(clips[name]) for name, network in networks.items()}
        heads = {name: network.head(features[name]) for name, network in networks.items()}
        if self.fusion == JOINT:
            pooled = [
                hide_missing(name, clips[name], network.pool_features(features[name]))
                for name, network in networks.items()
            ]
            heads[JOINT] = self.classify(torch.cat(pooled, 1))
        return heads

    def classify(self, features_BD: Tensor) -> Tensor:
        """Return logits_BN of the features of all streams, in the precision of the parameters."""
        with disable_autocast(features_BD.device.type):
            return self.fc(self.dropout(features_BD))

    def fuse(self, heads: Mapping[str, Tensor]) -> Tensor:
        """Return logits_BN of what `score_heads` returns."""
        if self.fusion == JOINT:
            return heads[JOINT]
        p_BN = torch.stack([heads[name].softmax(1) for name in self.streams]).mean(0)
        return p_BN.clamp(min=torch.finfo(p_BN.dtype).tiny).log()


def hide_missing(stream: str, clips_BCTHW: Tensor, features_BD: Tensor) -> Tensor:
    """Return features that are 0 for clips without sound, whose spectrograms are 0 throughout."""
    if stream != "audio":
        return features_BD
    return features_BD * (clips_BCTHW != 0).flatten(1).any(1)[:, None]


def create_fusion(
    create: Callable[..., nn.Module],
    name: str,
    num_classes: int,
    streams: Mapping[str, Mapping[str, Any]],
    fusion: str,
    common: Mapping[str, Any],
) -> FusionNetwork:
    """Create a network for each stream by `create`, and join them.

    A stream without a name has the common name and options, changed by its own. Each network starts from the same
    random state: with equal seeds its weights are those of a network of this stream alone.
    """
    state, networks = torch.get_rng_state(), {}
    for stream, own in streams.items():
        options = dict(own) if own.get("name") else {"name": name, **common, **own}
        torch.set_rng_state(state)
        network = create(num_classes=num_classes, **options)
        if not isinstance(network, ResNet) or network.design.consensus == "logits":
            raise UserError(
                f"model.streams.{stream} must be a network whose features have no classes: not of pytorchvideo, of an "
                f"import path or with consensus=logits; got {options['name']}"
            )
        networks[stream] = network
    return FusionNetwork(networks, num_classes, fusion, common.get("dropout", 0.0))
