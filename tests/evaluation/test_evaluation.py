"""Scores to numbers, against values that were worked out by hand, and the exact collection over processes."""

import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from sklearn.metrics import roc_auc_score
from torchmetrics.functional import classification as torchmetrics

from videores.evaluation import accumulator
from videores.evaluation import fusion as fusion_module
from videores.evaluation import metrics as evaluation

NAN = float("nan")
FUSIONS = ["softmax-mean", "logit-mean", "max", "vote"]

# Two classes, three views. Two weak views say 0, one strong view says 1: by views class 0 wins two of three, by mean
# probability class 1 wins (0.45 + 0.45 + 0.99) / 3 = 0.63.
WEAK, STRONG = float(np.log(0.55 / 0.45)), float(np.log(0.99 / 0.01))
TWO_AGAINST_ONE = np.array([[[WEAK, 0], [WEAK, 0], [0, STRONG]]], dtype=np.float32)


def metrics(logits_VKN, label_V, fusion="softmax-mean"):
    return evaluation.compute_metrics(np.asarray(logits_VKN, dtype=np.float32), np.asarray(label_V), fusion)


def one_hot(label_V, classes, views=1):
    return np.repeat(np.eye(classes, dtype=np.float32)[label_V][:, None], views, axis=1)


# Accuracies


def test_clip_and_video_accuracy_differ_as_they_should():
    found = metrics(TWO_AGAINST_ONE, [0])
    assert found["clip_top1"] == pytest.approx(200 / 3)
    assert found["video_top1"] == 0
    found = metrics(TWO_AGAINST_ONE, [1])
    assert found["clip_top1"] == pytest.approx(100 / 3)
    assert found["video_top1"] == 100


def test_mean_of_probabilities_and_mean_of_logits_may_disagree():
    logits = np.array([[[0, 1.0], [3.1, 0], [0, 1.0], [0, 1.0]]])  # three views say 1, one is surer that it is 0
    assert logits.sum(1)[0, 0] > logits.sum(1)[0, 1]
    assert np.mean([1 / (1 + np.exp(-x)) for x in (1.0, -3.1, 1.0, 1.0)]) > 0.5  # the probability of 1
    assert metrics(logits, [1], "softmax-mean")["video_top1"] == 100
    assert metrics(logits, [1], "logit-mean")["video_top1"] == 0
    assert metrics(logits, [0], "logit-mean")["video_top1"] == 100


def test_fused_probabilities_are_the_mean_over_views_by_hand():
    np.testing.assert_allclose(
        fusion_module.fuse_views(TWO_AGAINST_ONE, "softmax-mean"), [[(0.55 + 0.55 + 0.01) / 3, 0.63]]
    )
    np.testing.assert_allclose(
        fusion_module.fuse_views(TWO_AGAINST_ONE, "logit-mean"), [[2 * WEAK / 3, STRONG / 3]], rtol=1e-6
    )


def test_huge_logits_do_not_overflow():
    found = metrics([[[1e4, 0, -1e4]]], [0])
    assert found["video_top1"] == 100


def test_adding_a_constant_to_a_views_logits_changes_no_probability():
    logits = np.random.default_rng(0).normal(size=(5, 3, 4))
    shifted = logits + np.random.default_rng(1).normal(size=(5, 3, 1)) * 50
    np.testing.assert_allclose(
        fusion_module.fuse_views(logits, "softmax-mean"), fusion_module.fuse_views(shifted, "softmax-mean")
    )


def test_top5_is_null_below_six_classes():
    for classes in (2, 5):
        found = metrics(one_hot([0, 1], classes), [0, 1])
        assert found["clip_top5"] is None
        assert found["video_top5"] is None


def test_top5_of_six_classes_misses_only_the_last_place():
    logits = np.tile(np.arange(6.0), (6, 1))[:, None]  # class 0 is always last, class 5 first
    found = metrics(logits, range(6))
    assert found["video_top5"] == found["clip_top5"] == pytest.approx(500 / 6)
    assert found["video_top1"] == pytest.approx(100 / 6)


