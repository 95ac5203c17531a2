"""EASE, the closed form of a linear item-item model (Steck 2019, https://arxiv.org/abs/1905.03375), with a bias."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from core.errors import DataWarning

Array = NDArray[np.float64]
SMALL = 1 << 20
"""Entries of histories that are made dense and centred first, which loses fewer digits."""


def ease(histories: Array | csr_matrix, penalty: float) -> tuple[Array, Array]:
    """(weight (items, items), bias (items,)) that minimise ‖X − (X·W + b)‖² + penalty·‖W‖² with a zero diagonal.

    The bias is not penalised. So the best one, whatever W, is mean(X) − mean(X)·W, and what is left is the
    paper's own problem on X less its means.

    Args:
        histories: X, (users, items) of ones and zeros.
        penalty: the paper's λ, in users.
    """
    return solve(*moments(histories), penalty)


def moments(histories: Array | csr_matrix) -> tuple[Array, Array]:
    """(Gram matrix (items, items) of X less its means, means (items,)): all that EASE needs of X."""
    if isinstance(histories, csr_matrix) and np.prod(histories.shape) <= SMALL:
        histories = histories.toarray()
    if isinstance(histories, csr_matrix):
        means = np.asarray(histories.mean(0)).ravel()
        gram: Array = (histories.T @ histories).toarray()
        gram -= histories.shape[0] * np.outer(means, means)
        return gram, means
    means = histories.mean(0)
    centred = histories - means
    return centred.T @ centred, means


def best_penalty(penalties: Sequence[float], score: Callable[[float], float], whose: str) -> float:
    """The penalty with the highest score, of equal ones the first. Warns (`DataWarning`) where it is the smallest or
    the largest and none does as well: one beyond might do better."""
    scores = {penalty: score(penalty) for penalty in penalties}
    best = max(scores, key=lambda penalty: scores[penalty])
    alone = list(scores.values()).count(scores[best]) == 1
    if len(scores) > 1 and alone and best in (min(scores), max(scores)):
        warnings.warn(
            f"{whose}: of EASE's penalties, {min(scores):g} to {max(scores):g}, {best:g} is best, at the edge; one"
            " beyond might be better",
            DataWarning,
            stacklevel=2,
        )
    return best


def solve(gram: Array, means: Array, penalty: float) -> tuple[Array, Array]:
    """As `ease`, from the moments."""
    inverse = np.linalg.inv(gram + penalty * np.eye(len(means)))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0.0)
    return weight, means - means @ weight
