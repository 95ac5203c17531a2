"""Plugins that each break one clause of the contract, as the lines that a careless author might write.

By name: the check that must fail, the plugin's lines, and what is changed in the kit's recipe to use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Broken(NamedTuple):
    check: str
    lines: str
    changes: Mapping[str, Any] = {}
    head: bool = True
    """Whether `HEAD` stands before the lines."""


HEAD = """\
from dataclasses import replace

from core.components import Options
from core.contract import Component, Row
from core.hookspecs import hookimpl

taoke_api = 1

"""


def register(kind: str, name: str, options: str = "", parent: str = "") -> str:
    """The lines that register one component, made by `Mine`, which may derive from one of the kit's."""
    given = f', f"{{__name__}}:{options}"' if options else ""
    derive = f"from core.testing import host\n\nclass Mine(host.{parent}):\n" if parent else ""
    return (
        "@hookimpl\ndef taoke_register():\n"
        f'    return [Component("{kind}", "broken.{name}", "breaks", f"{{__name__}}:Mine"{given})]\n\n{derive}'
    )


TASK = register("task", "task", parent="Quadrants")
DATA = register("dataset", "data", parent="Points")
BASE = register("base", "base", parent="Halves")
USE_TASK = {"task": "broken.task"}
USE_DATA = {"data": {"dataset": "broken.data"}}
USE_BASE = {"base": {"source": "broken.base"}}

