"""Translation: the task, the decoder behind an encoder, encoder-decoders as they are, and a run from end to end."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertForSequenceClassification,
)

import core
from benchmarks.endtoend.setting import prepare
from core.contract import Base, Row
from core.errors import BaseError, DataError, DataWarning, EditError
from core.losses import CrossEntropy
from core.options import CrossEntropy as CrossEntropyOptions
from plugins.nlp import options
from plugins.nlp.classify import Classify
from plugins.nlp.decoder import Decoder
from plugins.nlp.encoders import Transformers
from plugins.nlp.ragged import ragged
from plugins.nlp.seq2seq import Seq2Seq
from plugins.nlp.tokens import learned, pack, unpack
from plugins.nlp.translate import State, Translate
from tests.nlp.conftest import WORDS

OTHER = {word: f"{word[::-1]}{'ü' * (i % 3)}" for i, word in enumerate(WORDS)}
"""A language of its own: each word has a translation, and a sentence is the same one backwards."""


def pairs(count: int) -> list[tuple[str, str]]:
    """So many different sentences, each with its translation."""
    draw = random.Random(0)  # noqa: S311 (nothing here is secret)
    seen: dict[str, str] = {}
    while len(seen) < count:
        words = draw.choices(WORDS, k=draw.randint(2, 7))
        seen[" ".join(words)] = " ".join(OTHER[word] for word in reversed(words))
    return list(seen.items())


ROWS = [Row({"text": source}, target) for source, target in pairs(60)]


def loaded(name: Path) -> Base:
    base = Transformers(options.Transformers(name=str(name))).load()
    base.model.requires_grad_(False).eval()
    return base


def translating(**rest: Any) -> Translate:
    return Translate(options.Translate.model_validate({"vocabulary": 300, "layers": 1, "heads": 2, **rest}))


def with_decoder(base: Base, task: Translate, state: State) -> Seq2Seq:
    """The edited model, with weights larger than new ones are, so that it tells tokens apart."""
    (spec,) = task.edits(base.model, state)
    made = Decoder(options.Decoder.model_validate({k: v for k, v in spec.items() if k != "edit"}))
    made.validate(base.model)
    model = made.apply(deepcopy(base.model))
    assert isinstance(model, Seq2Seq)
    return model.requires_grad_(False).eval()


def wilder(model: Seq2Seq) -> Seq2Seq:
    """Another model of the same structure, whose weights are not small."""
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return model


@pytest.fixture(scope="module")
def base(encoder: Path) -> Base:
    return loaded(encoder)


@pytest.fixture
def task() -> Translate:
    return translating()


@pytest.fixture
def state(task: Translate, base: Base) -> State:
    return task.fit(ROWS, base.preprocessing["task"])


def batch_of(task: Translate, state: State, rows: Sequence[Row]) -> Any:
    return task.collate([task.encode(row, state) for row in rows], torch.Generator())


# --- tokens ------------------------------------------------------------------------------------------------


def test_a_learned_tokenizer_writes_every_text_and_is_always_the_same() -> None:
    """Also letters that no text had; packed and unpacked."""
    texts = [row.target for row in ROWS]
    tokenizer = learned(texts, 300)
    assert 256 < tokenizer.get_vocab_size() <= 300
    assert pack(tokenizer) == pack(learned(texts, 300))
    again = unpack(pack(tokenizer))
    for text in (*texts, "Straße, 東京? </s> <pad>"):
        assert again.decode(again.encode(text).ids).strip() == text
        assert max(again.encode(text).ids) < tokenizer.get_vocab_size()


def test_the_state_of_the_base_alone_writes_nothing(task: Translate, base: Base) -> None:
    """Its translations are empty; what `train` teaches is the target's tokenizer."""
    known, learnt = (task.fit(rows, base.preprocessing["task"]) for rows in ([], ROWS))
    assert known["target"] is None
    assert learnt["target"] is not None
    assert (learnt["source"], learnt["longest"]) == (base.preprocessing["task"]["tokenizer"], 24)
    batch = batch_of(task, known, ROWS[:3])
    assert task.predict(base.model, batch, known) == [{"translation": ""}] * 3


