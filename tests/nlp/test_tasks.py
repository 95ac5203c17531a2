"""The language modelling task."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.contract import JSON, Base, Row
from core.errors import BaseError, DataError
from plugins.nlp.options import LanguageModellingOptions
from plugins.nlp.tasks import LanguageModelling, continued

TEXTS = ["The quick brown fox\n", "a", "def f(x):\n    return x\n" * 10, "Übergröße €\n"]


class Uniform(nn.Module):
    """Every one of `size` tokens is as likely as the others."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.zeros(*tokens.shape, self.size)


def bits(task: LanguageModelling, model: nn.Module, state: JSON, texts: list[str]) -> list[float]:
    batch = task.collate([task.encode(Row({"text": text}), state) for text in texts], torch.Generator())
    return [row["bits"] for row in task.predict(model, batch, state)]


def test_every_token_of_a_text_is_coded_the_first_too(task: LanguageModelling, state: JSON) -> None:
    """A uniform model needs log2(1024) bits for each token that the tokenizer makes of the text."""
    from plugins.nlp.tokenizer import Tokenizer

    tokenizer = Tokenizer(state["merges"])
    expected = [10.0 * len(tokenizer.encode(text)) for text in TEXTS]
    assert bits(task, Uniform(1024), state, TEXTS) == pytest.approx(expected, rel=1e-6)


def test_bits_do_not_depend_on_what_else_is_in_the_batch(
    task: LanguageModelling, state: JSON, base: Base
) -> None:
    """Padding weighs nothing."""
    together = bits(task, base.model, state, TEXTS)
    alone = [bits(task, base.model, state, [text])[0] for text in TEXTS]
    assert together == pytest.approx(alone, rel=1e-5)


def test_bits_are_minus_the_logarithm_of_the_text_s_probability(
    task: LanguageModelling, state: JSON, base: Base
) -> None:
    """The chain rule, written out token by token."""
    from plugins.nlp.tokenizer import Tokenizer

    tokenizer = Tokenizer(state["merges"])
    tokens = [tokenizer.bos, *tokenizer.encode(TEXTS[0])]
    total = 0.0
    for i in range(1, len(tokens)):
        probabilities = base.model(torch.tensor([tokens[:i]]))[0, -1].softmax(0)
        total -= math.log2(float(probabilities[tokens[i]]))
    assert bits(task, base.model, state, TEXTS[:1]) == pytest.approx([total], rel=1e-5)


def test_a_long_text_is_coded_in_windows_each_on_its_own(
    task: LanguageModelling, state: JSON, base: Base
) -> None:
    """Two windows' worth of lines need the bits of both windows, and stay one row."""
    one, other = ("x = 1  # one line\n" * 28, "y = 2  # and then\n" * 28)
    assert len(one.encode()) == len(other.encode()) == 504
    assert bits(task, base.model, state, [one + other]) == pytest.approx(
        [sum(bits(task, base.model, state, [one, other]))], rel=1e-6
    )


def test_the_loss_weighs_tokens_not_padding(task: LanguageModelling, state: JSON) -> None:
    """Sum and weight over a batch give ln 1024 for a uniform model, whatever the texts' lengths."""
    batch = task.collate([task.encode(Row({"text": text}), state) for text in TEXTS], torch.Generator())
    total, weight = task.loss(task.forward(Uniform(1024), batch), batch)
    assert float(total / weight) == pytest.approx(math.log(1024))


def test_a_typed_text_gets_its_bits_and_a_continuation(
    task: LanguageModelling, state: JSON, base: Base
) -> None:
    """The continuation is the likeliest token after each other, the same in every batch."""
    rows = task.parse(["    def __init__(self", "Return the"], {"merges": []})
    batch = task.collate([task.encode(row, state) for row in rows], torch.Generator())
    first, second = task.predict(base.model, batch, state)
    assert first["bits_per_byte"] == first["bits"] / len("    def __init__(self")
    assert first["continuation"]
    assert second["continuation"]
    alone = task.collate([task.encode(rows[1], state)], torch.Generator())
    assert task.predict(base.model, alone, state)[0]["continuation"] == second["continuation"]


def test_a_long_text_is_continued_from_its_last_window(
    task: LanguageModelling, state: JSON, base: Base
) -> None:
    """What the first window says does not matter."""
    end = "Raises ValueError if the\n" * 20
    rows = task.parse(["x = 1  # one line\n" * 28 + end, end], state)
    batch = task.collate([task.encode(row, state) for row in rows], torch.Generator())
    long, short = task.predict(base.model, batch, state)
    assert long["continuation"] == short["continuation"]


def test_continuing_takes_the_likeliest_token_each_time(base: Base) -> None:
    """Checked against the model's own logits."""
    known = torch.tensor([1023, 65, 66])
    tokens = continued(base.model, known, 3)
    for i, token in enumerate(tokens):
        past = torch.cat((known, torch.tensor(tokens[:i], dtype=torch.int64)))
        assert int(base.model(past[None])[0, -1].argmax()) == token


def test_an_input_is_a_text_or_a_file_after_an_at_sign(task: LanguageModelling, tmp_path: Path) -> None:
    """A name without the sign is text, even where there is such a file."""
    path = tmp_path / "a.txt"
    path.write_text("Grüße\n", encoding="utf-8")
    assert [row.inputs["text"] for row in task.parse([f"@{path}", str(path)], {"merges": []})] == [
        "Grüße\n",
        str(path),
    ]


@pytest.mark.parametrize("given", ["", "@/no/such/file", "@{folder}", "@{bytes}", "x" * 70_000])
def test_what_is_no_text_is_refused(task: LanguageModelling, tmp_path: Path, given: str) -> None:
    """Nothing at all, a missing file, a folder, bytes that are no UTF-8, and a whole book."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError) as caught:
        task.parse([given.format(folder=tmp_path, bytes=tmp_path / "bytes")], {"merges": []})
    assert "@PATH" in caught.value.hint


def test_a_base_without_a_tokenizer_is_refused(task: LanguageModelling) -> None:
    """The error names the field that is missing."""
    with pytest.raises(BaseError, match=r"task\.merges"):
        task.fit([], {})


def test_the_longest_window_and_continuation_fit_the_model(base: Base, state: JSON) -> None:
    """Text that no merge shortens, in the largest window that the options allow, and as many tokens after it."""
    longest = {name: field.metadata for name, field in LanguageModellingOptions.model_fields.items()}
    most = {name: next(m.le for m in bounds if hasattr(m, "le")) for name, bounds in longest.items()}
    task = LanguageModelling(LanguageModellingOptions(window=most["window"]))
    piece = task.encode(Row({"text": "\x00" * most["window"]}), state)["windows"][0]
    assert len(piece) == 1 + most["window"]
    assert base.model(torch.zeros(1, len(piece) + most["continuation"], dtype=torch.int64)).isfinite().all()
