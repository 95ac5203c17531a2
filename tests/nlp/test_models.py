"""The transformer, and the base that comes with the plugin."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence

import pytest
import torch

from core.contract import JSON, Base, Row, Split
from core.evidence.scores import score
from core.inference import predict
from plugins.nlp.models import BASES, LanguageModel
from plugins.nlp.tasks import LanguageModelling


@pytest.fixture
def model() -> LanguageModel:
    """A tiny one, with blocks that add something."""
    torch.manual_seed(0)
    made = LanguageModel(vocabulary=20, width=16, layers=2, heads=2).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def test_no_logit_depends_on_a_later_token(model: LanguageModel) -> None:
    """Changing token 5 changes logits from there on, and none before."""
    tokens = torch.randint(20, (1, 9))
    other = tokens.clone()
    other[0, 5] = (other[0, 5] + 1) % 20
    before, after = model(tokens), model(other)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(dim=2).all()


def test_attention_knows_the_order_of_tokens() -> None:
    """Without positions, one block would see the past as a bag of tokens."""
    torch.manual_seed(0)
    model = LanguageModel(vocabulary=20, width=16, layers=1, heads=2).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    one, other = model(torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]]))[:, -1]
    assert not torch.allclose(one, other, atol=1e-3)


def test_fresh_blocks_add_nothing() -> None:
    """The output layers of a block start at zero."""
    fresh = LanguageModel(vocabulary=20, width=16, layers=1, heads=2)
    x = torch.randn(1, 3, 16)
    assert torch.equal(fresh.blocks[0](x, fresh.cos[:3], fresh.sin[:3]), x)


def test_the_base_is_small(base: Base) -> None:
    """At most 1.4 million parameters, and 3 MB on disk."""
    assert sum(parameter.numel() for parameter in base.model.parameters()) <= 1_400_000
    assert (BASES / "docstrings.safetensors").stat().st_size <= 3_000_000


def test_the_base_scores_what_its_card_says(
    base: Base, task: LanguageModelling, state: JSON, splits: Mapping[str, Sequence[Row]]
) -> None:
    """On the held-out docstrings of the Python it was trained with."""
    card = json.loads((BASES / "docstrings.json").read_text())
    if card["data"]["python"] != platform.python_version():
        pytest.skip(f"the card was written with Python {card['data']['python']}, whose docstrings are others")
    rows = splits["retain"]
    split = Split("retain", rows, [task.encode(row, state) for row in rows], state)
    found = score(task.metrics()[0], predict(task, base.model, split, torch.device("cpu"), 32))
    assert found == pytest.approx(card["score"]["bits_per_byte on held-out docstrings"], abs=2e-4)
