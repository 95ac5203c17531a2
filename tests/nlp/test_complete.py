"""What the one-line recipe chooses from the data."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml

import core
from core.contract import Choice
from core.errors import DataError
from core.recipe import find, read, resolve
from plugins.nlp import options
from plugins.nlp.complete import choices
from plugins.nlp.texts import Texts


def chosen(path: object, base: Path | str, **data: object) -> dict[str, Choice]:
    """The choices for the recipe `nlp/texts`, by key."""
    recipe = read(find("nlp/texts").path)
    recipe["data"].update({"path": path, **data})
    recipe["base"]["name"] = str(base)
    return {choice.key: choice for choice in choices(recipe)}


def test_every_key_that_is_open_gets_a_value_with_a_reason(
    encoder: Path, reviews: Callable[..., Path]
) -> None:
    """The recipe resolves with nothing more than data and base; what was chosen stands in it."""
    path = reviews(200)
    resolved = resolve("nlp/texts", {"data": str(path), "base.name": str(encoder)})
    content = resolved.recipe.to_json()
    assert "auto" not in yaml.safe_dump(content)
    assert content["data"]["text"] == "text"
    assert content["data"]["splits"]["how"] == "stratified"
    assert content["task"]["longest"] == 16  # six words and the tokenizer's own two, rounded up
    assert content["fine_tune"]["epochs"] == 15
    found = chosen(str(path), encoder)
    assert all(choice.why for choice in found.values())
    assert found["data.text"].why == "reviews.csv has the columns text, label"
    assert "32 wide" in found["fine_tune.lr"].why


def test_lengths_are_counted_by_the_base_s_tokenizer_or_reckoned(encoder: Path, tmp_path: Path) -> None:
    """40 words are 42 tokens to the encoder; without its folder 1.5 a word."""
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"{'film ' * 39}{i},{'ab'[i % 2]}\n" for i in range(40)))
    assert chosen(str(path), encoder)["task.longest"].value == 48
    reckoned = chosen(str(path), "acme/none")["task.longest"]
    assert (reckoned.value, "reckoned" in reckoned.why) == (64, True)


def test_more_texts_get_larger_batches_and_fewer_epochs(encoder: Path, tmp_path: Path) -> None:
    """Some 5,000 texts are to be seen."""
    found = {}
    for count in (100, 2_000, 30_000):
        path = tmp_path / f"{count}.csv"
        path.write_text("text,label\n" + "".join(f"film {i},{'ab'[i % 2]}\n" for i in range(count)))
        made = chosen(str(path), encoder)
        found[count] = (made["fine_tune.batch_size"].value, made["fine_tune.epochs"].value)
    assert found == {100: (16, 15), 2_000: (32, 4), 30_000: (32, 1)}


@pytest.mark.parametrize("how", ["column", "random", "files"])
def test_splits_are_what_the_data_allow(encoder: Path, tmp_path: Path, how: str) -> None:
    """A column called split, labels with few examples, files of their own."""
    path: Any = tmp_path / "a.csv"
    parts = ["train"] * 12 + ["dev"] * 4 + ["test"] * 4
    rows = [f"film {i},{'ab'[i % 2]},{part}\n" for i, part in enumerate(parts)]
    if how == "files":
        (tmp_path / "d").mkdir()
        for name in ("train", "dev", "test"):
            (tmp_path / "d" / f"{name}.csv").write_text("text,label,x\n" + "".join(rows))
        path = tmp_path / "d"
    else:
        cut = 18 if how == "random" else 20  # nine of a label are too few to keep its share everywhere
        path.write_text(f"text,label,{'split' if how == 'column' else 'x'}\n" + "".join(rows[:cut]))
    choice = chosen(str(path), encoder)["data.splits"]
    assert choice.value["how"] == ("column" if how == "column" else "random")
    assert {"column": "has a column 'split'", "random": "too few", "files": "has its file"}[how] in choice.why


def test_groups_are_not_torn_apart(encoder: Path, tmp_path: Path) -> None:
    """Where the recipe says which rows belong together, though labels could be kept in their shares; it resolves."""
    path = tmp_path / "a.csv"
    rows = [f"film {i},{'ab'[i % 2]},author {i // 4}\n" for i in range(80)]
    path.write_text("text,label,author\n" + "".join(rows))
    choice = chosen(str(path), encoder, group="author")["data.splits"]
    assert choice.value == {"how": "grouped", "select": 0.1, "report": 0.2}
    assert "20 groups in the column 'author'" in choice.why
    given = {"data": {"path": str(path), "group": "author"}, "base.name": str(encoder)}
    splits = Texts(options.Texts.model_validate(_data(resolve("nlp/texts", given)))).rows()
    groups = [{row.group for row in rows} for rows in splits.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 20


def _data(resolved: Any) -> dict[str, Any]:
    """The dataset's options in a resolved recipe."""
    content = resolved.recipe.to_json()["data"]
    return {key: value for key, value in content.items() if key != "dataset"}