def test_a_tie_counts_against_the_right_class():
    assert metrics(np.zeros((4, 2, 3)), [0, 1, 2, 0])["video_top1"] == 0
    assert metrics([[[1.0, 1.0, 0.0]]], [0])["clip_top1"] == 0
    assert metrics([[[1.0, 0.0, 0.0]]], [0])["clip_top1"] == 100  # others may tie


def test_a_tie_at_fifth_place_is_not_in_the_top_five():
    assert metrics([[[5, 4, 3, 2, 1, 1]]], [4])["video_top5"] == 0
    assert metrics([[[5, 4, 3, 2, 1, 0]]], [4])["video_top5"] == 100


def test_a_video_without_scores_counts_as_wrong():
    logits = one_hot([0, 1, 2, 0], 6, views=2)
    logits[3] = NAN
    found = metrics(logits, [0, 1, 2, 0])
    assert found["video_top1"] == found["clip_top1"] == found["video_top5"] == found["clip_top5"] == 75
    assert found["mean_class_top1"] == pytest.approx(100 * (0.5 + 1 + 1) / 3)


def test_a_view_that_is_not_a_number_makes_clip_and_video_wrong():
    logits = one_hot([0, 0], 3, views=2)
    logits[1, 1, 2] = NAN  # of another class than the right one
    found = metrics(logits, [0, 0])
    assert found["video_top1"] == 50
    assert found["clip_top1"] == 75


def test_mean_class_accuracy_weighs_classes_not_videos():
    # class 0: 3 of 4; class 1: 0 of 1; class 2 has no videos
    logits = one_hot([0, 0, 0, 1, 0], 3)
    found = metrics(logits, [0, 0, 0, 0, 1])
    assert found["video_top1"] == pytest.approx(60)
    assert found["mean_class_top1"] == pytest.approx(37.5)


def test_confusion_counts_true_rows_and_predicted_columns():
    scores = fusion_module.fuse_views(one_hot([0, 1, 1, 2], 3), "softmax-mean")
    scores = np.concatenate([scores, [[NAN] * 3]])
    np.testing.assert_array_equal(
        evaluation.count_confusions(scores, [0, 0, 1, 2, 2]),
        [[1, 1, 0], [0, 1, 0], [0, 0, 1]],  # the video without scores is left out
    )


def test_cross_entropy_equals_torchs():
    logits = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    label = np.array([0, 1, 2, 3, 0])
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits).flatten(0, 1), torch.tensor(label).repeat_interleave(3)
    )
    assert evaluation.compute_cross_entropy(logits, label) == pytest.approx(theirs.item(), rel=1e-6)


def test_accuracies_are_plain_numbers_for_json():
    found = metrics(one_hot([0, 1], 6), [0, 0])
    assert json.loads(json.dumps(found)) == found
    assert {type(found[key]) for key in ("clip_top1", "video_top5", "mean_class_top1", "nll", "ece")} == {float}


# The other fusions


def test_max_takes_each_classs_highest_probability():
    np.testing.assert_allclose(fusion_module.fuse_views(TWO_AGAINST_ONE, "max"), [[0.55, 0.99]])
    found = metrics([[[0, 2.0, 0], [3.0, 0, 0], [0, 2.0, 0]]], [0], "max")
    assert found["video_top1"] == 100


def test_votes_are_shares_of_views_and_a_view_that_ties_splits_its_own():
    np.testing.assert_allclose(fusion_module.fuse_views(TWO_AGAINST_ONE, "vote"), [[2 / 3, 1 / 3]])
    logits = np.array([[[1, 1, 0], [0, 0, 1], [0, 0, 0]]], dtype=np.float32)
    np.testing.assert_allclose(
        fusion_module.fuse_views(logits, "vote"), [[(1 / 2 + 1 / 3) / 3, (1 / 2 + 1 / 3) / 3, 4 / 9]]
    )


