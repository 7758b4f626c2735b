"""The sigmoid loss against hand-computed values, its gradient in closed form, and open_clip's own file."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from claimbook.vlm.techniques.siglip import SigmoidLoss, sigmoid_loss


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    return F.normalize(
        torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_two_pairs_by_hand():
    x = torch.eye(2, dtype=torch.float64)
    # scale 3, bias -1: two positives at logit 2, two negatives at logit -1, summed and divided by B = 2
    expected = (2 * math.log(1 + math.exp(-2)) + 2 * math.log(1 + math.exp(-1))) / 2
    assert sigmoid_loss(x, x, number(math.log(3)), number(-1)).item() == pytest.approx(expected, abs=1e-15)


def test_gradient_with_respect_to_logits_is_sigmoid_minus_target():
    x, y = unit(4, 4, 0).requires_grad_(), torch.eye(4, dtype=torch.float64)
    log_scale, bias = number(1.2), number(-0.7)
    sigmoid_loss(x, y, log_scale, bias).backward()
    logits = log_scale.exp() * x.detach() + bias
    expected = (logits.sigmoid() - torch.eye(4)) / 4
    assert x.grad is not None
    torch.testing.assert_close(x.grad / log_scale.exp(), expected, rtol=0, atol=1e-15)


def test_invariant_under_permutation_and_rotation():
    x, y, s, b = unit(6, 4, 1), unit(6, 4, 2), number(2.0), number(-3.0)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    order = torch.randperm(6)
    value = sigmoid_loss(x, y, s, b)
    torch.testing.assert_close(sigmoid_loss(x[order], y[order], s, b), value, rtol=0, atol=1e-12)
    torch.testing.assert_close(sigmoid_loss(x @ rotation, y @ rotation, s, b), value, rtol=0, atol=1e-12)


def test_gradcheck():
    x, y = unit(3, 4, 3).requires_grad_(), unit(3, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        sigmoid_loss, (x, y, number(1.0).requires_grad_(), number(-2.0).requires_grad_())
    )


def test_starts_near_ln2_times_nothing_because_of_the_bias():
    # at t = 10, b = -10 a random batch has logits far below 0: negatives cost almost nothing
    loss = SigmoidLoss()
    assert loss.log_scale.exp().item() == pytest.approx(10)
    assert loss.bias.item() == -10
    x = torch.ones(16, 1)
    assert loss(x, -x).item() == pytest.approx(20, abs=1e-3)


def test_equals_open_clip(open_clip_loss):
    x, y = unit(8, 16, 7).requires_grad_(), unit(8, 16, 8)
    s, b = number(2.5), number(-4.0)
    (ours,) = torch.autograd.grad(sigmoid_loss(x, y, s, b), x)
    theirs_value = open_clip_loss("SigLipLoss")(x, y, s.exp(), b)
    (theirs,) = torch.autograd.grad(theirs_value, x)
    torch.testing.assert_close(sigmoid_loss(x, y, s, b), theirs_value, rtol=0, atol=1e-14)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-15)
