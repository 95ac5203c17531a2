"""Bases from the transformers library: encoders that get a head for classes, classifiers that have one, and
encoder-decoders.

A name is a folder or a model's name on a hub. What the hub has is looked for in its cache first. Code that a
model brings is never run.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor, nn

from core.bases import digest
from core.contract import JSON, Base, Structure
from core.errors import BaseError
from core.licences import spdx
from plugins.nlp import hub, options
from plugins.nlp.ragged import Ragged, packed, padded, ragged
from plugins.nlp.seq2seq import Seq2Seq
from plugins.nlp.tokens import pack


class TextEncoder(nn.Module):
    """An encoder's token states, pooled, and a linear head.

    Args:
        backbone: called with `input_ids`, `attention_mask` and, where texts are packed, `position_ids`; gives
            `last_hidden_state`.
        width: of the token states.
        pooling: `mean` over a text's tokens, or `cls`, the first one's state.
        first: the position of a text's first token, where several texts may stand in a row (`first_position`); None
            where they may not.
    """

    def __init__(self, backbone: nn.Module, width: int, pooling: str, first: int | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling, self.first = pooling, first
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about a layer without outputs
            self.head = nn.Linear(width, 0)
        self.structure = Structure(axes={"classes": (("head.weight", 0), ("head.bias", 0))}, head=("head",))

    def forward(self, texts: Ragged) -> Tensor:
        """(texts, classes) logits."""
        if self.first is None:
            states = padded_states(self.backbone, texts)
        else:
            states = packed_states(self.backbone, texts, self.first)
        starts = texts.lengths.cumsum(0) - texts.lengths
        if self.pooling == "cls":
            pooled = states[starts]
        else:
            of_text = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), texts.lengths)
            sums = states.new_zeros(len(starts), states.shape[1]).index_add(0, of_text, states)
            pooled = sums / texts.lengths[:, None]
        logits: Tensor = self.head(pooled)
        return logits


def padded_states(backbone: nn.Module, texts: Ragged) -> Tensor:
    """(tokens, width): the state of each token, from one text a row."""
    tokens, mask = padded(texts)
    states: Tensor = backbone(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
    return states[mask]


def packed_states(backbone: nn.Module, texts: Ragged, first: int) -> Tensor:
    """As `padded_states`, from rows of several texts, none of which attends to another. A batch of short texts, half of
    which would be padding, takes two thirds of the time."""
    rows = packed(texts)
    same = rows.text[:, None, :, None] == rows.text[:, None, None, :]
    mask = torch.zeros(same.shape, device=same.device).masked_fill(~same, torch.finfo(torch.float32).min)
    states: Tensor = backbone(
        input_ids=rows.tokens, attention_mask=mask, position_ids=rows.position + first
    ).last_hidden_state
    return states.flatten(0, 1)[rows.place]


@torch.no_grad()
def first_position(backbone: nn.Module, vocabulary: int, pad: int | None) -> int | None:
    """The position that a text's first token has in this model, 0 or, in RoBERTa's kin, the one behind the padding's
    index; found by computing a few texts in both ways. None where packed texts come out different, or not at all, as of
    models with relative positions."""
    known = [token for token in range(min(vocabulary, 50)) if token != pad]
    texts = ragged([[known[(7 * i + n) % len(known)] for i in range(n)] for n in (5, 11, 3, 17)])
    expected = padded_states(backbone, texts)
    for first in dict.fromkeys((0, (pad or 0) + 1)):
        try:
            found = packed_states(backbone, texts, first)
        except Exception:  # noqa: S112 (each architecture has its own way of not taking such a mask)
            continue
        if torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())):
            return first
    return None


class SequenceClassifier(nn.Module):
    """A classifier of the transformers library, with its own head, the last linear layer that has its labels."""

    def __init__(self, backbone: nn.Module, head: str) -> None:
        super().__init__()
        self.backbone = backbone
        name = f"backbone.{head}"
        places = [(f"{name}.weight", 0)]
        if self.get_submodule(name).bias is not None:
            places.append((f"{name}.bias", 0))
        self.structure = Structure(axes={"classes": tuple(places)}, head=(name,))

    def forward(self, texts: Ragged) -> Tensor:
        """As `TextEncoder.forward`."""
        tokens, mask = padded(texts)
        logits: Tensor = self.backbone(input_ids=tokens, attention_mask=mask.long()).logits
        return logits


class Transformers:
    """The base source `nlp.transformers`."""

    def __init__(self, options: options.Transformers) -> None:
        self._options = options

    def load(self) -> Base:
        """Raises `BaseError` where the model or its tokenizer is not to be had, is none for text, or lacks weights."""
        name = self._options.name
        folder = hub.located(name, self._options.revision)
        with _quiet():
            config = _config(folder, name)
            read = _model(folder, name, config, self._options.pooling)
            tokenizer = _tokenizer(folder, name)
        longest = _longest(folder, config, tokenizer)
        return Base(
            read.model,
            digest(read.model.state_dict()),
            spdx(card(folder).get("license")),
            _origin(name, folder),
            {
                "task": {
                    "tokenizer": pack(tokenizer.backend_tokenizer),
                    "longest": longest,
                    "labels": read.labels,
                    **read.brings,
                }
            },
            fresh=read.fresh,
            notes=read.notes,
        )


def card(folder: Path) -> Mapping[str, Any]:
    """The front matter of a model's README.md, empty where there is none that can be read."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        found = re.match(r"\s*---\s*\n(.*?)\n---", text, re.DOTALL)
        content = yaml.safe_load(found[1]) if found else {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _origin(name: str, folder: Path) -> str:
    commit = folder.name if folder.parent.name == "snapshots" else ""
    return f"{name}@{commit}" if commit else name


def _config(folder: Path, name: str) -> Any:
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise BaseError(
            f"{name!r} is no transformers model: {folder} has no config.json, it has {there}",
            "give the folder that `save_pretrained` or `hf download` wrote",
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseError(
            f"{name!r}: {folder / 'config.json'} cannot be read: {_first_line(error)}",
            "models whose code is not in the transformers library are not loaded; else restore the file",
        ) from error


class Read(NamedTuple):
    """The wrapped model, its labels, what makes a new one of the same structure, what a user should know, and what else
    it brings for the task."""

    model: nn.Module
    labels: list[str]
    fresh: Callable[[], nn.Module]
    notes: list[str]
    brings: Mapping[str, JSON] = {}


def _model(folder: Path, name: str, config: Any, pooling: str | None) -> Read:
    import transformers

    classifies = any(a.endswith("ForSequenceClassification") for a in config.architectures or ())
    classifies = classifies and config.num_labels > 1
    writes = bool(getattr(config, "is_encoder_decoder", False)) and not classifies
    auto: Any = transformers.AutoModel
    if classifies or writes:
        auto = (
            transformers.AutoModelForSequenceClassification
            if classifies
            else transformers.AutoModelForSeq2SeqLM
        )
    try:
        model, info = auto.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below, which the library's own error does not do
        )
    except Exception as error:  # the library, safetensors and pickle have many
        raise BaseError(
            f"{name!r}: the weights in {folder} cannot be loaded: {_first_line(error)}",
            "the folder should have model.safetensors as `save_pretrained` writes it",
        ) from error
    pooled = bool(getattr(model, "pooler", None)) and not classifies
    wrong = [
        *((key, f"missing: {key}") for key in sorted(info["missing_keys"])),
        *(
            (key, f"of another shape: {key} is {tuple(found)}, and {tuple(expected)} in the configuration")
            for key, found, expected in sorted(info["mismatched_keys"])
        ),
    ]
    wrong = [(key, line) for key, line in wrong if not (pooled and key.startswith("pooler."))]
    if wrong:
        raise BaseError(
            f"{name!r}: the weights in {folder} do not fill {type(model).__name__}:"
            + "".join(f"\n  - {line}" for _, line in wrong),
            "restore the file, or use the folder of the whole model",
        )
    notes = []
    if info["unexpected_keys"]:
        names = ", ".join(sorted(info["unexpected_keys"]))
        notes.append(f"the file's tensors that {type(model).__name__} has no place for are left out: {names}")

    def new() -> Any:
        return auto.from_config(config, dtype=torch.float32)  # else in the type that the file was saved in

    if classifies:
        head = _head(model, config.num_labels, name)
        labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        return Read(
            SequenceClassifier(model, head),
            labels,
            lambda: SequenceClassifier(new(), head),
            notes,
        )
    if writes:
        return Read(
            Seq2Seq(model), [], lambda: Seq2Seq(new()), notes, {"decoder": _tokens_of_decoder(model, name)}
        )
    if not hasattr(config, "hidden_size"):
        raise BaseError(
            f"{name!r} is a {config.model_type}, no text encoder",
            "use an encoder, such as BERT, MiniLM or RoBERTa",
        )
    way = pooling or _pooling(folder)

    def bare(backbone: Any) -> Any:
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # trained for another task, and not used here
        return backbone

    first = first_position(bare(model).eval(), config.vocab_size, config.pad_token_id)

    def wrap(backbone: Any) -> TextEncoder:
        return TextEncoder(bare(backbone), config.hidden_size, way, first)

    return Read(wrap(model), [], lambda: wrap(new()), notes)


def _tokens_of_decoder(model: Any, name: str) -> dict[str, int]:
    """The tokens with which what the decoder reads begins and is filled up."""
    start = model.generation_config.decoder_start_token_id
    if start is None:
        raise BaseError(
            f"{name!r} does not say with which token its decoder begins",
            "set decoder_start_token_id in its config.json or generation_config.json",
        )
    pad = model.generation_config.pad_token_id
    return {"start": int(start), "pad": int(start if pad is None else pad)}


def _head(model: nn.Module, labels: int, name: str) -> str:
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == labels]
    if not linear:
        raise BaseError(
            f"{name!r}: {type(model).__name__} has no linear layer with {labels} outputs to be its head",
            "use the encoder it was made from",
        )
    return str(linear[-1])


