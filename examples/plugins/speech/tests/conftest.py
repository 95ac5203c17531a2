"""Recordings to test with: tones, and FSDD where it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from taoke_speech import tones
from taoke_speech.train_base import train_base


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three words by three speakers."""
    at = tmp_path_factory.mktemp("tones")
    tones.main(at)
    return at


@pytest.fixture(scope="session")
def base(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of anna and ben."""
    at = tmp_path_factory.mktemp("base") / "two.safetensors"
    train_base(str(folder), "cleo", str(at))
    return at


@pytest.fixture
def digits() -> Path:
    """The recordings of FSDD, which the package does not bring."""
    named = os.environ.get("TAOKE_SPEECH_DATA")
    if named is None or not Path(named).is_dir():
        pytest.skip(
            f"needs FSDD's recordings; TAOKE_SPEECH_DATA names their folder, and is {named or 'not set'}"
        )
    return Path(named)
