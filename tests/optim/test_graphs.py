"""Steps inside graphs of `torch.compile`: one registered operator, which does what a step outside does, to the bit."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from core.optim import SGD, AdamW, cpu
from core.optim.graphs import _packed, _places

BACKENDS = ["reference", *(["native"] if cpu.module() else [])]
GRAPHS = [
    "eager",
    "aot_eager",
    "inductor",
]  # the operator's own tensors, copies of them, and compiled code around
ALL = {"max_grad_norm": 1.0, "anchor": 0.1, "ema_decay": 0.9, "zero_grads": True}
KINDS = {
    "float32": (AdamW, torch.float32, ALL),
    "bfloat16": (AdamW, torch.bfloat16, ALL),
    "int8": (AdamW, torch.bfloat16, {**ALL, "state_dtype": "int8"}),
    "momentum": (SGD, torch.float32, {**ALL, "momentum": 0.9}),
}


@pytest.fixture(autouse=True)
def _own_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def leaves(dtype=torch.float32, sizes=((70, 70), (5,), (0,), (3, 2))):
    rng = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(size, generator=rng).to(dtype)) for size in sizes]


def with_gradients(*lists, step=0):
    """The same gradients for all but the last of each list."""
    for moving in lists:
        rng = torch.Generator().manual_seed(100 + step)
        for leaf in moving[:-1]:
            leaf.grad = torch.randn(leaf.shape, generator=rng).to(leaf.dtype)


def compiled(function, graphs="eager"):
    counter = CompileCounterWithBackend(graphs)
    return torch.compile(function, backend=counter, fullgraph=True), counter


def everything(optimizer):
    """All tensors and numbers of it."""
    found = []
    for group in optimizer.param_groups:
        for leaf in group["params"]:
            state = optimizer.state[leaf]
            found += [leaf.detach(), *([] if leaf.grad is None else [leaf.grad])]
            found += [torch.as_tensor(state[name]) for name in sorted(state)]
    return found


def assert_same(one, other):
    ours, theirs = everything(one), everything(other)
    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert one.state_dict()["param_groups"] == other.state_dict()["param_groups"]
    assert (one.grad_norm, one.clip_factor, one.skipped_steps) == (
        other.grad_norm,
        other.clip_factor,
        other.skipped_steps,
    )


def two_steps(optimizer, moving):
    """What is read before, between and after, the averages too, and rates that change between the steps."""
    before = moving[0] * 2
    optimizer.step_in_graph()
    between = moving[0] * 2
    with optimizer.averaged():
        average = moving[0] * 2
    for group in optimizer.param_groups:
        group["weight_decay"] = group["weight_decay"] / 2
    for leaf in moving[:-1]:
        leaf.grad = leaf.detach() / 3
    optimizer.step_in_graph()
    return before, between, average, moving[0] * 2, moving[1].grad * 2


@pytest.mark.parametrize("graphs", GRAPHS)
@pytest.mark.parametrize("kind", KINDS)
def test_steps_in_a_graph_are_steps(kind, graphs, backend):
    """Parameters, gradients, state, counts and what is read in between: the same bits, though rates change in the
    graph and outside; only the first change makes a new graph."""
    made, dtype, options = KINDS[kind]
    moving, plain = leaves(dtype), leaves(dtype)
    one, other = made(moving, **options, backend=backend), made(plain, **options, backend=backend)
    function, counter = compiled(two_steps, graphs)
    groups, group = one.param_groups, one.param_groups[0]
    for step in range(5):
        with_gradients(moving, plain, step=step)
        for each in (group, other.param_groups[0]):
            each["lr"] = 0.1 / (step + 1)
            each["weight_decay"] = 0.01
        results = function(one, moving), two_steps(other, plain)
        assert one.state[moving[0]]["step"] == 2 * step + 2
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert counter.frame_count == 2  # the second is the one whose rate is an argument
    assert_same(one, other)
    assert one.param_groups is groups
    assert groups[0] is group


@pytest.mark.parametrize("graphs", GRAPHS)
def test_function_may_set_the_rate_before_its_step(graphs, backend):
    """A number or a tensor; the step has it, whatever it was compiled with."""

    def scheduled(optimizer, rate):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step_in_graph()

    for rates in ((0.5, 0.25, 0.125), tuple(torch.tensor([0.5, 0.25, 0.125]))):
        moving, plain = leaves(), leaves()
        one, other = SGD(moving, 1.0, backend=backend), SGD(plain, 1.0, backend=backend)
        function, _ = compiled(scheduled, graphs)
        for step, rate in enumerate(rates):
            with_gradients(moving, plain, step=step)
            function(one, rate)
            scheduled(other, rate)
        assert_same(one, other)


def test_function_may_set_options_before_its_step(backend):
    """Clipping and clearing are no part of the graph either."""

    def loosened(optimizer, norm):
        optimizer.max_grad_norm = norm
        optimizer.zero_grads = norm is None
        optimizer.step_in_graph()

    moving, plain = leaves(), leaves()
    one, other = AdamW(moving, backend=backend), AdamW(plain, backend=backend)
    function, _ = compiled(loosened)
    for step, norm in enumerate((0.5, 0.25, None, 2.0)):
        with_gradients(moving, plain, step=step)
        function(one, norm)
        loosened(other, norm)
        assert_same(one, other)


@pytest.mark.parametrize("graphs", GRAPHS)
def test_gradient_that_is_not_finite_leaves_all_as_it_was_in_a_graph(graphs, backend):
    """And is counted."""
    moving = leaves()
    optimizer = AdamW(moving, 0.1, ema_decay=0.9, backend=backend)
    function, _ = compiled(optimizer.step_in_graph, graphs)
    with_gradients(moving)
    function()
    before = [value.clone() for value in everything(optimizer)]
    kept = moving[1].grad.clone()
    moving[1].grad[2] = torch.nan
    function()
    moving[1].grad.copy_(kept)
    assert all(torch.equal(a, b) for a, b in zip(everything(optimizer), before, strict=True))
    assert (optimizer.skipped_steps, optimizer.clip_factor) == (1, 0.0)


def norm_after(optimizer):
    optimizer.step_in_graph()
    return optimizer.grad_norm


def left_out_after(optimizer):
    optimizer.step_in_graph()
    return optimizer.skipped_steps


def count_after(optimizer):
    optimizer.step_in_graph()
    return optimizer.state[optimizer.param_groups[0]["params"][0]]["step"]


def saved_after(optimizer):
    optimizer.step_in_graph()
    return sum(int(state["step"]) for state in optimizer.state_dict()["state"].values())


def closed(optimizer):
    leaf = optimizer.param_groups[0]["params"][0]

    def closure():
        leaf.grad = leaf.detach().clone()
        return 3.0

    return optimizer.step(closure)


def scaled_before(optimizer):
    optimizer.grad_scale = torch.tensor(2.0)
    optimizer.step_in_graph()


def without_gradients(optimizer):
    for leaf in optimizer.param_groups[0]["params"]:
        leaf.grad = None
    optimizer.step_in_graph()


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (norm_after, "reading grad_norm"),
        (left_out_after, "reading skipped_steps"),
        (count_after, "state"),
        (saved_after, "state"),
        (closed, r"step\(\), in place of step_in_graph\(\)"),
        (scaled_before, "GradScaler"),
        (without_gradients, "no gradient at all"),
    ],
)
def test_whole_graphs_are_told_what_cannot_be_in_them(function, what, backend):
    """And what to do about it."""
    moving = leaves()
    with_gradients(moving)
    whole, _ = compiled(function)
    with pytest.raises(
        torch._dynamo.exc.Unsupported, match=f"{what}.*cannot be in a graph.*without fullgraph"
    ):
        whole(AdamW(moving, backend=backend))


def test_operator_without_its_optimizer_says_so():
    """A graph may outlive it."""
    with pytest.raises(RuntimeError, match="no optimizer has the number -1 in this process"):
        torch.ops.taoke.step([], [], [], torch.zeros(3, dtype=torch.float64), [], [], -1)


@pytest.mark.parametrize("function", [norm_after, left_out_after, count_after, saved_after, closed])
def test_what_a_graph_cannot_see_is_between_two(function, backend):
    """What the last step came to is what the last step came to."""
    moving, plain = leaves(), leaves()
    one, other = AdamW(moving, 0.1, backend=backend), AdamW(plain, 0.1, backend=backend)
    broken = torch.compile(function, backend="eager")
    for step in range(3):
        with_gradients(moving, plain, step=step)
        moving[0].grad[0, 0] = plain[0].grad[0, 0] = torch.inf if step == 1 else 1.0
        assert broken(one) == function(other)
    assert_same(one, other)


@pytest.mark.parametrize("graphs", GRAPHS)
def test_parameters_may_be_copied_into_each_other_before_the_step(graphs, backend):
    """A graph may then hand over one's memory as the copy of another."""

    def cloned(optimizer, moving):
        with torch.no_grad():
            moving[0].copy_(moving[1])
            moving[1].copy_(moving[2])
        optimizer.step_in_graph()

    moving, plain = leaves(sizes=((4,),) * 4), leaves(sizes=((4,),) * 4)
    one, other = (
        SGD(moving, 1.0, momentum=0.9, backend=backend),
        SGD(plain, 1.0, momentum=0.9, backend=backend),
    )
    function, _ = compiled(cloned, graphs)
    for step in range(3):
        with_gradients(moving, plain, step=step)
        function(one, moving)
        cloned(other, plain)
    assert_same(one, other)


