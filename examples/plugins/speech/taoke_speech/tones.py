"""Words that nobody spoke, to try the recipe with and for tests: python -m taoke_speech.tones FOLDER"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taoke_speech.data import RATE

PITCH = {"anna": 220.0, "ben": 130.0, "cleo": 180.0}
"""Three speakers, in Hz."""
OCTAVES = {"up": 1.0, "down": -1.0, "flat": 0.0}
"""Three words: by how much the pitch rises."""
EACH = 10
"""Recordings of each word by each speaker."""


def tone(word: str, speaker: str, number: int) -> NDArray[np.int16]:
    """(samples,): three harmonics and a little noise, each of its own length and loudness."""
    rng = np.random.default_rng([*map(ord, word + speaker), number])
    seconds = np.arange(int(RATE * rng.uniform(0.3, 0.6))) / RATE
    pitch = PITCH[speaker] * rng.uniform(0.9, 1.1) * 2 ** (OCTAVES[word] * seconds / seconds[-1])
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.sum([np.sin(k * phase) / k for k in (1, 2, 3)], 0) + rng.normal(0, 0.02, len(seconds))
    loud: NDArray[np.float64] = rng.uniform(2000, 8000) * sound / np.abs(sound).max()
    return loud.astype(np.int16)


def write(
    path: Path, samples: NDArray[np.int16], rate: int = RATE, channels: int = 1, width: int = 2
) -> Path:
    """A WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setframerate(rate)
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.writeframes(samples.tobytes())
    return path


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for word in OCTAVES:
        for speaker in PITCH:
            for number in range(EACH):
                write(folder / f"{word}_{speaker}_{number}.wav", tone(word, speaker, number))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
