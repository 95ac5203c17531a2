"""Options of the vision plugin's components. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from core.components import Options


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"expected [low, high] with low below high, got {list(limits)}")
    return limits


Limits = Annotated[tuple[float, float], AfterValidator(_rising)]
Side = Annotated[int, Field(gt=0)]


class Classify(Options):
    """How the files that a user points at become images like those of the dataset."""

    size: tuple[Side, Side] = Field((8, 8), description="height and width of an image, in pixels")
    values: Limits = Field((0.0, 16.0), description="what black and white are in the dataset")


class Digits(Options):
    """The new world that the base is adapted to."""

    draw: int = Field(
        0, ge=0, lt=2**32, description="which noise, and which examples to train on and select with"
    )
    noise: float = Field(0.3, ge=0, description="standard deviation, where black is 0 and white is 1")
    train_per_class: int = Field(
        5, gt=0, description="labelled examples of each of the ten classes to train on"
    )
    select_per_class: int = Field(5, gt=0, description="examples of each class to select with")


class Builtin(Options):
    """A base in the plugin's folder `bases`."""

    name: str = Field("digits-0to7", description="the base's name")


class Scale(Options):
    """Values from one fixed range to another."""

    of: Limits = Field((0.0, 16.0), description="the range of the values as they come")
    to: Limits = Field((0.0, 1.0), description="the range they are mapped to, linearly")


class Affine(Options):
    """Each amount is drawn uniformly from its range."""

    degrees: float = Field(0.0, ge=0, le=180, description="rotation, at most, either way")
    scale: float = Field(0.0, ge=0, lt=1, description="zoom, at most, in or out: 0.1 is from 0.9 to 1.1")
    shift: float = Field(0.0, ge=0, description="shift along each side, at most, in pixels")


class Noise(Options):
    """Gaussian noise, drawn for each pixel."""

    sigma: float = Field(
        gt=0, description="standard deviation, in the units of the values at this place in the recipe"
    )
    clamp: Limits | None = Field((0.0, 1.0), description="the range that values are kept in; null for none")
