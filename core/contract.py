"""What a plugin's components are made of: the contract between the core and every domain, in one file.

A plugin registers `Component` records. Each names a factory, `module:attribute`, which is imported when a
recipe uses the component and called with its validated options (or with nothing where it has none). The
protocols below say what the factory of each kind makes. This module imports no torch, so that a plugin's
entry module can import it.

JSON in these pages means what `json.dumps` takes: dict, list, str, int, float, bool, None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

API = 1
"""The version of this contract. The core accepts plugins of this version and of the one before."""

JSON: TypeAlias = Any
Kind = Literal["base", "dataset", "transform", "task", "edit", "loss", "strategy", "updater"]
KINDS: tuple[str, ...] = get_args(Kind)

TRAIN, SELECT, REPORT, RETAIN = "train", "select", "report", "retain"
SPLITS = (TRAIN, SELECT, REPORT, RETAIN)

BASE, ADAPTED, SCRATCH = "base", "adapted", "scratch"
"""The contenders of every run, beside the trivial ones; `scratch` where the recipe asks for it."""

Prediction: TypeAlias = Mapping[str, Any]
"""One JSON object that a contender says of one row."""


@dataclass(frozen=True, slots=True)
class Component:
    """One thing a recipe can name. `name` is qualified by its plugin, as in `acme.classify`; a recipe may
    use the short name `classify` where only one active plugin has it.

    `factory` and `options` are `module:attribute` strings. `options` names a pydantic model that forbids
    unknown keys, in a module that imports no torch: it is the recipe's schema for the component.
    """

    kind: Kind
    name: str
    summary: str
    factory: str
    options: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One example as a person would see it, before the task encodes it.

    `group` names what rows share (a document, a patient): intervals resample whole groups. `id` is given
    by the core, a hash of `inputs` with an ordinal. What hashes equal counts as the same example, so
    where two users may look alike, `inputs` says who they are.
    """

    inputs: Any
    target: Any = None
    group: str | None = None
    id: str = ""

    def with_inputs(self, inputs: Any) -> Row:
        """The row with other inputs: what a transform returns. (`dataclasses.replace` takes four times as long.)"""
        return Row(inputs, self.target, self.group, self.id)


@dataclass(frozen=True)
class Structure:
    """Where a model keeps what edits and strategies speak of. A model carries it as its attribute `structure`.

    `axes` maps an axis that may grow to the (parameter name, dimension) pairs that lie along it, for
    example `{"classes": (("head.weight", 0), ("head.bias", 0))}`. `head` lists the names of the modules,
    or of single parameters, that make the output.
    """

    axes: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    head: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a plugin chose for a key that the recipe leaves `auto`, and why, in a few words for the user."""

    key: str
    value: JSON
    why: str


@dataclass(frozen=True)
class Base:
    """An existing model: structure G0 and weights θ0.

    `digest` is over the tensors as they are stored (`core.bases.digest`), `licence` an SPDX name, `origin` where it
    comes from, in words. `preprocessing` is what the base brings: `{"task": ...}` is handed to the task's
    `fit`, and a transform's qualified name holds that transform's state, which is then used as it is
    instead of being fitted. `fresh` makes a newly initialised model of the same structure, drawing from torch's
    global generator: where it is given, `scratch` starts from it, and otherwise from each module's
    `reset_parameters`. `notes` say what was done to the weights to read them; the user is told.
    """

    model: nn.Module
    digest: str
    licence: str
    origin: str
    preprocessing: Mapping[str, JSON] = field(default_factory=dict)
    fresh: Callable[[], nn.Module] | None = None
    notes: Sequence[str] = ()


class BaseSource(Protocol):
    """Kind `base`."""

    def load(self) -> Base:
        """Read the base on the CPU. Raises `BaseError` where it is missing, damaged or does not fit."""


class Dataset(Protocol):
    """Kind `dataset`."""

    def rows(self) -> Mapping[str, Sequence[Row]]:
        """The rows of each split: `train`, `select` and `report`, and `retain` where there are examples of
        the base's own task. The same options give the same rows in the same order, whatever the run's
        seed. Raises `DataError`.

        A list is held in memory, and encoded once. Any other sequence (`core.data.rows.Lazy`) is streamed: its
        rows are read, transformed and encoded when a batch needs them, and never held."""


class Transform(Protocol):
    """Kind `transform`. A random one augments: it is applied to `train` alone, anew in each epoch. One that is
    not random may have the attribute `slow`: True, or a text that names what its result depends on beside its own
    source, such as a library's version. It makes `inputs` of `inputs` alone, and what it makes of streamed
    rows is cached on disk; so is what the transforms before it make, which then change `inputs` alone too."""

    random: bool

    def fit(self, rows: Sequence[Row]) -> JSON:
        """What the transform learns from the `train` rows, as they leave the transforms before it."""

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        """A new row (`row.with_inputs`); `row` itself stays as it is. `rng` is the only source of
        randomness."""


class RowMetric(Protocol):
    """A metric of one row after the other: a corpus' score is the sum of numerators over the sum of denominators."""

    name: str
    unit: str
    higher_is_better: bool

    def score(self, row: Prediction) -> tuple[float, float]:
        """(numerator, denominator) of one prediction, which also has its row's `id`, `target` and `group`."""


class CorpusMetric(Protocol):
    """A metric of all rows at once, which is no sum over them: BLEU, mean average precision, coverage."""

    name: str
    unit: str
    higher_is_better: bool

    def corpus(self, rows: Sequence[Prediction]) -> Callable[[NDArray[np.float64]], float]:
        """What can be worked out once, as a function: of weights (rows,), how often each row counts, the score. With
        ones it is the score itself; intervals ask for it some thousand times, with the counts of resamples. Of
        weights that leave nothing to score it is nan."""