def test_equal_votes_are_wrong_whichever_of_them_is_right():
    logits = np.array([[[1.0, 0, 0], [0, 1.0, 0]]])
    assert [metrics(logits, [label], "vote")["video_top1"] for label in (0, 1, 2)] == [0, 0, 0]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_one_view_says_is_what_the_video_says(fusion):
    logits = random_logits(20, 1, 7).numpy()
    found = metrics(logits, np.arange(20) % 7, fusion)
    assert found["video_top1"] == found["clip_top1"]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_views_that_are_not_there_count_for_nothing(fusion):
    logits, views_V, label_V = random_logits(9, 5, 6).numpy(), np.arange(9) % 5 + 1, np.arange(9) % 6
    for video, views in enumerate(views_V):
        logits[video, views:] = NAN
    fused = fusion_module.fuse_views(logits, fusion, views_V)
    alone = [fusion_module.fuse_views(logits[v : v + 1, : views_V[v]], fusion)[0] for v in range(9)]
    np.testing.assert_allclose(fused, alone, rtol=1e-12)
    clips = np.concatenate([logits[v, : views_V[v]] for v in range(9)])
    labels = np.repeat(label_V, views_V)
    found = evaluation.compute_metrics(logits, label_V, fusion, views_V=views_V)
    assert found["clip_top1"] == pytest.approx(100 * np.mean(clips.argmax(1) == labels))
    expected = torch.nn.functional.cross_entropy(torch.tensor(clips), torch.tensor(labels)).item()
    assert evaluation.compute_cross_entropy(logits, label_V, views_V) == pytest.approx(expected, rel=1e-6)


def test_many_videos_are_fused_as_few_are():
    logits = random_logits(300, 2, 3).numpy()
    expected = np.concatenate([fusion_module.fuse_views(logits[i : i + 1], "softmax-mean") for i in range(300)])
    np.testing.assert_array_equal(fusion_module.fuse_views(logits, "softmax-mean"), expected)


# Against torchmetrics


