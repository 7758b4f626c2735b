"""Contrastive training of a two-tower encoder on pairs of pictures and titles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the field's name for it)
from tqdm import tqdm

from claimbook.errors import TechniqueError
from claimbook.vlm.device import autocast
from claimbook.vlm.encoders import DualEncoder


@dataclass(frozen=True)
class Pairs:
    """Pictures and their titles as tensors on one device."""

    images: Tensor
    """uint8 [n, 3, size, size]."""
    ids: Tensor
    """int64 [m, length]: token ids of the different titles."""
    titles: tuple[str, ...]
    """The m different titles, sorted."""
    text_of_image: Tensor
    """int64 [n]: the row of each picture's title."""

    @classmethod
    def of(
        cls,
        pixels: NDArray[np.uint8],
        titles: Sequence[str],
        tokenize: Callable[[Sequence[str]], Tensor],
        device: torch.device,
    ) -> Pairs:
        """pixels: uint8 [n, size, size, 3]; titles: one per picture."""
        different = tuple(sorted(set(titles)))
        row = {title: i for i, title in enumerate(different)}
        return cls(
            torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).contiguous().to(device),
            tokenize(different).to(device),
            different,
            torch.tensor([row[title] for title in titles], device=device),
        )

    def shuffled(self, seed: int) -> Pairs:
        """Every picture gets the title of a randomly chosen picture: the control that must score chance."""
        order = torch.randperm(len(self.text_of_image), generator=torch.Generator().manual_seed(seed))
        return replace(self, text_of_image=self.text_of_image[order.to(self.images.device)])


@dataclass(frozen=True)
class Training:
    """How a training went and what it cost."""

    history: list[tuple[int, float]]
    """(step, loss), every log_every steps and at the last."""
    pairs_seen: int
    seconds: float
    """Wall clock of the loop."""

    @property
    def samples_per_second(self) -> float:
        """Pairs per second."""
        return self.pairs_seen / self.seconds


def train_contrastive(
    encoder: DualEncoder,
    loss: nn.Module,
    pairs: Pairs,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    log: Callable[[int, float], None] = lambda step, loss: None,
    log_every: int = 20,
) -> Training:
    """Train encoder and loss in place with AdamW, a linear warm-up over a tenth and a cosine decay.

    A batch holds batch_size different titles, each with one of its pictures, so no negative is secretly a
    positive. loss takes unit vectors [B, d] of pictures and texts and returns a scalar. seed fixes order and
    augmentation, the same for every loss. log gets (step, loss) every log_every steps; in between nothing
    waits for the device. A progress bar goes to standard error. Raises TechniqueError when there are fewer
    titles than batch_size.
    """
    device = pairs.images.device
    parameters = [*encoder.parameters(), *loss.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=lr,
        betas=(0.9, 0.98),  # CLIP's and SigLIP's
        fused=device.type != "mps",
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmup_cosine(step, steps))
    encoder.train()
    generator = torch.Generator(device).manual_seed(seed)
    started = time.perf_counter()
    history: list[tuple[int, float]] = []
    batches = tqdm(_batches(pairs, batch_size, steps, seed), "training", steps, mininterval=2)
    for step, (image, text) in enumerate(batches):
        with autocast(device):
            pictures = encoder.images(augment(pairs.images[image], generator))
            words = encoder.texts(pairs.ids[text])
        value = loss(pictures, words)  # outside autocast: logits in float32
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % log_every == 0 or step == steps - 1:
            history.append((step, float(value.detach())))
            log(*history[-1])
    return Training(history, steps * batch_size, time.perf_counter() - started)


@torch.inference_mode()
def embed(encoder: DualEncoder, pairs: Pairs, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Unit vectors of all pictures, float32 [n, d], and of all different titles, [m, d]."""
    encoder.eval()
    device = pairs.images.device
    with autocast(device):
        images = [encoder.images(to_float(chunk)) for chunk in torch.split(pairs.images, batch_size)]
        texts = [encoder.texts(chunk) for chunk in torch.split(pairs.ids, batch_size)]
    return torch.cat(images), torch.cat(texts)


@torch.inference_mode()
def embed_texts(encoder: DualEncoder, ids: Tensor) -> Tensor:
    """Unit vectors of token ids [m, length]: float32 [m, d], on the encoder's device."""
    encoder.eval()
    device = next(encoder.parameters()).device
    with autocast(device):
        return encoder.texts(ids.to(device))


def to_float(images: Tensor) -> Tensor:
    """uint8 [n, 3, s, s] to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random crop of 80–100 % of each side, mirrored half of the time, as float32 in [-1, 1].

    images: uint8 [n, 3, s, s] on the generator's device.
    """
    n, size, device = len(images), images.shape[-1], images.device
    scale = 0.8 + 0.2 * torch.rand(n, 1, device=device, generator=generator)
    shift = (1 - scale) * (2 * torch.rand(n, 2, device=device, generator=generator) - 1)
    mirror = 1 - 2 * torch.randint(0, 2, (n, 1), device=device, generator=generator).float()
    centres = (2 * torch.arange(size, device=device) + 1) / size - 1  # of the pixels, in [-1, 1]
    # rows and columns apart: without a rotation, affine_grid's matrix products are a waste
    x = (scale * mirror * centres + shift[:, :1])[:, None, :].expand(n, size, size)
    y = (scale * centres + shift[:, 1:])[:, :, None].expand(n, size, size)
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(to_float(images), grid, padding_mode="border", align_corners=False)


def _batches(pairs: Pairs, batch_size: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of pictures and of their titles, int64 [batch_size] each, all titles of a batch different.

    The order comes from a CPU generator, so it is the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    text_of_image = pairs.text_of_image.cpu()
    by_text = torch.argsort(text_of_image, stable=True)
    count = torch.bincount(text_of_image, minlength=len(pairs.titles))
    first = count.cumsum(0) - count
    texts = count.nonzero().flatten()
    if len(texts) < batch_size:
        raise TechniqueError(
            f"a batch of {batch_size} different titles cannot be drawn from {len(texts)}",
            fix="lower batch_size, or take a product set with more titles",
        )
    device = pairs.images.device
    per_epoch = len(texts) // batch_size
    for step in range(steps):
        if step % per_epoch == 0:
            order = texts[torch.randperm(len(texts), generator=generator)]
        text = order[(step % per_epoch) * batch_size :][:batch_size]
        pick = (torch.rand(batch_size, generator=generator) * count[text]).long()
        yield by_text[first[text] + pick].to(device), text.to(device)


def _warmup_cosine(step: int, steps: int) -> float:
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return float(0.5 * (1 + np.cos(np.pi * progress)))
