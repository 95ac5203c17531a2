"""What a plugin's components return while a run goes on: what is not of the contract is told, and by whose name."""

from __future__ import annotations

import pytest

BROKEN = {
    "a loss that is a scalar": (
        "loss",
        "return super().loss(outputs, batch)[0]",
        "the loss returned tensor(",
        "(sum, weight)",
    ),
    "predictions that are no JSON": (
        "predict",
        "return [{'label': batch['y'][0]} for _ in batch['y']]",
        "what contender 'base' predicted is not JSON",
        ".item() or .tolist()",
    ),
    "predictions that are no objects": (
        "predict",
        "return ['a' for _ in batch['y']]",
        "contender 'base' predicted 'a' for row",
        "one JSON object a row",
    ),
    "a state that is no JSON": ("fit", "return {1, 2}", "cannot go into a shell", "call .tolist() on arrays"),
    "two metrics of one name": (
        "metrics",
        "return [*super().metrics(), *super().metrics()]",
        "the task has 2 metrics called 'accuracy'",
        "rename all but one",
    ),
    "a contender with the name of the base": (
        "trivial",
        "made = super().trivial(base, splits); made[0].name = 'base'; return made",
        "a trivial contender is called 'base'",
        "none of base, adapted, scratch",
    ),
    "a contender whose name is a path": (
        "trivial",
        "made = super().trivial(base, splits); made[0].name = '../up'; return made",
        "a trivial contender is called '../up'",
        "letters and digits",
    ),
}
ARGUMENTS = {
    "loss": "outputs, batch",
    "predict": "model, batch, state",
    "fit": "rows, brought",
    "metrics": "",
    "trivial": "base, splits",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_not_of_the_contract_is_told_with_the_remedy(toy, plugin_file, what):
    """Exit code 1, the kind ContractError, what came and what to do."""
    method, line, says, hint = BROKEN[what]
    plugin = plugin_file(
        "other",
        f"""
        import sys

        def make():
            class Broken(sys.modules["taoke_plugin_file_toy"].Quadrants):
                def {method}(self, {ARGUMENTS[method]}):
                    {line}
            return Broken()

        @hookimpl
        def taoke_register():
            return [Component("task", "other.broken", "a mistake", f"{{__name__}}:make")]
        """,
    )
    outcome = toy("task=other.broken", plugins=[plugin])
    assert outcome.code == 1, outcome
    assert outcome.error["kind"] == "ContractError"
    assert says in outcome.error["message"]
    assert hint in outcome.error["hint"]


def test_what_the_base_brings_is_not_changed_by_a_task_that_changes_it(stages, plugin_file):
    """The base is judged with its own labels, although `fit` added to the list it was handed."""
    plugin = plugin_file(
        "other",
        """
        import sys

        def make():
            class Greedy(sys.modules["taoke_plugin_file_toy"].Quadrants):
                def fit(self, rows, brought):
                    brought["labels"] += sorted({row.target for row in rows} - set(brought["labels"]))
                    return {"labels": brought["labels"]}
            return Greedy()

        @hookimpl
        def taoke_register():
            return [Component("task", "other.greedy", "changes what it is given", f"{__name__}:make")]
        """,
    )
    prepared = stages({"task": "other.greedy"}, plugins=[plugin]).prepared
    assert prepared.state == {"labels": ["a", "b", "c", "d"]}
    assert prepared.base_state == {"labels": ["a", "b"]}
    assert prepared.base.preprocessing["task"] == {"labels": ["a", "b"]}
