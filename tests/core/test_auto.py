"""`auto` in a recipe: chosen by plugins, said with why, recorded as a value; and the short ways to name data
and base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from core.errors import RecipeError
from core.recipe import brief, find, override, read, resolve
from core.recipe.complete import open_keys

TOY = Path(__file__).parent / "toy.py"

CHOOSER = """
from core.contract import Choice

@hookimpl
def taoke_complete(recipe):
    return [
        Choice("fine_tune.lr", 0.03, "a toy learns fast"),
        Choice("fine_tune.epochs", 2, f"{recipe['data']['train']} points"),
        Choice("preprocess", [{"transform": "centre"}], "points have no middle"),
        Choice("seed", 9, "never asked for"),
    ]
"""

AUTO = """
task: quadrants
plugins: []
base: {source: halves}
data: {dataset: points, train: 24}
preprocess: auto
fine_tune: {lr: auto, batch_size: 8, epochs: auto}
evaluate: {primary: accuracy, resamples: 200}
"""


def test_auto_is_chosen_told_and_recorded_as_a_value(toy, plugin_file, recipe_file):
    """On the terminal with the reason; in the record; and the run's recipe can be run again without choosing."""
    recipe = recipe_file(text=AUTO)
    outcome = toy(recipe=recipe, plugins=[plugin_file("chooser", CHOOSER)], json=False)
    assert outcome.code == 0, outcome
    assert "fine_tune.lr: 0.03 (a toy learns fast)" in outcome.err
    assert "fine_tune.epochs: 2 (24 points)" in outcome.err
    assert "preprocess: [{transform: centre}] (points have no middle)" in outcome.err
    folder = Path(next(line for line in outcome.out.splitlines() if line.startswith("run ")).split()[1])
    resolved = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert resolved["fine_tune"]["lr"] == 0.03
    assert resolved["fine_tune"]["epochs"] == 2
    assert resolved["preprocess"] == [{"transform": "toy.centre"}]
    assert resolved["seed"] == 0
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [(event["key"], event["value"]) for event in events if event["event"] == "chosen"] == [
        ("preprocess", [{"transform": "centre"}]),
        ("fine_tune.lr", 0.03),
        ("fine_tune.epochs", 2),
    ]


def test_what_a_user_gives_is_not_chosen(plugin_file, recipe_file):
    """An override settles the key, and is seen by those who choose the others."""
    resolved = resolve(
        recipe_file(text=AUTO),
        {"fine_tune.lr": 0.5, "data.train": 30},
        plugin_files=[TOY, plugin_file("chooser", CHOOSER)],
    )
    assert resolved.recipe.fine_tune.lr == 0.5
    assert [choice.key for choice in resolved.choices] == ["preprocess", "fine_tune.epochs"]
    assert resolved.choices[1].why == "30 points"


def test_auto_that_nobody_chooses_is_refused_with_every_key(refused, recipe_file):
    """Without a plugin that answers; nothing is left behind."""
    error = refused(recipe=recipe_file(text=AUTO))
    assert error["kind"] == "RecipeError"
    for key in ("preprocess", "fine_tune.lr", "fine_tune.epochs"):
        assert f"{key}: auto; give it a value" in error["message"]


def test_of_two_plugins_the_first_one_chooses(plugin_file, recipe_file):
    """In the order of the recipe's plugins, then of the files."""
    other = CHOOSER.replace("0.03", "0.7")
    files = [TOY, plugin_file("chooser", CHOOSER), plugin_file("other", other)]
    assert resolve(recipe_file(text=AUTO), plugin_files=files).recipe.fine_tune.lr == 0.03
    assert resolve(recipe_file(text=AUTO), plugin_files=[files[0], *files[:0:-1]]).recipe.fine_tune.lr == 0.7


def test_a_wrong_choice_is_refused_like_a_wrong_value(refused, recipe_file, plugin_file):
    """With its place."""
    wrong = plugin_file("chooser", CHOOSER.replace("0.03", "-1"))
    assert "fine_tune.lr" in refused(recipe=recipe_file(text=AUTO), plugins=[wrong])["message"]


def test_a_plan_shows_what_was_chosen(toy, recipe_file, plugin_file):
    """In the document, with why."""
    outcome = toy(name="plan", recipe=recipe_file(text=AUTO), plugins=[plugin_file("chooser", CHOOSER)])
    assert {"key": "fine_tune.lr", "value": 0.03, "why": "a toy learns fast"} in outcome.document["chosen"]


def test_recipes_without_auto_ask_nobody(toy, plugin_file):
    """The hook reads data, which may be large."""
    plugin = plugin_file("loud", "@hookimpl\ndef taoke_complete(recipe):\n    raise SystemError('asked')\n")
    assert toy(plugins=[plugin]).code == 0


def test_open_keys_are_found_at_any_depth():
    """In sections, in sections of lists, and as the whole of a section; in a list of words it is one of them."""
    content = {
        "a": "auto",
        "b": {"c": "auto", "d": "x"},
        "e": [{"f": "auto"}],
        "g": "automatic",
        "h": ["auto"],
    }
    assert open_keys(content) == ["a", "b.c", "e.0.f"]


