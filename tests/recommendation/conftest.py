"""What the tests of the recommendation plugin share: the default data, the base, the task, and what it knows."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.contract import Base, Row, Split
from plugins.recommendation import options
from plugins.recommendation.data import Imports
from plugins.recommendation.models import Builtin
from plugins.recommendation.tasks import Recommend, State


@pytest.fixture
def rng() -> torch.Generator:
    """The same numbers in each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def splits() -> Mapping[str, Sequence[Row]]:
    """The default draw."""
    return Imports(options.Imports()).rows()


@pytest.fixture
def base() -> Base:
    """The base that comes with the plugin, as the core hands it on."""
    loaded = Builtin(options.Builtin()).load()
    loaded.model.requires_grad_(False).eval()
    return loaded


@pytest.fixture
def task() -> Recommend:
    return Recommend(options.Recommend(inputs="python"))


@pytest.fixture
def base_state(task: Recommend, base: Base) -> State:
    """What the base knows."""
    return task.fit([], base.preprocessing["task"])


@pytest.fixture
def for_base(task: Recommend, base_state: State, splits: Mapping[str, Sequence[Row]]) -> dict[str, Split]:
    """`train` and `select`, encoded for the base: what trivial contenders are fitted on."""
    return {
        name: Split(name, splits[name], [task.encode(row, base_state) for row in splits[name]], base_state)
        for name in ("train", "select")
    }


@pytest.fixture(scope="session")
def logs() -> SimpleNamespace:
    """Small logs of interactions: `logs.write(path, header, rows)`, `logs.header()` and `logs.readers()`."""
    return SimpleNamespace(write=_write, header=_header, readers=_readers)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def _readers(count: int = 60, *, rated: bool = True, timed: bool = True, key: int = 7) -> list[list[object]]:
    """(reader, book[, stars][, when]) of readers with one of three tastes each: 30 books, 8 to 14 a reader."""
    rng = random.Random(key)  # noqa: S311 (a test's data)
    rows: list[list[object]] = []
    for reader in range(count):
        books = {
            rng.randrange(10) * 3 + reader % 3 if rng.random() < 0.8 else rng.randrange(30) for _ in range(20)
        }
        for moment, book in enumerate(rng.sample(sorted(books), min(len(books), rng.randint(8, 14)))):
            likes = 5 if book % 3 == reader % 3 else 2
            row: list[object] = [f"reader{reader:03}", f"book{book:02}"]
            row += [likes] if rated else []
            row += [1_700_000_000 + 1000 * moment] if timed else []
            rows.append(row)
    return rows


def _header(*, rated: bool = True, timed: bool = True) -> list[str]:
    return ["reader", "book", *["stars"] * rated, *["when"] * timed]


@pytest.fixture(scope="session")
def people() -> SimpleNamespace:
    """A small society: `people.links(path)` and `people.ratings(path)` write it, without headers."""
    return SimpleNamespace(links=_write_links, ratings=_write_ratings)


def _write_links(path: Path, key: int = 3) -> Path:
    """60 people in three circles, p00 to p59: each links to some of the own circle, who often link back; p57, p58 and
    p59 to one alone."""
    rng = random.Random(key)  # noqa: S311 (a test's data)
    links = set()
    for one in range(60):
        for _ in range(1 if one >= 57 else 5):
            other = rng.randrange(19) * 3 + one % 3
            if other != one:
                links.add((one, other))
                if one < 57 and rng.random() < 0.5:
                    links.add((other, one))
    path.write_text("".join(f"p{one:02} p{other:02} 1\n" for one, other in sorted(links)), encoding="utf-8")
    return path


def _write_ratings(path: Path, key: int = 5) -> Path:
    """Films that p00 to p49 and six others, who link to nobody, rated: each mostly those of the own circle."""
    rng = random.Random(key)  # noqa: S311 (a test's data)
    lines = []
    for one in (*range(50), *range(90, 96)):
        films = {
            rng.randrange(10) * 3 + (one % 3 if rng.random() < 0.8 else rng.randrange(3)) for _ in range(9)
        }
        lines += [f"p{one:02} film{film:02} {rng.randint(1, 8) / 2:g}\n" for film in sorted(films)]
    path.write_text("".join(lines), encoding="utf-8")
    return path
