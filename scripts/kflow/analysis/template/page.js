// The map of rollouts, the curve's points, and the address, which is all the state there is.

const data = JSON.parse(document.getElementById("data").textContent);
const GLYPHS = { r: "✓", w: "×", n: "–", c: "…", f: "!" };
const FEW_STEPS = 12; // up to here a cell has room for the answer
const KEPT = 6; // unpacked chains
const $ = (id) => document.getElementById(id);
const HINT = $("hint").textContent;
const chains = new Map();
let asWritten = false;
let drawn = "";

// The address -> {run, seed, problem, step, other, otherSeed} as positions; problem -1: none.
function state() {
  const told = new URLSearchParams(location.hash.slice(1));
  const position = (list, value, otherwise) => {
    const at = list.findIndex((each) => String(each) === value);
    return at < 0 ? otherwise : at;
  };
  const names = data.runs.map((run) => run.name);
  const run = position(names, told.get("run"), 0);
  const { seeds, problems, steps } = data.runs[run];
  const other = position(names, told.get("with"), -1);
  return {
    run,
    seed: position(seeds, told.get("seed"), 0),
    problem: position(problems, told.get("problem"), -1),
    step: position(steps, told.get("step"), 0),
    other,
    otherSeed: other < 0 ? 0 : position(data.runs[other].seeds, told.get("with_seed"), 0),
  };
}

function address(at) {
  const run = data.runs[at.run];
  const told = new URLSearchParams({ run: run.name });
  if (run.seeds.length > 1) told.set("seed", run.seeds[at.seed]);
  if (at.problem >= 0) {
    told.set("problem", run.problems[at.problem]);
    told.set("step", run.steps[at.step]);
  }
  if (at.other >= 0) {
    told.set("with", data.runs[at.other].name);
    if (data.runs[at.other].seeds.length > 1) told.set("with_seed", data.runs[at.other].seeds[at.otherSeed]);
  }
  return `#${told}`;
}

function title(run, problem) {
  return run.own_ids ? run.problems[problem] : `problem ${run.problems[problem]}`;
}

function outcome(run, seed, problem, step) {
  const code = run.outcomes[seed][problem][step];
  const rests = code !== code.toLowerCase();
  const small = code.toLowerCase();
  return { code: small + (rests ? " rests" : ""), glyph: GLYPHS[small], words: data.outcomes[small] + (rests ? " (chain at rest)" : "") };
}

