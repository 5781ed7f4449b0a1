// A chain at a glance: its answers, when its list grew, and what was new before an answer turned.

const MOST_EPISODES = 16;
const MOST_TURNS = 4;
const QUOTED = 240; // characters of an entry
const BROKE = { w: "became wrong", n: "gave no answer", t: "was truncated", f: "failed" };

// Answers in a row that are the same: [{answer, code, first, last, steps}], positions and a number
// of steps.
function episodes(chain, run, { seed, problem }) {
  const grouped = [];
  for (const step of answering(run, { seed, problem })) {
    const code = run.outcomes[seed][problem][step];
    const line = chain?.steps.get(run.steps[step]);
    const whole = line?.slots.length > 1 ? line.verdict : line?.slots[0].predicted;
    const answer = line ? whole : run.answers[seed][problem][step];
    const now = grouped.at(-1);
    if (now && now.code === code && now.answer === answer) Object.assign(now, { last: step, steps: now.steps + 1 });
    else grouped.push({ answer, code, first: step, last: step, steps: 1 });
  }
  return grouped;
}

function span(run, first, last) {
  return first === last ? `step ${run.steps[first]}` : `steps ${run.steps[first]}–${run.steps[last]}`;
}

// chain: null where its texts are not in the page. Drawn anew only for another chain: the links stay
// while one steps through them.
function drawStory(chain, at, show, version) {
  const run = data.runs[at.run];
  if ($("story-text").dataset.shown === version) return;
  $("story-text").dataset.shown = version;
  const parts = episodes(chain, run, at);
  $("story-text").replaceChildren(el("p", { className: "gist" }, ...gist(chain, run, at, parts)));
  if (run.ahead) return; // the attempts do not depend on each other: nothing turns
  if (parts.length > 1) $("story-text").append(answersInTurn(run, at, parts, show));
  const turns = parts.map((now, n) => [parts[n - 1], now]).filter(([before, now]) => before && (before.code === "r") !== (now.code === "r"));
  const hidden = Math.max(0, turns.length - MOST_TURNS);
  const shown = turns.filter((_, n) => n < MOST_TURNS / 2 || n >= hidden + MOST_TURNS / 2);
  if (!shown.length) return;
  const items = shown.map(([before, now]) => turn(chain, run, at, before, now));
  if (hidden) items.splice(MOST_TURNS / 2, 0, el("li", { className: "quiet" }, `${count(hidden, "more turn")} in between`));
  $("story-text").append(el("ul", { className: "turns" }, ...items));
}

// One sentence on the answers, one on the list.
function gist(chain, run, at, parts) {
  const codes = parts.flatMap(({ code, steps }) => Array(steps).fill(code));
  const right = codes.filter((code) => code === "r").length;
  const rights = parts.filter(({ code }) => code === "r");
  const end = parts.at(-1);
  const sentences = [];
  if (!parts.length) sentences.push("No step asks for an answer.");
  else if (run.ahead) sentences.push(`Right in ${right} of ${count(codes.length, "independent attempt")}.`);
  else if (right === codes.length) sentences.push("Right at every step.");
  else if (!right) sentences.push(`Never right in ${count(codes.length, "step")}.`);
  else if (end.code === "r" && rights.length === 1) sentences.push(`Right from step ${run.steps[end.first]} to the end.`);
  else if (parts[0].code === "r" && rights.length === 1) sentences.push(`Right until step ${run.steps[rights[0].last]}, then lost.`);
  else sentences.push(`Right at ${right} of ${count(codes.length, "step")}, ${end.code === "r" ? "and at the end" : "but not at the end"}.`);
  if (!chain?.list) return sentences;
  const grew = run.steps.filter((name) => chain.steps.get(name).added.length);
  const last = chain.steps.get(run.steps.findLast((name) => chain.steps.get(name).slots[0].list.length));
  const holds = last ? count(last.slots[0].list.length, "entry") : "no entry";
  const when = grew.length > 8 ? `${grew.slice(0, 8).join(", ")} and ${grew.length - 8} more` : grew.join(", ");
  sentences.push(grew.length ? ` The list in the prompt grew at ${grew.length === 1 ? "step" : "steps"} ${when}; the last one shown holds ${holds}.` : " The list in the prompt never grew.");
  return sentences;
}

