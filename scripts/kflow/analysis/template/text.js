// Model text as nodes. It reaches the page as text alone: no function here takes markup.

const INVISIBLE = /(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const INVISIBLE_RUN = new RegExp(`(?:${INVISIBLE.source})+`, "gu");
const BOXED = /\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]{0,40}\}){0,80}\}){0,120}\}/gi;
// $$…$$, \[…\], \(…\), by pandoc's rule $…$ with no blank inside its ends and no digit after, and
// the environments that need none of these.
const FORMULA =
  /\$\$([^$]{1,1500})\$\$|\\\[((?:(?!\\\[)[^]){1,1500}?)\\\]|\\\(((?:(?!\\\()[^]){1,800}?)\\\)|\$(?!\s)([^$\n]{1,800})(?<!\s)\$(?!\d)|(\\begin\{(align|equation|gather)(\*?)\}[^]{1,1400}?\\end\{\6\7\})/g;
const LATEX = /\{[^]*\\/; // in a box, more than an integer
const WORDS = /\s[a-z]{2,}\s/; // between two prices, say
const LONGEST_WITH_MATHS = 60000; // characters of a text
const LONGEST_LINE = 4000;
const MOST_ELEMENTS = 1000; // formulas, boxes and spelt-out characters in one text

function el(name, properties, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties || {})) {
    if (key in node && key !== "role") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function codes(run) {
  const all = [...run];
  const named = all.slice(0, 8).map((c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
  const more = all.length > 8 ? ` and ${(all.length - 8).toLocaleString("en")} more` : "";
  return `⟨${named.join(" ")}${more}⟩`;
}

// Characters that cannot be seen, or that turn the text around them, are spelt out. `room` is
// shared by all that one text is made of: elements without end would take the browser minutes.
function plain(text, into, room = { left: MOST_ELEMENTS }) {
  let at = 0;
  for (const match of text.matchAll(INVISIBLE_RUN)) {
    if (room.left-- <= 0) break;
    into.append(text.slice(at, match.index), el("span", { className: "control" }, codes(match[0])));
    at = match.index + match[0].length;
  }
  into.append(text.slice(at).replace(INVISIBLE_RUN, codes));
}

function boxes(text, into, asSource, room) {
  let at = 0;
  for (const match of text.matchAll(BOXED)) {
    if (room.left-- <= 0) break;
    plain(text.slice(at, match.index), into, room);
    const box = el("span", { className: "boxed" });
    const set = asSource || !LATEX.test(match[0]) ? null : formula(match[0], false, room);
    if (set) box.append(set);
    else plain(match[0], box, room);
    into.append(box);
    at = match.index + match[0].length;
  }
  plain(text.slice(at), into, room);
}

// A formula that is set, unless the text has had its share of them.
function formula(source, display, room) {
  room.formulas -= source.length;
  return room.formulas < 0 ? null : maths(source, display);
}

// Text with its formulas set, or with their source.
function prose(text, into, asSource, room) {
  let at = 0;
  for (const match of asSource ? [] : text.matchAll(FORMULA)) {
    if (room.left <= 0 || room.formulas <= 0) break;
    const source = match.slice(1, 6).find((group) => group !== undefined);
    if (match[4] && WORDS.test(source.replace(/\\text\{[^}]*\}/g, ""))) continue;
    const set = formula(source, !match[3] && !match[4], room);
    if (!set) continue;
    room.left--;
    set.setAttribute("title", match[0]);
    boxes(text.slice(at, match.index), into, asSource, room);
    into.append(set);
    at = match.index + match[0].length;
  }
  boxes(text.slice(at), into, asSource, room);
}

// The text in pieces that end inside lines of many thousand characters: a browser takes minutes
// over such a line where it mixes scripts. One piece where there is no such line.
function pieces(text) {
  const pieces = [];
  let piece = "";
  for (const line of text.split(/(?<=\n)/)) {
    let at = 0;
    while (line.length - at > LONGEST_LINE) {
      const end = at + LONGEST_LINE - (/[\ud800-\udbff]/.test(line[at + LONGEST_LINE - 1]) ? 1 : 0);
      pieces.push(piece + line.slice(at, end));
      piece = "";
      at = end;
    }
    piece += line.slice(at);
  }
  return [...pieces, piece];
}

function fillText(text, into, asSource) {
  const all = pieces(text.replaceAll("\r\n", "\n"));
  const room = { left: MOST_ELEMENTS, formulas: LONGEST_FORMULAS };
  asSource ||= text.length > LONGEST_WITH_MATHS;
  if (all.length === 1) return prose(all[0], into, asSource, room);
  for (const piece of all) {
    const part = el("div", { className: "piece" });
    prose(piece, part, asSource, room);
    into.append(part);
  }
}

// A text as the page has it: whole, or [beginning, characters left out, end].
function excerpt(value, file, asSource) {
  const box = el("div", { className: "text", dir: "auto" });
  if (typeof value === "string") {
    fillText(value, box, asSource);
    return box;
  }
  const [head, left, tail] = value;
  const whole = [...head].length + left + [...tail].length;
  fillText(head, box, asSource);
  box.append(
    el("p", { className: "gap", dir: "ltr" },
      `${left.toLocaleString("en")} of ${whole.toLocaleString("en")} characters are left out here; all of them are in ${file}`),
  );
  fillText(tail, box, asSource);
  return box;
}

function characters(value) {
  const count = typeof value === "string" ? [...value].length : [...value[0]].length + value[1] + [...value[2]].length;
  return `${count.toLocaleString("en")} character${count === 1 ? "" : "s"}`;
}
