"""Options of the components. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from core.components import Options
from core.data.options import Splits


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
    sample: int = Field(
        default=0,
        ge=0,
        le=255,
        description="tokens of text that the model writes before and after it is adapted, for the record",
    )


class Classify(Options):
    """How texts are read and told apart."""

    longest: int = Field(
        default=128, ge=3, description="tokens of a text that are read, the tokenizer's own ones included"
    )
    base_labels: Literal["keep", "drop"] = Field(
        default="keep",
        description="the base's own labels: new ones follow them, or they give way to the data's",
    )


class Translate(Options):
    """How sentences are read, translated, and scored, and what a decoder is like that has to be made new."""

    longest: int = Field(
        default=128, ge=4, description="tokens of a sentence that are read, the tokenizer's own ones included"
    )
    prefix: str = Field(
        default="", description="what stands before each source, as T5 wants: 'translate English to German: '"
    )
    beams: int = Field(default=4, ge=1, description="translations that are followed; 1 is greedy")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="of matrix products; bfloat16 is faster where the processor has them (AMX, AVX512-BF16, GPUs)",
    )
    vocabulary: int = Field(
        default=8_000, ge=260, description="tokens of a new decoder, learned on train: at most so many"
    )
    layers: int = Field(default=3, ge=1, description="of a new decoder")
    heads: int | None = Field(
        default=None,
        ge=1,
        description="of a new decoder's attention; one for each 64 of the width where left out",
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="in training, of a new decoder and of its encoder"
    )


class Decoder(Options):
    """A decoder behind an encoder."""

    vocabulary: int = Field(gt=0, description="tokens, with those that pad, begin and end a text")
    pad: int = Field(ge=0, description="the token that fills up")
    start: int = Field(ge=0, description="the token that begins a text")
    end: int = Field(ge=0, description="the token that ends a text")
    positions: int = Field(gt=0, description="tokens of a text, at most")
    layers: int = Field(default=3, ge=1, description="of attention to the text so far and to the source")
    heads: int | None = Field(
        default=None, ge=1, description="of attention; one for each 64 of the width where left out"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="in training, of the decoder and of the encoder"
    )

    @model_validator(mode="after")
    def _tokens_are_of_the_vocabulary(self) -> Decoder:
        if max(self.pad, self.start, self.end) >= self.vocabulary:
            raise ValueError(f"pad, start and end are below {self.vocabulary}, the size of the vocabulary")
        return self


class Transformers(Options):
    """A model of the transformers library."""

    name: str = Field(description="a folder with config.json, or a model's name on the hub, as owner/model")
    revision: str | None = Field(default=None, description="the hub's branch, tag or commit")
    pooling: Literal["mean", "cls"] | None = Field(
        default=None,
        description="how token states become one: their mean, or the first one's; as the model's 1_Pooling says, or"
        " else the mean",
    )


class Llama2c(Options):
    """A model in the names and with the vocabulary file of llama2.c."""

    name: str = Field(
        description="a folder with model.safetensors and a vocabulary file of pieces and scores"
    )
    vocabulary: str = Field(default="tok512.vocab", description="the vocabulary's file name")
    heads: int | None = Field(
        default=None,
        gt=0,
        description="of attention, where the file's metadata have no n_heads; the tensors do not tell",
    )
    licence: str | None = Field(default=None, description="an SPDX name; the files have none")
    origin: str | None = Field(default=None, description="where the model comes from, in words")


class Files(Options):
    """A file for each split."""

    train: str
    select: str | None = None
    report: str


class Texts(Options):
    """Texts with a label each."""

    path: str | Files = Field(
        description="a file (CSV, TSV, JSONL, Parquet, or lines of a label and a text); a folder with train, dev and"
        " test files; or {train: FILE, select: FILE, report: FILE}"
    )
    format: Literal["table", "label_first"] | None = Field(
        default=None,
        description="`table`, or `label_first`: lines of a label, white space and a text; as the file's ending says",
    )
    text: str | list[str] | None = Field(
        default=None,
        description="the column of the text, or several, which are joined; guessed where left out",
    )
    label: str | None = Field(default=None, description="the column of the label; guessed where left out")
    group: str | None = Field(
        default=None, description="a column that says which rows belong together (an author, a document)"
    )
    encoding: str = Field(default="utf-8", description="of text files: utf-8, latin-1, cp1252, ...")
    splits: Splits = Field(
        default_factory=lambda: Splits.model_validate({}),
        description="how rows in one piece, or train without a select file, are split",
    )


class Pairs(Options):
    """Sentences with a translation each."""

    path: str | Files = Field(
        description="a folder with train.SOURCE and train.TARGET, and likewise val (or dev) and test; a table; or"
        " {train: PATH, select: PATH, report: PATH}, of which each is a table or what its two files' names begin with"
    )
    source: str = Field(
        description="the language to translate from: the ending of its files (also before .gz), or a table's column"
    )
    target: str = Field(description="the language to translate into, likewise")
    empty: Literal["refuse", "drop"] = Field(
        default="refuse", description="pairs with an empty side: an error, or left out and counted"
    )
    group: str | None = Field(
        default=None, description="a table's column that says which rows belong together (a document)"
    )
    encoding: str = Field(default="utf-8", description="of text files: utf-8, latin-1, cp1252, ...")
    splits: Splits = Field(
        default_factory=lambda: Splits.model_validate({}),
        description="how rows in one piece, or train without a select file, are split",
    )


class Plain(Options):
    """Running text, split by position."""

    path: str = Field(
        description="a text file, or a folder of *.txt files, which are read in the order of their names"
    )
    encoding: str = Field(default="utf-8", description="of the files")
    window: int = Field(default=512, ge=16, description="bytes of text in a row, at most")
    select: float = Field(
        default=0.05, gt=0, lt=1, description="the share of the text, before the last part, that chooses"
    )
    report: float = Field(
        default=0.1, gt=0, lt=1, description="the share of the text, the last part, to report"
    )

    @model_validator(mode="after")
    def _something_is_left(self) -> Plain:
        if self.select + self.report >= 1:
            raise ValueError(f"select {self.select} and report {self.report} leave nothing to train on")
        return self


class Truncate(Options):
    """How much of a text stays."""

    to: int = Field(gt=0, description="so many")
    of: Literal["characters", "words"] = Field(
        default="words", description="of these; a word is what stands between white space"
    )
    keep: Literal["first", "last"] = Field(default="first", description="which end of the text stays")


class Casing(Options):
    """Letters in one case."""

    to: Literal["lower", "upper", "fold"] = Field(
        default="lower", description="`fold` is for comparing: Straße becomes strasse"
    )


class Normalise(Options):
    """Texts that look the same become the same."""

    unicode: Literal["NFC", "NFKC", "NFD", "NFKD"] | None = Field(
        default="NFC", description="the form of Unicode, https://unicode.org/reports/tr15/"
    )
    space: bool = Field(default=True, description="runs of white space become one space, none at the ends")
