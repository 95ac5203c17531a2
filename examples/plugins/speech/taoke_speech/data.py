"""Recordings of words in a folder, by speaker."""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.contract import Row
from core.errors import DataError
from taoke_speech import options

RATE = 8000


def recording(path: Path) -> NDArray[np.int16]:
    """(samples,) of a WAV file. Raises `DataError` where it is none, or not of 8 kHz, mono, 16 bits."""
    try:
        with wave.open(str(path)) as file:
            found = file.getframerate(), file.getnchannels(), file.getsampwidth()
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    except (OSError, EOFError, wave.Error) as error:
        raise DataError(
            f"{path} is no WAV file that can be read: {error}", "give one of 8 kHz, mono, 16 bits"
        ) from error
    if found != (RATE, 1, 2):
        raise DataError(
            f"{path} has {found[0]} Hz, {found[1]} channels and {8 * found[2]} bits",
            "convert it to 8 kHz, mono, 16 bits",
        )
    if not len(samples):
        raise DataError(f"{path} holds no sound", "leave it out")
    return samples.astype(np.int16)


def recordings(folder: str) -> dict[str, list[tuple[Path, str]]]:
    """By speaker, the files with their words, in order of name. Raises `DataError`."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in sorted(Path(folder).expanduser().glob("*.wav")):
        parts = path.stem.split("_")
        if len(parts) != 3:
            raise DataError(f"{path}: expected WORD_SPEAKER_NUMBER.wav", "rename it, or move it away")
        found.setdefault(parts[1], []).append((path, parts[0]))
    if not found:
        raise DataError(f"{folder} holds no .wav file", "give the folder with WORD_SPEAKER_NUMBER.wav")
    return found


class Recordings:
    """The first recordings of each word are to train on, the next ones select, the rest is reported."""

    def __init__(self, options: options.Recordings) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        given = self._options
        found = recordings(given.path)
        if given.speaker not in found:
            raise DataError(
                f"{given.path} has no recording of {given.speaker!r}",
                f"its speakers are {', '.join(sorted(found))}",
            )
        splits: dict[str, list[Row]] = {"train": [], "select": [], "report": []}
        taken: dict[str, int] = {}
        for path, word in found[given.speaker]:
            number = taken[word] = taken.get(word, 0) + 1
            few = number <= given.train
            split = "train" if few else "select" if number <= given.train + given.select else "report"
            splits[split].append(Row(recording(path), word))
        return splits
