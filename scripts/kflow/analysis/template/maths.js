// Simple LaTeX to MathML. Whatever is not understood throws, and the formula stays as written:
// a formula is shown whole or not at all. Text reaches the page by textContent alone.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const LETTERS = {
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ϵ", varepsilon: "ε", zeta: "ζ",
  eta: "η", theta: "θ", vartheta: "ϑ", iota: "ι", kappa: "κ", lambda: "λ", mu: "μ", nu: "ν",
  xi: "ξ", pi: "π", rho: "ρ", sigma: "σ", tau: "τ", upsilon: "υ", phi: "ϕ", varphi: "φ", chi: "χ",
  psi: "ψ", omega: "ω", Gamma: "Γ", Delta: "Δ", Theta: "Θ", Lambda: "Λ", Xi: "Ξ", Pi: "Π",
  Sigma: "Σ", Phi: "Φ", Psi: "Ψ", Omega: "Ω", ell: "ℓ", infty: "∞", emptyset: "∅", varnothing: "∅",
};
const OPERATORS = {
  cdot: "⋅", times: "×", div: "÷", pm: "±", mp: "∓", ast: "∗", circ: "∘", le: "≤", leq: "≤",
  leqslant: "≤", ge: "≥", geq: "≥", geqslant: "≥", ne: "≠", neq: "≠", equiv: "≡", approx: "≈",
  sim: "∼", cong: "≅", mid: "∣", nmid: "∤", in: "∈", notin: "∉", subset: "⊂", subseteq: "⊆",
  cup: "∪", cap: "∩", setminus: "∖", to: "→", rightarrow: "→", Rightarrow: "⇒", implies: "⟹",
  iff: "⟺", mapsto: "↦", ldots: "…", dots: "…", cdots: "⋯", vdots: "⋮", lfloor: "⌊", rfloor: "⌋",
  lceil: "⌈", rceil: "⌉", langle: "⟨", rangle: "⟩", angle: "∠", triangle: "△", perp: "⊥",
  parallel: "∥", forall: "∀", exists: "∃", therefore: "∴", land: "∧", lor: "∨", neg: "¬",
  partial: "∂", star: "⋆", "{": "{", "}": "}", "%": "%", $: "$", "#": "#", "&": "&", _: "_",
  lvert: "|", rvert: "|", vert: "|", "|": "∥", bmod: "mod", prime: "′", degree: "°",
};
const BIG = { sum: "∑", prod: "∏", int: "∫", bigcup: "⋃", bigcap: "⋂" };
const NAMES = new Set(
  "sin cos tan cot sec csc arcsin arccos arctan log ln exp lim max min gcd lcm deg det mod".split(" "),
);
const SPACES = { ",": 0.17, ":": 0.22, ";": 0.28, " ": 0.3, "!": 0, quad: 1, qquad: 2 };
const ACCENTS = { bar: "¯", hat: "^", vec: "→", dot: "˙", tilde: "~" };
const TEXTS = new Set("text mathrm operatorname textbf mathbf textit mathit".split(" "));
const DOUBLE = { R: "ℝ", Z: "ℤ", N: "ℕ", Q: "ℚ", C: "ℂ" };
const FRACTIONS = new Set(["frac", "dfrac", "tfrac", "binom"]);
const IGNORED = new Set("displaystyle limits nolimits bigl bigr Bigl Bigr big Big".split(" "));
const TOKEN = /\\[a-zA-Z]+|\\[^]|\d+(?:[.,]\d+)*|\s+|[^]/gu;
const FENCE = /^[()[\]{}|⌊⌋⌈⌉⟨⟩∥]$/;
const DEEPEST = 40;

function mathml(name, ...children) {
  const node = document.createElementNS(MATHML, name);
  node.append(...children);
  return node;
}

// Fences grow with what they hold where TeX's do: after \left and \right.
function operator(sign, grows = false) {
  const node = mathml("mo", sign);
  if (FENCE.test(sign)) node.setAttribute("stretchy", String(grows));
  return node;
}

// A <math> element for a formula, or null.
function maths(source, display) {
  try {
    const reader = { tokens: source.match(TOKEN) || [], at: 0, deep: 0 };
    const row = readRow(reader, null);
    const math = mathml("math", row);
    if (display) math.setAttribute("display", "block");
    return math;
  } catch (error) {
    if (error instanceof Unreadable) return null;
    throw error;
  }
}

class Unreadable extends Error {}

function readRow(reader, end) {
  if (++reader.deep > DEEPEST) throw new Unreadable("too deep");
  const row = mathml("mrow");
  for (;;) {
    const token = reader.tokens[reader.at];
    if (token === undefined && end !== null) throw new Unreadable(`no ${end}`);
    if (token === undefined || token === end) break;
    const atom = readAtom(reader);
    if (atom) row.append(readScripts(reader, atom));
  }
  reader.at++;
  reader.deep--;
  return row;
}

function skipSpace(reader) {
  while (/^\s/.test(reader.tokens[reader.at] ?? "")) reader.at++;
}