@pytest.fixture(scope="module")
def guesses():
    """Scores of 500 videos of 9 classes, of which the last has none, that are right about half of the time."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 8, 500)
    logits = rng.normal(size=(500, 3, 9)) + 1.2 * np.eye(9)[label][:, None]
    return logits.astype(np.float32), label


@pytest.mark.parametrize("fusion", ["softmax-mean", "logit-mean"])
def test_numbers_are_those_of_torchmetrics(guesses, fusion):
    logits, label = guesses
    found = metrics(logits, label, fusion)
    p = torch.tensor(fusion_module.to_probabilities(fusion_module.fuse_views(logits, fusion), fusion))
    theirs = lambda name, **options: getattr(torchmetrics, name)(p, torch.tensor(label), num_classes=9, **options)
    accuracy = lambda **options: 100 * theirs("multiclass_accuracy", **options).numpy()
    assert found["video_top1"] == pytest.approx(accuracy(average="micro"))
    assert found["video_top5"] == pytest.approx(accuracy(average="micro", top_k=5))
    assert found["uar"] == found["mean_class_top1"]
    assert found["uar"] == pytest.approx(100 * theirs("multiclass_recall", average="none")[:8].mean().item())
    assert found["per_class_top1"][:8] == pytest.approx(accuracy(average="none")[:8])
    assert found["per_class_top1"][8] is None
    f1 = theirs("multiclass_f1_score", average="none")
    predicted = p.argmax(1)
    there = [c for c in range(9) if (predicted == c).any() or (label == c).any()]
    assert found["macro_f1"] == pytest.approx(100 * f1[there].mean().item(), rel=1e-6)
    assert found["ece"] == pytest.approx(theirs("multiclass_calibration_error", n_bins=15).item(), abs=1e-6)
    assert found["confusion"] == theirs("multiclass_confusion_matrix").tolist()
    expected = torch.nn.functional.nll_loss(p.log(), torch.tensor(label)).item()
    assert found["nll"] == pytest.approx(expected)


def test_the_diagonal_of_the_confusion_matrix_is_the_accuracy_even_with_ties():
    logits = np.round(random_logits(200, 1, 4).numpy())
    label = np.arange(200) % 4
    found = metrics(logits, label, "logit-mean")
    assert found["video_top1"] == pytest.approx(100 * np.trace(found["confusion"]) / 200)
    assert np.sum(found["confusion"]) == 200


def test_calibration_of_a_model_that_says_what_it_knows():
    p = np.repeat([[0.8, 0.2], [0.3, 0.7]], 10, axis=0)
    right = np.arange(20) % 10 < np.repeat([8, 7], 10)
    assert evaluation.compute_calibration_error(p, right) == pytest.approx(0, abs=1e-12)
    assert evaluation.compute_calibration_error(p, ~right) == pytest.approx((0.6 + 0.4) / 2)
    assert evaluation.compute_calibration_error(np.array([[1.0, 0.0]]), np.array([False])) == 1


def test_f1_of_a_video_without_scores_is_a_miss_but_no_false_alarm():
    assert evaluation.compute_macro_f1([0, 1, -1], [0, 1, 1], 3) == pytest.approx(100 * (1 + 2 / 3) / 2)


def test_a_likelihood_that_is_zero_or_of_nothing_is_none():
    assert evaluation.compute_nll(np.array([[1.0, 0.0]]), [1]) is None
    assert evaluation.compute_nll(np.array([[NAN, NAN]]), [1]) is None
    assert evaluation.compute_calibration_error(np.array([[NAN, NAN]]), np.array([False])) is None
    nothing = metrics(np.full((3, 1, 6), NAN), [0, 1, 2])
    assert nothing["video_top1"] == nothing["macro_f1"] == 0
    assert json.loads(json.dumps(nothing)) == nothing


def test_the_worst_mistakes_are_the_surest_ones():
    p = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.05, 0, 0.95], [0.6, 0.4, 0], [NAN] * 3, [0.5, 0.5, 0]])
    found = evaluation.find_worst_mistakes(p, [1, 1, 0, 1, 2, 0], "softmax-mean", 3)
    assert found == [(2, 2, pytest.approx(0.95)), (0, 0, pytest.approx(0.9)), (3, 0, pytest.approx(0.6))]
    assert (
        len(evaluation.find_worst_mistakes(p, [1, 1, 0, 1, 2, 0], "softmax-mean")) == 4
    )  # the tie too, not the unscored


# The interval


def test_bootstrap_is_seeded():
    right = np.arange(50) % 3 == 0
    assert evaluation.bootstrap_interval(right) == evaluation.bootstrap_interval(right)


def test_bootstrap_interval_is_the_binomial_one_for_many_videos():
    right = np.arange(400) < 240
    low, high = evaluation.bootstrap_interval(right)
    half = 1.96 * 100 * np.sqrt(0.6 * 0.4 / 400)
    assert low == pytest.approx(60 - half, abs=0.8)
    assert high == pytest.approx(60 + half, abs=0.8)


def test_bootstrap_of_all_right_and_of_one_video_has_no_width():
    assert evaluation.bootstrap_interval(np.ones(30, dtype=bool)) == [100, 100]
    assert evaluation.bootstrap_interval(np.array([False])) == [0, 0]


def test_bootstrap_over_groups_is_wider_where_groups_are_right_together():
    groups = np.repeat(np.arange(20), 10)
    together, apart = groups % 2 == 0, np.arange(200) % 2 == 0
    widths = [np.diff(evaluation.bootstrap_interval(right, groups + 1))[0] for right in (together, apart)]
    assert widths[1] == 0  # each group is half right
    alone = np.diff(evaluation.bootstrap_interval(together))[0]
    assert widths[0] == pytest.approx(alone * np.sqrt(10), rel=0.3)


def test_videos_without_a_group_are_groups_of_their_own():
    right = np.arange(60) % 3 == 0
    plain = evaluation.bootstrap_interval(right)
    assert evaluation.bootstrap_interval(right, [""] * 60) == plain
    assert evaluation.bootstrap_interval(right, [f"g{i}" for i in range(60)]) == plain
    assert evaluation.bootstrap_interval(right, ["one"] * 60) == plain  # one group says no interval
    assert evaluation.group_indices(["a", "", "a", ""], 4).tolist() == [0, 1, 0, 2]
    found = evaluation.compute_metrics(one_hot([0] * 4, 2), np.zeros(4, int), "vote", ["a", "", "a", ""])
    assert found["ci95_over"] == "groups"


# Collecting, exactly once


def random_logits(videos=7, views=3, classes=4):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(videos, views, classes)).astype(np.float32))


def update(scores, videos, logits_BKN):
    """All views of some videos at once."""
    views = logits_BKN.shape[1]
    scores.update(np.repeat(videos, views), np.tile(np.arange(views), len(videos)), logits_BKN.flatten(0, 1))


def test_scores_come_back_in_the_order_of_the_list():
    logits = random_logits()
    scores = accumulator.ScoreAccumulator([3] * 7, 4)
    for batch in ([6, 0], [3], [1, 5, 2, 4]):
        update(scores, batch, logits[batch])
    np.testing.assert_array_equal(scores.compute(), logits)


def test_videos_may_have_different_numbers_of_views():
    scores = accumulator.ScoreAccumulator([2, 1, 3], 4)
    logits = random_logits(1, 6)[0]
    scores.update([2, 0, 0], [1, 1, 0], logits[[4, 1, 0]])
    scores.update([1, 2, 2], [0, 2, 0], logits[[2, 5, 3]])
    got = scores.compute()
    assert got.shape == (3, 3, 4)
    assert np.isnan(got[0, 2]).all()
    assert np.isnan(got[1, 1:]).all()
    np.testing.assert_array_equal(got[~np.isnan(got).any(2)], logits)


def test_a_missing_view_is_an_error_that_names_it():
    scores = accumulator.ScoreAccumulator([1, 3, 1], 2)
    update(scores, [0, 2], torch.zeros(2, 1, 2))
    scores.update([1, 1], [0, 2], torch.zeros(2, 2))
    with pytest.raises(RuntimeError, match=r"1 of 5 views .* view 1 of video number 1: 0 times"):
        scores.compute()


def test_a_view_that_a_video_does_not_have_is_an_error_and_not_the_next_videos():
    scores = accumulator.ScoreAccumulator([2, 2], 2)
    with pytest.raises(RuntimeError, match="views_V"):
        scores.update([0], [2], torch.zeros(1, 2))


@pytest.mark.parametrize("batches", [[[0, 1, 2], [1]], [[0, 1, 1, 2]]], ids=["in two batches", "in one batch"])
def test_a_video_that_is_scored_twice_is_an_error(batches):
    scores = accumulator.ScoreAccumulator([1] * 3, 2)
    for batch in batches:
        update(scores, batch, torch.zeros(len(batch), 1, 2))
    with pytest.raises(RuntimeError, match="view 0 of video number 1: 2 times"):
        scores.compute()


def test_a_video_that_fails_is_seen_and_has_no_scores():
    scores = accumulator.ScoreAccumulator([2, 2, 1], 3)
    update(scores, [0], torch.ones(1, 2, 3))
    update(scores, [2], torch.ones(1, 1, 3))
    scores.fail(1)
    got = scores.compute()
    assert np.isnan(got[1]).all()
    assert scores.failed_V.tolist() == [0, 1, 0]
    assert metrics(got[:, :1], [0, 1, 1])["video_top1"] == 0


def test_half_precision_logits_are_kept_as_float32():
    scores = accumulator.ScoreAccumulator([1], 2)
    update(scores, [0], torch.tensor([[[0.1, 0.2]]]).bfloat16())
    assert scores.compute().dtype == np.float32


def test_every_view_is_reported_missing_when_nothing_was_scored():
    with pytest.raises(RuntimeError, match="6 of 6 views"):
        accumulator.ScoreAccumulator([2] * 3, 2).compute()


def collect(rank, world, folder, shares):
    """One process: scores its share of the videos (negative ones fail), and leaves what it got, or the error."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    logits = random_logits()
    scores = accumulator.ScoreAccumulator([3] * 7, 4)
    for video in shares[rank]:
        if video < 0:
            scores.fail(-video)
        else:
            update(scores, [video], logits[[video]])
    try:
        np.save(folder / f"{rank}.npy", scores.compute())
        np.save(folder / f"{rank}-failed.npy", scores.failed_V)
    except RuntimeError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


