// Numbers as colours, those of the notebooks: blue for what is positive alone; blue, white and red
// for numbers of both signs. Dark pages begin at their own ground instead of white.

const SEQUENTIAL = {
  light: ["#ffffff", "#bbd7ea", "#0072b2", "#00304d"],
  dark: ["#1b2026", "#145075", "#2f9ad8", "#d6edfb"],
};
const SIGNED = {
  light: ["#0072b2", "#9cc8e3", "#ffffff", "#f0b48a", "#d55e00"],
  dark: ["#3fa6e0", "#1d5273", "#1b2026", "#7a4320", "#ee7d2b"],
};
const N = 256;

export const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

// A colour of the style sheet, by its name there.
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A function from a number to [red, green, blue]: low to high by size where nothing is negative,
// else from -limit to limit.
export function colouring(low, high) {
  const isSigned = low < 0;
  const limit = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const stops = (isSigned ? SIGNED : SEQUENTIAL)[isDark() ? "dark" : "light"];
  const table = interpolate(stops);
  return (value) => {
    const share = isSigned ? (value + limit) / (2 * limit) : value / limit;
    return table[Math.max(0, Math.min(N - 1, Math.round(share * (N - 1))))];
  };
}

function interpolate(stops) {
  const parts = stops.map(toParts);
  return Array.from({ length: N }, (_, i) => {
    const place = (i / (N - 1)) * (parts.length - 1);
    const left = Math.min(Math.floor(place), parts.length - 2);
    return parts[left].map((part, j) => Math.round(part + (place - left) * (parts[left + 1][j] - part)));
  });
}

// [red, green, blue] of "#rrggbb".
export function toParts(text) {
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
}

export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

// The ink that can be read on a colour.
export function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue < 140 ? "#ffffff" : "#1b1b1b";
}
