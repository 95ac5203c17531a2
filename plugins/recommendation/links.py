"""A graph of people beside their log: who links to whom, with some links of each held out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.contract import REPORT, SELECT, TRAIN, Row
from core.data.sources import open_source
from core.data.tables import place, read_table
from core.errors import DataError, DataWarning
from plugins.recommendation import options
from plugins.recommendation.interactions import held_of_shared, held_or_streamed, part
from plugins.recommendation.log import NAMED, Ints, Log, Mask, located, some, sorted_codes

if TYPE_CHECKING:
    import pyarrow as pa


class Links:
    """The dataset `links`.

    A row is a person. Its inputs are `{"user": name, "history": names}`, to whom the person links, sorted; its target
    is the list of those to be found. In `select` and `report` these are the links held out, as `interactions` holds out
    items, and the inputs say how many (`held_out`) they are. In `train` each link that is left is a row, with the
    person's other links as its history: what a model learns to find is never in its history, as it will not be later.
    People with a single link are in `train` alone.
    """

    def __init__(self, options: options.Links) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Raises `DataError` where the file cannot be read, or nothing can be held out."""
        chosen = self._options
        log = read(chosen)
        most = int(log.counts.max())
        if most < 3:
            raise DataError(
                f"{chosen.path}: nobody links to three people; one link is held out for the report, one to select with,"
                f" and one has to stay; the most that anybody has is {most}",
                "bring people with more links",
            )
        shared = {name: getattr(chosen, name) for name in ("path", "draw", *options.HeldOut.model_fields)}
        like = options.Interactions.model_validate(shared)
        held, asked = held_of_shared(log, like)
        known = ~held & ~asked
        return {
            TRAIN: _each(log, known),
            SELECT: part(log, asked, like, shown=known),
            REPORT: part(log, held, like),
        }


def _each(log: Log, known: Mask) -> Sequence[Row]:
    """A row for each link of `known`, with the others of the same person as its history."""
    places = np.flatnonzero(known)
    user = log.user[places]
    begins, ends = (np.searchsorted(user, user, side=side) for side in ("left", "right"))

    def row(index: int) -> Row:
        name = log.users[int(user[index])]
        linked = [log.items[i] for i in log.item[places[begins[index] : ends[index]]].tolist()]
        target = log.items[int(log.item[places[index]])]
        history = sorted(other for other in linked if other != target)
        return Row({"user": name, "history": history}, [target], group=name)

    return held_or_streamed(len(places), row, int((ends - begins).sum()))


def read(links: options.Links) -> Log:
    """The links, each once: of user u to the people `item[offsets[u]:offsets[u + 1]]`. Of links to oneself and of
    repeated ones it says (`DataWarning`) where they are. Raises `DataError`."""
    path = located(links.path)
    source, target = _columns(path, links)
    table = read_table(path, {source: str, target: str}, names=links.names)
    if links.names is not None and _begins_with_header(table.select([source, target])):
        raise DataError(
            f"{place(table, 0)}: it names the columns, and is no link",
            "remove the line, or write data.names=null",
        )
    users, user = sorted_codes(table.column(source))
    people, person = sorted_codes(table.column(target))
    index = {name: i for i, name in enumerate(people)}
    itself = np.array([index.get(name, -1) for name in users])[user] == person
    _, first = np.unique(user * len(people) + person, return_index=True)
    again = np.ones(len(user), bool)
    again[first] = False

    def where(rows: Ints) -> str:
        shown = [place(table, int(row)).removeprefix(f"{path}, ") for row in rows[:NAMED]]
        return ", ".join(shown) + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")

    for rows, what in (
        (np.flatnonzero(itself), "links to oneself, which are left out"),
        (np.flatnonzero(again & ~itself), "links that stand there already, and count once"),
    ):
        if len(rows):
            warnings.warn(f"{path}: {what}: {len(rows)} ({where(rows)})", DataWarning, stacklevel=2)
    if itself.all():
        raise DataError(
            f"{path}: people link to themselves alone: {some(users)}", "bring links between people"
        )
    offsets = np.searchsorted(user[first], np.arange(len(users) + 1))
    log = Log(users, people, offsets, person[first].astype(np.int32), None, None)
    return log.kept(~itself[first])


def _begins_with_header(table: pa.Table) -> bool:
    """Whether the first row has the columns' names, or no number in a table that is else of numbers."""
    import pyarrow.compute as pc

    first = [column[0].as_py() for column in table.columns]
    if first == table.column_names:
        return True
    numbers = [pc.utf8_is_digit(column.slice(1)) for column in table.columns]
    return not any(map(str.isdigit, first)) and all(pc.all(one).as_py() for one in numbers)


def _columns(path: Path, links: options.Links) -> tuple[str, str]:
    """The columns of who links and of who is linked to. Raises `DataError`."""
    header = list(open_source(path, links.names).header)
    if len(header) < 2:
        raise DataError(
            f"{path} has one column, {header[0]!r}; a link is a pair: who links, and to whom",
            "are its values kept apart by something else than its ending says?",
        )
    free = [name for name in header if name not in (links.source, links.target)]
    source = links.source if links.source is not None else free.pop(0)
    target = links.target if links.target is not None else free.pop(0)
    if source == target:
        raise DataError(
            f"{path}: the column {source!r} is both source and target", "name another for one of them"
        )
    if links.source is None and links.target is None and links.names is None:
        warnings.warn(
            f"{path}: took {source!r} as who links, {target!r} as to whom", DataWarning, stacklevel=3
        )
    return source, target
