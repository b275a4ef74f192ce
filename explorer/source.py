"""The source that is shown: gpt2_numpy.py as it stands, and which of its names can be opened."""

import ast
import functools
import io
import keyword
import tokenize
from pathlib import Path

import gpt2_numpy

FIRST, LAST = "gelu", "gpt2"  # the forward pass, as it stands in the file
PATH = Path(gpt2_numpy.__file__)
COMPOUND = (ast.If, ast.For, ast.While, ast.With)


@functools.cache
def read_functions():
    """{name: its syntax tree} of the functions from FIRST to LAST, in the order of the file."""
    tree = ast.parse(PATH.read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = [function.name for function in functions]
    return {f.name: f for f in functions[names.index(FIRST) : names.index(LAST) + 1]}


def list_statements(function):
    """Every statement of a function's tree without its docstring, from the outside inwards."""
    found = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    return [node for node in found if node is not function and not is_docstring(node)]


def is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def own_nodes(statement):
    """The nodes of a statement's own line: of an `if` or a `for` its head, without its body."""
    inside = {"body", "orelse"} if isinstance(statement, COMPOUND) else set()
    for name, value in ast.iter_fields(statement):
        if name not in inside:
            for node in value if isinstance(value, list) else [value]:
                if isinstance(node, ast.AST):
                    yield from ast.walk(node)


@functools.cache
def statement_at(function_name):
    """{line: the line on which the innermost statement that has it begins} of a function."""
    places = {}
    for statement in list_statements(read_functions()[function_name]):
        last = statement.end_lineno
        if isinstance(statement, COMPOUND):
            last = statement.body[0].lineno - 1
        places |= dict.fromkeys(range(statement.lineno, last + 1), statement.lineno)
    return places


@functools.cache
def statements(function_name):
    """{line: the statement that begins there} of a function."""
    return {node.lineno: node for node in list_statements(read_functions()[function_name])}


def list_arguments(function):
    arguments = function.args
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def list_locals(function):
    """The names of a function's variables, arguments included."""
    names = {argument.arg for argument in list_arguments(function)}
    for statement in list_statements(function):
        for node in own_nodes(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    for node in ast.walk(function):
        if isinstance(node, ast.comprehension):  # its variable is not the function's
            names -= {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
    return names


@functools.cache
def occurrences(function_name):
    """Each place where a variable of a function can be opened: (line, column, name, statement,
    is_after), in which statement is the line where the statement begins, and is_after says whether
    the value after it is meant (where it is assigned) or the one before it (where it is read).

    "return" stands for what is returned; the statement of the arguments is the `def` itself.
    """
    function, found = read_functions()[function_name], []
    for argument in list_arguments(function):
        found.append((*place(argument), argument.arg, function.lineno, True))
    variables = list_locals(function)
    for statement in list_statements(function):
        if isinstance(statement, ast.Return):
            found.append((*place(statement), "return", statement.lineno, True))
        for node in own_nodes(statement):
            if isinstance(node, ast.Name) and node.id in variables:
                is_after = isinstance(node.ctx, ast.Store)
                found.append((*place(node), node.id, statement.lineno, is_after))
    return sorted(found)


def place(node):
    """Line and column, in characters: the syntax tree counts bytes."""
    line = read_lines()[node.lineno - 1]
    return node.lineno, len(line.encode()[: node.col_offset].decode())


@functools.cache
def read_lines():
    return PATH.read_text("utf-8").splitlines()


def model_calls(statement):
    """The calls of the model's functions in a statement, in the order in which they run: what
    stands inside the brackets of a call runs before it."""

    def visit(node):
        for child in ast.iter_child_nodes(node):
            yield from visit(child)
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in read_functions():
            yield node

    inside = statement.body if isinstance(statement, COMPOUND) else []
    for child in ast.iter_child_nodes(statement):
        if child not in inside:
            yield from visit(child)


def name_call(call):
    """What a call is for, as its arguments say: layer_norm(x, **ln_1) is "ln_1", and where nothing
    is unpacked it is the name of the function."""
    unpacked = [k.value.id for k in call.keywords if k.arg is None and hasattr(k.value, "id")]
    if unpacked and unpacked[0] != "parameters":
        return unpacked[0]
    return "wte.T" if "wte.T" in map(ast.unparse, call.args) else call.func.id


KINDS = {tokenize.COMMENT: "comment", tokenize.STRING: "string", tokenize.NUMBER: "number"}


def list_words():
    """{line: [(column, text, kind)]} of the whole file; kind is "keyword", "comment", "string",
    "number", "name" or "". A string of several lines is given line by line."""
    words = {}
    for token in tokenize.generate_tokens(io.StringIO(PATH.read_text("utf-8")).readline):
        kind = KINDS.get(token.type, "name" if token.type == tokenize.NAME else "")
        if kind == "name" and keyword.iskeyword(token.string):
            kind = "keyword"
        if token.type in (tokenize.INDENT, tokenize.DEDENT) or not token.string.strip():
            continue
        for i, text in enumerate(token.string.split("\n")):
            column = token.start[1] if i == 0 else 0
            words.setdefault(token.start[0] + i, []).append((column, text, kind))
    return words


@functools.cache
def describe():
    """The source for the page, in which the numbers of lines are the file's:

    {"file", "functions": [{"name", "first", "last", "docstring": [first, last] or None}],
     "lines": {number: [[text, kind, name, statement, is_after]]}}

    kind is as in `list_words`, or "open" for a variable that can be opened, or "call" for one of
    the functions; the last three are for these alone (a call has its name and its statement).
    """
    words, functions, lines = list_words(), [], {}
    for name, function in read_functions().items():
        text = function.body[0] if is_docstring(function.body[0]) else None
        docstring = [text.lineno, text.end_lineno] if text else None
        last = find_last_line(function)
        functions.append(dict(name=name, first=function.lineno, last=last, docstring=docstring))
        for number in range(function.lineno, last + 1):
            lines[number] = describe_line(name, number, words.get(number, []))
    return {"file": PATH.name, "functions": functions, "lines": lines}


def find_last_line(function):
    """The line of a function's last statement, or of the comments that follow it."""
    lines, last = read_lines(), function.end_lineno
    while last < len(lines) and lines[last].startswith("    #"):
        last += 1
    return last


def describe_line(function_name, number, words):
    """One line as a list of words, the spaces between them among these."""
    opened = {o[1]: o[2:] for o in occurrences(function_name) if o[0] == number}
    calls = {}
    for line, statement in statements(function_name).items():
        calls |= {place(c): (c.func.id, line) for c in model_calls(statement)}
    pieces, end = [], 0
    for column, text, kind in words:
        if column > end:
            pieces.append([" " * (column - end)])
        if column in opened:
            pieces.append([text, "open", *opened[column]])
        elif (number, column) in calls:
            pieces.append([text, "call", *calls[number, column]])
        else:
            pieces.append([text, kind] if kind else [text])
        end = column + len(text)
    return pieces
