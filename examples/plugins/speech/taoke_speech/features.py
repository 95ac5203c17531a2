"""From sound to what a network sees: energies in bands of pitch, over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from core.contract import JSON, Row
from taoke_speech import options
from taoke_speech.data import RATE

WINDOW, STEP, BANDS, FRAMES = 256, 80, 40, 100
"""Samples of a window (32 ms) and between two (10 ms); bands of pitch; frames that are kept (1 s)."""
FLOOR = 8.0
"""What is weaker than the loudest by more than this (in nats; 35 dB) is taken for silence: rooms and microphones
differ in it, words do not."""


def mel_bands() -> Tensor:
    """(BANDS, WINDOW // 2 + 1): triangles of equal width on the mel scale, 2595 log10(1 + f / 700) (O'Shaughnessy,
    Speech Communication, 1987)."""
    edges = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    at = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (at - hertz[:-2, None]) / np.diff(hertz)[:-1, None]
    falling = (hertz[2:, None] - at) / np.diff(hertz)[1:, None]
    return torch.tensor(np.minimum(rising, falling).clip(0), dtype=torch.float32)


class LogSpectrogram:
    """(samples,) int16 to (BANDS, FRAMES) float32, of mean 0 and deviation 1 where the word is, and silence behind it:
    how loud somebody speaks, and how long the recording is, are no part of the word."""

    random = False

    def __init__(self) -> None:
        self._bands = mel_bands()

    def fit(self, rows: Sequence[Row]) -> JSON:
        return None

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        sound = torch.from_numpy(np.asarray(row.inputs, np.float32) / 2**15)[: STEP * FRAMES]
        sound = functional.pad(sound, (0, max(0, WINDOW - len(sound))))
        spectrum = torch.stft(sound, WINDOW, STEP, window=torch.hann_window(WINDOW), return_complex=True)
        log = (self._bands @ spectrum.abs().square())[:, :FRAMES].clamp(min=1e-10).log()
        log = log.clamp(min=float(log.max()) - FLOOR)
        log = (log - log.mean()) / (log.std() + 1e-5)
        behind = (0, FRAMES - log.shape[1])
        return row.with_inputs(functional.pad(log, behind, value=float(log.min())))


class Shift:
    """Frames moved to the right or to the left; what falls out comes in again on the other side, where it is quiet."""

    random = True

    def __init__(self, options: options.Shift) -> None:
        self._frames = options.frames

    def fit(self, rows: Sequence[Row]) -> JSON:
        return None

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        by = int(torch.randint(-self._frames, self._frames + 1, (), generator=rng))
        return row.with_inputs(row.inputs.roll(by, 1))
