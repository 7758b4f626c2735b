"""Training learns, pairs its arms by seed, and never shows a title twice in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from claimbook.errors import TechniqueError
from claimbook.vlm.device import autocast, make_deterministic, pick_device
from claimbook.vlm.encoders import tiny_encoder
from claimbook.vlm.metrics import retrieval_scores
from claimbook.vlm.techniques.clip import SoftmaxLoss
from claimbook.vlm.techniques.siglip import SigmoidLoss
from claimbook.vlm.tokenizer import train_tokenizer
from claimbook.vlm.training import Pairs, _batches, augment, embed, train_contrastive

CPU = torch.device("cpu")
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (250, 250, 250)}


def coloured_pairs(copies: int = 3) -> Pairs:
    titles = [f"{name} mug" for name in COLOURS for _ in range(copies)]
    pixels = np.stack([np.full((32, 32, 3), COLOURS[t.split()[0]], np.uint8) for t in titles])
    return Pairs.of(pixels, titles, train_tokenizer(titles), CPU)


def trained(loss, seed: int = 0, pairs: Pairs | None = None, steps: int = 30):
    make_deterministic(seed)
    pairs = pairs or coloured_pairs()
    encoder = tiny_encoder(train_tokenizer(pairs.titles), size=32, width=32, layers=1, seed=seed)
    cost = train_contrastive(
        encoder, loss, pairs, steps=steps, batch_size=4, lr=3e-3, seed=seed,
        log_every=10,
    )  # fmt: skip
    return encoder, cost.history, cost


@pytest.mark.parametrize("loss", [SoftmaxLoss, SigmoidLoss])
def test_four_colours_are_learned(loss):
    pairs = coloured_pairs()
    encoder, losses, cost = trained(loss(), pairs=pairs, steps=60)
    scores, _ = retrieval_scores(*embed(encoder, pairs), pairs.text_of_image, ks=(1,))
    assert scores["i2t_recall@1"].mean() == 1.0
    assert losses[-1][1] < losses[0][1]
    assert [step for step, _ in losses] == [0, 10, 20, 30, 40, 50, 59]
    assert cost.pairs_seen == 240


def test_the_same_seed_gives_the_same_weights():
    first, again, other = (trained(SigmoidLoss(), seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_batch_never_holds_a_title_twice_and_pairs_stay_together():
    pairs = coloured_pairs(copies=5)
    for images, texts in _batches(pairs, 4, 25, seed=3):
        assert len(set(texts.tolist())) == 4
        assert torch.equal(pairs.text_of_image[images], texts)


def test_every_picture_of_a_title_is_drawn():
    pairs = coloured_pairs(copies=5)
    seen = torch.cat([images for images, _ in _batches(pairs, 4, 60, seed=0)])
    assert set(seen.tolist()) == set(range(20))


def test_too_few_titles_for_a_batch_is_said_before_training():
    with pytest.raises(TechniqueError, match="batch of 5 different titles cannot be drawn from 4"):
        list(_batches(coloured_pairs(), 5, 1, seed=0))


def test_shuffled_pairs_keep_pictures_and_titles_but_not_which_belongs_to_which():
    pairs = coloured_pairs(copies=25)
    shuffled = pairs.shuffled(seed=0)
    assert torch.equal(shuffled.images, pairs.images)
    assert torch.equal(shuffled.text_of_image.sort().values, pairs.text_of_image.sort().values)
    share = (shuffled.text_of_image == pairs.text_of_image).float().mean()
    assert 0.1 < share < 0.4  # a quarter by chance


def test_augmentation_keeps_shape_and_range_and_follows_its_generator():
    images = coloured_pairs().images
    once = augment(images, torch.Generator().manual_seed(1))
    again = augment(images, torch.Generator().manual_seed(1))
    assert once.shape == images.shape
    assert torch.equal(once, again)
    assert once.min() >= -1
    assert once.max() <= 1
    # a crop of one colour is that colour
    torch.testing.assert_close(once[0, :, 16, 16], images[0, :, 0, 0] / 127.5 - 1)


def test_a_device_that_is_not_there_is_said():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    with pytest.raises(TechniqueError, match="cannot be used"):
        pick_device("xpu:7")


def test_autocast_changes_nothing_on_the_cpu():
    with autocast(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_in_bfloat16_with_float32_logits():
    pairs = coloured_pairs()
    device = torch.device("cuda")
    pairs = Pairs(pairs.images.cuda(), pairs.ids.cuda(), pairs.titles, pairs.text_of_image.cuda())
    encoder = tiny_encoder(train_tokenizer(pairs.titles), size=32, width=32, layers=1).to(device)
    with autocast(device):
        assert (torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)).dtype == torch.bfloat16
    loss = SigmoidLoss().to(device)
    train_contrastive(encoder, loss, pairs, steps=60, batch_size=4, lr=3e-3, seed=0)
    images, texts = embed(encoder, pairs)
    assert images.dtype == torch.float32
    scores, _ = retrieval_scores(images, texts, pairs.text_of_image, ks=(1,))
    assert scores["i2t_recall@1"].mean() == 1.0


def test_augmentation_crops_and_mirrors_as_an_affine_grid_does():
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    ours = augment(images, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    scale = 0.8 + 0.2 * torch.rand(5, 1, generator=generator)
    shift = (1 - scale) * (2 * torch.rand(5, 2, generator=generator) - 1)
    mirror = 1 - 2 * torch.randint(0, 2, (5, 1), generator=generator).float()
    assert set(mirror.flatten().tolist()) == {1.0, -1.0}
    theta = torch.zeros(5, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = (scale * mirror)[:, 0], scale[:, 0]
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, [5, 3, 32, 32], align_corners=False)
    theirs = F.grid_sample(images.float() / 127.5 - 1, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
