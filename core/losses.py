"""Losses every domain shares, for models whose output is one tensor.

`outputs` is (batch, classes) logits, or (batch, width) embeddings, or (batch,) numbers; a batch is a mapping with
`labels`, class indices (batch,) int64, or with `targets`, numbers. Each loss returns (sum, weight): added up over the
parts of a batch and divided at the end they give what the whole batch gives, and that is what torch's own
function of that name gives with `reduction="mean"`. The one exception is `Triplet`, which compares the
examples of a batch with each other.

What does not fit is refused where looking costs nothing: shapes always, values where they lie on the CPU. On another
device, where looking would make the host wait at every step, a label without a class makes the loss NaN, as
outputs or targets that are NaN do by themselves; the loop refuses that when the epoch ends.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from core import options
from core.contract import JSON, Split
from core.errors import ContractError, DataError, RecipeError, nearest

Balance: TypeAlias = Callable[[Sequence[int], int], list[float]]
"""Weights from how many rows have each label, and how many rows there are."""

TASK_S_OWN = "choose another loss, or leave fine_tune.loss out for the task's own"


class CrossEntropy:
    """-log p of the right class, with weights by class and label smoothing
    (https://arxiv.org/abs/1512.00567, section 7)."""

    def __init__(self, options: options.CrossEntropy) -> None:
        self._weights = ClassWeights(options.weights, "weights")
        self._smoothing = options.label_smoothing

    def fit(self, split: Split) -> None:
        self._weights.fit(split, _inverse_shares)

    def __call__(self, outputs: Tensor, batch: Mapping[str, Any]) -> tuple[Tensor, float | Tensor]:
        logits, labels = _classified("cross_entropy", outputs, batch)
        weights = self._weights.of(logits, logits.shape[1])
        total = functional.cross_entropy(
            logits, labels, weights, reduction="sum", label_smoothing=self._smoothing
        )
        return total, _weight_of(labels, weights)


class Focal:
    """-(1 - p)^gamma log p of the right class: what is right already counts for little
    (https://arxiv.org/abs/1708.02002). With gamma 0 it is cross-entropy."""

    def __init__(self, options: options.Focal) -> None:
        self._weights = ClassWeights(options.weights, "weights")
        self._gamma = options.gamma

    def fit(self, split: Split) -> None:
        self._weights.fit(split, _inverse_shares)

    def __call__(self, outputs: Tensor, batch: Mapping[str, Any]) -> tuple[Tensor, float | Tensor]:
        logits, labels = _classified("focal", outputs, batch)
        weights = self._weights.of(logits, logits.shape[1])
        log_p = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
        # Not at zero, where a power below one has no gradient.
        missing = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
        each = -(missing**self._gamma) * log_p
        return (each if weights is None else each * weights[labels]).sum(), _weight_of(labels, weights)


class Binary:
    """Binary cross-entropy of each logit. One logit, (batch,) or (batch, 1), is that of the second label; more are
    one a class, each against all others, with `labels` (batch,) or, where an example has any number of
    them, (batch, classes) of zeros and ones. `pos_weight` multiplies what is due to the ones, as in torch."""

    def __init__(self, options: options.Binary) -> None:
        given = options.pos_weight
        self._all = float(given) if isinstance(given, int | float) else None
        self._weights = ClassWeights(None if isinstance(given, int | float) else given, "pos_weight")

    def fit(self, split: Split) -> None:
        self._weights.fit(split, _odds_against)

    def __call__(self, outputs: Tensor, batch: Mapping[str, Any]) -> tuple[Tensor, float | Tensor]:
        logits, wanted = _binary(outputs, batch)
        if self._all is not None:
            weights: Tensor | None = logits.new_full((logits.shape[1],), self._all)
        elif logits.shape[1] == 1:
            weights = self._weights.of_one_logit(logits)
        else:
            weights = self._weights.of(logits, logits.shape[1])
        total = functional.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=weights, reduction="sum"
        )
        return total, float(logits.numel())


