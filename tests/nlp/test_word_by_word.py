"""The cheapest translations: a copy, and a dictionary learned by IBM model 1."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from core.contract import Row, Split
from core.errors import DataWarning
from plugins.nlp import word_by_word
from plugins.nlp.word_by_word import NOTHING, Copy, Model1, WordByWord, dictionaries, numbered, trivial

PAIRS = [
    ("the house", "das Haus"),
    ("the book", "das Buch"),
    ("a book", "ein Buch"),
    ("a small house", "ein kleines Haus"),
    ("the small book", "das kleine Buch"),
]
ROWS = [Row({"text": source}, target) for source, target in PAIRS]


def by_hand(rounds: int) -> dict[tuple[str, str], float]:
    """Model 1 as Brown et al. write it, one word pair after the other; '' is the empty word."""
    pairs = [(["", *source.split()], target.split()) for source, target in PAIRS]
    likely: dict[tuple[str, str], float] = defaultdict(lambda: 1.0)
    for _ in range(rounds):
        counts: Counter[tuple[str, str]] = Counter()
        for sources, targets in pairs:
            for target in targets:
                total = sum(likely[source, target] for source in sources)
                for source in sources:
                    counts[source, target] += likely[source, target] / total
        totals: Counter[str] = Counter()
        for (source, _), count in counts.items():
            totals[source] += count
        likely = defaultdict(float, {key: count / totals[key[0]] for key, count in counts.items()})
    return dict(likely)


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_model_1_learns_what_a_loop_by_hand_learns(rounds: int) -> None:
    """Every probability, the empty word's too; those of a source word add up to one."""
    sources, known = numbered(source.split() for source, _ in PAIRS)
    targets, wanted = numbered(target.split() for _, target in PAIRS)
    model = Model1(sources, targets)
    model.learn(rounds)
    found = {
        (known[source], wanted[target]): probability
        for source, target, probability in zip(model.source, model.target, model.probability, strict=True)
    }
    assert found == pytest.approx(by_hand(rounds))
    assert np.bincount(model.source, model.probability) == pytest.approx(np.ones(len(known)))


def test_the_other_direction_is_found_entry_by_entry() -> None:
    """The same two words, whatever their order."""
    sources, _ = numbered(source.split() for source, _ in PAIRS)
    targets, _ = numbered(target.split() for _, target in PAIRS)
    there, back = Model1(sources, targets), Model1(targets, sources)
    places = there.mirrored(back)
    real = there.source != NOTHING
    assert (back.source[places[real]] == there.target[real]).all()
    assert (back.target[places[real]] == there.source[real]).all()


def test_dictionaries_hold_each_source_word_and_leave_out_what_is_not_sure() -> None:
    """One for each choice; the classic example comes out right."""
    made = list(dictionaries(ROWS))
    assert len(made) == 2 * len(word_by_word.ROUNDS) * len(word_by_word.SURE)
    assert all(set(one) == {"the", "a", "small", "house", "book"} for one in made)
    last = made[-len(word_by_word.SURE)]
    assert {word: last[word] for word in ("the", "a", "house", "book")} == {
        "the": "das",
        "a": "ein",
        "house": "Haus",
        "book": "Buch",
    }
    assert sum(word == "" for word in made[len(word_by_word.SURE) - 1].values()) >= sum(
        word == "" for word in made[0].values()
    )


def test_words_are_looked_up_and_written_as_a_sentence() -> None:
    """A capital first, marks where they belong, unknown words as they are, and the empty translation left out."""
    contender = WordByWord({"the": "der", "man": "Mann", "is": "", "says": "sagt", "(": "("})
    rows = [Row({"text": "The man (Bob) is, says: hello!"}), Row({"text": "is"})]
    assert contender.predict(rows) == [
        {"translation": "Der Mann (Bob), sagt: hello!"},
        {"translation": ""},
    ]
    assert Copy().predict(rows[1:]) == [{"translation": "is"}]


def test_select_chooses_and_a_smaller_sample_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dictionary is learned on `train` alone."""
    select = [Row({"text": "the small house"}, "das kleine Haus"), Row({"text": "unknown"}, "unbekannt")]
    splits = {
        "train": Split("train", ROWS, [], None),
        "select": Split("select", select, [], None),
    }
    copy, chosen = trivial(splits)
    assert (copy.name, chosen.name) == ("copy", "word_by_word")
    assert chosen.predict(select)[1] == {"translation": "Unknown"}
    monkeypatch.setattr(word_by_word, "MOST", 3)
    with pytest.warns(DataWarning, match="train has 5 rows, and word_by_word learns from 3"):
        trivial(splits)
