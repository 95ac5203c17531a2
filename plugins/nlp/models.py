"""A small decoder-only transformer: pre-norm, rotary positions, tied embeddings.

RMSNorm: https://arxiv.org/abs/1910.07467. Rotary positions: https://arxiv.org/abs/2104.09864. Normalised queries
and keys: https://arxiv.org/abs/2010.04245. Squared ReLU: https://arxiv.org/abs/2109.08668. Tied embeddings:
https://arxiv.org/abs/1608.05859.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.bases import load_base
from core.contract import Base, Structure
from plugins.nlp.options import BuiltinOptions

BASES = Path(__file__).parent / "bases"


class Builtin:
    """A base in this plugin's folder."""

    def __init__(self, options: BuiltinOptions) -> None:
        self._name = options.name

    def load(self) -> Base:
        return load_base(BASES, self._name, lambda architecture: LanguageModel(**architecture))


class LanguageModel(nn.Module):
    """Logits of the next token.

    Args:
        vocabulary: how many tokens there are.
        width: of the residual stream, a multiple of `heads`.
        layers: how many blocks.
        heads: of attention, each of an even width.
        dropout: on the embeddings and on what each block adds, in training.
        context: the longest sequence, in tokens.
    """

    cos: Tensor  # (context, head width / 2)
    sin: Tensor

    def __init__(
        self, vocabulary: int, width: int, layers: int, heads: int, dropout: float = 0.0, context: int = 1024
    ) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        head_width = width // heads
        rates = 10_000.0 ** (-torch.arange(0, head_width, 2) / head_width)
        angles = torch.outer(torch.arange(context), rates)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.structure = Structure(head=("norm", "embedding"))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, time) int64 to (batch, time, vocabulary) logits."""
        time = tokens.shape[1]
        x: Tensor = self.dropout(self.embedding(tokens))
        for block in self.blocks:
            x = block(x, self.cos[:time], self.sin[:time])
        return functional.linear(self.norm(x), self.embedding.weight)


class Block(nn.Module):
    """Attention, then a feed-forward layer, each added to the residual stream."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width)
        self.qkv = Linear(width, 3 * width)
        self.merge = ZeroLinear(width, width)
        self.feed_norm = nn.RMSNorm(width)
        self.widen = Linear(width, 4 * width)
        self.narrow = ZeroLinear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(batch, time, width) to the same; `cos` and `sin` are (time, head width / 2)."""
        batch, time, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, time, head width)
        attended = functional.scaled_dot_product_attention(
            rotated(q, cos, sin), rotated(k, cos, sin), v, is_causal=True
        )
        x = x + self.dropout(self.merge(attended.transpose(1, 2).reshape(batch, time, width)))
        fed: Tensor = self.dropout(self.narrow(functional.relu(self.widen(self.feed_norm(x))).square()))
        return x + fed


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys (..., time, head width), normalised, with each pair of halves turned by its position."""
    one, other = functional.rms_norm(x, (x.shape[-1],)).chunk(2, dim=-1)
    return torch.cat((one * cos - other * sin, one * sin + other * cos), dim=-1).to(x.dtype)


class Embedding(nn.Embedding):
    """Starts small, because the same weights make the logits."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)


class Linear(nn.Linear):
    """Without a bias; starts with a variance of about 0.5 for an input of variance 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.7 * self.in_features**-0.5)


class ZeroLinear(Linear):
    """Starts at zero, so that a fresh block adds nothing (https://arxiv.org/abs/1901.09321)."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
