"""Streamed splits, slow transforms and worker processes: less is held, and no bit of the result changes."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sqlite3
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.contract import Row
from core.data import cache
from core.data.cache import Store, folder, pack, unpack
from core.data.rows import Lazy
from core.data.stored import Stored
from core.errors import ContractError, DataError, OutputError
from core.loading import made
from core.prepared import source_digest
from core.rows import Identified, content_digest, data_digest, duplicates, identify, judged

SLOW = """
import os

class Slow:
    random = False
    slow = True

    def fit(self, rows):
        return [len(rows)]

    def apply(self, row, state, rng):
        with open(os.environ["APPLIED"], "a") as file:
            file.write(row.id + "\\n")
        return row.with_inputs([value * 2 for value in row.inputs])

@hookimpl
def taoke_register():
    return [Component("transform", "slow.slow", "", f"{__name__}:Slow")]
"""


@pytest.fixture
def applied(tmp_path, monkeypatch):
    """How often the transform above was applied since the last time this was called."""
    path = tmp_path / "applied"
    monkeypatch.setenv("APPLIED", str(path))
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path / "cache"))

    def count() -> int:
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return len(lines)

    return count


def streamed(rows):
    return Lazy(len(rows), rows.__getitem__)


def weights(toy):
    return {name: tensor.clone() for name, tensor in toy.tuned.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_streamed_splits_give_bitwise_the_model_of_held_ones(stages):
    """With fitted and random transforms, ids, digests and states included."""
    held, flowing = stages(), stages({"data.streamed": True})
    assert same(weights(held), weights(flowing))
    for name, split in held.prepared.splits.items():
        other = flowing.prepared.splits[name]
        assert not isinstance(other.rows, list)
        assert not isinstance(other.examples, list)
        assert [row.id for row in other.rows] == [row.id for row in split.rows]
        assert other.digest == split.digest
    assert flowing.prepared.pipeline.states() == held.prepared.pipeline.states()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("data", ["held", "streamed"])
def test_worker_processes_change_no_bit(stages, data, workers):
    """Neither of the weights, which see augmentation and dropout, nor of the predictions."""
    changes = {"data.streamed": data == "streamed", "fine_tune.epochs": 3}
    alone, helped = stages(changes), stages(changes)
    helped.context.workers = workers
    assert same(weights(alone), weights(helped))
    asked = [
        toy.context.plugins.hook.taoke_evaluate(
            context=toy.context,
            task=toy.prepared.task,
            model=toy.tuned.model,
            split=toy.prepared.splits["report"],
        )
        for toy in (alone, helped)
    ]
    assert asked[0] == asked[1]


def test_a_streamed_run_seals_the_same_shell_and_can_be_scored_again(toy, cli, tmp_path):
    """Through the command line, with worker processes: parity held, and `eval` finds the run's numbers."""
    outcome = toy("data.streamed=true", "--workers", 2)
    assert outcome.code == 0, outcome
    held = toy()
    assert outcome.document["contenders"] == held.document["contenders"]
    again = cli("eval", outcome.document["run"], "--plugin-file", Path(__file__).parent / "toy.py", "--json")
    assert again.code == 0, again
    assert again.document["same"] is True


def test_what_a_worker_raises_arrives_as_it_was_raised():
    """Class, message and hint; not the text of a traceback."""

    def fail(number):
        raise DataError(f"row {number} is broken", "mend it")

    with pytest.raises(DataError) as caught:
        list(made(fail, 4, 2))
    assert (caught.value.message, caught.value.hint) == ("row 0 is broken", "mend it")


def test_worker_processes_draw_nothing_from_the_models_randomness():
    """A loop with dropout would otherwise depend on how many workers there are."""
    torch.manual_seed(5)
    assert list(made(lambda i: i, 5, 2)) == list(range(5))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_slow_transform_is_applied_once_for_each_content_and_never_again(stages, plugin_file, applied):
    """The second run reads it all from the cache, and is bitwise the first."""
    plugin = plugin_file("slow", SLOW)
    changes = {"data.streamed": True, "preprocess": ["slow", "centre", "jitter"]}
    first = stages(changes, plugins=[plugin])
    before = weights(first)
    contents = {row.id.partition("-")[0] for split in first.prepared.splits.values() for row in split.rows}
    assert applied() == len(contents)
    assert len(contents) > 250
    again = stages(changes, plugins=[plugin])
    assert same(before, weights(again))
    assert applied() == 0
    plain = stages({**changes, "data.streamed": False}, plugins=[plugin])
    assert same(before, weights(plain))


