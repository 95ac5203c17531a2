"""The card of a shell: README.md with the front matter that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from core.contract import BASE
from core.edits import Applied
from core.evidence.paired import Interval


def card(provenance: Mapping[str, Any], edits: Sequence[Applied]) -> str:
    """The card's text, from a shell's provenance and edits."""
    evidence = provenance["evidence"]
    primary = evidence["primary"]
    front = {
        "base_model": provenance["base"]["origin"],
        "base_model_relation": "finetune",
        "license": provenance["base"]["licence"].lower(),
        "library_name": "taoke",
    }
    direction = "higher" if evidence["higher_is_better"] else "lower"
    rows = [
        f"| {name} | {scores[primary]:.4f} | {_difference(evidence, name)} |"
        for name, scores in evidence["contenders"].items()
    ]
    changes = [f"- {edit.description}" for edit in edits] or ["- none"]
    reasons = [f"- {reason}" for reason in evidence["reasons"]]
    lines = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {provenance['name']}",
        f"An adapted model: a delta on the base `{provenance['base']['origin']}` (`{provenance['base']['digest']}`)."
        " This folder holds no copy of the base.",
        f"## Verdict: {evidence['verdict']}\n\n" + "\n".join(reasons),
        f"## Scores on `report` ({primary}, {direction} is better)\n\n"
        f"| contender | {primary} | difference to the base, {evidence['confidence']:.0%} interval |\n|---|---|---|\n"
        + "\n".join(rows),
        "## Structural edits\n\n" + "\n".join(changes),
        "## Use\n\n    python -m core eval SHELL\n    python -m core predict SHELL INPUT",
    ]
    return "\n\n".join(lines) + "\n"


def _difference(evidence: Mapping[str, Any], contender: str) -> str:
    return (
        "" if contender == BASE else str(Interval(**evidence["differences"][contender][evidence["primary"]]))
    )
