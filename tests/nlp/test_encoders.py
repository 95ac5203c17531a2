"""Bases from the transformers library."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, BertForSequenceClassification, BertModel

from core.contract import Base
from core.edits.grow import Grow
from core.errors import BaseError
from core.options import Grow as GrowOptions
from plugins.nlp import hub, options
from plugins.nlp.encoders import (
    SequenceClassifier,
    TextEncoder,
    Transformers,
    first_position,
    packed_states,
    padded_states,
)
from plugins.nlp.ragged import packed, padded, ragged
from plugins.nlp.tokens import unpack
from tests.nlp.conftest import tiny_config


def loaded(name: Path | str, **rest: object) -> Base:
    base = Transformers(options.Transformers.model_validate({"name": str(name), **rest})).load()
    base.model.requires_grad_(False).eval()
    return base


@pytest.fixture
def copy(encoder: Path, tmp_path: Path) -> Path:
    """The encoder's folder, to be damaged."""
    return Path(shutil.copytree(encoder, tmp_path / "copy"))


def logits(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Of padded texts."""
    return model(ragged([row[: int(n)].tolist() for row, n in zip(ids, mask.sum(1), strict=True)]))


IDS = torch.tensor([[2, 5, 6, 3, 0], [2, 7, 8, 9, 3]])
MASK = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])


def test_an_encoder_gets_an_empty_head_that_grows(encoder: Path) -> None:
    """Its features are the mean of the token states that the library itself computes, padding left out."""
    base = loaded(encoder)
    assert isinstance(base.model, TextEncoder)
    assert logits(base.model, IDS, MASK).shape == (2, 0)
    states = BertModel.from_pretrained(encoder).eval()(input_ids=IDS, attention_mask=MASK).last_hidden_state
    pooled = torch.stack([states[0, :4].mean(0), states[1].mean(0)])
    grown = Grow(GrowOptions(axis="classes", to=3, init="normal")).apply(base.model)
    assert torch.allclose(logits(grown, IDS, MASK), grown.head(pooled), atol=1e-5)


@pytest.mark.parametrize("by", ["option", "file"])
def test_pooling_is_as_the_model_or_the_recipe_says(copy: Path, by: str) -> None:
    """The first token's state, where 1_Pooling/config.json or the option asks for it."""
    if by == "file":
        (copy / "1_Pooling").mkdir()
        (copy / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    base = loaded(copy, **({"pooling": "cls"} if by == "option" else {}))
    grown = Grow(GrowOptions(axis="classes", to=3, init="normal")).apply(base.model)
    states = grown.backbone(input_ids=IDS, attention_mask=MASK).last_hidden_state
    assert torch.allclose(logits(grown, IDS, MASK), grown.head(states[:, 0]), atol=1e-6)


def test_padding_changes_no_logit(encoder: Path) -> None:
    """Of a text alone, and beside a longer one."""
    grown = Grow(GrowOptions(axis="classes", to=3, init="normal")).apply(loaded(encoder).model)
    assert torch.allclose(logits(grown, IDS, MASK)[0], logits(grown, IDS[:1, :4], MASK[:1, :4])[0], atol=1e-6)


def test_a_base_brings_its_tokenizer_length_and_licence(encoder: Path) -> None:
    """The tokenizer as the library reads it; the shorter of the tokenizer's and the model's lengths."""
    base = loaded(encoder)
    brought = base.preprocessing["task"]
    assert unpack(brought["tokenizer"]).encode("A good FILM").ids == [2, 4, 16, 10, 3]
    assert unpack(brought["tokenizer"], 4).encode("A good FILM").ids == [2, 4, 16, 3]
    assert (brought["longest"], brought["labels"]) == (24, [])
    assert (base.licence, base.origin) == ("Apache-2.0", str(encoder))


def test_the_digest_is_of_the_weights_and_not_of_the_folder(encoder: Path, copy: Path) -> None:
    """A copy is the same base; another number is another."""
    assert loaded(copy).digest == loaded(encoder).digest
    tensors = load_file(copy / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][5, 0] += 1
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    assert loaded(copy).digest != loaded(encoder).digest


def test_a_fresh_model_has_the_structure_and_other_weights(encoder: Path) -> None:
    """What scratch starts from."""
    base = loaded(encoder)
    assert base.fresh is not None
    fresh = base.fresh().state_dict()
    assert {n: t.shape for n, t in fresh.items()} == {n: t.shape for n, t in base.model.state_dict().items()}
    name = "backbone.encoder.layer.0.output.dense.weight"
    assert not torch.equal(fresh[name], base.model.state_dict()[name])


def test_a_classifier_keeps_its_head_and_labels(copy: Path) -> None:
    """It computes what the library's class does, and its head grows behind the old classes."""
    torch.manual_seed(1)
    config = tiny_config(25, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    made = BertForSequenceClassification(config).eval()
    made.save_pretrained(copy)
    base = loaded(copy)
    assert isinstance(base.model, SequenceClassifier)
    assert base.preprocessing["task"]["labels"] == ["bad", "good"]
    expected = made(input_ids=IDS, attention_mask=MASK).logits
    assert torch.equal(logits(base.model, IDS, MASK), expected)
    grown = Grow(GrowOptions(axis="classes", to=3, init="normal")).apply(base.model)
    assert torch.allclose(logits(grown, IDS, MASK)[:, :2], expected, atol=1e-6)
    assert logits(grown, IDS, MASK).shape == (2, 3)


def test_tensors_without_a_place_are_named(copy: Path) -> None:
    """A head of another task is left out, and the user is told which."""
    tensors = load_file(copy / "model.safetensors")
    save_file(
        {**tensors, "cls.predictions.bias": torch.zeros(3)}, copy / "model.safetensors", {"format": "pt"}
    )
    (note,) = loaded(copy).notes
    assert "cls.predictions.bias" in note


def test_missing_tensors_are_listed_and_refused(copy: Path) -> None:
    """Nothing is filled with random numbers behind the user's back; the pooler, which is not used, may be missing."""
    tensors = load_file(copy / "model.safetensors")
    kept = {n: t for n, t in tensors.items() if not n.startswith("pooler.")}
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    assert loaded(copy).notes == []
    del kept["embeddings.word_embeddings.weight"]
    save_file(kept, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseError, match=r"missing: embeddings\.word_embeddings\.weight"):
        loaded(copy)


@pytest.mark.parametrize("classifies", [False, True])
def test_tensors_of_another_shape_are_named_with_both_shapes(copy: Path, classifies: bool) -> None:
    """An encoder's and a classifier's; the pooler, which is not used, may be of any."""
    if classifies:
        config = AutoConfig.from_pretrained(copy, num_labels=2)
        BertForSequenceClassification(config).save_pretrained(copy)
    tensors = load_file(copy / "model.safetensors")
    name = "classifier.weight" if classifies else "embeddings.word_embeddings.weight"
    expected = tuple(tensors[name].shape)
    tensors[name] = torch.zeros(3, 32)
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    said = re.escape(f"of another shape: {name} is (3, 32), and {expected} in the configuration")
    with pytest.raises(BaseError, match=said):
        loaded(copy)
    if not classifies:
        tensors[name] = torch.zeros(expected)
        tensors["pooler.dense.bias"] = torch.zeros(3)
        save_file(tensors, copy / "model.safetensors", {"format": "pt"})
        loaded(copy)


@pytest.mark.parametrize("classifies", [False, True])
def test_a_model_saved_in_half_precision_is_made_anew_in_full(copy: Path, classifies: bool) -> None:
    """As the loaded one is: the task's batches and the new head are float32."""
    made = BertModel.from_pretrained(copy)
    if classifies:
        made = BertForSequenceClassification(AutoConfig.from_pretrained(copy, num_labels=2))
    made.half().save_pretrained(copy)
    assert json.loads((copy / "config.json").read_text())["dtype"] == "float16"
    base = loaded(copy)
    assert base.fresh is not None
    for model in (base.model, base.fresh()):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        assert logits(model, IDS, MASK).dtype == torch.float32


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "nosuch"}')


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)


def broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "said", "hint"),
    [
        (no_config, "is no transformers model: .* has no config.json", "hf download"),
        (broken_config, "config.json cannot be read", "restore"),
        (no_weights, "weights in .* cannot be loaded", "model.safetensors"),
        (cut_weights, "weights in .* cannot be loaded", "model.safetensors"),
        (no_tokenizer, "has no tokenizer", "tokenizer.json"),
        (broken_tokenizer, "the tokenizer in .* cannot be read", "tokenizer.json"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(
    copy: Path, damage: Callable[[Path], None], said: str, hint: str
) -> None:
    """The error says what is missing, where, and what to do."""
    damage(copy)
    with pytest.raises(BaseError, match=said) as caught:
        loaded(copy)
    assert hint in caught.value.hint
    assert str(copy) in caught.value.message


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "~/nowhere"])
def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(name: str) -> None:
    """It is called what it is."""
    with pytest.raises(BaseError, match="is no folder here"):
        loaded(name)


