"""Recipes: found, read strictly, overridden, and refused with everything that is wrong at once."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core.components import Use
from core.errors import RecipeError
from core.manager import Plugins
from core.recipe import (
    built_in,
    default_name,
    dump,
    override,
    parse_overrides,
    read,
    resolve,
    resolve_content,
    schema,
)

HERE = Path(__file__).parent
TOY, RECIPE = HERE / "toy.py", HERE / "toy.yaml"


# --- finding ---------------------------------------------------------------------------------------------


def test_unknown_recipe_names_the_nearest(refused, installed_toy):
    """A misspelt built-in name gets the name that was meant."""
    error = refused(recipe="acme/toi")
    assert error["kind"] == "RecipeError"
    assert "unknown recipe 'acme/toi'" in error["message"]
    assert "'acme/toy'" in error["hint"]


def test_missing_recipe_file_is_called_a_file(refused, tmp_path):
    """A path that ends like a recipe file is not compared with built-in names."""
    error = refused(recipe=tmp_path / "absent.yaml")
    assert f"there is no recipe file {tmp_path / 'absent.yaml'}" in error["message"]


def test_built_in_recipes_are_found_without_importing_their_plugin(install, monkeypatch):
    """The name is the plugin's and the file's stem; the module that would raise is never imported."""
    install(
        "acme-lazy",
        {"acme_lazy/__init__.py": "raise RuntimeError", "acme_lazy/recipes/one.yaml": "# the first\n"},
        {"taoke.plugins": {"lazy": "acme_lazy.plugin"}},
    )
    assert built_in()["lazy/one"].summary() == "the first"


def test_plugin_that_is_one_module_brings_no_recipes_and_breaks_none(install):
    """An entry point that is a top-level module has no folder of recipes."""
    install("acme-flat", {"acme_flat.py": "taoke_api = 1\n"}, {"taoke.plugins": {"flat": "acme_flat"}})
    assert not [name for name in built_in() if name.startswith("flat/")]


def test_two_default_recipes_are_an_error_that_names_both(install, cli):
    """Metadata of two plugins that both mark a default leave `run` without one."""
    for name in ("one", "two"):
        install(
            f"acme-{name}",
            {f"acme_{name}/__init__.py": "", f"acme_{name}/recipes/r.yaml": "task: t\n"},
            {
                "taoke.plugins": {f"acme{name}": f"acme_{name}.plugin"},
                "taoke.default_recipe": {"r": f"acme_{name}.plugin"},
            },
        )
    outcome = cli("run", "--json")
    assert outcome.code == 2
    assert "acmeone/r" in outcome.error["message"]
    assert "acmetwo/r" in outcome.error["message"]


def test_default_recipe_is_the_one_a_plugin_declares():
    """The entry names the recipe, its value the plugin's module; nothing else is asked."""
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plugins = {module: name for name, module in project["entry-points"]["taoke.plugins"].items()}
    ((recipe, module),) = project["entry-points"]["taoke.default_recipe"].items()
    assert default_name() == f"{plugins[module]}/{recipe}"


# --- reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("task: a\nplugins: [b\n", 3, "',' or ']'"),
        ("task: a\nseed: 0\nseed: 1\n", 3, "the key 'seed' is given twice"),
        ("fine_tune:\n  lr: 1\n  lr: 2\n", 3, "the key 'lr' is given twice"),
        ("task: a\n\tseed: 1\n", 2, "not valid YAML"),
        ("seed: {{seed}}\n", 1, "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", 1, "could not determine a constructor"),
    ],
)
def test_yaml_that_cannot_be_read_names_file_and_line(refused, recipe_file, text, line, says):
    """Broken syntax, a key given twice, a mapping as a key and a Python object are refused alike."""
    path = recipe_file(text=text)
    error = refused(recipe=path)
    assert error["kind"] == "RecipeError"
    assert f"{path}, line {line}: " in error["message"]
    assert says in error["message"]


