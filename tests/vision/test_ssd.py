"""Single-shot detection: anchors, matching, loss, decoding, and the published slim detector."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from core.base_file import File
from core.errors import EditError
from core.options import File as FileOptions
from plugins.vision import anchors, options
from plugins.vision.detectors import Found, Losses, Truth
from plugins.vision.edits import NewBoxes
from plugins.vision.ssd import NEGATIVES, SlimDetector, corners, decoded, encoded, grid, matched, multibox

pytest.importorskip("torchvision")

SIZES = [[(17.0, 17.0), (21.0, 20.0)], [(50.0, 43.0)], [], [(118.0, 112.0)]]


@pytest.fixture
def detector() -> SlimDetector:
    torch.manual_seed(0)
    return SlimDetector().eval()


def test_the_published_weights_fit_to_the_last_tensor(real_data: Callable[[str], Path]) -> None:
    """184 tensors, 260 k parameters and 5 k numbers of statistics; on noise it finds no face."""
    file = real_data("weights-ultralight-face") / "version-slim-320.pth"
    base = File(
        FileOptions(path=str(file), architecture="plugins.vision.ssd:SlimDetector", labels=["face"])
    ).load()
    assert len(base.model.state_dict()) == 184
    assert sum(p.numel() for p in base.model.parameters()) == 260_188
    assert base.fresh is not None
    noise = torch.randn(1, 3, 240, 320, generator=torch.Generator().manual_seed(0))
    (found,) = base.model.eval()(noise)
    assert len(found.scores) == 4420  # 3 · 40 · 30 + 2 · 20 · 15 + 2 · 10 · 8 + 3 · 5 · 4
    assert found.scores.max() < 0.5


def test_offsets_lead_from_anchors_to_boxes_and_back() -> None:
    """Whatever the anchor."""
    rng = torch.Generator().manual_seed(0)
    corner = torch.rand(50, 2, generator=rng) * 200
    boxes = torch.cat([corner, corner + 5 + torch.rand(50, 2, generator=rng) * 80], 1)
    start = torch.cat([torch.rand(50, 2, generator=rng) * 200, 10 + torch.rand(50, 2, generator=rng) * 90], 1)
    assert torch.allclose(decoded(encoded(boxes, start), start), boxes, atol=1e-3)


def test_anchors_stand_in_the_middle_of_their_cells_in_the_order_of_the_heads_outputs() -> None:
    """By row, by column, by size, as the convolution's output is laid out."""
    placed = grid(torch.zeros(1, 8, 2, 3), 16, [(10.0, 20.0), (30.0, 40.0)])
    assert placed.shape == (12, 4)
    assert placed[:4].tolist() == [[8, 8, 10, 20], [8, 8, 30, 40], [24, 8, 10, 20], [24, 8, 30, 40]]
    assert placed[-1].tolist() == [40, 24, 30, 40]


def test_every_box_has_an_anchor_however_small_it_is() -> None:
    """The one that overlaps it most; others have a box from an overlap of one half on."""
    start = grid(torch.zeros(1, 8, 4, 4), 16, [(20.0, 20.0)])
    truth = Truth(torch.tensor([[22.0, 22, 42, 42], [1, 1, 4, 4]]), torch.tensor([0, 1]))
    which, has = matched(start, truth)
    assert has.sum() == 2
    assert sorted(which[has].tolist()) == [0, 1]
    nothing = matched(start, Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)))
    assert not nothing[1].any()


def test_the_loss_is_that_of_the_paper() -> None:
    """Written out plainly: cross-entropy of the matched and of the three times as many others that are taken for
    something most, smooth L1 of the matched offsets, over the number of the matched."""
    rng = torch.Generator().manual_seed(0)
    start = grid(torch.zeros(1, 8, 6, 6), 16, [(30.0, 30.0), (50.0, 50.0)])
    logits, offsets = torch.randn(2, 72, 4, generator=rng), torch.randn(2, 72, 4, generator=rng)
    truths = [
        Truth(torch.tensor([[10.0, 10, 42, 40], [50, 40, 90, 95]]), torch.tensor([0, 2])),
        Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
    ]
    total, count = 0.0, 0
    for one, moved, truth in zip(logits, offsets, truths, strict=True):
        which, has = matched(start, truth)
        wanted = [int(truth.labels[which[i]]) + 1 if has[i] else 0 for i in range(72)]
        each = functional.cross_entropy(one, torch.tensor(wanted), reduction="none")
        others = sorted((float(each[i]) for i in range(72) if not has[i]), reverse=True)
        total += float(each[has].sum()) + sum(others[: NEGATIVES * max(1, int(has.sum()))])
        if has.any():
            goal = encoded(truth.boxes[which[has]], start[has])
            total += float(functional.smooth_l1_loss(moved[has], goal, reduction="sum"))
        count += int(has.sum())
    made = multibox(logits, offsets, start, truths)
    assert float(made.total) == pytest.approx(total, rel=1e-5)
    assert int(made.weight) == count > 2


