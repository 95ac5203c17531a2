"""What a run hands to every plugin: its recipe, device, randomness, record, and a place for the plugin's own
state."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from core.contract import ADAPTED
from core.errors import DataWarning, UsageError
from core.events import Events

if TYPE_CHECKING:
    import torch

    from core.components import Use
    from core.contract import Loss
    from core.progress import Progress
    from core.recipe import Resolved

T = TypeVar("T")


class Gradient(NamedTuple):
    """The norm of a step's gradients, and what they were multiplied with: 0 where the step was left out. Both may be
    tensors of a device, for which one waits when they are read."""

    norm: Any
    clip: Any


class StashKey(Generic[T]):
    """A key of one type of value, compared by identity: no two plugins can take each other's by accident."""

    __slots__ = ()


class Stash:
    """A typed dictionary: each plugin keeps its state under keys of its own."""

    def __init__(self) -> None:
        self._values: dict[StashKey[Any], Any] = {}

    def __setitem__(self, key: StashKey[T], value: T) -> None:
        self._values[key] = value

    def __getitem__(self, key: StashKey[T]) -> T:
        return cast(T, self._values[key])

    def __contains__(self, key: StashKey[Any]) -> bool:
        return key in self._values

    def get(self, key: StashKey[T], default: T) -> T:
        return cast(T, self._values.get(key, default))


def pick_device(name: str) -> torch.device:
    """The device of that name. Raises `UsageError` where torch does not know it or cannot compute on it."""
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {name!r} cannot be used: {str(error).splitlines()[0]}", "try --device cpu"
        ) from error
    return device


class Context:
    """One run. Plugins write nothing here but values under stash keys of their own.

    `name`, `recipe`, `plugins` and `choices` are those of the resolved recipe. `folder` is the run's, None where
    nothing is written; `stage` and `step` (of `steps`) say where the run is; `contender` says whose
    training is under way, `adapted` or `scratch`; `lr` is the schedule's rate at this step, `gradient` what the updater
    says of the gradients of the last one, if it does; `ended` is empty until the run is over, and then says how:
    `done`, `failed` or `interrupted`. `workers` is how many processes make batches ahead of time, None the
    core's choice; it changes no bit.
    """

    def __init__(
        self, resolved: Resolved, device: torch.device, progress: Progress, *, workers: int | None = None
    ) -> None:
        self.name = resolved.name
        self.recipe = resolved.recipe
        self.plugins = resolved.plugins
        self.choices = resolved.choices
        self.seed = resolved.recipe.seed
        self.device = device
        self.workers = workers
        self.progress = progress
        self.folder: Path | None = None
        self.events = Events()
        self.stash = Stash()
        self.stage = ""
        self.step = 0
        self.steps = 0
        self.contender = ADAPTED
        self.lr = 0.0
        self.gradient: Gradient | None = None
        self.ended = ""
        self._warned: set[str] = set()

    def make(self, use: Use) -> Any:
        """The component that the recipe names there, made with its options."""
        return self.plugins.components.make(use)

    @cached_property
    def loss(self) -> Loss | None:
        """The loss that the recipe names in place of the task's."""
        use = self.recipe.fine_tune.loss
        return None if use is None else self.make(use)

    def generator(self, stream: str, *keys: int | str) -> torch.Generator:
        """A CPU generator keyed by the run's seed, a stream's name, and whatever tells one use from another
        (epoch, example)."""
        from core.seeds import generator

        return generator(self.seed, stream, *keys)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Take every `DataWarning` that is raised meanwhile as a warning of this run."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", DataWarning)
            shown = warnings.showwarning

            def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
                if issubclass(category, DataWarning):
                    self.warn(str(message))
                else:
                    shown(message, category, *rest, **more)

            warnings.showwarning = show
            yield

    def warn(self, message: str) -> None:
        """Tell the user on stderr and keep it in the record, once."""
        if message in self._warned:
            return
        self._warned.add(message)
        self.events.emit("warning", message=message)
        self.progress.warn(message)
