"""EASE, the closed form of a linear item-item model (Steck 2019, https://arxiv.org/abs/1905.03375), with a bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def ease(histories: Array, penalty: float) -> tuple[Array, Array]:
    """(weight (items, items), bias (items,)) that minimise ‖X − (X·W + b)‖² + penalty·‖W‖² with a zero diagonal.

    The bias is not penalised. So the best one, whatever W, is mean(X) − mean(X)·W, and what is left is the
    paper's own problem on X less its means.

    Args:
        histories: X, (users, items) of ones and zeros.
        penalty: the paper's λ, in users.
    """
    means = histories.mean(0)
    centred = histories - means
    inverse = np.linalg.inv(centred.T @ centred + penalty * np.eye(len(means)))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0.0)
    return weight, means - means @ weight
