"""The tiny encoder and the tokenizer: different texts differ, Korean works, sizes are checked."""

from __future__ import annotations

import pytest
import torch

from claimbook.errors import TechniqueError
from claimbook.vlm.encoders import tiny_encoder
from claimbook.vlm.tokenizer import BOS, EOS, PAD, train_tokenizer

TITLES = ["Red striped mug", "Blue cap, small NORI logo", "네이비 스트라이프 머그컵", "핑크 도트 원피스"]


def test_vectors_are_unit_and_different_for_different_texts():
    tokenizer = train_tokenizer(TITLES)
    encoder = tiny_encoder(tokenizer, size=32, width=32, layers=1)
    texts = encoder.texts(tokenizer(TITLES))
    images = encoder.images(torch.rand(3, 3, 32, 32) * 2 - 1)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(images.norm(dim=1), torch.ones(3))
    assert (
        texts @ texts.T - torch.eye(4)
    ).max() < 0.9999  # CLIP without an end token pools position 0: all equal


def test_padding_does_not_change_a_text():
    tokenizer = train_tokenizer([*TITLES, "a very long title " * 4], max_length=40)
    short = train_tokenizer([*TITLES, "a very long title " * 4], max_length=40)
    encoder = tiny_encoder(tokenizer, size=32, width=32, layers=1).eval()
    ids = short(["red mug"])
    cut = ids[:, : int((ids != PAD).sum())]
    with torch.inference_mode():
        torch.testing.assert_close(encoder.texts(ids), encoder.texts(cut), rtol=0, atol=1e-6)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    tokenizer = train_tokenizer(TITLES)
    torch.manual_seed(5)
    first = tiny_encoder(tokenizer, size=32, width=32, layers=1, seed=1).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    again = tiny_encoder(tokenizer, size=32, width=32, layers=1, seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("size", [0, 50, -16])
def test_a_size_that_patches_do_not_fill_is_refused(size):
    with pytest.raises(TechniqueError, match="multiple of 16"):
        tiny_encoder(train_tokenizer(TITLES), size=size)


def test_every_row_begins_and_ends_also_when_it_is_cut():
    tokenizer = train_tokenizer([*TITLES, "word " * 50], max_length=12)
    ids = tokenizer(["word " * 50, "Red"])
    assert ids.shape == (2, 12)
    assert ids[:, 0].tolist() == [BOS, BOS]
    assert ids[0, -1] == EOS
    assert (ids[1] == EOS).sum() == 1
    assert ids[1, -1] == PAD


def test_unseen_letters_and_scripts_are_tokens_too():
    tokenizer = train_tokenizer(["red mug", "a long title of more than twenty tokens " * 3])
    assert tokenizer.tokenizer.decode(tokenizer(["머그컵 äö"])[0].tolist()).strip() == "머그컵 äö"


def test_training_on_the_same_titles_in_another_order_gives_the_same_tokenizer():
    assert train_tokenizer(TITLES).tokenizer.to_str() == train_tokenizer(TITLES[::-1]).tokenizer.to_str()
