"""Temporal pooling, features_BTD -> features_BD: one axis of comparison for 2D and 3D networks alike.

f-R2D keeps every frame (T = frames of the clip), the 3D networks what their strides left. Mean and max do not know the
order of what they pool, so a network of 2D convolutions answers the same for a clip and for its reversal.
"""


def mean(features_BTD):
    return features_BTD.mean(1)


def maximum(features_BTD):
    return features_BTD.amax(1)


POOLS = {"mean": mean, "max": maximum}
