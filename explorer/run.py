"""A prompt's way through the code, as the page asks for it: calls, steps, and numbered values."""

import ast
from dataclasses import dataclass, field

import numpy as np

from explorer.axes import comment_axes, fit, is_array, name_axes, parameter_axes, reshape_axes
from explorer.source import model_calls, name_call, occurrences, read_functions, statements
from explorer.steps import record
from gpt2_numpy import check_ids, gpt2


@dataclass(eq=False)
class Value:
    """Something that a variable held."""

    held: object
    maker: tuple | None  # the call, the index of its statement there, and the variable; or None
    shape: tuple = ()
    axes: list | None = None


@dataclass
class Run:
    """One forward pass. uses holds for each call {(statement, name, is_after): numbers of values,
    one for each time that the statement ran}; leaves, those of formulas that were asked for."""

    ids: np.ndarray
    logits: np.ndarray
    steps: object
    values: list
    uses: list
    leaves: dict = field(default_factory=dict)


def make_run(ids, params, n_head, hparams):
    """A Run of these ids [n_seq]. GPT2Error as from `gpt2` and `check_ids`."""
    ids = check_ids(ids, params)
    logits, steps = record(gpt2, ids, **params, n_head=n_head)
    values, numbers = [], {}

    def register(held, maker=None):
        key = id(held) if is_array(held) or isinstance(held, dict | list) else repr(held)
        if key not in numbers:
            numbers[key] = len(values)
            values.append(Value(held, maker, getattr(held, "shape", ())))
            if isinstance(held, dict):
                for part in held.values():
                    register(part)
        return numbers[key]

    for held in steps.calls[0].arguments.values():
        register(held)
    for index, k in steps.ends:
        register_made(steps.calls[index], index, k, register)
    uses = [list_uses(call, register) for call in steps.calls]
    run = Run(ids, logits, steps, values, uses)
    name_all_axes(run, params, hparams)
    return run


def register_made(call, index, k, register):
    """Register what the k-th statement of a call has made."""
    line = call.lines[k]
    if isinstance(statements(call.function)[line], ast.Return):
        register(call.returned, (index, k, "return"))
        return
    for _, _, name, statement, is_after in occurrences(call.function):
        if statement == line and is_after:
            register(call.after[k][name], (index, k, name))


def list_uses(call, register):
    uses, first = {}, read_functions()[call.function].lineno
    for _, _, name, statement, is_after in occurrences(call.function):
        if statement == first:
            found = [call.arguments[name]]
        elif name == "return":
            found = [call.returned] if statement == call.lines[-1] else []
        else:
            snapshots = call.after if is_after else call.before
            runs = zip(call.lines, snapshots, strict=True)
            found = [variables.get(name) for line, variables in runs if line == statement]
        if found:
            uses[statement, name, is_after] = [register(held) for held in found]
    return uses


def name_all_axes(run, params, hparams):
    """Name the axes of every array: parameters by their sizes, the others by the comments."""
    for value in filter(lambda value: is_array(value.held), run.values):
        value.axes = [None] * len(value.shape)
        if value.maker is None and value.held.dtype == params["wte"].dtype:
            value.axes = parameter_axes(value.shape, hparams)
    for call, uses in zip(run.steps.calls, run.uses, strict=True):
        for (line, _, is_after), numbers in uses.items():
            if line not in statements(call.function) or not is_after:
                continue
            names = comment_axes(call.function, line) or reshape_axes(call.function, line)
            for number in numbers:
                value = run.values[number]
                if names and value.axes and None in value.axes:
                    value.axes = merge(value.axes, fit(names, len(value.shape)))
    name_axes([list_made_first(run, uses) for uses in run.uses])


def merge(names, others):
    return [name or other for name, other in zip(names, others or names, strict=True)]


def list_made_first(run, uses):
    """The arrays among a call's values, those that it assigned before its arguments."""
    numbers = dict.fromkeys(n for key, ns in uses.items() if key[2] for n in reversed(ns))
    numbers |= dict.fromkeys(n for ns in uses.values() for n in ns)
    values = [run.values[n] for n in numbers if is_array(run.values[n].held)]
    first = [value for value in values if value.maker is not None]
    return first + [value for value in values if value.maker is None]


def find_layer(run, index):
    """The layer that a call belongs to, or None: the number of its block."""
    blocks = [i for i, call in enumerate(run.steps.calls) if call.function == "block"]
    while index is not None and index not in blocks:
        index = run.steps.calls[index].parent
    return None if index is None else blocks.index(index)


def children(run, index, k):
    """The calls that the k-th statement of a call has made, in their order."""
    return [
        i
        for i, call in enumerate(run.steps.calls)
        if call.parent == index and call.parent_step == k
    ]


def find_purpose(run, index):
    """What a call is for, in the checkpoint's names: "ln_1", "attn", "mlp.c_fc", …"""
    call = run.steps.calls[index]
    if call.parent is None:
        return call.function
    parent = run.steps.calls[call.parent]
    statement = statements(parent.function)[parent.lines[call.parent_step]]
    among = children(run, call.parent, call.parent_step).index(index)
    name = name_call(list(model_calls(statement))[among])
    above = find_purpose(run, call.parent) if call.function == "linear" else ""
    return f"{above}.{name}" if above in ("attn", "mlp") else name


def describe_run(run):
    """The run without its numbers, for the page:

    {"calls": [{"function", "parent", "line": where that called it, "layer", "purpose",
                "uses": {"line name is_after": [value]}}],
     "steps": [[call, line]],
     "values": [{"kind": "array", "shape", "dtype", "axes", "made": [call, line, name] or None}, …]}

    A value that is no array is of kind "number" (with its "text"), "parameters" (with the values of
    its "parts") or "other".
    """
    calls = []
    for index, call in enumerate(run.steps.calls):
        uses = {f"{line} {name} {int(a)}": ns for (line, name, a), ns in run.uses[index].items()}
        layer, purpose = find_layer(run, index), find_purpose(run, index)
        line = None if call.parent is None else run.steps.calls[call.parent].lines[call.parent_step]
        described = dict(function=call.function, parent=call.parent, line=line)
        calls.append(described | dict(layer=layer, purpose=purpose, uses=uses))
    order = [[index, run.steps.calls[index].lines[k]] for index, k in run.steps.order]
    return {"calls": calls, "steps": order, "values": describe_values(run)}


def describe_values(run):
    numbers = {id(value.held): number for number, value in enumerate(run.values)}
    described = []
    for value in run.values:
        held = value.held
        if is_array(held):
            made = None
            if value.maker is not None:
                index, k, name = value.maker
                made = [index, run.steps.calls[index].lines[k], name]
            described.append(
                dict(
                    kind="array",
                    shape=list(held.shape),
                    dtype=str(held.dtype),
                    axes=value.axes,
                    made=made,
                )
            )
        elif isinstance(held, dict) and all(id(part) in numbers for part in held.values()):
            parts = {name: numbers[id(part)] for name, part in held.items()}
            described.append(dict(kind="parameters", parts=parts))
        elif held is None or isinstance(held, int | float):
            described.append(dict(kind="number", text=repr(held)))
        else:
            described.append(dict(kind="other", text=tell(held)))
    return described


def tell(held):
    """What else a variable may hold, in a few words."""
    if isinstance(held, list) and held and isinstance(held[0], dict):
        return f"the parameters of {len(held)} layers"
    return repr(held)[:60]
