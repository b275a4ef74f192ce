// Who answers: the server, or what is embedded in this file. The rest of the page does not know.

export class Refusal extends Error {}

const embedded = document.getElementById("embedded");
const file = embedded ? JSON.parse(embedded.textContent) : null;
const kept = new Map(); // answers that have come, by question and ids
const MOST_KEPT = 400;

// What this page was written with, or null where a server answers.
export const writtenWith = file && { ids: file.ids, command: file.command };

// The answer to a question (see explorer/answers.py); a Refusal says in one line why there is none.
export function ask(question, asked = {}) {
  const key = question + JSON.stringify(asked);
  if (!kept.has(key)) {
    const answer = file ? look(question, asked) : fetchAnswer(question, asked);
    kept.set(key, answer);
    answer.catch(() => kept.delete(key));
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  }
  return kept.get(key);
}

async function fetchAnswer(question, asked) {
  let response;
  try {
    response = await fetch("/ask/" + question, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked),
    });
  } catch {
    throw new Refusal("the explorer has ended; start it again with: python -m explorer");
  }
  if (!response.ok) throw new Refusal((await response.text()).trim());
  return decoded(await response.json());
}

// Arrays as numbers; everything else as it is.
function decoded(answer) {
  if (answer && typeof answer.data === "string") return { ...answer, data: toNumbers(answer) };
  if (answer?.attention) answer.attention = { ...answer.attention, data: toNumbers(answer.attention) };
  return answer;
}

function toNumbers({ data, dtype }) {
  const text = atob(data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  if (dtype === "float32") return new Float32Array(bytes.buffer);
  if (dtype === "uint16") return new Uint16Array(bytes.buffer);
  if (dtype === "uint8") return bytes;
  return Float32Array.from(new Uint16Array(bytes.buffer), fromHalf);
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

async function look(question, asked) {
  const answers = file.answers[question];
  const { ids, ...rest } = asked;
  if (ids && JSON.stringify(ids) !== JSON.stringify(file.ids)) throw new Refusal(beyond("another prompt"));
  if (question === "tokens") {
    if (asked.text !== file.prompt) throw new Refusal(beyond("another prompt"));
    return answers;
  }
  if (question === "array") return lookForArray(answers, rest);
  if (question === "terms") return lookForTerms(answers[rest.value], rest);
  if (question === "what_if") return decoded({ ...found(answers[JSON.stringify(rest.changes)], "this change") });
  if (question === "why") return found(answers[rest.value], "how this came about");
  if (rest.position !== undefined && answers[rest.position]) return decoded({ ...answers[rest.position] });
  return answers;
}

function lookForArray(answers, { value, position, average }) {
  const name = average ? `${value} average` : answers[`${value}@${position}`] ? `${value}@${position}` : value;
  const answer = found(answers[name], "this array");
  return decoded({ ...answer, data: answer.data ?? answers[answer.same].data });
}

function lookForTerms(table, { cell }) {
  found(table, "the products of this sum");
  if (!table.read) {
    table.read = {};
    for (const name of ["where", "a", "b", "product", "rest"]) table.read[name] = toNumbers(table[name]);
  }
  const { where, a, b, product, rest } = table.read;
  const n = where.length / rest.length;
  const terms = Array.from({ length: n }, (_, i) => cell * n + i);
  return {
    names: table.names, axis: table.axis, n: table.n, rest: rest[cell],
    terms: terms.map((i) => [where[i], a[i], b[i], product[i]]),
  };
}

function found(answer, what) {
  if (answer === undefined) throw new Refusal(beyond(what));
  return answer;
}

function beyond(what) {
  return `This file does not hold ${what}; to see it, run: ${file.command}`;
}
