"""What a recipe is: its sections, and the places in it that take components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field
from pydantic_core import core_schema

from core.components import Options
from core.contract import Kind


@dataclass(frozen=True, slots=True)
class Use:
    """A component as a recipe names it, with the options given there."""

    kind: Kind
    name: str
    options: Mapping[str, Any]

    @staticmethod
    def key(kind: Kind) -> str:
        """The key under which a recipe's mapping names a component of that kind."""
        return "source" if kind == "base" else kind

    @classmethod
    def read(cls, kind: Kind, value: Any) -> Use:
        """From `NAME` or `{KEY: NAME, option: value, ...}`. Raises `ValueError`."""
        key = cls.key(kind)
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(kind, value, {})
        if isinstance(value, Mapping) and isinstance(value.get(key), str):
            return cls(kind, value[key], {name: option for name, option in value.items() if name != key})
        raise ValueError(f"expected a name or a mapping with `{key}: NAME`, got {value!r}")

    def to_json(self) -> dict[str, Any]:
        return {self.key(self.kind): self.name, **self.options}


@dataclass(frozen=True, slots=True)
class Place:
    """Marks a field of a recipe that takes a component: how pydantic reads, writes and describes it."""

    kind: Kind

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            partial(Use.read, self.kind),
            serialization=core_schema.plain_serializer_function_ser_schema(Use.to_json),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"x-kind": self.kind}


PLACES: Mapping[str, Kind] = {
    "task": "task",
    "base": "base",
    "data": "dataset",
    "preprocess.*": "transform",
    "modify.*": "edit",
    "fine_tune.strategy": "strategy",
    "fine_tune.loss": "loss",
    "fine_tune.updater": "updater",
}
"""Where a recipe takes components, and of which kind."""


class FineTune(Options):
    """The fine-tune stage: which strategy, loss and updater, and the core's loop around them."""

    strategy: Annotated[Use, Place("strategy")] = Field(
        "full", validate_default=True, description="which parameters move, when, and how fast"
    )
    loss: Annotated[Use, Place("loss")] | None = Field(None, description="a loss in place of the task's own")
    updater: Annotated[Use, Place("updater")] = Field(
        "adamw", validate_default=True, description="the update step"
    )
    lr: float = Field(gt=0, description="the learning rate at its highest")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="how lr falls over a phase, to zero"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="the part of a phase over which lr rises from zero")
    batch_size: int = Field(gt=0, description="examples a step")
    epochs: int = Field(gt=0, description="passes over the train split")
    keep: Literal["last", "best"] = Field(
        "last", description="the weights to keep: the last, or the epoch best on `select`"
    )


class Evaluate(Options):
    """The evaluate stage."""

    primary: str = Field(description="the metric that decides")
    retain: bool = Field(
        False, description="also measure what was forgotten, on the dataset's `retain` split"
    )
    scratch: bool = Field(False, description="also train the same structure from fresh weights")
    batch_size: int = Field(256, gt=0, description="examples a batch")
    resamples: int = Field(10_000, ge=100, description="bootstrap resamples behind each interval")


class Gate(Options):
    """What the verdict asks for. With a gate, a verdict other than `ship` makes the run exit with 3."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the paired intervals")
    max_forgetting: float | None = Field(
        None, ge=0, description="of the base's score on `retain`, the part that may be lost"
    )


class Recipe(Options):
    """A recipe, complete."""

    task: Annotated[Use, Place("task")] = Field(description="what is to be done")
    plugins: list[str] = Field(description="the active plugins, in call order")
    seed: int = Field(0, ge=0, description="of all of the run's randomness")
    base: Annotated[Use, Place("base")] = Field(description="the existing model")
    data: Annotated[Use, Place("dataset")] = Field(description="the new task's examples")
    preprocess: list[Annotated[Use, Place("transform")]] = Field([], description="transforms, in order")
    modify: list[Annotated[Use, Place("edit")]] = Field([], description="structural edits, in order")
    fine_tune: FineTune
    evaluate: Evaluate
    gate: Gate | None = None
    allow: list[Literal["duplicates"]] = Field(
        [], description="`duplicates`: the same example may stand in train and report"
    )
    answers: dict[str, str] = Field(
        {}, description="where two plugins answer one hook: hook (without taoke_) to plugin"
    )

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, keys in the order of the schema."""
    return yaml.safe_dump(recipe.to_json(), sort_keys=False, allow_unicode=True, width=100)
