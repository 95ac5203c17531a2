"""Files of Python's standard library as users, the modules they import as items: what the base knows, and its tests.

A user is a file that imports at least `MIN_ITEMS` items, an item is a module that at least `MIN_USERS` users
import: with fewer there is nothing to hold out, or nothing to learn from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath

import numpy as np

from core.contract import REPORT, RETAIN, SELECT, TRAIN, Row
from core.errors import DataError
from plugins.recommendation import options
from plugins.recommendation.imports import read_table

MIN_ITEMS, MIN_USERS = 2, 3
KEPT_OUT = 60
"""Files that are no tests and that the base has not seen: `retain`."""
KEY = 0x7461
"""All randomness in the data comes from this number, by numpy's RandomState, whose streams are frozen
(https://numpy.org/neps/nep-0019-rng-policy.html): the same data everywhere, whatever the version."""


@cache
def users() -> Mapping[str, tuple[str, ...]]:
    """User to items, both sorted."""
    kept = {user: set(items) for user, items in sorted(read_table().items())}
    while True:
        count = Counter(item for items in kept.values() for item in items)
        common = {user: {item for item in items if count[item] >= MIN_USERS} for user, items in kept.items()}
        common = {user: items for user, items in common.items() if len(items) >= MIN_ITEMS}
        if common == kept:
            return {user: tuple(sorted(items)) for user, items in kept.items()}
        kept = common


def is_test(user: str) -> bool:
    """Whether the file lies in a folder of tests."""
    return not {"test", "tests", "idle_test"}.isdisjoint(PurePosixPath(user).parts[:-1])


def base_split() -> tuple[list[str], list[str]]:
    """(users the base is trained on, users kept out for `retain`): files that are no tests."""
    library = [user for user in users() if not is_test(user)]
    shuffled = [library[i] for i in np.random.RandomState(KEY).permutation(len(library))]
    return shuffled[KEPT_OUT:], shuffled[:KEPT_OUT]


def whole(user: str) -> Row:
    """A row to learn from: all that the user has, and no target."""
    return Row({"user": user, "history": list(users()[user])}, group=user)


def leave_one_out(user: str) -> list[Row]:
    """A row for each of the user's items: this item is the target, the others are the history."""
    items = users()[user]
    return [
        Row({"user": user, "history": [item for item in items if item != target]}, target, group=user)
        for target in items
    ]


class Imports:
    """The dataset `imports`: the test files. `train` has a row a file, the other splits a row for each module
    of each file, left out in turn; `retain` is of files that are no tests.

    A row's inputs are `{"user": file, "history": modules}`, its target is the module left out, its group the file.
    """

    def __init__(self, options: options.Imports) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """Raises `DataError` where the options leave no file to report on."""
        options = self._options
        tests = [user for user in users() if is_test(user)]
        taken = options.train_files + options.select_files
        if taken >= len(tests):
            raise DataError(
                f"imports: {options.train_files} files to train on and {options.select_files} to select with"
                f" leave none of the {len(tests)} test files to report on",
                f"let train_files and select_files add up to less than {len(tests)}",
            )
        shuffled = [tests[i] for i in np.random.RandomState([KEY, options.draw]).permutation(len(tests))]
        return {
            TRAIN: [whole(user) for user in shuffled[: options.train_files]],
            SELECT: _each(shuffled[options.train_files : taken]),
            REPORT: _each(shuffled[taken:]),
            RETAIN: _each(base_split()[1]),
        }


def _each(chosen: Iterable[str]) -> list[Row]:
    return [row for user in chosen for row in leave_one_out(user)]
