"""The architecture, the base that comes with the plugin, and the script that trains it."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from core.bases import digest
from core.contract import Base, Row
from core.edits.grow import Grow
from core.errors import BaseError
from core.options import Grow as GrowOptions
from plugins.vision import options, train_base
from plugins.vision.models import BASES, Builtin
from plugins.vision.tasks import Classify


def test_the_base_scores_on_its_own_task_what_its_card_says(
    base: Base, ready: dict[str, list[Row]], task: Classify
) -> None:
    """The images kept out, read with the base's own state."""
    card = json.loads((BASES / "digits-0to7.json").read_text(encoding="utf-8"))
    state = task.fit([], base.preprocessing["task"])
    assert state["labels"] == list("01234567")
    examples = [task.encode(row, state) for row in ready["retain"]]
    batch = task.collate(examples, torch.Generator())
    predictions = task.predict(base.model, batch, state)
    right = [p["label"] == row.target for p, row in zip(predictions, ready["retain"], strict=True)]
    assert card["score"] == {"accuracy on the images kept out": sum(right) / len(right)}


def test_the_base_is_small_and_says_where_it_comes_from() -> None:
    """At most 3 MB, with data, digest, command, score, licence and origin in its card."""
    assert (BASES / "digits-0to7.safetensors").stat().st_size <= 3e6
    card = json.loads((BASES / "digits-0to7.json").read_text(encoding="utf-8"))
    assert {"data", "digest", "command", "score", "licence", "origin", "preprocessing"} <= set(card)


def test_growing_the_classes_keeps_every_old_logit_to_the_bit(
    base: Base, ready: dict[str, list[Row]]
) -> None:
    """The grown model still computes what the base computed."""
    images = torch.stack([row.inputs for row in ready["report"]])
    grow = Grow(GrowOptions(axis="classes", to=10, init="normal"))
    grown = deepcopy(base.model)
    grow.validate(grown)
    grown = grow.apply(grown)
    assert grown(images).shape == (799, 10)
    assert torch.equal(grown(images)[:, :8], base.model(images))


def test_an_unknown_base_is_refused_with_the_nearest_name() -> None:
    """A misspelt name costs one look."""
    with pytest.raises(BaseError, match="no base 'digits-0to8'") as caught:
        Builtin(options.Builtin(name="digits-0to8")).load()
    assert "digits-0to7" in caught.value.hint


def test_training_the_base_again_gives_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever torch's global generator held before."""
    monkeypatch.setattr(train_base, "EPOCHS", 2)
    found = []
    for name in ("one", "other"):
        torch.manual_seed(torch.seed())
        train_base.main(tmp_path / name)
        found.append(json.loads((tmp_path / name / "digits-0to7.json").read_text(encoding="utf-8"))["digest"])
    assert found[0] == found[1]


def test_the_card_was_written_by_the_script_as_it_stands(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Architecture, data and preprocessing of the shipped card are those of the code; weights differ between
    machines."""
    monkeypatch.setattr(train_base, "EPOCHS", 1)
    train_base.main(tmp_path)
    fresh, shipped = (
        json.loads((folder / "digits-0to7.json").read_text(encoding="utf-8")) for folder in (tmp_path, BASES)
    )
    trained = {"digest", "score"}
    assert {k: v for k, v in fresh.items() if k not in trained} == {
        k: v for k, v in shipped.items() if k not in trained
    }
    assert shipped["digest"] == digest(base.model.state_dict())
