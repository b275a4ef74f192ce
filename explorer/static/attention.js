// All heads of all layers as thumbnails, and one of them large, as a map or as lines.

import { byId, choice, fill, make, percent, spelled } from "./dom.js";
import { ask } from "./ask.js";
import { change, state, tokenAt, valueIn } from "./state.js";
import { openName } from "./code.js";
import { picture, thumbnail } from "./picture.js";

const view = { form: "map", average: false };
const FEW = 40; // tokens between which all lines are drawn
const FAINT = 0.02; // weights that get no line

export async function drawAttention(panel, isCurrent) {
  const layers = [...Array(state.hparams.n_layer).keys()];
  const weights = await Promise.all(layers.map((layer) => askWeights(layer)));
  const [mask, habits] = await Promise.all([askCausalMask(), ask("habits", { ids: state.ids })]);
  const shown = view.average ? await askWeights(state.layer, true) : weights[state.layer];
  if (!isCurrent()) return;
  const n = state.ids.length;
  const isHidden = (i, j) => mask !== null && !mask[i * n + j];
  const large = view.average ? shown.data : headOf(shown, state.head);
  fill(panel, make("h2", {}, "Where every head looks"),
    make("p", { class: "quiet" }, "A row is a token that looks, a column one that is looked at; grey or hatched is what the mask hides. Beneath each head: where it looks most, if only the token before, the token itself and the first one count."),
    thumbnails(weights, isHidden, habits), habitsOf(habits), controls(),
    view.form === "map" ? map(large, isHidden) : lines(large, isHidden));
}

function askWeights(layer, average = false) {
  const value = String(valueIn("attention", "weights", layer));
  return ask("array", { ids: state.ids, value, ...(average ? { average } : {}) });
}

async function askCausalMask() {
  const number = valueIn("attention", "mask", 0);
  if (state.run.values[number].kind !== "array") return null;
  return (await ask("array", { ids: state.ids, value: String(number) })).data;
}

export function headOf({ data, shape }, head) {
  const n = shape[1] * shape[2];
  return data.subarray(head * n, (head + 1) * n);
}

function thumbnails(weights, isHidden, habits) {
  const n = state.ids.length;
  const nHead = state.hparams.n_head;
  const room = byId("panel").clientWidth - 48 - 24 - 8 * nHead; // beside the labels
  const side = Math.max(26, Math.min(64, Math.floor(room / nHead) - 8));
  const rows = weights.map((layer, l) => make("div", { class: "thumbnails" },
    make("span", { class: "quiet" }, String(l)),
    Array.from({ length: nHead }, (_, h) => make("button", {
      type: "button", class: side < 48 ? "thumbnail" : "thumbnail wide", style: { width: `${side + 8}px` }, "aria-label": `Layer ${l}, head ${h}`,
      "aria-pressed": String(!view.average && l === state.layer && h === state.head),
      onclick: () => {
        view.average = false;
        change({ layer: l, head: h });
      },
    }, thumbnail(headOf(layer, h), n, isHidden, side), make("span", { class: "habit" }, strongest(habits, l, h, side))))));
  return make("div", { class: "scroller", tabindex: -1 }, rows);
}

const PLACES = { previous: "the token before", itself: "the token itself", first: "the first token" };
const HABITS = { previous: "before", itself: "itself", first: "first" };

// Where a head looks most, of the places that are the same for every token.
function strongest(habits, layer, head, side) {
  if (!habits.first || side < 48) return "";
  const name = Object.keys(HABITS).reduce((a, b) => (habits[a][layer][head] >= habits[b][layer][head] ? a : b));
  return `${HABITS[name]} ${Math.round(100 * habits[name][layer][head])}%`;
}

function habitsOf(habits) {
  if (!habits.first) return null;
  const share = (name) => percent(habits[name][state.layer][state.head]);
  const most = Object.keys(HABITS).map((name) => {
    const all = habits[name].flatMap((heads, layer) => heads.map((value, head) => ({ value, layer, head })));
    const best = all.reduce((a, b) => (a.value >= b.value ? a : b));
    return `${PLACES[name]}: layer ${best.layer}, head ${best.head} (${percent(best.value)})`;
  });
  return make("div", {}, make("p", {}, `Of all heads, these look most at ${most.join("; at ")}.`), make("p", { class: "habits" }, `Layer ${state.layer}, head ${state.head}, on average: ${share("previous")} at the token before, ${share("itself")} at itself, ${share("first")} at the first.`));
}

