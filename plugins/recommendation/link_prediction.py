"""Link prediction: of all people to whom somebody does not link yet, to whom next (Liben-Nowell and Kleinberg 2007,
https://doi.org/10.1002/asi.20591)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from core.contract import JSON, SELECT, TRAIN, Base, Contender, Metric, Row, Split
from core.edits import axis_size
from core.errors import DataError, DataWarning, nearest
from plugins.recommendation import link_contenders, options
from plugins.recommendation.diversity import COVERAGE, DISTANCE, NOVELTY
from plugins.recommendation.graph import Graph
from plugins.recommendation.log import some
from plugins.recommendation.ranking import MRR, NDCG, RECALL
from plugins.recommendation.tasks import NONE, Ranking, asked, padded


class State(TypedDict):
    """The people, in the order of the model's outputs, and `train`'s links between them, as indices: from whom, to
    whom."""

    people: list[str]
    links: list[list[int]]


class Example(NamedTuple):
    """Who it is, () int64, or `NONE`; to whom they link, (n,) int64; the targets, (m,) int64, and whether they are a
    list; everybody's links, (2, links) int64, and how many people there are, the same for all examples."""

    person: Tensor
    history: Tensor
    targets: Tensor
    several: bool
    links: Tensor
    people: int


class Batch(Ranking):
    """As of `Recommend`, with oneself among those that are no candidates, and the targets as what is to rank high. The
    people, (batch,) int64; to whom they are known to link, (batch, people); everybody's links, (2, links) int64."""

    targets: Tensor
    several: Tensor
    people: Tensor
    linked: Tensor
    links: Tensor


