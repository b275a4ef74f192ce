"""How a number came about: its line of source, with numbers for names.

The line is taken apart as a syntax tree. What is computed cell by cell (+, √, exp, …) is kept as a
formula; its leaves are arrays, a cell of which can be looked up: variables, results of the model's
functions, and sums and means along an axis. A sum of products (`np.einsum`, `@`) is a leaf, too,
whose terms can be asked for.
"""

import ast

import numpy as np

import gpt2_numpy
from explorer.axes import is_array
from explorer.run import children
from explorer.source import model_calls, read_functions, statements

SIGNS = {ast.Add: ("+", 1), ast.Sub: ("−", 1), ast.Mult: ("·", 2), ast.Div: ("/", 2)}
ATOM = 3  # binds tighter than any sign
FUNCTIONS = {"np.sqrt": "√", "math.sqrt": "√", "np.tanh": "tanh", "np.exp": "exp"}
REDUCTIONS = {"sum": "sum of", "mean": "mean of", "max": "largest of"}
N_TERMS = 8


class Line:
    """A statement that was run: its expression, and the variables before it."""

    def __init__(self, run, index, k):
        self.run, self.index, self.k = run, index, k
        self.call = run.steps.calls[index]
        self.statement = statements(self.call.function)[self.call.lines[k]]
        self.variables = self.call.before[k]

    def evaluate(self, node):
        """The value of a part of the line, of the model's own source, that calls none of its
        functions."""
        code = compile(ast.Expression(node), "<line>", "eval")
        return eval(code, vars(gpt2_numpy), self.variables)

    def called(self, node):
        """What a call of one of the model's functions in this line returned."""
        among = list(model_calls(self.statement)).index(node)
        return self.run.steps.calls[children(self.run, self.index, self.k)[among]].returned


def explain(run, number):
    """How the array with this number came about, or None where the code does not make it:

    {"lines": [{"name", "value", "parts", "terms"}]}
                the variable and its number; its formula: texts, and between them leaves, [label,
                array] with the array's number, or "number.leaf"; and whether `list_terms` has terms
    {"note"}    in words, where there is no formula

    The first line is that of the array itself, the others those of the variables in it, as far as
    they are of the same function.
    """
    maker = run.values[number].maker
    if maker is None:
        return None
    lines, wanted, seen = [], [number], set()
    while wanted:
        current = wanted.pop(0)
        if current in seen:
            continue
        seen.add(current)
        parts, leaves = take_apart(run, current)
        if parts is None:
            if not lines:
                return {"note": describe_move(run, current)}
            continue
        name, terms = run.values[current].maker[2], has_terms(run, current) is not None
        lines.append({"name": name, "value": current, "parts": parts, "terms": terms})
        wanted += [leaf for leaf in leaves if is_made_in(run, leaf, maker[0])]
    return {"lines": lines}


def is_made_in(run, number, index):
    return isinstance(number, int) and (run.values[number].maker or [None])[0] == index


def take_apart(run, number):
    """The parts of the formula of an array, and the numbers of its leaves; None, [] where its line
    is no formula."""
    line = Line(run, *run.values[number].maker[:2])
    leaves = list_leaves(line, number)
    if leaves is None:
        return None, []
    parts = join(format_node(line, strip_reshape(line.statement.value), leaves, number)[0])
    return parts, [leaf_number(run, number, i, leaf) for i, leaf in enumerate(leaves)]


def strip_reshape(node):
    """`(rows @ w + b).reshape(…)` without its reshape: the numbers stay in their order."""
    is_reshape = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "reshape"
    return node.func.value if is_reshape and isinstance(node.func.value, ast.BinOp) else node


def list_leaves(line, number):
    """The arrays of a line's formula, as pairs of syntax tree and array; None where it is none."""
    known = line.run.leaves
    if number not in known:
        known[number] = find_leaves(line, number)
    return known[number]


def find_leaves(line, number):
    statement = line.statement
    if not isinstance(statement, ast.Assign | ast.Return):
        return None
    if isinstance(getattr(statement, "targets", [None])[0], ast.Tuple):
        return None
    shape = line.run.values[number].shape
    leaves = []
    for node in walk_leaves(line, strip_reshape(statement.value)):
        held = line.called(node) if is_model_call(node) else line.evaluate(node)
        if is_array(held):
            if not fits(held.shape, shape):
                return None
            leaves.append((node, held))
    alone = len(leaves) == 1 and leaves[0][0] is statement.value
    is_move = alone and find_terms(leaves[0][0]) is None and not is_reduction(leaves[0][0])
    return None if is_move or not leaves else leaves


