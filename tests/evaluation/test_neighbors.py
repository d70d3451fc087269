"""Nearest neighbors and the linear probe of features: exact, and blind to the same group."""

import faiss
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from videores.errors import UserError
from videores.evaluation.neighbors import (
    VideoSet,
    find_neighbors,
    judge_retrieval,
    judge_votes,
    normalize_features,
    vote,
)
from videores.evaluation.probe import fit_probe


def videos(features_VD, label=None, group=None, start=0):
    count = len(features_VD)
    label_V = np.array(label if label is not None else [0] * count)
    names = [f"v{start + i}" for i in range(count)]
    return VideoSet(names, label_V, group or [""] * count, np.asarray(features_VD, dtype=np.float32))


def random_videos(count, seed, dim=48, **known):
    return videos(np.random.default_rng(seed).normal(size=(count, dim)), start=1000 * seed, **known)


def test_the_order_is_that_of_the_exact_index_of_faiss():
    asked, gallery = random_videos(70, 1), random_videos(500, 2)
    index = faiss.IndexFlatIP(48)
    index.add(normalize_features(gallery.features_VD).astype(np.float32))
    cosine_VK, place_VK = index.search(normalize_features(asked.features_VD).astype(np.float32), 50)
    found = find_neighbors(asked, gallery, 50)
    assert np.array_equal(found.place_VK, place_VK)
    np.testing.assert_allclose(found.cosine_VK, cosine_VK, atol=1e-6)


def test_within_a_list_it_is_that_of_faiss_without_the_same_group():
    group = [f"g{i % 7}" for i in range(60)]
    own = random_videos(60, 3, group=group)
    index = faiss.IndexFlatIP(48)
    index.add(normalize_features(own.features_VD).astype(np.float32))
    _, place_VK = index.search(normalize_features(own.features_VD).astype(np.float32), 60)
    wanted = [[p for p in row if group[p] != group[v]][:20] for v, row in enumerate(place_VK.tolist())]
    assert find_neighbors(own, own, 20).place_VK.tolist() == wanted


def test_a_copy_in_the_same_group_never_counts():
    asked = videos([[1, 0]], [0], ["g1"], start=90)
    gallery = videos([[1, 0], [0, 1], [0.1, 1]], [0, 1, 1], ["g1", "g2", "g3"])
    assert find_neighbors(asked, gallery, 3).place_VK.tolist() == [[2, 1, -1]]
    assert judge_votes(asked, gallery, 2, 2)["top1"] == 0
    assert [value["top1"] for value in judge_retrieval(asked, gallery).values()] == [0, 0, 0]


def test_a_video_without_a_group_is_no_neighbor_of_itself_only():
    own = videos([[1, 0], [1, 0], [0, 1]])
    assert find_neighbors(own, own, 2).place_VK.tolist() == [[1, 2], [0, 2], [0, 1]]  # ties: the first comes first


def test_recalls_count_the_first_neighbor_of_the_class_and_carry_intervals():
    angles = np.radians([0, 10, 20, 30, 40, 50, 60])
    gallery = videos(np.stack([np.cos(angles), np.sin(angles)], 1), [1, 1, 1, 0, 1, 1, 1])
    asked = videos([[1, 0], [1, -0.1]], [0, 0], start=50)
    result = judge_retrieval(asked, gallery)
    assert [result[name]["top1"] for name in ("R@1", "R@5", "R@10")] == [0, 100, 100]
    assert result["R@5"]["ci95"] == [100, 100]


def test_votes_weigh_near_neighbors_more():
    asked, gallery = videos([[1, 0]], start=9), videos([[1, 0.01], [0, 1], [0, 1]], [0, 1, 1])
    votes_VN = vote(find_neighbors(asked, gallery, 3), gallery.label_V, 2)
    assert votes_VN.argmax(1).tolist() == [0]


def test_a_video_that_did_not_decode_is_wrong_and_no_error():
    asked = videos([[np.nan, np.nan], [1, 0]], [0, 0], start=9)
    gallery = videos([[1, 0], [0, 1]], [0, 1])
    assert judge_votes(asked, gallery, 2, 1)["top1"] == 50
    assert [value["top1"] for value in judge_retrieval(asked, gallery).values()] == [50, 50, 50]


def test_one_group_is_refused():
    own = random_videos(5, 4, group=["only"] * 5)
    with pytest.raises(UserError, match="two groups, got only 'only'"):
        find_neighbors(own, own, 1)
    asked, gallery = random_videos(2, 5, group=["a", "b"]), random_videos(3, 6, group=["a"] * 3)
    with pytest.raises(UserError, match="v5000"):
        find_neighbors(asked, gallery, 1)


def test_an_empty_gallery_is_refused():
    with pytest.raises(UserError, match="two groups"):
        find_neighbors(random_videos(2, 7), random_videos(0, 8), 1)


def test_the_probe_is_the_logistic_regression_of_scikit_learn():
    rng = np.random.default_rng(0)
    label_R = rng.integers(0, 5, 200)
    x_RD = rng.normal(size=(200, 12)) * rng.uniform(0.1, 30, 12) + np.eye(5, 12)[label_R] * 3 + 7
    x_RD[:, 11] = 0.1  # does not vary
    scaler = StandardScaler().fit(x_RD)
    theirs = LogisticRegression(C=1, max_iter=5000, tol=1e-10).fit(scaler.transform(x_RD), label_R)
    asked_VD = rng.normal(size=(50, 12)) * 10
    asked_VD[:, 11] = 0.1
    ours_VN = fit_probe(x_RD, label_R, 5).score(asked_VD)
    centered = lambda logits_VN: logits_VN - logits_VN.mean(1, keepdims=True)
    np.testing.assert_allclose(
        centered(ours_VN), centered(theirs.decision_function(scaler.transform(asked_VD))), atol=1e-3
    )


def test_one_class_is_no_probe():
    with pytest.raises(UserError, match="two classes"):
        fit_probe(np.ones((3, 2)), np.zeros(3, int), 4)
