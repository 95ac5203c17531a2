"""The entry module of the plugin medicine: what it brings. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from core.contract import Component
from core.hookspecs import hookimpl

taoke_api = 1


@hookimpl
def taoke_register() -> Iterable[Component]:
    return [
        Component("task", "medicine.diagnose", "malignant or benign", "taoke_medicine.task:Diagnose"),
        Component(
            "dataset", "medicine.biopsies", "569 biopsies, scikit-learn's", "taoke_medicine.data:Biopsies"
        ),
        Component("base", "medicine.means", "reads ten means of each biopsy", "taoke_medicine.model:Means"),
    ]
