// Model text as nodes. It reaches the page as text alone: no function here takes markup.

const INVISIBLE = /(?:(?![\n\t])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}])+/gu;
const BOXED = /\\boxed\{[^{}]*\}/gi;
// $$…$$, \[…\], \(…\) and, by pandoc's rule, $…$ with no blank inside its ends and no digit after.
const FORMULA =
  /\$\$([^$]{1,1500})\$\$|\\\[((?:(?!\\\[)[^]){1,1500}?)\\\]|\\\(((?:(?!\\\()[^]){1,800}?)\\\)|\$(?!\s)([^$\n]{1,800})(?<!\s)\$(?!\d)/g;
const LONGEST_WITH_MATHS = 60000;

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

// Characters that cannot be seen, or that turn the text around them, are spelt out.
function plain(text, into) {
  let at = 0;
  for (const found of text.matchAll(INVISIBLE)) {
    into.append(text.slice(at, found.index), el("span", { className: "control" }, codes(found[0])));
    at = found.index + found[0].length;
  }
  into.append(text.slice(at));
}

function boxes(text, into) {
  let at = 0;
  for (const found of text.matchAll(BOXED)) {
    plain(text.slice(at, found.index), into);
    const box = el("span", { className: "boxed" });
    plain(found[0], box);
    into.append(box);
    at = found.index + found[0].length;
  }
  plain(text.slice(at), into);
}

// Text with its formulas set, unless they are wanted as written or there is too much of it.
function prose(text, into, asWritten) {
  text = text.replaceAll("\r\n", "\n");
  if (asWritten || text.length > LONGEST_WITH_MATHS) return boxes(text, into);
  let at = 0;
  for (const found of text.matchAll(FORMULA)) {
    const source = found[1] ?? found[2] ?? found[3] ?? found[4];
    const display = found[1] !== undefined || found[2] !== undefined;
    const set = source.search(INVISIBLE) < 0 && maths(source, display);
    if (!set) continue;
    set.setAttribute("title", found[0]);
    boxes(text.slice(at, found.index), into);
    into.append(set);
    at = found.index + found[0].length;
  }
  boxes(text.slice(at), into);
}

// A text as the page has it: whole, or [beginning, characters left out, end].
function excerpt(value, file, asWritten) {
  const box = el("div", { className: "text", dir: "auto" });
  if (typeof value === "string") {
    prose(value, box, asWritten);
    return box;
  }
  const [head, left, tail] = value;
  const whole = [...head].length + left + [...tail].length;
  prose(head, box, asWritten);
  box.append(
    el("p", { className: "gap", dir: "ltr" },
      `${left.toLocaleString("en")} of ${whole.toLocaleString("en")} characters are left out here; all of them are in ${file}`),
  );
  prose(tail, box, asWritten);
  return box;
}

function characters(value) {
  const count = typeof value === "string" ? [...value].length : [...value[0]].length + value[1] + [...value[2]].length;
  return `${count.toLocaleString("en")} character${count === 1 ? "" : "s"}`;
}
