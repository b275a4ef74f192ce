// What is looked at just now; whoever draws a part of the page listens.

export const state = {
  ids: [], run: null, position: 0, layer: 0, head: 0,
  purposes: {}, // of a function that is called several times in a layer, which call is shown
  opened: null, // {function, statement, name, isAfter}: a name in the code
  step: null, // an index into the lines in the order in which they ran
  tab: "array",
  hparams: null, source: null, tokens: {}, model: "",
};

const listeners = [];

export function listen(listener) {
  listeners.push(listener);
}

// Change a part of the state; listeners are told which names were given.
export function change(part) {
  Object.assign(state, part);
  for (const listener of listeners) listener(new Set(Object.keys(part)));
}

export function tokenOf(id) {
  return state.tokens[id] ?? `#${id}`;
}

export function tokenAt(position) {
  return tokenOf(state.ids[position]);
}

export function callsOf(name) {
  return state.run.calls
    .map((call, index) => ({ ...call, index }))
    .filter((call) => call.function === name && (call.layer === null || call.layer === state.layer));
}

// The call of a function that is shown: in the chosen layer, the one for the chosen purpose.
export function callOf(name) {
  const calls = callsOf(name);
  return calls.find((call) => call.purpose === state.purposes[name]) ?? calls[0];
}

// The number of the value that a name in the code had, or undefined where its line did not run.
export function valueOf({ function: name, statement, name: variable, isAfter }) {
  const values = callOf(name)?.uses[`${statement} ${variable} ${Number(isAfter)}`];
  return values && values[Math.min(values.length === 1 ? 0 : state.layer, values.length - 1)];
}

// The value of a variable of a function when it ends, in a layer.
export function valueIn(functionName, variable, layer) {
  const call = state.run.calls.find((one) => one.function === functionName && one.layer === layer);
  const key = Object.keys(call.uses).findLast((one) => one.split(" ")[1] === variable);
  return call.uses[key].at(-1);
}

// Show a call: its layer, and which call of its function.
export function partFor(index) {
  const call = state.run.calls[index];
  const purposes = { ...state.purposes, [call.function]: call.purpose };
  return { layer: call.layer ?? state.layer, purposes };
}

const POSITIONS = ["n_seq", "n_queries", "n_keys", "n_past + n_seq", "n_rows", "n_ctx"];

export function isPositions(axis, size) {
  return POSITIONS.includes(axis) && size === state.ids.length;
}
