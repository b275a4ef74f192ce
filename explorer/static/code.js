// The source of the forward pass, in which every name can be opened.

import { byId, fill, make, refill } from "./dom.js";
import { callOf, callsOf, change, partFor, state, valueOf } from "./state.js";

// Names whose colour means what it means in the notebooks.
const MEANINGS = {
  q: "query", k: "key", v: "value", scores: "attention", weights: "attention", heads: "attention",
  hidden: "ffn", activation: "ffn", mean: "norm", centred: "norm", variance: "norm", normed: "norm",
  ids: "token", wte: "token", wpe: "position", x: "stream", qkv: "attention", mask: "attention",
};

export function drawCode() {
  const { functions, lines } = state.source;
  fill(byId("code"), functions.map((one) => drawFunction(one, lines)));
  byId("code").addEventListener("keydown", walk);
  byId("code").querySelector("button.name").tabIndex = 0;
}

function drawFunction({ name, first, last, docstring }, lines) {
  const rows = [];
  for (let number = first; number <= last; number++) rows.push(drawLine(name, number, lines[number] ?? []));
  const part = make("div", { class: "function", "data-function": name }, rows);
  if (docstring) foldDocstring(part, docstring);
  return part;
}

function foldDocstring(part, [first, last]) {
  const rows = [...part.children].filter((row) => row.dataset.line >= first && row.dataset.line <= last);
  const fold = make("button", {
    type: "button", class: "docstring", "aria-expanded": "false", "aria-label": "What it does (docstring)", tabindex: -1,
    onclick: () => {
      const isOpen = fold.getAttribute("aria-expanded") === "true";
      fold.setAttribute("aria-expanded", String(!isOpen));
      rows.forEach((row) => (row.hidden = isOpen));
    },
  }, "“…”");
  rows.forEach((row) => (row.hidden = true));
  rows[0].previousElementSibling.querySelector("code").append(fold);
}

function drawLine(functionName, number, words) {
  const code = make("code", {}, words.map((word) => drawWord(functionName, word)));
  return make("div", { class: "row", "data-line": number },
    make("span", { class: "number", "aria-hidden": "true" }, String(number)), code);
}

function drawWord(functionName, [text, kind, name, statement, isAfter]) {
  if (kind === "open") {
    const word = { function: functionName, statement, name, isAfter };
    return make("button", {
      type: "button", tabindex: -1, class: `name ${MEANINGS[name] ?? ""}`,
      "data-key": keyOf(word), onclick: () => openName(word),
    }, text);
  }
  if (kind === "call") {
    return make("button", { type: "button", tabindex: -1, class: "call", title: `Go to ${name}`,
      onclick: () => goInto(functionName, name, statement) }, text);
  }
  return kind ? make("span", { class: `is-${kind}` }, text) : text;
}

function keyOf({ function: functionName, statement, name, isAfter }) {
  return `${functionName} ${statement} ${name} ${Number(isAfter)}`;
}

// Open a name of the code.
export function openName(word) {
  change({ opened: word, tab: "array" });
}

// Go from a call in the source to the function that is called, as it ran there.
function goInto(from, name, line) {
  const parent = callOf(from)?.index;
  const isCalled = (call) => call.function === name && call.parent === parent && call.line === line;
  const called = state.run.calls.findIndex((call) => isCalled(call) && (name !== "block" || call.layer === state.layer));
  if (called < 0) return;
  change(partFor(called));
  showFunction(name);
}

// Scroll to a function, and let its first line light up.
export function showFunction(name) {
  const part = byId("code").querySelector(`[data-function=${name}]`);
  part.scrollIntoView({ block: "start", behavior: isCalm() ? "auto" : "smooth" });
  part.classList.remove("arrived");
  requestAnimationFrame(() => part.classList.add("arrived"));
}

// Where the page is too narrow for two columns, the panel lies over the code.
export function isNarrow() {
  return matchMedia("(max-width: 900px)").matches;
}

export function isCalm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

// What changes in the code when something else is looked at: which names are there, which one is
// open, which line runs, and which of several calls is shown.
export function markCode() {
  const key = state.opened && keyOf(state.opened);
  for (const button of byId("code").querySelectorAll("button.name")) {
    const [functionName, statement, name, isAfter] = button.dataset.key.split(" ");
    const word = { function: functionName, statement: Number(statement), name, isAfter: isAfter === "1" };
    button.disabled = valueOf(word) === undefined;
    button.title = button.disabled ? "This line did not run" : `Open ${name}`;
    button.classList.toggle("chosen", button.dataset.key === key);
  }
  markStep();
  for (const part of byId("code").querySelectorAll(".function")) markCalls(part);
}

function markStep() {
  const line = state.step === null ? null : state.run.steps[state.step][1];
  for (const row of byId("code").querySelectorAll(".row")) {
    row.classList.toggle("running", Number(row.dataset.line) === line);
  }
}

// Buttons for the calls of a function that is called several times in a layer.
function markCalls(part) {
  const name = part.dataset.function;
  const calls = callsOf(name);
  if (calls.length < 2) return;
  const shown = callOf(name);
  const buttons = calls.map((call) => make("button", {
    type: "button", "aria-pressed": String(call.index === shown.index),
    onclick: () => change({ purposes: { ...state.purposes, [name]: call.purpose } }),
  }, call.purpose));
  let group = part.querySelector(".calls");
  if (!group) {
    group = make("div", { class: "calls", role: "group", "aria-label": `Which call of ${name}` });
    part.prepend(group);
  }
  refill(group, make("span", { class: "quiet" }, "as called for"), buttons);
}

// The arrow keys go from name to name.
function walk(event) {
  const focused = document.activeElement;
  const buttons = [...byId("code").querySelectorAll(".row:not([hidden]) button:not(:disabled)")];
  const i = buttons.indexOf(focused);
  if (i < 0) return;
  const rowOf = (button) => button.closest(".row");
  const below = () => buttons.findIndex((button, j) => j > i && rowOf(button) !== rowOf(focused));
  const above = () => {
    const last = buttons.findLast((button, j) => j < i && rowOf(button) !== rowOf(focused));
    return last ? buttons.findIndex((button) => rowOf(button) === rowOf(last)) : -1;
  };
  const goals = { ArrowRight: () => i + 1, ArrowLeft: () => i - 1, ArrowDown: below, ArrowUp: above,
    Home: () => 0, End: () => buttons.length - 1 };
  const goal = buttons[goals[event.key]?.()];
  if (!goals[event.key]) return;
  event.preventDefault();
  if (!goal) return;
  focused.tabIndex = -1;
  goal.tabIndex = 0;
  goal.focus({ preventScroll: true });
  goal.scrollIntoView({ block: "nearest" });
}

// Scroll the line of the step that is shown into view, and no further than that.
export function followStep() {
  const row = byId("code").querySelector(".row.running");
  row?.scrollIntoView({ block: isNarrow() ? "nearest" : "center", behavior: isCalm() ? "auto" : "smooth" });
}