def test_cache_is_not_used_for_another_state_or_another_source(stages, plugin_file, applied):
    """More training rows change the state, an edited plugin its source: both are made anew."""
    changes = {"data.streamed": True, "preprocess": ["slow"]}
    stages(changes, plugins=[plugin_file("slow", SLOW)]).prepared  # noqa: B018
    assert applied() > 0
    stages({**changes, "data.train": 25}, plugins=[plugin_file("slow", SLOW)]).prepared  # noqa: B018
    assert applied() > 0
    tripled = plugin_file("slow", SLOW.replace("* 2", "* 3"))
    rows = stages(changes, plugins=[tripled]).prepared.splits["train"].rows
    assert applied() > 0
    assert rows[0].inputs == stages(changes, plugins=[tripled]).prepared.splits["train"].rows[0].inputs


def test_slow_transform_behind_a_random_one_is_not_cached(stages, plugin_file, applied):
    """Its input is another one in each epoch."""
    changes = {"data.streamed": True, "preprocess": ["jitter", "slow"], "fine_tune.epochs": 2}
    toy = stages(changes, plugins=[plugin_file("slow", SLOW)])
    toy.tuned  # noqa: B018
    assert applied() >= 2 * 24
    assert not list(folder().glob("*.sqlite"))


def test_without_room_on_the_disk_nothing_is_cached_and_all_is_the_same(
    stages, plugin_file, applied, monkeypatch
):
    """A set of pictures larger than half of what is free is decoded anew instead."""
    changes = {"data.streamed": True, "preprocess": ["slow", "jitter"], "fine_tune.epochs": 2}
    plugin = plugin_file("slow", SLOW)
    kept = weights(stages(changes, plugins=[plugin]))
    applied()
    for file in folder().glob("*.sqlite"):
        file.unlink()
    monkeypatch.setattr("core.prepared.room", lambda path: 10)
    assert same(kept, weights(stages(changes, plugins=[plugin])))
    assert applied() > 24


def test_ids_digests_and_duplicates_of_streamed_rows_are_those_of_held_ones():
    """Contents that stand several times, in and across splits."""
    rows = [Row(i % 7, str(i % 3), group=f"g{i % 5}") for i in range(50)]
    held, flowing = identify(rows), identify(streamed(rows))
    assert isinstance(flowing, Identified)
    assert list(flowing) == held
    assert data_digest(flowing) == data_digest(held)
    assert duplicates({"train": flowing, "report": identify(streamed(rows[:3]))}) == {("train", "report"): 3}
    assert list(judged("retain", streamed(rows))) == judged("retain", rows)
    assert [row.id for row in flowing[3:9]] == [row.id for row in held[3:9]]


def test_identifying_streamed_rows_holds_none_of_them():
    """Rows of a megabyte each, thousands of them, leave twelve bytes each."""
    flowing = identify(Lazy(2000, lambda i: Row(bytes([i % 251]) * 1_000_000, str(i))))
    kept = flowing.digests.nbytes + flowing._ordinals.nbytes
    assert kept == 2000 * 12
    assert flowing[1999].target == "1999"


def test_stored_file_has_the_id_of_its_bytes(tmp_path):
    """Under whatever name; other bytes, another id; a missing file says so."""
    (tmp_path / "a").write_bytes(b"picture")
    (tmp_path / "b").write_bytes(b"picture")
    (tmp_path / "c").write_bytes(b"another")
    a, b, c = (content_digest(Stored(tmp_path / name)) for name in "abc")
    assert a == b == content_digest(b"picture")
    assert a != c
    with pytest.raises(DataError, match="gone cannot be read: No such file"):
        content_digest(Stored(tmp_path / "gone"))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.text()
        | st.binary()
        | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_packed_values_come_back(value):
    """Whatever a row may hold."""
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (3, 4, 5)])
def test_packed_tensors_come_back_to_the_bit(dtype, shape):
    """With dtype and shape, as tensors; arrays as arrays; and they can be written to."""
    tensor = (
        torch.arange(60)[: max(1, int(np.prod(shape)))]
        .reshape(-1)[: int(np.prod(shape))]
        .reshape(shape)
        .to(dtype)
    )
    back = unpack(pack({"t": tensor, "a": tensor.numpy(), "n": [b"x\ny", tensor]}))
    assert back["t"].dtype == dtype
    assert torch.equal(back["t"], tensor)
    assert torch.equal(back["n"][1], tensor)
    assert back["a"].dtype == tensor.numpy().dtype
    assert back["n"][0] == b"x\ny"
    back["t"].zero_()


