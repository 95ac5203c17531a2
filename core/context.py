"""What a run hands to every plugin: its recipe, device, randomness, record, and a place for the plugin's own
state."""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, TypeVar, cast

from core.errors import OutputError, UsageError

if TYPE_CHECKING:
    import torch

    from core.contract import Loss
    from core.loader import Plugins
    from core.progress import Progress
    from core.recipe import Recipe

T = TypeVar("T")


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


def derive_seed(seed: int, stream: str, *keys: int | str) -> int:
    """A 63-bit seed that depends on all of its arguments and on nothing else."""
    text = "\x1f".join(map(str, (seed, stream, *keys)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, stream: str, *keys: int | str) -> torch.Generator:
    """A CPU generator for one use: the same arguments give the same numbers, whoever asks and in whatever
    order."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, stream, *keys))


def seed_torch(device: torch.device, seed: int) -> None:
    """Seed torch's global generator of the CPU, and of `device`: for dropout and `reset_parameters`, which
    take no other.

    `torch.manual_seed` would seed every kind of device, and where CUDA is built in and not initialised,
    queue a call with a formatted stack each time: 3 ms, never freed.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


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


class Events:
    """A run's record: one JSON object a line, append-only, with the seconds since the run began.

    Lines are kept in memory until `open`. Tensors of one element are read when lines are flushed, so that
    recording a loss waits for no device.
    """

    FLUSH_EVERY = 64

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._waiting: list[dict[str, Any]] = []
        self._file: IO[str] | None = None

    def open(self, path: Path) -> None:
        """Write to `path` from now on. Raises `OutputError`."""
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}", "choose another folder with --out") from error
        self.flush()

    def emit(self, event: str, **fields: Any) -> None:
        self._waiting.append({"event": event, "seconds": time.perf_counter() - self._began, **fields})
        if len(self._waiting) >= self.FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        if self._file is None:
            return
        for line in self._waiting:
            self._file.write(
                json.dumps({name: _plain(value) for name, value in line.items()}, ensure_ascii=False) + "\n"
            )
        self._file.flush()
        self._waiting.clear()

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value


class Context:
    """One run. Plugins write nothing here but values under stash keys of their own.

    `folder` is the run's, None where nothing is written; `stage` and `step` (of `steps`) say where the
    run is; `contender` says whose training is under way, `adapted` or `scratch`; `lr` is the schedule's
    rate at this step; `loss` is the loss that the recipe names in place of the task's.
    """

    def __init__(self, recipe: Recipe, plugins: Plugins, device: torch.device, progress: Progress) -> None:
        self.recipe = recipe
        self.seed = recipe.seed
        self.plugins = plugins
        self.device = device
        self.progress = progress
        self.folder: Path | None = None
        self.events = Events()
        self.stash = Stash()
        self.stage = ""
        self.step = 0
        self.steps = 0
        self.contender = "adapted"
        self.lr = 0.0
        self.loss: Loss | None = None
        self.warnings: list[str] = []

    def generator(self, stream: str, *keys: int | str) -> torch.Generator:
        """A CPU generator keyed by the run's seed, a stream's name, and whatever tells one use from another
        (epoch, example)."""
        return generator(self.seed, stream, *keys)

    def warn(self, message: str) -> None:
        """Tell the user on stderr and keep it in the record."""
        self.warnings.append(message)
        self.events.emit("warning", message=message)
        self.progress.warn(message)
