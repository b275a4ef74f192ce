// The array of a name that was opened: as a picture, and for each cell how its number came about.

import { fill, make, percent, spelled, written } from "./dom.js";
import { ask, Refusal } from "./ask.js";
import { css, colouring } from "./colours.js";
import { callOf, change, isPositions, partFor, state, tokenAt, tokenOf, valueIn, valueOf } from "./state.js";
import { showFunction } from "./code.js";
import { picture, range } from "./picture.js";

const WAIT = 60; // milliseconds before the terms of a sum are asked for

export async function drawOpened(panel, isCurrent) {
  const { opened } = state;
  if (!opened) return fill(panel, make("p", { class: "quiet" }, "Click an underlined name in the code."));
  const number = valueOf(opened);
  if (number === undefined) {
    return fill(panel, heading(opened), make("p", { class: "quiet" },
      "This line did not run here: there was nothing for it to do."));
  }
  const value = state.run.values[number];
  if (value.kind !== "array") return fill(panel, heading(opened), drawOther(value, opened));
  const asked = [askArray(number, value), ask("why", { ids: state.ids, value: number }).catch(refused), askMask(value)];
  const [answer, why, mask] = await Promise.all(asked);
  const leaves = await askLeaves(why);
  if (isCurrent()) drawArray(panel, { opened, number, value, answer, why, leaves, mask });
}

function refused(error) {
  if (error instanceof Refusal) return { refusal: error.message };
  throw error;
}

// Which arrays look different from another position: those of a vocabulary's columns.
function askArray(number, value) {
  const isWide = value?.axes?.at(-1) === "n_vocab";
  const where = isWide ? { position: state.position } : {};
  return ask("array", { ids: state.ids, value: String(number), ...where });
}

// The arrays in the formulas of `why`, by name; those that cannot be had are left out.
async function askLeaves(why) {
  const names = new Set();
  for (const line of why?.why?.lines ?? []) {
    for (const part of line.parts) if (typeof part !== "string") names.add(String(part[1]));
  }
  const leaves = {};
  await Promise.all([...names].map(async (name) => {
    const value = state.run.values[Number(name.split(".")[0])];
    const answer = await askArray(name, value).catch(refused);
    if (!answer.refusal) leaves[name] = answer;
  }));
  return leaves;
}

async function askMask(value) {
  const axes = value.axes.slice(-2).join(" ");
  if (axes !== "n_queries n_keys") return null;
  const number = valueIn("attention", "mask", state.layer);
  if (state.run.values[number].kind !== "array") return null;
  return (await ask("array", { ids: state.ids, value: String(number) })).data;
}

function heading({ function: name, name: variable, statement }) {
  return make("div", { class: "heading" },
    make("h2", {}, variable === "return" ? make("span", { class: "keyword" }, "return") : variable),
    make("span", { class: "quiet" }, placeOf(name, statement)));
}

function placeOf(name, line) {
  const call = callOf(name);
  const purpose = call.purpose === name ? "" : ` (${call.purpose})`;
  return `in ${name}${purpose}${call.layer === null ? "" : `, layer ${call.layer}`}, line ${line}`;
}

function drawOther(value, opened) {
  if (value.kind === "parameters") {
    const parts = Object.entries(value.parts).map(([name, part]) => {
      const inner = state.run.values[part];
      const shape = inner.kind === "array" ? ` [${inner.axes.join(", ")}]` : " { … }";
      return make("li", {}, make("code", {}, name), make("span", { class: "quiet" }, shape));
    });
    return make("div", {}, make("p", {}, "Parameters, as the checkpoint has them:"), make("ul", {}, parts),
      make("p", { class: "quiet" }, "They are opened in the function that they are handed to: click its name in the code."));
  }
  const text = value.text === "None" ? "None: there is none here." : value.text;
  return make("p", { class: "single" }, make("code", {}, `${opened.name} = ${text}`));
}