def test_store_keeps_what_is_there_and_knows_what_is_missing(tmp_path):
    """A key that stands twice is missing once; a value is never replaced."""
    store = Store(tmp_path / "s.sqlite")
    assert list(store.missing(["a", "b", "a"])) == [0, 1]
    store.put([("a", pack(1))])
    store.put([("a", pack(2)), ("b", pack(3))])
    assert (store.get("a"), store.get("b")) == (1, 3)
    assert list(store.missing(["b", "c"])) == [1]
    assert list(store.missing(["b", "a"])) == []
    with pytest.raises(KeyError):
        store.get("c")


def test_finding_what_is_missing_holds_few_bytes_of_each_row(tmp_path):
    """Keys of 16 hex digits, each twice; as Python's strings the distinct ones alone would be 100 bytes each."""
    store, count = Store(tmp_path / "s.sqlite"), 100_000
    store.missing([])
    tracemalloc.start()
    places = store.missing(f"{i * 7 % (count // 2) << 40:016x}" for i in range(count))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(places) == list(range(count // 2))
    assert peak < 64 * count


def test_a_store_that_was_deleted_while_it_was_used_takes_values_again(tmp_path):
    """What was there is missing, for whom opens it anew."""
    path = tmp_path / "below" / "s.sqlite"
    store = Store(path)
    store.put([("a", pack(1))])
    shutil.rmtree(path.parent)
    store.put([("b", pack(2))])
    assert store.get("b") == 2
    with pytest.raises(KeyError):
        Store(path).get("a")


def full(store, monkeypatch):
    store.put([])
    store._connection().execute("PRAGMA max_page_count = 2")


def locked(store, monkeypatch):
    monkeypatch.setattr(cache, "PATIENCE", 0.01)
    other = sqlite3.connect(store._path)
    other.execute("CREATE TABLE other (x)")
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(store, "_keep_open", other, raising=False)


def read_only(store, monkeypatch):
    store.put([])
    store._connection().execute("PRAGMA query_only = 1")


def without_permission(store, monkeypatch):
    Path(store._path).mkdir()  # of which root has none either


@pytest.mark.parametrize(
    ("how", "says", "hint"),
    [
        (full, "database or disk is full", "make room on its disk"),
        (locked, "database is locked", "wait for the run that writes it"),
        (read_only, "attempt to write a readonly database", "allow writing it"),
        (without_permission, "unable to open database file", "allow writing it"),
    ],
)
def test_a_store_that_cannot_be_written_says_why_and_what_to_do(tmp_path, monkeypatch, how, says, hint):
    """With the file, and the variable that names another place."""
    store = Store(tmp_path / "s.sqlite")
    how(store, monkeypatch)
    with pytest.raises(OutputError, match=rf"s\.sqlite cannot be used: {says}") as caught:
        store.put([("a", bytes(100_000))])
    assert hint in caught.value.hint
    assert "TAOKE_CACHE" in caught.value.hint


@pytest.mark.parametrize("call", [lambda store: store.get("a"), lambda store: store.missing(["a"])])
def test_a_store_that_breaks_while_it_is_read_says_so(tmp_path, call):
    """Another program has written over it."""
    store = Store(tmp_path / "s.sqlite")
    store.put([("a", pack(1))])
    (tmp_path / "s.sqlite").write_bytes(b"no database at all" * 1000)
    with pytest.raises(DataError, match=r"s\.sqlite cannot be used") as caught:
        call(store)
    assert "delete the file" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_leaves_the_parents_connection_alone(tmp_path):
    """It neither uses nor closes it, whether it reads the store or forgets it."""
    store, idle = Store(tmp_path / "s.sqlite"), Store(tmp_path / "t.sqlite")
    for each in (store, idle):
        each.put([("a", pack(1))])
    inherited = [sys.getrefcount(each._opened) for each in (store, idle)]
    connections = [store._opened, idle._opened]
    child = os.fork()
    if child == 0:
        right = store.get("a") == 1 and store._opened is not connections[0]
        idle._opened = None
        right &= all(connection in cache._inherited for connection in connections)
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert inherited == [sys.getrefcount(each._opened) - 1 for each in (store, idle)]
    store.put([("b", pack(2))])
    assert store.get("b") == 2


def test_damaged_cache_says_which_file_to_delete(tmp_path):
    """It is a cache: deleting it loses nothing."""
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match=r"s\.sqlite cannot be used") as caught:
        Store(path).missing(["a"])
    assert "delete the file" in caught.value.hint
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_cache_folder_is_the_one_that_is_named(tmp_path, monkeypatch):
    """`TAOKE_CACHE`, else the user's cache folder; one that cannot be made is an error that says so."""
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path / "deep" / "here"))
    assert folder() == tmp_path / "deep" / "here"
    assert folder().is_dir()
    monkeypatch.delenv("TAOKE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert folder() == tmp_path / "xdg" / "taoke"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAOKE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(OutputError, match="cannot be made"):
        folder()


def test_a_user_without_a_home_is_asked_for_a_cache_folder(monkeypatch):
    """As in containers that run as a number."""

    def nobodys():
        raise RuntimeError("Could not determine home directory.")

    for name in ("TAOKE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobodys)
    with pytest.raises(OutputError, match="no place for the cache") as caught:
        folder()
    assert "TAOKE_CACHE" in caught.value.hint


def test_lazy_rows_are_a_sequence():
    """Negative places, slices of slices, the end of iteration."""
    lazy = Lazy(10, lambda i: i * i)
    assert list(lazy) == [i * i for i in range(10)]
    assert lazy[-1] == 81
    assert list(lazy[2:8][::-2]) == [49, 25, 9]
    assert 25 in lazy
    for place in (10, -11):
        with pytest.raises(IndexError):
            lazy[place]


def test_the_record_says_how_long_the_loop_waited_for_data(stages):
    """At most as long as it took."""
    toy = stages({"fine_tune.epochs": 2})
    toy.tuned  # noqa: B018
    (event,) = toy.events("trained")
    assert event["contender"] == "adapted"
    assert 0 <= event["waited"] <= event["took"]


def test_a_split_event_has_the_digest_that_the_shell_records(toy_run):
    """The same digest in the record and in the provenance."""
    events = [json.loads(line) for line in (toy_run.folder / "events.jsonl").read_text().splitlines()]
    digests = {event["name"]: event["digest"] for event in events if event["event"] == "split"}
    provenance = json.loads((toy_run.shell / "provenance.json").read_text())
    assert {name: split["digest"] for name, split in provenance["data"].items()} == digests


def test_workers_are_refused_where_the_system_cannot_fork(monkeypatch):
    """With what to do."""
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(Exception, match="cannot fork") as caught:
        list(made(lambda i: i, 3, 2))
    assert "--workers" in caught.value.hint


def test_rows_keep_what_a_transform_does_not_touch(stages, plugin_file, applied):
    """Targets, groups and ids come from the row, not from the cache."""
    changes = {"data.streamed": True, "preprocess": ["slow"]}
    toy = stages(changes, plugins=[plugin_file("slow", SLOW)])
    held = stages({**changes, "data.streamed": False}, plugins=[plugin_file("slow", SLOW)])
    assert list(toy.prepared.splits["train"].rows) == held.prepared.splits["train"].rows
    assert os.environ["APPLIED"]
    assert replace(toy.prepared.splits["train"].rows[0], id="") == replace(
        held.prepared.splits["train"].rows[0], id=""
    )


def test_a_deleted_cache_is_made_anew(stages, plugin_file, applied, tmp_path):
    """At any time: rows that are no longer there are made again."""
    toy = stages({"data.streamed": True, "preprocess": ["slow"]}, plugins=[plugin_file("slow", SLOW)])
    rows = toy.prepared.splits["train"].rows
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM kept")
    applied()
    held = stages({"data.streamed": False, "preprocess": ["slow"]}, plugins=[plugin_file("slow", SLOW)])
    assert list(rows) == held.prepared.splits["train"].rows
    assert applied() > 0


def test_a_transform_before_a_slow_one_that_changes_targets_is_refused(stages, plugin_file, applied):
    """Of streamed rows the cache keeps inputs alone, so that the change would be lost."""
    early = """
    class Early:
        random = False

        def fit(self, rows):
            return None

        def apply(self, row, state, rng):
            return replace(row, target=row.target + "!")

    @hookimpl
    def taoke_register():
        return [Component("transform", "early.early", "", f"{__name__}:Early")]
    """
    plugins = [plugin_file("slow", SLOW), plugin_file("early", early)]
    toy = stages({"data.streamed": True, "preprocess": ["early", "slow"]}, plugins=plugins)
    with pytest.raises(ContractError, match="target or group was changed") as caught:
        toy.prepared  # noqa: B018
    assert "behind" in caught.value.hint


def test_the_cache_knows_the_modules_beside_a_transforms_own(tmp_path, monkeypatch):
    """What does the work may stand in another module of the package."""
    package = tmp_path / "cachedpackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "work.py").write_text("FACTOR = 2\n")
    (package / "own.py").write_text("class Own:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("cachedpackage.own").Own
    before = source_digest(own)
    (package / "work.py").write_text("FACTOR = 3\n")
    assert source_digest(own) != before
