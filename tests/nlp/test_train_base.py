"""Training the base, on a text of a few lines."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.contract import Row
from plugins.nlp import train_base
from plugins.nlp.tokenizer import Tokenizer

TEXT = "".join(f"Return the {word} of line {i}.\n" for i in range(40) for word in ("first", "second", "last"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps of a tiny model."""
    for name, value in {
        "ARCHITECTURE": {"vocabulary": 280, "width": 16, "layers": 1, "heads": 2, "dropout": 0.1},
        "STEPS": 4,
        "HOLD": 2,
        "WARMUP": 2,
        "EVERY": 2,
        "TOKENS": 16,
    }.items():
        monkeypatch.setattr(train_base, name, value)
    monkeypatch.setattr(train_base, "docstrings", lambda held_out: [("a.py", TEXT)])
    monkeypatch.setattr(train_base, "_held_out_rows", lambda: [Row({"text": TEXT[:200]})])


def trained(folder: Path, checkpoint: Path | None = None) -> dict[str, torch.Tensor]:
    options = Namespace(workers=1, compile=False, checkpoint=checkpoint, out=folder)
    train_base.work(0, options, str(folder))
    return load_file(folder / "docstrings.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("small")
def test_training_twice_gives_the_same_base(tmp_path: Path) -> None:
    """To the bit, and kept in bfloat16."""
    one, other = trained(tmp_path / "one"), trained(tmp_path / "other")
    assert same(one, other)
    assert {tensor.dtype for tensor in one.values()} == {torch.bfloat16}


@pytest.mark.usefixtures("small")
def test_an_interrupted_training_continues_to_the_same_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the checkpoint at step 2, it ends where an undisturbed one does."""
    whole = trained(tmp_path / "whole")
    add = train_base.batch

    def stop_at_step_three(text: str, starts: list[int], tokenizer: Tokenizer, key: int) -> torch.Tensor:
        if key >= 3 * train_base.SHARDS:
            raise KeyboardInterrupt
        return add(text, starts, tokenizer, key)

    monkeypatch.setattr(train_base, "batch", stop_at_step_three)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "half", tmp_path / "checkpoint")
    monkeypatch.setattr(train_base, "batch", add)
    assert same(trained(tmp_path / "half", tmp_path / "checkpoint"), whole)


def test_windows_begin_at_lines_and_run_on_at_the_end() -> None:
    """Every window begins with `bos` and a whole line, also one that begins at the last."""
    tokenizer = Tokenizer([])
    starts = [0, len(TEXT) - 10]
    rows = train_base.batch(TEXT, starts, tokenizer, 0).tolist()
    assert {row[0] for row in rows} == {tokenizer.bos}
    ring = TEXT + TEXT
    assert {tokenizer.decode(row[1:]) for row in rows} == {ring[s : s + train_base.TOKENS] for s in starts}