def test_path_for_data_goes_to_the_datasets_option():
    """`data=PATH`, as text, number or Path; a mapping still changes keys."""
    content = {"data": {"dataset": "images", "draw": 1}}
    for value in ("photos", Path("photos")):
        assert override(content, {"data": value})["data"] == {
            "dataset": "images",
            "draw": 1,
            "path": "photos",
        }
    assert override(content, {"data": 2024})["data"]["path"] == "2024"
    assert override({"data": "images"}, {"data": "photos"})["data"] == {"dataset": "images", "path": "photos"}
    assert override(content, {"data": {"draw": 2}})["data"] == {"dataset": "images", "draw": 2}
    assert content == {"data": {"dataset": "images", "draw": 1}}


def test_dataset_without_files_says_so(refused):
    """The toy's points come from nowhere."""
    assert "data.path: unknown key 'path'" in refused("data=photos")["message"]


def test_base_is_named_with_its_source(refused):
    """`base=SOURCE:NAME` is the source with that name; an unknown source is refused."""
    assert "'nowhere'" in refused("base=nowhere:resnet18")["message"]


def test_warnings_about_data_are_told_and_recorded(toy, plugin_file):
    """`DataWarning`s of a plugin; other warnings keep to Python's ways."""
    plugin = plugin_file(
        "warner",
        """
        import warnings
        from core.errors import DataWarning

        @hookimpl
        def taoke_register():
            return [Component("dataset", "warner.points", "", f"{__name__}:Warner")]

        class Warner:
            def rows(self):
                import taoke_plugin_file_toy as toy

                warnings.warn("3 rows were left out", DataWarning, stacklevel=2)
                return toy.Points(toy.PointsOptions()).rows()
        """,
    )
    outcome = toy("data.dataset=warner.points", plugins=[plugin], json=False)
    assert outcome.code == 0, outcome.err
    assert "warning: 3 rows were left out" in outcome.err


def test_brief_values_fit_on_a_line():
    """As YAML."""
    assert brief(0.0003) == "0.0003"
    assert brief([{"transform": "resize", "size": 224}]) == "[{transform: resize, size: 224}]"


def test_override_keeps_refusing_what_is_no_section():
    """As before."""
    with pytest.raises(RecipeError):
        override({"seed": 1}, {"seed.x": 2})
    assert read(find(Path(__file__).parent / "toy.yaml").path)["task"] == "quadrants"


def test_a_component_may_be_chosen_too(recipe_file, plugin_file):
    """As a whole."""
    chooser = CHOOSER.replace('"fine_tune.lr", 0.03', '"fine_tune.strategy", "head"')
    recipe = recipe_file(text=AUTO.replace("lr: auto", "lr: 0.1, strategy: auto"))
    resolved = resolve(recipe, plugin_files=[TOY, plugin_file("chooser", chooser)])
    assert resolved.recipe.fine_tune.strategy.name == "core.head"


def test_what_is_misspelt_is_said_before_anybody_chooses(refused, recipe_file, plugin_file):
    """With the nearest key, as in a recipe without `auto`; those who choose would stumble over it."""
    chooser = plugin_file("chooser", CHOOSER.replace("recipe['data']['train']", "recipe['data']['none']"))
    error = refused("data.trian=3", recipe=recipe_file(text=AUTO), plugins=[chooser])
    assert error["kind"] == "RecipeError"
    assert "data.trian: unknown key 'trian' in data; did you mean 'train'?" in error["message"]
    error = refused("dat=here.csv", recipe=recipe_file(text=AUTO), plugins=[chooser])
    assert "dat: unknown key 'dat' in the recipe; did you mean 'data'?" in error["message"]


def test_values_that_do_not_go_together_are_a_wrong_recipe(refused, recipe_file, plugin_file):
    """Where a plugin finds them while it chooses."""
    lines = """
    class Own(Options):
        a: int

    @hookimpl
    def taoke_complete(recipe):
        Own.model_validate({"a": "x"})
    """
    error = refused(recipe=recipe_file(text=AUTO), plugins=[plugin_file("own", lines)])
    assert error["kind"] == "RecipeError"
    assert "a: input should be a valid integer" in error["message"]


def test_warnings_of_those_who_choose_are_left_to_the_run(recipe_file, plugin_file, recwarn):
    """They read the data that the run reads again."""
    lines = CHOOSER.replace("    return [", "    warnings.warn('odd', DataWarning)\n    return [")
    lines = "import warnings\nfrom core.errors import DataWarning\n" + lines
    resolve(recipe_file(text=AUTO), plugin_files=[TOY, plugin_file("chooser", lines)])
    assert not recwarn.list


def test_auto_goes_with_plugins_that_answer_one_hook(recipe_file, plugin_file):
    """`answers` says which, for those who choose too."""
    lines = "@hookimpl\ndef taoke_build_updater(context, groups):\n    return None\n"
    files = [plugin_file(name, lines) for name in ("one", "two")]
    recipe = recipe_file(text=AUTO + "answers: {build_updater: one}\n")
    resolved = resolve(recipe, plugin_files=[TOY, plugin_file("chooser", CHOOSER), *files])
    assert resolved.recipe.fine_tune.epochs == 2
