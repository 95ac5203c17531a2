"""The verdict: is the adapted model worth shipping, by paired intervals against the base and the best
trivial contender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    remark_on: str = "scratch",
) -> Verdict:
    """Ship where every gain's interval (better is positive) lies above zero and forgetting's below
    `max_forgetting`; no-ship where one lies wholly on the wrong side; inconclusive otherwise.

    Args:
        gains: for each rival, by name, how much better the adapted model is.
        forgetting: the part of the base's score on its own task that was lost.
        max_forgetting: how much of it may be lost; None does not ask.
        remark_on: a rival that is reported and not asked about: whether the base was worth having.
    """
    answers: list[bool | None] = []
    reasons = []
    for rival, gain in gains.items():
        answer = True if gain.low > 0 else False if gain.high < 0 else None
        if rival != remark_on:
            answers.append(answer)
        says = {True: "better than", False: "worse than", None: "not distinguishable from"}[answer]
        helped = " (so the base did not help)" if rival == remark_on and answer is not True else ""
        reasons.append(f"{says} {rival}: {gain.value:+.4g} [{gain.low:+.4g}, {gain.high:+.4g}]{helped}")
    if forgetting is not None and max_forgetting is not None:
        answer = (
            True if forgetting.high <= max_forgetting else False if forgetting.low > max_forgetting else None
        )
        answers.append(answer)
        forgot = {
            True: "forgot no more than",
            False: "forgot more than",
            None: "may have forgotten more than",
        }
        reasons.append(
            f"{forgot[answer]} {max_forgetting:.1%} of the base's score on its own task:"
            f" {forgetting.value:.1%} [{forgetting.low:.1%}, {forgetting.high:.1%}]"
        )
    verdict = (
        SHIP if all(answer is True for answer in answers) else NO_SHIP if False in answers else INCONCLUSIVE
    )
    return Verdict(verdict, tuple(reasons))