@pytest.mark.parametrize("content", [b"seed: \xff\n", b"seed: \x01\n"])
def test_file_that_is_no_text_cannot_be_read(refused, tmp_path, content):
    """Bytes that are not UTF-8, and control characters."""
    path = tmp_path / "bytes.yaml"
    path.write_bytes(content)
    error = refused(recipe=path)
    assert f"{path} cannot be read" in error["message"]


@pytest.mark.parametrize(("text", "got"), [("", "NoneType"), ("- a\n", "list"), ("just text\n", "str")])
def test_recipe_that_is_no_mapping_says_what_it_is(refused, recipe_file, text, got):
    """An empty file, a list and a text are valid YAML and no recipe."""
    assert (
        f"expected a mapping with task, plugins, base, ...; got {got}"
        in refused(recipe=recipe_file(text=text))["message"]
    )


def test_merge_keys_are_read(recipe_file):
    """YAML's own way to share settings works, and a key of one's own wins over a merged one."""
    path = recipe_file(text="a: &shared {x: 1, y: 2}\nb:\n  <<: *shared\n  y: 3\n")
    assert read(path)["b"] == {"x": 1, "y": 3}


# --- what is wrong with a recipe ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "place", "nearest"),
    [
        ("task:", "sed: 1\ntask:", "sed: unknown key 'sed' in the recipe", "'seed'"),
        ("lr: 0.05", "lr: 0.05, epoch: 3", "fine_tune.epoch: unknown key 'epoch' in fine_tune", "'epochs'"),
        (
            "primary: accuracy",
            "primary: accuracy, scrach: 1",
            "unknown key 'scrach' in evaluate",
            "'scratch'",
        ),
        (
            "dataset: points",
            "dataset: points, trian: 9",
            "data.trian: unknown key 'trian' in data",
            "'train'",
        ),
        ("transform: jitter", "transform: jitter, sgma: 0", "unknown key 'sgma' in preprocess.1", "'sigma'"),
        (
            "schedule: cosine",
            "updater: {updater: adamw, anchr: 1}",
            "fine_tune.updater.anchr: unknown key 'anchr' in fine_tune.updater",
            "'anchor'",
        ),
    ],
)
def test_unknown_key_names_the_nearest_key_and_its_section(refused, recipe_file, old, new, place, nearest):
    """In the core's own sections and in the options of components."""
    message = refused(recipe=recipe_file(old, new))["message"]
    assert place in message
    assert f"did you mean {nearest}" in message


def test_a_word_where_a_mapping_belongs_names_the_mapping_s_keys(refused):
    """In the recipe's words, not in those of the class that reads it."""
    message = refused("gate=strict")["message"]
    assert (
        "gate: a mapping is expected ({key: value} with some of confidence, max_forgetting), got 'strict'"
        in message
    )


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("fine_tune.epochs=ten", "fine_tune.epochs: input should be a valid integer"),
        ("fine_tune.epochs=2.5", "fine_tune.epochs: input should be a valid integer"),
        ("fine_tune.lr=-1", "fine_tune.lr: input should be greater than 0, got -1"),
        ("fine_tune.lr=.inf", "fine_tune.lr: input should be a finite number, got inf"),
        (
            "fine_tune.schedule=step",
            "fine_tune.schedule: input should be 'constant', 'linear' or 'cosine', got",
        ),
        ("seed=-1", "seed: input should be greater than or equal to 0, got -1"),
        ("plugins=toy", "plugins: input should be a valid list, got 'toy'"),
        ("task=[1]", "task: expected a name or a mapping with `task: NAME`, got [1]"),
        ("data.train=0", "data.train: input should be greater than 0, got 0"),
        (
            "fine_tune.updater.betas=[0.9,1.5]",
            "fine_tune.updater.betas.1: input should be less than 1, got 1.5",
        ),
        ("allow=[leaks]", "allow.0: input should be 'duplicates', got 'leaks'"),
        ("gate={confidence: 2}", "gate.confidence: input should be less than 1, got 2"),
    ],
)
def test_wrong_value_says_what_was_expected_and_what_came(refused, override, says):
    """Types, ranges and choices, in the core's sections and in components' options."""
    assert says in refused(override)["message"]


