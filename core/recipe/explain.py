"""What pydantic finds wrong, in sentences for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from core.errors import nearest

UNKNOWN_KEY = "extra_forbidden"
"""What pydantic calls it."""


def explain(
    error: ValidationError,
    model: type[BaseModel] | None,
    place: str = "",
    *,
    partial: bool = False,
    only: str | None = None,
) -> list[str]:
    """pydantic's errors as sentences: where, what was expected, what came, and for an unknown key the
    nearest one. With `partial`, nothing of what is missing, nor of what concerns several keys; with `only`, errors of
    this type alone."""
    sentences = []
    for item in error.errors():
        if partial and (item["type"] == "missing" or not item["loc"]):
            continue
        if only is not None and item["type"] != only:
            continue
        path = [str(part) for part in item["loc"]]
        where = ".".join(filter(None, [place, *path]))
        if item["type"] == UNKNOWN_KEY:
            section = ".".join(filter(None, [place, *path[:-1]])) or "the recipe"
            hint = nearest(path[-1], _keys_at(model, path[:-1]))
            sentences.append(
                f"{where}: unknown key {path[-1]!r} in {section}" + (f"; {hint}" if hint else "")
            )
        elif item["type"] == "missing":
            sentences.append(f"{where}: missing; it is required")
        else:
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "model_type":  # pydantic names the class, which is no word of the recipe's
                keys = ", ".join(sorted(_keys_at(model, path)))
                message = "a mapping is expected" + (f" ({{key: value}} with some of {keys})" if keys else "")
            sentences.append(
                f"{where}: {message[0].lower()}{message[1:]}"
                + (f", got {item['input']!r}" if "got" not in message else "")
            )
    return sentences


def _keys_at(model: type[BaseModel] | None, path: Sequence[str]) -> set[str]:
    current: Any = model
    for key in path:
        field = getattr(current, "model_fields", {}).get(key)
        if field is None:
            return set()
        current = next(
            (
                t
                for t in (field.annotation, *get_args(field.annotation))
                if isinstance(t, type) and issubclass(t, BaseModel)
            ),
            None,
        )
    return set(getattr(current, "model_fields", {}))