Metric: TypeAlias = RowMetric | CorpusMetric
"""One that also has `breakdown(rows) -> Mapping[str, float]`, the score by class for example, is shown with it."""


class Contender(Protocol):
    """A model, however simple, that predicts rows."""

    name: str

    def predict(self, rows: Sequence[Row]) -> Sequence[Prediction]:
        """One prediction a row, in their order, of the same form as the task's `predict`."""


class Task(Protocol):
    """Kind `task`: how to read the data, call the model, compute a loss, write predictions and score them.

    `state` is what `fit` returned. What `encode` makes of a row, what `collate` makes of examples and
    what `forward` makes of a batch are the task's own business, with one rule: a batch is made of
    tensors, and of dicts, lists and tuples of them, so that the core can move it to a device.

    A task whose examples differ much in length may have `length(example) -> int`: batches, in training and in
    prediction, are then made of examples of about one length, so that little of them is padding.
    """

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> JSON:
        """What the task learns from the `train` rows (label names, id maps), on top of what the base
        `brought`. Called with no rows, it is the state the base itself works with."""

    def edits(self, model: nn.Module, state: JSON) -> Sequence[Mapping[str, JSON]]:
        """The edits the task needs on the model that the recipe's own edits have made, each as a recipe
        would write it: `{"edit": "grow", "axis": "classes", "to": 10}`."""

    def encode(self, row: Row, state: JSON) -> Any:
        """One row as the model's example."""

    def collate(self, examples: Sequence[Any], rng: torch.Generator) -> Any:
        """A batch of examples. `rng` is keyed by epoch and batch in training, and by the batch alone in
        evaluation."""

    def forward(self, model: nn.Module, batch: Any) -> Any:
        """The model's outputs on a batch."""

    def loss(self, outputs: Any, batch: Any) -> tuple[Tensor, float | Tensor]:
        """(sum, weight): a differentiable scalar summed over the batch and what to divide it by. Replaced
        where the recipe names another loss."""

    def predict(self, model: nn.Module, batch: Any, state: JSON) -> Sequence[Prediction]:
        """One JSON object an example, in the batch's order. It calls `forward`, once or, where it generates, as
        often as it takes. Without gradients; `model` is in eval mode."""

    def parse(self, inputs: Sequence[str], state: JSON) -> Sequence[Row]:
        """What a user types or points at, as rows without a target. Raises `DataError` with what was expected."""

    def metrics(self) -> Sequence[Metric]:
        """The task's metrics; the recipe names the primary one."""

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> Sequence[Contender]:
        """The cheapest sane alternatives, fitted on `train`, chosen on `select`; no other split is handed
        over. `base` is frozen, and the examples in `splits` are encoded for it."""


class Edit(Protocol):
    """Kind `edit`: one structural operation. Its options are its serial form, and replaying it gives the
    same model."""

    preserves: bool
    """Whether what the base computed is still computed, to the bit, before any training."""

    def validate(self, model: nn.Module) -> None:
        """Raises `EditError` where the edit does not fit the model; changes nothing."""

    def apply(self, model: nn.Module) -> nn.Module:
        """The edited model: `model` itself, changed, or a new one around it."""

    def describe(self) -> str:
        """One line for a person."""


class Loss(Protocol):
    """Kind `loss`: sums and weights are added up over a whole update, so that its division into batches
    changes nothing. One that has `fit(split: Split) -> None` is shown the encoded `train` split once, before
    training."""

    def __call__(self, outputs: Any, batch: Any) -> tuple[Tensor, float | Tensor]:
        """As `Task.loss`."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters, by name, that move together, at `lr` times the recipe's learning rate."""

    parameters: tuple[str, ...]
    lr: float = 1.0


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training in which the parameters of `groups` move and all others stay bitwise unchanged.
    `epochs` None: all epochs that the recipe has left, of which there must be at least one."""

    groups: tuple[Group, ...]
    epochs: int | None = None


class Strategy(Protocol):
    """Kind `strategy`."""

    def phases(self, model: nn.Module) -> Sequence[Phase]:
        """Which parameters move, when, and how fast. Raises `EditError` where the model lacks what the
        strategy needs."""


class Updater(Protocol):
    """Kind `updater`."""

    def build(self, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """The optimizer of one phase. A group has `params`, `lr`, and, where the weights at the start (θ0')
        are worth a pull towards them, `anchor_to`: one tensor a parameter. An optimizer that keeps a
        running average of the weights offers it as `averaged()`, a context manager in which the
        parameters hold it; one that leaves steps out counts them in `skipped_steps`."""


@dataclass(frozen=True, slots=True)
class Split:
    """A split after preprocessing: its rows (deterministic transforms applied) and one example a row, encoded
    with the task's `state`.

    `augment`, on `train` where there are random transforms, makes the example of row `index` in `epoch`,
    the same whenever and by whomever it is called; `examples` then holds the rows without augmentation.
    `digest` is over the rows' contents and targets as the dataset gave them (`core.rows.data_digest`).
    """

    name: str
    rows: Sequence[Row]
    examples: Sequence[Any]
    state: JSON
    augment: Callable[[int, int], Any] | None = None
    digest: str = ""


class StepResult(NamedTuple):
    """What one step did. `loss` is per unit of `weight`; it stays on the device: reading it waits for the device, so
    observers read it rarely."""

    loss: Tensor
    weight: float | Tensor