function answersInTurn(run, at, parts, show) {
  const hidden = Math.max(0, parts.length - MOST_EPISODES);
  const items = parts.map(({ answer, code, first, last }) => {
    const { glyph, words } = looks(code, " ");
    const link = el("a", { href: address({ ...at, step: first, slot: undefined }), title: words, "aria-label": answer === null ? words : `${words}, ${answer}` }, el("span", { className: `cell ${code}`, "aria-hidden": "true" }, glyph), " ");
    link.append(answer === null ? el("span", {}, words) : show(answer));
    return el("li", { className: "episode" }, link, el("span", { className: "quiet" }, ` ${span(run, first, last)}`));
  });
  if (hidden) items.splice(MOST_EPISODES / 2, hidden, el("li", { className: "quiet" }, `${hidden} more`));
  return el("ol", { className: "episodes", "aria-label": "Answers in turn" }, ...items);
}

// Where a chain turned right or wrong, with the entries that its prompt was the first to show.
function turn(chain, run, at, before, now) {
  const name = run.steps[now.first];
  const right = now.code === "r";
  const item = el("li", { className: right ? "turned-right" : "turned-wrong" },
    el("a", { href: address({ ...at, step: now.first, slot: undefined }) }, `Step ${name}`),
    ` ${right ? "became right" : BROKE[now.code]}.`);
  if (!chain?.list) return item;
  const shown = new Set(chain.steps.get(name).slots.flatMap((slot) => slot.list));
  if (!shown.size) {
    item.append(" Its list was empty.");
    return item;
  }
  const arrived = (from, to) => run.steps.slice(from, to).flatMap((step) => {
    const line = chain.steps.get(step);
    return [...line.added, ...line.replaced.map(([, after]) => after)];
  }).filter((number) => shown.has(number));
  let fresh = arrived(before.last + 1, now.first + 1);
  if (fresh.length) item.append(` New in its prompt since step ${run.steps[before.last]}:`);
  else {
    const since = right ? run.steps.findLastIndex((_, step) => step <= before.last && arrived(step, step + 1).length) : -1;
    if (since >= 0) fresh = arrived(since, since + 1);
    const newest = new Set(fresh).size > 1 ? "entries" : "entry";
    item.append(` Its list was the same as at step ${run.steps[before.last]}${since < 0 ? "." : `; its newest ${newest}, first shown at step ${run.steps[since]}:`}`);
  }
  for (const number of new Set(fresh)) {
    const entry = chain.entries[number];
    const source = run.steps.slice(0, now.first).findLast((step) => chain.steps.get(step).note?.added.includes(number));
    const words = [filed(entry)?.textContent, source === undefined ? null : `written at step ${source}`].filter(Boolean).join(", ");
    const quote = el("q", {});
    const text = typeof entry.text === "string" ? entry.text : entry.text[0];
    const head = [...text.slice(0, 2 * QUOTED)].slice(0, QUOTED).join("");
    fillText(head.length < text.length || typeof entry.text !== "string" ? `${head}…` : head, quote, asSource);
    const about = el("span", { className: "quiet" });
    plain(words ? ` ${words}` : "", about);
    item.append(el("div", { className: "entry", dir: "auto" }, quote, about));
  }
  return item;
}

// Under each step of the strip, how the list in its prompt differs from the one before.
function markStrip(chain, run) {
  [...$("strip").children].forEach((each, n) => {
    const { added, replaced, dropped } = chain.steps.get(run.steps[n]);
    const marks = [[added, "+", "added"], [replaced, "±", "replaced"], [dropped, "−", "dropped"]].filter(([list]) => list.length);
    each.querySelector(".grew")?.remove();
    if (!chain.list) return;
    each.append(el("span", { className: "grew", title: marks.map(([list, , words]) => `${count(list.length, "entry")} ${words}`).join(", ") }, marks.map(([list, sign]) => `${sign}${list.length}`).join(" ") || "\u00a0"));
  });
}
