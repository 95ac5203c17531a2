"""What a recipe is: its sections, and the places in it that take components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import Field, model_validator
from pydantic_core import core_schema

from core.components import Options, Use
from core.contract import Kind

AUTO = "auto"
"""The value of a key that plugins choose (`core.recipe.complete`)."""


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

    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="the level of the paired intervals")
    max_forgetting: float | None = Field(
        default=None, ge=0, description="the part of the base's score on `retain` that may be lost"
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

    @model_validator(mode="after")
    def _gate_can_be_asked(self) -> Recipe:
        if self.gate is not None and self.gate.max_forgetting is not None and not self.evaluate.retain:
            raise ValueError("gate.max_forgetting asks what was forgotten: set evaluate.retain to true")
        return self

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


def _places(model: type[Options], prefix: str = "") -> Iterator[tuple[str, Kind]]:
    for name, field in model.model_fields.items():
        inner = next(iter(get_args(field.annotation)), None)  # of a list, or of an optional one
        marks = [*field.metadata, *getattr(inner, "__metadata__", ())]
        kind = next((mark.kind for mark in marks if isinstance(mark, Place)), None)
        if kind is not None:
            yield prefix + name + (".*" if get_origin(field.annotation) is list else ""), kind
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Options):
            yield from _places(field.annotation, f"{prefix}{name}.")


PLACES: Mapping[str, Kind] = dict(_places(Recipe))
"""Where a recipe takes components, and of which kind: `fine_tune.updater`, `preprocess.*`."""


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, keys in the order of the schema."""
    return yaml.safe_dump(recipe.to_json(), sort_keys=False, allow_unicode=True, width=100)
