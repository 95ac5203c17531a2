"""The entry module of the plugin speech: what it brings. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from core.contract import Component
from core.hookspecs import hookimpl

taoke_api = 1


@hookimpl
def taoke_register() -> Iterable[Component]:
    return [
        Component("task", "speech.keyword", "which word a short recording is", "taoke_speech.task:Keyword"),
        Component(
            "dataset",
            "speech.recordings",
            "one speaker's recordings, WORD_SPEAKER_NUMBER.wav",
            "taoke_speech.data:Recordings",
            "taoke_speech.options:Recordings",
        ),
        Component(
            "transform",
            "speech.log_spectrogram",
            "recordings to log-mel energies",
            "taoke_speech.features:LogSpectrogram",
        ),
        Component(
            "transform",
            "speech.shift",
            "earlier or later, at random",
            "taoke_speech.features:Shift",
            "taoke_speech.options:Shift",
        ),
    ]
