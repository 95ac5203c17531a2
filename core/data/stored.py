"""The content of a file, read when it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import DataError


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in a row's `inputs`, in the place of its bytes. Its content id is that of the bytes: a copy under
    another name is the same example."""

    path: Path

    def read(self) -> bytes:
        """The file's bytes. Raises `DataError` where it cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be read: {error.strerror}", "check the path and its permissions"
            ) from error
