"""The content of a file, read when it is needed, and what is said where the system does not give it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import DataError, UsageError


@contextmanager
def readable(path: Path, refusal: type[UsageError] = DataError, what: str = "") -> Iterator[None]:
    """What the system refuses about `path` in this block, a permission above all, as `DataError`, or as another class
    (`refusal`) whose message begins with `what`. Not only opening may be refused: before Python 3.14, `is_file`,
    `is_dir` and `exists` raise too, where a folder above may not be searched."""
    begin = f"{what}: " if what else ""
    try:
        yield
    except PermissionError as error:
        raise refusal(
            f"{begin}{path} may not be read: no permission",
            "allow it, and the folders above it (chmod u+rX), or copy it to where you may read",
        ) from error
    except OSError as error:
        raise refusal(
            f"{begin}{path} cannot be read: {error.strerror or error}", "check the path and the disk"
        ) from error


@dataclass(frozen=True, slots=True)
class Stored:
    """A file in a row's `inputs`, in the place of its bytes. Its content id is that of the bytes: a copy under
    another name is the same example."""

    path: Path

    def read(self) -> bytes:
        """The file's bytes. Raises `DataError` where it cannot be read."""
        with readable(self.path):
            return self.path.read_bytes()
