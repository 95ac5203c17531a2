"""From sound to what a network sees: energies in bands of pitch, over time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from core.contract import JSON, Row
from taoke_speech import options
from taoke_speech.data import RATE

WINDOW, STEP, BANDS, FRAMES = 256, 80, 40, 100
"""Samples of a window (32 ms) and between two (10 ms); bands of pitch; frames that are kept (1 s)."""


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
    """(samples,) int16 to (BANDS, FRAMES) float32, with mean 0 and deviation 1: how loud somebody speaks, into which
    microphone, is no part of the word."""

    random = False

    def __init__(self) -> None:
        self._bands = mel_bands()

    def fit(self, rows: list[Row]) -> JSON:
        return None

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        sound = torch.from_numpy(np.asarray(row.inputs, np.float32) / 2**15)
        sound = torch.nn.functional.pad(sound[: STEP * FRAMES], (0, max(0, STEP * FRAMES - len(sound))))
        window = torch.hann_window(WINDOW)
        energy = torch.stft(sound, WINDOW, STEP, window=window, return_complex=True).abs().square()
        log = (self._bands @ energy)[:, :FRAMES].clamp(min=1e-8).log()
        return replace(row, inputs=(log - log.mean()) / (log.std() + 1e-5))


class Shift:
    """Frames moved to the right or to the left; what falls out comes in again on the other side, where it is quiet."""

    random = True

    def __init__(self, options: options.Shift) -> None:
        self._frames = options.frames

    def fit(self, rows: list[Row]) -> JSON:
        return None

    def apply(self, row: Row, state: JSON, rng: torch.Generator) -> Row:
        by = int(torch.randint(-self._frames, self._frames + 1, (), generator=rng))
        return replace(row, inputs=row.inputs.roll(by, 1))
