"""What a recipe for a log of interactions leaves `auto`, chosen from the log; and where ratings lie beside links."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from core.components import Use
from core.contract import TRAIN, Choice, Row
from core.errors import RecipeError
from plugins.recommendation import options
from plugins.recommendation.interactions import Interactions
from plugins.recommendation.log import Log, columns, located, of_side, whole
from plugins.recommendation.ranking import catalogue, sparse_histories

AUTO = "auto"
MANY = 100
"""Users from which on those with few items can be left out."""
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
SHARED = ("names", "user", "item", "rating", "time", "min_rating", "min_user_items", "retain_users", "draw")
"""What the base's log has as the dataset's has it."""


def complete(recipe: Mapping[str, Any]) -> list[Choice]:
    """Choices for keys that are `auto`. Nothing where the recipe is of another task or dataset. Raises `RecipeError`
    where it names no file, and `DataError` where the file does not serve."""
    named = {section: _named(section, recipe.get(section)) for section in ("task", "data", "base")}
    if named == {"task": "link_prediction", "data": "links", "base": "factors"}:
        return [_ratings_beside(_options(recipe["data"]))]
    if named["task"] != "recommend" or named["data"] != "interactions":
        return []
    return list(_choices(recipe, named["base"] == "learned"))


def _ratings_beside(data: Mapping[str, Any]) -> Choice:
    """The base's file, where it lies beside the links. Raises `RecipeError`."""
    path = data.get("path")
    if not isinstance(path, str) or path == AUTO:
        raise RecipeError(
            "data.path: the recipe names no file of links", hint="write data=PATH behind its name"
        )
    links = located(path)
    beside = sorted(one for one in links.parent.glob("ratings.*") if one != links)
    same = [one for one in beside if one.suffixes == links.suffixes] or beside
    if not same:
        raise RecipeError(
            f"base.path: there is no file of ratings, called ratings{''.join(links.suffixes)}, beside {links}",
            hint="write base.path=FILE",
        )
    return Choice("base.path", str(same[0]), "it lies beside the links")


def _named(section: str, value: Any) -> str:
    kinds = {"task": "task", "data": "dataset", "base": "base"}
    try:
        name = Use.read(kinds[section], value).name  # type: ignore[arg-type]
    except ValueError:
        return ""
    return name.removeprefix("recommendation.")


def _choices(recipe: Mapping[str, Any], learned: bool) -> Iterator[Choice]:
    given = _options(recipe["data"])
    if not isinstance(given.get("path"), str) or given["path"] == AUTO:
        raise RecipeError(
            "data.path: the recipe names no file of interactions", hint="write data=PATH behind its name"
        )
    data = _settled(given, "dataset")
    yield from _filled(given, data, _data(data))
    shared = options.Interactions.model_validate(data)
    if learned:
        base = _settled(_options(recipe["base"]), "source")
        yield from _filled(_options(recipe["base"]), base, _base(base, shared))
    yield Choice(
        "evaluate.primary",
        "ndcg@10",
        "it asks for what is held out among the first ten, the sooner the better",
    )
    task, tuning = _options(recipe["task"]), _options(recipe.get("fine_tune"))
    if AUTO in task.values() or AUTO in tuning.values():
        train = Interactions(shared).rows()[TRAIN]
        chosen = _settled(task, "task")
        least = base.get("min_item_users", 2) if learned else 2
        yield from _filled(task, chosen, _items(least))
        items = options.Recommend.model_validate(chosen)
        settled = _settled(tuning)
        yield from _filled(tuning, settled, _training(settled, items, train))