class Margin:
    """The multi-class hinge: how far the best of the wrong classes is above the right one less `margin`
    (Crammer and Singer, https://www.jmlr.org/papers/v2/crammer01a.html)."""

    def __init__(self, options: options.Margin) -> None:
        self._margin = options.margin

    def __call__(self, outputs: Tensor, batch: Mapping[str, Any]) -> tuple[Tensor, float | Tensor]:
        scores, labels = _classified("margin", outputs, batch)
        if scores.shape[1] < 2:
            raise RecipeError(
                "loss margin compares classes, and the model's outputs have one",
                hint="choose the loss binary",
            )
        right = scores.gather(1, labels[:, None])[:, 0]
        is_right = functional.one_hot(labels, scores.shape[1]).bool()
        best_wrong = scores.masked_fill(is_right, -math.inf).amax(1)
        return (self._margin + best_wrong - right).clamp(min=0).sum(), float(len(labels))


class Triplet:
    """How far an example is from one of its own class, less its distance to one of another class, plus `margin`,
    where that is above zero (https://arxiv.org/abs/1503.03832); `outputs` are embeddings (batch, width), compared by
    Euclidean distance. `all` takes the mean over every triplet of the batch, in memory of batch³; `hard` takes for each
    example its farthest relative and its nearest stranger (https://arxiv.org/abs/1703.07737).

    It is a property of the batch: half the batch has fewer than half the triplets, so dividing an update into
    batches changes it. A batch without a triplet, such as one of a single class, has the loss 0.
    """

    def __init__(self, options: options.Triplet) -> None:
        self._margin, self._mining = options.margin, options.mining

    def __call__(self, outputs: Tensor, batch: Mapping[str, Any]) -> tuple[Tensor, float | Tensor]:
        labels = _labels("triplet", outputs, batch)
        if outputs.dim() != 2:
            raise _misfit("triplet", "embeddings (batch, width)", outputs)
        outputs = _marked(outputs, labels, labels < 0, " of the task's")
        distances = torch.cdist(outputs, outputs, compute_mode="donot_use_mm_for_euclid_dist")
        same = labels[:, None] == labels[None, :]
        relatives = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        if self._mining == "all":
            is_triplet = relatives[:, :, None] & ~same[:, None, :]  # (anchor, relative, stranger)
            apart = distances[:, :, None] - distances[:, None, :]
        else:
            is_triplet = relatives.any(1) & ~same.all(1)  # (anchor,)
            apart = distances.masked_fill(~relatives, -math.inf).amax(1) - distances.masked_fill(
                same, math.inf
            ).amin(1)
        # What is no triplet is cut out before the sum, since infinity times zero is no number.
        above = (apart + self._margin).masked_fill(~is_triplet, 0).clamp(min=0)
        return above.sum(), is_triplet.sum().clamp(min=1)


def mean_squared() -> MeanError:
    """(output - target)², the mean over all numbers."""
    return MeanError("mse")


def mean_absolute() -> MeanError:
    """|output - target|, the mean over all numbers."""
    return MeanError("mae")


