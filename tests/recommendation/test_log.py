"""Logs as users have them: columns, formats, what counts, and each bad input."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from core.errors import DataError, DataWarning
from plugins.recommendation import options
from plugins.recommendation.interactions import Interactions
from plugins.recommendation.learned import Learned
from plugins.recommendation.log import columns, read


def log(path: Path, **chosen: Any) -> options.Log:
    return options.Log(path=str(path), **{"min_user_items": 1, **chosen})


def pairs(path: Path, **chosen: Any) -> list[tuple[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        found = read(log(path, **chosen), "new")
    return [(found.users[u], found.items[i]) for u, i in zip(found.user, found.item, strict=True)]


SMALL = [["ann", "x", 5, 30], ["bob", "y", 2, 20], ["ann", "y", 4, 10], ["bob", "x", 4, 40]]


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["userId", "movieId", "rating", "timestamp"], ("userId", "movieId", "rating", "timestamp")),
        (["USER_ID", "Item ID", "Stars", "created_at"], ("USER_ID", "Item ID", "Stars", "created_at")),
        (
            ["asin", "reviewer-id", "overall", "unixReviewTime"],
            ("reviewer-id", "asin", "overall", "unixReviewTime"),
        ),
        (["customer", "sku", "colour", "size"], ("customer", "sku", None, None)),
    ],
)
def test_columns_are_known_by_the_names_that_they_have_elsewhere(
    tmp_path: Path, logs: Any, names: list[str], taken: tuple[str | None, ...]
) -> None:
    """In any case and with any signs between words; what is called otherwise is left alone."""
    found = columns(log(logs.write(tmp_path / "log.csv", names, SMALL)))
    assert (found.user, found.item, found.rating, found.time) == taken


def test_the_dataset_says_which_columns_it_took(tmp_path: Path, logs: Any) -> None:
    """And says nothing where the recipe names them."""
    path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers())
    with pytest.warns(
        DataWarning, match="took 'reader' as user, 'book' as item, 'stars' as rating, 'when' as time"
    ):
        Interactions(options.Interactions(path=str(path))).rows()
    named = {"user": "reader", "item": "book", "rating": "stars", "time": "when"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        Interactions(options.Interactions(path=str(path), **named)).rows()


def test_every_format_gives_the_same_log(tmp_path: Path, logs: Any) -> None:
    """CSV, TSV, JSON lines, Parquet, and numbers as names."""
    rows = [[1, 10, 5.0], [1, 20, 3.0], [2, 10, 4.0], [2, 30, 4.0]]
    names = ["user", "item", "rating"]
    logs.write(tmp_path / "log.csv", names, rows)
    text = "\n".join("\t".join(map(str, row)) for row in [names, *rows]) + "\n"
    (tmp_path / "log.tsv").write_text(text, encoding="utf-8")
    lines = (json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    (tmp_path / "log.jsonl").write_text("".join(lines), encoding="utf-8")
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})
    pa.parquet.write_table(table, tmp_path / "log.parquet")
    found = {kind: pairs(tmp_path / f"log.{kind}") for kind in ("csv", "tsv", "jsonl", "parquet")}
    assert found["csv"] == [("1", "10"), ("1", "20"), ("2", "10"), ("2", "30")]
    assert all(other == found["csv"] for other in found.values())


def test_a_users_items_stand_in_order_of_time(tmp_path: Path, logs: Any) -> None:
    """Whatever the order of the file; without times, in the file's."""
    path = logs.write(tmp_path / "log.csv", ["user", "item", "rating", "time"], SMALL)
    assert pairs(path) == [("ann", "y"), ("ann", "x"), ("bob", "y"), ("bob", "x")]
    assert pairs(path, time=False) == [("ann", "x"), ("ann", "y"), ("bob", "y"), ("bob", "x")]


def test_of_a_repeated_item_the_latest_counts_and_that_is_said(tmp_path: Path, logs: Any) -> None:
    """Its rating too: who liked a thing and does no longer has no positive."""
    rows = [*SMALL, ["ann", "x", 1, 50]]
    path = logs.write(tmp_path / "log.csv", ["user", "item", "rating", "time"], rows)
    with pytest.warns(
        DataWarning, match=r"1 of 5 rows repeat a user's item, as that of line 2; of each pair the"
    ):
        found = read(log(path), "new")
    assert found.rating is not None
    assert sorted(found.rating.tolist()) == [1, 2, 4, 4]
    assert ("ann", "x") not in pairs(path, min_rating=3)


