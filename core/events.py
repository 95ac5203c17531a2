"""The record of a run: one JSON object a line."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from core.errors import OutputError

if TYPE_CHECKING:
    from core.context import Gradient


class Events:
    """A run's record: one JSON object a line, append-only, with the seconds since the run began.

    Lines are kept in memory until `open`. The losses of steps are read when lines are flushed, so that
    recording one waits for no device; steps have a method of their own because they are many.
    """

    FLUSH_EVERY = 64

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._steps: list[tuple[float, str, int, Any, float, Gradient | None]] = []
        self._lines: list[str] = []
        self._file: IO[str] | None = None

    def open(self, path: Path) -> None:
        """Write to `path` from now on. Raises `OutputError`."""
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}", "choose another folder with --out") from error
        self.flush()

    def emit(self, event: str, **fields: Any) -> None:
        self._read_steps()
        line = {"event": event, "seconds": time.perf_counter() - self._began, **fields}
        self._lines.append(_encoded(line))
        if len(self._lines) >= self.FLUSH_EVERY:
            self.flush()

    def step(self, contender: str, step: int, loss: Any, lr: float, gradient: Gradient | None = None) -> None:
        """The event `step`; `loss` is a tensor of one element."""
        self._steps.append((time.perf_counter(), contender, step, loss, lr, gradient))
        if len(self._steps) >= self.FLUSH_EVERY:
            self.flush()

    def _read_steps(self) -> None:
        for at, contender, step, loss, lr, gradient in self._steps:
            more = ""
            if gradient is not None:
                clip = float(gradient.clip)
                more = f', "grad_norm": {_number(gradient.norm)}, "clip": {_number(clip)}'
                more += ', "skipped": true' if clip == 0.0 else ""
            self._lines.append(
                f'{{"event": "step", "seconds": {at - self._began:.6f}, "contender": "{contender}", "step": {step},'
                f' "loss": {_number(loss)}, "lr": {lr!r}{more}}}'
            )
        self._steps.clear()

    def flush(self) -> None:
        self._read_steps()
        if self._file is None:
            return
        self._file.write("".join(f"{line}\n" for line in self._lines))
        self._file.flush()
        self._lines.clear()

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None


def _number(value: Any) -> str:
    number = float(value)
    return repr(number) if math.isfinite(number) else f'"{number}"'


def _plain(value: Any) -> Any:
    """A number of torch or numpy as Python's; anything else that is no JSON as text."""
    try:
        return value.item()
    except (AttributeError, RuntimeError, ValueError):
        return str(value)


def _encoded(line: dict[str, Any]) -> str:
    """A line as JSON; numbers that are not finite, which JSON has not, as text."""
    text = json.dumps(line, ensure_ascii=False, default=_plain)
    return json.dumps(json.loads(text, parse_constant=lambda name: str(float(name))), ensure_ascii=False)