def test_parameters_that_leave_before_the_step_are_refused(backend):
    """The operator comes before the function's changes to lists; `step` does not."""

    def shortened(optimizer):
        optimizer.param_groups[0]["params"].pop()
        optimizer.step_in_graph()

    moving = leaves()
    optimizer = SGD(moving, 1.0, backend=backend)
    with_gradients(moving)
    start = moving[0].detach().clone()
    function, _ = compiled(shortened)
    with pytest.raises(RuntimeError, match=r"changed which parameters there are.*use step\(\)"):
        function(optimizer)
    assert torch.equal(moving[0], start)
    assert torch.is_grad_enabled()


def test_default_device_of_a_compiled_function_takes_no_step_away(backend):
    """What the operator is given is on the CPU whatever new tensors are on."""

    def elsewhere(optimizer):
        with torch.device("meta"):
            optimizer.step_in_graph()

    moving = leaves()
    optimizer = SGD(moving, 1.0, backend=backend)
    with_gradients(moving)
    torch.compile(elsewhere, backend="aot_eager")(optimizer)
    assert optimizer.state[moving[0]]["step"] == 1


def test_plain_step_breaks_the_graph_and_is_right_whatever_the_function_does(backend):
    """Parameters that leave, and weights that are put back, which no graph would do."""

    def wild(optimizer, moving):
        saved = moving[0].detach().clone()
        optimizer.step()
        with torch.no_grad():
            moving[0].copy_(saved)
        optimizer.param_groups[0]["params"].reverse()
        optimizer.step()

    moving, plain = leaves(), leaves()
    one, other = AdamW(moving, 0.1, backend=backend), AdamW(plain, 0.1, backend=backend)
    function = torch.compile(wild, backend="aot_eager")
    for step in range(2):
        with_gradients(moving, plain, step=step)
        function(one, moving)
        wild(other, plain)
    assert_same(one, other)


