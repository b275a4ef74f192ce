// A matrix as a picture: cells, labels, one of them chosen by mouse or keyboard.

import { byId, make, shortened, say } from "./dom.js";
import { colour, colouring, css, toParts } from "./colours.js";

const LABEL = 11; // pixels between labels
const MOST_PIXELS = 16000; // that a canvas can be wide

// picture({values, rows, columns, isHidden, marked, limits, name, pick, describe})
//
// values     a flat array, row by row
// rows, columns   their labels, texts or null; as many as there are rows and columns
// isHidden   (row, column) => true where the mask hides the cell
// marked     the row that is framed, or undefined
// limits     [low, high] of the colours, by default of the values
// pick       called with (row, column) when a cell is pointed at or gone to with the arrow keys
// describe   (row, column) => what a screen reader says of it
export function picture(settings) {
  const { rows, columns, name } = settings;
  const [low, high] = settings.limits ?? range(settings.values);
  const paint = colouring(low, high);
  const size = measure(rows, columns, Math.min(520, byId("panel").clientWidth - 32));
  const canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": name });
  const frame = make("div", { class: "cursor", hidden: true });
  const above = labelCanvas(columns, size.cellWidth, true, size);
  const beside = labelCanvas(rows, size.cellHeight, false, size);
  const scroller = make("div", { class: "scroller" }, make("div", { class: "cells" }, above, canvas, frame));
  const figure = make("div", { class: "picture" }, beside, scroller);
  beside.style.marginTop = `${size.top}px`;
  paintCells(canvas, settings, paint, size);
  follow(canvas, frame, settings, size);
  return figure;
}

export function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low > high ? [0, 1] : [low, high];
}

function measure(rows, columns, width) {
  const longest = (labels) => Math.max(0, ...labels.map((label) => [...shortened(label ?? "")].length));
  const left = Math.min(92, 8 + 6.7 * longest(rows));
  const top = columns.some((label) => label !== null) ? Math.min(92, 8 + 6.7 * longest(columns)) : 4;
  const cellWidth = Math.max(columns.length > 64 ? 4 : 7, Math.min(26, Math.floor((width - left - 4) / columns.length)));
  const cellHeight = Math.max(rows.length > 40 ? 8 : 12, Math.min(rows.length < 3 ? 34 : 22, Math.floor(270 / rows.length)));
  return { left, top, cellWidth, cellHeight };
}

function sharp(canvas, width, height) {
  const scale = Math.min(window.devicePixelRatio || 1, MOST_PIXELS / Math.max(width, height));
  canvas.width = Math.ceil(width * scale);
  canvas.height = Math.ceil(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return context;
}

function labelCanvas(labels, step, isAbove, size) {
  const canvas = make("canvas", { class: isAbove ? "above" : "beside", "aria-hidden": "true" });
  const long = step * labels.length;
  const context = isAbove ? sharp(canvas, long, size.top) : sharp(canvas, size.left, long);
  context.font = "11px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
  context.fillStyle = colour("quiet");
  context.textBaseline = "middle";
  let last = -LABEL;
  labels.forEach((label, i) => {
    if (label === null || step * i - last < LABEL) return;
    last = step * i;
    context.save();
    if (isAbove) {
      context.translate(step * (i + 0.5), size.top - 4);
      context.rotate(-Math.PI / 2);
      context.fillText(shortened(label), 0, 0);
    } else {
      context.textAlign = "right";
      context.fillText(shortened(label), size.left - 6, step * (i + 0.5));
    }
    context.restore();
  });
  return canvas;
}

function paintCells(canvas, { values, rows, columns, isHidden, marked }, paint, { cellWidth, cellHeight }) {
  const context = sharp(canvas, cellWidth * columns.length, cellHeight * rows.length);
  const gap = cellWidth >= 8 && cellHeight >= 8 ? 1 : 0;
  const hatching = hatch(context);
  for (let i = 0; i < rows.length; i++) {
    for (let j = 0; j < columns.length; j++) {
      const value = values[i * columns.length + j];
      const hidden = isHidden?.(i, j);
      context.fillStyle = hidden || !Number.isFinite(value) ? hatching : css(paint(value));
      context.fillRect(j * cellWidth, i * cellHeight, cellWidth - gap, cellHeight - gap);
    }
  }
  if (marked === undefined || rows.length < 2) return;
  context.strokeStyle = colour("ink");
  context.lineWidth = 1.5;
  context.strokeRect(0.75, marked * cellHeight - 0.25, cellWidth * columns.length - 2, cellHeight);
}

function hatch(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.fillStyle = colour("hatch-ground");
  pen.fillRect(0, 0, 6, 6);
  pen.strokeStyle = colour("hatch");
  pen.lineWidth = 1;
  for (const shift of [-6, 0, 6]) {
    pen.moveTo(shift, 6);
    pen.lineTo(shift + 6, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

function follow(canvas, frame, { rows, columns, marked, pick, describe, start }, { cellWidth, cellHeight, top }) {
  let [row, column] = start ?? [marked ?? 0, 0];
  const go = (i, j, isSpoken) => {
    row = Math.max(0, Math.min(rows.length - 1, i));
    column = Math.max(0, Math.min(columns.length - 1, j));
    frame.hidden = false;
    frame.style.left = `${column * cellWidth - 1}px`;
    frame.style.top = `${top + row * cellHeight - 1}px`;
    frame.style.width = `${cellWidth + 1}px`;
    frame.style.height = `${cellHeight + 1}px`;
    pick?.(row, column);
    if (isSpoken && describe) say(describe(row, column));
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const i = Math.floor((event.clientY - box.top) / cellHeight);
    const j = Math.floor((event.clientX - box.left) / cellWidth);
    if (i !== row || j !== column || frame.hidden) go(i, j, false);
  };
  canvas.addEventListener("pointermove", at);
  canvas.addEventListener("pointerdown", at);
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    go(row + step[0], column + step[1], true);
    frame.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  canvas.addEventListener("focus", () => frame.hidden && go(row, column, true));
  if (start) go(...start, false);
}

// A small picture without labels, as of a head among others.
export function thumbnail(values, n, isHidden, side = 64) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  canvas.width = canvas.height = n; // a pixel a cell, which the style sheet enlarges
  canvas.style.width = canvas.style.height = `${side}px`;
  const context = canvas.getContext("2d");
  const image = context.createImageData(n, n);
  const paint = colouring(0, 1);
  const masked = toParts(colour("hatch-ground"));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const cell = i * n + j;
      image.data.set(isHidden?.(i, j) ? masked : paint(values[cell]), 4 * cell);
      image.data[4 * cell + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
