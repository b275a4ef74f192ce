// The next token's distribution under temperature, top-k and top-p, drawing from it, and surprise.

import { fill, make, percent, say, spelled, written } from "./dom.js";
import { ask, writtenWith } from "./ask.js";
import { colouring, css, inkOn } from "./colours.js";
import { change, state, tokenAt, tokenOf } from "./state.js";
import { bar } from "./opened.js";

const settings = { temperature: 0.8, topK: 40, topP: 1 };
const N_SHOWN = 14;
const MOST_SURPRISE = 12; // bits, the strongest colour

// What `sample` in gpt2_numpy.py draws from: [{id, p}], the likeliest first. Temperature divides
// the logits, then only the topK best stay, then the fewest that together reach topP.
export function distribution(logits, { temperature, topK, topP }) {
  const ids = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
  if (temperature === 0) return [{ id: ids[0], p: 1 }];
  const kept = ids.slice(0, topK || ids.length);
  const exp = kept.map((id) => Math.exp((logits[id] - logits[ids[0]]) / temperature));
  const sum = exp.reduce((a, b) => a + b, 0);
  let n = 0, reached = 0;
  while (n < kept.length - 1 && (reached += exp[n] / sum) < topP) n++;
  const nucleus = exp.slice(0, n + 1);
  const total = nucleus.reduce((a, b) => a + b, 0);
  return nucleus.map((e, i) => ({ id: kept[i], p: e / total }));
}

// append(id) puts a token behind the prompt and runs it.
export async function drawNext(panel, isCurrent, append) {
  const { data: logits } = await ask("logits", { ids: state.ids, position: state.position });
  if (!isCurrent()) return;
  const bars = make("div", { class: "bars", "aria-live": "off" });
  const drawn = make("p", { class: "drawn", role: "status" });
  let current = [];
  const update = () => {
    current = distribution(logits, settings);
    fill(bars, drawBars(logits, current));
  };
  fill(panel, make("h2", {}, "What comes after ", make("code", {}, spelled(tokenAt(state.position)))),
    sliders(update), bars, drawing(() => current, append, drawn), drawn,
    make("h2", {}, "How surprising each token was"), surprise());
  update();
}

function sliders(update) {
  const nVocab = state.hparams.n_vocab;
  const row = (id, label, key, attributes, show) => {
    const output = make("output", { for: id }, show(settings[key]));
    const input = make("input", { id, type: "range", ...attributes, value: settings[key], oninput: () => {
      settings[key] = Number(input.value);
      output.textContent = show(settings[key]);
      update();
    } });
    return make("div", { class: "slider" }, make("label", { for: id }, label), input, output);
  };
  return make("div", { class: "sliders" },
    row("temperature", "temperature", "temperature", { min: 0, max: 2, step: 0.05 }, (t) => (t === 0 ? "0: greedy" : t.toFixed(2))),
    row("top-k", "top-k", "topK", { min: 0, max: Math.min(100, nVocab), step: 1 }, (k) => (k === 0 ? "all" : String(k))),
    row("top-p", "top-p", "topP", { min: 0.05, max: 1, step: 0.01 }, (p) => (p === 1 ? "1: all" : p.toFixed(2))));
}

// The likeliest tokens as the model has them (pale) and as they would be drawn.
function drawBars(logits, current) {
  const shown = new Map(current.map(({ id, p }) => [id, p]));
  const plain = distribution(logits, { temperature: 1, topK: 0, topP: 1 }).slice(0, N_SHOWN);
  const rows = plain.map(({ id, p }) => {
    const q = shown.get(id) ?? 0;
    const row = bar(spelled(tokenOf(id)), q, q === 0 ? "out" : percent(q), "attention");
    if (q === 0) row.classList.add("out");
    row.querySelector(".bar-space").prepend(make("span", { class: "bar behind", style: { width: `${100 * p}%` } }));
    row.dataset.token = id;
    row.title = `the model's own: ${percent(p)}`;
    return row;
  });
  const n = current.length;
  const note = `drawn from ${n.toLocaleString("en")} token${n === 1 ? "" : "s"}; pale: the model's own distribution`;
  return [...rows, make("p", { class: "quiet" }, note)];
}

function drawing(current, append, drawn) {
  const isLast = state.position === state.ids.length - 1;
  const one = () => {
    let left = Math.random();
    const chosen = current().find(({ p }) => (left -= p) < 0) ?? current().at(-1);
    const text = `drawn: ${spelled(tokenOf(chosen.id))} (${percent(chosen.p)})`;
    if (writtenWith) {
      drawn.textContent = `${text}. To append it and go on, run: ${writtenWith.command}`;
    } else if (isLast) {
      append(chosen.id);
      say(text);
    } else {
      drawn.textContent = `${text}. To append tokens choose the last one above.`;
    }
  };
  return make("p", {}, make("button", { id: "draw", type: "button", class: "strong", onclick: one },
    writtenWith || !isLast ? "Draw one" : "Draw one and append it"));
}

function surprise() {
  const paint = colouring(0, MOST_SURPRISE);
  const bits = state.run.surprise;
  const pieces = state.ids.map((_, i) => {
    const value = i === 0 ? null : bits[i - 1];
    const ground = value === null ? null : paint(value);
    return make("button", { type: "button", class: "surprise", "aria-pressed": String(i === state.position),
      title: value === null ? "the first token: nothing to predict it from" : `${written(Number(value.toFixed(2)))} bits: p = ${percent(2 ** -value)}`,
      style: ground ? { background: css(ground), color: inkOn(ground) } : {}, onclick: () => change({ position: i }) }, spelled(tokenAt(i)));
  });
  const mean = bits.length ? bits.reduce((a, b) => a + b, 0) / bits.length : null;
  const note = mean === null ? "One token alone: nothing was predicted yet." : `${written(Number(mean.toFixed(2)))} bits a token on average; the stronger the colour, the less the model had expected it.`;
  return make("div", {}, make("p", { class: "text" }, pieces), make("p", { class: "quiet" }, note));
}