function readScripts(reader, atom) {
  let under = null;
  let over = null;
  for (;;) {
    skipSpace(reader);
    const token = reader.tokens[reader.at];
    if (token === "_" && !under) {
      reader.at++;
      under = readArgument(reader);
    } else if (token === "^" && !over) {
      reader.at++;
      over = readArgument(reader);
    } else if (token === "_" || token === "^") throw new Unreadable("two scripts");
    else break;
  }
  const limits = atom.className === "big";
  if (under && over) return mathml(limits ? "munderover" : "msubsup", atom, under, over);
  if (under) return mathml(limits ? "munder" : "msub", atom, under);
  if (over) return mathml(limits ? "mover" : "msup", atom, over);
  return atom;
}

// What a command or a script takes: a group in braces or one atom.
function readArgument(reader) {
  skipSpace(reader);
  const token = reader.tokens[reader.at];
  if (token === undefined || "}^_&".includes(token)) throw new Unreadable("no argument");
  if (/^\d{2}/.test(token)) {
    // TeX takes one digit: x^23 is x², 3.
    reader.tokens[reader.at] = token.slice(1);
    return mathml("mn", token[0]);
  }
  if (++reader.deep > DEEPEST) throw new Unreadable("too deep");
  const atom = readAtom(reader);
  reader.deep--;
  if (!atom) throw new Unreadable("no argument");
  return atom;
}

function readPlain(reader) {
  skipSpace(reader);
  if (reader.tokens[reader.at++] !== "{") throw new Unreadable("no text");
  let text = "";
  for (; reader.tokens[reader.at] !== "}"; reader.at++) {
    const token = reader.tokens[reader.at];
    if (token === undefined || /^[\\{$]/.test(token)) throw new Unreadable("no plain text");
    text += token;
  }
  reader.at++;
  return text;
}

function readAtom(reader) {
  const token = reader.tokens[reader.at++];
  if (/^\s/.test(token)) return null;
  if (token === "{") return readRow(reader, "}");
  if (token === "'") return mathml("mo", "′");
  if (token === "-") return mathml("mo", "−");
  if (token === "~") return space(0.3);
  if (/^[0-9]/.test(token)) return mathml("mn", token);
  if (/^[\p{L}]$/u.test(token)) return mathml("mi", token);
  if (/^[+*/=<>()[\]|,.;:!?]$/.test(token) || /^\p{Sm}$/u.test(token)) return operator(token);
  if (token.length < 2 || token[0] !== "\\") throw new Unreadable(token);
  return readCommand(reader, token.slice(1));
}

function space(width) {
  const node = mathml("mspace");
  node.setAttribute("width", `${width}em`);
  return node;
}

function readCommand(reader, name) {
  if (Object.hasOwn(LETTERS, name)) return mathml("mi", LETTERS[name]);
  if (Object.hasOwn(OPERATORS, name)) return operator(OPERATORS[name]);
  if (Object.hasOwn(SPACES, name)) return space(SPACES[name]);
  if (Object.hasOwn(ACCENTS, name)) {
    return mathml("mover", readArgument(reader), mathml("mo", ACCENTS[name]));
  }
  if (Object.hasOwn(BIG, name)) {
    const sign = mathml("mo", BIG[name]);
    sign.className = "big";
    return sign;
  }
  if (NAMES.has(name)) return mathml("mi", name);
  if (TEXTS.has(name)) {
    const text = mathml("mtext", readPlain(reader));
    text.classList.add(name);
    return text;
  }
  if (name === "mathbb") {
    const letter = DOUBLE[readPlain(reader)];
    if (!letter) throw new Unreadable(name);
    return mathml("mi", letter);
  }
  if (FRACTIONS.has(name)) {
    const fraction = mathml("mfrac", readArgument(reader), readArgument(reader));
    if (name !== "binom") return fraction;
    fraction.setAttribute("linethickness", "0");
    return mathml("mrow", operator("(", true), fraction, operator(")", true));
  }
  if (name === "sqrt") {
    skipSpace(reader);
    if (reader.tokens[reader.at] !== "[") return mathml("msqrt", readArgument(reader));
    reader.at++;
    const index = readRow(reader, "]");
    return mathml("mroot", readArgument(reader), index);
  }
  if (name === "boxed" || name === "overline") {
    const box = mathml("mrow", readArgument(reader));
    box.classList.add(name);
    return box;
  }
  if (name === "pmod") {
    return mathml("mrow", space(0.5), operator("("), mathml("mi", "mod"), space(0.3), readArgument(reader), operator(")"));
  }
  if (name === "left" || name === "right") {
    skipSpace(reader);
    const sign = reader.tokens[reader.at++] ?? "";
    if (sign === ".") return null;
    const fence = sign[0] === "\\" ? OPERATORS[sign.slice(1)] : sign;
    if (!FENCE.test(fence)) throw new Unreadable(sign);
    return operator(fence, true);
  }
  if (IGNORED.has(name)) return null;
  throw new Unreadable(name);
}