@pytest.mark.parametrize("how", ["leave_last", "time"])
def test_splits_of_the_user_s_own_are_left_as_they_are(encoder: Path, tmp_path: Path, how: str) -> None:
    """Their columns are no matter of what is chosen."""
    rows = [f"film {i},{'ab'[i % 2]},author {i // 4},{2000 + i}\n" for i in range(80)]
    (tmp_path / "a.csv").write_text("text,label,author,year\n" + "".join(rows))
    splits = {"how": how, "by": "year", "select": 1, "report": 1}
    found = chosen(str(tmp_path / "a.csv"), encoder, group="author", splits=splits)
    assert found["fine_tune.batch_size"].why == "about 78 texts to train on"


@pytest.mark.parametrize(
    ("config", "rate", "said"),
    [
        ({"hidden_size": 384}, 2e-4, "a small encoder, 384 wide"),
        ({"hidden_size": 512}, 2e-4, "a small encoder, 512 wide"),
        ({"hidden_size": 768}, 3e-5, "an encoder 768 wide"),
        ({"dim": 768}, 3e-5, "an encoder 768 wide"),
        ({"d_model": 768}, 3e-5, "an encoder of unknown width"),
        ([], 3e-5, "an encoder of unknown width"),
        (None, 3e-5, "an encoder of unknown width"),
    ],
)
def test_the_rate_goes_by_the_encoder_s_width(
    reviews: Callable[..., Path], tmp_path: Path, config: object, rate: float, said: str
) -> None:
    """A low one where nothing tells it."""
    (tmp_path / "base").mkdir()
    if config is not None:
        (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    choice = chosen(str(reviews()), tmp_path / "base")["fine_tune.lr"]
    assert (choice.value, choice.why) == (rate, said)


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_base_in_the_hub_s_cache_tells_its_width_and_its_tokens(
    encoder: Path,
    reviews: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    revision: str | None,
) -> None:
    """As a folder does; the recipe's own is known before it was fetched."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    default = chosen(str(reviews()), "sentence-transformers/all-MiniLM-L6-v2")
    assert default["fine_tune.lr"].why == "a small encoder, 384 wide"
    root, commit = tmp_path / "hub" / "models--acme--tiny", "0" * 40
    shutil.copytree(encoder, root / "snapshots" / commit)
    (root / "refs").mkdir()
    (root / "refs" / (revision or "main")).write_text(commit)
    recipe = read(find("nlp/texts").path)
    recipe["data"]["path"] = str(reviews())
    recipe["base"] = {"source": "transformers", "name": "acme/tiny", "revision": revision}
    found = {choice.key: choice for choice in choices(recipe)}
    assert found["fine_tune.lr"].why == "a small encoder, 32 wide"
    assert found["task.longest"].why == "the longest text has 8 tokens"


def test_no_more_is_held_out_than_tells_enough(encoder: Path, tmp_path: Path) -> None:
    """Of 120,000 texts 5,000 and 20,000; of 40,000 the shares."""
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"film {i},{'ab'[i % 2]}\n" for i in range(120_000))
    )
    many = chosen(str(tmp_path / "a.csv"), encoder)["data.splits"]
    assert many.value == {"how": "stratified", "select": 5_000, "report": 20_000}
    assert "20,000 of report tell enough of 120,000" in many.why
    (tmp_path / "b.csv").write_text(
        "text,label\n" + "".join(f"film {i},{'ab'[i % 2]}\n" for i in range(40_000))
    )
    few = chosen(str(tmp_path / "b.csv"), encoder)["data.splits"]
    assert few.value == {"how": "stratified", "select": 0.1, "report": 0.2}


def test_lines_of_label_and_text_have_no_columns(encoder: Path, tmp_path: Path) -> None:
    """None is chosen, which the dataset takes."""
    (tmp_path / "a.txt").write_text("".join(f"{'ab'[i % 2]} film {i}\n" for i in range(40)))
    found = chosen(str(tmp_path / "a.txt"), encoder)
    assert (found["data.text"].value, found["data.label"].value) == (None, None)


def test_a_recipe_without_data_or_with_bad_ones_is_told(encoder: Path, tmp_path: Path) -> None:
    """The first error says how data are named; the others are the dataset's own."""
    with pytest.raises(DataError, match="no data are named") as caught:
        resolve("nlp/texts", {"base.name": str(encoder)})
    assert "data=PATH" in caught.value.hint
    (tmp_path / "a.csv").write_text("text,label\n")
    with pytest.raises(DataError, match="a header and no rows"):
        chosen(str(tmp_path / "a.csv"), encoder)
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"film {i},good\n" for i in range(20)))
    with pytest.raises(DataError, match="one class alone"):
        chosen(str(tmp_path / "a.csv"), encoder)


def test_recipes_of_others_are_left_alone() -> None:
    """Another task, or another dataset."""
    assert choices({"task": "vision.classify", "data": {"dataset": "texts"}}) == []
    assert choices({"task": "nlp.classify", "data": "acme.texts"}) == []


def test_one_line_is_enough(encoder: Path, reviews: Callable[..., Path], tmp_path: Path) -> None:
    """`run nlp/texts data=... base=...`: what was chosen is printed with its reason, and it learns."""
    said = io.StringIO()
    with redirect_stderr(said):
        run = core.run(
            "nlp/texts",
            out=tmp_path,
            data=str(reviews(240)),
            base=f"transformers:{encoder}",
            **{"fine_tune.lr": 0.01, "evaluate.resamples": 100},
        )
    assert run.document["contenders"]["adapted"]["accuracy"] > 0.9
    assert "rarest of 2 labels has 120 examples" in said.getvalue()