// A link to a rollout that looks like what came of it.
function cell(at, run, withAnswer) {
  const { code, glyph, words } = outcome(run, at.seed, at.problem, at.step);
  const said = run.answers[at.seed][at.problem][at.step];
  const label = `${title(run, at.problem)}, step ${run.steps[at.step]}: ${words}${said === null ? "" : `, ${said}`}, gold ${run.golds[at.problem]}`;
  const link = el("a", { className: `cell ${code}`, href: address(at), title: label, "aria-label": label }, glyph);
  if (withAnswer && said !== null) link.append(el("span", { className: "said" }, said));
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
      const link = cell({ ...at, problem, step, other: -1 }, run, few);
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
  const items = Object.entries(data.outcomes).map(([code, words]) =>
    el("li", {}, el("span", { className: `cell ${code}`, "aria-hidden": "true" }, GLYPHS[code]), ` ${words}`));
  if (data.runs.some((run) => run.outcomes.flat().some((row) => row !== row.toLowerCase()))) {
    items.push(el("li", {}, el("span", { className: "cell r rests", "aria-hidden": "true" }, "✓"), " chain at rest: its last record again"));
  }
  $("legend").replaceChildren(...items);
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

async function side(r, seed, problem, step) {
  const run = data.runs[r];
  const { code, glyph, words } = outcome(run, seed, problem, step);
  const about = {
    run: run.name,
    seed: run.seeds.length > 1 ? `, seed ${run.seeds[seed]}` : "",
    problem: run.problems[problem],
    step: run.steps[step],
    folder: run.files[seed],
    gold: run.golds[problem],
    outcome: words,
    code,
    glyph,
  };
  return article(await chain(r, seed, problem), about, data.sections, asWritten);
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
  return side(at.other, at.otherSeed, problem, step);
}

function drawTools(at) {
  const run = data.runs[at.run];
  $("run").value = at.run;
  $("seed").value = at.seed;
  $("problem").value = at.problem;
  for (const [id, step] of [["previous", at.step - 1], ["next", at.step + 1]]) {
    if (step in run.steps) $(id).href = address({ ...at, step });
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

// The steps of a chain; the links stay while one steps through it, and so does the focus.
function drawStrip(at, run) {
  const chain = address({ ...at, step: 0 });
  if ($("strip").dataset.chain !== chain) {
    $("strip").dataset.chain = chain;
    $("strip").replaceChildren(...run.steps.map((step, s) => {
      const link = cell({ ...at, step: s }, run, false);
      link.append(el("span", { className: "step" }, String(step)));
      return link;
    }));
  }
  [...$("strip").children].forEach((link, s) => {
    if (s === at.step) link.setAttribute("aria-current", "step");
    else link.removeAttribute("aria-current");
  });
}

let latest = 0;

async function show() {
  const mine = ++latest;
  const at = state();
  drawMap(at);
  for (const old of document.querySelectorAll(".heat [aria-current]")) old.removeAttribute("aria-current");
  const lost = new URLSearchParams(location.hash.slice(1)).get("problem");
  $("hint").textContent = lost === null ? HINT : `This page has no problem ${lost} in that run. ${HINT}`;
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
  let told = "";
  try {
    const both = [side(at.run, at.seed, at.problem, at.step)];
    if (at.other >= 0) both.push(beside(at));
    articles = await Promise.all(both);
  } catch (error) {
    told = `This rollout cannot be shown: ${error.message}.`;
  }
  if (mine !== latest) return; // the reader has gone on meanwhile
  $("rollout-title").replaceChildren(el("bdi", {}, title(run, at.problem)), `, step ${run.steps[at.step]}`);
  $("sides").className = articles.length > 1 ? "two" : "one";
  $("sides").replaceChildren(...articles);
  $("status").textContent = told;
}

// The one cell of the map that the tab key stops at.
function stay(link) {
  for (const each of document.querySelectorAll('.heat a[tabindex="0"]')) each.tabIndex = -1;
  link.tabIndex = 0;
}

function walkMap(event) {
  const link = event.target.closest("a");
  const [across, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1], Home: [-Infinity, 0], End: [Infinity, 0] }[event.key] ?? [];
  if (!link || across === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  const [problem, step] = link.dataset.at.split(" ").map(Number);
  const rows = $("heat").querySelectorAll("tbody tr");
  const row = rows[Math.min(rows.length - 1, Math.max(0, problem + down))].querySelectorAll("a");
  const next = row[Math.min(row.length - 1, Math.max(0, step + across))];
  event.preventDefault();
  stay(next);
  next.focus();
}

function walkCurve(curve) {
  const lines = [...curve.querySelectorAll(".run")].map((run) => [...run.querySelectorAll(".point")]);
  const places = lines.map((line) => line.map((point) => point.transform.baseVal[0].matrix));
  const read = (point) => {
    $("reading").textContent = point.getAttribute("aria-label");
    for (const old of curve.querySelectorAll(".read")) old.classList.remove("read");
    point.classList.add("read");
  };
  lines[0][0].setAttribute("tabindex", "0");
  curve.addEventListener("focusin", (event) => {
    if (!event.target.matches(".point")) return;
    for (const old of curve.querySelectorAll('[tabindex="0"]')) old.setAttribute("tabindex", "-1");
    event.target.setAttribute("tabindex", "0");
    read(event.target);
  });
  curve.addEventListener("keydown", (event) => {
    const run = lines.findIndex((line) => line.includes(event.target));
    const [across, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] ?? [];
    if (run < 0 || across === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    const line = lines[run + down] ?? lines[run];
    const point = line[Math.min(line.length - 1, Math.max(0, lines[run].indexOf(event.target) + across))];
    event.preventDefault();
    point.focus();
  });
  const nearest = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(curve.getScreenCTM().inverse());
    let best = [Infinity, null];
    lines.forEach((line, r) => line.forEach((point, n) => {
      const away = Math.hypot(3 * (places[r][n].e - at.x), places[r][n].f - at.y);
      if (away < best[0]) best = [away, point];
    }));
    read(best[1]);
  };
  curve.addEventListener("pointermove", nearest);
  curve.addEventListener("pointerdown", nearest);
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

drawLegend();
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the page's state
  $("map").focus();
});
document.querySelectorAll(".curve").forEach(walkCurve);
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
  choose({ run, seed: 0, problem, step, other: -1 });
});
$("seed").addEventListener("change", () => choose({ seed: Number($("seed").value), other: -1 }));
$("problem").addEventListener("change", () => choose({ problem: Number($("problem").value) }));
$("with").addEventListener("change", () => {
  const [other, otherSeed] = $("with").value ? $("with").value.split(" ").map(Number) : [-1, 0];
  choose({ other, otherSeed });
});
$("source").addEventListener("change", () => {
  asWritten = $("source").checked;
  show();
});
addEventListener("hashchange", show);
if (document.readyState === "loading") {
  drawMap(state());
  addEventListener("DOMContentLoaded", show);
} else show();