def test_missing_sections_are_listed(refused, recipe_file):
    """A recipe of nothing but plugins is told all it lacks."""
    message = refused(recipe=recipe_file(text="plugins: []\n"))["message"]
    for key in ("task", "base", "data", "fine_tune", "evaluate"):
        assert f"- {key}: missing; it is required" in message


def test_all_that_is_wrong_is_told_at_once(refused, recipe_file):
    """Core keys, types, unknown components, component options and a missing plugin in one message."""
    path = recipe_file(
        text="""\
task: quadrant
plugins: [absent]
sed: 1
base: {source: halves, foldr: x}
data: {dataset: points, train: many}
preprocess: [{transform: centre, to: 1}, {trasform: jitter}]
fine_tune: {lr: fast, batch_size: 8, strategy: ful}
evaluate: {primary: accuracy}
"""
    )
    error = refused(recipe=path)
    listed = error["message"].split("\n  - ")
    assert listed[0] == f"{path} has {len(listed) - 1} problems"
    for part in (
        "sed: unknown key 'sed' in the recipe; did you mean 'seed'?",
        "preprocess.1: expected a name or a mapping with `transform: NAME`, got {'trasform': 'jitter'}",
        "fine_tune.lr: input should be a valid number",
        "fine_tune.epochs: missing; it is required",
        "plugin 'absent' is not installed",
    ):
        assert part in error["message"]
    assert len(listed) - 1 == 5  # without its plugins, no component can be looked up

    path.write_text(path.read_text(encoding="utf-8").replace("[absent]", "[]"), encoding="utf-8")
    message = refused(recipe=path)["message"]
    for part in (
        "task: no active plugin has a task 'quadrant'; did you mean 'quadrants'",
        "base.foldr: unknown key 'foldr' in base; did you mean 'folder'?",
        "data.train: input should be a valid integer",
        "preprocess.0: the transform 'toy.centre' has no options, but got 'to'",
        "fine_tune.strategy: no active plugin has a strategy 'ful'; did you mean 'full'",
        "sed: unknown key",
        "fine_tune.lr:",
        "fine_tune.epochs: missing",
        "preprocess.1: expected a name",
    ):
        assert part in message
    assert message.count("\n  - ") == 9


def test_unknown_primary_metric_names_the_nearest(refused):
    """The task's metrics are asked before anything takes time, and nothing is left."""
    error = refused("evaluate.primary=acuracy")
    assert "evaluate.primary: the task has no metric 'acuracy'" in error["message"]
    assert error["hint"] == "did you mean 'accuracy'?"


def test_plain_errors_go_to_stderr_and_leave_stdout_empty(toy):
    """Without --json the message and its hint stand on stderr."""
    outcome = toy("evaluate.primary=acuracy", json=False)
    assert outcome.code == 2
    assert outcome.out == ""
    assert (
        "error: evaluate.primary: the task has no metric 'acuracy'\n  did you mean 'accuracy'?\n"
        in outcome.err
    )


# --- overrides -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("fine_tune.lr", "override 'fine_tune.lr': expected key=value"),
        ("=3", "override '=3': expected key=value"),
        ("seed=[1", "override 'seed=[1': the value is not valid YAML"),
        ("fine_tune.lr.x=1", "override fine_tune.lr.x: 'fine_tune.lr' is a value, not a section"),
        ("preprocess.7.sigma=1", "override preprocess.7.sigma: '7' is no item of a list of 2"),
        ("preprocess.last.sigma=1", "override preprocess.last.sigma: 'last' is no item of a list of 2"),
    ],
)
def test_bad_override_is_quoted_in_its_error(refused, argument, says):
    """What cannot be an override says so, in the words that were typed."""
    error = refused(argument)
    assert error["kind"] == "RecipeError"
    assert says in error["message"]


def test_override_of_an_unknown_key_is_told_like_one_in_the_file(refused):
    """Overrides are checked where they end up."""
    assert (
        "fine_tune.epoch: unknown key 'epoch' in fine_tune; did you mean 'epochs'?"
        in refused("fine_tune.epoch=3")["message"]
    )


