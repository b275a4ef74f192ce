// The page: what is asked for when, and which part of it is drawn anew.

import { byId, choice, fill, make, refill, spelled, whileBusy } from "./dom.js";
import { ask, Refusal, writtenWith } from "./ask.js";
import { change, listen, partFor, state, tokenOf } from "./state.js";
import { drawCode, followStep, isNarrow, markCode } from "./code.js";
import { drawOpened } from "./opened.js";
import { drawAttention } from "./attention.js";
import { drawStream } from "./stream.js";
import { drawNext } from "./next.js";
import { drawWhatIf, forgetChanges } from "./what_if.js";
import { drawGradients } from "./gradients.js";

const PAUSE = 60; // milliseconds after the last key before the model runs

const TABS = {
  array: ["Numbers", drawOpened],
  attention: ["Attention", drawAttention],
  stream: ["Stream, norm", drawStream],
  next: ["Next", (panel, isCurrent) => drawNext(panel, isCurrent, append)],
  "what-if": ["What if", drawWhatIf],
  gradients: ["Gradients", drawGradients],
};

async function start() {
  const model = await ask("model");
  const { tokens } = await ask("vocabulary");
  const { n_layer, n_head, n_embd } = model.hparams;
  Object.assign(state, { hparams: model.hparams, source: model.source, tokens });
  const where = writtenWith ? ["   in one file; for your own prompt: ", make("code", {}, writtenWith.command)] : [];
  fill(byId("model"), make("code", {}, model.name), `   ${n_layer} layers × ${n_head} heads, ${n_embd} features`, where);
  drawCode();
  drawTabs();
  connect();
  listen(drawPage);
  byId("prompt").value = model.prompt;
  fitPrompt();
  await run(model.prompt, true);
}

// What is asked about a prompt that has been replaced meanwhile is of no interest any more.
let newest = 0;

async function run(text, isFirst = false) {
  const turn = ++newest;
  await whileBusy(() => report(async () => {
    const { ids } = await ask("tokens", { text });
    if (turn !== newest) return;
    drawTokens(ids, ids.length - 1);
    if (!isFirst) await new Promise((resolve) => setTimeout(resolve, PAUSE));
    if (turn === newest) await show(ids, turn, isFirst);
  }, turn));
}

async function show(ids, turn, isFirst = false) {
  const answer = await ask("run", { ids });
  if (turn !== newest) return;
  forgetChanges();
  const layer = Math.min(state.layer, state.hparams.n_layer - 1);
  Object.assign(state, { ids, run: answer, position: ids.length - 1, step: null, layer });
  if (isFirst) state.opened = firstOpened();
  change({ ids });
  if (isFirst && !isNarrow()) byId("code").querySelector("[data-function=attention]").scrollIntoView({ block: "start" });
}

// At the beginning attention's weights are open.
function firstOpened() {
  const call = state.run.calls.find((one) => one.function === "attention");
  const key = Object.keys(call.uses).find((one) => one.split(" ")[1] === "weights");
  return { function: "attention", statement: Number(key.split(" ")[0]), name: "weights", isAfter: true };
}

async function report(work, turn) {
  try {
    await work();
    if (turn === newest) setMessage("");
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (turn === newest) setMessage(error.message);
  }
}

function setMessage(text) {
  byId("message").textContent = text;
  document.body.classList.toggle("refused", text !== "");
}

async function append(id) {
  const turn = ++newest;
  const ids = [...state.ids, id];
  await whileBusy(() => report(async () => {
    await show(ids, turn);
    byId("prompt").value = (await ask("text", { ids })).text;
    fitPrompt();
  }, turn));
}

function drawTokens(ids, position) {
  const chips = ids.map((id, i) => make("button", {
    type: "button", class: `chip tint-${i % 4}`, "aria-pressed": String(i === position),
    "aria-label": `Token ${i}: ${tokenOf(id)}, id ${id}`, onclick: () => change({ position: i }),
  }, make("span", { class: "piece" }, spelled(tokenOf(id))), make("span", { class: "id" }, String(id))));
  const row = byId("tokens");
  refill(row, chips);
  const chosen = chips[position]; // in sight, without moving the page
  if (chosen && row.scrollWidth > row.clientWidth) row.scrollLeft = chosen.offsetLeft - row.offsetLeft - row.clientWidth / 2;
}

let lastDrawing = 0;

function drawPage(changed) {
  if (changed.has("ids") || changed.has("position")) drawTokens(state.ids, state.position);
  const { n_layer, n_head } = state.hparams;
  const of = (n) => [...Array(n).keys()];
  refill(byId("layers"), choice("Layer", of(n_layer), state.layer, (layer) => change({ layer })));
  refill(byId("heads"), choice("Head", of(n_head), state.head, (head) => change({ head })));
  byId("step").textContent = state.step === null ? `${state.run.steps.length} lines ran` : `${state.step + 1} of ${state.run.steps.length}`;
  byId("where").textContent = state.step === null ? "" : stack();
  for (const name of ["layer-back", "step-back"]) byId(name).disabled = state.step === null;
  markCode();
  for (const tab of byId("tabs").children) tab.setAttribute("aria-selected", String(tab.dataset.tab === state.tab));
  for (const tab of byId("tabs").children) tab.tabIndex = tab.dataset.tab === state.tab ? 0 : -1;
  if (changed.has("tab")) showTab();
  drawPanel();
}