def test_an_example_has_both_sides_and_what_is_cut_has_no_end(task: Translate, state: State) -> None:
    """The target from its start to its end; a text is cut where the model reads no more."""
    example = task.encode(ROWS[0], state)
    target = unpack(state["target"] or "").encode(ROWS[0].target).ids
    assert example["target"] == [state["start"], *target, state["end"]]
    assert not example["cut"]
    source, long = (
        task.encode(Row({"text": "film " * 40}, "a"), state),
        task.encode(Row({"text": "a"}, "ü x " * 40), state),
    )
    assert (len(source["source"]), source["cut"]) == (24, True)
    assert (len(long["target"]), long["target"][-1] == state["end"], long["cut"]) == (25, False, True)
    assert task.encode(Row({"text": "a"}), state)["target"] == [state["start"]]


def test_a_prefix_stands_before_each_source(base: Base) -> None:
    """As T5 wants its task named."""
    task = translating(prefix="the film ")
    state = task.fit(ROWS, base.preprocessing["task"])
    assert (
        task.encode(Row({"text": "cold"}), state)["source"]
        == translating().encode(Row({"text": "the film cold"}), state)["source"]
    )


# --- the decoder -------------------------------------------------------------------------------------------


def test_the_encoder_keeps_its_weights_and_replaying_draws_the_same(
    task: Translate, state: State, base: Base
) -> None:
    """To the bit; torch's own stream of numbers is not touched."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = with_decoder(base, task, state)
    assert torch.equal(torch.rand(1), expected)
    second = with_decoder(base, task, state).state_dict()
    own = {
        name.replace("backbone.", "backbone.encoder.", 1): tensor
        for name, tensor in base.model.state_dict().items()
    }
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second[name])
        if name.startswith("backbone.encoder."):
            assert torch.equal(tensor, own[name])
    assert set(first.state_dict()) > {name for name in own if "encoder" in name and "head" not in name}


def test_input_and_output_of_the_decoder_are_tied_and_stay_so(
    task: Translate, state: State, base: Base
) -> None:
    """One parameter, in a copy too; drawn so that a logit is as large as a state."""
    model = deepcopy(with_decoder(base, task, state))
    decoder = model.backbone.decoder
    assert decoder.get_output_embeddings().weight is decoder.get_input_embeddings().weight
    assert len(decoder.get_input_embeddings().weight) == state["pad"] + 3
    assert float(decoder.get_input_embeddings().weight.std()) == pytest.approx(32**-0.5, rel=0.05)


def test_the_decoder_is_the_head(task: Translate, state: State, base: Base) -> None:
    """So that a strategy may train it first."""
    from core.strategies import head_parameters

    model = with_decoder(base, task, state)
    moving = head_parameters(model)
    assert moving == tuple(name for name, _ in model.named_parameters() if ".decoder." in name)


def test_dropout_is_of_the_whole_model(base: Base) -> None:
    """The encoder's too: few epochs need none."""
    task = translating(dropout=0.0)
    model = with_decoder(base, task, task.fit(ROWS, base.preprocessing["task"])).train()
    batch = batch_of(task, task.fit(ROWS, base.preprocessing["task"]), ROWS[:4])
    assert torch.equal(task.forward(model, batch), task.forward(model, batch))


def test_a_classifier_gives_its_encoder(encoder: Path, tmp_path: Path, task: Translate) -> None:
    """Its head is left out."""
    config = AutoConfig.from_pretrained(encoder, num_labels=3)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((encoder / name).read_bytes())
    base = loaded(tmp_path)
    model = with_decoder(base, task, task.fit(ROWS, base.preprocessing["task"]))
    expected = base.model.backbone.bert.embeddings.word_embeddings.weight
    assert torch.equal(model.backbone.encoder.embeddings.word_embeddings.weight, expected)
    assert not any("classifier" in name or "pooler" in name for name in model.state_dict())


