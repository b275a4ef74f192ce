"""Trees of parameters as flat dicts, for files that hold arrays by name."""


def flatten(tree):
    """{path: leaf} of any nesting of dicts and lists, such as {"blocks/0/attn/c_attn/w": array}."""
    if not isinstance(tree, dict | list):
        return {"": tree}
    children = tree.items() if isinstance(tree, dict) else enumerate(tree)
    named = {}
    for key, child in children:
        for path, leaf in flatten(child).items():
            named[f"{key}/{path}" if path else str(key)] = leaf
    return named


def unflatten(named):
    """The tree whose `flatten` is `named`; where all keys of a level are 0, 1, 2, ..., a list."""
    if list(named) == [""]:
        return named[""]
    groups = {}
    for path, leaf in named.items():
        key, _, rest = path.partition("/")
        groups.setdefault(key, {})[rest] = leaf
    tree = {key: unflatten(group) for key, group in groups.items()}
    if tree and set(tree) == {str(i) for i in range(len(tree))}:
        return [tree[str(i)] for i in range(len(tree))]
    return tree