def test_overrides_may_come_without_a_recipe(cli, tmp_path):
    """`run key=value` changes the default recipe, and looks for no recipe of that name."""
    outcome = cli("run", "no_such_key=1", "--out", tmp_path / "out", "--json")
    assert outcome.code == 2
    assert "'no_such_key=1'" not in outcome.error["message"]


def test_recipe_file_may_hold_an_equals_sign(toy, recipe_file):
    """A file that exists is a recipe, however it is named."""
    outcome = toy(name="plan", recipe=recipe_file(name="lr=high"))
    assert outcome.code == 0, outcome
    assert outcome.document["recipe"] == "lr=high"


def test_nested_and_dotted_overrides_mean_the_same():
    """From Python a mapping changes the keys it holds and leaves the others."""
    content = {"fine_tune": {"lr": 1.0, "epochs": 3}}
    nested = override(content, {"fine_tune": {"lr": 0.5, "updater": {"anchor": 0.1}}})
    dotted = override(content, {"fine_tune.lr": 0.5, "fine_tune.updater.anchor": 0.1})
    assert nested == dotted
    assert nested["fine_tune"] == {"lr": 0.5, "epochs": 3, "updater": {"updater": "adamw", "anchor": 0.1}}


@pytest.mark.parametrize(
    ("argument", "says"), [("data=", "is empty"), ("base=timm:", "a name is missing behind 'timm:'")]
)
def test_an_override_that_ends_too_early_is_refused(argument, says):
    """As where a shell's variable is not set."""
    with pytest.raises(RecipeError, match=says):
        parse_overrides([argument])


def test_a_part_of_what_is_auto_can_be_set():
    """Whoever sets it settles the section; a section that is a value cannot have parts."""
    content = {"data": {"dataset": "points", "splits": "auto"}}
    assert override(content, {"data.splits": {"how": "grouped"}})["data"]["splits"] == {"how": "grouped"}
    assert override(content, {"data.splits.draw": 1})["data"]["splits"] == {"draw": 1}


def test_a_path_stays_as_it_is_typed():
    """YAML would read a number, a date or a truth value; a mapping and null are meant as such."""
    typed = [
        "data=0123",
        "data.path=2024-01-01",
        "base.path=no",
        "data.path={train: a.csv}",
        "base.path=null",
    ]
    assert [list(parse_overrides([one]).values()) for one in typed] == [
        ["0123"],
        ["2024-01-01"],
        ["no"],
        [{"train": "a.csv"}],
        [None],
    ]


def test_a_mapping_that_names_another_component_takes_its_place():
    """The options of the one before are none of its own; the same component under its full name keeps them."""
    content = {"base": {"source": "timm", "name": "resnet18"}, "fine_tune": {"updater": {"updater": "adamw"}}}
    other = {"source": "file", "path": "weights.pth"}
    assert override(content, {"base": other})["base"] == other
    same = override(content, {"base": {"source": "vision.timm", "weights": "w.safetensors"}})["base"]
    assert same == {"source": "vision.timm", "name": "resnet18", "weights": "w.safetensors"}
    changed = override(content, {"fine_tune": {"updater": {"updater": "acme.sgd", "momentum": 0.9}}})
    assert changed["fine_tune"] == {"updater": {"updater": "acme.sgd", "momentum": 0.9}}


def test_override_reaches_into_a_component_given_by_name():
    """`updater: adamw` is `updater: {updater: adamw}`, also in a list and for the base, whose key is `source`."""
    content = {"task": "t", "base": "b", "preprocess": ["scale"], "fine_tune": {"updater": "sgd"}}
    changed = override(
        content, {"base.name": "n", "preprocess.0.to": 1, "fine_tune.updater.lr": 2, "task.labels": 3}
    )
    assert changed["base"] == {"source": "b", "name": "n"}
    assert changed["preprocess"] == [{"transform": "scale", "to": 1}]
    assert changed["fine_tune"]["updater"] == {"updater": "sgd", "lr": 2}
    assert changed["task"] == {"task": "t", "labels": 3}


