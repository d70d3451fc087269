"""Losses against their equations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from videores.training import losses
from videores.training.module import expand_labels


def test_balanced_weights_are_inverse_to_the_counts_and_one_in_the_mean():
    label_V = np.array([0] * 6 + [1] * 2 + [3] * 4)
    weight_N = losses.compute_class_weights(label_V, 5)
    assert weight_N.tolist() == pytest.approx([12 / (3 * 6), 12 / (3 * 2), 0, 12 / (3 * 4), 0])
    assert weight_N[label_V].mean().item() == pytest.approx(1)
    assert losses.compute_class_weights([0, 1, 2, 0, 1, 2], 3).tolist() == [1, 1, 1]


def test_a_weighted_loss_is_the_sum_over_clips_of_their_class_weights():
    torch.manual_seed(0)
    smoothing = 0.1
    logits_XN, label_X, weight_N = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1]), torch.tensor([0.5, 1.0, 3.0])
    target = F.one_hot(label_X, 3) * (1 - smoothing) + smoothing / 3
    expected = -(target * weight_N * logits_XN.log_softmax(1)).sum(1).mean()
    for label in (label_X, F.one_hot(label_X, 3).float()):
        loss = losses.classification_loss(logits_XN, label, smoothing, weight_N)
        assert loss.item() == pytest.approx(expected.item())


def test_weights_of_a_batch_may_be_averaged_over_processes():
    torch.manual_seed(1)
    logits_XN, label_X, weight_N = torch.randn(8, 3), torch.randint(3, (8,)), torch.tensor([0.5, 1.0, 3.0])
    whole = losses.classification_loss(logits_XN, label_X, 0.0, weight_N)
    halves = [losses.classification_loss(logits_XN[s], label_X[s], 0.0, weight_N) for s in (slice(4), slice(4, 8))]
    assert whole.item() == pytest.approx((halves[0] + halves[1]).item() / 2)


def test_a_mixed_label_weighs_its_classes_in_proportion():
    logits_XN, weight_N = torch.randn(1, 2), torch.tensor([1.0, 4.0])
    parts = [losses.classification_loss(logits_XN, torch.tensor([label]), 0.0, weight_N) for label in (0, 1)]
    mixed = losses.classification_loss(logits_XN, torch.tensor([[0.3, 0.7]]), 0.0, weight_N)
    assert mixed.item() == pytest.approx((0.3 * parts[0] + 0.7 * parts[1]).item())


# Distillation


def test_distillation_is_hintons_equation_and_zero_of_equal_answers_only():
    torch.manual_seed(2)
    temperature = 4.0
    student_XN, teacher_XN = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    p = (teacher_XN / temperature).exp() / (teacher_XN / temperature).exp().sum(1, keepdim=True)
    q = (student_XN / temperature).exp() / (student_XN / temperature).exp().sum(1, keepdim=True)
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    loss = losses.distillation_loss(student_XN, teacher_XN, temperature)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.distillation_loss(teacher_XN + 3, teacher_XN, temperature).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_of_distillation_is_t_times_the_difference_of_probabilities():
    """dL/dz = T (q - p) / X: with the factor T^2, the 1/T of the paper's equation 2 becomes T."""
    student_XN, teacher_XN = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    losses.distillation_loss(student_XN, teacher_XN, 3.0).backward()
    q, p = (student_XN / 3).softmax(1), (teacher_XN / 3).softmax(1)
    torch.testing.assert_close(student_XN.grad, 3 * (q - p).detach() / 5)


def test_an_attention_map_is_the_mean_square_over_channels():
    x = torch.randn(2, 5, 3, 4, 4)
    torch.testing.assert_close(losses.compute_attention_map(x), (x * x).sum(1) / 5)


def test_attention_transfer_is_the_papers_equation_and_ignores_scale():
    ours, theirs = torch.rand(2, 2, 3, 3), torch.rand(2, 2, 3, 3)
    unit = lambda x: x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True)
    expected = (unit(ours) - unit(theirs)).square().mean()
    assert losses.attention_transfer_loss(ours, theirs).item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.attention_transfer_loss(7 * ours, theirs).item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses.attention_transfer_loss(ours, 5 * ours).item() == pytest.approx(0, abs=1e-10)


def test_attention_of_another_size_is_averaged_to_the_smaller():
    fine = torch.rand(2, 4, 6, 6)
    coarse = F.avg_pool3d(fine, (2, 3, 3))
    assert losses.attention_transfer_loss(coarse, fine).item() == pytest.approx(0, abs=1e-10)
    assert losses.attention_transfer_loss(fine, coarse).item() == pytest.approx(0, abs=1e-10)


def test_labels_follow_the_clips_of_their_video():
    label_BKN = torch.rand(2, 3, 4)
    assert expand_labels(torch.tensor([5, 7]), 3).tolist() == [5, 5, 5, 7, 7, 7]
    assert torch.equal(expand_labels(label_BKN, 3), label_BKN.flatten(0, 1))
