"""Two-tower encoders: pictures and texts to unit vectors in one space."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the field's name for it)

from claimbook.errors import TechniqueError
from claimbook.vlm.tokenizer import BOS, EOS, PAD, TitleTokenizer

PATCH = 16
"""Side of a patch of the tiny encoder, pixels."""


class DualEncoder(nn.Module):
    """A CLIP model of transformers, reduced to what retrieval needs. `model` is its `CLIPModel`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def images(self, pixels: Tensor) -> Tensor:
        """pixels: float [n, 3, size, size] in [-1, 1]. Returns float32 [n, d], unit length."""
        return F.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output.float(), dim=-1)

    def texts(self, ids: Tensor) -> Tensor:
        """ids: int64 [n, length] with an end token in each row. Returns float32 [n, d], unit length."""
        features = self.model.get_text_features(input_ids=ids, attention_mask=(ids != PAD).long())
        return F.normalize(features.pooler_output.float(), dim=-1)

    @property
    def parameter_count(self) -> int:
        """Trainable and frozen parameters."""
        return sum(p.numel() for p in self.parameters())


def tiny_encoder(
    tokenizer: TitleTokenizer, size: int = 64, width: int = 64, layers: int = 2, seed: int = 0
) -> DualEncoder:
    """A CLIP (https://arxiv.org/abs/2103.00020) small enough for a CPU, with random weights.

    size: side of the pictures in pixels, a multiple of 16; width: of both towers and of the shared space;
    seed: of the weights. Raises TechniqueError for a size that patches do not fill.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # only says that a bar will be plain
        from transformers import CLIPConfig, CLIPModel

    if size % PATCH or size <= 0:
        raise TechniqueError(f"size is {size} pixels", fix=f"name a multiple of {PATCH}, such as 64")
    tower = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
    }
    config = CLIPConfig(
        vision_config={**tower, "image_size": size, "patch_size": PATCH},
        text_config={
            **tower,
            "vocab_size": tokenizer.vocabulary,
            "max_position_embeddings": tokenizer.length,
            "pad_token_id": PAD,
            "bos_token_id": BOS,
            "eos_token_id": EOS,  # without it CLIP pools position 0 and all texts are equal
        },
        projection_dim=width,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
    del model.logit_scale  # the losses bring scale and bias of their own
    return DualEncoder(model)