class MeanError:
    """The loss `mse` or `mae`. `batch["targets"]` has the outputs' shape; a last dimension of one may be left out on
    either side, and nothing else is broadcast."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, outputs: Tensor, batch: Mapping[str, Any]) -> tuple[Tensor, float | Tensor]:
        targets = _from_batch(self._name, "targets", outputs, batch)
        numbers, wanted = _without_last_one(outputs), _without_last_one(targets).to(outputs.dtype)
        if numbers.shape != wanted.shape:
            raise _misfit(self._name, f"the shape of the targets, {tuple(targets.shape)}", outputs)
        if _looks_now(wanted) and not wanted.isfinite().all():
            places = (~wanted.isfinite()).reshape(len(wanted), -1).any(1).nonzero()[:, 0].tolist()
            raise DataError(
                f"loss {self._name}: {len(places)} of {len(wanted)} targets of a batch are no finite numbers"
                f" (the first is {targets[places[0]].tolist()})",
                "leave these rows out of the data, or fill them in",
            )
        error = numbers - wanted
        return (error.square() if self._name == "mse" else error.abs()).sum(), float(error.numel())


class ClassWeights:
    """A weight for each class, in the order of the task's labels: none, given by label (others weigh 1), or worked
    out from how often each label stands in `train`."""

    def __init__(self, given: str | Mapping[str, float] | None, option: str) -> None:
        self._given, self._option = given, option
        self._labels: list[str] = []
        self._weights: Tensor | None = None  # float64, on the CPU
        self._placed: Tensor | None = None  # as the outputs are

    def fit(self, split: Split, balance: Balance) -> None:
        """Raises `RecipeError` where a label is given that the task does not know, or it knows none."""
        if self._given is None:
            return
        where = f"fine_tune.loss.{self._option}"
        self._labels = _label_names(split.state, where)
        if isinstance(self._given, str):
            targets = (row.target for row in split.rows)
            counts = Counter(str(label) for target in targets for label in _each(target))
            weights = balance([counts[label] for label in self._labels], len(split.rows))
        else:
            unknown = [label for label in self._given if label not in self._labels]
            if unknown:
                raise RecipeError(
                    f"{where} names labels that the data do not have",
                    nearest(unknown[0], self._labels),
                    problems=[repr(label) for label in unknown],
                )
            weights = [self._given.get(label, 1.0) for label in self._labels]
        self._weights = torch.tensor(weights, dtype=torch.float64)
        self._placed = None

    def of(self, outputs: Tensor, classes: int) -> Tensor | None:
        """The weights of the classes that `outputs` tell apart, with their device and dtype; None where none are
        wanted."""
        if self._given is None:
            return None
        if self._weights is None:
            raise ContractError(
                f"a loss with fine_tune.loss.{self._option} was called before it was shown the train split",
                "call its fit(split) first",
            )
        if len(self._weights) != classes:
            raise RecipeError(
                f"fine_tune.loss.{self._option}: the task has {len(self._weights)} labels, and outputs"
                f" {tuple(outputs.shape)} tell {classes} classes apart",
                hint="leave the weights out",
            )
        placed = self._placed
        if placed is None or (placed.dtype, placed.device) != (outputs.dtype, outputs.device):
            placed = self._placed = self._weights.to(outputs)
        return placed

    def of_one_logit(self, outputs: Tensor) -> Tensor | None:
        """The weight of the second label, (1,). Raises `RecipeError` where one is given to the first."""
        weights = self.of(outputs, 2)
        if isinstance(self._given, Mapping) and self._labels[0] in self._given:
            first, second = self._labels
            raise RecipeError(
                f"fine_tune.loss.{self._option}: the one logit is that of {second!r}, and {first!r} has no weight",
                hint=f"give the weight of {second!r}",
            )
        return None if weights is None else weights[1:]


def _inverse_shares(counts: Sequence[int], rows: int) -> list[float]:
    """rows / (classes · count), as scikit-learn's `balanced`: every class that is there weighs the same in sum. One
    that is not there weighs 1."""
    present = sum(count > 0 for count in counts)
    total = sum(counts)
    return [total / (present * count) if count else 1.0 for count in counts]


def _odds_against(counts: Sequence[int], rows: int) -> list[float]:
    """Rows without the label for one with it: ones and zeros then weigh the same. 1 where either is missing."""
    return [(rows - count) / count if 0 < count < rows else 1.0 for count in counts]


def _each(target: Any) -> Iterable[Any]:
    return target if isinstance(target, list | tuple | set | frozenset) else (target,)


def _label_names(state: JSON, where: str) -> list[str]:
    labels = state.get("labels") if isinstance(state, Mapping) else None
    if not labels:
        raise RecipeError(f"{where}: the task has no labels to weigh", hint="leave the weights out")
    return [str(label) for label in labels]


def _weight_of(labels: Tensor, weights: Tensor | None) -> float | Tensor:
    return float(len(labels)) if weights is None else weights[labels].sum()


def _classified(name: str, outputs: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Logits (batch, classes) and labels (batch,) that index them."""
    labels = _labels(name, outputs, batch)
    if outputs.dim() != 2 or not outputs.shape[1]:
        raise _misfit(name, "logits (batch, classes)", outputs)
    return _within(outputs, labels, outputs.shape[1]), labels.clamp(0, outputs.shape[1] - 1)