def test_users_with_too_few_items_go_and_are_named(tmp_path: Path, logs: Any) -> None:
    """Counted after ratings; and items with too few users, which may starve users again."""
    rows = [["a", "x"], ["a", "y"], ["a", "z"], ["b", "x"], ["b", "y"], ["c", "z"], ["d", "w"]]
    path = logs.write(tmp_path / "log.csv", ["user", "item"], rows)
    with pytest.warns(DataWarning, match=r"2 of 4 users have fewer than 2 items that count, .*: 'c', 'd'"):
        found = read(log(path, min_user_items=2), "new")
    assert found.users == ["a", "b"]
    assert pairs(path, min_user_items=2, min_item_users=2) == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


def test_the_base_and_the_new_task_share_no_user(tmp_path: Path, logs: Any) -> None:
    """The two sides and `retain` are all users, once each; other filters move nobody from one to another."""
    path = logs.write(tmp_path / "log.csv", logs.header(), logs.readers(200))
    shares = {"base_users": 0.5, "retain_users": 0.2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        sides = [set(read(log(path, **shares), side).users) for side in ("base", "retain", "new")]
        liked = [
            set(read(log(path, min_rating=4, **shares), side).users) for side in ("base", "retain", "new")
        ]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 200
    assert [len(side) for side in sides] == pytest.approx([80, 20, 100], abs=20)
    assert all(some <= side for some, side in zip(liked, sides, strict=True))


def refused(path: Path, match: str, **chosen: Any) -> DataError:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with pytest.raises(DataError, match=match) as caught:
            Interactions(options.Interactions(path=str(path), **chosen)).rows()
    assert caught.value.hint
    return caught.value


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path, logs: Any) -> None:
    """Guessed or given."""
    path = logs.write(tmp_path / "log.csv", ["who", "what"], [["a", "x"]])
    error = refused(path, r"none of its columns \('who', 'what'\) is called as columns of users are")
    assert "data.user=" in error.hint
    refused(path, "has no column 'wha'; its columns are 'who', 'what'", user="who", item="wha")
    refused(path, r"named twice \(user: who, item: who\)", user="who", item="who")
    refused(path, r"none of its other columns \('what'\) is called as columns of items are", user="who")


def test_names_that_differ_in_spaces_alone_are_told(tmp_path: Path, logs: Any) -> None:
    """They count as two, which is most often a mistake."""
    rows = [[user, item] for user in "abcdef" for item in ("x", "x ", "y", "z")]
    path = logs.write(tmp_path / "log.csv", ["user", "item"], rows)
    with pytest.warns(DataWarning) as told:
        Interactions(options.Interactions(path=str(path))).rows()
    said = [str(one.message) for one in told]
    assert any("items that differ in spaces alone: 1, as 'x ' and 'x'" in line for line in said), said


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf"])
def test_a_rating_that_is_no_finite_number_is_refused_with_its_line(
    tmp_path: Path, logs: Any, value: str
) -> None:
    """As well as its column."""
    rows = [["a", "x", 1], ["a", "y", 2], ["b", "x", value]]
    refused(logs.write(tmp_path / "log.csv", ["user", "item", "rating"], rows), "line 4, column 'rating'")


def test_a_rating_that_is_a_word_is_refused_with_its_line(tmp_path: Path, logs: Any) -> None:
    """And the word is shown."""
    rows = [["a", "x", 1], ["a", "y", "good"]]
    refused(
        logs.write(tmp_path / "log.csv", ["user", "item", "rating"], rows),
        "line 3, column 'rating': is 'good'",
    )


def test_a_missing_user_or_item_is_refused_with_its_line(tmp_path: Path, logs: Any) -> None:
    """An empty cell is no name."""
    refused(
        logs.write(tmp_path / "log.csv", ["user", "item"], [["a", "x"], ["", "y"]]), "line 3, column 'user'"
    )
    refused(
        logs.write(tmp_path / "log.csv", ["user", "item"], [["a", "x"], ["b", ""]]), "line 3, column 'item'"
    )