BROKEN: Mapping[str, Broken] = {
    # what a plugin says of itself
    "fails on import": Broken("importable", "raise RuntimeError('no')"),
    "imports torch": Broken("torch-free", "import torch\n\n@hookimpl\ndef taoke_after_step(context): pass"),
    "of another version": Broken(
        "api", HEAD.replace("api = 1", "api = 7") + "@hookimpl\ndef taoke_after_step(): pass", head=False
    ),
    "of no version": Broken(
        "api", HEAD.replace("taoke_api = 1", "") + "@hookimpl\ndef taoke_after_step(): pass", head=False
    ),
    "misspells a hook": Broken("hook-names", "@hookimpl\ndef taoke_after_stepp(context): pass"),
    "forgets the mark": Broken("hook-names", "def taoke_after_step(context): pass"),
    "asks for too much": Broken("hook-arguments", "@hookimpl\ndef taoke_after_step(context, model): pass"),
    "gives a default": Broken("hook-defaults", "@hookimpl\ndef taoke_after_step(context=None): pass"),
    "wraps as of old": Broken(
        "hook-wrappers", "@hookimpl(hookwrapper=True)\ndef taoke_step(context):\n    yield"
    ),
    "yields and does not wrap": Broken(
        "hook-wrappers", "@hookimpl\ndef taoke_fine_tune(context):\n    return (yield)"
    ),
    "wraps and does not yield": Broken(
        "hook-wrappers", "@hookimpl(wrapper=True)\ndef taoke_fine_tune(context):\n    return None"
    ),
    "brings nothing": Broken("components", "HERE = True"),
    "qualifies no name": Broken(
        "components", register("loss", "x").replace("broken.x", "x") + "def Mine(): pass"
    ),
    "refers to nothing": Broken("components", register("loss", "x")),
    "says nothing of itself": Broken(
        "components", register("loss", "x").replace('"breaks"', '""') + "def Mine(): pass"
    ),
    "registers a name twice": Broken(
        "components",
        "@hookimpl\ndef taoke_register():\n"
        '    return [Component("loss", "broken.x", "breaks", f"{__name__}:Mine")] * 2\n\ndef Mine(): pass',
    ),
    "takes unknown options": Broken(
        "options",
        "from pydantic import BaseModel\n\n"
        + register("loss", "x", "Loose")
        + "class Loose(BaseModel):\n    a: int = 1\n\ndef Mine(options): pass",
    ),
    "changes its options in JSON": Broken(
        "options",
        "from pydantic import field_validator\n\n"
        + register("loss", "x", "Growing")
        + "class Growing(Options):\n    a: int = 1\n"
        "    @field_validator('a')\n    @classmethod\n    def more(cls, a): return a + 1\n\n"
        "    model_config = {'validate_default': True}\n\ndef Mine(options): pass",
    ),
    "is another when loaded again": Broken(
        "loads",
        "import uuid\n\n@hookimpl\ndef taoke_register():\n"
        '    return [Component("loss", f"broken.{uuid.uuid4().hex}", "breaks", f"{__name__}:Mine")]\n\n'
        "def Mine(): pass",
    ),
    "is of the version that goes next": Broken(
        "current", HEAD.replace("api = 1", "api = 0") + "@hookimpl\ndef taoke_after_step(): pass", head=False
    ),
    # the parts that a recipe puts together
    "gives other rows each time": Broken(
        "data",
        "import random\n\n" + DATA + "    def rows(self):\n        rows = super().rows()\n"
        "        return {name: random.sample(list(split), len(split)) for name, split in rows.items()}",
        USE_DATA,
    ),
    "invents a split": Broken(
        "data",
        DATA
        + "    def rows(self):\n        rows = super().rows()\n        return {**rows, 'test': rows['report']}",
        USE_DATA,
    ),
    "pins another base": Broken(
        "base",
        BASE + "    def load(self):\n        return replace(super().load(), digest='sha256:0')",
        USE_BASE,
    ),
    "hides its licence": Broken(
        "base", BASE + "    def load(self):\n        return replace(super().load(), licence='')", USE_BASE
    ),
    "changes the row": Broken(
        "transforms",
        register("transform", "centre", parent="Centre")
        + "    def apply(self, row, state, rng):\n        row.inputs[0] += 1.0\n        return row",
        {"preprocess": [{"transform": "broken.centre"}]},
    ),
    "draws in secret": Broken(
        "transforms",
        register("transform", "jitter", "Sigma", parent="Jitter") + "    random = False\n\n"
        "class Sigma(Options):\n    sigma: float = 0.1",
        {"preprocess": [{"transform": "broken.jitter"}]},
    ),
    "learns what is no JSON": Broken(
        "state",
        TASK + "    def fit(self, rows, brought):\n        state = super().fit(rows, brought)\n"
        "        return {**state, 'pair': tuple(state['labels'][:2])}",
        USE_TASK,
    ),
    "changes what the base brought": Broken(
        "state",
        TASK + "    def fit(self, rows, brought):\n        state = super().fit(rows, brought)\n"
        "        brought['seen'] = True\n        return state",
        USE_TASK,
    ),
    "preserves nothing": Broken(
        "edits",
        register("edit", "nudge") + "class Mine:\n    preserves = True\n    def validate(self, model): pass\n"
        "    def describe(self): return 'a nudge'\n"
        "    def apply(self, model):\n        model.head.bias.data += 1.0\n        return model",
        {"modify": [{"edit": "broken.nudge"}]},
    ),
    "edits by chance": Broken(
        "edits",
        register("edit", "chance")
        + "class Mine:\n    preserves = False\n    def validate(self, model): pass\n"
        "    def describe(self): return 'chance'\n"
        "    def apply(self, model):\n        import random\n"
        "        model.head.bias.data += random.random()\n        return model",
        {"modify": [{"edit": "broken.chance"}]},
    ),
    "edits while validating": Broken(
        "edits",
        register("edit", "eager") + "class Mine:\n    preserves = False\n"
        "    def validate(self, model): model.head.bias.data += 1.0\n"
        "    def describe(self): return 'eager'\n    def apply(self, model): return model",
        {"modify": [{"edit": "broken.eager"}]},
    ),
    "puts names into a batch": Broken(
        "batches",
        TASK + "    def collate(self, examples, rng):\n"
        "        return {**super().collate(examples, rng), 'names': ['x'] * len(examples)}",
        USE_TASK,
    ),
    "encodes in place": Broken(
        "batches",
        TASK + "    def encode(self, row, state):\n        example = super().encode(row, state)\n"
        "        row.inputs[0] = round(row.inputs[0] - 0.1, 3)\n        return example",
        USE_TASK,
    ),
    "selects what is not there": Broken(
        "phases",
        "from core.contract import Group, Phase\n\n"
        + register("strategy", "ghost")
        + "class Mine:\n    def phases(self, model): return [Phase((Group(('ghost.weight',)),))]",
        {"fine_tune.strategy": "broken.ghost"},
    ),
    "loses by the row": Broken(
        "loss",
        register("loss", "rows")
        + "def Mine():\n    return lambda outputs, batch: (outputs.square().sum(1), len(outputs))",
        {"fine_tune.loss": "broken.rows"},
    ),
    "cuts the gradient off": Broken(
        "loss",
        register("loss", "cut")
        + "def Mine():\n    return lambda outputs, batch: (outputs.detach().square().sum(), len(outputs))",
        {"fine_tune.loss": "broken.cut"},
    ),
    "answers some": Broken(
        "predictions",
        TASK
        + "    def predict(self, model, batch, state):\n        return super().predict(model, batch, state)[:-1]",
        USE_TASK,
    ),
    "answers in tensors": Broken(
        "predictions",
        TASK
        + "    def predict(self, model, batch, state):\n        found = super().predict(model, batch, state)\n"
        "        return [{**row, 'score': self.forward(model, batch).max()} for row in found]",
        USE_TASK,
    ),
    "chokes on a typed word": Broken(
        "parse",
        TASK + "    def parse(self, inputs, state):\n        import json\n"
        "        return [Row(json.loads(text)) for text in inputs]",
        USE_TASK,
    ),
    "measures without a unit": Broken(
        "metrics",
        TASK + "    def metrics(self):\n        metric = super().metrics()[0]\n"
        "        metric.unit = None\n        return [metric]",
        USE_TASK,
    ),
    "counts no rows": Broken(
        "metrics",
        TASK + "    def metrics(self):\n        return [Shrinking()]\n\n"
        "class Shrinking:\n    name, unit, higher_is_better = 'accuracy', 'share', True\n    seen = 0\n\n"
        "    def score(self, row):\n        self.seen += 1\n"
        "        return float(row['label'] == row['target']), self.seen",
        USE_TASK,
    ),
    "peeks": Broken(
        "trivial",
        TASK + "    def trivial(self, base, splits):\n        return [Peek()]\n\n"
        "class Peek:\n    name = 'peek'\n\n"
        "    def predict(self, rows):\n        return [{'label': row.target} for row in rows]",
        USE_TASK,
    ),
    "forgets its steps": Broken(
        "updater",
        register("updater", "forgetful")
        + "class Mine:\n    def build(self, groups):\n        from torch.optim import SGD\n\n"
        "        class Slowing(SGD):\n            steps = 0\n\n            def step(self, closure=None):\n"
        "                self.steps += 1\n                for group in self.param_groups:\n"
        "                    group['lr'] = 0.1 / self.steps\n                return super().step(closure)\n\n"
        "        return Slowing(groups)",
        {"fine_tune.updater": "broken.forgetful"},
    ),
    # whole runs
    "keeps a secret from the shell": Broken(
        "runs",
        TASK + "    secret = 0\n\n    def loss(self, outputs, batch):\n        self.secret = 1\n"
        "        return super().loss(outputs, batch)\n\n"
        "    def predict(self, model, batch, state):\n        found = super().predict(model, batch, state)\n"
        "        return [{**row, 'secret': self.secret} for row in found]",
        USE_TASK,
    ),
    "fails in training": Broken(
        "runs", "@hookimpl(wrapper=True)\ndef taoke_fine_tune(context):\n    yield\n    return None"
    ),
    "draws from everywhere": Broken(
        "same-bits",
        "@hookimpl(wrapper=True)\ndef taoke_fine_tune(context):\n    import time\n\n"
        "    model = yield\n    model.head.bias.data += time.perf_counter()\n    return model",
    ),
    "moves what is frozen": Broken(
        "unselected",
        "@hookimpl(wrapper=True)\ndef taoke_fine_tune(context):\n    model = yield\n"
        "    model.body.bias.data += 1.0\n    return model",
        {"fine_tune.strategy": "head"},
    ),
    "looks at the report": Broken(
        "train-only",
        "@hookimpl(wrapper=True)\ndef taoke_preprocess(context, splits):\n    prepared = yield\n"
        "    seen = sum(row.inputs[0] for row in splits['report'])\n"
        "    return replace(prepared, state={**prepared.state, 'seen': seen})",
    ),
    "leaves a mark in the process": Broken(
        "global-state",
        "@hookimpl\ndef taoke_after_step(context):\n    import os\n\n    os.environ['BROKEN_WAS_HERE'] = '1'",
    ),
    "counts its neighbours": Broken(
        "composes",
        "@hookimpl(wrapper=True)\ndef taoke_fine_tune(context):\n    model = yield\n"
        "    model.head.bias.data += len(context.plugins.active)\n    return model",
    ),
    "swallows": Broken(
        "failures",
        "@hookimpl(wrapper=True)\ndef taoke_fine_tune(context, model):\n    try:\n        return (yield)\n"
        "    except Exception:\n        return model.eval()",
    ),
    "cannot be torn down": Broken(
        "failures",
        "ready = []\n\n@hookimpl\ndef taoke_after_step(context):\n    ready.append(context.step)\n\n"
        "@hookimpl\ndef taoke_teardown(context):\n"
        "    if context.contender == 'adapted' and context.stage == 'fine_tune':\n"
        "        raise ValueError('nothing to close')",
    ),
    "observes and disturbs": Broken(
        "observers",
        "@hookimpl\ndef taoke_after_step(context):\n    import torch\n\n    torch.rand(1)",
    ),
}
