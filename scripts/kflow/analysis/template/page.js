// The map of rollouts, and the address, which says what is open.

const data = JSON.parse(document.getElementById("data").textContent);
const GLYPHS = { r: "✓", w: "×", n: "–", t: "…", f: "!", a: "·" };
const FEW_STEPS = 12; // up to here a cell has room for the answer
const KEPT = 6; // unpacked chains
const $ = (id) => document.getElementById(id);
const HINT = $("hint").textContent;
const chains = new Map();
let asSource = false;
let drawn = "";

// The address -> {run, seed, problem, step, slot, other, otherSeed} as positions; problem -1: none.
function state() {
  const given = new URLSearchParams(location.hash.slice(1));
  const position = (list, value, otherwise) => {
    const at = list.findIndex((each) => String(each) === value);
    return at < 0 ? otherwise : at;
  };
  const names = data.runs.map((run) => run.name);
  const run = position(names, given.get("run"), 0);
  const { seeds, problems, steps } = data.runs[run];
  const other = position(names, given.get("with"), -1);
  const at = {
    run,
    seed: position(seeds, given.get("seed"), 0),
    problem: position(problems, given.get("problem"), -1),
    step: position(steps, given.get("step"), 0),
    other,
    otherSeed: other < 0 ? 0 : position(data.runs[other].seeds, given.get("with_seed"), 0),
  };
  const slots = at.problem < 0 ? null : slotsOf(data.runs[run], at);
  return { ...at, slot: slots ? position([...slots[0]].map((_, n) => n), given.get("slot"), verdictSlot(slots)) : 0 };
}

function address(at) {
  const run = data.runs[at.run];
  const given = new URLSearchParams({ run: run.name });
  if (run.seeds.length > 1) given.set("seed", run.seeds[at.seed]);
  if (at.problem >= 0) {
    given.set("problem", run.problems[at.problem]);
    given.set("step", run.steps[at.step]);
    if (at.slot !== undefined && slotsOf(run, at)) given.set("slot", at.slot);
  }
  if (at.other >= 0) {
    given.set("with", data.runs[at.other].name);
    if (data.runs[at.other].seeds.length > 1) given.set("with_seed", data.runs[at.other].seeds[at.otherSeed]);
  }
  return `#${given}`;
}

// [outcomes, marks, answers] of a step of several slots, else null.
function slotsOf(run, { seed, problem, step }) {
  return run.slots[seed][problem][step];
}

// The first slot that gave the step's verdict.
function verdictSlot(slots) {
  return Math.max(0, slots[1].indexOf("v"));
}

function title(run, problem) {
  return run.own_ids ? run.problems[problem] : `problem ${run.problems[problem]}`;
}

// How a rollout looks and what is said of it, from its codes.
function looks(code, mark) {
  const words = data.marks[mark] ? `${data.outcomes[code]} (${data.marks[mark]})` : data.outcomes[code];
  return { code: mark === " " ? code : `${code} mark-${mark}`, glyph: GLYPHS[code], words };
}

function outcome(run, { seed, problem, step, slot }) {
  const slots = slot === undefined ? null : slotsOf(run, { seed, problem, step });
  return slots
    ? { ...looks(slots[0][slot], slots[1][slot]), answer: slots[2][slot] }
    : { ...looks(run.outcomes[seed][problem][step], run.marks[seed][problem][step]), answer: run.answers[seed][problem][step] };
}

// A link to a rollout, or without a slot to a step, that looks like its outcome.
function cell(at, run, withAnswer) {
  const { code, glyph, words, answer } = outcome(run, at);
  const slots = slotsOf(run, at);
  const which = at.slot === undefined ? (slots ? `, ${slots[0].length} rollouts` : "") : `, rollout ${at.slot}`;
  const label = `${title(run, at.problem)}, step ${run.steps[at.step]}${which}: ${words}${answer === null ? "" : `, ${answer}`}, gold ${run.golds[at.problem]}`;
  const link = el("a", { className: `cell ${code}`, href: address(at), title: label, "aria-label": label }, glyph);
  if (withAnswer && answer !== null) link.append(el("span", { className: "answer" }, answer));
  return link;
}

function drawMap(at) {
  if (drawn === `${at.run} ${at.seed}`) return;
  drawn = `${at.run} ${at.seed}`;
  const run = data.runs[at.run];
  fill($("run"), data.runs.map((each) => each.name), at.run);
  fill($("seed"), run.seeds, at.seed);
  fill($("problem"), run.problems.map((_, p) => title(run, p)), at.problem);
  $("seed-label").hidden = run.seeds.length < 2;
  const few = run.steps.length <= FEW_STEPS;
  $("work").className = few ? "few" : "";
  const head = el("tr", {}, el("th", { scope: "col" }, "problem"), few ? el("th", { scope: "col" }, "gold") : null, ...run.steps.map((step) => el("th", { scope: "col" }, String(step))));
  const rows = run.problems.map((_, problem) => {
    const name = title(run, problem);
    const row = el("tr", {}, el("th", { scope: "row", title: name }, el("bdi", {}, name)), few ? el("td", { className: "gold" }, run.golds[problem]) : null);
    run.steps.forEach((_, step) => {
      const link = cell({ ...at, problem, step, slot: undefined, other: -1 }, run, few);
      link.tabIndex = problem || step ? -1 : 0;
      link.dataset.at = `${problem} ${step}`;
      row.append(el("td", {}, link));
    });
    return row;
  });
  const table = el("table", { className: few ? "heat few" : "heat", role: "grid", "aria-label": `Outcomes of ${run.name} by problem and step` }, el("thead", {}, head), el("tbody", {}, ...rows));
  $("heat").replaceChildren(table);
}

function fill(select, names, chosen) {
  select.replaceChildren(...names.map((name, n) => el("option", { value: n }, String(name))));
  select.value = chosen;
}

function drawLegend() {
  const seen = (name, code) => data.runs.some((run) => run[name].flat().some((row) => row.includes(code)));
  const wide = data.runs.some((run) => run.slots.flat(2).some(Boolean));
  const item = (code, glyph, words) => el("li", {}, el("span", { className: `cell ${code}`, "aria-hidden": "true" }, glyph), ` ${words}`);
  const outcomes = Object.entries(data.outcomes).filter(([code]) => code !== "a" || seen("outcomes", code));
  const marks = Object.entries(data.marks).filter(([mark]) => seen("marks", mark) || (wide && mark === "v"));
  $("legend").replaceChildren(
    ...outcomes.map(([code, words]) => item(code, GLYPHS[code], words)),
    ...marks.map(([mark, words]) => item(`n mark-${mark}`, "\u00a0", words)),
  );
}

// The other run's position of the same problem, -1 where it has none.
function counterpart(run, problem, other) {
  if (run.own_ids && other.own_ids) {
    const at = other.problems.indexOf(run.problems[problem]);
    return at >= 0 && other.golds[at] === run.golds[problem] ? at : -1;
  }
  return other.golds[problem] === run.golds[problem] ? problem : -1;
}

function chain(run, seed, problem) {
  const id = `${run}-${seed}-${problem}`;
  if (!chains.has(id)) {
    chains.set(id, unpack(id));
    if (chains.size > KEPT) chains.delete(chains.keys().next().value);
  }
  return chains.get(id);
}

async function side(r, seed, problem, step, slot) {
  const run = data.runs[r];
  const { code, glyph, words } = outcome(run, { seed, problem, step, slot });
  const about = {
    run: run.name,
    seed: run.seeds.length > 1 ? `, seed ${run.seeds[seed]}` : "",
    problem: run.problems[problem],
    step: run.steps[step],
    slot,
    folder: run.files[seed],
    gold: run.golds[problem],
    latex: run.latex,
    outcome: words,
    code,
    glyph,
  };
  return article(await chain(r, seed, problem), about, asSource);
}

function absent(name, why) {
  return el("article", {}, el("h3", {}, el("bdi", {}, name)), el("p", { className: "remark" }, why));
}

async function beside(at) {
  const run = data.runs[at.run];
  const other = data.runs[at.other];
  const problem = counterpart(run, at.problem, other);
  const step = other.steps.indexOf(run.steps[at.step]);
  if (problem < 0) return absent(other.name, "This run has no such problem.");
  if (step < 0) return absent(other.name, `This run has no step ${run.steps[at.step]}.`);
  const slots = slotsOf(other, { seed: at.otherSeed, problem, step });
  const slot = slots ? (at.slot < slots[0].length ? at.slot : verdictSlot(slots)) : 0;
  return side(at.other, at.otherSeed, problem, step, slot);
}

function drawTools(at) {
  const run = data.runs[at.run];
  $("run").value = at.run;
  $("seed").value = at.seed;
  $("problem").value = at.problem;
  for (const [id, step] of [["previous", at.step - 1], ["next", at.step + 1]]) {
    if (step in run.steps) $(id).href = address({ ...at, step, slot: undefined });
    else $(id).removeAttribute("href");
    $(id).setAttribute("aria-disabled", String(!(step in run.steps)));
  }
  const others = data.runs.flatMap((each, r) => each.seeds.map((seed, s) => [r, s, each.seeds.length > 1 ? `${each.name}, seed ${seed}` : each.name]));
  const choices = others.filter(([r, s]) => r !== at.run || s !== at.seed);
  $("with").replaceChildren(el("option", { value: "" }, "nothing"), ...choices.map(([r, s, name]) => el("option", { value: `${r} ${s}` }, name)));
  $("with").value = at.other < 0 ? "" : `${at.other} ${at.otherSeed}`;
  $("with").parentElement.hidden = !choices.length;
  drawStrip(at, run);
}