@pytest.mark.parametrize("whole", [True, False])
def test_schedulers_do_not_warn_of_steps_in_graphs(whole, backend, recwarn):
    """They look whether a step was taken before theirs."""
    moving = leaves()
    optimizer = SGD(moving, 1.0, backend=backend)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    if not whole:
        optimizer.register_step_post_hook(lambda *_: None)
    with_gradients(moving)
    torch.compile(lambda: optimizer.step_in_graph(), backend="eager", fullgraph=whole)()
    schedule.step()
    assert not [str(each.message) for each in recwarn if "lr_scheduler" in str(each.message)]
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_hooks_see_the_step_of_a_compiled_function(backend):
    """Also those that came after it was compiled."""
    moving = leaves()
    optimizer = AdamW(moving, backend=backend)
    function = torch.compile(lambda: optimizer.step_in_graph(), backend="eager")
    with_gradients(moving)
    function()
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(float(optimizer.grad_norm)))
    function()
    assert len(seen) == 1


def test_scaler_s_scale_is_taken_by_a_compiled_function(backend):
    """GradScaler hands it to the optimizer just before the step."""
    kept = []
    for wrap in (lambda function: function, partial(torch.compile, backend="eager")):
        moving = leaves()
        optimizer = SGD(moving, 1.0, backend=backend)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        scaler.scale(torch.ones(1))

        def scaled(optimizer, scaler):
            scaler.step(optimizer)
            scaler.update()

        function = wrap(scaled)
        for step in range(3):
            with_gradients(moving, step=step)
            if step == 1:
                moving[0].grad[0, 0] = torch.inf
            function(optimizer, scaler)
        assert optimizer.skipped_steps == 1
        kept.append(optimizer)
    assert_same(*kept)


def test_step_without_gradients_is_taken_between_graphs(backend):
    """It moves nothing; its norm is 0."""
    optimizer = AdamW(leaves(), backend=backend)
    function = torch.compile(lambda: optimizer.step(), backend="aot_eager")
    function()
    assert (optimizer.grad_norm, optimizer.skipped_steps) == (0.0, 0)


def test_sparse_gradient_is_refused_in_a_compiled_function(backend):
    """As outside: what torch's operators could not take is left to the step."""
    words = nn.Embedding(4, 3, sparse=True)
    words(torch.tensor([1])).sum().backward()
    optimizer = AdamW(words.parameters(), backend=backend)
    function = torch.compile(lambda: optimizer.step(), backend="eager")
    with pytest.raises(RuntimeError, match="SparseAdam"):
        function()


class Renamed(Tensor):
    """A kind of tensor of somebody's own, which the kernels do not know."""


