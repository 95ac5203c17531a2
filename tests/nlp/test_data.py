"""Python's own text as a dataset."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.contract import Row
from core.errors import DataError
from plugins.nlp import data
from plugins.nlp.data import Reference, docstrings, help_topics, windows
from plugins.nlp.options import ReferenceOptions

Splits = Mapping[str, Sequence[Row]]


def text_of(rows: Sequence[Row]) -> str:
    return "".join(row.inputs["text"] for row in rows)


@given(st.text(), st.integers(16, 64))
def test_windows_are_short_enough_and_lose_nothing(text: str, size: int) -> None:
    """Put together, the windows of a text are the text; none is empty or longer than allowed."""
    pieces = list(windows(text, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode()) <= size for piece in pieces)


def test_windows_are_whole_lines_as_long_as_they_fit() -> None:
    """Lines are cut only where one alone is too long."""
    assert list(windows("12345\n789\n1\n", 10)) == ["12345\n789\n", "1\n"]
    assert list(windows("ab\n" + "x" * 9 + "\n", 8)) == ["ab\nxx", "xxxxxxx\n"]


def test_topics_are_whole_and_stand_in_one_split(splits: Splits) -> None:
    """Every help topic is in exactly one of train, select and report, complete."""
    topics = help_topics()
    found: dict[str, str] = {}
    for name in ("train", "select", "report"):
        for row in splits[name]:
            assert row.group is not None
            found[row.group] = found.get(row.group, "") + row.inputs["text"]
    assert found == topics


def test_splits_have_the_sizes_asked_for(splits: Splits) -> None:
    """As much as whole topics allow, and never more."""
    assert 95_000 < len(text_of(splits["train"]).encode()) <= 100_000
    assert 45_000 < len(text_of(splits["select"]).encode()) <= 50_000


def test_no_paragraph_stands_in_two_splits(splits: Splits) -> None:
    """The help topics repeat each other; what is left of them does not."""
    seen: dict[str, str] = {}
    for name in ("train", "select", "report"):
        topics = {row.group for row in splits[name]}
        for topic, text in help_topics().items():
            for paragraph in text.split("\n\n"):
                content = " ".join(paragraph.split())
                if topic in topics and len(content) >= 40:
                    assert seen.setdefault(content, name) == name


def test_another_draw_is_another_split_of_the_same_topics(splits: Splits) -> None:
    """`draw` belongs to the data: it moves topics, and moves no docstring."""
    other = Reference(ReferenceOptions(draw=1)).rows()
    assert {row.group for row in other["train"]} != {row.group for row in splits["train"]}
    assert list(other["retain"]) == list(splits["retain"])


def test_the_base_and_retain_share_no_file_and_no_text_of_the_new_world() -> None:
    """No docstring shares a run of 48 characters with a help topic, and a file trains or is held out."""
    runs = set().union(*map(data._runs, help_topics().values()))
    held, trained = dict(docstrings(held_out=True)), dict(docstrings(held_out=False))
    assert not held.keys() & trained.keys()
    for text in (*held.values(), *trained.values()):
        assert all(runs.isdisjoint(data._runs(part)) for part in text.split("\n\n"))


def test_a_python_without_help_topics_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is missing and what to do."""
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"pydoc_data\.topics") as caught:
        Reference(ReferenceOptions()).rows()
    assert "use a complete Python" in caught.value.hint


def test_a_python_without_its_sources_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the folder that was read."""
    monkeypatch.setattr(data.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError, match="no source files") as caught:
        Reference(ReferenceOptions()).rows()
    assert str(tmp_path) in caught.value.message