def test_pictures_of_nothing_alone_give_a_finite_loss(detector: SlimDetector) -> None:
    """The background is learned from them."""
    nothing = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    made = detector.train()(torch.zeros(2, 3, 64, 96), [nothing, nothing])
    assert isinstance(made, Losses)
    made.total.backward()
    assert torch.isfinite(made.total)
    assert made.total > 0


def test_new_boxes_replay_to_the_bit_and_keep_all_but_the_last_layers(detector: SlimDetector) -> None:
    """A new anchor starts with the offsets of the old one that is nearest in size; a level without any has no head."""
    edit = NewBoxes(options.NewBoxes(classes=3, anchors=SIZES))  # type: ignore[arg-type]
    one, other = (edit.apply(copy.deepcopy(detector)).state_dict() for _ in range(2))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    old = detector.state_dict()
    changed = {name for name in old if name not in one or not torch.equal(old[name], one[name])}
    heads = {name for name in old if "_headers." in name}
    middle = {name for name in heads if "_headers.0.0." in name or "_headers.1.0." in name}
    assert changed == heads - middle
    assert one["classification_headers.0.2.weight"].shape == (2 * 4, 64, 1, 1)
    assert torch.equal(one["regression_headers.0.2.weight"][:4], old["regression_headers.0.2.weight"][4:8])
    assert torch.equal(one["regression_headers.3.bias"], old["regression_headers.3.bias"][:4])
    made = edit.apply(copy.deepcopy(detector))
    (found,) = made.eval()(torch.zeros(1, 3, 64, 96))
    assert isinstance(found, Found)
    assert found.labels.unique().tolist() == [0, 1, 2]
    assert len(found.scores) == 3 * (2 * 12 * 8 + 6 * 4 + 2 * 1)


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (nn.Linear(2, 2), {"classes": 2}, "is no detector"),
        (
            SlimDetector(),
            {"classes": 2, "anchors": [[(9, 9)]]},
            "for 1 levels are given, and SlimDetector has 4",
        ),
        (SlimDetector(), {"classes": 2, "anchors": [[], [], [], []]}, "no level has an anchor"),
    ],
    ids=["no detector", "levels", "none"],
)
def test_new_boxes_that_do_not_fit_are_refused(model: nn.Module, given: dict[str, object], said: str) -> None:
    """Before anything is changed."""
    with pytest.raises(EditError, match=said):
        NewBoxes(options.NewBoxes.model_validate(given)).validate(model)


def test_a_level_that_was_left_empty_cannot_be_filled_again() -> None:
    """Nothing is there that its anchors could begin as."""
    model = NewBoxes(options.NewBoxes(classes=2, anchors=[[(9, 9)], [], [], []])).apply(SlimDetector())
    again = NewBoxes(options.NewBoxes(classes=2, anchors=[[(9, 9)], [(40, 40)], [], []]))
    with pytest.raises(EditError, match="level 1 has no anchor any more"):
        again.validate(model)


def test_sizes_go_to_the_level_that_was_trained_for_such(detector: SlimDetector) -> None:
    """By the published sizes: 10 to 24, 32 and 48, 64 and 96, 128 to 256."""
    levels = detector.by_level([(12, 14), (45, 50), (90, 90), (300, 200), (20, 20)])
    assert levels == [[(12, 14), (20, 20)], [(45, 50)], [(90, 90)], [(300, 200)]]


def test_fitted_anchors_overlap_boxes_more_than_those_of_faces_do() -> None:
    """Two kinds of boxes, one a hundred times as frequent: each gets two of four, since each counts the same in sum."""
    random = np.random.RandomState(0)
    many = random.normal([50, 45], 4, (1000, 2))
    few = random.normal([20, 20], 2, (10, 2))
    sizes, labels = np.concatenate([many, few]), ["many"] * 1000 + ["few"] * 10
    found = anchors.fitted(sizes, anchors.balanced(labels), 4)
    assert (found.prod(1) == np.sort(found.prod(1))).all()
    assert (found.prod(1) < 30 * 30).tolist() == [True, True, False, False]
    assert anchors.overlap(few, found).max(1).mean() > 0.8
    assert anchors.overlap(many, found).max(1).mean() > 0.85
    faces = np.array([size for level in SlimDetector.published for size in level])
    assert anchors.overlap(many, found).max(1).mean() > anchors.overlap(many, faces).max(1).mean() + 0.03


def test_as_many_anchors_as_there_are_sizes_at_most() -> None:
    """Boxes that are all alike have one."""
    found = anchors.fitted(np.full((5, 2), 30.0), np.ones(5) / 5, 9)
    assert found.tolist() == [[30.0, 30.0]]


def test_corners_are_half_a_side_from_the_middle() -> None:
    """(x, y, width, height) to (left, upper, right, lower)."""
    assert corners(torch.tensor([10.0, 20.0, 4.0, 6.0])).tolist() == [8, 17, 12, 23]
