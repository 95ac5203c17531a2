"""Every exception taoke raises on purpose, in one tree; each class says when it happens and with which exit
code.

An exception that is not in this tree comes from a plugin or from a bug: the command line then exits with 1.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


class TaokeError(Exception):
    """The base of the tree. `message` says what was expected, what came and where; `hint` says what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(TaokeError):
    """The request cannot be carried out as given. Where that is found before anything was trained, nothing
    is left behind."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe is unknown, unreadable or wrong. `problems` lists all that is wrong with it, one line each."""

    def __init__(self, message: str, hint: str = "", *, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([message, *problems]), hint)


class PluginError(UsageError):
    """A plugin is not installed, of another contract version, fails on import, or cannot be registered."""


class ComponentError(UsageError):
    """A component is unknown or ambiguous, its options are wrong, or its factory cannot be imported."""


class BaseError(UsageError):
    """A base is missing, truncated, of another digest than promised, or does not fit its architecture."""


class DataError(UsageError):
    """Data are missing, malformed, empty, or stand in two splits that must not share any."""


class DataWarning(UserWarning):
    """Something about the data that a user should know, found where there is no context: `warnings.warn(message,
    DataWarning)`. A run tells it and keeps it in its record."""


class ContractWarning(FutureWarning):
    """A plugin uses something of the contract that goes with its next version. It names the plugin's own line."""


class EditError(UsageError):
    """A structural edit does not fit the model it is applied to."""


class ShellError(UsageError):
    """A shell is missing, incomplete, damaged, or does not fit the base it names."""


class OutputError(UsageError):
    """A run's folder cannot be created or written."""


class ContractError(TaokeError):
    """While a run went on, a plugin's hook or component returned something that is not of its contract."""


class TrainingError(TaokeError):
    """Fine-tuning cannot go on: the loss is not finite, or a strategy selects what cannot be moved."""


class ParityError(TaokeError):
    """The sealed shell, reloaded in a fresh process, does not predict what the run predicted."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names what comes closest to `name` among `known`, or else all of `known`; empty if there
    are none."""
    choices = sorted(set(known))
    close = get_close_matches(name, choices, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(choice) for choice in close)}?"
    return f"known here: {', '.join(choices)}" if choices else ""


def describe(error: BaseException) -> str:
    """An exception in a line or a few, with the notes that say which plugin it came out of."""
    text = str(error) if isinstance(error, TaokeError) else f"{type(error).__name__}: {error}"
    return "\n".join([text, *getattr(error, "__notes__", ())])


def raised_at(error: BaseException, otherwise: str) -> str:
    """`file:line` of the code outside of the core that raised while it was imported."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    core = Path(__file__).parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "importlib" not in frame.filename and not Path(frame.filename).is_relative_to(core):
            return f"{frame.filename}:{frame.lineno}"
    return otherwise
