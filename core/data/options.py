"""How a dataset is split, as an option of datasets. Imports no torch and no numpy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from core.components import Options

How = Literal["random", "stratified", "grouped", "time", "leave_last", "column"]


class Splits(Options):
    """How rows that come in one piece become `train`, `select` and `report`. The same options give the same
    splits, in every version."""

    how: How = Field(
        "random",
        description="`random`; `stratified`: random, with each label's share kept; `grouped`: whole groups;"
        " `time`: the latest to report, those before to select; `leave_last`: each group's latest; `column`: as a"
        " column says",
    )
    by: str | None = Field(
        None,
        description="the column of the groups (grouped), of the times (time, leave_last), or of the splits (column:"
        " `split` by default), where the dataset does not know it",
    )
    select: int | float | None = Field(
        None, gt=0, description="rows of select: a share below 1 or a count; 0.1 by default, 1 for leave_last"
    )
    report: int | float | None = Field(
        None, gt=0, description="rows of report: a share below 1 or a count; 0.2 by default, 1 for leave_last"
    )
    draw: int = Field(0, ge=0, description="which of the random splits; not the run's seed")

    @model_validator(mode="after")
    def _shares_and_column_fit(self) -> Splits:
        for name, value in (("select", self.select), ("report", self.report)):
            if value is None:
                continue
            if self.how == "column":
                raise ValueError(f"{name} has no meaning with how: column, where the column decides")
            if value >= 1 and value != int(value):
                raise ValueError(f"{name} is {value}: a share below 1 or a whole number is wanted")
            if value < 1 and self.how == "leave_last":
                raise ValueError(
                    f"{name} is {value}: leave_last wants a whole number, the rows taken of each group"
                )
        shares = [value for value in (self.select, self.report) if value is not None and value < 1]
        if len(shares) == 2 and sum(shares) >= 1:
            raise ValueError(f"select {self.select} and report {self.report} leave nothing to train on")
        return self

    def wanted(self, part: Literal["select", "report"]) -> int | float:
        """The share (below 1) or count that `part` is to have."""
        value = self.select if part == "select" else self.report
        if value is None:
            return 1 if self.how == "leave_last" else {"select": 0.1, "report": 0.2}[part]
        return int(value) if value >= 1 else value