function controls() {
  const what = [["one", `layer ${state.layer}, head ${state.head}`], ["average", `average of layer ${state.layer}`]];
  const set = (part) => {
    Object.assign(view, part);
    change({ tab: "attention" });
  };
  const call = state.run.calls.find((one) => one.function === "attention" && one.layer === state.layer);
  const statement = Number(Object.keys(call.uses).find((key) => key.split(" ")[1] === "weights").split(" ")[0]);
  const toArray = () => openName({ function: "attention", statement, name: "weights", isAfter: true });
  return make("div", { class: "controls" },
    make("div", { class: "choice", role: "group", "aria-label": "What is large" },
      choice("", what.map((pair) => pair[0]), view.average ? "average" : "one", (value) => set({ average: value === "average" }), what.map((pair) => pair[1]))),
    make("div", { class: "choice", role: "group", "aria-label": "Form" },
      choice("as", ["map", "lines"], view.form, (form) => set({ form }))),
    make("button", { type: "button", class: "link", onclick: toArray }, "open weights"));
}

function map(weights, isHidden) {
  const n = state.ids.length;
  const labels = state.ids.map((_, i) => spelled(tokenAt(i)));
  const reading = make("div", { class: "reading small" }, make("p", { class: "quiet" }, "Point at a cell."));
  const nameCell = (i, j) => isHidden(i, j)
    ? `“${labels[i]}” (${i}) cannot see “${labels[j]}” (${j}), which comes later`
    : `“${labels[i]}” (${i}) looks at “${labels[j]}” (${j})`;
  const image = picture({
    values: weights, rows: labels, columns: labels, isHidden, marked: state.position, limits: [0, 1],
    name: `Attention weights, ${n} by ${n}; arrow keys go from cell to cell`,
    pick: (i, j) => fill(reading, make("p", { class: "cell" }, make("span", {}, nameCell(i, j)),
      isHidden(i, j) ? null : make("strong", {}, percent(weights[i * n + j])))),
    describe: (i, j) => `${nameCell(i, j)}: ${percent(weights[i * n + j])}`,
  });
  return make("div", {}, image, reading);
}

// Two columns of tokens: on the left those that look, on the right those that are looked at.
function lines(weights, isHidden) {
  const n = state.ids.length;
  const step = 22, width = 420, left = 130, right = 290;
  const y = (i) => step * (i + 0.7);
  const drawn = [];
  for (let i = 0; i < n; i++) {
    const isChosen = i === state.position;
    if (n > FEW && !isChosen) continue;
    for (let j = 0; j < n; j++) {
      const weight = weights[i * n + j];
      if (isHidden(i, j) || weight < FAINT) continue;
      drawn.push(make("line", { x1: left, y1: y(i), x2: right, y2: y(j), "stroke-width": isChosen ? 2.5 : 1.2,
        class: isChosen ? "look chosen" : "look", "stroke-opacity": isChosen ? Math.max(0.12, weight) : 0.4 * weight }));
    }
  }
  drawn.sort((a, b) => a.classList.contains("chosen") - b.classList.contains("chosen"));
  const label = (i, x, anchor) => make("text", { x, y: y(i) + 4, "text-anchor": anchor,
    class: i === state.position ? "token-label chosen" : "token-label" }, spelled(tokenAt(i)));
  const labels = [...Array(n).keys()].flatMap((i) => [label(i, left - 8, "end"), label(i, right + 8, "start")]);
  return make("div", { class: "scroller" }, make("p", { class: "quiet" }, n > FEW ? "The lines of the chosen token; choose another above." : "Left looks at right; the chosen token's lines are strong."),
    make("svg", { width, height: step * (n + 0.5), role: "img", "aria-label": `What token ${state.position} looks at` }, drawn, labels));
}
