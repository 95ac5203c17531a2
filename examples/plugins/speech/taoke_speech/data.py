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
CONVERT = "convert it to 8 kHz, mono, 16 bits, with `ffmpeg -i FROM -ar 8000 -ac 1 -sample_fmt s16 TO.wav` for example"


def recording(path: Path) -> NDArray[np.int16]:
    """(samples,) of a WAV file. Raises `DataError` where it is none, or not of 8 kHz, mono, 16 bits."""
    try:
        with wave.open(str(path)) as file:
            found = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
            said, sound = file.getnframes(), file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise DataError(
            f"{path} is no WAV file that can be read: {error or 'it is cut short'}", CONVERT
        ) from error
    if found != (RATE, 1, 16):
        raise DataError(f"{path} has {found[0]} Hz, {found[1]} channel(s) and {found[2]} bits", CONVERT)
    if not said:
        raise DataError(f"{path} holds no sound", "record it again, or leave it out")
    if len(sound) < 2 * said:
        raise DataError(
            f"{path} is cut short: it says {said} samples and has {len(sound) // 2}",
            "restore it, or leave it out",
        )
    return np.frombuffer(sound, "<i2").astype(np.int16)


def recordings(folder: str) -> dict[str, list[tuple[Path, str]]]:
    """By speaker, the files with their words, in order of name. Raises `DataError`."""
    at = Path(folder).expanduser()
    if not at.is_dir():
        raise DataError(f"{folder} is no folder", "give the folder with WORD_SPEAKER_NUMBER.wav")
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in sorted(at.glob("*.wav")):
        parts = path.stem.split("_")
        if len(parts) != 3 or not all(parts):
            raise DataError(f"{path}: its name is not WORD_SPEAKER_NUMBER.wav", "rename it, or move it away")
        found.setdefault(parts[1], []).append((path, parts[0]))
    if not found:
        raise DataError(f"{folder} holds no .wav file", "give the folder with WORD_SPEAKER_NUMBER.wav")
    return found


def of(speaker: str, found: Mapping[str, list[tuple[Path, str]]], folder: str) -> list[tuple[Path, str]]:
    """One speaker's recordings. Raises `DataError`."""
    if speaker not in found:
        raise DataError(
            f"{folder} has no recording of {speaker!r}", f"its speakers are {', '.join(sorted(found))}"
        )
    return found[speaker]


class Recordings:
    """The first recordings of each word are to train on, the next ones select, the rest is reported."""

    def __init__(self, options: options.Recordings) -> None:
        self._options = options

    def rows(self) -> Mapping[str, Sequence[Row]]:
        given = self._options
        splits: dict[str, list[Row]] = {"train": [], "select": [], "report": []}
        taken: dict[str, int] = {}
        for path, word in of(given.speaker, recordings(given.path), given.path):
            number = taken[word] = taken.get(word, 0) + 1
            few = number <= given.train
            split = "train" if few else "select" if number <= given.train + given.select else "report"
            splits[split].append(Row(recording(path), word))
        if not splits["report"]:
            raise DataError(
                f"{given.path} has at most {max(taken.values())} recordings of a word by {given.speaker!r}:"
                f" {given.train} to train on and {given.select} to select leave none to report",
                "record more, or lower data.train or data.select",
            )
        return splits
