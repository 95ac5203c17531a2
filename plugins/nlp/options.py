"""Options of the components. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from core.components import Options


class BuiltinOptions(Options):
    """One of the bases in this plugin's folder."""

    name: str = Field(default="docstrings", description="the base's name")


class ReferenceOptions(Options):
    """How Python's help topics are shared out."""

    draw: int = Field(default=0, ge=0, description="which topics go where")
    train_bytes: int = Field(
        default=100_000, gt=0, description="the train split, in whole topics, is no longer"
    )
    select_bytes: int = Field(
        default=50_000, gt=0, description="nor is the select split; all other topics are reported"
    )
    window: int = Field(default=512, ge=16, description="bytes of text in a row, at most")


class LanguageModellingOptions(Options):
    """How texts are coded and continued."""

    window: int = Field(
        default=512, ge=16, le=768, description="bytes of text that are coded together, at most"
    )
    continuation: int = Field(
        default=48, ge=1, le=255, description="tokens with which `predict` continues a text"
    )