function drawArray(panel, { opened, number, value, answer, why, leaves, mask }) {
  const view = slice(value, answer);
  const reading = make("div", { class: "reading", "aria-live": "off" },
    make("p", { class: "quiet" }, "Point at a cell, or go from cell to cell with the arrow keys."));
  const hidden = hiddenCells(view, mask);
  const pick = (row, column) => read(reading, { opened, number, value, answer, why, leaves, view, mask }, row, column);
  const limits = [answer.statistics.min ?? 0, answer.statistics.max ?? 1];
  const marked = isPositions(view.rowAxis, view.rows.length) ? state.position : undefined;
  const image = picture({
    values: view.values, rows: view.rows, columns: view.columns, isHidden: hidden, marked,
    limits: view.isWhole ? limits : range(view.values),
    name: `${opened.name}, ${value.shape.join(" by ")}; arrow keys go from cell to cell`,
    pick, start: isPositions(view.rowAxis, view.rows.length) ? [state.position, largest(view, state.position)] : [0, 0],
    describe: (row, column) => `${view.nameCell(row, column)}: ${written(view.at(row, column))}`,
  });
  fill(panel, heading(opened), facts(value, answer), 
    make("p", { class: "axes quiet" }, makerButton(opened, value), view.caption), image, legend(view, limits), reading);
}

// The column of the largest number in a row.
function largest(view, row) {
  const n = view.columns.length;
  const numbers = [...view.values.subarray(row * n, (row + 1) * n)];
  return numbers.indexOf(Math.max(...numbers.filter((number) => !Number.isNaN(number))));
}

function facts(value, { statistics, kept }) {
  const { min, mean, max, n_hidden } = statistics;
  const shape = value.shape.map((size, i) => (value.axes[i] === String(size) ? `${size}` : `${value.axes[i]} ${size.toLocaleString("en")}`));
  const parts = [`[${shape.join(" × ")}]`, value.dtype];
  const row = make("p", { class: "facts" }, make("code", {}, parts[0]), ` ${parts[1]}\n`,
    make("span", { class: "numbers" }, `min ${written(min)}   mean ${written(mean)}   max ${written(max)}`));
  if (n_hidden) row.append(make("span", { class: "quiet" }, `  ${n_hidden.toLocaleString("en")} are −∞: hidden by the mask`));
  const axis = Object.keys(kept)[0];
  if (axis !== undefined && kept[axis].length < value.shape[axis]) {
    row.append(make("span", { class: "quiet" }, `  shown: ${describeKept(value.axes[axis], kept[axis].length, value.shape[axis], axis)}`));
  }
  return row;
}

function describeKept(axis, n, all, place) {
  const of = `of ${all.toLocaleString("en")}`;
  if (axis === "n_vocab" && place === "0") return `the rows of this prompt's tokens, ${n} ${of}`;
  if (axis === "n_vocab") return `the ${n} ${of} tokens that are likeliest after the chosen one`;
  return `the first ${n} ${of}`;
}

// A button that leads to where the array was made, if that is not here.
function makerButton(opened, value) {
  if (!value.made) return "given to the forward pass   ";
  const [index, line, name] = value.made;
  const call = state.run.calls[index];
  if (call.function === opened.function && line === opened.statement) return "made in this line   ";
  const go = () => {
    change({ ...partFor(index), opened: { function: call.function, statement: line, name, isAfter: true }, tab: "array" });
    showFunction(call.function);
  };
  return ["made in ", make("button", { type: "button", class: "link", onclick: go }, `${call.function}, line ${line}`), "   "];
}

// The part of an array that is drawn: of several heads the chosen one; the first axis as rows, the
// others side by side as columns.
function slice(value, { shape, data, kept }) {
  const axes = value.axes.map((name, i) => ({ name, i, size: shape[i], kept: kept[i] }));
  const head = axes.find((axis) => axis.name === "n_head");
  const rest = axes.filter((axis) => axis !== head);
  const rowAxis = rest.length > 1 ? rest[0] : null;
  const across = rest.length > 1 ? rest.slice(1) : rest;
  const nColumns = across.reduce((n, axis) => n * axis.size, 1);
  const nRows = rowAxis ? rowAxis.size : 1;
  const indexOf = (row, column) => {
    const index = new Array(axes.length).fill(0);
    if (head) index[head.i] = state.head;
    if (rowAxis) index[rowAxis.i] = row;
    for (const axis of [...across].reverse()) {
      index[axis.i] = column % axis.size;
      column = Math.floor(column / axis.size);
    }
    return index;
  };
  const at = (row, column) => data[flatIndex(indexOf(row, column), shape)];
  const values = new Float32Array(nRows * nColumns);
  for (let i = 0; i < nRows; i++) for (let j = 0; j < nColumns; j++) values[i * nColumns + j] = at(i, j);
  const single = across.length === 1 ? across[0] : { name: across.map((axis) => axis.name).join(" × "), size: nColumns };
  const rows = rowAxis ? labelsOf(rowAxis) : [null];
  const columns = labelsOf(single);
  const nameCell = (row, column) => {
    const parts = rowAxis ? [nameOn(rowAxis, row)] : [];
    return [...parts, nameOn(single, column)].filter(Boolean).join(", ");
  };
  const caption = [head && `head ${state.head}`, rowAxis && `rows: ${rowAxis.name}`, `columns: ${single.name}`];
  return { values, rows, columns, indexOf, at, nameCell, rowAxis: rowAxis?.name, columnAxis: single.name,
    caption: caption.filter(Boolean).join("   "), isWhole: Object.keys(kept).length === 0 };
}