def test_override_changes_no_argument():
    """The content that is given stays as it is."""
    content = {"fine_tune": {"lr": 1.0}}
    override(content, {"fine_tune.lr": 2.0})
    assert content == {"fine_tune": {"lr": 1.0}}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
keys = st.from_regex(r"[a-z_]{1,6}(\.[a-z_]{1,6}){0,2}", fullmatch=True)


@given(st.dictionaries(keys, values, max_size=4))
def test_overrides_read_back_what_was_written(wanted):
    """Whatever YAML can write, `key=value` reads as the same value."""
    arguments = [
        f"{key}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}"
        for key, value in wanted.items()
    ]
    assert parse_overrides([argument.removesuffix("...\n") for argument in arguments]) == wanted


# --- resolving -------------------------------------------------------------------------------------------


def test_resolved_recipe_has_every_default_and_full_names():
    """What a run records can be run again as it stands."""
    resolved = resolve(RECIPE, plugin_files=[TOY])
    recipe = resolved.recipe
    assert recipe.task == Use("task", "toy.quadrants", {})
    assert recipe.fine_tune.updater.options["anchor"] == 0.0
    assert recipe.data.options["train"] == 24
    assert recipe.plugins == ["toy"]
    again = resolve_content(yaml.safe_load(dump(recipe)), "again", "here", plugin_files=[TOY])
    assert again.recipe == recipe


def test_defaults_are_these(recipe_file):
    """What a recipe leaves out: changing one of them changes every recipe that does."""
    short = recipe_file(
        text="""\
task: quadrants
plugins: []
base: halves
data: points
fine_tune: {lr: 1, batch_size: 2, epochs: 3}
evaluate: {primary: accuracy}
"""
    )
    recipe = resolve(short, plugin_files=[TOY]).recipe.to_json()
    assert (recipe["seed"], recipe["preprocess"], recipe["modify"]) == (0, [], [])
    assert (recipe["allow"], recipe["answers"]) == ([], {})
    assert recipe["fine_tune"] == {
        "strategy": {"strategy": "core.full", "freeze": []},
        "updater": {
            "updater": "core.adamw",
            "betas": [0.9, 0.999],
            "eps": 1e-8,
            "weight_decay": 0.0,
            "anchor": 0.0,
            "max_grad_norm": None,
            "ema_decay": None,
        },
        "lr": 1.0,
        "schedule": "constant",
        "warmup": 0.0,
        "batch_size": 2,
        "epochs": 3,
        "keep": "last",
    }
    assert recipe["evaluate"] == {
        "primary": "accuracy",
        "retain": False,
        "scratch": False,
        "batch_size": 256,
        "resamples": 10_000,
    }
    assert resolve(short, {"gate": {}}, plugin_files=[TOY]).recipe.to_json()["gate"] == {"confidence": 0.95}


def test_error_of_a_recipe_says_how_many_problems_and_keeps_them():
    """The exception carries its problems one by one."""
    with pytest.raises(RecipeError) as caught:
        resolve(RECIPE, {"sed": 1, "fine_tune.epoch": 2}, plugin_files=[TOY])
    assert len(caught.value.problems) == 2
    assert "has 2 problems" in str(caught.value)


# --- schema ----------------------------------------------------------------------------------------------


