"""Language models of Llama 2's structure, in the names of llama2.c (https://github.com/karpathy/llama2.c).

RMSNorm, rotary positions on neighbouring pairs, grouped queries, a gated feed-forward layer, tied embeddings:
https://arxiv.org/abs/2307.09288 and https://arxiv.org/abs/2305.13245.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, normalizers
from torch import Tensor, nn
from torch.nn import functional

from core.bases import digest, fill, read_tensors
from core.contract import Base, Structure
from core.errors import BaseError
from core.licences import spdx
from plugins.nlp import options
from plugins.nlp.tokens import pack

POSITIONS = 1280
"""The longest sequence, in tokens: the largest window and the longest continuation that the task allows."""

SPACE = "\u2581"
"""What stands for a space in the vocabulary's pieces."""


class Llama2c:
    """The base source `nlp.llama2c`: a folder with `model.safetensors` and a vocabulary of lines `piece<TAB>score`."""

    def __init__(self, options: options.Llama2c) -> None:
        self._options = options

    def load(self) -> Base:
        """Raises `BaseError` where a file is missing or damaged, or the tensors are not those of a Llama."""
        o = self._options
        folder = Path(o.name).expanduser()
        path, what = folder / "model.safetensors", f"base {o.name!r}"
        tensors = read_tensors(path, what)
        with safe_open(path, "pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
        model = _built(tensors, metadata, o.heads, what)
        fill(model, tensors, what)
        tokenizer = read_vocabulary(folder / o.vocabulary, len(tensors["tok_embeddings.weight"]))
        brought = {"task": {"tokenizer": pack(tokenizer), "bos": 1}}
        return Base(model, digest(tensors), spdx(o.licence), o.origin or o.name, brought)


def _built(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], heads: int | None, what: str) -> Llama:
    """The structure that the tensors' shapes tell."""
    needed = ("tok_embeddings.weight", "layers.0.attention.wk.weight", "layers.0.feed_forward.w1.weight")
    missing = [name for name in needed if name not in tensors or tensors[name].ndim != 2]
    if missing:
        there = ", ".join(sorted(tensors)[:5])
        raise BaseError(
            f"{what} has no tensor {missing[0]}; it has {there}, ...", "give a model in the names of llama2.c"
        )
    heads = heads or int(metadata.get("n_heads", 0))
    if not heads:
        raise BaseError(f"{what}: nothing says how many heads its attention has", "write base.heads")
    vocabulary, width = tensors["tok_embeddings.weight"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers."))
    keys = tensors["layers.0.attention.wk.weight"].shape[0]
    if width % (2 * heads) or keys % (width // heads):
        raise BaseError(
            f"{what}: a width of {width} with keys of {keys} does not fit {heads} heads", "set base.heads"
        )
    return Llama(
        vocabulary,
        width,
        layers,
        heads,
        keys // (width // heads),
        tensors["layers.0.feed_forward.w1.weight"].shape[0],
        float(metadata.get("norm_eps", 1e-5)),
        float(metadata.get("rope_theta", 10_000)),
    )


class Llama(nn.Module):
    """Logits of the next token.

    Args:
        vocabulary: how many tokens there are.
        width: of the residual stream.
        layers: how many.
        heads: of the queries, each `width / heads` wide, which is even.
        key_heads: of keys and values, a divisor of `heads`.
        hidden: the width of the feed-forward layers.
        eps: of the norms.
        theta: the base of the rotary positions' wavelengths.
    """

    cos: Tensor  # (POSITIONS, head width / 2)
    sin: Tensor

    def __init__(
        self,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        key_heads: int,
        hidden: int,
        eps: float = 1e-5,
        theta: float = 10_000.0,
    ) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads, key_heads, hidden, eps) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps)
        head_width = width // heads
        rates = theta ** (-torch.arange(0, head_width, 2) / head_width)
        angles = torch.outer(torch.arange(POSITIONS), rates)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.structure = Structure(head=("norm", "tok_embeddings"))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, time) int64 to (batch, time, vocabulary) logits."""
        time = tokens.shape[1]
        x: Tensor = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:time], self.sin[:time])
        return functional.linear(self.norm(x), self.tok_embeddings.weight)


class Layer(nn.Module):
    """Attention, then a gated feed-forward layer, each added to the residual stream."""

    def __init__(self, width: int, heads: int, key_heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, key_heads)
        self.feed_forward = FeedForward(width, hidden)
        self.attention_norm = nn.RMSNorm(width, eps)
        self.ffn_norm = nn.RMSNorm(width, eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(batch, time, width) to the same; `cos` and `sin` are (time, head width / 2)."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        fed: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return fed


class Attention(nn.Module):
    """Causal; each head of keys and values serves several of queries."""

    def __init__(self, width: int, heads: int, key_heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.groups = heads // key_heads
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, key_heads * self.head_width, bias=False)
        self.wv = nn.Linear(width, key_heads * self.head_width, bias=False)
        self.wo = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = (
            made.view(batch, time, -1, self.head_width).transpose(1, 2)
            for made in (self.wq(x), self.wk(x), self.wv(x))
        )
        k, v = (part.repeat_interleave(self.groups, 1) for part in (turned(k, cos, sin), v))
        attended = functional.scaled_dot_product_attention(turned(q, cos, sin), k, v, is_causal=True)
        out: Tensor = self.wo(attended.transpose(1, 2).reshape(batch, time, width))
        return out


class FeedForward(nn.Module):
    """SwiGLU, https://arxiv.org/abs/2002.05202."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, width, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(functional.silu(self.w1(x)) * self.w3(x))
        return out


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys (..., time, head width) with each pair of neighbours turned by its position."""
    one, other = x.view(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((one * cos - other * sin, one * sin + other * cos), -1).flatten(-2)


def read_vocabulary(path: Path, size: int) -> Tokenizer:
    """SentencePiece's byte-pair encoding from its vocabulary: at each step the two neighbours are merged whose piece
    has the highest score, the first of equals. Characters that no piece has are spelt in bytes.

    Raises `BaseError` where the file is missing, damaged, or not of `size` pieces.
    """
    hint = "give the .vocab file that belongs to the model, lines of a piece, a tab and a score"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BaseError(f"the vocabulary {path} cannot be read: {error}", hint) from error
    pieces: dict[str, float] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        piece, _, written = line.rpartition("\t")
        try:
            score = float(written)
        except ValueError:
            score = math.nan
        if not piece or piece in pieces or not math.isfinite(score):
            wrong = "stands there twice" if piece in pieces else "is no piece with a score"
            raise BaseError(f"{path}, line {number}: {line!r} {wrong}", hint)
        pieces[piece] = score
    if len(pieces) != size:
        raise BaseError(f"{path} has {len(pieces)} pieces, and the model {size}", hint)
    indices = {piece: i for i, piece in enumerate(pieces)}
    found = [
        (-score, indices[piece], piece[:cut], piece[cut:])
        for piece, score in pieces.items()
        for cut in range(1, len(piece))
        if piece[:cut] in indices and piece[cut:] in indices
    ]
    merges = [(one, other) for *_, one, other in sorted(found)]
    tokenizer = Tokenizer(models.BPE(indices, merges, unk_token="<unk>", byte_fallback=True))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer
