"""A plugin on few rows: the recipe that it is tried with, cut down, and each stage when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from core.components import Registry, Use
from core.context import Context
from core.contract import REPORT, RETAIN, Base, Dataset, Phase, Row, Split
from core.data.rows import is_streamed, spread
from core.evidence.weigh import Evidence
from core.loader import Active
from core.manager import CORE, Plugins
from core.prepared import Prepared
from core.progress import Progress
from core.recipe import Resolved, resolve_content
from core.seeds import deterministic
from core.stages.choose import choose
from core.stages.evaluate import evaluate
from core.stages.fine_tune import Tuned, fine_tune
from core.stages.modify import Modified, modify
from core.stages.preprocess import preprocess

T = TypeVar("T")

ROWS = 24
"""Of each split, at most; twice as many of `retain`, of which half is looked at."""
BATCH = 8


class Blocked(Exception):  # noqa: N818 (an answer that unwinds, not an error a user sees)
    """A check cannot be made, because of something that another check reports, or because there is nothing to check."""


class Injected(Exception):  # noqa: N818 (a failure on purpose)
    """What the kit raises inside a hook."""


class Poisoned(Dataset):
    """A dataset whose `report` and `retain` are the rows of `train` backwards, each with its neighbour's target."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def rows(self) -> Mapping[str, Sequence[Row]]:
        splits = dict(self._dataset.rows())
        train = list(splits["train"])[::-1]
        wrong = [replace(row, target=train[i - 1].target) for i, row in enumerate(train)]
        return {name: wrong if name in (REPORT, RETAIN) else rows for name, rows in splits.items()}


class Small(Dataset):
    """A dataset cut down. Of `report` the first rows: a shell's parity is checked on these, and reads them anew."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def rows(self) -> Mapping[str, Sequence[Row]]:
        small = {}
        for name, rows in self._dataset.rows().items():
            most = 2 * ROWS if name == RETAIN else ROWS
            cut = rows[:most] if name == REPORT else spread(rows, most)
            small[name] = cut if is_streamed(rows) else list(cut)
        return small


class SmallRegistry(Registry):
    """Every dataset is cut down, and then perhaps poisoned."""

    poisoned = False

    def make(self, use: Use) -> Any:
        made = super().make(use)
        if use.kind != "dataset":
            return made
        return Poisoned(Small(made)) if self.poisoned else Small(made)


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a plugin's hooks before it is tried: nothing, a failure in one of them, or leaving some out."""

    plugin: str = ""
    fails: str = ""
    without: tuple[str, ...] = ()


class TriedPlugins(Plugins):
    """Plugins with a small registry, and with a change to one of them."""

    change = Change()

    def __init__(self, *, strict: bool) -> None:
        super().__init__(strict=strict)
        self.components = SmallRegistry()

    def _attribute_implementation(self, implementation: Any, hook: str, plugin: Active) -> None:
        change = self.change
        if plugin.name == change.plugin and hook in change.without:
            implementation.function = _pass if implementation.wrapper else _nothing
        if plugin.name == change.plugin and hook == change.fails:
            implementation.function = _fail_around if implementation.wrapper else _fail
        super()._attribute_implementation(implementation, hook, plugin)

    def fail_in_core(self) -> None:
        """The core's own answer to the hook that is to fail does; it is not attributed to a plugin."""
        for implementation in getattr(self.hook, self.change.fails).get_hookimpls():
            if implementation.plugin_name == CORE:
                implementation.function = _fail


def _nothing(*arguments: Any) -> None:
    return None


def _pass(*arguments: Any) -> Iterator[None]:
    return (yield)


def _fail(*arguments: Any) -> None:
    raise Injected("a failure on purpose")


def _fail_around(*arguments: Any) -> Iterator[None]:
    raise Injected("a failure on purpose")
    yield


class Silent(Progress):
    def __init__(self) -> None:
        super().__init__(quiet=True)

    def warn(self, message: str) -> None:
        pass


@dataclass(frozen=True)
class Setting:
    """A recipe to try a plugin with, and where it stands."""

    name: str
    content: Mapping[str, Any]


