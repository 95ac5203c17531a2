"""What the tests of the nlp plugin share: the default data, the base, and the task."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from core.contract import JSON, Base, Row
from plugins.nlp.data import Reference
from plugins.nlp.models import Builtin
from plugins.nlp.options import BuiltinOptions, LanguageModellingOptions, ReferenceOptions
from plugins.nlp.tasks import LanguageModelling


@pytest.fixture
def rng() -> torch.Generator:
    """The same numbers in each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def splits() -> Mapping[str, Sequence[Row]]:
    """The default draw."""
    return Reference(ReferenceOptions()).rows()


@pytest.fixture(scope="session")
def base() -> Base:
    """The base that comes with the plugin, as the core hands it on."""
    loaded = Builtin(BuiltinOptions()).load()
    loaded.model.requires_grad_(False).eval()
    return loaded


@pytest.fixture
def task() -> LanguageModelling:
    return LanguageModelling(LanguageModellingOptions())


@pytest.fixture
def state(task: LanguageModelling, base: Base) -> JSON:
    """The base's tokenizer."""
    return task.fit([], base.preprocessing["task"])


FILLERS = ["a", "the", "this", "is", "was", "very", "film", "soup", "train", "warm", "cold", "rain"]
GOOD, BAD = ["good", "fine", "lovely", "bright"], ["bad", "awful", "dull", "late"]
FILLERS = ["a", "the", "this", "is", "was", "very", "film", "soup", "train", "warm", "cold", "rain"]
GOOD, BAD = ["good", "fine", "lovely", "bright"], ["bad", "awful", "dull", "late"]
WORDS = [*FILLERS, *GOOD, *BAD]
"""What the tiny encoder can read."""


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of one layer, as the transformers library saves it, with a tokenizer and a card."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 (no password)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",  # noqa: S106
        unk_token="[UNK]",  # noqa: S106
        model_max_length=24,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(tiny_config(len(vocabulary))).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# tiny\n")
    return folder


def tiny_config(vocabulary: int, **changes: object) -> object:
    """Of a BERT that is small enough to be trained in a test."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        **changes,
    )


@pytest.fixture
def reviews(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV of `count` little reviews, each good or bad, and no two alike."""

    def write(count: int = 80, name: str = "reviews.csv") -> Path:
        draw = random.Random(0)  # noqa: S311 (nothing here is secret)
        seen: set[str] = set()
        while len(seen) < count:
            good = len(seen) % 2 == 0
            word = draw.choice(GOOD if good else BAD)
            others = draw.choices(FILLERS, k=5)
            others.insert(draw.randrange(6), word)
            seen.add(f"{' '.join(others)},{'good' if good else 'bad'}\n")
        lines = sorted(seen)
        draw.shuffle(lines)
        path = tmp_path / name
        path.write_text("text,label\n" + "".join(lines))
        return path

    return write
