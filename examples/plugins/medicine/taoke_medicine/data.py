"""Breast cancer (Wisconsin, 1995), which scikit-learn brings: 30 measurements of the cells of 569 biopsies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sklearn.datasets import load_breast_cancer

from core.contract import Row

MEANS = 10
"""The first measurements are means over the cells; standard errors and worst values of the same follow."""


def biopsies() -> list[Row]:
    found = load_breast_cancer()
    labels = [str(found.target_names[i]) for i in found.target]
    return [Row(numbers.tolist(), label) for numbers, label in zip(found.data, labels, strict=True)]


class Biopsies:
    """Of every ten biopsies four made the base; one is to train on, one selects, and four are reported."""

    def rows(self) -> Mapping[str, Sequence[Row]]:
        rows = biopsies()
        report = [row for i, row in enumerate(rows) if i % 10 in (6, 7, 8, 9)]
        return {"train": rows[4::10], "select": rows[5::10], "report": report}


def rows_of_the_base() -> list[Row]:
    return [row for i, row in enumerate(biopsies()) if i % 10 < 4]