class LinkPrediction:
    """The task `link_prediction`: a person and to whom they link in, all other people out, ranked."""

    def __init__(self, options: options.LinkPrediction) -> None:
        self._options = options
        self._kept: tuple[State, Graph] | None = None

    def fit(self, rows: Sequence[Row], brought: Mapping[str, JSON]) -> State:
        """The base's people keep their places; those that only `train` has follow, sorted: nothing is known of them but
        their links (`DataWarning`)."""
        known = list(brought.get("people", []))
        state = learned(rows, known)
        new = state["people"][len(known) :]
        if new and known:
            warnings.warn(
                "people in train whom the base does not know, and who are known by their links alone:"
                f" {len(new)} ({some(new)})",
                DataWarning,
                stacklevel=2,
            )
        return state

    def edits(self, model: nn.Module, state: State) -> list[Mapping[str, JSON]]:
        """New people begin with zeros: nothing is known of their tastes."""
        wanted, has = len(state["people"]), axis_size(model, "people")
        return [{"edit": "grow", "axis": "people", "to": wanted, "init": "zero"}] if has < wanted else []

    def encode(self, row: Row, state: State) -> Example:
        """Whom the state does not list is left out of the history."""
        graph = self._graph(state)
        return Example(
            torch.tensor(graph.place.get(row.inputs["user"], NONE)),
            torch.tensor(graph.places(row.inputs["history"]), dtype=torch.int64),
            torch.tensor([graph.place.get(one, NONE) for one in _targets(row)], dtype=torch.int64),
            isinstance(row.target, list),
            graph.links,
            len(graph.people),
        )

    def _graph(self, state: State) -> Graph:
        """The graph of a state; kept until another is asked for."""
        if self._kept is None or self._kept[0] is not state:
            self._kept = state, Graph(state["people"], state["links"])
        return self._kept[1]

    def collate(self, examples: Sequence[Example], rng: torch.Generator) -> Batch:
        """Dense; targets as `tasks.padded`."""
        people = torch.stack([example.person for example in examples])
        linked = torch.zeros(len(examples), examples[0].people)
        linked[_owners([e.history for e in examples]), torch.cat([e.history for e in examples])] = 1.0
        histories = linked.clone()
        known = people != NONE
        histories[torch.arange(len(examples))[known], people[known]] = 1.0
        targets = padded([example.targets for example in examples])
        positives = torch.zeros_like(linked)
        row, column = (targets >= 0).nonzero(as_tuple=True)
        positives[row, targets[row, column]] = 1.0
        return {
            "histories": histories,
            "positives": positives,
            "seed": torch.randint(2**62, (), generator=rng),
            "targets": targets,
            "several": torch.tensor([example.several for example in examples]),
            "people": people,
            "linked": linked,
            "links": examples[0].links,
        }

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        scores: Tensor = model(batch["people"], batch["linked"], batch["links"])
        return scores

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """-ln of the softmax of each target over all candidates. A row of somebody with k links weighs 1/√k: who
        links much would else decide alone; one with nobody in the history weighs nothing, for those who are judged
        have somebody."""
        scores = outputs.masked_fill((batch["histories"] != 0) & (batch["positives"] == 0), -torch.inf)
        lost = -(scores.log_softmax(1).masked_fill(batch["positives"] == 0, 0.0)).sum(1)
        known, found = batch["linked"].sum(1), batch["positives"].sum(1)
        each = (known > 0) * (known + found).clamp(min=1).rsqrt()
        weight = (each * found).sum()
        return (each * lost).sum(), weight.clamp(min=torch.finfo(weight.dtype).tiny)

    def predict(self, model: nn.Module, batch: Batch, state: State) -> list[dict[str, JSON]]:
        """As `Graph.recommend`."""
        return self._graph(state).recommend(
            self.forward(model, batch).cpu().numpy(),
            batch["people"].tolist(),
            batch["linked"].cpu().numpy(),
            asked(batch["targets"], batch["several"]),
            self._options.diversity,
        )

    def parse(self, inputs: Sequence[str], state: State) -> list[Row]:
        """Names of people whom the model knows, who get recommended to whom they might link beside those to whom they
        do; '' is somebody of whom nothing is known. Raises `DataError`."""
        graph = self._graph(state)
        unknown = sorted({text.strip() for text in inputs} - {""} - graph.place.keys())
        if unknown:
            raise DataError(
                f"expected people whom the model knows, by rating or link; it does not know"
                f" {', '.join(map(repr, unknown))}",
                "\n  ".join(f"{name!r}: {_near(name, graph)}" for name in unknown)
                + "\n  '' stands for somebody of whom nothing is known, who gets those to whom most people link",
            )
        return [Row({"user": text.strip(), "history": graph.linked_by(text.strip())}) for text in inputs]

    def metrics(self) -> list[Metric]:
        return [NDCG, RECALL, MRR, COVERAGE, NOVELTY, DISTANCE]

    def trivial(self, base: Base, splits: Mapping[str, Split]) -> list[Contender]:
        """As `link_contenders.trivial`, with the people whom the adapted model knows."""
        train = splits[TRAIN]
        state = learned(train.rows, train.state["people"])
        graph = Graph(state["people"], state["links"])
        return link_contenders.trivial(graph, splits[SELECT].rows, self._options.diversity)


def learned(rows: Sequence[Row], known: Sequence[str]) -> State:
    """What `rows` say of links, on top of the people who are known."""
    pairs = {
        (row.inputs["user"], other) for row in rows for other in (*row.inputs["history"], *_targets(row))
    }
    people = [*known, *sorted({name for pair in pairs for name in pair}.difference(known))]
    place = {name: i for i, name in enumerate(people)}
    links = sorted((place[one], place[other]) for one, other in pairs)
    return {"people": people, "links": [[one for one, _ in links], [other for _, other in links]]}


def _targets(row: Row) -> list[str]:
    return row.target if isinstance(row.target, list) else [] if row.target is None else [row.target]


def _owners(lists: Sequence[Tensor]) -> Tensor:
    """For each entry of the lists, one behind the other, whose it is."""
    return torch.arange(len(lists)).repeat_interleave(torch.tensor([len(one) for one in lists]))


def _near(name: str, graph: Graph) -> str:
    close = nearest(name, graph.place)
    return close if close.startswith("did you mean") else f"nobody of that name among {len(graph.people)}"
