r"""SigLIP's pairwise sigmoid loss: https://arxiv.org/abs/2303.15343 (Zhai et al., 2023), algorithm 1.

For B pairs of unit vectors x_i (picture) and y_i (text), a learned scale t = exp(t') and bias b:

$$L = -\frac{1}{B}\sum_i\sum_j \log\frac{1}{1 + e^{z_{ij}(-t\,x_i\cdot y_j - b)}},
      \qquad z_{ij} = 1 \text{ if } i = j \text{ else } -1$$

Every cell of the B×B similarities is a yes-or-no question of its own: no cell is normalised by the others,
so the loss needs no view of the whole batch. The bias starts low because a batch holds B times more
negatives than positives; without it the first steps only unlearn that prior (section 3.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the field's name for it)

MAX_SCALE = 100.0
"""CLIP's limit, kept so that the two losses differ in nothing else."""


def sigmoid_loss(images: Tensor, texts: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:
    """The loss of a batch, a scalar.

    images, texts: [B, d], unit length, row i of both is a pair; log_scale, bias: scalars t' and b.
    """
    logits = log_scale.exp().clamp(max=MAX_SCALE) * images @ texts.T + bias
    sign = 2 * torch.eye(len(images), dtype=logits.dtype, device=logits.device) - 1
    return F.softplus(-sign * logits).sum() / len(images)


class SigmoidLoss(nn.Module):
    """`sigmoid_loss` with its learned scale and bias, which start at t = 10 and b = -10 as in the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """images, texts: [B, d], unit length. Returns a scalar."""
        return sigmoid_loss(images, texts, self.log_scale, self.bias)
