"""The active plugins: of the contract or refused, called in their order, and named in what they raise."""

from __future__ import annotations

import pytest

from core import hookspecs
from core.contract import API
from core.errors import ContractWarning, PluginError, TrainingError
from core.manager import CORE, Plugins

STEP = """
@hookimpl
def taoke_step(context, task, model, updater, batch):
    from core.training import step

    print("step by", __name__)
    return step(context, task, model, updater, batch)
"""


# --- contract ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [API + 1, API - 2])
def test_plugin_of_another_contract_version_is_refused_with_both_numbers(refused, plugin_file, version):
    """Too new and too old."""
    error = refused(plugins=[plugin_file("other", f"taoke_api = {version}\n")])
    assert f"is written for version {version} of the plugin contract; this core has {API}" in error["message"]
    assert "plugin 'other'" in error["message"]


def test_plugin_without_a_contract_version_is_told_to_write_it(refused, plugin_file):
    """The line to write stands in the hint."""
    path = plugin_file("mute", "del taoke_api\n")
    error = refused(plugins=[path])
    assert "does not say which plugin contract it is written for" in error["message"]
    assert f"`taoke_api = {API}`" in error["hint"]


@pytest.mark.parametrize(
    ("lines", "says", "hint"),
    [
        ("@hookimpl\ndef taoke_stpe(context): pass", "taoke_stpe ({at}) is not a hook", "'taoke_step'"),
        ("def taoke_step(context): pass", "taoke_step ({at}) is not marked as a hook", "hookimpl"),
        (
            "@hookimpl\ndef taoke_step(context, batch=None): pass",
            "taoke_step ({at}) gives 'batch' a default",
            "remove the default",
        ),
        ("@hookimpl\ndef taoke_step(contxt): pass", "{'contxt'}", "tell the plugin's author"),
        (
            "@hookimpl(hookwrapper=True)\ndef taoke_step(context):\n    yield",
            "taoke_step ({at}) is an old-style wrapper",
            "wrapper=True",
        ),
        ("@hookimpl\ndef taoke_register():\n    raise ValueError('no')", "ValueError: no ({line})", "author"),
        ("@hookimpl\ndef taoke_register():\n    return [1]", "taoke_register yields 1", "Component"),
        (
            "@hookimpl\ndef taoke_register():\n    return [Component('tusk', 'a.b', '', 'm:f')]",
            "registers 'a.b' with the unknown kind 'tusk'",
            "'task'",
        ),
        (
            "@hookimpl\ndef taoke_register():\n    return [Component('task', 'a.b', '', 'm.f')]",
            "component 'a.b' refers to 'm.f'",
            "package.module:attribute",
        ),
    ],
)
def test_breach_of_the_contract_names_plugin_and_place(refused, plugin_file, lines, says, hint):
    """Misspelt, undecorated and defaulted hooks, unknown parameters, and what register must not yield."""
    path = plugin_file("bad", lines)
    text = path.read_text(encoding="utf-8").splitlines()
    first = next(n for n, line in enumerate(text, 1) if "@hookimpl" in line or "def taoke_" in line)
    raising = next((n for n, line in enumerate(text, 1) if "raise" in line), 0)
    error = refused(plugins=[path])
    assert error["kind"] == "PluginError"
    assert "plugin 'bad'" in error["message"]
    expected = says.replace("{at}", f"taoke_plugin_file_bad:{first}").replace("{line}", f"{path}:{raising}")
    assert expected in error["message"]
    assert hint in error["hint"]


def test_two_components_of_one_name_name_both_plugins(refused, plugin_file):
    """The same kind and name from two plugins is never decided by order."""
    path = plugin_file(
        "rival",
        """
        @hookimpl
        def taoke_register():
            return [Component("task", "toy.quadrants", "another", "m:f")]
        """,
    )
    message = refused(plugins=[path])["message"]
    assert "'rival'" in message
    assert "'toy'" in message
    assert "both register the task 'toy.quadrants'" in message