def _pooling(folder: Path) -> str:
    """As sentence-transformers' `1_Pooling/config.json` says; the mean where there is none."""
    try:
        config = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "mean"
    return "cls" if config.get("pooling_mode_cls_token") is True else "mean"


def _tokenizer(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    hint = "put the model's tokenizer.json beside its config.json"
    there = (
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
    )
    if not any((folder / file).is_file() for file in there):
        raise BaseError(f"{name!r} has no tokenizer: {folder} has neither of {', '.join(there)}", hint)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        raise BaseError(
            f"{name!r}: the tokenizer in {folder} cannot be read: {_first_line(error)}", hint
        ) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise BaseError(
            f"{name!r}: its tokenizer, {type(tokenizer).__name__}, has no fast form (tokenizer.json)", hint
        )
    return tokenizer


def _longest(folder: Path, config: Any, tokenizer: Any) -> int:
    """How many tokens the model reads at most."""
    found = [int(tokenizer.model_max_length)] if tokenizer.model_max_length < 1_000_000 else []
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET else 0
        found.append(positions - offset)
    return min(found, default=512)


_OFFSET = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "mpnet",
           "longformer", "ibert", "xmod"}  # fmt: skip
"""Models whose positions are counted from behind the padding's index."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' progress bars and reports: what matters is said here."""
    from transformers.utils import logging as library

    before = library.get_verbosity()
    library.set_verbosity_error()  # type: ignore[no-untyped-call]
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with hub.quiet():
            yield
    finally:
        library.set_verbosity(before)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
