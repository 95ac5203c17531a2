"""The small Llama, its vocabulary, and running text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

import core
from core.contract import Base
from core.errors import BaseError, DataError
from plugins.nlp import options
from plugins.nlp.llama import Llama, Llama2c, read_vocabulary
from plugins.nlp.tasks import LanguageModelling, NatsPerCharacter
from plugins.nlp.texts import Plain
from plugins.nlp.tokens import Brought, pack, unpack

LETTERS = "\u2581abcdehnot"
MERGES = ["th", "he", "\u2581t", "the", "\u2581the", "ab"]
TEXT = "the bone the hat the note a cat that ate the bean\n"


def vocabulary(path: Path) -> int:
    """A small one: bytes, letters, and merges in the order of MERGES. Returns its size."""
    pieces = [("<unk>", 0), ("<s>", 0), ("</s>", 0), *((f"<0x{byte:02X}>", 0) for byte in range(256))]
    pieces += [(piece, -rank) for rank, piece in enumerate(MERGES)]
    pieces += [(letter, -len(MERGES) - i) for i, letter in enumerate(LETTERS)]
    path.write_text("".join(f"{piece}\t{score}\n" for piece, score in pieces), encoding="utf-8")
    return len(pieces)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two layers with grouped queries, and its vocabulary."""
    size = vocabulary(tmp_path / "tok512.vocab")
    torch.manual_seed(0)
    model = Llama(size, width=16, layers=2, heads=4, key_heads=2, hidden=24)
    torch.nn.init.normal_(model.tok_embeddings.weight, std=0.1)  # not sure of anything
    save_file(model.state_dict(), tmp_path / "model.safetensors", {"n_heads": "4"})
    return tmp_path


def loaded(folder: Path, **rest: object) -> Base:
    return Llama2c(options.Llama2c.model_validate({"name": str(folder), **rest})).load()


def test_the_best_scored_pair_is_merged_first_wherever_it_stands(tmp_path: Path) -> None:
    """SentencePiece's rule, worked by hand: in `the`, `th` has the best score, then `the` and `▁the`."""
    size = vocabulary(tmp_path / "v")
    tokenizer = read_vocabulary(tmp_path / "v", size)
    assert tokenizer.encode("the hat").tokens == ["\u2581the", "\u2581", "h", "a", "t"]
    assert tokenizer.encode("bathe").tokens == ["\u2581", "b", "a", "the"]


def test_what_has_no_piece_is_spelt_in_bytes_and_comes_back(tmp_path: Path) -> None:
    """Line ends, capitals, marks and other scripts."""
    size = vocabulary(tmp_path / "v")
    brought = Brought(pack(read_vocabulary(tmp_path / "v", size)), 1)
    text = "the Hat\n\n\u00e9\u4e2d!"
    tokens = brought.encode(text)
    assert brought.decode(tokens) == " " + text
    assert len(tokens) < len(text.encode()) + 2


@pytest.mark.parametrize(
    "content", ["", "a\t-1\na\t-2\n", "a -1\n", "\t0\n", "a\tx\n", "a\t1-2\n", "a\tnan\n"]
)
def test_a_damaged_vocabulary_is_refused(folder: Path, content: str) -> None:
    """Empty, a piece twice, no tab, no piece, no number, two with a dash, and one that orders nothing."""
    (folder / "tok512.vocab").write_text(content)
    with pytest.raises(BaseError, match=r"tok512\.vocab") as caught:
        loaded(folder)
    assert ".vocab" in caught.value.hint


def test_shapes_tell_the_structure_and_every_tensor_is_wanted(folder: Path) -> None:
    """Two key heads of four wide; one tensor more or less is an error that names it."""
    base = loaded(folder)
    assert base.model.layers[0].attention.groups == 2
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "extra": torch.zeros(2)}, path, {"n_heads": "4"})
    with pytest.raises(BaseError, match="not in the architecture: extra"):
        loaded(folder)
    del tensors["layers.1.attention.wo.weight"]
    save_file(tensors, path, {"n_heads": "4"})
    with pytest.raises(BaseError, match=r"missing: layers\.1\.attention\.wo\.weight"):
        loaded(folder)
    save_file(tensors, path)
    with pytest.raises(BaseError, match="how many heads"):
        loaded(folder)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(BaseError, match=r"no tensor tok_embeddings\.weight; it has a"):
        loaded(folder)


def test_no_logit_depends_on_a_later_token_and_order_matters(folder: Path) -> None:
    """Causal, with positions."""
    model = loaded(folder).model
    tokens = torch.randint(260, 270, (1, 9))
    other = tokens.clone()
    other[0, 5] = 259
    assert torch.allclose(model(tokens)[:, :5], model(other)[:, :5], atol=1e-6)
    assert not torch.allclose(model(tokens)[:, 5:], model(other)[:, 5:], atol=1e-6)
    turned_round = tokens.flip(1)
    turned_round[0, -1] = tokens[0, -1]
    assert not torch.allclose(model(tokens)[0, -1], model(turned_round)[0, -1], atol=1e-6)


