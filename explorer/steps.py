"""A forward pass, line by line: every value that every variable of the model's functions had.

`trace` in look_inside.py sees the variables as they are when a function returns. Here a name is
opened at the place where it stands, and `scores` before the mask is not `scores` after it: so
Python's tracing hook (`sys.settrace`) notes the variables at every line. The two agree where a
function returns; a test holds them to the same bits.
"""

import contextlib
import sys
from dataclasses import dataclass, field

import gpt2_numpy
from explorer.source import read_functions, statement_at


@dataclass
class Call:
    """A function of the model, called once."""

    function: str
    parent: int | None  # the index of the call that it was called from
    parent_step: int | None  # the index of the statement there
    arguments: dict
    lines: list = field(default_factory=list)  # of its statements, in the order of their running
    before: list = field(default_factory=list)  # the variables before each
    after: list = field(default_factory=list)  # the variables after each
    returned: object = None


@dataclass
class Steps:
    """calls, in the order in which they began; order, the statements of all of them as they ran:
    pairs of a call's index and the index of the statement in it; and ends, the same pairs in the
    order in which the statements were done."""

    calls: list = field(default_factory=list)
    order: list = field(default_factory=list)
    ends: list = field(default_factory=list)


def record(function, *arguments, **settings):
    """Call function(*arguments, **settings), one of the model's: its result, and its Steps."""
    steps, open_calls, functions = Steps(), [], read_functions()

    def enter(frame, event, _):
        name = frame.f_code.co_name
        is_model = frame.f_globals is vars(gpt2_numpy) and name in functions
        if event != "call" or not is_model:
            return None
        parent = open_calls[-1] if open_calls else None
        parent_step = len(steps.calls[parent].lines) - 1 if open_calls else None
        open_calls.append(len(steps.calls))
        steps.calls.append(Call(name, parent, parent_step, dict(frame.f_locals)))
        return follow

    def follow(frame, event, returned):
        index = open_calls[-1]
        call = steps.calls[index]
        if event == "line":
            line = statement_at(call.function)[frame.f_lineno]
            if call.lines and call.lines[-1] == line:  # a statement of several lines
                return follow
            finish(call, index, frame)
            call.lines.append(line)
            call.before.append(dict(frame.f_locals))
            steps.order.append((index, len(call.lines) - 1))
        elif event == "return":
            finish(call, index, frame)
            call.returned = returned
            open_calls.pop()
        return follow

    def finish(call, index, frame):
        if call.lines:
            call.after.append(dict(frame.f_locals))
            steps.ends.append((index, len(call.lines) - 1))

    with tracing(enter):
        result = function(*arguments, **settings)
    return result, steps


@contextlib.contextmanager
def tracing(hook):
    """Have Python tell `hook` of this thread's calls; afterwards whoever was told before."""
    before = sys.gettrace()
    sys.settrace(hook)
    try:
        yield
    finally:
        sys.settrace(before)