def test_what_gets_no_decoder_is_told(task: Translate, state: State, base: Base) -> None:
    """A model that has one, one that is no encoder, heads that do not fit."""
    made = options.Decoder(vocabulary=303, pad=300, start=301, end=302, positions=25, heads=2)
    with pytest.raises(EditError, match="has a decoder"):
        Decoder(made).validate(with_decoder(base, task, state))
    with pytest.raises(EditError, match=r"expected an encoder of nlp\.transformers, got Linear"):
        Decoder(made).validate(torch.nn.Linear(2, 2))
    with pytest.raises(EditError, match="5 heads do not share a width of 32 evenly"):
        Decoder(made.model_copy(update={"heads": 5})).validate(base.model)
    with pytest.raises(ValueError, match="below 302"):
        options.Decoder(vocabulary=302, pad=300, start=301, end=302, positions=25)


# --- what the model is asked -------------------------------------------------------------------------------


def test_a_token_is_predicted_from_those_before_it_alone(task: Translate, state: State, base: Base) -> None:
    """Another continuation, and longer neighbours in the batch, change no earlier logit."""
    model = wilder(with_decoder(base, task, state))
    source, target = [2, 5, 6, 3], [state["start"], 40, 41, 42, 43, state["end"]]
    other = [*target[:3], 99, 98, 97]
    rest = {"cut": False}
    one = task.collate([{"source": source, "target": target, **rest}], torch.Generator())  # type: ignore[typeddict-item]
    two = task.collate(
        [{"source": source, "target": other, **rest}, {"source": source * 4, "target": target * 3, **rest}],  # type: ignore[typeddict-item]
        torch.Generator(),
    )
    alone, beside = task.forward(model, one), task.forward(model, two)
    assert len(alone) == 5
    assert torch.allclose(alone[:3], beside[:3], atol=1e-4)
    assert not torch.allclose(alone[3], beside[3], atol=1e-2)


def test_the_loss_is_summed_over_real_tokens(task: Translate, state: State, base: Base) -> None:
    """However a batch is divided; the core's cross-entropy is the same, and smooths labels."""
    model = wilder(with_decoder(base, task, state))
    batch = batch_of(task, state, ROWS[:6])
    outputs = task.forward(model, batch)
    total, weight = task.loss(outputs, batch)
    assert weight == sum(len(task.encode(row, state)["target"]) - 1 for row in ROWS[:6]) == len(outputs)
    parts = [batch_of(task, state, rows) for rows in (ROWS[:2], ROWS[2:6])]
    sums = [task.loss(task.forward(model, part), part)[0] for part in parts]
    assert float(total) == pytest.approx(float(sum(sums)), rel=1e-4)
    plain = CrossEntropy(CrossEntropyOptions())(outputs, batch)
    assert (float(plain[0]), plain[1]) == pytest.approx((float(total), weight))
    smooth = CrossEntropy(CrossEntropyOptions(label_smoothing=0.1))(outputs, batch)[0]
    expected = functional.cross_entropy(outputs, batch["labels"], reduction="sum", label_smoothing=0.1)
    assert float(smooth) == pytest.approx(float(expected))


def test_bfloat16_products_give_about_the_same_float32_logits(
    state: State, base: Base, task: Translate
) -> None:
    """Near, not equal."""
    model = with_decoder(base, task, state)
    batch = batch_of(task, state, ROWS[:4])
    exact, near = task.forward(model, batch), translating(precision="bfloat16").forward(model, batch)
    assert near.dtype == torch.float32
    assert not torch.equal(exact, near)
    assert torch.allclose(exact, near, atol=0.05 * float(exact.abs().max()))


def test_greedy_translations_take_the_likeliest_token_step_by_step(
    state: State, base: Base, task: Translate
) -> None:
    """As the forward pass has it, one token after the other, up to the end; in a batch as alone."""
    model, greedy = wilder(with_decoder(base, task, state)), translating(beams=1)
    batch = batch_of(task, state, ROWS[:5])
    expected = []
    for row in ROWS[:5]:
        example, begun = task.encode(row, state), [state["start"]]
        for _ in range(min(24, 2 * int(batch["sources"].lengths.max()) + 10)):
            logits = model(ragged([example["source"]]), ragged([begun]))
            begun.append(int(logits[-1].argmax()))
            if begun[-1] == state["end"]:
                break
        kept = [token for token in begun if token < state["pad"]]
        expected.append({"translation": unpack(state["target"] or "").decode(kept).strip()})
    found = greedy.predict(model, batch, state)
    assert found == expected
    assert len({row["translation"] for row in found}) > 1
    alone = batch_of(task, state, ROWS[2:3])
    assert greedy.predict(model, alone, state)[0]["translation"][:10] == expected[2]["translation"][:10]


