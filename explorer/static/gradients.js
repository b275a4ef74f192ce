// A position's loss on its way back: how large its gradient is, at every state of the stream.

import { fill, make, spelled, written } from "./dom.js";
import { ask } from "./ask.js";
import { state, tokenAt, tokenOf } from "./state.js";
import { picture } from "./picture.js";

const DECADES = 3; // powers of ten from white to the strongest colour

export async function drawGradients(panel, isCurrent) {
  const answer = await ask("gradients", { ids: state.ids, position: state.position });
  if (!isCurrent()) return;
  const target = spelled(tokenOf(answer.target));
  const whose = answer.is_guess ? "what the model thinks likeliest, as nothing follows yet" : "the token that follows";
  fill(panel, make("h2", {}, "How the loss at ", make("code", {}, spelled(tokenAt(state.position))), " runs back"),
    make("p", {}, `The loss is −ln p(“${target}”) = ${written(Number(answer.loss.toFixed(3)))} nats; “${target}” is ${whose}. `),
    make("p", { class: "quiet" }, "The size of ∂loss/∂x, x being the residual stream: a row is a state of it, the last one on top; a column is a position. The stronger the colour, the larger, on a logarithmic scale; later positions (hatched) have no part in this loss."),
    heat(answer), make("h3", {}, "With and without residual connections"), lineChart(answer),
    make("p", { class: "quiet" }, "All positions together, on a logarithmic scale, from the output (left) back to the embeddings (right). Without residual connections the gradient must pass through every sublayer. (The weights are those of the model that was trained with them.)"));
}

function names() {
  const found = ["embed"];
  for (let layer = 0; layer < state.hparams.n_layer; layer++) found.push(`attn ${layer}`, `ffn ${layer}`);
  return found;
}

function heat({ sizes }) {
  const rows = names().reverse();
  const n = state.ids.length;
  const values = rows.flatMap((_, i) => sizes[rows.length - 1 - i]);
  const top = Math.log10(Math.max(...values));
  const shades = values.map((size) => Math.max(0, Math.log10(size || 1e-300) - top + DECADES) / DECADES);
  const isHidden = (i, j) => j > state.position;
  const labels = state.ids.map((_, i) => spelled(tokenAt(i)));
  const reading = make("div", { class: "reading small" }, make("p", { class: "quiet" }, "Point at a cell."));
  const nameCell = (i, j) => `${rows[i]}, position ${j} “${labels[j]}”`;
  const image = picture({
    values: shades, limits: [0, 1], rows, columns: labels, isHidden, start: [0, state.position], name: "The gradient's size; arrow keys go from cell to cell",
    pick: (i, j) => fill(reading, make("p", { class: "cell" }, make("span", {}, nameCell(i, j)), make("strong", {}, written(values[i * n + j])))),
    describe: (i, j) => `${nameCell(i, j)}: ${written(values[i * n + j])}`,
  });
  return make("div", {}, image, reading);
}

function lineChart({ total, without }) {
  const width = 480, height = 210, left = 54, right = 96, top = 12, bottom = 34;
  const all = [...total, ...without].filter((size) => size > 0).map(Math.log10);
  const low = Math.floor(Math.min(...all)), high = Math.max(low + 1, Math.ceil(Math.max(...all)));
  const labels = names().reverse();
  const x = (i) => left + (i / Math.max(1, labels.length - 1)) * (width - left - right);
  const y = (log) => top + ((high - log) / (high - low)) * (height - top - bottom);
  const log = (size) => Math.max(low, Math.log10(size || 1e-300));
  const every = Math.ceil((high - low) / 5);
  const grid = [];
  for (let power = low; power <= high; power += every) {
    grid.push(make("line", { x1: left, x2: width - right, y1: y(power), y2: y(power), class: "grid" }),
      make("text", { x: left - 6, y: y(power) + 4, "text-anchor": "end", class: "tick" }, power === 0 ? "1" : `1e${power}`.replace("-", "−")));
  }
  const step = Math.ceil(labels.length / 7);
  const ticks = labels.map((label, i) => (i % step ? null : make("text", { x: x(i), y: height - 14, "text-anchor": "middle", class: "tick" }, label)));
  const ends = [total[0], without[0]].map((size) => y(log(size)));
  const shift = Math.abs(ends[0] - ends[1]) < 16 ? 8 : 0; // no name upon another
  const line = (values, kind, name, down) => {
    const back = [...values].reverse();
    const points = back.map((size, i) => `${x(i)},${y(log(size))}`).join(" ");
    return [make("polyline", { points, class: `curve ${kind}` }), back.map((size, i) => make("circle", { cx: x(i), cy: y(log(size)), r: 2.5, class: `mark ${kind}` }, make("title", {}, `${labels[i]}: ${written(size)}`))),
      make("text", { x: width - right + 8, y: y(log(back.at(-1))) + 4 + down, class: `curve-name ${kind}` }, name)];
  };
  return make("div", { class: "scroller" }, make("svg", { width, height, role: "img", "aria-label": `The gradient's size from the output to the embeddings: with residual connections ${total.at(-1).toPrecision(2)} to ${total[0].toPrecision(2)}, without ${without.at(-1).toPrecision(2)} to ${without[0].toPrecision(2)}` },
    grid, ticks, line(without, "without", "without", ends[1] < ends[0] ? -shift : shift), line(total, "with", "with", ends[1] < ends[0] ? shift : -shift)));
}
