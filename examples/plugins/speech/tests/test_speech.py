"""What the plugin promises beyond the contract."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from taoke_speech.data import Recordings, recording, recordings
from taoke_speech.features import BANDS, FRAMES, LogSpectrogram
from taoke_speech.options import Recordings as Options
from taoke_speech.task import Keyword
from taoke_speech.tones import EACH, OCTAVES, tone, write
from taoke_speech.train_base import main, train_base

import core
from core.contract import Row
from core.errors import DataError, UsageError

UNUSED = torch.Generator()
FLAT = tone("flat", "cleo", 0)
Make = Callable[[Path], Path]


def spectrogram(samples: np.ndarray) -> torch.Tensor:
    """(BANDS, FRAMES)."""
    made: torch.Tensor = LogSpectrogram().apply(Row(samples), None, UNUSED).inputs
    return made


def test_no_recording_of_the_new_speaker_is_in_two_splits(folder: Path) -> None:
    """And none is of another speaker."""
    splits = Recordings(Options(path=str(folder), speaker="cleo")).rows()
    sizes = {name: len(rows) for name, rows in splits.items()}
    assert sizes == {
        "train": 3 * len(OCTAVES),
        "select": 2 * len(OCTAVES),
        "report": (EACH - 5) * len(OCTAVES),
    }
    found = {row.inputs.tobytes() for rows in splits.values() for row in rows}
    assert found == {recording(path).tobytes() for path, _ in recordings(str(folder))["cleo"]}
    assert len(found) == sum(sizes.values())


def test_how_loud_a_word_is_changes_nothing() -> None:
    """But for rounding to whole numbers."""
    loud = tone("up", "anna", 0)
    assert torch.allclose(spectrogram(loud), spectrogram(loud // 2), atol=0.05)


@pytest.mark.parametrize("samples", [1, 100, 8000, 30_000])
def test_a_recording_of_any_length_has_as_many_frames(samples: int) -> None:
    """Short ones are followed by silence, of long ones the first second is kept."""
    made = spectrogram(np.full(samples, 7, np.int16))
    assert made.shape == (BANDS, FRAMES)
    assert made.isfinite().all()


def test_silence_has_finite_energies() -> None:
    """No sample differs from zero."""
    assert spectrogram(np.zeros(4000, np.int16)).isfinite().all()


def test_two_runs_write_the_same_base(folder: Path, base: Path, tmp_path: Path) -> None:
    """To the bit."""
    train_base(str(folder), "cleo", str(tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == base.read_bytes()


def test_the_base_sees_nothing_of_the_new_speaker(folder: Path, base: Path, tmp_path: Path) -> None:
    """Whatever cleo says, or does not say, the base is the same."""
    for path in folder.glob("*.wav"):
        if "_cleo_" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    write(tmp_path / "other_cleo_0.wav", FLAT)
    train_base(str(tmp_path), "cleo", str(tmp_path / "base.safetensors"))
    assert (tmp_path / "base.safetensors").read_bytes() == base.read_bytes()


def test_the_recipe_runs_and_its_shell_tells_words_apart(folder: Path, base: Path, tmp_path: Path) -> None:
    """Rising, falling and level tones, by path; and it is better than one that does not listen."""
    run = core.run(
        "speech/speaker",
        out=tmp_path,
        quiet=True,
        **{"data.path": str(folder), "data.speaker": "cleo", "base.path": str(base), "fine_tune.epochs": 20},
    )
    assert set(run.contenders) == {"base", "majority", "nearest_neighbour", "scratch", "adapted"}
    assert run.contenders["adapted"]["accuracy"] > run.contenders["majority"]["accuracy"]
    files = {word: folder / f"{word}_cleo_9.wav" for word in OCTAVES}
    said = core.load(run.shell).predict([str(path) for path in files.values()])
    assert [one["label"] for one in said] == list(files)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: at / "none.wav", "none.wav is no WAV file that can be read"),
        (lambda at: text(at), "is no WAV file that can be read"),
        (lambda at: write(at / "a.wav", FLAT, rate=16_000), "has 16000 Hz, 1 channel"),
        (lambda at: write(at / "a.wav", FLAT, channels=2), "has 8000 Hz, 2 channel"),
        (lambda at: write(at / "a.wav", FLAT, width=1), "and 8 bits"),
        (lambda at: write(at / "a.wav", FLAT[:0]), "holds no sound"),
        (lambda at: cut(at), "is cut short: it says [0-9]+ samples and has 100"),
        (lambda at: (at / "a.wav").mkdir() or at / "a.wav", "is no WAV file that can be read"),
    ],
    ids=["missing", "text", "rate", "stereo", "bits", "empty", "cut", "folder"],
)
def test_a_file_that_will_not_do_is_named_with_the_way_out(make: Make, said: str, tmp_path: Path) -> None:
    """From a folder as from what a user types."""
    path = make(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        recording(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    with pytest.raises(DataError, match=said):
        Keyword().parse([str(path)], {"labels": []})


def text(at: Path) -> Path:
    (at / "a.wav").write_text("no sound")
    return at / "a.wav"


def cut(at: Path) -> Path:
    path = write(at / "a.wav", FLAT)
    path.write_bytes(path.read_bytes()[: 44 + 200])
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: at / "none", "none is no folder"),
        (lambda at: text(at), "a.wav is no folder"),
        (lambda at: at, "holds no .wav file"),
        (
            lambda at: write(at / "up-cleo-1.wav", FLAT).parent,
            "up-cleo-1.wav: its name is not WORD_SPEAKER_NUMBER.wav",
        ),
        (
            lambda at: write(at / "up__1.wav", FLAT).parent,
            "up__1.wav: its name is not WORD_SPEAKER_NUMBER.wav",
        ),
        (lambda at: write(at / "up_anna_1.wav", FLAT).parent, "has no recording of 'cleo'"),
        (lambda at: write(at / "up_cleo_1.wav", FLAT).parent, "leave none to report"),
    ],
    ids=["missing", "file", "empty", "name", "no speaker", "other speaker", "too few"],
)
def test_a_folder_that_will_not_do_is_named_with_the_way_out(make: Make, said: str, tmp_path: Path) -> None:
    """Where, what, and what to do."""
    path = make(tmp_path)
    with pytest.raises(DataError, match=said) as caught:
        Recordings(Options(path=str(path), speaker="cleo")).rows()
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_without_another_speaker_no_base_is_trained(tmp_path: Path) -> None:
    """Nothing is written."""
    write(tmp_path / "up_cleo_1.wav", FLAT)
    with pytest.raises(DataError, match="recordings of 'cleo' alone") as caught:
        train_base(str(tmp_path), "cleo", str(tmp_path / "base.safetensors"))
    assert "other speakers" in caught.value.hint
    assert not list(tmp_path.glob("base*"))


def test_a_base_needs_the_ending_that_it_will_have(folder: Path, tmp_path: Path) -> None:
    """Before anything is trained."""
    with pytest.raises(UsageError, match=r"base\.pt"):
        train_base(str(folder), "cleo", str(tmp_path / "base.pt"))


def test_the_command_ends_with_a_message_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """And with 2, for a request that cannot be carried out."""
    assert main(["nowhere", "cleo", "base.safetensors"]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err
    assert main(["nowhere"]) == 2
    assert "FOLDER SPEAKER FILE" in capsys.readouterr().err


def test_a_recipe_without_a_folder_says_what_is_required() -> None:
    """From the command line, as one JSON document."""
    command = [sys.executable, "-m", "core", "run", "speech/speaker", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    message = json.loads(done.stdout)["error"]["message"]
    for key in ("data.path", "data.speaker", "base.path"):
        assert key in message


def test_a_new_speaker_of_digits_is_understood_better_than_by_the_base(digits: Path, tmp_path: Path) -> None:
    """lucas, from three recordings of each digit; real speech, where it lies."""
    base = tmp_path / "five.safetensors"
    train_base(str(digits), "lucas", str(base))
    run = core.run(
        "speech/speaker",
        out=tmp_path,
        quiet=True,
        **{"data.path": str(digits), "data.speaker": "lucas", "base.path": str(base)},
    )
    assert run.document["gains"]["base"]["low"] > 0
    assert run.document["gains"]["nearest_neighbour"]["low"] > 0
