"""Options of the recommendation plugin's components. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from core.components import Options


class Imports(Options):
    """The new world that the base is adapted to."""

    draw: int = Field(0, ge=0, lt=2**32, description="which files to train on, select with and report on")
    train_files: int = Field(40, gt=0, description="test files to train on")
    select_files: int = Field(40, gt=0, description="test files to select with; all others are reported on")


class Builtin(Options):
    """A base in the plugin's folder `bases`."""

    name: str = Field("library-imports", description="the base's name")
