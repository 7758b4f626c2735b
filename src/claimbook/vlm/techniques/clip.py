r"""CLIP's softmax contrastive loss: https://arxiv.org/abs/2103.00020 (Radford et al., 2021), figure 3.

For B pairs of unit vectors x_i (picture) and y_i (text) and a learned scale s = exp(t'):

$$L = -\frac{1}{2B}\sum_i \left(\log\frac{e^{s\,x_i\cdot y_i}}{\sum_j e^{s\,x_i\cdot y_j}}
      + \log\frac{e^{s\,x_i\cdot y_i}}{\sum_j e^{s\,x_j\cdot y_i}}\right)$$

Each row and each column of the B×B similarities is a classification with one right answer, so every pair
competes with all others of its batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the field's name for it)

MAX_SCALE = 100.0
"""The paper clips the scale here "to prevent training instability" (section 2.5)."""


def softmax_loss(images: Tensor, texts: Tensor, log_scale: Tensor) -> Tensor:
    """The loss of a batch, a scalar.

    images, texts: [B, d], unit length, row i of both is a pair; log_scale: scalar t'.
    """
    logits = log_scale.exp().clamp(max=MAX_SCALE) * images @ texts.T
    target = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class SoftmaxLoss(nn.Module):
    """`softmax_loss` with its learned scale, which starts at 1/0.07 as in the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        """images, texts: [B, d], unit length. Returns a scalar."""
        return softmax_loss(images, texts, self.log_scale)