def test_a_hub_s_name_without_a_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Offline by wish: the command that fetches it elsewhere, and where it would be looked for."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseError, match="not in the hub's cache, and HF_HUB_OFFLINE") as caught:
        loaded("nobody/nothing")
    assert "hf download nobody/nothing --local-dir FOLDER" in caught.value.hint
    assert "HF_HOME" in caught.value.hint


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://nosuchhost.invalid"])
def test_a_hub_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, endpoint: str
) -> None:
    """A closed port and a host that no one knows, without waiting for many attempts."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(BaseError, match="does not answer") as caught:
        loaded("nobody/nothing")
    assert endpoint in caught.value.message
    assert "hf download" in caught.value.hint


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def kept(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of acme/tiny in a hub's cache, as `hf download` lays it out."""
    root = tmp_path / "models--acme--tiny"
    shutil.copytree(encoder, root / "snapshots" / COMMIT)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return root / "snapshots" / COMMIT


def listed(kept: Path, *others: str) -> None:
    """Write beside the snapshot what its model has on the hub: the snapshot's files and `others`."""
    names = [str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()]
    entries = {name: TreeCacheEntry(size=1, blob_id="0" * 40) for name in [*names, *others]}
    write_tree_cache(str(kept.parents[1]), COMMIT, entries)
    assert (kept.parents[1] / "trees" / f"{COMMIT}.json").is_file()


