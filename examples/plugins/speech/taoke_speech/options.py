"""What a recipe may say. Imports no torch."""

from pydantic import Field

from core.components import Options


class Recordings(Options):
    path: str = Field(description="a folder of WORD_SPEAKER_NUMBER.wav, 8 kHz, mono, 16 bits")
    speaker: str = Field(description="the speaker to adapt to")
    train: int = Field(3, gt=0, description="recordings of each word to learn from")
    select: int = Field(2, gt=0, description="recordings of each word to choose by; the others are reported")


class Shift(Options):
    frames: int = Field(6, ge=0, description="frames, at most, by which a recording is moved")
