"""The task: states, examples, loss, predictions, and what a user types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from core.contract import Base, Row
from core.errors import DataError
from plugins.recommendation import options
from plugins.recommendation.tasks import NONE, Recommend, State
from tests.conftest import Always

STATE: State = {"items": ["os", "re", "sys", "json"]}


def row(*history: str, target: str | None = None) -> Row:
    return Row({"user": "u", "history": list(history)}, target)


def test_new_items_follow_the_bases_and_the_model_grows_for_them(
    task: Recommend, base: Base, base_state: State, splits: Mapping[str, Sequence[Row]]
) -> None:
    """Modules that the base never saw are among the 40 files; the edit says how many there are then."""
    state = task.fit(splits["train"], base.preprocessing["task"])
    known = len(base_state["items"])
    new = state["items"][known:]
    assert state["items"][:known] == base_state["items"]
    assert "test" in new
    assert new == sorted(new)
    (edit,) = task.edits(base.model, state)
    assert edit == {"edit": "grow", "axis": "items", "to": len(state["items"]), "init": "zero"}
    assert task.edits(base.model, base_state) == []


def test_what_the_state_does_not_list_is_left_out(task: Recommend, rng: torch.Generator) -> None:
    """Of a history, and as a target: such an example is predicted, without a rank."""
    examples = [task.encode(row("sys", "numpy", target="re"), STATE), task.encode(row(target="numpy"), STATE)]
    batch = task.collate(examples, rng)
    assert batch["histories"].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert batch["targets"].tolist() == [[1], [NONE]]
    first, second = task.predict(Always(torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 2)), batch, STATE)
    assert first == {"recommended": {"json": 0.4, "re": 0.2, "os": 0.1}, "rank": 2}
    assert list(second) == ["recommended"]
    assert list(second["recommended"]) == ["json", "sys", "re", "os"]


def test_the_loss_is_the_squared_error_a_user(task: Recommend, rng: torch.Generator) -> None:
    """A sum over users and items, and the number of users, so that batches add up."""
    batch = task.collate([task.encode(row("os"), STATE), task.encode(row("re", "sys"), STATE)], rng)
    total, weight = task.loss(torch.full((2, 4), 0.5), batch)
    assert (float(total), weight) == (2.0, 2.0)


def test_modules_may_be_typed(task: Recommend) -> None:
    """With blanks and repetitions; nothing at all is an empty history."""
    typed, nothing = task.parse([" sys, os,sys ,", ""], STATE)
    assert typed.inputs["history"] == ["os", "sys"]
    assert typed.target is None
    assert nothing.inputs["history"] == []


def test_a_file_may_be_pointed_at(task: Recommend, tmp_path: Path) -> None:
    """What it imports and the model does not know is left out: files may import anything."""
    path = tmp_path / "mine.py"
    path.write_text("import numpy, os\nfrom json import loads\n", encoding="utf-8")
    (found,) = task.parse([str(path)], STATE)
    assert found.inputs["history"] == ["json", "os"]


def test_unknown_modules_are_refused_with_what_comes_nearest(task: Recommend) -> None:
    """All of them at once."""
    with pytest.raises(DataError, match="does not know 'jsn', 'syss'") as caught:
        task.parse(["os,syss,jsn"], STATE)
    assert "'jsn': did you mean 'json'?" in caught.value.hint
    assert "'syss': did you mean 'sys'?" in caught.value.hint


def test_files_that_cannot_be_read_are_refused(task: Recommend, tmp_path: Path) -> None:
    """Missing ones, and those that are no Python, with the place where it stops being Python."""
    with pytest.raises(DataError, match="there is no such file"):
        task.parse([str(tmp_path / "none.py")], STATE)
    path = tmp_path / "broken.py"
    path.write_text("import (", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected Python source: .*\(broken\.py, line 1\)"):
        task.parse([str(path)], STATE)


def test_a_file_without_permission_is_refused(
    task: Recommend, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One of Python, and one of items; pytest's own folder is closed to others."""
    request.getfixturevalue("as_nobody")
    for text in (f"{tmp_path}/mine.py", f"@{tmp_path}/mine.txt"):
        with pytest.raises(DataError, match=r"cannot be read.*Permission denied") as caught:
            task.parse([text], STATE)
        assert caught.value.hint


