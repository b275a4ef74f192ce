// Switches that run the real functions differently, beside the run as it was.

import { choice, fill, make, percent, shortened, spelled, whileBusy } from "./dom.js";
import { ask, Refusal, writtenWith } from "./ask.js";
import { change, state, tokenAt, tokenOf, valueIn } from "./state.js";
import { headOf } from "./attention.js";
import { thumbnail } from "./picture.js";

let changes = [];

const EVERYWHERE = [
  ["mask", "no mask", "every position sees all others, later ones, too"],
  ["positions", "no positions", "wpe is 0"],
  ["scale", "no 1/√d", "scores are not divided by √d_head"],
  ["layer_norm", "no layer norm", "it hands on what it is given"],
  ["residual", "no residual", "a sublayer's result replaces the stream"],
];

export function forgetChanges() {
  changes = changes.filter((one) => one.kind !== "token");
}

export async function drawWhatIf(panel, isCurrent) {
  const result = make("div", { class: "result", role: "status" });
  const how = writtenWith ? `One switch at a time in this file; ${writtenWith.command} lets them add up.` : "Switches add up.";
  fill(panel, make("h2", {}, "What if …"), make("p", { class: "quiet" }, how), switches(), result);
  await compareWith(result, isCurrent);
}

function isOn(wanted) {
  return changes.some((one) => JSON.stringify(one) === JSON.stringify(wanted));
}

// In a file that answers itself there is each change by itself.
function toggle(wanted) {
  const others = changes.filter((one) => JSON.stringify(one) !== JSON.stringify(wanted));
  const isAlone = writtenWith !== null;
  changes = isOn(wanted) ? others : [...(isAlone ? [] : others), wanted];
  change({ tab: "what-if" });
}

function switchFor(wanted, name, title) {
  return make("button", { type: "button", class: "switch", "aria-pressed": String(isOn(wanted)), title, onclick: () => toggle(wanted),
    "data-change": JSON.stringify(wanted) }, name);
}

function switches() {
  const { layer, head } = state;
  const group = (label, ...buttons) => make("div", { class: "switches", role: "group", "aria-label": label }, make("span", { class: "quiet" }, label), buttons);
  const named = changes.filter((one) => "layer" in one && (one.layer !== layer || (one.kind === "head" && one.head !== head)));
  return make("div", {},
    group("everywhere", EVERYWHERE.map(([kind, name, title]) => switchFor({ kind }, name, title))),
    group(`in layer ${layer}`, switchFor({ kind: "head", layer, head }, `head ${head} off`, "it adds nothing to the stream"),
      switchFor({ kind: "attention", layer }, "attention off", "it adds nothing to the stream"),
      switchFor({ kind: "ffn", layer }, "ffn off", "it adds nothing to the stream")),
    named.length ? group("elsewhere", named.map((one) => switchFor(one, nameOf(one)))) : null,
    replacement());
}

function nameOf(one) {
  const everywhere = EVERYWHERE.find(([kind]) => kind === one.kind);
  if (everywhere) return everywhere[1];
  if (one.kind === "token") return `token ${one.position} is “${spelled(tokenOf(one.id))}”`;
  return one.kind === "head" ? `layer ${one.layer}, head ${one.head} off` : `layer ${one.layer}, ${one.kind} off`;
}

function replacement() {
  const note = make("span", { class: "quiet", role: "status" });
  const input = make("input", { id: "replacement", type: "text", size: 8, autocomplete: "off", "aria-label": "Another token" });
  const replace = async (event) => {
    event.preventDefault();
    try {
      const position = state.position;
      const { ids } = await whileBusy(() => ask("tokens", { text: input.value }));
      if (ids.length !== 1) throw new Refusal(`“${spelled(input.value)}” is ${ids.length} tokens; give one, with its space before it`);
      changes = [...changes.filter((one) => one.kind !== "token" || one.position !== position), { kind: "token", position, id: ids[0] }];
      change({ tab: "what-if" });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      note.textContent = writtenWith ? `This file does not hold runs with a token replaced; to see one, run: ${writtenWith.command}` : error.message;
    }
  };
  const replaced = changes.filter((one) => one.kind === "token").map((one) => switchFor(one, nameOf(one)));
  return make("form", { class: "switches", onsubmit: replace }, make("label", { class: "quiet", for: "replacement" }, `token ${state.position} “${shortened(spelled(tokenAt(state.position)))}” replaced by`),
    input, make("button", { type: "submit" }, "Replace"), replaced, note);
}