def test_stories260k_is_read_right(real_data: Callable[[str], Path]) -> None:
    """5.017 nats a token and 3.135 a character on Tiny Shakespeare's last tenth; its greedy text is its author's."""
    base = loaded(real_data("weights-stories260k"))
    model, state = base.model.eval(), base.preprocessing["task"]
    tokenizer = Brought(state["tokenizer"], state["bos"])
    text = (real_data("tiny-shakespeare") / "input.txt").read_text()
    tokens = tokenizer.encode(text[int(0.9 * len(text)) :])
    windows = torch.tensor(tokens[: 100 * 255]).view(100, 255)
    windows = torch.cat((torch.full((100, 1), state["bos"]), windows), 1)
    with torch.no_grad():
        nats = functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        said = torch.tensor([[state["bos"]]])
        for _ in range(40):
            said = torch.cat((said, model(said)[:, -1:].argmax(-1)), 1)
    letters = sum(len(tokenizer.decode(window)) for window in windows[:, 1:].tolist())
    assert float(nats) == pytest.approx(5.017, abs=5e-4)
    assert float(nats) * 25_500 / letters == pytest.approx(3.135, abs=5e-4)
    assert tokenizer.decode(said[0, 1:].tolist()).startswith(
        " Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    )


# --- running text ------------------------------------------------------------------------------------------


def test_a_text_is_split_by_position_and_nothing_is_lost(tmp_path: Path) -> None:
    """Files of a folder by name; train first, report last."""
    (tmp_path / "2.txt").write_text("".join(f"second {i}\n" for i in range(200)))
    (tmp_path / "1.txt").write_text("".join(f"first {i}\n" for i in range(200)))
    splits = Plain(options.Plain(path=str(tmp_path), window=64, select=0.1, report=0.2)).rows()
    whole = "".join(row.inputs["text"] for name in ("train", "select", "report") for row in splits[name])
    assert whole == (tmp_path / "1.txt").read_text() + (tmp_path / "2.txt").read_text()
    sizes = {name: len(rows) for name, rows in splits.items()}
    total = sum(sizes.values())
    assert sizes["report"] == pytest.approx(0.2 * total, abs=1)
    assert sizes["select"] == pytest.approx(0.1 * total, abs=1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "too little"),
        (b"one line\n", "too little"),
        (b"ok\n" * 400 + b"caf\xe9\n", r"line 401: byte 0xe9"),
    ],
)
def test_a_text_that_cannot_be_split_or_read_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Empty, too short, or in another encoding: with its line."""
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        Plain(options.Plain(path=str(tmp_path / "a.txt"))).rows()
    assert "data." in caught.value.hint


def test_a_folder_without_texts_says_what_it_has(tmp_path: Path) -> None:
    """And a missing path is missing."""
    (tmp_path / "a.md").write_text("no")
    with pytest.raises(DataError, match=r"no \.txt file; it has a\.md"):
        Plain(options.Plain(path=str(tmp_path))).rows()
    with pytest.raises(DataError, match="there is no file"):
        Plain(options.Plain(path=str(tmp_path / "b.txt"))).rows()


# --- the task ----------------------------------------------------------------------------------------------


def test_nats_per_character_are_bits_in_another_unit() -> None:
    """A bit is ln 2 nats."""
    nats, letters = NatsPerCharacter().score({"bits": 3.0, "bytes": 4, "characters": 2})
    assert nats / letters == pytest.approx(1.5 * math.log(2))


def test_a_sample_is_drawn_from_the_model_s_own_probabilities(folder: Path) -> None:
    """The same generator gives the same text; a model that is sure of one token writes it alone."""
    task = LanguageModelling(options.LanguageModellingOptions(sample=12))
    base = loaded(folder)
    state = task.fit([], base.preprocessing["task"])
    one, again, other = (
        task.sample(base.model, state, "the ", torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert one == again != other

    class Sure(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            logits = torch.full((*tokens.shape, 300), -50.0)
            logits[..., unpack(state["tokenizer"]).token_to_id("\u2581the")] = 50
            return logits

    assert task.sample(Sure(), state, "a", torch.Generator()) == " the" * 12


def test_a_run_on_running_text_records_what_is_written_before_and_after(folder: Path, tmp_path: Path) -> None:
    """The recipe `nlp/stories` on little text: it learns, is sealed, and continues a text."""
    data = tmp_path / "text"
    data.mkdir()
    (data / "a.txt").write_text("".join(f"{i} {TEXT}" for i in range(60)))
    overrides = {
        "base.name": str(folder),
        "data": {"path": str(data), "window": 64},
        "task.sample": 8,
        "fine_tune": {"epochs": 1, "batch_size": 8},
        "evaluate.resamples": 100,
    }
    run = core.run("nlp/stories", out=tmp_path / "runs", quiet=True, **overrides)
    scores = run.document["contenders"]
    assert scores["adapted"]["nats_per_character"] < scores["base"]["nats_per_character"]
    events = [json.loads(line) for line in Path(run.folder, "events.jsonl").read_text().splitlines()]
    samples = [event for event in events if event["event"] == "sample"]
    assert [event["when"] for event in samples] == ["before", "after"]
    assert all(event["text"] for event in samples)
    (predicted,) = core.load(run.shell).predict("the hat")
    assert predicted["characters"] == 7
    assert "continuation" in predicted