def _options(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _settled(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What a section of the recipe says, but for what it leaves to choose and the component's name."""
    return {key: value for key, value in given.items() if value != AUTO and key not in names}


def _filled(given: Mapping[str, Any], settled: dict[str, Any], choices: Iterable[Choice]) -> Iterator[Choice]:
    """The choices for what the section leaves to choose, each put into `settled` before the next one is made. What
    the recipe says stays, and what it does not name has the option's default: the rest must rest on these."""
    for choice in choices:
        name = choice.key.partition(".")[2]
        if given.get(name) == AUTO:
            settled[name] = choice.value
            yield choice


def _log(data: Mapping[str, Any]) -> options.Log:
    return options.Log.model_validate({k: v for k, v in data.items() if k in options.Log.model_fields})


def _data(data: Mapping[str, Any]) -> Iterator[Choice]:
    """Which columns, and who counts; each choice rests on what `data` says by then."""
    found = columns(_log(data))
    for what in ("user", "item", "rating", "time"):
        name = getattr(found, what)
        why = "its name" if name is not None else f"no column is called as columns of {what}s are"
        yield Choice(f"data.{what}", False if name is None else name, why)
    read = whole(_log(data))
    yield _min_rating(read)
    least = _log(data).min_rating
    if least is not None and read.rating is not None:
        read = read.kept(read.rating >= least)
    many = float(np.mean(read.counts >= 5)) if len(read) else 0.0
    yield (
        Choice("data.min_user_items", 5, f"{many:.0%} of the users have five items that count")
        if many >= 0.5 and len(read.users) >= MANY
        else Choice(
            "data.min_user_items", 2, f"there are {len(read.users)} users: with more, few would be left"
        )
        if len(read.users) < MANY
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
    new = round((1 - _log(data).base_users) * len(read.users))
    if new > REPORTED:
        yield Choice(
            "data.report", REPORTED, f"of about {new} users; more would take longer and show little more"
        )
        yield Choice("data.select", REPORTED // 4, "a quarter of those to report on")
    else:
        yield Choice("data.report", 1.0, f"all of about {new} users")
        yield Choice("data.select", 0.2, "a fifth of the users")


def _min_rating(read: Log) -> Choice:
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


def _base(base: Mapping[str, Any], data: options.Interactions) -> Iterator[Choice]:
    """What the base's log shares with the dataset's; each choice rests on what `base` says by then. Raises
    `RecipeError` where the base would learn from users of the new task, or from nobody."""
    yield Choice("base.path", data.path, "the data's own file: users that are kept from the new task")
    for name in SHARED:
        yield Choice(f"base.{name}", getattr(data, name), "as in data")
    path = base.get("path")
    if isinstance(path, str) and located(path).resolve() != located(data.path).resolve():
        yield Choice("base.base_users", 1.0, "its file is another one")
        yield _min_item_users(2)
        return
    yield Choice("base.base_users", data.base_users, "as in data")
    if data.base_users == 0 == base.get("base_users", 0):
        raise RecipeError(
            "data.base_users is 0, which leaves nobody whom the base could learn from",
            hint="write base.path=FILE for a base from another log, or data.base_users=0.5",
        )
    own = options.Learned.model_validate({"path": data.path, **base})
    if own.base_users > data.base_users or own.draw != data.draw:
        raise RecipeError(
            f"the base would learn from users of the new task, and what is held out of them: of {data.path} it has"
            f" base_users {own.base_users:g}, draw {own.draw}, and data has {data.base_users:g} and {data.draw}",
            hint="give data.base_users and data.draw alone, and the base has them too; or another file in base.path",
        )
    log = of_side(whole(own), own, "base")
    yield _min_item_users(_enough(np.bincount(log.item, minlength=len(log.items))))


def _min_item_users(least: int) -> Choice:
    return Choice("base.min_item_users", least, "items of fewer users have too few neighbours to learn from")


def _enough(counts: Any) -> int:
    """Users that an item needs, two at least, for the catalogue to have the size aimed at."""
    return next(
        least for least in range(2, int(counts.max()) + 3) if np.count_nonzero(counts >= least) <= CATALOGUE
    )


def _items(least: int) -> Iterator[Choice]:
    yield Choice(
        "task.new_item_users", least, "an item of fewer users in train has too few neighbours to learn from"
    )
    yield Choice("task.max_items", 5000, "25 million weights, 100 MB")


def _training(settled: Mapping[str, Any], items: options.Recommend, train: Sequence[Row]) -> Iterator[Choice]:
    """How to train; each choice rests on what `settled` says by then."""
    batch = min(len(train), TOGETHER)
    yield Choice(
        "fine_tune.batch_size",
        batch,
        "all users at once: each step is exact" if batch == len(train) else f"of {len(train)} users",
    )
    rows = train[:HISTORIES]
    highest = _curvature(rows, catalogue(rows, users=items.new_item_users, most=items.max_items))
    pull = _pull(settled)
    lr = float(f"{min(2.0 / highest, 0.1 / pull):.2g}")
    why = f"the loss' highest curvature on train is {highest:.3g}, the pull towards the base {pull:g}: both stay stable"
    yield Choice("fine_tune.lr", lr, why)
    steps = math.ceil(len(train) / _number(settled, "batch_size", batch))
    epochs = max(2, min(MOST_STEPS, math.ceil(5.0 / (_number(settled, "lr", lr) * pull))) // steps)
    yield Choice("fine_tune.epochs", epochs, f"{epochs * steps} steps, in which the slowest weights settle")


def _number(settled: Mapping[str, Any], name: str, otherwise: float) -> float:
    """A positive number of the recipe's; what is none the recipe's own check refuses."""
    value = settled.get(name)
    return value if isinstance(value, int | float) and value > 0 else otherwise


def _pull(tuning: Mapping[str, Any]) -> float:
    """By how much the slowest weights are drawn anywhere: the anchor and the decay."""
    updater = _options(tuning.get("updater"))
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