def fits(shape, whole):
    """Whether an array of this shape has a cell for each of the whole: by broadcasting, or because
    it has as many."""
    if np.prod(shape) == np.prod(whole):
        return True
    try:
        return np.broadcast_shapes(shape, whole) == whole
    except ValueError:
        return False


def walk_leaves(line, node):
    """The nodes below which there is no formula any more."""
    if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
        yield from walk_leaves(line, node.left)
        yield from walk_leaves(line, node.right)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in FUNCTIONS:
        yield from walk_leaves(line, node.args[0])
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "np.where":
        for argument in node.args:
            yield from walk_leaves(line, argument)
    elif not isinstance(node, ast.Constant):
        yield node


def is_model_call(node):
    return isinstance(node, ast.Call) and getattr(node.func, "id", None) in read_functions()


def is_reduction(node):
    return isinstance(node, ast.Call) and getattr(node.func, "attr", None) in REDUCTIONS


def find_terms(node):
    """The two operands of a sum of products, as nodes with the subscripts; None for others."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return node.left, node.right, "rn,nc->rc"
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.einsum":
        return node.args[1], node.args[2], node.args[0].value
    return None


def leaf_number(run, number, i, leaf):
    """A leaf's number: its own where it is an array of the run, else "number.i"."""
    for other, value in enumerate(run.values):
        if value.held is leaf[1]:
            return other
    return f"{number}.{i}"


def format_node(line, node, leaves, number):
    """A node as a list of parts, and how tightly it binds."""
    for i, leaf in enumerate(leaves):
        if leaf[0] is node:
            return [[label(line, node), leaf_number(line.run, number, i, leaf)]], ATOM
    if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
        sign, strength = SIGNS[type(node.op)]
        left, right = (format_node(line, n, leaves, number) for n in (node.left, node.right))
        is_first = isinstance(node.op, ast.Add | ast.Mult)
        parts = [*bracket(left, strength), f" {sign} "]
        return parts + bracket(right, strength + (not is_first)), strength
    if isinstance(node, ast.Call) and ast.unparse(node.func) in FUNCTIONS:
        inside, strength = format_node(line, node.args[0], leaves, number)
        name = FUNCTIONS[ast.unparse(node.func)]
        if name == "√" and strength == ATOM:
            return ["√", *inside], ATOM
        return [f"{name}(", *inside, ")"], ATOM
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.where":
        shown = [format_node(line, argument, leaves, number)[0] for argument in node.args]
        return ["where(", *shown[0], ", ", *shown[1], ", ", *shown[2], ")"], ATOM
    if ast.unparse(node) in ("math.pi", "-np.inf"):
        return [{"math.pi": "π", "-np.inf": "−∞"}[ast.unparse(node)]], ATOM
    value = node.value if isinstance(node, ast.Constant) else line.evaluate(node)
    return [f"{value:g}"], ATOM


def bracket(formatted, strength):
    parts, own = formatted
    return ["(", *parts, ")"] if own < strength else parts


def join(parts):
    """The parts with neighbouring texts made one."""
    joined = []
    for part in parts:
        if joined and isinstance(part, str) and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def label(line, node):
    """What a leaf is called."""
    if isinstance(node, ast.Name):
        return node.id
    if operands := find_terms(node):
        return " · ".join(ast.unparse(operand) for operand in operands[:2])
    if is_model_call(node):
        return f"{node.func.id}(…)"
    if is_reduction(node):
        inside = node.func.value
        n = line.evaluate(inside).shape[-1]
        name = ast.unparse(inside).replace(" * ", "·")
        return f"{REDUCTIONS[node.func.attr]} {name} over {n}"
    return ast.unparse(node)


def describe_move(run, number):
    """What a line that is no formula does, in words."""
    line = Line(run, *run.values[number].maker[:2])
    text = ast.unparse(line.statement.value)
    if text.startswith("np.tri"):
        return "True where the key does not come after the query"
    if text.startswith("np.asarray"):
        return "the ids as an array"
    names = [n.id for n in ast.walk(line.statement.value) if isinstance(n, ast.Name)]
    source = next(name for name in names if is_array(line.variables.get(name)))
    return f"the numbers of {source}, in another arrangement"


