"""The test of a two-tower encoder that was trained on pairs: retrieval both ways and zero-shot classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the field's name for it)

from claimbook.vlm.encoders import DualEncoder
from claimbook.vlm.metrics import retrieval_scores, zeroshot_scores
from claimbook.vlm.training import Pairs, embed, embed_texts


@dataclass(frozen=True)
class Evaluation:
    """Scores of every test picture, and what is needed to look at them."""

    scores: dict[str, list[float]]
    """Per metric one score per picture: `i2t_recall@k`, `t2i_recall@k`, `t2i_hit@k`, `zeroshot_accuracy`."""
    chance: dict[str, float]
    """What a guess would score on average."""
    similarity: Tensor
    """float32 [pictures, titles]."""
    best_titles: list[str]
    """The title nearest to each picture."""

    @property
    def metrics(self) -> dict[str, float]:
        """The mean of every score over the pictures."""
        return {name: sum(values) / len(values) for name, values in self.scores.items()}


def evaluate(
    encoder: DualEncoder,
    tokenize: Callable[[Sequence[str]], Tensor],
    pairs: Pairs,
    labels: Sequence[str],
    prompts: Mapping[str, Sequence[str]] | None = None,
) -> Evaluation:
    """Test an encoder on held-out pairs.

    labels: the class name of each picture, for the zero-shot test; prompts: texts of a class whose mean
    stands for it (CLIP's prompt ensemble, https://arxiv.org/abs/2103.00020, section 3.1.4), else its name.
    """
    images, texts = embed(encoder, pairs)
    scores, chance = retrieval_scores(images, texts, pairs.text_of_image)
    classes = sorted(set(labels))
    class_vectors = torch.stack(
        [_ensemble(encoder, tokenize((prompts or {}).get(name) or [name])) for name in classes]
    )
    label_of_image = torch.tensor([classes.index(label) for label in labels])
    scores["zeroshot_accuracy"], chance["zeroshot_accuracy"] = zeroshot_scores(
        images, class_vectors, label_of_image
    )
    similarity = (images @ texts.T).cpu()
    return Evaluation(
        {name: column.tolist() for name, column in scores.items()},
        chance,
        similarity,
        [pairs.titles[row] for row in similarity.argmax(1).tolist()],
    )


def titles_by_label(titles: Sequence[str], labels: Sequence[str]) -> dict[str, list[str]]:
    """The different titles of each class, sorted: prompts in the wording that the encoder was trained on."""
    found: dict[str, set[str]] = defaultdict(set)
    for title, label in zip(titles, labels, strict=True):
        found[label].add(title)
    return {label: sorted(texts) for label, texts in found.items()}


def _ensemble(encoder: DualEncoder, ids: Tensor) -> Tensor:
    """Unit vectors of the texts, their mean, made a unit vector again: float32 [d]."""
    return F.normalize(embed_texts(encoder, ids).mean(0), dim=0)
