// The residual stream at the chosen position, what layer norm does to it, and the logit lens.

import { fill, make, percent, spelled, shortened, written } from "./dom.js";
import { ask } from "./ask.js";
import { colouring, css, inkOn } from "./colours.js";
import { change, partFor, state, tokenAt, tokenOf } from "./state.js";
import { showFunction } from "./code.js";

export async function drawStream(panel, isCurrent) {
  const asked = { ids: state.ids, position: state.position };
  const [stream, lens] = await Promise.all([ask("stream", asked), ask("lens", { ids: state.ids })]);
  if (!isCurrent()) return;
  const token = spelled(tokenAt(state.position));
  fill(panel, make("h2", {}, "What it would say, layer by layer"),
    make("p", { class: "quiet" }, "The logit lens: each state of the stream, put through ln_f and wte.T as if the model ended there. The stronger the colour, the surer; framed in green: the token that really follows."),
    lensTable(lens),
    make("h2", {}, "The residual stream of ", make("code", {}, token)),
    make("p", { class: "quiet" }, "Its length, and what each sublayer adds: along its direction (negative: against it) and across."),
    streamTable(stream),
    make("h2", {}, "What layer norm does to ", make("code", {}, token)),
    make("p", { class: "quiet" }, "Mean and standard deviation over the features: of what it reads, normalised, and after gain and bias."),
    normTable(stream.norms));
  panel.querySelector(".lens .here")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function stateNames() {
  const names = ["embed"];
  for (let layer = 0; layer < state.hparams.n_layer; layer++) names.push(`attention ${layer}`, `ffn ${layer}`);
  return names;
}

function streamTable(stream) {
  const at = (values) => values.map((row) => row[state.position]);
  const [length, added, along, across] = [stream.length, stream.added, stream.along, stream.across].map(at);
  const longest = Math.max(...length), most = Math.max(...added);
  const rows = stateNames().map((name, i) => {
    const kind = i === 0 ? "token" : name.startsWith("attention") ? "attention" : "ffn";
    const cells = i === 0 ? [make("td", {}), make("td", {}), make("td", {})] : [
      make("td", { class: "barred" }, track(added[i] / most, kind), number(added[i])),
      make("td", {}, written(round(along[i]))), make("td", {}, written(round(across[i])))];
    return make("tr", {}, make("th", { scope: "row" }, make("span", { class: `dot ${kind}` }), name),
      make("td", { class: "barred" }, track(length[i] / longest, "ink"), number(length[i])), cells);
  });
  return table(["", "length", "adds", "along", "across"], rows);
}

function round(value) {
  return Number(value.toFixed(Math.abs(value) < 10 ? 2 : 1));
}

function number(value) {
  return make("span", {}, written(round(value)));
}

function track(share, kind) {
  return make("span", { class: "track" }, make("span", { class: `bar ${kind}`, style: { width: `${100 * share}%` } }));
}

function table(heads, rows, kind = "") {
  return make("div", { class: "scroller" }, make("table", { class: kind },
    make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, rows)));
}

function normTable(norms) {
  const rows = norms.map((norm) => {
    const call = state.run.calls[norm.call];
    const go = () => {
      change({ ...partFor(norm.call), tab: "array", opened: returned() });
      showFunction("layer_norm");
    };
    const name = call.layer === null ? call.purpose : `${call.purpose}, layer ${call.layer}`;
    const cells = ["mean", "std", "normed_mean", "normed_std", "out_mean", "out_std"];
    return make("tr", {}, make("th", { scope: "row" }, make("button", { type: "button", class: "link", onclick: go }, name)),
      cells.map((cell) => make("td", {}, written(Number(norm[cell].toFixed(3))))));
  });
  const drawn = table(["", "mean", "std", "mean", "std", "mean", "std"], rows, "norms");
  drawn.querySelector("thead").prepend(groupRow());
  return drawn;
}

function groupRow() {
  const heads = [["", 1], ["what it reads", 2], ["normalised", 2], ["what it returns", 2]];
  return make("tr", {}, heads.map(([text, n]) => make("th", { colspan: n, class: "group", scope: "colgroup" }, text)));
}

function returned() {
  const call = state.run.calls.find((one) => one.function === "layer_norm");
  const key = Object.keys(call.uses).find((one) => one.split(" ")[1] === "return");
  return { function: "layer_norm", statement: Number(key.split(" ")[0]), name: "return", isAfter: true };
}

function lensTable(lens) {
  const paint = colouring(0, 1);
  const heads = ["", ...state.ids.map((_, i) => make("button", { type: "button", class: "link token-head", "aria-pressed": String(i === state.position),
    onclick: () => change({ position: i }) }, shortened(spelled(tokenAt(i)), 10)))];
  const rows = lens.ids.map((ids, layer) => make("tr", {},
    make("th", { scope: "row" }, layer === 0 ? "embed" : `layer ${layer - 1}`),
    ids.map((id, position) => lensCell(id, lens.p[layer][position], lens.p_next[layer][position], position, paint))));
  const next = make("tr", { class: "quiet" }, make("th", { scope: "row" }, "really"),
    state.ids.map((_, i) => make("td", {}, i + 1 < state.ids.length ? shortened(spelled(tokenAt(i + 1)), 10) : "?")));
  return table(heads, [...rows, next], "lens");
}

function lensCell(id, p, pNext, position, paint) {
  const ground = paint(p);
  const isRight = id === state.ids[position + 1];
  const text = spelled(tokenOf(id));
  const more = pNext === null ? "" : `; “${spelled(tokenAt(position + 1))}”, which follows: ${percent(pNext)}`;
  return make("td", {
    class: [isRight && "right", position === state.position && "here"].filter(Boolean).join(" "),
    style: { background: css(ground), color: inkOn(ground) }, title: `“${text}”: ${percent(p)}${more}`,
  }, shortened(text, 9), make("span", { class: "spoken" }, ` ${percent(p)}${isRight ? ", right" : ""}`));
}