def find_array(run, name):
    """The array that a page's name for it stands for: a number, or "number.leaf". KeyError."""
    number, _, i = str(name).partition(".")
    value = run.values[as_index(number, run.values)]
    if not is_array(value.held):
        raise KeyError(name)
    if not i:
        return value.held
    leaves = list_leaves(Line(run, *value.maker[:2]), int(number)) if value.maker else None
    return leaves[as_index(i, leaves or [])][1].reshape(leaf_shape(value, leaves, int(i)))


def leaf_shape(value, leaves, i):
    """A leaf of as many cells as the whole gets its shape."""
    shape = leaves[i][1].shape
    return value.shape if np.prod(shape) == np.prod(value.shape) else shape


def as_index(text, things):
    if not text.isdecimal() or len(text) > 9 or int(text) >= len(things):
        raise KeyError(text)
    return int(text)


def has_terms(run, number):
    """The leaf of an array whose terms can be asked for, as an index; None where there is none."""
    value = run.values[number]
    if value.maker is None or not is_array(value.held):
        return None
    for i, (node, _) in enumerate(list_leaves(Line(run, *value.maker[:2]), number) or []):
        if find_terms(node):
            return i
    return None


def list_terms(run, number, cell, n_terms=N_TERMS):
    """The products whose sum a cell (an index into the flat array) is made of, largest first:

    {"names": [a, b], "axis", "terms": [[where, a, b, product]], "n", "rest"}

    axis is "position" or "feature": what `where` counts; rest is the sum of the n - n_terms others.
    KeyError where there is no such sum.
    """
    leaf, value = has_terms(run, number), run.values[number]
    if leaf is None or not 0 <= cell < np.prod(value.shape):
        raise KeyError(number)
    line = Line(run, *value.maker[:2])
    node = list_leaves(line, number)[leaf][0]
    left, right, subscripts = find_terms(node)
    a, b, axis = pick_operands(line, left, right, subscripts, value.shape, cell)
    products = a.astype(np.float64) * b
    best = np.argsort(-np.abs(products), kind="stable")[:n_terms]
    terms = [[int(i), float(a[i]), float(b[i]), float(products[i])] for i in best]
    rest = float(products.sum() - products[best].sum())
    names = [ast.unparse(left), ast.unparse(right)]
    return {"names": names, "axis": axis, "terms": terms, "n": len(products), "rest": rest}


def pick_operands(line, left, right, subscripts, shape, cell):
    """The two vectors whose product, added up, makes one cell; and what they run along."""
    a, b = line.evaluate(left), line.evaluate(right)
    if subscripts == "rn,nc->rc":
        row, column = divmod(cell, b.shape[-1])
        return a.reshape(-1, a.shape[-1])[row], b[:, column], "feature"
    inputs, output = subscripts.replace("...", "").split("->")
    *batch, i, j = np.unravel_index(cell, shape)
    place = dict(zip(output, (i, j), strict=True))
    vectors = []
    for letters, operand in zip(inputs.split(","), (a, b), strict=True):
        index = tuple(place.get(letter, slice(None)) for letter in letters)
        vectors.append(operand[(*batch, *index)])
    (summed,) = set(inputs) - set(output) - {","}
    return *vectors, "position" if summed == "k" else "feature"


def tabulate_terms(run, number, n_terms=4):
    """`list_terms` of all cells of an einsum at once: {"names", "axis", "n"}, and "where", "a",
    "b", "product" [n_cells, n_terms] and "rest" [n_cells]."""
    line = Line(run, *run.values[number].maker[:2])
    leaves = list_leaves(line, number)
    left, right, subscripts = find_terms(leaves[has_terms(run, number)][0])
    inputs, output = subscripts.replace("...", "").split("->")
    (summed,) = set(inputs) - set(output) - {","}
    apart = f"{subscripts.partition('->')[0]}->...{output}{summed}"
    a, b = (line.evaluate(node).astype(np.float64) for node in (left, right))
    whole = np.einsum(apart, a, np.ones_like(b)), np.einsum(apart, np.ones_like(a), b)
    a, b = (array.reshape(-1, array.shape[-1]) for array in whole)
    products = a * b
    where = np.argsort(-np.abs(products), axis=-1, kind="stable")[:, :n_terms]
    a, b, best = (np.take_along_axis(array, where, axis=-1) for array in (a, b, products))
    return {
        "names": [ast.unparse(left), ast.unparse(right)],
        "axis": "position" if summed == "k" else "feature",
        "n": products.shape[-1],
        "where": where,
        "a": a,
        "b": b,
        "product": best,
        "rest": products.sum(axis=-1) - best.sum(axis=-1),
    }
