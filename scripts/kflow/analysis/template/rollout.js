// One rollout: what was asked, what came back, the list in its prompt, and what the step changed.

const unfolded = {}; // which folded parts the reader has open, kept while stepping

async function unpack(id) {
  const element = document.querySelector(`body > script[id="t${id}"]`);
  if (!element) throw new Error("its texts are not in this page, which holds those of the first seeds only");
  const bytes = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = (await new Response(stream).text()).trimEnd().split("\n");
  const entries = [];
  const steps = new Map();
  for (const line of lines.map((each) => JSON.parse(each))) {
    entries.push(...line.new.map(([text, answer]) => ({ text, answer })));
    steps.set(line.step, line);
  }
  const list = [...steps.values()].some((line) => line.slots.some((slot) => slot.list.length));
  return { entries, steps, list };
}

function folded(kind, title, fill) {
  const box = el("details", { className: kind }, el("summary", {}, title));
  let filled = false;
  box.addEventListener("toggle", () => {
    unfolded[kind] = box.open;
    if (!box.open || filled) return;
    filled = true;
    box.append(fill());
  });
  box.open = Boolean(unfolded[kind]);
  return box;
}

// A description list of [name, value], values being nodes or texts; those without a value are left out.
function pairs(className, rows) {
  const list = el("dl", { className });
  for (const [name, value] of rows) {
    if (value === null || value === undefined || value === "") continue;
    const shown = el("dd", { dir: "auto" });
    if (value instanceof Node) shown.append(value);
    else plain(String(value), shown);
    const term = el("dt", {});
    plain(name, term);
    list.append(el("div", {}, term, shown));
  }
  return list;
}

function count(number, word) {
  return `${number.toLocaleString("en")} ${number === 1 ? word : word.endsWith("y") ? `${word.slice(0, -1)}ies` : `${word}s`}`;
}

function tokens(number) {
  return number === null ? null : count(number, "token");
}

// An answer as text, or set where it is LaTeX.
function answerText(value, latex) {
  const set = latex && maths(value, false);
  if (set) return set;
  const text = el("bdi", {});
  plain(value, text);
  return text;
}

// The visible answer with the sections that were asked for set off.
function answer(value, names, file, asSource) {
  if (typeof value !== "string" || !names.length) return excerpt(value, file, asSource);
  const box = el("div", {});
  const header = new RegExp(`\\*{0,3}\\[(${names.map(quoted).join("|")})\\]\\*{0,3}:?\\*{0,3}[ \\t]*`, "g");
  let title = null;
  let at = 0;
  const put = (text) => {
    if (title) {
      const heading = el("h5", {});
      plain(title, heading);
      box.append(heading);
    }
    if (text.trim()) box.append(excerpt(text.trim(), file, asSource));
    else if (title) box.append(el("p", { className: "remark" }, "Empty."));
  };
  for (const match of value.matchAll(header)) {
    put(value.slice(at, match.index));
    title = match[1];
    at = match.index + match[0].length;
  }
  put(value.slice(at));
  if (!box.children.length) box.append(el("p", { className: "remark" }, "Empty."));
  return box;
}