function flatIndex(index, shape) {
  return index.reduce((flat, i, axis) => flat * shape[axis] + i, 0);
}

function labelsOf({ name, size, kept }) {
  if (name === "n_vocab") return (kept ?? [...Array(size).keys()]).map((id) => spelled(tokenOf(id)));
  if (isPositions(name, size)) return state.ids.map((id) => spelled(tokenOf(id)));
  const step = size > 40 ? 16 : size > 12 ? 4 : 1;
  return size === 1 ? [null] : Array.from({ length: size }, (_, i) => (i % step ? null : String(i)));
}

function nameOn({ name, size, kept }, i) {
  if (name === "n_vocab") return `token “${spelled(tokenOf(kept ? kept[i] : i))}”`;
  const roles = { n_queries: "query", n_keys: "key" };
  if (isPositions(name, size)) return `${roles[name] ?? "position"} ${i} “${spelled(tokenAt(i))}”`;
  return size === 1 ? "" : `${name.startsWith("d_") || name.includes("n_embd") ? "feature" : name} ${i}`;
}

// Cells that the mask hides: there is no score, or a weight of exactly 0.
function hiddenCells(view, mask) {
  if (!mask) return undefined;
  const n = state.ids.length;
  return (i, j) => !mask[i * n + j] && (view.values[i * n + j] === -Infinity || view.values[i * n + j] === 0);
}

function legend(view, limits) {
  const [low, high] = view.isWhole ? limits : range(view.values);
  const paint = colouring(low, high);
  const limit = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const start = low < 0 ? -limit : 0;
  const stops = Array.from({ length: 9 }, (_, i) => css(paint(start + (i / 8) * (limit - start))));
  return make("div", { class: "legend quiet" }, written(start),
    make("span", { class: "ramp", style: { background: `linear-gradient(to right, ${stops.join(", ")})` } }), written(limit));
}

let waiting = null;

// What is said of one cell: its number, and how it came about.
function read(reading, about, row, column) {
  const { value, answer, why, leaves, view, mask } = about;
  const index = view.indexOf(row, column);
  const number = view.at(row, column);
  const n = state.ids.length;
  const isHidden = mask && !mask[row * n + column] && (number === 0 || number === -Infinity);
  const title = make("p", { class: "cell" }, make("span", {}, view.nameCell(row, column)), make("strong", {}, written(number)));
  const parts = [title];
  if (isHidden) parts.push(make("p", { class: "quiet" }, "Hidden by the mask: this key comes after the query."));
  if (why?.refusal) parts.push(make("p", { class: "quiet" }, why.refusal));
  if (why?.why?.note) parts.push(make("p", { class: "quiet" }, why.why.note));
  const lines = why?.why?.lines ?? [];
  parts.push(...lines.map((line, i) => formula(line, i === 0 ? number : undefined, index, leaves)));
  if (isSoftmax(value)) parts.push(rowOfWeights(view, row, column));
  const terms = make("div", { class: "terms" });
  const summed = lines.find((line) => line.terms);
  if (summed && !isHidden) {
    parts.push(terms);
    clearTimeout(waiting);
    const full = index.map((i, axis) => answer.kept[axis]?.[i] ?? i);
    const cell = flatIndex(full, value.shape);
    waiting = setTimeout(() => drawTerms(terms, summed.value, cell), WAIT);
  }
  fill(reading, parts);
}

