"""Values of one column, from whatever a file holds to texts, numbers or times, or the first that is none."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED = {str: "text", float: "a number", datetime: "a time"}
ARROW = {str: pa.string(), float: pa.float64(), datetime: pa.float64()}
"""The column types of a table; a time is in seconds since 1970 UTC, or the number that stands in the file."""


class Wrong(Exception):  # noqa: N818 (an answer that unwinds, not an error a user sees)
    """Value `index` of a column cannot be used; what is wrong with it, and what to do. `column` is its name, where the
    whole row may be meant."""

    def __init__(self, index: int, problem: str, hint: str, column: str = "") -> None:
        super().__init__(problem)
        self.index, self.problem, self.hint, self.column = index, problem, hint, column


def convert(values: Any, wanted: type, *, required: bool) -> Any:
    """A column as the Arrow type of `wanted`. `values` is an Arrow array of any type; binary ones are what a text
    file holds and are decoded as UTF-8. Missing values are null, and allowed where not `required`. Raises `Wrong`.

    Where text is wanted, texts stay as the file has them (in a CSV all are: "1" and "1.0" are two); the numbers of JSON
    lines and Parquet are written in one way: 1 and 1.0 are "1"."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        values = _decoded(values)
    elif _is_text(values.type):
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            _decoded(values.cast(pa.binary()))
    if _is_text(values.type):
        values = values.cast(pa.string()) if values.type != pa.string() else values
        blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(values)), 0)
        if pc.any(blank).as_py():
            values = pc.if_else(blank, pa.scalar(None, pa.string()), values)
    made = _MAKE[wanted](values)
    if required and made.null_count:
        raise Wrong(_first(pc.is_null(made)), "is empty", "fill it in or remove the row")
    return made


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _first(mask: Any) -> int:
    """Where a boolean array is true first."""
    return int(pc.index(mask, pa.scalar(True)).as_py())


def _decoded(values: Any) -> Any:
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        for i, value in enumerate(values):
            raw = value.as_py()
            try:
                (raw or b"").decode()
            except UnicodeDecodeError as error:
                raise Wrong(i, not_utf8(error), UTF8_HINT) from None
        raise


UTF8_HINT = "save the file as UTF-8, for example with `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`"


def not_utf8(error: UnicodeDecodeError) -> str:
    """What is not UTF-8, and what it would be in the most usual other encoding."""
    near = error.object[max(0, error.start - 20) : error.start + 20].decode("cp1252", errors="replace")
    return (
        f"is not UTF-8: byte 0x{error.object[error.start]:02x} at its position {error.start + 1}"
        f" (read as Windows-1252, {near!r})"
    )


def _text(values: Any) -> Any:
    kind = values.type
    if _is_text(kind):
        return values
    if pa.types.is_floating(kind):
        values = values.cast(pa.float64())
        missing = pc.is_nan(values)
        if pc.any(missing).as_py():  # the only way in which a column of numbers can miss one
            values = pc.if_else(missing, pa.scalar(None, pa.float64()), values)
        infinite = pc.is_inf(values)
        if pc.any(infinite).as_py():
            raise Wrong(_first(infinite), "is infinite; text is wanted", "correct it or remove the row")
        whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
        integers = pc.if_else(whole, values, 0.0).cast(pa.int64())
        return pc.if_else(whole, integers.cast(pa.string()), values.cast(pa.string()))
    if pa.types.is_nested(kind):
        raise _of_type(values, str)
    try:
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise _of_type(values, str) from None


def _of_type(values: Any, wanted: type) -> Wrong:
    first = _first(pc.is_valid(values)) if values.null_count < len(values) else 0
    return Wrong(
        first,
        f"is of the type {values.type}; {WANTED[wanted]} is wanted",
        "convert the column, or name another",
    )


def _each(values: Any, cast: Callable[[Any], Any], wanted: type) -> Any:
    """`cast` of texts, with spaces around them ignored; of those that it does not take, the first is named."""
    try:
        return cast(values)
    except pa.ArrowInvalid:
        values = pc.utf8_trim_whitespace(values)
    try:
        return cast(values)
    except pa.ArrowInvalid:
        low, high = 0, len(values)  # the first wrong one is in [low, high)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                cast(values[low:middle])
                low = middle
            except pa.ArrowInvalid:
                high = middle
        value = values[low].as_py()
        if wanted is datetime:
            unlike = ", unlike the times before it" if low else "; a time is wanted"
            raise Wrong(low, f"is {shortened(value)}{unlike}", ONE_WAY) from None
        comma = value.count(",") == 1
        raise Wrong(
            low,
            f"is {shortened(value)}; {WANTED[wanted]} is wanted",
            "write decimals with a point" if comma else "correct it, remove the row, or name another column",
        ) from None


def shortened(value: Any) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def _number(values: Any) -> Any:
    kind = values.type
    if pa.types.is_null(kind):
        return values.cast(pa.float64())
    if _is_text(kind):
        values = _each(values, lambda texts: texts.cast(pa.float64()), float)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = values.cast(pa.float64(), safe=False)
    elif pa.types.is_boolean(kind):
        values = values.cast(pa.int8()).cast(pa.float64())
    else:
        raise _of_type(values, float)
    return _finite(values)


def _finite(values: Any) -> Any:
    good = pc.is_finite(values)
    if not pc.all(good).as_py():
        index = _first(pc.invert(good))
        value = values[index].as_py()
        raise Wrong(
            index,
            f"is {'NaN, not a number' if math.isnan(value) else 'infinite'}; a finite number is wanted",
            "correct it or remove the row",
        )
    return values


def _time(values: Any) -> Any:
    kind = values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pc.divide(values.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
    if not _is_text(kind):
        return _in_range(_number(values))
    if is_dated(values):
        return _each(values, _moments, datetime)
    return _in_range(_finite(_each(values, lambda texts: texts.cast(pa.float64()), datetime)))


def _in_range(numbers: Any) -> Any:
    """Nanoseconds since 1970 are the largest numbers that times are written as; 2**63 of them end in 2262."""
    far = pc.greater(pc.abs(numbers), 2.0**63)
    if pc.any(far).as_py():
        index = _first(far)
        raise Wrong(
            index,
            f"is {numbers[index].as_py():g}, which is no time (seconds since 1970, or finer units, are below 9e18)",
            "correct it or remove the row",
        )
    return numbers


ONE_WAY = "correct it; all times of a column are numbers, or all are dates, as 2026-05-31"


def is_dated(values: Any) -> bool | None:
    """Whether a column of times, as the file has it, is written as dates: what its first value is; None without any."""
    for value in values:
        first = value.as_py()
        if isinstance(first, str | bytes):
            if first.strip():
                try:
                    float(first)
                except ValueError:
                    return True
                return False
        elif first is not None:
            return False
    return None


def _moments(texts: Any) -> Any:
    """Dates and times in ISO 8601, with a zone or in UTC."""
    for kind in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return pc.divide(texts.cast(kind).cast(pa.int64()).cast(pa.float64()), 1e6)
        except pa.ArrowInvalid:
            pass
    if len(texts) < 2:
        raise pa.ArrowInvalid("neither")
    middle = len(texts) // 2  # some may have a zone and others none
    return pa.concat_arrays([_moments(texts[:middle]), _moments(texts[middle:])])


_MAKE: dict[type, Callable[[Any], Any]] = {str: _text, float: _number, datetime: _time}
