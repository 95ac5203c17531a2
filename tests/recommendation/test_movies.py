"""Films: `recommendation/movies` on MovieLens' small set, as a user runs it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import core
from core.contract import Base, Split
from core.errors import DataWarning
from plugins.recommendation import options
from plugins.recommendation.contenders import Ranker, trivial
from plugins.recommendation.interactions import Interactions
from plugins.recommendation.models import ItemItem
from plugins.recommendation.ranking import catalogue


def test_the_known_methods_reach_on_all_users_what_they_reach_elsewhere(
    real_data: Callable[[str], Path],
) -> None:
    """Ratings of 3.5 or more, users with five, a random fifth of each held out, full ranking: NDCG@10 of EASE is .28
    to .30, of popularity .16, wherever it was measured; ItemKNN, here with plain sums of cosines, is between."""
    chosen = options.Interactions(
        path=str(real_data("ml-latest-small") / "ratings.csv"), min_rating=3.5, min_user_items=5, draw=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splits = Interactions(chosen).rows()
        warnings.simplefilter("error", DataWarning)  # no penalty of EASE is chosen at the edge
        assert len(splits["report"]) == 604
        items = catalogue(splits["train"], users=3)
        train = Split("train", list(splits["train"]), [], {"items": []})
        base = Base(ItemItem(0), "", "", "")
        report = list(splits["report"])
        scores = {
            one.name: one.ndcg(report)
            for one in trivial(base, train, list(splits["select"]), items)
            if isinstance(one, Ranker)
        }
    assert 0.27 < scores["ease"] < 0.32
    assert 0.13 < scores["popularity"] < 0.19
    assert scores["popularity"] < scores["item_knn"] < scores["ease"]


@pytest.mark.slow
def test_the_adapted_model_is_better_than_ease_on_the_new_half_alone(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """`python -m core run recommendation/movies data=ratings.csv`: a minute on 2 cores; and it recommends films that
    people who like a film like too."""
    path = real_data("ml-latest-small") / "ratings.csv"
    run = core.run("recommendation/movies", out=tmp_path, quiet=True, data={"path": str(path)})
    gain = (
        run.document["differences"]["adapted"]["ndcg@10"]["value"]
        - (run.document["differences"]["ease"]["ndcg@10"]["value"])
    )
    assert gain > 0.01
    assert run.document["gains"]["base"]["low"] > 0
    adapted = core.load(run.shell)
    (prediction,) = adapted.predict("260,1196")  # Star Wars, The Empire Strikes Back
    assert "1210" in list(prediction["recommended"])[:3]  # Return of the Jedi
    assert np.isfinite(list(prediction["recommended"].values())).all()
