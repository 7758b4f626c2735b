"""A small tokenizer trained on the titles at hand: no hub, any language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

PAD, BOS, EOS = 0, 1, 2


@dataclass(frozen=True)
class TitleTokenizer:
    """Byte-level BPE with begin and end tokens; texts are padded and cut to one length."""

    tokenizer: Tokenizer
    length: int
    """Tokens per text, padding included."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return int(self.tokenizer.get_vocab_size())

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids, int64 [len(texts), length]; each row holds an end token, where CLIP pools."""
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))])


def train_tokenizer(titles: Sequence[str], vocabulary: int = 2000, max_length: int = 32) -> TitleTokenizer:
    """Train on titles (those of the training split only, or the test leaks into the vocabulary).

    The length is that of the longest title seen, at most max_length. Bytes make unknown letters, Hangul
    too, tokens as well, so there is no unknown token. Deterministic: the same titles, the same tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(titles)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
    )
    longest = max(len(encoding.ids) for encoding in tokenizer.encode_batch(sorted(set(titles))))
    length = min(longest, max_length)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(pad_id=PAD, pad_token="<pad>", length=length)
    return TitleTokenizer(tokenizer, length)