// The steps of a chain, and the slots of a step that has several; the links stay while one steps
// through them, and so does the focus.
function drawStrip(at, run) {
  strip($("strip"), address({ ...at, step: 0, slot: undefined }), at.step, run.steps, (step) => cell({ ...at, step, slot: undefined }, run, false));
  const slots = slotsOf(run, at);
  $("slots-label").hidden = !slots;
  strip($("slots"), address({ ...at, slot: undefined }), at.slot, slots ? [...slots[0]].keys() : [], (slot) => cell({ ...at, slot }, run, false));
}

function strip(box, shown, current, names, link) {
  if (box.dataset.shown !== shown) {
    box.dataset.shown = shown;
    box.replaceChildren(...[...names].map((name, n) => {
      const each = link(n);
      each.append(el("span", { className: "number" }, String(name)));
      return each;
    }));
  }
  [...box.children].forEach((each, n) => {
    if (n === current) each.setAttribute("aria-current", "step");
    else each.removeAttribute("aria-current");
  });
}

let latest = 0;

async function show() {
  const mine = ++latest;
  const at = state();
  drawMap(at);
  for (const old of document.querySelectorAll(".heat [aria-current]")) old.removeAttribute("aria-current");
  const missing = new URLSearchParams(location.hash.slice(1)).get("problem");
  $("hint").textContent = missing === null ? HINT : `This run has no problem ${missing}. ${HINT}`;
  $("hint").hidden = at.problem >= 0;
  $("opened").hidden = at.problem < 0;
  if (at.problem < 0) {
    $("rollout-title").textContent = "Rollout";
    $("sides").replaceChildren();
    $("run").value = at.run;
    return;
  }
  const run = data.runs[at.run];
  const current = document.querySelector(`.heat [data-at="${at.problem} ${at.step}"]`);
  current.setAttribute("aria-current", "true");
  stay(current);
  drawTools(at);
  let articles = [];
  let failure = "";
  try {
    const both = [side(at.run, at.seed, at.problem, at.step, at.slot)];
    if (at.other >= 0) both.push(beside(at));
    articles = await Promise.all(both);
  } catch (error) {
    failure = `This rollout cannot be shown: ${error.message}.`;
  }
  if (mine !== latest) return; // another rollout was opened meanwhile
  $("rollout-title").replaceChildren(el("bdi", {}, title(run, at.problem)), `, step ${run.steps[at.step]}${slotsOf(run, at) ? `, rollout ${at.slot}` : ""}`);
  $("sides").className = articles.length > 1 ? "two" : "one";
  $("sides").replaceChildren(...articles);
  $("status").textContent = failure;
}

// The one cell of the map that the tab key stops at.
function stay(link) {
  for (const each of document.querySelectorAll('.heat a[tabindex="0"]')) each.tabIndex = -1;
  link.tabIndex = 0;
}

function walkMap(event) {
  const link = event.target.closest("a");
  const [across, down] = arrows(event);
  if (!link || across === undefined) return;
  const [problem, step] = link.dataset.at.split(" ").map(Number);
  const rows = $("heat").querySelectorAll("tbody tr");
  const row = rows[Math.min(rows.length - 1, Math.max(0, problem + down))].querySelectorAll("a");
  const next = row[Math.min(row.length - 1, Math.max(0, step + across))];
  event.preventDefault();
  stay(next);
  next.focus();
}

function walkChain(event) {
  const id = { ArrowLeft: "previous", ArrowRight: "next" }[event.key];
  if (!id || event.target.closest("select, input") || event.altKey || event.ctrlKey || event.metaKey) return;
  if (!$(id).hasAttribute("href")) return;
  event.preventDefault();
  location.hash = $(id).hash;
}

function choose(change) {
  location.hash = address({ ...state(), ...change });
}

startCurves();
drawLegend();
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the page's state
  $("map").focus();
});
$("heat").addEventListener("keydown", walkMap);
$("heat").addEventListener("click", (event) => {
  if (!event.target.closest("a") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  $("rollout-title").focus();
});
$("rollout").addEventListener("keydown", walkChain);
$("run").addEventListener("change", () => {
  const at = state();
  const run = Number($("run").value);
  const problem = at.problem < 0 ? -1 : counterpart(data.runs[at.run], at.problem, data.runs[run]);
  const step = Math.max(0, data.runs[run].steps.indexOf(data.runs[at.run].steps[at.step]));
  choose({ run, seed: 0, problem, step, slot: undefined, other: -1 });
});
$("seed").addEventListener("change", () => choose({ seed: Number($("seed").value), slot: undefined, other: -1 }));
$("problem").addEventListener("change", () => choose({ problem: Number($("problem").value), slot: undefined }));
$("with").addEventListener("change", () => {
  const [other, otherSeed] = $("with").value ? $("with").value.split(" ").map(Number) : [-1, 0];
  choose({ other, otherSeed });
});
$("source").addEventListener("change", () => {
  asSource = $("source").checked;
  show();
});
addEventListener("hashchange", show);
if (document.readyState === "loading") {
  drawMap(state());
  addEventListener("DOMContentLoaded", show);
} else show();
