// Elements of the page, and numbers and tokens as a person reads them.

export function byId(id) {
  return document.getElementById(id);
}

// make("p", {class: "note", onclick: f}, "text", child): whatever is text stays text.
export function make(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "path", "line", "rect", "text", "g", "circle", "polyline", "title"];
  const element = isSvg.includes(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

// The same, but the button that had the focus has it again afterwards: the one in its place.
export function refill(element, ...children) {
  const i = [...element.querySelectorAll("button")].indexOf(document.activeElement);
  fill(element, ...children);
  if (i >= 0) [...element.querySelectorAll("button")][i]?.focus({ preventScroll: true });
}

// Four significant digits, without an exponent where it can be avoided.
export function written(number) {
  if (number === null || number === undefined || Number.isNaN(number)) return "–";
  if (number === Infinity) return "∞";
  if (number === -Infinity) return "−∞";
  const size = Math.abs(number);
  let text;
  if (size === 0 || Number.isInteger(number) && size < 1e6) text = String(number);
  else if (size >= 1e5 || size < 1e-4) text = number.toExponential(2);
  else if (size >= 1000) text = number.toFixed(0);
  else text = String(Number(number.toPrecision(4)));
  return text.replace("-", "−");
}

export function percent(p) {
  if (p === null || p === undefined) return "–";
  const value = 100 * p;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return (value >= 99.95 ? "100" : value.toFixed(1)) + " %";
}

// A token as it is written in pictures: its spaces as ·, a line's end as ↵.
export function spelled(token) {
  return token.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "→");
}

export function shortened(text, n = 12) {
  const characters = [...text];
  return characters.length > n ? characters.slice(0, n - 1).join("") + "…" : text;
}

// Buttons of which one is pressed; choose(value) is called when another is.
export function choice(label, values, chosen, choose, names = values) {
  const buttons = values.map((value, i) =>
    make("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => choose(value) },
      String(names[i])));
  return [make("span", { class: "quiet" }, label), ...buttons];
}

let lastSpoken = "";

// Have a screen reader say something.
export function say(text) {
  if (text !== lastSpoken) byId("spoken").textContent = text;
  lastSpoken = text;
}

let nUnderWay = 0;

// While something is computed the page says so, to screen readers and to whoever waits for it.
export async function whileBusy(work) {
  const main = document.querySelector("main");
  main.setAttribute("aria-busy", "true");
  nUnderWay++;
  try {
    return await work();
  } finally {
    if (--nUnderWay === 0) main.setAttribute("aria-busy", "false");
  }
}
