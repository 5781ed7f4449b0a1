// The page: what the address names is shown, and what the reader does changes the address.

const KEPT = 6; // unpacked chains
const HINT = $("hint").textContent;
const chains = new Map();
let asSource = false;

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
    file: run.files[seed][step],
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

// The other run's position of the same step; where one of them has several rollouts a step, of its
// last step within as many rollouts. -1 where it has none.
function counterstep(at, run, other) {
  if (![run, other].some((each) => each.slots.flat(2).some(Boolean))) return other.steps.indexOf(run.steps[at.step]);
  const spent = data.curves[at.run].axes.rollouts[at.step];
  return data.curves[at.other].axes.rollouts.findLastIndex((rollouts) => rollouts <= spent);
}

async function beside(at) {
  const run = data.runs[at.run];
  const other = data.runs[at.other];
  const problem = counterpart(run, at.problem, other);
  const step = counterstep(at, run, other);
  if (problem < 0) return absent(other.name, "This run has no such problem.");
  if (step < 0) return absent(other.name, `This run has no step ${run.steps[at.step]}.`);
  const slots = slotsOf(other, { seed: at.otherSeed, problem, step });
  const slot = slots ? (at.slot < slots[0].length ? at.slot : verdictSlot(slots)) : 0;
  return side(at.other, at.otherSeed, problem, step, slot);
}

function drawTools(at) {
  const run = data.runs[at.run];
  $("run").value = at.run;
  $("seed").value = at.map;
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
  $("seeds-label").hidden = run.seeds.length < 2;
  strip($("seeds"), address({ ...at, seed: 0, slot: undefined }), at.seed, run.seeds.length > 1 ? run.seeds : [], (seed) => cell({ ...at, seed, slot: undefined }, run, false));
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
let begun = false;

async function show() {
  const mine = ++latest;
  const at = state();
  drawMap(at);
  for (const old of document.querySelectorAll(".heat [aria-current]")) old.removeAttribute("aria-current");
  const missing = new URLSearchParams(location.hash.slice(1)).get("problem");
  $("hint").textContent = missing === null ? HINT : `This run has no problem ${missing}. ${HINT}`;
  $("hint").hidden = at.problem >= 0;
  $("worth").hidden = at.problem >= 0;
  $("opened").hidden = at.problem < 0;
  if (at.problem < 0) {
    $("rollout-title").textContent = "Rollout";
    $("sides").replaceChildren();
    $("run").value = at.run;
    begun = true;
    return;
  }
  const run = data.runs[at.run];
  const current = document.querySelector(`.heat [data-at="${at.problem} ${at.step}"]`);
  current.setAttribute("aria-current", "true");
  stay(current);
  drawTools(at);
  let articles = [];
  let opened = null;
  let failure = "";
  try {
    const both = [side(at.run, at.seed, at.problem, at.step, at.slot)];
    if (at.other >= 0) both.push(beside(at));
    articles = await Promise.all(both);
    opened = await chain(at.run, at.seed, at.problem);
  } catch (error) {
    failure = `This rollout cannot be shown: ${error.message}.`;
  }
  if (mine !== latest) return; // another rollout was opened meanwhile
  $("rollout-title").replaceChildren(el("bdi", {}, title(run, at.problem)), `, step ${run.steps[at.step]}${slotsOf(run, at) ? `, rollout ${at.slot}` : ""}`);
  $("sides").className = articles.length > 1 ? "two" : "one";
  $("sides").replaceChildren(...articles);
  const version = `${asSource} ${address({ ...at, step: 0, slot: undefined })}`;
  drawStory(opened, at, (value) => answerText(value, run.latex && !asSource), version);
  if (opened) markStrip(opened, run);
  $("status").textContent = failure;
  if (!begun) $("rollout").scrollIntoView();
  begun = true;
}

function walkChain(event) {
  if (event.key === "Escape" && !event.target.closest("select")) {
    document.querySelector('.heat a[tabindex="0"]').focus();
    return;
  }
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
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the page's state
  $("map").focus();
});
$("heat").addEventListener("keydown", walkMap);
// A link to a rollout from elsewhere on the page leads to where it is shown.
addEventListener("click", (event) => {
  if (!event.target.closest("#heat a, #worth a, .flips a") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  $("rollout-title").focus();
});
$("rollout").addEventListener("keydown", walkChain);
$("run").addEventListener("change", () => {
  const at = state();
  const run = Number($("run").value);
  const problem = at.problem < 0 ? -1 : counterpart(data.runs[at.run], at.problem, data.runs[run]);
  const step = Math.max(0, data.runs[run].steps.indexOf(data.runs[at.run].steps[at.step]));
  choose({ run, map: data.runs[run].seeds.length > 1 ? -1 : 0, seed: 0, problem, step, slot: undefined, other: -1 });
});
$("seed").addEventListener("change", () => {
  const map = Number($("seed").value);
  choose({ map, seed: map < 0 ? state().seed : map, slot: undefined, other: -1 });
});
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