def test_failed_load_leaves_nothing_of_the_plugin_behind(plugin_file):
    """Hooks and components that were registered before it failed are taken back; the others stay."""
    path = plugin_file(
        "half",
        """
        @hookimpl
        def taoke_after_step(context): pass

        @hookimpl
        def taoke_register():
            yield Component("task", "half.task", "", "m:f")
            raise RuntimeError("half way")
        """,
    )
    with pytest.raises(PluginError, match="half way"):
        Plugins.load([], [path])
    plugins = Plugins.load([])
    assert not any(calls.role("half") for calls in plugins.hooks().values())
    assert not [component for component, owner in plugins.components if owner == "half"]
    assert [component for component, owner in plugins.components if owner == CORE]


def test_every_hook_says_whether_one_answer_counts():
    """firstresult hooks are those that return something, the others return None or are collected."""
    for name in (name for name in dir(hookspecs) if name.startswith("taoke_")):
        function = getattr(hookspecs, name)
        one = function.taoke_spec["firstresult"]
        assert one == (
            "None" in function.__annotations__["return"] and "|" in function.__annotations__["return"]
        )
        assert function.__doc__


# --- what goes with the next version -----------------------------------------------------------------------


def test_a_hook_that_goes_warns_at_the_plugin_s_own_line(plugin_file, monkeypatch):
    """And of nothing else: the core answers it for as long as there is one."""
    said = ContractWarning(
        "taoke_after_step goes with version 2 of the contract: implement taoke_after_update"
    )
    monkeypatch.setitem(hookspecs.taoke_after_step.taoke_spec, "warn_on_impl", said)
    path = plugin_file("old", "\n\n@hookimpl\ndef taoke_after_step(context): pass\n")
    with pytest.warns(ContractWarning) as caught:
        Plugins.load([], [path])
    (warning,) = caught
    assert warning.message is said
    assert warning.filename == str(path)
    assert path.read_text().splitlines()[warning.lineno - 1] == "@hookimpl"


def test_an_argument_that_goes_warns_who_takes_it(plugin_file, monkeypatch):
    """Who does without it hears nothing."""
    said = ContractWarning("`result` goes with version 2 of the contract")
    monkeypatch.setitem(hookspecs.taoke_after_step.taoke_spec, "warn_on_impl_args", {"result": said})
    takes = plugin_file("takes", "@hookimpl\ndef taoke_after_step(context, result): pass\n")
    does_not = plugin_file("does_not", "@hookimpl\ndef taoke_after_step(context): pass\n")
    with pytest.warns(ContractWarning) as caught:
        Plugins.load([], [takes, does_not])
    assert [(warning.message, warning.filename) for warning in caught] == [(said, str(takes))]


def test_a_plugin_of_the_version_before_works_and_warns_where_it_says_so(tmp_path):
    """With what comes next."""
    path = tmp_path / "old.py"
    path.write_text(f'"""Old."""\n\ntaoke_api = {API - 1}\n')
    with pytest.warns(
        ContractWarning, match=f"written for version {API - 1} .* this core has {API}"
    ) as caught:
        plugins = Plugins.load([], [path])
    assert [plugin.name for plugin in plugins.active] == ["old", CORE]
    assert (caught[0].filename, caught[0].lineno) == (str(path), 3)


# --- order and answers -------------------------------------------------------------------------------------


def test_call_order_is_the_listed_order_with_the_core_last(plugin_file):
    """The recipe's list, then plugin files, then the core's own answers."""
    observer = "@hookimpl\ndef taoke_after_step(context): pass\n"
    files = [plugin_file(name, observer) for name in ("b", "a", "c")]
    plugins = Plugins.load(["a", "c"], files)
    assert [plugin.name for plugin in plugins.active] == ["a", "c", "b", CORE]
    calls = plugins.hooks()["taoke_after_step"]
    assert (calls.called, calls.shadowed, calls.wrapped_by) == (["a", "c", "b", CORE], [], [])


def test_two_plugins_that_answer_one_hook_are_refused_and_named(refused, plugin_file):
    """With the line for the recipe that resolves it."""
    files = [plugin_file(name, STEP) for name in ("one", "two")]
    error = refused(plugins=files)
    assert "plugins 'one' and 'two' both answer the hook taoke_step" in error["message"]
    assert "`answers: {step: one}`" in error["hint"]


