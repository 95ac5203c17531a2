"""The verdict: is the adapted model worth shipping, by paired intervals against the base and the best
trivial contender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.contract import SCRATCH
from core.evidence.paired import Interval

SHIP, NO_SHIP, INCONCLUSIVE = "ship", "no-ship", "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` holds a sentence for each question asked, whatever its answer."""

    verdict: str
    reasons: tuple[str, ...]


def judge(
    gains: Mapping[str, Interval],
    forgetting: Interval | None = None,
    max_forgetting: float | None = None,
) -> Verdict:
    """Ship where every gain's interval (better is positive) lies above zero and forgetting's below
    `max_forgetting`; no-ship where one lies wholly on the wrong side; inconclusive otherwise.

    Args:
        gains: for each rival, by name, how much better the adapted model is. `scratch` is a remark, not a
            question: whether the base was worth having.
        forgetting: the part of the base's score on its own task that was lost; None where it was not measured.
        max_forgetting: how much of it may be lost; None does not ask.
    """
    answers: list[bool | None] = []
    reasons = []
    for rival, gain in gains.items():
        answer = _answer(yes=gain.low > 0, no=gain.high < 0)
        says = {True: "is better than", False: "is worse than", None: "is not distinguishable from"}[answer]
        reason = f"{says} {rival}: {gain}"
        if rival != SCRATCH:
            answers.append(answer)
        elif not answer:
            reason += " (so the base did not help)"
        reasons.append(reason)
    if forgetting is not None:
        lost = f"{forgetting.value:.1%} [{forgetting.low:.1%}, {forgetting.high:.1%}]"
        reason = f"forgot {lost} of the base's score on its own task"
        if max_forgetting is not None:
            answer = _answer(yes=forgetting.high <= max_forgetting, no=forgetting.low > max_forgetting)
            answers.append(answer)
            says = {True: "within", False: "beyond", None: "not clearly within"}[answer]
            reason += f", {says} the {max_forgetting:.1%} allowed"
        reasons.append(reason)
    elif max_forgetting is not None:
        answers.append(None)
        reasons.append(
            "may have forgotten anything: the base scores 0 on its own task, so nothing can be measured"
        )
    if all(answers):
        return Verdict(SHIP, tuple(reasons))
    return Verdict(NO_SHIP if False in answers else INCONCLUSIVE, tuple(reasons))


def _answer(*, yes: bool, no: bool) -> bool | None:
    return True if yes else False if no else None
