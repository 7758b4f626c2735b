"""The softmax loss against hand-computed values, its gradient in closed form, and open_clip's own file."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from claimbook.vlm.techniques.clip import SoftmaxLoss, softmax_loss


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    return F.normalize(
        torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=1
    )


def test_two_pairs_by_hand():
    x = torch.eye(2, dtype=torch.float64)
    # scale 2: every row and column is (2, 0) with the right answer first, so L = log(1 + e^-2)
    value = softmax_loss(x, x, torch.tensor(math.log(2.0), dtype=torch.float64))
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-15)


def test_constant_vectors_cost_ln_b():
    x = torch.ones(7, 1, dtype=torch.float64)
    assert softmax_loss(x, x, torch.tensor(3.0)).item() == pytest.approx(math.log(7), abs=1e-12)


def test_gradient_with_respect_to_logits_is_rows_plus_columns_minus_identity():
    x, y = unit(5, 5, 0), torch.eye(5, dtype=torch.float64)  # y = I makes the logits equal to s·x
    x.requires_grad_()
    log_scale = torch.tensor(1.5, dtype=torch.float64)
    softmax_loss(x, y, log_scale).backward()
    logits = log_scale.exp() * x.detach()
    expected = ((logits.softmax(1) + logits.softmax(0)) / 2 - torch.eye(5)) / 5
    assert x.grad is not None
    torch.testing.assert_close(x.grad / log_scale.exp(), expected, rtol=0, atol=1e-15)
    assert abs((x.grad / log_scale.exp()).sum().item()) < 1e-14


def test_invariant_under_permutation_and_rotation():
    x, y, s = unit(6, 4, 1), unit(6, 4, 2), torch.tensor(2.0)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    order = torch.randperm(6)
    value = softmax_loss(x, y, s)
    torch.testing.assert_close(softmax_loss(x[order], y[order], s), value, rtol=0, atol=1e-12)
    torch.testing.assert_close(softmax_loss(x @ rotation, y @ rotation, s), value, rtol=0, atol=1e-12)


def test_gradcheck():
    x, y = unit(3, 4, 3).requires_grad_(), unit(3, 4, 4).requires_grad_()
    s = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(softmax_loss, (x, y, s))


def test_scale_is_clipped_at_100():
    x, y = unit(4, 8, 5), unit(4, 8, 6)
    assert softmax_loss(x, y, torch.tensor(20.0)) == softmax_loss(
        x, y, torch.tensor(math.log(100.0)).double()
    )


def test_starts_as_in_the_paper():
    assert SoftmaxLoss().log_scale.exp().item() == pytest.approx(1 / 0.07)


def test_equals_open_clip(open_clip_loss):
    x, y, s = unit(8, 16, 7).requires_grad_(), unit(8, 16, 8), torch.tensor(2.5, dtype=torch.float64)
    (ours,) = torch.autograd.grad(softmax_loss(x, y, s), x)
    theirs_value = open_clip_loss("ClipLoss")(x, y, s.exp())
    (theirs,) = torch.autograd.grad(theirs_value, x)
    torch.testing.assert_close(softmax_loss(x, y, s), theirs_value, rtol=0, atol=1e-15)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-15)