def _binary(outputs: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Logits (batch, outputs), and as many zeros and ones."""
    labels = _from_batch("binary", "labels", outputs, batch)
    logits = outputs[:, None] if outputs.dim() == 1 else outputs
    if logits.dim() != 2 or not logits.shape[1]:
        raise _misfit("binary", "logits (batch,) or (batch, classes)", outputs)
    if labels.shape == logits.shape and labels.dim() == 2:
        wanted = labels.to(logits.dtype)
        if _looks_now(wanted) and not ((wanted == 0) | (wanted == 1)).all():
            raise DataError(
                "loss binary: labels (batch, classes) are zeros and ones, and a batch has others",
                "check what the task's `collate` makes of the labels",
            )
        return logits, wanted
    labels = _labels("binary", outputs, batch)
    classes = max(2, logits.shape[1])
    logits = _within(logits, labels, classes)
    wanted = functional.one_hot(labels.clamp(0, classes - 1), classes).to(logits.dtype)
    return logits, wanted[:, 1:] if logits.shape[1] == 1 else wanted


def _labels(name: str, outputs: Any, batch: Any) -> Tensor:
    """Class indices, one an example."""
    labels = _from_batch(name, "labels", outputs, batch)
    if labels.is_floating_point() or labels.shape != outputs.shape[:1]:
        raise RecipeError(
            f"loss {name}: expected whole numbers, one for each of the {len(outputs)} outputs, as the batch's labels;"
            f" got {labels.dtype} {tuple(labels.shape)}",
            hint=TASK_S_OWN,
        )
    return labels.long()


def _looks_now(tensor: Tensor) -> bool:
    """Whether its values can be read without making the host wait for a device."""
    return tensor.device.type == "cpu"


def _within(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    return _marked(logits, labels, (labels < 0) | (labels >= classes), f" of the model's {classes}")


def _marked(outputs: Tensor, labels: Tensor, outside: Tensor, of: str) -> Tensor:
    """The outputs; NaN for examples whose label is no class, where they cannot be refused at once."""
    if not _looks_now(labels):
        return outputs.masked_fill(outside[:, None], math.nan)
    if outside.any():
        wrong = sorted(set(labels[outside].tolist()))
        raise DataError(
            f"a batch has {int(outside.sum())} examples whose label is none{of} classes (index"
            f" {', '.join(map(str, wrong[:5]))})",
            "a label that is not among the task's has the index -1: check the labels of `train`",
        )
    return outputs


def _from_batch(name: str, key: str, outputs: Any, batch: Any) -> Tensor:
    if not (isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.dim()):
        raise RecipeError(
            f"loss {name} takes one tensor of numbers as the model's outputs, and this task's are {_shape(outputs)}",
            hint=TASK_S_OWN,
        )
    found = batch.get(key) if isinstance(batch, Mapping) else None
    if not isinstance(found, Tensor):
        has = ", ".join(map(repr, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise RecipeError(
            f"loss {name} takes a batch with {key!r}, and this task's has {has}", hint=TASK_S_OWN
        )
    return found


def _misfit(name: str, expected: str, outputs: Tensor) -> RecipeError:
    return RecipeError(
        f"loss {name}: expected {expected} as the model's outputs, got {_shape(outputs)}", hint=TASK_S_OWN
    )


def _shape(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _without_last_one(tensor: Tensor) -> Tensor:
    return tensor[..., 0] if tensor.dim() > 1 and tensor.shape[-1] == 1 else tensor
