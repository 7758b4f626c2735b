"""Retrieval metrics against enumeration over all orders of ties, and by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from claimbook.vlm.metrics import chance_of_hit, hit_at_k, recall_at_k, retrieval_scores, zeroshot_scores


def by_enumeration(scores: list[int], positive: list[bool], k: int) -> tuple[float, float]:
    """Recall and hit rate, averaged over every order of the candidates that sorts their scores."""
    recalls, hits = [], []
    for order in itertools.permutations(range(len(scores))):
        if any(scores[a] < scores[b] for a, b in itertools.pairwise(order)):
            continue
        found = sum(positive[i] for i in order[:k])
        recalls.append(found / sum(positive))
        hits.append(float(found > 0))
    return sum(recalls) / len(recalls), sum(hits) / len(hits)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6).filter(
        lambda pairs: any(positive for _, positive in pairs)
    ),
    st.integers(1, 6),
)
def test_ties_give_the_mean_over_all_their_orders(pairs, k):
    scores, positive = [p[0] for p in pairs], [p[1] for p in pairs]
    similarity, positives = torch.tensor([scores]).float(), torch.tensor([positive])
    recall, hit = by_enumeration(scores, positive, k)
    assert recall_at_k(similarity, positives, k).item() == pytest.approx(recall)
    assert hit_at_k(similarity, positives, k).item() == pytest.approx(hit)


def test_recall_and_hit_rate_are_not_the_same():
    similarity = torch.tensor([[0.9, 0.1, 0.2, 0.5]])
    positives = torch.tensor([[True, True, True, False]])
    assert recall_at_k(similarity, positives, 1).item() == pytest.approx(1 / 3)
    assert hit_at_k(similarity, positives, 1).item() == 1.0


def test_constant_features_score_exactly_chance():
    images, texts = torch.ones(12, 4), torch.ones(5, 4)
    scores, chance = retrieval_scores(images, texts, torch.arange(12) % 5, ks=(1, 3))
    for name, column in scores.items():
        assert column.mean().item() == pytest.approx(chance[name], abs=1e-12), name


def test_retrieval_both_ways_by_hand():
    # three pictures of two titles; the second picture looks like the wrong title
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    texts = torch.eye(2)
    scores, chance = retrieval_scores(images, texts, torch.tensor([0, 0, 1]), ks=(1,))
    assert scores["i2t_recall@1"].tolist() == [1.0, 0.0, 1.0]
    # title 0 finds picture 0 first: one of its two pictures; title 1's two best are tied, one is right
    assert scores["t2i_recall@1"].tolist() == [0.5, 0.5, 0.5]
    assert scores["t2i_hit@1"].tolist() == [1.0, 1.0, 0.5]
    assert chance == pytest.approx({"i2t_recall@1": 1 / 2, "t2i_recall@1": 1 / 3, "t2i_hit@1": 5 / 9})


def test_chance_of_hit_is_hypergeometric():
    positives = torch.tensor([[True, True, False, False, False]])
    assert chance_of_hit(positives, 2) == pytest.approx(1 - (3 / 5) * (2 / 4))


def test_zeroshot_accuracy_and_its_chance():
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    scores, chance = zeroshot_scores(images, torch.eye(2), torch.tensor([0, 0, 1]))
    assert scores.tolist() == [1.0, 0.0, 0.5]
    assert chance == 0.5
