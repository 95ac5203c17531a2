"""Options of the recommendation plugin's components. Imports neither torch nor numpy."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from core.components import Options

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Of EASE, in users: what the base and the contender choose from."""

Share = Annotated[int | float, Field(gt=0)]
"""A share below 1, or a count."""


class Recommend(Options):
    """The task."""

    inputs: Literal["items", "python"] = Field(
        "items",
        description="what is typed for a prediction: items, or (python) also files whose imports are the items",
    )
    new_item_users: int = Field(
        1, gt=0, description="users in train that an item needs, where the base does not know it, to be added"
    )
    max_items: int | None = Field(
        None,
        gt=0,
        description="items at most, the base's included: of new ones, those with most users are added",
    )


class LinkPrediction(Options):
    """The task of whom to link to."""

    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how much a list avoids people whom the same others link to: 0 ranks by score alone, 1 by variety"
        " (maximal marginal relevance)",
    )


class Walks(Options):
    """Walks along links, beside user vectors."""

    steps: int = Field(3, gt=0, le=4, description="links that a walk follows at most")


class Imports(Options):
    """The new world that the base is adapted to."""

    draw: int = Field(0, ge=0, lt=2**32, description="which files to train on, select with and report on")
    train_files: int = Field(40, gt=0, description="test files to train on")
    select_files: int = Field(40, gt=0, description="test files to select with; all others are reported on")


class Builtin(Options):
    """A base in the plugin's folder `bases`."""

    name: str = Field("library-imports", description="the base's name")


Names = Annotated[list[str] | None, Field(min_length=2)]
"""Of the columns of a file without a header."""


class Table(Options):
    """A file of interactions, one a line or row."""

    path: str = Field(description="the file: .csv or .tsv with a header, .jsonl (these also .gz), .parquet")
    names: Names = Field(
        None,
        description="the columns' names, in order, where the file has no header: a .csv or .tsv, or one of another"
        " ending with blanks or tabs between its values",
    )
    user: str | None = Field(None, description="the column of users; guessed from its name if left out")
    item: str | None = Field(None, description="the column of items; guessed if left out")
    rating: str | Literal[False] | None = Field(
        None, description="the column of ratings; guessed if left out, `false`: there is none"
    )
    time: str | Literal[False] | None = Field(
        None, description="the column of times; guessed if left out, `false`: there is none"
    )


class Log(Table):
    """Who and what counts of a file of interactions."""

    min_rating: float | None = Field(
        None,
        description="only interactions rated so high count, for the user likes the item; none: all count",
    )
    min_user_items: int = Field(2, gt=0, description="items that a user needs to count")
    min_item_users: int = Field(1, gt=0, description="users that an item needs to count")
    base_users: float = Field(
        0.0, ge=0, le=1, description="the share of users from whom the base learns, and nobody else"
    )
    retain_users: float = Field(
        0.0, ge=0, lt=1, description="the share of these users that the base does not see, for `retain`"
    )
    draw: int = Field(0, ge=0, description="which users and items go where; not the run's seed")


class HeldOut(Options):
    """How much of whom is held out, to be found again."""

    held_out: Share = Field(0.2, description="of what a user has: a share below 1, or a count")
    select: Share = Field(0.2, description="users of select: a share below 1, or a count")
    report: Annotated[int | float, Field(gt=0)] = Field(
        1.0, description="users of report: a share up to 1.0, or a count"
    )

    @model_validator(mode="after")
    def _shares_or_counts(self) -> Self:
        for name, value in (("held_out", self.held_out), ("select", self.select)):
            if value >= 1 and value != int(value):
                raise ValueError(f"{name} is {value}: a share below 1 or a whole number is wanted")
        if self.report > 1 and self.report != int(self.report):
            raise ValueError(f"report is {self.report}: a share up to 1.0 or a whole number is wanted")
        return self