ITEMS: State = {"items": ["a film, long", "heat", "10", "casino"]}


@pytest.fixture
def of_items() -> Recommend:
    """The task as it is without options: for items of one's own."""
    return Recommend(options.Recommend())


def test_items_of_ones_own_may_be_typed(of_items: Recommend) -> None:
    """A name with a comma is itself; a path is no item."""
    found = of_items.parse(["heat, 10", "a film, long", ""], ITEMS)
    assert [row.inputs["history"] for row in found] == [["10", "heat"], ["a film, long"], []]
    with pytest.raises(
        DataError, match=r"expected @FILE, or items .* does not know 'het', 'mine.py'"
    ) as caught:
        of_items.parse(["het,mine.py"], ITEMS)
    assert "'het': did you mean 'heat'?" in caught.value.hint


def test_of_a_large_catalogue_a_message_shows_a_part(of_items: Recommend) -> None:
    """And how many there are."""
    with pytest.raises(DataError) as caught:
        of_items.parse(["zz"], {"items": [f"item{i}" for i in range(5000)]})
    assert "among the 5000 it knows" in caught.value.hint
    assert len(caught.value.hint) < 500


def test_items_may_stand_in_a_file(of_items: Recommend, tmp_path: Path) -> None:
    """One a line; what the model does not know is left out, as long as it knows something."""
    path = tmp_path / "mine.txt"
    path.write_text("heat\n\n a film, long \nnever heard of\n", encoding="utf-8")
    (found,) = of_items.parse([f"@{path}"], ITEMS)
    assert found.inputs["history"] == ["a film, long", "heat"]
    path.write_text("nothing\nof this\n", encoding="utf-8")
    with pytest.raises(DataError, match="knows none of its 2 lines as an item; the first is 'nothing'"):
        of_items.parse([f"@{path}"], ITEMS)
    with pytest.raises(DataError, match=r"none.txt cannot be read"):
        of_items.parse([f"@{tmp_path / 'none.txt'}"], ITEMS)


def test_a_file_of_items_may_lie_at_home(
    of_items: Recommend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command line writes the `~` behind an `@` out."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.txt").write_text("heat\n", encoding="utf-8")
    (found,) = of_items.parse(["@~/mine.txt"], ITEMS)
    assert found.inputs["history"] == ["heat"]


def test_several_targets_stay_several(of_items: Recommend, rng: torch.Generator) -> None:
    """Beside rows with fewer, with one that is no list, and with none; one that is unknown has no rank."""
    rows = [row("10", target=["heat", "unknown"]), row(target="casino"), row("heat"), row(target=["10"])]  # type: ignore[arg-type]
    batch = of_items.collate([of_items.encode(one, ITEMS) for one in rows], rng)
    assert batch["histories"].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    found = of_items.predict(Always(torch.tensor([[4.0, 3.0, 2.0, 1.0]] * 4)), batch, ITEMS)
    assert [one.get("ranks") for one in found] == [[2, None], None, None, [3]]
    assert [one.get("rank") for one in found] == [None, 4, None, None]


def test_examples_hold_what_the_user_has_and_no_more(of_items: Recommend) -> None:
    """However large the catalogue; so any number of users can be held or streamed."""
    state: State = {"items": [f"item{i}" for i in range(100_000)]}
    example = of_items.encode(row("item7", "item99999", target=["item3"]), state)  # type: ignore[arg-type]
    assert example.history.tolist() == [7, 99999]
    assert example.history.nbytes + example.targets.nbytes == 24