def run_processes(folder, shares):
    mp.start_processes(collect, (len(shares), folder, shares), nprocs=len(shares), start_method="fork")


@pytest.mark.parametrize(
    "shares",
    [[[0, 2, 4, 6], [1, 3, 5]], [[6, 5, 4, 3, 2, 1, 0], []], [[0, 3, 6], [1, 4], [2, 5]]],
    ids=["two processes", "one of two has no videos", "three processes"],
)
def test_several_processes_collect_the_same_bits_as_one(tmp_path, shares):
    run_processes(tmp_path, shares)
    for rank in range(len(shares)):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), random_logits().numpy())


def test_every_process_knows_of_a_video_that_failed_on_one(tmp_path):
    run_processes(tmp_path, [[0, 2, -4, 6], [1, 3, 5]])
    expected = random_logits().numpy()
    expected[4] = NAN
    for rank in (0, 1):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), expected)
        assert np.load(tmp_path / f"{rank}-failed.npy").tolist() == [0, 0, 0, 0, 1, 0, 0]


def test_a_video_on_two_processes_is_an_error_on_both(tmp_path):
    run_processes(tmp_path, [[0, 2, 4, 6], [1, 3, 5, 6]])
    messages = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert messages[0] == messages[1]
    assert "video number 6: 2 times" in messages[0]