def accepts(node, value, root):
    """Whether a JSON value fits a JSON Schema, as far as recipes' schemas go; an unknown word is an error."""
    words = {
        "$ref": lambda ref: accepts(root["$defs"][ref.rpartition("/")[2]], value, root),
        "anyOf": lambda options: any(accepts(option, value, root) for option in options),
        "enum": lambda choices: value in choices,
        "const": lambda only: value == only,
        "type": lambda name: of_type(name, value),
        "pattern": lambda pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
        "required": lambda names: not isinstance(value, dict) or all(name in value for name in names),
        "properties": lambda fields: (
            not isinstance(value, dict)
            or all(accepts(fields[name], value[name], root) for name in fields if name in value)
        ),
        "additionalProperties": lambda extra: (
            not isinstance(value, dict)
            or all(
                name in node.get("properties", {})
                or (extra is not False and accepts(extra, value[name], root))
                for name in value
            )
        ),
        "items": lambda item: not isinstance(value, list) or all(accepts(item, v, root) for v in value),
        "prefixItems": lambda items: (
            not isinstance(value, list)
            or all(accepts(item, v, root) for item, v in zip(items, value, strict=False))
        ),
        "minItems": lambda n: not isinstance(value, list) or len(value) >= n,
        "maxItems": lambda n: not isinstance(value, list) or len(value) <= n,
        "minimum": lambda bound: not of_type("number", value) or value >= bound,
        "maximum": lambda bound: not of_type("number", value) or value <= bound,
        "exclusiveMinimum": lambda bound: not of_type("number", value) or value > bound,
        "exclusiveMaximum": lambda bound: not of_type("number", value) or value < bound,
    }
    remarks = {"$defs", "title", "description", "default"}
    return all(words[word](argument) for word, argument in node.items() if word not in remarks)


def of_type(name, value):
    """Whether a value is of a JSON type; a boolean is no number."""
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "integer": int,
    }
    wanted = types.get(name, (int, float))
    return isinstance(value, wanted) and (name == "boolean" or not isinstance(value, bool))


@pytest.fixture(scope="module")
def toy_schema():
    """The schema of recipes with the toy's components."""
    return schema(Plugins.load([], [TOY]).components)


def test_schema_accepts_the_toy_recipe_as_written_and_as_resolved(toy_schema):
    """Short names and full ones, names alone and mappings."""
    assert accepts(toy_schema, yaml.safe_load(RECIPE.read_text(encoding="utf-8")), toy_schema)
    assert accepts(toy_schema, resolve(RECIPE, plugin_files=[TOY]).recipe.to_json(), toy_schema)


@pytest.mark.parametrize(
    ("base", "fits"),
    [
        ("hub:resnet18", True),
        ("acme.hub:org/name:v2", True),
        ("hub", True),
        ("hub:", False),
        ("halves:x", False),
        ("hubs:x", False),
    ],
)
def test_schema_takes_a_base_as_source_and_name(plugin_file, base, fits):
    """`SOURCE:NAME`, of sources that have a name, and as the reader takes it."""
    lines = """
        class HubOptions(Options):
            name: str = "default"

        @hookimpl
        def taoke_register():
            return [Component("base", "acme.hub", "a hub", f"{__name__}:Hub", f"{__name__}:HubOptions")]
        """
    plugins = [TOY, plugin_file("acme", lines)]
    document = schema(Plugins.load([], plugins).components)
    content = override(read(RECIPE), {"base": base})
    assert accepts(document, content, document) == fits
    if fits:
        resolve_content(content, "named", "here", plugin_files=plugins)
    else:
        with pytest.raises(RecipeError):
            resolve_content(content, "named", "here", plugin_files=plugins)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sed": 1},
        {"fine_tune.epoch": 1},
        {"fine_tune.lr": 0},
        {"fine_tune.strategy": "ful"},
        {"fine_tune.strategy": {"strategy": "lp_ft"}},
        {"fine_tune.updater.anchr": 1},
        {"data.train": 0},
        {"data.trian": 1},
        {"task": "quadrant"},
        {"preprocess": [{"transform": "jitter", "sigma": -1}]},
        {"preprocess": "centre"},
        {"base": {"source": "points"}},
    ],
)
def test_schema_refuses_what_the_reader_refuses(toy_schema, wrong):
    """Each wrong recipe is wrong for an editor and for `run`."""
    content = override(read(RECIPE), wrong)
    assert not accepts(toy_schema, content, toy_schema)
    with pytest.raises(RecipeError):
        resolve_content(content, "wrong", "here", plugin_files=[TOY])


def test_schema_describes_every_key(toy_schema):
    """An editor shows what each of the core's keys means."""
    for name in ("FineTune", "Evaluate", "Gate"):
        for key, field in toy_schema["$defs"][name]["properties"].items():
            assert field.get("description"), f"{name}.{key}"
    assert "x-kind" not in str(toy_schema)
