"""What is shown of a run besides its variables: the stream, layer norm, the lens, surprise."""

import numpy as np

from gpt2_numpy import layer_norm, linear, log_softmax, softmax


def list_states(run):
    """The states of the residual stream, 2 * n_layer + 1 arrays [n_seq, n_embd]: as the embeddings
    start it, then after each attention and each ffn."""
    states = []
    for call in run.steps.calls:
        if call.function == "embed":
            states.append(call.returned)
        if call.function == "block":
            states += [call.after[0]["x"], call.after[1]["x"]]
    return states


def measure_stream(run):
    """How long the stream is, and what is added to it: each [n_states, n_seq].

    {"length"}                              of each state
    {"added", "along", "across"}            what led to it from the state before: its length, and
                                            how much of that lies in the direction of that state
                                            (negative against it) and across it; 0 for the first
    """
    states = np.stack(list_states(run)).astype(np.float64)
    length = np.linalg.norm(states, axis=-1)
    added = np.diff(states, axis=0, prepend=states[:1])
    before = np.concatenate([states[:1], states[:-1]])
    size = np.linalg.norm(added, axis=-1)
    direction = np.linalg.norm(before, axis=-1)
    along = (added * before).sum(axis=-1) / np.where(direction > 0, direction, 1.0)
    across = np.sqrt(np.maximum(size**2 - along**2, 0.0))
    return {"length": length, "added": size, "along": along, "across": across}


def measure_norms(run, position):
    """What each layer norm does to one position, in the order in which they run:

    [{"purpose", "call", "mean", "std", "normed_mean", "normed_std", "out_mean", "out_std"}]

    mean and std are those of what it reads, normed_… those before gain and bias, out_… those of
    what it returns.
    """
    measured = []
    for index, call in enumerate(run.steps.calls):
        if call.function == "layer_norm":
            stages = call.arguments["x"], call.after[-1]["normed"], call.returned
            names = "", "normed_", "out_"
            one = {"call": index}
            for name, stage in zip(names, stages, strict=True):
                row = stage[position].astype(np.float64)
                one |= {f"{name}mean": float(row.mean()), f"{name}std": float(row.std())}
            measured.append(one)
    return measured


def measure_habits(run):
    """Where every head looks on average, over the positions from 2 on: {"previous", "itself",
    "first"}, each the weights [n_layer, n_head] of the token before, of the token itself and of
    the first. None for a prompt of fewer than three tokens, which has no such positions."""
    calls = [call for call in run.steps.calls if call.function == "attention"]
    weights = np.stack([call.after[-1]["weights"] for call in calls])  # [n_layer, n_head, …]
    if weights.shape[-1] < 3:
        return None
    places = np.arange(2, weights.shape[-1])
    columns = {"previous": places - 1, "itself": places, "first": 0 * places}
    return {name: weights[:, :, places, c].mean(axis=-1) for name, c in columns.items()}


def read_lens(run, params):
    """The logit lens: what each state of the stream after a whole layer would say next, if the
    model ended there. {"ids", "p": its best token and that one's probability, "p_next": that of
    the token that really follows}, each [n_layer + 1, n_seq]; p_next ends with that of none, nan.
    """
    following = np.append(run.ids[1:], 0)
    ids, p, p_next = [], [], []
    for state in list_states(run)[::2]:
        logits = linear(layer_norm(state, **params["ln_f"]), params["wte"].T, b=0.0)
        probabilities = softmax(logits)
        ids.append(probabilities.argmax(axis=-1))
        p.append(probabilities.max(axis=-1))
        p_next.append(np.take_along_axis(probabilities, following[:, None], axis=-1)[:, 0])
        p_next[-1][-1] = np.nan
    return {"ids": np.stack(ids), "p": np.stack(p), "p_next": np.stack(p_next)}


def measure_surprise(run):
    """-log2 p(token) in bits for each token but the first: [n_seq - 1]."""
    logs = log_softmax(run.logits[:-1].astype(np.float64))
    chosen = np.take_along_axis(logs, run.ids[1:, None], axis=-1)
    return -chosen[:, 0] / np.log(2.0)