# The area under the ROC curve


def test_auc_counts_pairs_and_half_of_ties_by_hand():
    scores = np.log([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.2, 0.8]])[:, None]  # of class 1: .1 .4 .4 .8
    assert metrics(scores, [0, 0, 1, 1])["auc"] == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert metrics(scores, [0, 0, 0, 0])["auc"] is None
    assert metrics(scores, [0, 0, 0, 0])["ci95_auc"] is None


@pytest.mark.parametrize("classes", [2, 3, 11])
def test_auc_is_that_of_scikit_learn_with_ties_and_has_an_interval_around_it(classes):
    rng = np.random.default_rng(classes)
    label_V = rng.permutation(np.arange(120) % classes)
    logits = rng.integers(0, 4, (120, 1, classes)) + 1.5 * one_hot(label_V, classes)
    p_VN = fusion_module.fuse_views(logits.astype(np.float32), "softmax-mean")
    truth = [roc_auc_score(label_V == n, p_VN[:, n]) for n in ([1] if classes == 2 else range(classes))]
    found = metrics(logits, label_V)
    assert found["auc"] == pytest.approx(np.mean(truth), abs=1e-12)
    low, high = found["ci95_auc"]
    assert low < found["auc"] < high
    assert metrics(np.eye(21)[:, None], np.arange(21))["auc"] is None  # too many classes


def test_a_video_without_scores_is_ranked_against_its_class():
    logits = np.log([[0.9, 0.1], [0.2, 0.8], [NAN, NAN]])[:, None]
    assert metrics(logits, [0, 1, 1])["auc"] == 0.5
    assert metrics(logits, [0, 1, 0])["auc"] == 0.5
