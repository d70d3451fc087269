"""Classes of weights that are called otherwise in the data, stand for several, or are not there."""

import pytest
import torch
from helpers.videos import write_lines
from torch import nn

from videores.errors import UserError
from videores.inference.class_map import MappedNetwork, format_map, map_classes

THEIRS = ["golf driving", "golf putting", "hand shaking", "punching"]


def test_equal_names_and_names_that_are_spelled_otherwise_are_found():
    assert map_classes(THEIRS, ["punching", "HandShaking", "golf_putting"]) == [[3], [2], [1]]


def test_a_csv_maps_others_and_several_to_one(tmp_path):
    write_lines(tmp_path / "map.csv", ["weights,data", "golf driving,golf", "golf putting,golf"])
    outputs_N = map_classes(THEIRS, ["golf", "punching", "kicking"], tmp_path / "map.csv")
    assert outputs_N == [[0, 1], [3], []]
    lines = "\n".join(format_map(THEIRS, ["golf", "punching", "kicking"], outputs_N))
    assert "golf = golf driving + golf putting" in lines
    assert "1 of the weights' 4 classes" in lines
    assert "kicking" in lines


def test_probabilities_of_outputs_that_stand_for_a_class_add_up():
    mapped = MappedNetwork(nn.Identity(), [[0, 1], [3], []])
    logits_BM = torch.tensor([[1.0, 2.0, 9.0, 3.0], [0.0, 0.0, 0.0, 5.0]])
    logits_BN = mapped(logits_BM)
    known_BM = logits_BM[:, [0, 1, 3]].softmax(1)
    expected = torch.stack([known_BM[:, 0] + known_BM[:, 1], known_BM[:, 2], torch.zeros(2)], 1)
    torch.testing.assert_close(logits_BN.softmax(1), expected)
    assert logits_BN.isfinite().all()


@pytest.mark.parametrize(
    ("rows", "ours", "named"),
    [
        ([], ["swimming"], "--class-map"),
        (["golf drivin,golf"], ["golf"], "golf driving"),
        (["punching,boxing"], ["golf"], "boxing"),
        (["punching,boxing", "punching,fight"], ["boxing", "fight"], "'punching'"),
        (["punching,boxing"], ["boxing", "punching"], "'punching'"),
    ],
)
def test_what_cannot_be_mapped_is_refused(tmp_path, rows, ours, named):
    write_lines(tmp_path / "map.csv", ["weights,data", *rows])
    with pytest.raises(UserError, match=named):
        map_classes(THEIRS, ours, tmp_path / "map.csv" if rows else None)


def test_names_that_are_only_spelled_alike_are_not_guessed():
    with pytest.raises(UserError, match="--class-map"):
        map_classes(["hand shaking", "handshaking"], ["HandShaking"])
    assert map_classes(["hand shaking", "handshaking"], ["handshaking"]) == [[1]]