def test_tensors_of_other_kinds_are_moved_as_outside():
    """By plain torch."""
    kept = []
    for wrap in (lambda function: function, partial(torch.compile, backend="aot_eager")):
        leaf = torch.ones(3).as_subclass(Renamed).requires_grad_()
        optimizer = AdamW([leaf], 0.1, backend="reference")
        leaf.grad = torch.ones(3).as_subclass(Renamed)
        wrap(lambda optimizer=optimizer: optimizer.step_in_graph())()
        kept.append(optimizer)
    assert_same(*kept)


def test_copies_of_an_optimizer_are_steps_of_their_own(backend):
    """A graph finds the optimizer that it is asked for, by deepcopy and by pickle."""
    moving = leaves()
    first = AdamW(moving, 0.1, backend=backend)
    with_gradients(moving)
    first.step()
    pickled = pickle.loads(pickle.dumps({"o": first, "p": moving}))  # noqa: S301 - our own
    others = [copy.deepcopy({"o": first, "p": moving}), pickled]
    function, _ = compiled(lambda optimizer: optimizer.step_in_graph())
    for each in ({"o": first, "p": moving}, *others):
        with_gradients(each["p"], step=1)
        function(each["o"])
    for each in others:
        assert_same(first, each["o"])
        assert each["o"].state[each["p"][0]]["step"] == 2


def test_converted_model_is_moved_by_a_graph_as_it_is_now(backend):
    """Its state is looked up anew, in the graph as outside."""
    kept = []
    for wrap in (lambda function: function, partial(torch.compile, backend="eager")):
        model = nn.Linear(3, 4)
        with torch.no_grad():
            model.weight.fill_(1.0)
            model.bias.fill_(0.5)
        optimizer = SGD(model.parameters(), 0.1, momentum=0.9, backend=backend)
        step = wrap(lambda optimizer=optimizer: optimizer.step_in_graph())
        for _ in range(3):
            for leaf in model.parameters():
                leaf.grad = torch.ones_like(leaf)
            step()
            model.to(torch.bfloat16)
        kept.append(optimizer)
    assert_same(*kept)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_changed_in_the_place_of_the_optimizer_s_own(kind, backend):
    """Some graphs hand the operator copies, and write them back at their end: until then the own are as they were."""
    made, dtype, options = KINDS[kind]
    moving, plain = leaves(dtype), leaves(dtype)
    one, other = made(moving, **options, backend=backend), made(plain, **options, backend=backend)
    with_gradients(moving, plain)
    before = [value.clone() for value in everything(one)]
    own = [*moving[:-1], *(mine[name] for mine, name in _places(one, moving[:-1]))]
    copies = [tensor.detach().clone() for tensor in own]
    gradients = [leaf.grad.clone() for leaf in moving[:-1]]
    torch.ops.taoke.step(
        copies[:3], gradients, copies[3:], _packed(one), [0, 1, 2], [4], one._operator_number
    )
    after = everything(one)
    assert sum(not torch.equal(a, b) for a, b in zip(after, before, strict=True)) == 3  # the counts of steps
    other.step()
    expected = [*plain[:-1], *(mine[name] for mine, name in _places(other, plain[:-1]))]
    assert all(torch.equal(a, b) for a, b in zip(copies, expected, strict=True))
    assert all(torch.equal(a, leaf.grad) for a, leaf in zip(gradients, plain[:-1], strict=True))


# What a step does behind the operator's arguments is count; with these rates it does not enter the result.
PURE = {
    "adamw": (AdamW, {"betas": (0.0, 0.0), "anchor": 0.1, "ema_decay": 0.9, "max_grad_norm": 1.0}),
    "bfloat16 state": (AdamW, {"betas": (0.0, 0.0), "state_dtype": "bfloat16"}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9, "zero_grads": True}),
    "plain": (SGD, {"lr": 0.1, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("kind", PURE)
@pytest.mark.filterwarnings("ignore:.*opcheck.*")
def test_operator_is_what_torch_asks_of_one(kind, backend):
    """`opcheck`: its schema says what it writes, it has a kernel for shapes, autograd and graphs handle it."""
    made, options = PURE[kind]
    moving = leaves()
    optimizer = made(moving, **options, backend=backend)
    with_gradients(moving)
    parameters = [leaf.detach() for leaf in moving[:-1]]
    state = [mine[name] for mine, name in _places(optimizer, moving[:-1])]
    gradients = [leaf.grad for leaf in moving[:-1]]
    arguments = (parameters, gradients, state, _packed(optimizer), [0, 1, 2], [4], optimizer._operator_number)
    start = parameters[0].clone()
    found = torch.library.opcheck(torch.ops.taoke.step, arguments)
    assert set(found.values()) == {"SUCCESS"}
    assert len(found) == 4
    torch.ops.taoke.step(*arguments)
    assert not torch.equal(moving[0], start)