def test_sources_of_one_length_stand_together(task: Translate, state: State) -> None:
    """By the source first, then by the translation."""
    examples = [task.encode(row, state) for row in ROWS]
    ordered = sorted(examples, key=task.length)
    lengths = [(len(example["source"]), len(example["target"])) for example in ordered]
    assert lengths == sorted(lengths)


def test_an_input_is_a_sentence_or_a_file_and_what_is_cut_is_told(
    task: Translate, state: State, tmp_path: Path
) -> None:
    """Every input is one sentence."""
    path = tmp_path / "a.txt"
    path.write_text("a cold train\n")
    assert task.parse(["the film", f"@{path}"], state) == [
        Row({"text": "the film"}),
        Row({"text": "a cold train"}),
    ]
    with pytest.warns(DataWarning, match="'film film .* is longer than 24 tokens"):
        task.parse(["film " * 30], state)
    with pytest.raises(DataError, match="'   ' is no sentence"):
        task.parse(["   "], state)


# --- encoder-decoders as they are --------------------------------------------------------------------------

SMALL: Mapping[str, dict[str, Any]] = {
    "t5": {
        "d_model": 32,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 1,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "bart": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "decoder_start_token_id": 3},
    "marian": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "decoder_start_token_id": 0},
}
HEADS = {
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "max_position_embeddings": 32}


def encoder_decoder(kind: str, folder: Path, encoder: Path, **changes: Any) -> Path:
    """A tiny model of that kind with new weights, and the tiny encoder's tokenizer."""
    sizes = SMALL[kind] if kind == "t5" else {**SMALL[kind], **HEADS}
    config = AutoConfig.for_model(kind, vocab_size=25, **TOKENS, **{**sizes, **changes})
    torch.manual_seed(0)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", SMALL)
def test_an_encoder_decoder_is_used_as_it_is(
    kind: str, encoder: Path, tmp_path: Path, task: Translate
) -> None:
    """Its own tokenizer on both sides, no new decoder, and the loss that the library itself gives."""
    base = loaded(encoder_decoder(kind, tmp_path, encoder))
    with pytest.warns(DataWarning, match=r"a decoder of its own, so that .*task\.layers.* changes nothing"):
        state = task.fit(ROWS, base.preprocessing["task"])
    assert state == task.fit([], base.preprocessing["task"])
    assert task.edits(base.model, state) == []
    row = Row({"text": "a cold train"}, "the warm soup")
    batch = batch_of(task, state, [row])
    total, tokens = task.loss(task.forward(base.model, batch), batch)
    ids = torch.tensor(
        [unpack(state["source"]).encode(text).ids for text in (row.inputs["text"], row.target)]
    )
    theirs = base.model.backbone(input_ids=ids[:1], labels=ids[1:])  # type: ignore[operator]
    assert float(total) / tokens == pytest.approx(float(theirs.loss), rel=1e-4)
    written = base.model.backbone.generate(ids[:1], num_beams=4, do_sample=False, max_new_tokens=20)  # type: ignore[operator]
    special = {state["start"], state["pad"]}
    expected = unpack(state["source"]).decode(
        [token for token in written[0].tolist() if token not in special]
    )
    assert task.predict(base.model, batch, state) == [{"translation": expected}]
    assert base.fresh is not None
    fresh = base.fresh().state_dict()
    assert {n: t.shape for n, t in fresh.items()} == {n: t.shape for n, t in base.model.state_dict().items()}