class Interactions(HeldOut, Log):
    """The users from whom the base does not learn, with some items of each held out, to be found again."""

    holdout: Literal["random", "last"] = Field(
        "random",
        description="which items are held out: random ones, or the last by time (else by place in the file)",
    )
    users: Literal["shared", "apart"] = Field(
        "shared",
        description="`shared`: train has what is not held out of every user; `apart`: the users of select and report"
        " are not in train at all",
    )
    keep: list[Literal["ratings", "times"]] = Field(
        [], description="what else a row's inputs hold, for transforms: lists beside `history`"
    )

    @model_validator(mode="after")
    def _splits_are_possible(self) -> Interactions:
        if self.base_users == 1:
            raise ValueError("base_users is 1, which leaves no user to adapt to")
        if (
            self.users == "apart"
            and all(isinstance(value, float) and value <= 1 for value in (self.select, self.report))
            and self.select + self.report >= 1
        ):
            raise ValueError(f"select {self.select} and report {self.report} leave nobody to train on")
        return self


class Links(HeldOut):
    """A graph of people, who links to whom, with some links of each held out, to be found again."""

    path: str = Field(description="the file, a link a line: .csv, .tsv, .jsonl, .parquet, or text (`names`)")
    names: Names = Field(
        None,
        description="the columns' names, in order, where the file has no header: a .csv or .tsv, or one of another"
        " ending with blanks or tabs between its values",
    )
    source: str | None = Field(None, description="the column of who links; the first if left out")
    target: str | None = Field(None, description="the column of who is linked to; the second if left out")
    draw: int = Field(0, ge=0, description="which links go where; not the run's seed")


class Learned(Log):
    """An item-item base, learned from interactions when it is loaded, and kept in the cache."""

    base_users: float = Field(
        1.0,
        gt=0,
        le=1,
        description="the share of users to learn from; as in the dataset, where the file is the same",
    )
    penalties: list[Annotated[float, Field(gt=0)]] = Field(
        list(PENALTIES),
        min_length=1,
        description="EASE's penalty, in users; of several, the one that finds best a fifth of these users' items",
    )
    max_items: int = Field(
        5000, gt=1, description="items at most, those with most users: the weights are their square"
    )
    licence: str | None = Field(None, description="the licence of the interactions, as an SPDX name")
    origin: str | None = Field(
        None, description="where they come from, in words; the file's name if left out"
    )


class Factors(Table):
    """User vectors, learned from ratings when they are loaded, and kept in the cache."""

    dimensions: int = Field(64, gt=0, description="numbers that a user is described by")
    licence: str | None = Field(None, description="the licence of the ratings, as an SPDX name")
    origin: str | None = Field(
        None, description="where they come from, in words; the file's name if left out"
    )


class Drop(Options):
    """A stop-list of columns."""

    columns: list[str] = Field(min_length=1, description="keys of a row's inputs that are left out")


class Common(Options):
    """Minimum counts, of the items in `train`."""

    min_users: int = Field(2, gt=0, description="users in train that an item needs to stay in histories")
    most: int | None = Field(None, gt=0, description="items to keep at most, those with most users")


class TimeBins(Options):
    """Times as numbers of bins."""

    bins: int | None = Field(
        None, gt=1, description="that many bins, with as many interactions of train in each"
    )
    seconds: float | None = Field(
        None, gt=0, description="or bins of that length, from the first time in train"
    )
    keep: int | None = Field(
        None, gt=0, description="keep of each history only what lies in its last so many bins"
    )

    @model_validator(mode="after")
    def _one_way(self) -> TimeBins:
        if (self.bins is None) == (self.seconds is None):
            raise ValueError("give either bins or seconds")
        return self


class Bpr(Options):
    """Bayesian personalised ranking."""

    negatives: int = Field(
        1, gt=0, description="items that the user lacks, drawn for each one that the user has"
    )


class SampledSoftmax(Options):
    """Softmax over an item and a sample of those that the user lacks."""

    negatives: int = Field(100, gt=0, description="items that the user lacks, drawn for each user")
    temperature: float = Field(1.0, gt=0, description="what scores are divided by")
