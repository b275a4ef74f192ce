"""Looking inside: every variable of the forward pass by its own name.

    seen = trace(ids, params, n_head)
    seen["blocks"][3]["attention"]["weights"]        [..., n_head, n_seq, n_seq]

The model's functions know nothing of it. Python tells a profiling hook (`sys.setprofile`) when a
function returns, while its variables are still there: here they are kept, and with them everything
that was computed stays in memory. It is for looking, never for training.
"""

import contextlib
import inspect
import sys

import gpt2_numpy
from gpt2_numpy import check_ids, gpt2


class LookError(RuntimeError):
    """Another profiler has the place that looking inside needs; the message says what to do."""


def trace(ids, params, n_head, names=None):
    """One forward pass with everything that it computed on the way, as a nested dict.

    {"logits":   [..., n_seq, n_vocab],
     "residual": 2 * n_layer + 1 states of the residual stream, each [..., n_seq, n_embd]: as the
                 embeddings start it, then after each attention and each ffn,
     "blocks":   for each layer a dict of its functions' variables: "ln_1", "mha", "attention",
                 "softmax", "ln_2", "ffn", "gelu" and "block",
     "ln_f", "embed", "gpt2": the variables of these}

    What a function returned stands beside its variables as "return", a keyword, so that no variable
    has this name. names, if given, are all that is kept; for "residual" they must hold "x".
    GPT2Error as from `gpt2`, and when an id is not in the vocabulary; LookError as from `look`.
    """
    logits, seen = look(gpt2, check_ids(ids, params), **params, n_head=n_head, names=names)
    norms = seen["layer_norm"]
    seen |= {"ln_1": norms[0:-1:2], "ln_2": norms[1::2]}
    parts = ("ln_1", "mha", "attention", "softmax", "ln_2", "ffn", "gelu", "block")
    blocks = [{name: seen[name][i] for name in parts} for i in range(len(params["blocks"]))]
    residual = [norm["x"] for norm in norms if "x" in norm]
    whole = {"ln_f": norms[-1], "embed": seen["embed"][0], "gpt2": seen["gpt2"][0]}
    return {"logits": logits, "residual": residual, "blocks": blocks} | whole


def look(function, *arguments, names=None, **settings):
    """Call function(*arguments, **settings), which is, or is made of, functions of the model: its
    result, and what was seen.

    That is a dict with a list for each function, of the model and of the module that `function` is
    from: the variables of its first call, of its second, and so on. They are dicts, with the result
    as "return"; names, if given, are all that is kept of them.

        y, seen = look(block, x, **params["blocks"][0], n_head=n_head)
        seen["layer_norm"][1]["mean"]                [..., n_seq, 1]

    It sees the calls of its own thread. Another profiling hook goes on seeing everything, too, and
    is alone again afterwards, whatever happens; where that cannot be, LookError: cProfile before
    Python 3.12, and profilers like it, have a hook that no other can stand beside.
    """
    modules = {id(vars(gpt2_numpy)), id(getattr(inspect.unwrap(function), "__globals__", None))}
    seen = {}

    def keep(frame, event, returned):
        name = frame.f_code.co_qualname.rpartition("<locals>.")[2]
        is_generator = frame.f_code.co_flags & inspect.CO_GENERATOR
        if event != "return" or id(frame.f_globals) not in modules:
            return
        if is_generator or name.startswith("<"):  # such as <listcomp>, a part of a function
            return
        variables = {**frame.f_locals, "return": returned}
        if names is not None:
            variables = {key: variables[key] for key in variables if key in names}
        seen.setdefault(name, []).append(variables)

    with profiling(keep):
        result = function(*arguments, **settings)
    return result, seen


@contextlib.contextmanager
def profiling(hook):
    """Tell `hook` of this thread's calls and returns, beside the hook that was there before."""
    before = sys.getprofile()
    if before is not None and not callable(before):
        raise LookError(
            f"a profiler is running ({type(before).__name__}) that lets no other hook stand beside "
            "it; look inside before it starts or after it ends"
        )

    def both(frame, event, argument):
        hook(frame, event, argument)
        if before is not None:
            before(frame, event, argument)

    sys.setprofile(both)
    try:
        yield
        if sys.getprofile() is not both:
            raise LookError("a profiler was started while looking inside; start it before or after")
    finally:
        sys.setprofile(before)