async function compareWith(result, isCurrent) {
  if (!changes.length) {
    return fill(result, make("p", { class: "quiet" }, "Press a switch: the next token's distribution is shown beside that of the run as it was."));
  }
  let answer;
  try {
    answer = await ask("what_if", { ids: state.ids, changes });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (isCurrent()) fill(result, make("p", { class: "quiet" }, error.message));
    return;
  }
  if (!isCurrent()) return;
  if (!answer.is_finite) return fill(result, make("p", {}, "The numbers grow until they are none any more: there is no distribution."));
  const looks = answer.attention ? await headBefore() : null;
  if (isCurrent()) fill(result, comparison(answer), moved(answer), looks && attentionThen(answer.attention, looks));
}

function comparison(answer) {
  const p = state.position;
  const rows = answer.ids[p].map((id, i) => {
    const [before, after] = [answer.before[p][i], answer.after[p][i]];
    return make("div", { class: "bar-row", "data-token": id }, make("span", { class: "bar-name" }, spelled(tokenOf(id))),
      make("span", { class: "bar-space two" }, make("span", { class: "bar norm", style: { width: `${100 * before}%` } }),
        make("span", { class: "bar attention", style: { width: `${100 * after}%` } })),
      make("span", { class: "bar-text two" }, make("span", { class: "quiet" }, percent(before)), make("span", {}, percent(after))));
  });
  const isBlindToMask = changes.some((one) => one.kind === "mask") && p + 1 === state.ids.length;
  return make("div", {}, make("h3", {}, `With ${changes.map(nameOf).join(" and ")}, after `, make("code", {}, spelled(tokenAt(p))), ": ",
    make("span", { class: "moved" }, percent(answer.moved[p])), " of the probability went elsewhere"),
    make("p", { class: "quiet key-to" }, make("span", { class: "dot norm" }), "as it was ", make("span", { class: "dot attention" }), "with the change"),
    isBlindToMask ? make("p", { class: "quiet" }, "The last token sees everything anyway: what changes for it comes through the earlier ones, which now see later tokens.") : null, rows);
}

function moved(answer) {
  const bars = answer.moved.map((share, i) => make("button", { type: "button", class: "moved-at", "aria-pressed": String(i === state.position),
    "aria-label": `After token ${i}: ${percent(share)} went elsewhere`, title: `${spelled(tokenAt(i))}: ${percent(share)}`, onclick: () => change({ position: i }) },
    make("span", { class: "column" }, make("span", { class: "bar attention", style: { height: `${100 * share}%` } })), make("span", { class: "moved-token" }, shortened(spelled(tokenAt(i)), 6))));
  return make("div", {}, make("h3", {}, "At every position"), make("div", { class: "scroller moved-all" }, bars));
}

async function headBefore() {
  const value = String(valueIn("attention", "weights", state.layer));
  return ask("array", { ids: state.ids, value });
}

// The chosen head before and after, beside each other.
function attentionThen(attention, before) {
  const n = state.ids.length;
  const size = n * n;
  const start = (state.layer * state.hparams.n_head + state.head) * size;
  const after = attention.data.subarray(start, start + size);
  const isNone = changes.some((one) => one.kind === "mask") ? undefined : (i, j) => j > i;
  const figure = (values, isHidden, text) => make("figure", {}, thumbnail(values, n, isHidden, 170), make("figcaption", { class: "quiet" }, text));
  return make("div", {}, make("h3", {}, `Where layer ${state.layer}, head ${state.head} looks`),
    make("div", { class: "pair" }, figure(headOf(before, state.head), (i, j) => j > i, "as it was"), figure(after, isNone, "with the change")));
}
