"""Bases on disk: the digest of tensors, and every way in which a file may not be the base that was meant."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from core.bases import digest, fill, load_base, read_tensors, save_base
from core.errors import BaseError

CARD = {"architecture": {}, "preprocessing": {}, "licence": "Apache-2.0", "origin": "a test"}


def test_digest_is_over_tensors_and_not_over_files(tmp_path):
    """Another file name, another order of the tensors, other metadata: the same base."""
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(3, dtype=torch.int64)}
    save_file(tensors, tmp_path / "one.safetensors")
    save_file(dict(reversed(tensors.items())), tmp_path / "two.safetensors", metadata={"by": "another"})
    assert digest(load_file(tmp_path / "one.safetensors")) == digest(load_file(tmp_path / "two.safetensors"))
    assert digest(tensors).startswith("sha256:")


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([1.0, 3.0])},
        {"b": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        {"a": torch.tensor([1.0, 2.0]).view(torch.int32)},
        {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([])},
        {},
    ],
)
def test_digest_depends_on_names_dtypes_shapes_and_values(other):
    """Each of them alone changes it."""
    assert digest({"a": torch.tensor([1.0, 2.0])}) != digest(other)


def test_digest_tells_a_change_of_one_bit():
    """The last bit of one weight of bfloat16, where numpy could not look."""
    weights = torch.ones(1000, dtype=torch.bfloat16)
    changed = weights.clone()
    changed.view(torch.int16)[777] ^= 1
    assert digest({"w": weights}) != digest({"w": changed})


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.float16, torch.bfloat16, torch.float64])
def test_digest_takes_scalars_empty_and_transposed_tensors_of_every_type(dtype):
    """The layout in memory does not matter, the values do."""
    matrix = torch.ones(2, 3).to(dtype)
    matrix[0, 1] = 0
    assert digest({"m": matrix.t().contiguous().t()}) == digest({"m": matrix})
    assert digest({"m": torch.ones((), dtype=dtype)}) != digest({"m": torch.zeros((), dtype=dtype)})
    assert digest({"m": torch.ones(0, 2, dtype=dtype)}) != digest({"m": torch.ones(2, 0, dtype=dtype)})


def test_saved_base_loads_with_its_card(tmp_path):
    """What save_base writes, load_base reads, converted to the model's dtype where the file is smaller."""
    weights = nn.Linear(2, 3).bfloat16().state_dict()
    made = save_base(tmp_path, "small", weights, {**CARD, "architecture": {"out": 3}})
    base = load_base(tmp_path, "small", lambda architecture: nn.Linear(2, architecture["out"]))
    assert base.digest == made == digest(weights)
    assert (base.licence, base.origin) == ("Apache-2.0", "a test")
    assert base.model.weight.dtype == torch.float32
    assert torch.equal(base.model.weight, weights["weight"].float())


def test_filling_a_model_that_does_not_fit_lists_every_tensor_and_changes_none():
    """Missing, not wanted, and of another shape, each with its shape, in one message."""
    layer = nn.Linear(2, 3)
    before = layer.weight.detach().clone()
    with pytest.raises(BaseError) as caught:
        fill(layer, {"weight": torch.zeros(3, 4), "gain": torch.zeros(5)}, "base 'x'")
    assert caught.value.message.splitlines() == [
        "base 'x' does not fit Linear:",
        "  - missing: bias (3,)",
        "  - not in the architecture: gain (5,)",
        "  - weight: the file has (3, 4), the architecture (3, 2)",
    ]
    assert torch.equal(layer.weight, before)


def test_buffers_are_filled_too():
    """Running statistics belong to a base as its weights do."""
    norm = nn.BatchNorm1d(2)
    state = {**norm.state_dict(), "running_mean": torch.tensor([1.0, 2.0])}
    fill(norm, state, "base")
    assert norm.running_mean.tolist() == [1.0, 2.0]
    with pytest.raises(BaseError, match=r"missing: running_var \(2,\)"):
        fill(norm, {name: tensor for name, tensor in state.items() if name != "running_var"}, "base")


def test_reading_tensors_unpickles_nothing(tmp_path):
    """A pickle under the name of a safetensors file is refused, not opened."""
    torch.save({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(BaseError, match="is truncated or no safetensors file"):
        read_tensors(tmp_path / "a.safetensors", "base 'a'")


# --- as the command line tells it ---------------------------------------------------------------------------


def test_base_that_is_not_there_names_the_folder_and_the_nearest(refused, halves):
    """A misspelt name gets the one beside it."""
    folder = halves()
    for path in folder.iterdir():
        path.rename(path.with_stem("halvess"))
    error = refused(f"base.folder={folder}")
    assert error["kind"] == "BaseError"
    assert f"there is no base 'halves' in {folder}" in error["message"]
    assert error["hint"] == "did you mean 'halvess'?"


def test_weights_that_are_missing_name_the_file(refused, halves):
    """A card without its weights."""
    folder = halves()
    (folder / "halves.safetensors").unlink()
    error = refused(f"base.folder={folder}")
    assert error["kind"] == "BaseError"
    assert f"base 'halves': there is no file {folder / 'halves.safetensors'}" in error["message"]


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights_say_so_with_their_size(refused, halves, keep):
    """Empty, cut in the header, cut in the data, and short of one byte."""
    path = halves() / "halves.safetensors"
    content = path.read_bytes()[:keep]
    path.write_bytes(content)
    error = refused(f"base.folder={path.parent}")
    assert f"{path} ({len(content)} bytes) is truncated or no safetensors file" in error["message"]
    assert error["hint"]


def test_weights_of_another_digest_show_both(refused, halves):
    """One weight changed by its last bit."""
    path = halves() / "halves.safetensors"
    promised = json.loads(path.with_suffix(".json").read_text())["digest"]
    tensors = load_file(path)
    tensors["body.weight"].view(torch.int32)[0, 0] ^= 1
    save_file(tensors, path)
    error = refused(f"base.folder={path.parent}")
    assert f"the weights have the digest {digest(tensors)}" in error["message"]
    assert f"halves.json says {promised}" in error["message"]


def test_weights_that_do_not_fit_list_tensors_and_shapes(refused, halves):
    """Another number of classes, and a tensor too few and too many."""
    tensors = {
        "body.weight": torch.zeros(8, 2),
        "body.biass": torch.zeros(8),
        "head.weight": torch.zeros(3, 8),
        "head.bias": torch.zeros(2),
    }
    error = refused(f"base.folder={halves(tensors)}")
    assert error["kind"] == "BaseError"
    assert error["message"].splitlines()[:4] == [
        "base 'halves' does not fit Sequential:",
        "  - missing: body.bias (8,)",
        "  - not in the architecture: body.biass (8,)",
        "  - head.weight: the file has (3, 8), the architecture (2, 8)",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ('{"digest": "sha256:0"}', "lacks architecture, licence, origin, preprocessing"),
        ("[]", "lacks"),
    ],
)
def test_card_that_is_damaged_names_the_file(refused, halves, text, says):
    """No JSON, fields that lack, and JSON that is no card."""
    path = halves() / "halves.json"
    path.write_text(text)
    message = refused(f"base.folder={path.parent}")["message"]
    assert f"the card {path}" in message
    assert says in message
