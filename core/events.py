"""The record of a run: one JSON object a line."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import IO, Any

from core.errors import OutputError


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