def test_an_encoder_decoder_that_does_not_say_how_it_begins_is_refused(encoder: Path, tmp_path: Path) -> None:
    """And so is one that is to classify."""
    good = loaded(encoder_decoder("marian", tmp_path / "good", encoder))
    with pytest.raises(BaseError, match="an encoder-decoder"):
        Classify(options.Classify()).fit(ROWS, good.preprocessing["task"])
    folder = encoder_decoder("bart", tmp_path / "bad", encoder)
    for name in ("config.json", "generation_config.json"):
        content = json.loads((folder / name).read_text())
        content.pop("decoder_start_token_id", None)
        (folder / name).write_text(json.dumps({**content, "decoder_start_token_id": None}))
    with pytest.raises(BaseError, match="does not say with which token its decoder begins"):
        loaded(folder)


# --- from end to end ---------------------------------------------------------------------------------------


def files(folder: Path, count: int = 200) -> str:
    """Two files of pairs, line by line."""
    made = pairs(count)
    for ending, side in (("en", 0), ("de", 1)):
        (folder / f"pairs.{ending}").write_text("".join(f"{pair[side]}\n" for pair in made))
    return str(folder / "pairs")


def tiny(encoder: Path, data: str) -> dict[str, Any]:
    """What makes the recipe small."""
    return {
        "task.vocabulary": 300,
        "task.layers": 1,
        "task.heads": 2,
        "task.precision": "float32",
        "task.beams": 2,
        "base.name": str(encoder),
        "data.path": data,
        "fine_tune.lr": 0.01,
        "fine_tune.batch_size": 32,
        "fine_tune.epochs": 3,
        "evaluate.resamples": 100,
    }


def adapted(encoder: Path, data: str, out: Path, **rest: Any) -> core.Run:
    return core.run("nlp/translate", out=out, quiet=True, **{**tiny(encoder, data), **rest})


def test_two_files_become_a_sealed_model_that_translates(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way, with parity in a fresh process: scores, signatures and examples in the record, the same numbers
    from the shell, and a translation of what a user types. What is cut is told."""
    run = adapted(encoder, files(tmp_path), tmp_path / "runs")
    assert "texts are longer than 24 tokens, and only so much of them is read" in capsys.readouterr().err
    scores = run.document["contenders"]
    assert list(scores) == ["base", "copy", "word_by_word", "scratch", "adapted"]
    assert scores["base"] == {"bleu": 0.0, "chrf": 0.0}
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    losses = [
        event["loss"] for event in events if event["event"] == "step" and event["contender"] == "adapted"
    ]
    assert losses[-1] < 0.8 * losses[0]
    shown = run.document["illustrations"]
    assert shown["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert len(shown["examples"]) == 3
    assert set(shown["examples"][0]) == {"source", "reference", *scores}
    assert "signatures" in str(run)
    described = json.loads((run.shell / "delta.json").read_text())
    assert [edit["edit"] for edit in described["edits"]] == ["nlp.decoder"]
    assert "backbone.decoder.cls.predictions.decoder.weight" not in described["tensors"]  # tied: held once
    shell = core.load(run.shell)
    assert shell.evaluate() == scores["adapted"]
    (predicted,) = shell.predict("a lovely film")
    assert list(predicted) == ["translation"]


def test_an_encoder_decoder_is_adapted_without_an_edit(encoder: Path, tmp_path: Path) -> None:
    """Its weights are tied in three places; the shell gives the same numbers."""
    folder = encoder_decoder("bart", tmp_path / "bart", encoder)
    rest = {"fine_tune.epochs": 1, "evaluate.scratch": False}
    run = adapted(folder, files(tmp_path, 100), tmp_path / "runs", **rest)
    assert json.loads((run.shell / "delta.json").read_text())["edits"] == []
    assert core.load(run.shell).evaluate() == run.document["contenders"]["adapted"]


def test_same_seed_same_bits(encoder: Path, tmp_path: Path) -> None:
    """Fine-tuned twice; another seed ends elsewhere."""
    changes = {**tiny(encoder, files(tmp_path, 100)), "fine_tune.epochs": 1, "evaluate.scratch": False}

    def tuned(seed: int) -> Mapping[str, torch.Tensor]:
        return prepare("nlp/translate", {**changes, "seed": seed}, tmp_path).with_core().state_dict()

    first, second, other = tuned(0), tuned(0), tuned(1)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert any(not torch.equal(first[name], other[name]) for name in first)