@pytest.mark.parametrize(
    ("winner", "shadowed"), [("one", [CORE, "two"]), ("two", [CORE, "one"]), (CORE, ["one", "two"])]
)
def test_answers_says_which_plugin_really_runs(stages, plugin_file, capsys, winner, shadowed):
    """Only the one that is named is called; the core's own can be named as well."""
    files = [plugin_file(name, STEP) for name in ("one", "two")]
    toy = stages({"answers": {"step": winner}, "fine_tune.epochs": 1}, plugins=files)
    assert toy.tuned
    shown = toy.resolved.plugins.hooks()["taoke_step"]
    assert shown.called == [winner]
    assert shown.shadowed == shadowed
    heard = set(capsys.readouterr().out.splitlines())
    assert heard == (set() if winner == CORE else {f"step by taoke_plugin_file_{winner}"})


def test_single_answer_of_a_plugin_replaces_the_core_s(stages, plugin_file, capsys):
    """Without a rival no `answers` is needed."""
    assert stages({"fine_tune.epochs": 1}, plugins=[plugin_file("one", STEP)]).tuned
    assert "step by taoke_plugin_file_one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answers", "says", "hint"),
    [
        ("{step: toy}", "answers.step: plugin 'toy' does not answer the hook taoke_step", "known here"),
        ("{stpe: toy}", "answers.stpe: there is no such hook with one answer", "'step'"),
        ("{after_step: toy}", "answers.after_step: there is no such hook with one answer", ""),
    ],
)
def test_answers_that_fit_no_hook_are_refused(refused, answers, says, hint):
    """A plugin that does not answer, a misspelt hook, and a hook that every plugin may implement."""
    error = refused(f"answers={answers}")
    assert says in error["message"]
    assert hint in error["hint"]


def test_wrapper_is_no_answer(stages, plugin_file):
    """Any number of plugins may wrap a hook, in their order, around the core's answer."""
    wrapper = """
    @hookimpl(wrapper=True)
    def taoke_select_parameters(context, model):
        phases = yield
        context.events.emit("wrapped", by=__name__, phases=len(phases))
        return phases
    """
    toy = stages({"fine_tune.epochs": 1}, plugins=[plugin_file(name, wrapper) for name in ("one", "two")])
    assert toy.tuned
    assert [event["by"][-3:] for event in toy.events("wrapped")] == ["two", "one"]


# --- attribution -------------------------------------------------------------------------------------------


def note_of(error):
    """The one note that attributes an exception."""
    (note,) = [note for note in error.__notes__ if "in plugin" in note]
    return note


def test_what_a_task_s_method_raises_is_the_plugin_s(stages, plugin_file):
    """The core called the method, and yet the note names the plugin, with the innermost line of its file."""
    path = plugin_file(
        "hasty",
        """
        @hookimpl
        def taoke_register():
            return [Component("loss", "hasty.loss", "", f"{__name__}:make")]

        def make():
            def loss(outputs, batch):
                return divide()
            return loss

        def divide():
            raise ZeroDivisionError("in the loss")
        """,
    )
    toy = stages({"fine_tune.loss": "hasty.loss"}, plugins=[path])
    with pytest.raises(ZeroDivisionError) as caught, toy.context.plugins.attributing(toy.context):
        assert toy.tuned
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "raise" in text)
    note = note_of(caught.value)
    assert f"in plugin 'hasty' file ({path.parent.name}/hasty.py:{line})" in note
    assert "step 1" in note


def test_exception_through_a_wrapper_is_attributed_once(stages, plugin_file):
    """The plugin that raised, not the one it passed through."""
    inner = plugin_file("inner", "@hookimpl\ndef taoke_step(context):\n    raise ValueError('deep')\n")
    outer = plugin_file("outer", "@hookimpl(wrapper=True)\ndef taoke_step(context):\n    return (yield)\n")
    with pytest.raises(ValueError, match="deep") as caught:
        assert stages(plugins=[inner, outer]).tuned
    assert "plugin 'inner'" in note_of(caught.value)
    assert "hook taoke_step" in note_of(caught.value)


def test_error_of_the_core_itself_names_no_plugin(stages):
    """A loss that is not finite is nobody's exception but the core's."""
    with pytest.raises(TrainingError, match="the loss is") as caught:
        assert stages({"fine_tune.lr": 3e37}).tuned
    assert not getattr(caught.value, "__notes__", [])