function isSoftmax(value) {
  return value.made && state.run.calls[value.made[0]].function === "softmax" && value.made[2] === "return";
}

// A line of source with names, and beneath it with the numbers of one cell.
function formula(line, result, index, leaves) {
  const numbers = line.parts.map((part, i) => {
    if (typeof part === "string") return part;
    const leaf = leaves[String(part[1])];
    if (!leaf) return part[0];
    const text = state.run.values[part[1]]?.dtype === "bool" ? isTrue(lookUp(leaf, index)) : written(lookUp(leaf, index));
    return text.startsWith("−") && /[·/+−] $/.test(line.parts[i - 1] ?? "") ? `(${text})` : text;
  });
  const own = line.parts.length === 1 ? "" : `= ${numbers.join("")}`;
  const total = result ?? lookUp(leaves[String(line.value)] ?? leaves[String(line.parts[0][1])], index);
  const start = line.name === "return" ? "return" : `${line.name} =`;
  return make("p", { class: "formula" },
    make("code", {}, `${start} ${line.parts.map((part) => (typeof part === "string" ? part : part[0])).join("")}`),
    make("code", { class: "numeric" }, own, ` = ${written(total)}`));
}

function isTrue(number) {
  return number ? "True" : "False";
}

// The cell of an array that belongs to an index into a larger one: axes of size 1 stand for all.
function lookUp(leaf, index) {
  if (!leaf) return undefined;
  const start = index.length - leaf.shape.length;
  const own = leaf.shape.map((size, axis) => (size === 1 ? 0 : index[start + axis]));
  return leaf.data[flatIndex(own, leaf.shape)];
}

function rowOfWeights(view, row, column) {
  const all = view.columns.map((_, j) => ({ j, weight: view.at(row, j) }));
  const best = all.filter(({ weight }) => weight > 0).sort((a, b) => b.weight - a.weight).slice(0, 6);
  return make("div", { class: "terms" }, make("p", { class: "quiet" }, "The softmax over this row, largest first:"),
    best.map(({ j, weight }) => bar(spelled(tokenAt(j)), weight, percent(weight), "attention", j === column)));
}

// A name, a bar from 0 to 1, and what is written behind it.
export function bar(name, share, text, kind, isChosen = false) {
  return make("div", { class: `bar-row${isChosen ? " chosen" : ""}` }, make("span", { class: "bar-name" }, name),
    make("span", { class: "bar-space" }, make("span", { class: `bar ${kind}`, style: { width: `${100 * Math.max(0, Math.min(1, share))}%` } })),
    make("span", { class: "bar-text" }, text));
}

async function drawTerms(place, value, cell) {
  const answer = await ask("terms", { ids: state.ids, value, cell }).catch(refused);
  if (answer.refusal) return fill(place, make("p", { class: "quiet" }, answer.refusal));
  const [a, b] = answer.names;
  const largest = Math.max(...answer.terms.map((term) => Math.abs(term[3]))) || 1;
  const where = (i) => (answer.axis === "position" ? `${i} ${spelled(tokenAt(i))}` : `feature ${i}`);
  const rows = answer.terms.map(([i, x, y, product]) => make("tr", {}, make("th", { scope: "row" }, where(i)),
    make("td", {}, written(x)), make("td", {}, written(y)), make("td", {}, written(product)),
    make("td", { class: "space" }, make("span", { class: `signed ${product < 0 ? "minus" : "plus"}`,
      style: { width: `${(50 * Math.abs(product)) / largest}%` } }))));
  const others = answer.n - answer.terms.length;
  if (others > 0) {
    rows.push(make("tr", { class: "quiet" }, make("th", { scope: "row" }, `${others} others`), make("td", {}), make("td", {}),
      make("td", {}, written(answer.rest)), make("td", {})));
  }
  fill(place, make("p", { class: "quiet" }, `The products of ${a} and ${b} that add up to ${a} · ${b}, largest first:`),
    make("table", {}, make("thead", {}, make("tr", {}, make("th", {}), make("th", {}, a), make("th", {}, b), make("th", {}, "product"), make("th", {}))), make("tbody", {}, rows)));
}
