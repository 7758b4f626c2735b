"""Retrieval and zero-shot metrics, one score per query, in float64.

Ties never flatter: where candidates score the same, the expected value over all orders of the tied ones is
taken, so constant scores give exactly chance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def recall_at_k(similarity: Tensor, positives: Tensor, k: int) -> Tensor:
    """The share of a query's positives among its first k candidates.

    similarity: [q, c]; positives: bool [q, c], at least one a row. Returns float64 [q] in [0, 1]. With three
    positives and one of them first, recall@1 is 1/3 where `hit_at_k` is 1: name which one is meant.
    """
    greater, equal = _above(similarity, positives)
    expected = ((k - greater) / equal).clamp(0, 1)  # chance that a tied candidate comes among the first k
    return (expected * positives).sum(1) / positives.sum(1)


def hit_at_k(similarity: Tensor, positives: Tensor, k: int) -> Tensor:
    """Whether any positive is among the first k candidates (hit rate).

    similarity: [q, c]; positives: bool [q, c], at least one a row. Returns float64 [q] in [0, 1], fractions
    only where the best positive is tied: 1 − C(e − p, m)/C(e, m) with e tied candidates, p of them positive,
    and m places left for them.
    """
    similarity = similarity.double()
    best = similarity.masked_fill(~positives, -math.inf).amax(1, keepdim=True)
    above = (similarity > best).sum(1)
    tied = similarity == best
    hits = []
    for g, e, p in zip(above.tolist(), tied.sum(1).tolist(), (tied & positives).sum(1).tolist(), strict=True):
        places = min(max(k - g, 0), e)
        hits.append(1 - math.comb(e - p, places) / math.comb(e, places))
    return torch.tensor(hits, dtype=torch.float64)


def chance_of_hit(positives: Tensor, k: int) -> float:
    """Mean of `hit_at_k` when all candidates score the same; for recall@k chance is k/c.

    positives: bool [q, c], at least one a row.
    """
    return float(hit_at_k(torch.zeros(positives.shape), positives, k).mean())


def retrieval_scores(
    images: Tensor, texts: Tensor, text_of_image: Tensor, ks: tuple[int, ...] = (1, 5, 10)
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Retrieval both ways, a score per picture, and what chance would give.

    images: [n, d]; texts: [m, d], all different, each the text of some picture; text_of_image: int [n], the
    row of each picture's text. Scores are float64 [n]: `i2t_recall@k` asks with the picture among m texts,
    one of them right; `t2i_hit@k` and `t2i_recall@k` ask with the picture's text among n pictures, where all
    pictures of that text are right.
    """
    similarity = (images.float() @ texts.float().T).cpu()
    text_of_image = text_of_image.cpu()
    positives = torch.nn.functional.one_hot(text_of_image, len(texts)).bool()
    scores: dict[str, Tensor] = {}
    chance: dict[str, float] = {}
    for k in ks:
        scores[f"i2t_recall@{k}"] = recall_at_k(similarity, positives, k)
        chance[f"i2t_recall@{k}"] = min(1.0, k / len(texts))
        scores[f"t2i_recall@{k}"] = recall_at_k(similarity.T, positives.T, k)[text_of_image]
        chance[f"t2i_recall@{k}"] = min(1.0, k / len(images))
        scores[f"t2i_hit@{k}"] = hit_at_k(similarity.T, positives.T, k)[text_of_image]
        chance[f"t2i_hit@{k}"] = chance_of_hit(positives.T[text_of_image], k)
    return scores, chance


def zeroshot_scores(images: Tensor, classes: Tensor, label_of_image: Tensor) -> tuple[Tensor, float]:
    """Whether the nearest class text is the picture's class, and what chance would give.

    images: [n, d]; classes: [c, d]; label_of_image: int [n]. Returns float64 [n], fractions only at ties, and
    1/c: the accuracy of a guess that knows nothing.
    """
    similarity = (images.float() @ classes.float().T).cpu()
    positives = torch.nn.functional.one_hot(label_of_image.cpu(), len(classes)).bool()
    return recall_at_k(similarity, positives, 1), 1 / len(classes)


def _above(similarity: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """For each candidate that is positive: how many score higher, how many the same (itself included)."""
    similarity = similarity.double()
    greater = torch.zeros_like(similarity)
    equal = torch.ones_like(similarity)
    rows, columns = positives.nonzero(as_tuple=True)
    for start in range(0, len(rows), 4096):  # a block of rows at a time keeps memory at 4096·c
        row, column = rows[start : start + 4096], columns[start : start + 4096]
        score = similarity[row, column, None]
        greater[row, column] = (similarity[row] > score).sum(1).double()
        equal[row, column] = (similarity[row] == score).sum(1).double()
    return greater, equal