@dataclass
class Subject:
    """The plugin under test: its name, its file where it is no installed one, and the settings it is tried in."""

    name: str
    file: Path | None
    settings: Sequence[Setting]
    scratch: Path
    """A folder for what is written meanwhile."""
    before: Mapping[str, Any]
    """The process' state before the plugin was imported."""
    module: Any = None
    trials: list[Trial] = field(default_factory=list)

    def resolved(
        self,
        setting: Setting,
        *,
        change: Change = Change(),
        others: Sequence[str] = (),
        first: bool = True,
        poisoned: bool = False,
    ) -> Resolved:
        """The setting's recipe, cut down. `others` are further plugins, behind this one or, not `first`, before it."""
        from core.testing import host

        named = [name for name in setting.content.get("plugins", []) if name != self.name]
        order = [self.name, *named] if first else [*named, self.name]
        order = [*order, *others] if first else [*others, *order]
        files = [path for path in (self.file, Path(host.__file__)) if path is not None]
        if self.uses_host(setting):
            order.append("host")
        else:
            files = [path for path in files if path == self.file]
        named_in_full: Mapping[str, Any] = setting.content
        if others:  # which may have components of the same short names
            named_in_full = self.resolved(setting).recipe.to_json()
        content = {**named_in_full, "plugins": list(dict.fromkeys(order))}
        resolved = resolve_content(content, setting.name.replace("/", "-"), setting.name, plugin_files=files)
        made: type[TriedPlugins] = type("Tried", (TriedPlugins,), {"change": change})
        plugins = made.load(content["plugins"], files, answers=resolved.recipe.answers, strict=True)
        assert isinstance(plugins, TriedPlugins)  # noqa: S101 (what `made` makes)
        assert isinstance(plugins.components, SmallRegistry)  # noqa: S101
        plugins.components.poisoned = poisoned
        if change.plugin == CORE:
            plugins.fail_in_core()
        recipe = resolved.recipe
        fine_tune = recipe.fine_tune.model_copy(
            update={"batch_size": min(BATCH, recipe.fine_tune.batch_size)}
        )
        evaluate = recipe.evaluate.model_copy(update={"scratch": False, "resamples": 100})
        small = recipe.model_copy(
            update={"gate": None, "fine_tune": fine_tune, "evaluate": evaluate, "allow": ["duplicates"]}
        )
        return replace(resolved, recipe=small, plugins=plugins)

    @staticmethod
    def uses_host(setting: Setting) -> bool:
        return "host." in repr(setting.content)

    def trial(self, setting: Setting, **how: Any) -> Trial:
        """A new trial; it is closed when all checks are done."""
        try:
            self.trials.append(Trial(self.resolved(setting, **how), self.name))
        except Exception as error:
            raise Blocked(f"the recipe {setting.name} cannot be resolved: {error}") from error
        return self.trials[-1]

    def close(self) -> None:
        for trial in self.trials:
            trial.resolved.plugins.teardown(trial.context)


class Trial:
    """The stages of one setting. What a stage raises, it raises as `Blocked`, each time it is asked for."""

    def __init__(self, resolved: Resolved, plugin: str) -> None:
        self.resolved, self.plugin = resolved, plugin
        self.context = Context(resolved, torch.device("cpu"), Silent())
        self._done: dict[str, Any] = {}

    def _once(self, name: str, call: Callable[[], T]) -> T:
        if name not in self._done:
            try:
                with self.working(name):
                    self._done[name] = call()
            except Exception as error:
                self._done[name] = error
        value = self._done[name]
        if isinstance(value, Exception):
            raise Blocked(f"{name} fails: {type(value).__name__}: {value}") from value
        return value  # type: ignore[no-any-return]

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """As in a run: deterministic, and with the warnings about data heard."""
        with ExitStack() as stack:
            stack.enter_context(deterministic())
            stack.enter_context(self.context.hearing())
            stack.enter_context(self.context.plugins.attributing(self.context))
            self.context.stage = stage
            yield

    @property
    def base(self) -> Base:
        return self._once("choose", lambda: choose(self.context))

    @property
    def raw(self) -> Mapping[str, Sequence[Row]]:
        dataset: Dataset = self._once("dataset", lambda: self.context.make(self.context.recipe.data))
        return self._once("rows", dataset.rows)

    @property
    def prepared(self) -> Prepared:
        base = self.base
        return self._once("preprocess", lambda: preprocess(self.context, base))

    @property
    def modified(self) -> Modified:
        prepared = self.prepared
        return self._once("modify", lambda: modify(self.context, prepared))

    @property
    def phases(self) -> Sequence[Phase]:
        model = self.modified.model
        select = self.context.plugins.hook.taoke_select_parameters
        return self._once("phases", lambda: list(select(context=self.context, model=model)))

    @property
    def tuned(self) -> Tuned:
        modified, phases = self.modified, self.phases
        epochs = sum(phase.epochs or 0 for phase in phases) + sum(phase.epochs is None for phase in phases)
        self._epochs(epochs)
        return self._once("fine_tune", lambda: fine_tune(self.context, modified))

    @property
    def evidence(self) -> Evidence:
        tuned = self.tuned
        return self._once("evaluate", lambda: evaluate(self.context, tuned))

    def _epochs(self, epochs: int) -> None:
        recipe = self.context.recipe
        self.context.recipe = recipe.model_copy(
            update={"fine_tune": recipe.fine_tune.model_copy(update={"epochs": epochs})}
        )

    @property
    def epochs(self) -> int:
        """One for each phase that does not say how many it takes."""
        phases = self.phases
        return sum(1 if phase.epochs is None else phase.epochs for phase in phases)

    def batch(self, split: str = "train") -> Any:
        """The first examples of a split, as the model gets them."""
        prepared = self.prepared
        found: Split = prepared.splits[split]

        def make() -> Any:
            return prepared.task.collate(list(found.examples[:4]), self.context.generator("kit"))

        return self._once(f"a batch of {split}", make)

    def batch_for_base(self) -> Any:
        """The same examples as the base itself reads them."""
        prepared = self.prepared
        examples = [
            prepared.task.encode(row, prepared.base_state) for row in list(prepared.splits["train"].rows[:4])
        ]
        return self._once(
            "a batch for the base", lambda: prepared.task.collate(examples, self.context.generator("kit"))
        )


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of a model's parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def hooks_of(plugins: Plugins, name: str) -> dict[str, bool]:
    """The hooks that a plugin implements, but those of registration, and whether it wraps them."""
    return {
        hook: name in calls.wrapped_by
        for hook, calls in plugins.hooks().items()
        if calls.role(name) and hook not in ("taoke_register", "taoke_complete")
    }