def test_an_empty_file_is_refused(tmp_path: Path, logs: Any) -> None:
    """Without a byte, or with a header alone."""
    path = tmp_path / "log.csv"
    path.write_text("", encoding="utf-8")
    refused(path, "is empty")
    refused(logs.write(path, ["user", "item"], []), "no rows")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """By its name."""
    refused(tmp_path / "none.csv", r"none\.csv")


def test_a_path_may_begin_at_home(tmp_path: Path, logs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dataset's and the base's; the home of somebody who has none is refused."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path / "cache"))
    logs.write(tmp_path / "log.csv", ["user", "item"], [["a", "x"], ["a", "y"], ["b", "x"], ["b", "y"]])
    assert len(pairs(Path("~/log.csv"))) == 4
    base = Learned(options.Learned(path="~/log.csv", penalties=[10.0])).load()
    assert base.preprocessing["task"]["items"] == ["x", "y"]
    refused(Path("~nobody-of-that-name/log.csv"), "no such home folder")


@pytest.mark.parametrize("closed", ["log.csv", "."])
def test_a_file_or_folder_without_permission_is_refused(
    tmp_path: Path, logs: Any, request: pytest.FixtureRequest, closed: str
) -> None:
    """With what to do about it, by the dataset and by the base."""
    folder = Path(tempfile.mkdtemp())  # pytest's own are closed to others
    path = logs.write(folder / "log.csv", logs.header(), logs.readers())
    request.addfinalizer(lambda: shutil.rmtree(folder))
    request.addfinalizer(lambda: folder.chmod(0o700))
    folder.chmod(0o755)
    (folder / closed).chmod(0)
    request.getfixturevalue("as_nobody")
    assert "chmod" in refused(path, r"log\.csv may not be read: no permission").hint
    with pytest.raises(DataError, match="no permission"):
        Learned(options.Learned(path=str(path))).load()


def test_one_user_and_one_item_are_refused(tmp_path: Path, logs: Any) -> None:
    """There is nothing to tell apart."""
    refused(
        logs.write(tmp_path / "log.csv", ["user", "item"], [["a", "x"], ["a", "y"]]), "one user alone, 'a'"
    )
    refused(
        logs.write(tmp_path / "log.csv", ["user", "item"], [["a", "x"], ["b", "x"]]), "one item alone, 'x'"
    )


def test_filters_that_leave_nothing_are_refused_with_what_there_is(tmp_path: Path, logs: Any) -> None:
    """The largest rating, the most items of a user."""
    path = logs.write(tmp_path / "log.csv", ["user", "item", "rating", "time"], SMALL)
    refused(path, r"none of 4 ratings is 6 or more; they go from 2 to 5", min_rating=6)
    refused(
        path, r"no user has 3 items .*; of the 2 users here the one with the most has 2", min_user_items=3
    )
    refused(path, "no column of ratings", min_rating=3, rating=False)


def test_a_user_without_any_item_left_is_refused_counted_and_named(tmp_path: Path, logs: Any) -> None:
    """Of one who has a single item, nothing is left once it is held out."""
    rows = [*logs.readers(20, rated=False, timed=False), ["zoe", "book01"], ["yan", "book02"]]
    path = logs.write(tmp_path / "log.csv", ["user", "item"], rows)
    error = refused(path, r"2 of 22 users have a single item .* held out: 'yan', 'zoe'", min_user_items=1)
    assert "min_user_items=2" in error.hint


def test_shares_that_leave_a_side_without_users_are_refused(tmp_path: Path, logs: Any) -> None:
    """With the share that did it."""
    path = logs.write(tmp_path / "log.csv", ["user", "item", "rating", "time"], SMALL)
    refused(path, r"of 2 users, none is there to adapt to \(base_users 0.999", base_users=0.999)


def test_reading_is_quick_and_keeps_little(tmp_path: Path, logs: Any) -> None:
    """Names once, each interaction in a few numbers; `benchmarks/endtoend/interactions.py` has the figures."""
    rng = np.random.RandomState(0)
    rows = np.stack([rng.randint(2000, size=50_000), rng.randint(500, size=50_000)], 1).tolist()
    path = logs.write(tmp_path / "log.csv", ["user", "item"], rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        found = read(log(path), "new")
    assert found.item.dtype == np.int32
    assert found.item.nbytes + found.offsets.nbytes < 8 * len(rows)
    assert len(found) == len({tuple(row) for row in rows})