def test_the_hub_s_cache_is_read_and_the_origin_names_the_commit(encoder: Path, kept: Path) -> None:
    """The digest is the folder's."""
    base = loaded("acme/tiny")
    assert base.origin == f"acme/tiny@{COMMIT}"
    assert base.digest == loaded(encoder).digest


def test_what_was_fetched_is_found_again_though_the_model_has_more_files(kept: Path) -> None:
    """The cache lists all files of a model; those that are not wanted are not missed."""
    listed(kept, "pytorch_model.bin", "onnx/model.onnx", "tf_model.h5")
    assert hub.cached("acme/tiny") == kept
    assert loaded("acme/tiny").origin == f"acme/tiny@{COMMIT}"


def test_a_model_with_pickled_weights_alone_is_found_again(kept: Path) -> None:
    """They are wanted where there are no others, and all of them."""
    (kept / "model.safetensors").rename(kept / "pytorch_model.bin")
    listed(kept)
    assert hub.cached("acme/tiny") == kept
    (kept / "pytorch_model.bin").unlink()
    assert hub.cached("acme/tiny") is None
    assert hub.cached("acme/tiny", whole=False) is None


def test_a_copy_that_lacks_files_is_fetched_anew_or_used_offline(kept: Path) -> None:
    """Another program may have fetched less than is wanted, with weights or without."""
    (kept / "README.md").unlink()
    listed(kept, "README.md")
    assert hub.cached("acme/tiny") is None
    assert hub.located("acme/tiny", None) == kept
    (kept / "model.safetensors").unlink()
    with pytest.raises(BaseError, match="not in the hub's cache, and HF_HUB_OFFLINE"):
        hub.located("acme/tiny", None)


def test_a_folder_without_permission_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the folder above may not be searched."""
    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(BaseError, match="may not be read: no permission") as caught:
        hub.located(str(tmp_path), None)
    assert "chmod" in caught.value.hint


def refused(path: Path, **_: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


# --- texts in rows -----------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=70), min_size=1, max_size=12))
def test_packing_and_padding_lose_no_token(texts: list[list[int]]) -> None:
    """Each token stands where `place` and the mask say, of the right text, at the right position."""
    rows, (tokens, mask) = packed(ragged(texts)), padded(ragged(texts))
    flat = [(token, i, n) for i, text in enumerate(texts) for n, token in enumerate(text)]
    parts = (part.flatten()[rows.place].tolist() for part in (rows.tokens, rows.text, rows.position))
    assert list(zip(*parts, strict=True)) == flat
    assert int((rows.text >= 0).sum()) == len(flat)
    assert tokens[mask].tolist() == [token for token, _, _ in flat]
    assert rows.tokens.numel() <= max(64, *map(len, texts)) * len(texts)


KINDS = {
    "bert": (0, {}),
    "roberta": (2, {"pad_token_id": 1}),
    "distilbert": (0, {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2}),
    "mpnet": (2, {"pad_token_id": 1}),
    "electra": (0, {"embedding_size": 16}),
    "modernbert": (0, {"pad_token_id": 0}),
    "deberta-v2": (None, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_texts_are_read_as_padded_ones_or_not_packed(kind: str) -> None:
    """Where a model's positions begin is found out; one whose positions are relative to the row is left padded."""
    expected, rest = KINDS[kind]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = AutoConfig.for_model(kind, vocab_size=60, **{**sizes, **rest})
    torch.manual_seed(0)
    backbone = AutoModel.from_config(config).eval()
    first = first_position(backbone, 60, config.pad_token_id)
    assert first == expected
    if first is not None:
        texts = ragged([list(range(3, 20)), [5, 6], list(range(4, 50))])
        found, alone = packed_states(backbone, texts, first), padded_states(backbone, texts)
        assert torch.allclose(found, alone, atol=1e-5)
