"""What the optimizers here have in common: one update step that clips, decays, pulls towards a start, averages and
clears, and that leaves everything as it is where a gradient is not finite."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import is_, itemgetter
from threading import Lock
from typing import Any, ClassVar, Literal, get_args, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from core.optim import codes, cpu, cuda, graphs, reference
from core.optim.kernels import is_dense, refuse_sparse, same_layout, warn_once
from core.optim.reference import MOMENTS, Hyper, Rule

Backend = Literal["auto", "native", "reference"]
StateDtype = Literal["float32", "bfloat16", "int8"]

LEAST_CODED = 4096
"""Tensors with fewer elements keep their moments in float32 where the others' are codes of 8 bits."""

_COPIED = ("max_grad_norm", "state_dtype", "zero_grads", "backend", "master", "check", "skipped_steps")
"""What a copy of an optimizer has besides what torch's copies."""


class Stepping(Optimizer):
    """The part of an optimizer that is not its formula; `AdamW`, `Adam` and `SGD` are the classes to use.

    Attributes:
        skipped_steps: how many steps were left out because a gradient was not finite.
        grad_norm: the norm of all gradients at the last step; None where nothing asked for it.
        clip_factor: what they were multiplied with for it; 0 where the step was left out. The kernels on a GPU leave
            both there, as float64 tensors of no dimension.
    """

    name: ClassVar[str]
    torchs: ClassVar[Mapping[str, Any]]
    """What torch's optimizer of the name has in its groups besides."""

    _step_supports_amp_scaling = (
        True  # GradScaler hands its scale over; that it looks for what is not finite itself remains
    )

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        *,
        max_grad_norm: float | None,
        anchor: float,
        ema_decay: float | None,
        state_dtype: StateDtype,
        zero_grads: bool,
        backend: Backend,
        master: bool | None,
        check: bool,
        anchor_to: Sequence[Tensor] | None,
    ) -> None:
        self._require(
            ("anchor", anchor, anchor >= 0, "0 or more"),
            ("max_grad_norm", max_grad_norm, max_grad_norm is None or max_grad_norm > 0, "above 0, or None"),
            ("ema_decay", ema_decay, ema_decay is None or 0 < ema_decay < 1, "between 0 and 1, or None"),
            (
                "state_dtype",
                state_dtype,
                state_dtype in get_args(StateDtype),
                " or ".join(get_args(StateDtype)),
            ),
            ("backend", backend, backend in get_args(Backend), " or ".join(get_args(Backend))),
        )
        self.max_grad_norm = max_grad_norm
        self.state_dtype = state_dtype
        self.zero_grads = zero_grads
        self.backend = backend
        self.master = state_dtype == "float32" if master is None else master
        self.check = check
        self._skipped = 0
        self._cuda: cuda.Cuda | None = None
        self._common_step: int | None = None
        self._step_lock = Lock()
        self._operator_number = graphs.register(self)
        self._forget()
        given = params if isinstance(params, Tensor) else list(params)
        if anchor_to is not None and len(given) > 1 and isinstance(given[0], dict):
            raise ValueError(f"{self.name}: with several groups, each has its own anchor_to: give it there")
        super().__init__(
            given, {**defaults, "anchor": anchor, "ema_decay": ema_decay, "anchor_to": anchor_to}
        )
        self.defaults["anchor_to"] = None  # of the parameters given here, not of those that are added later
        self._exposed = False

    def _require(self, *options: tuple[str, Any, bool, str]) -> None:
        for name, value, good, wanted in options:
            if not good:
                raise ValueError(f"{self.name}: {name} must be {wanted}, and is {value!r}")

    @property
    @graphs.graph_break("reading grad_norm")
    def grad_norm(self) -> float | Tensor | None:
        return self._grad_norm

    @property
    @graphs.graph_break("reading clip_factor")
    def clip_factor(self) -> float | Tensor:
        return self._clip_factor

    @property
    @graphs.graph_break("reading skipped_steps")
    def skipped_steps(self) -> int:
        """Reading it waits for a GPU."""
        return self._skipped + (0 if self._cuda is None else self._cuda.left_out())

    @skipped_steps.setter
    def skipped_steps(self, count: int) -> None:
        self._skipped = count

    @property
    def state(self) -> Any:
        """What is kept of each parameter. Whoever has seen it may change it, or where it lies: from then on, each step
        looks at all of it again. Reading it waits for a GPU, which counts the steps."""
        if "state" not in self.__dict__:
            raise AttributeError("state")  # a wrapper that took this class, and forwards what it lacks
        self._exposed = True
        self._settle()
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._exposed = True
        self.__dict__["state"] = state

    @property
    def _state(self) -> Any:
        return self.__dict__["state"]

    # -------------------------------------------------------------------------------- what the formulas differ in

    def _rule(self) -> Rule:
        raise NotImplementedError

    def _hyper(self, group: Mapping[str, Any], step: int) -> Hyper:
        raise NotImplementedError

    # -------------------------------------------------------------------------------- state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        start = group.pop("anchor_to", None)
        try:
            if start is not None and [s.shape for s in start] != [p.shape for p in group["params"]]:
                raise ValueError(
                    f"{self.name}: anchor_to must hold one tensor of the same shape for each parameter of its group"
                )
            made = [
                self._new_state(parameter, group, None if start is None else start[i])
                for i, parameter in enumerate(group["params"])
            ]
        except ValueError:
            self.param_groups.pop()
            raise
        for parameter, state in zip(group["params"], made, strict=True):
            self._state[parameter].update(state)
        self._forget()

    def _new_state(self, parameter: Tensor, group: Mapping[str, Any], start: Tensor | None) -> dict[str, Any]:
        if parameter.is_complex() or parameter.layout != torch.strided:
            raise ValueError(
                f"{self.name}: parameters must be dense and real, not {parameter.dtype}, {parameter.layout}"
            )
        state: dict[str, Any] = {"step": 0}
        narrow = parameter.dtype == torch.bfloat16
        wide = torch.promote_types(parameter.dtype, torch.float32)
        small = self.state_dtype != "float32" and wide == torch.float32
        if (narrow or small) and not is_dense(parameter):
            raise ValueError(f"{self.name}: bfloat16 and int8 take parameters without gaps in memory")
        for name in MOMENTS[self._rule()]:
            if small and self.state_dtype == "bfloat16":
                state[name] = torch.zeros_like(parameter, dtype=torch.bfloat16)
            elif small and parameter.numel() >= LEAST_CODED:
                dtype = torch.uint8 if name == "exp_avg_sq" else torch.int8
                state[name] = torch.zeros_like(parameter, dtype=dtype)
                blocks = -(-parameter.numel() // codes.BLOCK)
                state[f"{name}_scale"] = torch.zeros(blocks, dtype=torch.float32, device=parameter.device)
            else:
                state[name] = torch.zeros_like(parameter, dtype=wide)
        if narrow and self.master:
            state["remainder"] = torch.zeros_like(parameter, dtype=torch.int16)
        if group["anchor"]:
            start = parameter if start is None else start
            state["anchor_to"] = torch.empty_like(parameter, requires_grad=False).copy_(start.detach())
        if group["ema_decay"] is not None:
            state["ema"] = parameter.detach().to(wide, copy=True)
        return state

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        return {**super().__getstate__(), **{name: getattr(self, name) for name in _COPIED}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.setdefault("_cuda", None)
        self.__dict__.setdefault("_common_step", None)
        self.__dict__.setdefault("_step_lock", Lock())
        self.__dict__.setdefault("_skipped", 0)
        self.__dict__.setdefault("_exposed", True)
        if "_operator_number" not in self.__dict__:
            self._operator_number = graphs.register(self)
        if "skipped_steps" in state:
            self._skipped = state.pop("skipped_steps")
        super().__setstate__(state)
        self._forget()

    def _forget(self) -> None:
        """Where everything lies is to be looked up anew."""
        self._settle()
        self._known = False
        self._cuda = None
        self._cpu: cpu.Cpu | None = None
        self._parameters: list[Tensor] = []
        self._states: list[dict[str, Any]] = []
        self._groups: list[int] = []
        self._lacking: list[set[str]] = []
        self._kinds: list[tuple[int, torch.dtype, torch.device]] = []
        self._grad_norm: float | Tensor | None = None
        self._clip_factor: float | Tensor = 1.0

    @graphs.graph_break("reading or replacing an optimizer's state")
    def _settle(self) -> None:
        """What was counted elsewhere, into the states and this object."""
        if self._common_step is not None:
            for state in self._states:
                state["step"] = self._common_step
            self._common_step = None
        if self._cuda is not None:
            self._cuda.settle()
            self._skipped += self._cuda.left_out()
            self._cuda.forget_left_out()

    @torch.inference_mode(False)
    @torch.no_grad()
    def _look_up(self) -> None:
        self._forget()
        for number, group in enumerate(self.param_groups):
            states = [self._found_state(parameter, group) for parameter in group["params"]]
            self._parameters += group["params"]
            self._states += states
            self._groups += [number] * len(states)
            self._lacking.append(
                {name for state in states for name in ("anchor_to", "ema") if name not in state}
            )
        self._kinds = [(id(p), p.dtype, p.device) for p in self._parameters]
        if self.backend == "reference" or not self._parameters:
            return
        kernels = cuda if self._parameters[0].is_cuda else cpu
        reason = kernels.unfit(self._parameters)
        if reason is not None and self.backend == "native":
            raise ValueError(f"{self.name}: backend='native', but {reason}")
        if reason is not None:
            if any(p.dtype in (torch.float32, torch.bfloat16) for p in self._parameters):
                warn_once(reason)
        elif kernels is cuda:
            self._cuda = cuda.Cuda(self._rule(), self._parameters, self._states, self._groups)
        else:
            self._cpu = cpu.Cpu(self._rule(), self._parameters, self._states, self._groups)

    def _found_state(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter's state where the parameter is now; a new one where somebody has taken it away."""
        state: dict[str, Any] = self._state[parameter]
        if not state:
            state.update(self._new_state(parameter, group, None))
        for name, value in state.items():
            if isinstance(value, Tensor) and value.device != parameter.device:
                state[name] = value.to(parameter.device)
        if parameter.dtype != torch.bfloat16:
            state.pop("remainder", None)  # converted since: nothing is missing any more
        elif self.master and "remainder" not in state:
            state["remainder"] = torch.zeros_like(parameter, dtype=torch.int16)
        return state

    def _still_known(self) -> bool:
        """Whether everything is what it was, and where it was, when it was looked up."""
        if not self._known:
            return False
        groups = [group["params"] for group in self.param_groups]
        kernels = self._cpu or self._cuda
        if kernels is not None:
            if not kernels.fits(groups, with_state=self._exposed):
                return False
        else:
            kinds = [(id(p), p.dtype, p.device) for parameters in groups for p in parameters]
            if kinds != self._kinds:
                return False
        return not self._exposed or all(map(is_, map(self._state.get, self._parameters), self._states))

    # -------------------------------------------------------------------------------- the step

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; a closure is evaluated first, and its value returned.

        Raises:
            RuntimeError: a gradient is sparse, or another thread is stepping this optimizer.
            ValueError: `backend` is "native" and the kernels cannot take the parameters, or state no longer fits its
                parameter.
        """
        if torch.compiler.is_compiling():
            return self._step_at_break(closure)
        return self._step_as_seen(closure)

    def step_in_graph(self) -> None:
        """`step`, as one operator in the graph of a function that `torch.compile` compiles; outside of one, `step`.

        The function may change rates and gradients before it and read everything after it, but not which parameters
        and groups there are. Where the step cannot be in a graph, there is a graph break.
        """
        if not torch.compiler.is_compiling():
            self.step()
        elif self._has_hooks() or self._is_scaled() or not graphs.add_step(self):
            self._step_for_graph()

    def _step_as_seen(self, closure: Callable[[], float] | None) -> float | None:
        if self._is_observed():
            return self._observed_step(*(() if closure is None else (closure,)))
        return self._step(closure)

    _step_at_break = graphs.graph_break("step(), in place of step_in_graph(),")(_step_as_seen)

    @graphs.graph_break(
        "a step with hooks, GradScaler's scale, no gradient at all, gradients or parameters that are not torch's own"
        " dense tensors, or a model that was converted since the last"
    )
    def _step_for_graph(self) -> None:
        self.step()

    # Else torch wraps it for its profiler and hooks, which costs a quarter of a step of hundreds of small tensors.
    step.hooked = True  # type: ignore[attr-defined]

    def _is_observed(self) -> bool:
        """Whether a profiler or hooks are to see this step, and torch has not wrapped the step of a subclass for them,
        from which we came here."""
        if not self._has_hooks() and not torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            return False
        outer = type(self).step
        return outer is Stepping.step or getattr(getattr(outer, "__wrapped__", None), "hooked", False)

    def _has_hooks(self) -> bool:
        return bool(
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
        )

    def _is_scaled(self) -> bool:
        """Whether GradScaler has handed over its scale, or what it found."""
        return getattr(self, "grad_scale", None) is not None or getattr(self, "found_inf", None) is not None

    def _step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._turn():
            kernels = self._kernels_now()
            found = [p.grad for p in self._parameters] if kernels is None else kernels.gradients()
            self._step_by(found)
        return loss

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._step_lock.acquire(blocking=False):
            raise RuntimeError(
                f"{self.name}: two threads step one optimizer at once: step from one, or hold a lock around it"
            )
        try:
            yield
        finally:
            self._step_lock.release()

    def _kernels_now(self) -> cpu.Cpu | cuda.Cuda | None:
        """Look up what has changed; the kernels that take it, None for plain torch."""
        if not self._still_known():
            self._look_up()
            self._known = True  # not where it was refused: the next step is refused as well
        return self._cpu or self._cuda

    def _step_by(self, gradients: list[Tensor | None]) -> None:
        if self._cuda is not None:
            self._step_there(self._cuda, gradients)
            return
        scale = self._unscaling()
        norm = self._norm(gradients, scale)
        self._grad_norm = norm
        if scale is None or not (norm is None or math.isfinite(norm)):
            self._skipped += 1
            self._clip_factor = 0.0
            if self._cpu is not None:
                self._cpu.done()
            if self.zero_grads:
                _clear(gradients)
            return
        clip = 1.0
        if self.max_grad_norm is not None and norm is not None:
            clip = min(1.0, self.max_grad_norm / (norm + 1e-6))
        self._clip_factor = clip
        self._update(gradients, clip * scale)

    _observed_step = Optimizer.profile_hook_step(_step)

    def _step_there(self, kernels: cuda.Cuda, gradients: list[Tensor | None]) -> None:
        """On a GPU, which decides by itself: nothing is read here."""
        self._refuse_what_came_later()
        # Step 2 stands for all: the GPU, which counts, knows what a first step differs in.
        hypers = [self._hyper(group, 2) for group in self.param_groups]
        outcome, clear = kernels.step(
            gradients,
            hypers,
            max_norm=self.max_grad_norm,
            check=self.check,
            zero=self.zero_grads,
            grad_scale=getattr(self, "grad_scale", None),
            found_inf=getattr(self, "found_inf", None),
        )
        if clear:
            _clear(gradients)
        self._grad_norm = outcome[0] if self.check or self.max_grad_norm is not None else None
        self._clip_factor = outcome[1]

    def _unscaling(self) -> float | None:
        """One over GradScaler's scale; None where it found a gradient that is not finite."""
        found: Tensor | None = getattr(self, "found_inf", None)
        if found is not None and float(found):
            return None
        scale: Tensor | None = getattr(self, "grad_scale", None)
        return 1.0 if scale is None else 1.0 / float(scale)

    def _norm(self, gradients: list[Tensor | None], scale: float | None) -> float | None:
        needed = self.check or self.max_grad_norm is not None
        if self._cpu is not None:
            squares = self._cpu.squares(gradients, needed=needed)
        else:
            refuse_sparse(gradients)
            squares = reference.squares([g for g in gradients if g is not None]) if needed else 0.0
        return math.sqrt(squares) * (scale or 1.0) if needed else None

    def _update(self, gradients: list[Tensor | None], scale: float) -> None:
        self._refuse_what_came_later()
        parameters, states = self._parameters, self._states
        moving: Sequence[int] = range(len(parameters))
        complete = self._cpu is not None and self._cpu.complete
        if not complete and any(gradient is None for gradient in gradients):
            self._settle()
            moving = [i for i in moving if gradients[i] is not None]
            parameters, states = [parameters[i] for i in moving], [states[i] for i in moving]
        rows, table = self._table(states, moving)
        clear = self.zero_grads
        if self._cpu is not None:
            clear = self._cpu.update(table, rows, scale, gradients, zero=self.zero_grads)
        else:
            given = [gradient for gradient in gradients if gradient is not None]
            places = self._groups if rows is None else rows
            for i, parameter, gradient, state in zip(moving, parameters, given, states, strict=True):
                reference.update(self._rule(), parameter, gradient, state, table[places[i]][0], scale, i)
        if clear:
            _clear(gradients)

    def _table(
        self, states: Sequence[dict[str, Any]], moving: Sequence[int]
    ) -> tuple[list[int] | None, list[tuple[Hyper, int]]]:
        """Count the step. Which entry of a table is whose, and the table: hyper-parameters and step. Usually all
        parameters of a group have taken as many steps: None, and the entries are the groups. Where all have taken as
        many and nobody looks, they are counted here (`_common_step`), not in each state."""
        taken = (
            [self._common_step] if self._common_step is not None else list(map(itemgetter("step"), states))
        )
        if taken and taken.count(taken[0]) == len(taken):
            step = taken[0] + 1
            table = [(self._hyper(group, step), step) for group in self.param_groups]
            if self._cpu is not None and len(states) == len(self._states) and not self._exposed:
                self._common_step = step
            else:
                self._common_step = None
                for state in states:
                    state["step"] = step
            return None, table
        places: dict[tuple[int, int], int] = {}
        rows = [0] * len(self._states)
        for i, state in zip(moving, states, strict=True):
            rows[i] = places.setdefault((self._groups[i], state["step"] + 1), len(places))
        table = [(self._hyper(self.param_groups[number], step), step) for number, step in places]
        for state in states:
            state["step"] += 1
        return rows, table

    def _refuse_what_came_later(self) -> None:
        if not any(self._lacking):
            return
        for group, lacking in zip(self.param_groups, self._lacking, strict=True):
            for option, name, what in (
                ("anchor", "anchor_to", "so there is no θ0' to pull to"),
                ("ema_decay", "ema", "so there is no average"),
            ):
                if group[option] and name in lacking:
                    raise ValueError(
                        f"{self.name}: a group's {option} was raised from 0 after construction, {what}"
                    )

    # -------------------------------------------------------------------------------- averages

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters hold their running averages inside, and their own values again after. Without
        `ema_decay`, nothing changes."""
        pairs = [
            (p, self._state[p]["ema"])
            for g in self.param_groups
            for p in g["params"]
            if "ema" in self._state[p]
        ]
        own = [parameter.detach().clone() for parameter, _ in pairs]
        with torch.no_grad():
            for parameter, average in pairs:
                parameter.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for (parameter, _), value in zip(pairs, own, strict=True):
                    parameter.copy_(value)

    # -------------------------------------------------------------------------------- to and from torch

    def state_dict(self, *, format: Literal["native", "torch"] = "native") -> dict[str, Any]:  # noqa: A002
        """As torch's optimizer of the name has it, with `ema`, `anchor_to` and the like besides, which torch's
        takes and keeps. `format="torch"` has moments in float32 whatever `state_dtype` is; `"native"` loses nothing."""
        self._settle()
        found = super().state_dict()
        for group in found["param_groups"]:
            group.pop("capturable", None)  # torch.compile writes it
            group.update(self.torchs)
        for index, state in found["state"].items():
            made = {**state, "step": torch.tensor(float(state["step"]), dtype=torch.float32)}
            if format == "torch":
                for name in MOMENTS[self._rule()]:
                    double = state[name].dtype == torch.float64
                    wide = torch.empty(0, dtype=torch.float64 if double else torch.float32)
                    made[name] = reference.read(state, name, wide).clone()
                    made.pop(f"{name}_scale", None)
            found["state"][index] = made
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From `state_dict`, ours or of torch's optimizer of the name. What torch's does not have (anchor, average)
        stays as it is here. Raises `ValueError` for options of torch's that are not taken."""
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        refused = [
            name
            for group in state_dict["param_groups"]
            for name, value in self.torchs.items()
            if name in ("amsgrad", "maximize", "decoupled_weight_decay") and group.get(name, value) != value
        ]
        if refused:
            raise ValueError(
                f"{self.name}: the state is of an optimizer with another {refused[0]}, which is not taken"
            )
        groups = [dict(group) for group in self.param_groups]
        self._refuse_other_shapes(state_dict)
        own, exposed = dict(self._state), self._exposed
        hooks, self._optimizer_load_state_dict_pre_hooks = (
            self._optimizer_load_state_dict_pre_hooks,
            OrderedDict(),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            self._optimizer_load_state_dict_pre_hooks = hooks
        saved = {
            parameter: state_dict["state"].get(index, {})
            for given, group in zip(state_dict["param_groups"], self.param_groups, strict=True)
            for index, parameter in zip(given["params"], group["params"], strict=True)
        }
        for group, before in zip(self.param_groups, groups, strict=True):
            for name, value in before.items():
                group.setdefault(name, value)
            for name in self.torchs:
                group.pop(name, None)
        for parameter, given in saved.items():
            self._state[parameter] = own[parameter]
            self._take(parameter, own[parameter], given)
        self._forget()
        if not self._optimizer_load_state_dict_post_hooks:
            self._exposed = exposed  # nobody but torch has looked

    def _refuse_other_shapes(self, state_dict: Mapping[str, Any]) -> None:
        for given, group in zip(state_dict["param_groups"], self.param_groups, strict=False):
            for index, parameter in zip(given["params"], group["params"], strict=False):
                for name in (*MOMENTS[self._rule()], "ema", "anchor_to"):
                    value = state_dict["state"].get(index, {}).get(name)
                    if value is not None and value.shape != parameter.shape:
                        raise ValueError(
                            f"{self.name}: state {name!r} of parameter {index} is {tuple(value.shape)}, and the"
                            f" parameter is {tuple(parameter.shape)}: the state is of another model"
                        )

    def _take(self, parameter: Tensor, state: dict[str, Any], given: Mapping[str, Any]) -> None:
        """One parameter's state, without the rounding to the parameter's own dtype that torch's loading has."""
        moments = MOMENTS[self._rule()]
        state["step"] = int(
            given.get("step", 1 if any(given.get(name) is not None for name in moments) else 0)
        )
        for name in moments:
            value = given.get(name)
            if value is None:
                state[name].zero_()
                if f"{name}_scale" in state:
                    state[f"{name}_scale"].zero_()
            elif (
                value.dtype == state[name].dtype
                and (f"{name}_scale" in given) == (f"{name}_scale" in state)
                and (
                    f"{name}_scale" not in state or same_layout(value, state[name])
                )  # blocks lie in memory's order
            ):
                state[name].copy_(value)
                if f"{name}_scale" in state:
                    state[f"{name}_scale"].copy_(given[f"{name}_scale"])
            else:
                wide = torch.empty_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))
                wide.copy_(reference.read(dict(given), name, wide.cpu()))
                reference.write(state, name, wide, 0)
        for name in ("ema", "anchor_to", "remainder"):
            if (
                name == "remainder"
                and name in state
                and getattr(given.get(name), "dtype", None) != torch.int16
            ):
                state[name].zero_()  # torch's optimizers have none, or round it to the parameter's type
            elif name in given and name in state:
                state[name].copy_(given[name])
            elif name in given and name != "remainder":
                precise = torch.promote_types(parameter.dtype, torch.float32)
                dtype = parameter.dtype if name == "anchor_to" else precise
                state[name] = torch.empty_like(parameter, dtype=dtype).copy_(given[name])


@torch.no_grad()
def _clear(gradients: Sequence[Tensor | None]) -> None:
    given = [gradient for gradient in gradients if gradient is not None]
    if given:
        torch._foreach_zero_(given)
