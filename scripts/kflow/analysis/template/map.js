// The map of a run: problems by steps, of one seed or of all of them; and which chains to read.

const GLYPHS = { r: "✓", w: "×", n: "–", t: "…", f: "!", a: "·" };
const FEW_STEPS = 12; // up to here a cell has room for the answer
const BESIDE_STEPS = 20; // up to here the rollout has room beside the map
const MOST_LINKS = 16;
const KINDS = {
  repaired: "became right",
  lost: "right at some step, not at the end",
  never: "never right",
  always: "right at every step",
};
let drawn = "";

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

// How many seeds are right, as a cell of the map of all seeds.
function pooledCell(at, run) {
  const codes = run.seeds.map((_, seed) => run.outcomes[seed][at.problem][at.step]);
  const right = codes.filter((code) => code === "r").length;
  const asked = codes.some((code) => code !== "a");
  const label = `${title(run, at.problem)}, step ${run.steps[at.step]}: ${asked ? `${right} of ${codes.length} seeds right` : data.outcomes.a}`;
  return el("a", { className: `cell ${asked ? level(right, codes.length) : "a"}`, href: address(at), title: label, "aria-label": label }, asked ? String(right) : GLYPHS.a);
}

// The ground of a count: q0 for none, q5 for all, the quarters between them.
function level(right, all) {
  return right === 0 ? "q0" : right === all ? "q5" : `q${Math.ceil((4 * right) / all)}`;
}

function drawMap(at) {
  if (drawn === `${at.run} ${at.map} ${at.seed}`) return;
  drawn = `${at.run} ${at.map} ${at.seed}`;
  const run = data.runs[at.run];
  const pooled = at.map < 0;
  fill($("run"), data.runs.map((each) => each.name), at.run);
  $("seed").replaceChildren(el("option", { value: -1 }, `all ${run.seeds.length}`), ...run.seeds.map((seed, n) => el("option", { value: n }, String(seed))));
  $("seed").value = at.map;
  fill($("problem"), run.problems.map((_, p) => title(run, p)), at.problem);
  $("run-label").hidden = data.runs.length < 2;
  $("seed-label").hidden = run.seeds.length < 2;
  const few = run.steps.length <= FEW_STEPS;
  $("work").className = run.steps.length <= BESIDE_STEPS ? "beside" : "";
  const head = el("tr", {}, el("th", { scope: "col" }, "problem"), few ? el("th", { scope: "col", className: "gold" }, "gold") : null, ...run.steps.map((step) => el("th", { scope: "col" }, String(step))));
  const rows = run.problems.map((_, problem) => {
    const name = title(run, problem);
    const row = el("tr", {}, el("th", { scope: "row", title: name }, el("bdi", {}, name)), few ? el("td", { className: "gold" }, run.golds[problem]) : null);
    run.steps.forEach((_, step) => {
      const to = { ...at, problem, step, seed: pooled ? at.seed : at.map, slot: undefined, other: -1 };
      const link = pooled ? pooledCell(to, run) : cell(to, run, few);
      link.tabIndex = problem || step ? -1 : 0;
      link.dataset.at = `${problem} ${step}`;
      row.append(el("td", {}, link));
    });
    return row;
  });
  const table = el("table", { className: few && !pooled ? "heat few" : "heat", role: "grid", "aria-label": `Outcomes of ${run.name} by problem and step` }, el("thead", {}, head), el("tbody", {}, ...rows));
  $("heat").replaceChildren(table);
  $("legend").replaceChildren(...(pooled ? pooledLegend(run) : legend(run)));
  $("worth").replaceChildren(...worth(at, run));
}

function fill(select, names, chosen) {
  select.replaceChildren(...names.map((name, n) => el("option", { value: n }, String(name))));
  select.value = chosen;
}

function legendItem(code, glyph, words) {
  return el("li", {}, el("span", { className: `cell ${code}`, "aria-hidden": "true" }, glyph), ` ${words}`);
}

function legend(run) {
  const seen = (name, code) => run[name].flat().some((row) => row.includes(code));
  const wide = run.slots.flat(2).some(Boolean);
  const outcomes = Object.entries(data.outcomes).filter(([code]) => code !== "a" || seen("outcomes", code));
  const marks = Object.entries(data.marks).filter(([mark]) => seen("marks", mark) || (wide && mark === "v"));
  return [
    ...outcomes.map(([code, words]) => legendItem(code, GLYPHS[code], words)),
    ...marks.map(([mark, words]) => legendItem(`n mark-${mark}`, "\u00a0", words)),
  ];
}

function pooledLegend(run) {
  const all = run.seeds.length;
  const counts = [...Array(all + 1).keys()];
  const ranges = [...new Set(counts.map((right) => level(right, all)))].map((name) => {
    const within = counts.filter((right) => level(right, all) === name);
    return legendItem(name, "\u00a0", within.length > 1 ? `${within[0]}–${within.at(-1)}` : String(within[0]));
  });
  return [...ranges, el("li", { className: "quiet" }, `of ${all} seeds right`)];
}

// What the outcomes of a chain's answers come to, one of KINDS; null where there are none.
function kind(codes) {
  if (!codes.length) return null;
  if (codes.every((code) => code === "r")) return "always";
  if (codes.at(-1) === "r") return "repaired";
  return codes.includes("r") ? "lost" : "never";
}

// Which of them last turned right or wrong.
function lastTurn(codes) {
  const end = codes.at(-1) === "r";
  return codes.findLastIndex((_, n) => n === 0 || (codes[n - 1] === "r") !== end);
}

// The chains of the map by what became of them, with links to the step at which it did. Attempts
// that do not depend on each other become nothing.
function worth(at, run) {
  if (run.ahead) return [];
  const seeds = at.map < 0 ? [...run.seeds.keys()] : [at.map];
  const groups = Object.fromEntries(Object.keys(KINDS).map((name) => [name, []]));
  for (const problem of run.problems.keys()) {
    for (const seed of seeds) {
      const steps = answering(run, { seed, problem });
      const codes = steps.map((step) => run.outcomes[seed][problem][step]);
      groups[kind(codes)]?.push({ ...at, problem, seed, step: steps[lastTurn(codes)], slot: undefined, other: -1 });
    }
  }
  const chains = Object.values(groups).flat().length;
  const rows = Object.entries(groups).filter(([, members]) => members.length).map(([name, members]) => {
    const links = members.slice(0, MOST_LINKS).map((to) => {
      const link = el("a", { href: address(to) }, el("bdi", {}, title(run, to.problem)));
      if (seeds.length > 1) link.append(`, seed ${run.seeds[to.seed]}`);
      return el("li", {}, link);
    });
    const more = members.length - links.length;
    return el("div", {},
      el("dt", {}, el("strong", {}, String(members.length)), ` ${KINDS[name]}`),
      el("dd", {}, el("ul", {}, ...links, more ? el("li", { className: "quiet" }, `and ${more} more`) : null)));
  });
  return chains ? [el("h3", {}, `What became of the ${count(chains, "chain")}`), el("dl", { className: "worth" }, ...rows)] : [];
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
