"""Transforms of text."""

from __future__ import annotations

import torch

from core.contract import Row
from plugins.nlp.options import CropOptions
from plugins.nlp.transforms import Crop

TEXT = "".join(f"line {i} of it\n" for i in range(50))


def test_a_crop_is_a_run_of_whole_lines_short_enough(rng: torch.Generator) -> None:
    """As many as fit, and over many draws from the first line to the last."""
    crop = Crop(CropOptions(bytes=100))
    pieces = {crop.apply(Row({"text": TEXT}), None, rng).inputs["text"] for _ in range(500)}
    for piece in pieces:
        assert piece in TEXT
        assert piece.startswith("line")
        assert piece.endswith("\n")
        assert 85 < len(piece) <= 100
    assert any(TEXT.startswith(piece) for piece in pieces)
    assert any(TEXT.endswith(piece) for piece in pieces)


def test_a_short_text_stays_as_it_is(rng: torch.Generator) -> None:
    """There is nothing to choose."""
    assert Crop(CropOptions()).apply(Row({"text": TEXT[:300]}), None, rng).inputs["text"] == TEXT[:300]


def test_the_generator_alone_decides() -> None:
    """The same numbers, the same piece."""
    crop, row = Crop(CropOptions(bytes=64)), Row({"text": TEXT})
    one, other = (crop.apply(row, None, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one == other
