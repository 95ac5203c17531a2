"""What a recipe for a log of interactions leaves `auto`, chosen from the log."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from core.components import Use
from core.contract import TRAIN, Choice
from core.errors import RecipeError
from plugins.recommendation import options
from plugins.recommendation.interactions import Interactions
from plugins.recommendation.log import Columns, Log, columns, of_side, whole
from plugins.recommendation.ranking import catalogue, sparse_histories

AUTO = "auto"
REPORTED = 2000
"""Users to report on at most: enough for narrow intervals, and ranked in seconds."""
TOGETHER = 1024
"""Users in a batch at most."""
MOST_STEPS = 200
"""Steps of training at most, or two epochs."""
CATALOGUE = 4000
"""Items to aim at: 16 million weights."""
HISTORIES = 5000
"""Rows of train that the learning rate is worked out from."""


def complete(recipe: Mapping[str, Any]) -> list[Choice]:
    """Choices for keys that are `auto`. Nothing where the recipe is of another task or dataset. Raises `RecipeError`
    where it names no file, and `DataError` where the file does not serve."""
    named = {section: _named(section, recipe.get(section)) for section in ("task", "data", "base")}
    if named["task"] != "recommend" or named["data"] != "interactions":
        return []
    return list(_choices(recipe, named["base"] == "learned"))


def _named(section: str, value: Any) -> str:
    kinds = {"task": "task", "data": "dataset", "base": "base"}
    try:
        name = Use.read(kinds[section], value).name  # type: ignore[arg-type]
    except ValueError:
        return ""
    return name.removeprefix("recommendation.")


def _choices(recipe: Mapping[str, Any], learned: bool) -> Iterator[Choice]:
    given = recipe["data"]
    if not isinstance(given.get("path"), str) or given["path"] == AUTO:
        raise RecipeError("the recipe names no file of interactions", hint="write data=PATH behind its name")
    data: dict[str, Any] = {k: v for k, v in given.items() if v != AUTO and k != "dataset"}
    for choice in _data(given, data):
        data[choice.key.partition(".")[2]] = choice.value
        yield choice
    shared = options.Interactions.model_validate(data)
    if learned:
        yield from _base(recipe["base"], shared)
    yield Choice(
        "evaluate.primary",
        "ndcg@10",
        "it asks for what is held out among the first ten, the sooner the better",
    )
    if AUTO in (recipe.get("fine_tune") or {}).values() or AUTO in _options(recipe["task"]).values():
        yield from _training(recipe, shared, learned)


def _options(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _data(given: Mapping[str, Any], data: dict[str, Any]) -> Iterator[Choice]:
    """Which columns, and who counts; each choice rests on those before it (`data` holds them)."""
    log = options.Log.model_validate({k: v for k, v in data.items() if k in options.Log.model_fields})
    found = columns(log)
    for what in ("user", "item", "rating", "time"):
        name = getattr(found, what)
        why = "its name" if name is not None else f"no column is called as columns of {what}s are"
        yield Choice(f"data.{what}", False if name is None else name, why)
    read = whole(log)
    if given.get("min_rating") == AUTO:
        yield _min_rating(found, read)
    if "min_rating" in data and data["min_rating"] is not None and read.rating is not None:
        read = read.kept(read.rating >= data["min_rating"])
    many = float(np.mean(read.counts >= 5)) if len(read) else 0.0
    yield (
        Choice("data.min_user_items", 5, f"{many:.0%} of the users have five items that count")
        if many >= 0.5
        else Choice(
            "data.min_user_items",
            2,
            f"with more, {1 - many:.0%} of the users would go; with one, none is left",
        )
    )
    yield (
        Choice("data.holdout", "random", "there are no times")
        if read.time is None
        else Choice(
            "data.holdout", "last", "there are times: what comes last is to be foretold from what came before"
        )
    )
    yield Choice("data.held_out", 0.2, "a fifth of a user's items")
    yield Choice("data.base_users", 0.5, "half of the users for the base, the other half to adapt to")
    away = data.get("base_users", 0.5)
    new = round((1 - away) * len(read.users))
    if new > REPORTED:
        yield Choice(
            "data.report", REPORTED, f"of about {new} users; more would take longer and show little more"
        )
        yield Choice("data.select", REPORTED // 4, "a quarter of those to report on")
    else:
        yield Choice("data.report", 1.0, f"all of about {new} users")
        yield Choice("data.select", 0.2, "a fifth of the users")


def _min_rating(found: Columns, read: Log) -> Choice:
    if read.rating is None:
        return Choice("data.min_rating", None, "there are no ratings: each interaction counts")
    low, high = float(read.rating.min()), float(read.rating.max())
    if low == high:
        return Choice("data.min_rating", None, f"all ratings are {low:g}")
    middle = float(np.quantile(read.rating, 0.5, method="higher"))
    least = middle if middle > low else float(read.rating[read.rating > low].min())
    share = float(np.mean(read.rating >= least))
    return Choice(
        "data.min_rating",
        least,
        f"ratings go from {low:g} to {high:g}, and {share:.0%} are {least:g} or more: these are liked",
    )


def _base(given: Any, data: options.Interactions) -> Iterator[Choice]:
    """What the base's log shares with the dataset's."""
    own = given.get("path") if isinstance(given, Mapping) else None
    elsewhere = isinstance(own, str) and own not in (AUTO, data.path)
    yield Choice("base.path", data.path, "the data's own file: users that are kept from the new task")
    for name in ("user", "item", "rating", "time", "min_rating", "min_user_items", "retain_users", "draw"):
        yield Choice(f"base.{name}", getattr(data, name), "as in data")
    if elsewhere:
        yield Choice("base.base_users", 1.0, "its file is another one")
    else:
        yield Choice("base.base_users", data.base_users, "as in data")
    log = of_side(whole(data), data, "base") if not elsewhere and data.base_users else None
    users = _enough(np.bincount(log.item, minlength=len(log.items))) if log is not None else 2
    yield Choice("base.min_item_users", users, "items of fewer users have too few neighbours to learn from")


def _enough(counts: Any) -> int:
    """Users that an item needs, two at least, for the catalogue to have the size aimed at."""
    return next(
        least for least in range(2, int(counts.max()) + 3) if np.count_nonzero(counts >= least) <= CATALOGUE
    )


def _training(recipe: Mapping[str, Any], data: options.Interactions, learned: bool) -> Iterator[Choice]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run says it again
        train = Interactions(data).rows()[TRAIN]
    base_users = _options(recipe["base"]).get("min_item_users", AUTO) if learned else AUTO
    least = base_users if isinstance(base_users, int) else 2
    yield Choice(
        "task.new_item_users", least, "an item of fewer users in train has too few neighbours to learn from"
    )
    yield Choice("task.max_items", 5000, "25 million weights, 100 MB")
    rows: Sequence[Any] = train[:HISTORIES]
    highest = _curvature(rows, catalogue(rows, users=least, most=5000))
    pull = _pull(recipe)
    lr = float(f"{min(2.0 / highest, 0.1 / pull):.2g}")
    batch = min(len(train), TOGETHER)
    steps = math.ceil(len(train) / batch)
    epochs = max(2, min(MOST_STEPS, math.ceil(5.0 / (lr * pull))) // steps)
    yield Choice(
        "fine_tune.batch_size",
        batch,
        "all users at once: each step is exact" if batch == len(train) else f"of {len(train)} users",
    )
    why = f"the loss' highest curvature on train is {highest:.3g}, the pull towards the base {pull:g}: both stay stable"
    yield Choice("fine_tune.lr", lr, why)
    yield Choice("fine_tune.epochs", epochs, f"{epochs * steps} steps, in which the slowest weights settle")


def _pull(recipe: Mapping[str, Any]) -> float:
    """By how much the slowest weights are drawn anywhere: the anchor and the decay."""
    updater = _options(_options(recipe.get("fine_tune")).get("updater"))
    pulls = [updater.get(name, 0.0) for name in ("anchor", "weight_decay")]
    return max(0.1, sum(pull for pull in pulls if isinstance(pull, int | float)))


def _curvature(rows: Sequence[Any], items: Sequence[str]) -> float:
    """Twice the largest eigenvalue of the mean of x·xᵀ over histories x, by power iteration."""
    has = sparse_histories(rows, items)
    vector = np.ones(has.shape[1])
    value = 1.0
    for _ in range(20):
        vector = has.T @ (has @ vector)
        value = float(np.linalg.norm(vector))
        if value == 0:
            return 2.0
        vector /= value
    return 2.0 * value / len(rows)