function quoted(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function filed(entry) {
  if (entry.answer === null) return null;
  const box = el("span", { className: "filed" }, "abandoned answer ");
  plain(entry.answer, box);
  return box;
}

function listItem(mark, entry, file, asSource) {
  return el("li", { className: mark }, mark ? el("span", { className: "mark" }, mark) : null, filed(entry), excerpt(entry.text, file, asSource));
}

function knowledge(line, slot, entries, file, asSource) {
  const box = el("section", { className: "knowledge" }, el("h4", {}, "Knowledge list in the prompt"));
  const added = new Set(line.added);
  const before = new Map(line.replaced.map(([old, now]) => [now, old]));
  const counts = [[added.size, "added"], [before.size, "replaced"], [line.dropped.length, "dropped"]];
  const changed = counts.filter(([n]) => n).map(([n, what]) => `${n} ${what}`).join(", ");
  const size = slot.list.length ? count(slot.list.length, "entry") : "No entries";
  box.append(el("p", { className: "count" }, changed ? `${size}; since the last step: ${changed}.` : `${size}.`));
  const list = el("ol", {});
  for (const number of slot.list) {
    const mark = added.has(number) ? "added" : before.has(number) ? "replaced" : "";
    const item = listItem(mark, entries[number], file, asSource);
    if (before.has(number)) {
      item.append(folded("before", "the entry it replaced", () => excerpt(entries[before.get(number)].text, file, asSource)));
    }
    list.append(item);
  }
  if (slot.list.length) box.append(list);
  if (line.dropped.length) {
    box.append(el("ul", {}, ...line.dropped.map((number) => listItem("dropped", entries[number], file, asSource))));
  }
  return box;
}

function update({ note }, entries, file, asSource) {
  const box = el("section", { className: "update" }, el("h4", {}, "What this step changed"));
  if (!note) {
    box.append(el("p", { className: "remark" }, "Not recorded."));
    return box;
  }
  const entry = (number) => el("div", {}, filed(entries[number]), excerpt(entries[number].text, file, asSource));
  const rows = [
    ["selected", note.selected === null ? null : `candidate ${note.selected}`],
    ...note.added.map((number) => [note.replaced ? "new list" : "added", entry(number)]),
    ...note.dropped.map((number) => ["dropped", entry(number)]),
    ["nothing added", note.skipped],
    ["truncated or empty", note.truncated.join(", ")],
  ];
  const list = pairs("changes", rows);
  box.append(list.children.length ? list : el("p", { className: "remark" }, "Nothing."));
  return box;
}

function facts(line, slot, wide) {
  const [entries, cut] = [slot.left_out_entries, slot.left_out_tokens];
  const most = slot.max_tokens ? ` of at most ${slot.max_tokens.toLocaleString("en")}` : "";
  const left = [entries ? count(entries, "entry") : "", cut ? `${tokens(cut)} of other text` : ""].filter(Boolean).join(", ");
  const right = line.verdict_correct ? "right" : "wrong";
  const differs = wide || line.verdict !== slot.predicted;
  return pairs("facts", [
    ["prompt", tokens(slot.prompt_tokens)],
    ["reply", slot.completion_tokens === null ? null : `${tokens(slot.completion_tokens)}${most}`],
    ["finish reason", slot.finish_reason],
    ["failure", slot.failure],
    ["another engine", slot.engine],
    ["verdict after this step", differs && line.verdict !== null ? `${line.verdict} (${right})` : null],
    ["repeats step", line.repeats_step],
    ["token budget", line.over_budget ? "reached at this step" : null],
    ["not counted", line.counted ? null : "the chain had ended before"],
    ["sections missing", slot.missing_sections.join(", ")],
    ["box", slot.unreadable_box ? "holds no answer" : null],
    ["carried text in the prompt", tokens(slot.carried_tokens)],
    ["left out of the prompt", left],
    ["undecided comparisons", line.undecided || null],
  ]);
}

// `about`: the run, seed, problem, slot and outcome in words.
function article(chain, about, asSource) {
  const line = chain.steps.get(about.step);
  const slot = line.slots[about.slot];
  const [prompt, carried, thinking, visible] = slot.texts;
  const wide = line.slots.length > 1;
  const file = `${about.file}, record ${about.problem}${wide ? `, rollout ${about.slot}` : ""}`;
  const outcome = el("p", { className: "outcome" }, el("span", { className: `cell ${about.code}`, "aria-hidden": "true" }, about.glyph), ` ${about.outcome}`);
  const strong = (value) => el("strong", {}, answerText(value, about.latex && !asSource));
  if (slot.predicted !== null) outcome.append(": predicted ", strong(slot.predicted));
  outcome.append(", gold ", strong(about.gold));
  const reply = el("div", { className: "reply" });
  reply.append(folded("prompt", `Prompt, ${characters(prompt)}`, () => excerpt(prompt, file, asSource)));
  if (carried.length) {
    reply.append(folded("carried", `Carried text that the reply continues, ${characters(carried)}`, () => excerpt(carried, file, asSource)));
  }
  if (thinking.length) {
    reply.append(folded("thinking", `Thinking, ${characters(thinking)}`, () => excerpt(thinking, file, asSource)));
  }
  const title = thinking.length ? "Visible answer" : "Reply";
  reply.append(el("h4", {}, title), answer(visible, slot.sections, file, asSource));
  const side = el("div", { className: "side" });
  if (chain.list) side.append(knowledge(line, slot, chain.entries, file, asSource));
  side.append(update(line, chain.entries, file, asSource));
  const heading = el("h3", {}, el("bdi", {}, about.run), `${about.seed}, step ${about.step}`);
  return el("article", {}, heading, outcome, facts(line, slot, wide), el("div", { className: "parts" }, reply, side));
}