// Where not all tabs fit, the chosen one is in sight.
function showTab() {
  const tabs = byId("tabs");
  const chosen = byId(`tab-${state.tab}`);
  tabs.scrollLeft = chosen.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - chosen.offsetWidth) / 2;
}

// The view that is chosen; what was there stays until it is ready, so that nothing jumps.
async function drawPanel() {
  const turn = ++lastDrawing;
  const panel = byId("panel");
  const focused = keyOfFocus(panel);
  const isCurrent = () => turn === lastDrawing;
  try {
    await whileBusy(() => TABS[state.tab][1](panel, isCurrent));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (isCurrent()) fill(panel, make("p", { class: "quiet" }, error.message));
  }
  if (isCurrent() && panel.dataset.tab !== state.tab) panel.scrollTop = 0;
  if (isCurrent()) panel.dataset.tab = state.tab;
  if (isCurrent() && focused) focusAgain(panel, focused);
}

// A control that is drawn anew keeps the focus: it is found by its place among its like.
function keyOfFocus(panel) {
  const controls = [...panel.querySelectorAll("button, input, canvas[tabindex]")];
  const i = controls.indexOf(document.activeElement);
  return i < 0 ? null : { i, tag: controls[i].tagName, label: labelOf(controls[i]) };
}

function labelOf(control) {
  return control.id || control.dataset.change || control.getAttribute("aria-label") || control.textContent;
}

function focusAgain(panel, { i, tag, label }) {
  if (document.activeElement !== document.body) return;
  const controls = [...panel.querySelectorAll("button, input, canvas[tabindex]")];
  const same = controls.find((one) => one.tagName === tag && labelOf(one) === label);
  (same ?? controls[i] ?? panel).focus({ preventScroll: true });
}

// Which function calls which, down to the line that runs.
function stack() {
  const [index, line] = state.run.steps[state.step];
  const names = [];
  for (let i = index; i !== null; i = state.run.calls[i].parent) {
    const { function: name, layer, purpose } = state.run.calls[i];
    names.unshift(name === "block" ? `block ${layer}` : purpose === name ? name : `${name} (${purpose})`);
  }
  return `${names.join(" › ")} › line ${line}`;
}

function goToStep(step) {
  const { steps } = state.run;
  step = Math.max(0, Math.min(steps.length - 1, step));
  const [index, line] = steps[step];
  const call = state.run.calls[index];
  const part = partFor(index);
  const ranBefore = steps.slice(0, step).filter(([i, other]) => i === index && other === line).length;
  if (call.layer === null && ranBefore > 0 && ranBefore < state.hparams.n_layer) part.layer = ranBefore;
  const made = Object.keys(call.uses).find((key) => key.startsWith(`${line} `) && key.endsWith(" 1"));
  const opened = made ? { function: call.function, statement: line, name: made.split(" ")[1], isAfter: true } : state.opened;
  change({ ...part, step, opened, tab: "array" });
  followStep();
}

// The first step of the next layer, or of the one before.
function goToLayer(way) {
  const { steps, calls } = state.run;
  const from = state.step ?? 0;
  const starts = steps.map(([index], step) => ({ index, step })).filter(({ index, step }) =>
    calls[index].function === "block" && (step === 0 || steps[step - 1][0] < index) && isFirstOf(index, step));
  const goal = way > 0 ? starts.find(({ step }) => step > from) : starts.findLast(({ step }) => step < from);
  goToStep(goal ? goal.step : way > 0 ? steps.length - 1 : 0);
}

function isFirstOf(index, step) {
  return state.run.steps.findIndex(([other]) => other === index) === step;
}

function drawTabs() {
  const tabs = Object.entries(TABS).map(([name, [label]]) => make("button", {
    type: "button", role: "tab", id: `tab-${name}`, "data-tab": name, "aria-controls": "panel", onclick: () => change({ tab: name }),
  }, label));
  fill(byId("tabs"), tabs);
  byId("tabs").addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const i = tabs.findIndex((tab) => tab.dataset.tab === state.tab);
    const next = tabs[(i + way + tabs.length) % tabs.length];
    change({ tab: next.dataset.tab });
    next.focus();
  });
}

function fitPrompt() {
  const prompt = byId("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(120, prompt.scrollHeight + 2)}px`;
}

function connect() {
  const prompt = byId("prompt");
  prompt.addEventListener("input", () => {
    fitPrompt();
    run(prompt.value);
  });
  byId("ask").addEventListener("submit", (event) => event.preventDefault());
  byId("step-on").addEventListener("click", () => goToStep(state.step === null ? 0 : state.step + 1));
  byId("step-back").addEventListener("click", () => goToStep(state.step - 1));
  byId("layer-on").addEventListener("click", () => goToLayer(1));
  byId("layer-back").addEventListener("click", () => goToLayer(-1));
  byId("fold").addEventListener("click", () => setFolded(byId("fold").getAttribute("aria-expanded") === "true"));
  listen((changed) => changed.has("opened") && setFolded(false));
  listen((changed) => changed.has("tab") && setFolded(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.run && change({}));
}

function setFolded(isFolded) {
  byId("side").classList.toggle("folded", isFolded);
  byId("fold").setAttribute("aria-expanded", String(!isFolded));
}

whileBusy(start).catch((error) => {
  setMessage(error instanceof Refusal ? error.message : `the page has a bug: ${error.message}`);
  throw error;
});
