"""The digits: what the base knows, and the noisier world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
import torch

from core.contract import Row
from core.errors import DataError
from core.rows import content_digest, duplicates, identify
from plugins.vision import options
from plugins.vision.data import Digits, base_split


def digest(splits: Mapping[str, Sequence[Row]]) -> str:
    return content_digest({name: [[row.inputs, row.target] for row in rows] for name, rows in splits.items()})


def test_the_splits_have_the_stated_sizes_and_classes(splits: Mapping[str, Sequence[Row]]) -> None:
    """Five of each class to train and to select, the rest of the second half to report; 0 to 7 to retain."""
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 50,
        "select": 50,
        "report": 799,
        "retain": 144,
    }
    every = {str(digit) for digit in range(10)}
    for name in ("train", "select"):
        assert Counter(row.target for row in splits[name]) == dict.fromkeys(every, 5)
    assert {row.target for row in splits["report"]} == every
    assert {row.target for row in splits["retain"]} == every - {"8", "9"}


def test_the_default_draw_is_the_same_everywhere(splits: Mapping[str, Sequence[Row]]) -> None:
    """Figures in the documentation are of these very rows, to the bit."""
    assert digest(splits) == "3f364a0ae919ac01"


def test_another_draw_is_another_world_with_the_same_base() -> None:
    """`draw` changes noise and examples; what the base knows stays."""
    one, other = (Digits(options.Digits(draw=draw)).rows() for draw in (0, 1))
    assert content_digest([row.inputs for row in one["train"]]) != content_digest(
        [row.inputs for row in other["train"]]
    )
    assert content_digest([row.inputs for row in one["retain"]]) == content_digest(
        [row.inputs for row in other["retain"]]
    )


def test_no_example_stands_in_two_splits_or_in_the_bases_own_data(
    splits: Mapping[str, Sequence[Row]],
) -> None:
    """Nothing that is reported on was trained on, by the base or after."""
    everything = {"base": base_split()[0], **splits}
    assert duplicates({name: identify(rows) for name, rows in everything.items()}) == {}


def test_the_noise_is_gaussian_of_the_given_width_and_clamped() -> None:
    """Pixels that are neither black nor white, where nothing is cut off, deviate by sigma."""
    clean, noisy = (Digits(options.Digits(noise=sigma)).rows()["report"] for sigma in (0.0, 0.1))
    before = torch.stack([row.inputs for row in clean])
    after = torch.stack([row.inputs for row in noisy])
    assert float(after.min()) == 0.0
    assert float(after.max()) == 16.0
    grey = (before > 6) & (before < 10)
    assert float((after - before)[grey].std()) == pytest.approx(0.1 * 16, rel=0.05)
    assert float((after - before)[grey].mean()) == pytest.approx(0.0, abs=0.1)


def test_the_bases_data_are_clean() -> None:
    """Counts of pixels, as scikit-learn has them: whole numbers."""
    train, retain = base_split()
    images = torch.stack([row.inputs for row in (*train, *retain)])
    assert images.shape == (724, 1, 8, 8)
    assert torch.equal(images, images.round())


def test_a_class_with_too_few_images_is_refused() -> None:
    """The error says how many there are and what to lower."""
    with pytest.raises(DataError, match="of the 86 images of the digit 2") as caught:
        Digits(options.Digits(train_per_class=80, select_per_class=6)).rows()
    assert "less than 86" in caught.value.hint
