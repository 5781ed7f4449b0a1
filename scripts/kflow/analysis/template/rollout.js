// One rollout: what was asked, the list it was asked with, what came back, what that changed.

const opened = {}; // which folded parts the reader has open, kept while stepping

async function unpack(id) {
  const element = document.getElementById(`t${id}`);
  if (!element) throw new Error("its texts are not in this page");
  const bytes = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = (await new Response(stream).text()).trimEnd().split("\n");
  const entries = [];
  const steps = new Map();
  for (const line of lines.map((each) => JSON.parse(each))) {
    entries.push(...line.new);
    steps.set(line.step, line);
  }
  return { entries, steps };
}

function folded(kind, title, fill) {
  const box = el("details", { className: kind }, el("summary", {}, title));
  let filled = false;
  const open = () => {
    opened[kind] = box.open;
    if (!box.open || filled) return;
    filled = true;
    box.append(fill());
  };
  box.addEventListener("toggle", open);
  box.open = Boolean(opened[kind]);
  return box;
}

function facts(rows) {
  const list = el("dl", { className: "facts" });
  for (const [name, value] of rows) {
    if (value === null || value === undefined) continue;
    const said = el("dd", { dir: "auto" });
    plain(String(value), said);
    const term = el("dt", {});
    plain(name, term);
    list.append(el("div", {}, term, said));
  }
  return list;
}

function number(value) {
  return value === null ? null : Number(value).toLocaleString("en");
}

// The visible answer with its sections set off; `names` are the headers there are.
function answer(value, names, file, asWritten) {
  if (typeof value !== "string") return excerpt(value, file, asWritten);
  const box = el("div", {});
  const header = new RegExp(`\\*{0,3}\\[(${names.map(quoted).join("|")})\\]\\*{0,3}:?\\*{0,3}[ \\t]*`, "g");
  let title = null;
  let at = 0;
  const put = (text) => {
    if (title) box.append(el("h5", {}, title));
    if (text.trim()) box.append(excerpt(text.trim(), file, asWritten));
    else if (title) box.append(el("p", { className: "remark" }, "empty"));
  };
  for (const found of value.matchAll(header)) {
    put(value.slice(at, found.index));
    title = found[1];
    at = found.index + found[0].length;
  }
  put(value.slice(at));
  if (!box.children.length) box.append(el("p", { className: "remark" }, "Nothing."));
  return box;
}

function quoted(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function knowledge(line, entries, file, asWritten) {
  const box = el("section", { className: "knowledge" }, el("h4", {}, "Knowledge list it was asked with"));
  if (line.list === null) {
    box.append(el("p", { className: "remark" }, "None: this prompt has no knowledge list."));
    return box;
  }
  const compared = line.added !== undefined;
  const added = new Set(line.added || []);
  const before = new Map((line.replaced || []).map(([old, now]) => [now, old]));
  const dropped = line.dropped || [];
  const gone = line.left_out.some(([name]) => name === "knowledge entries") ? "no longer shown" : "dropped";
  const counts = [[added.size, "added"], [before.size, "replaced"], [dropped.length, gone]];
  const told = counts.filter(([n]) => n).map(([n, what]) => `${n} ${what}`).join(", ") || "no change";
  const size = `${line.list.length} ${line.list.length === 1 ? "entry" : "entries"}`;
  box.append(el("p", { className: "count" }, compared ? `${size}; since the step before: ${told}.` : `${size}.`));
  const list = el("ol", {});
  for (const entry of line.list) {
    const mark = added.has(entry) ? "added" : before.has(entry) ? "replaced" : "";
    const item = el("li", { className: mark }, mark ? el("span", { className: "mark" }, mark) : null, excerpt(entries[entry], file, asWritten));
    if (before.has(entry)) {
      item.append(folded("before", "what it was before", () => excerpt(entries[before.get(entry)], file, asWritten)));
    }
    list.append(item);
  }
  if (line.list.length) box.append(list);
  if (dropped.length) {
    const old = el("ul", {});
    for (const entry of dropped) {
      old.append(el("li", { className: "dropped" }, el("span", { className: "mark" }, gone), excerpt(entries[entry], file, asWritten)));
    }
    box.append(old);
  }
  return box;
}

function update(line, entries, file, asWritten) {
  const box = el("section", { className: "update" }, el("h4", {}, "What this reply changed"));
  if (!line.update.length) {
    box.append(el("p", { className: "remark" }, "Not recorded."));
    return box;
  }
  const list = el("dl", {});
  for (const [name, value] of line.update) {
    const said = el("dd", { dir: "auto" });
    if (typeof value === "number") said.append(excerpt(entries[value], file, asWritten));
    else plain(value, said);
    const term = el("dt", {});
    plain(name, term);
    list.append(term, said);
  }
  box.append(list);
  return box;
}

// One rollout as an article. `about`: run, seed, problem, step and outcome, in words.
function article(chain, about, names, asWritten) {
  const line = chain.steps.get(about.step);
  const file = `${about.folder}/predictions_${about.step}.json, record ${about.problem}`;
  const verdict = el("p", { className: "verdict" }, el("span", { className: `cell ${about.code}`, "aria-hidden": "true" }, about.glyph), ` ${about.outcome}: `);
  const found = el("bdi", {});
  plain(line.predicted ?? "no answer", found);
  verdict.append("predicted ", el("strong", {}, found), ", gold ", el("strong", {}, el("bdi", {}, about.gold)));
  const most = line.max_tokens ? ` of ${number(line.max_tokens)}` : "";
  const told = facts([
    ["prompt", line.prompt_tokens && `${number(line.prompt_tokens)} tokens`],
    ["reply", line.completion_tokens && `${number(line.completion_tokens)}${most} tokens`],
    ["finish reason", line.finish],
    ["failure", line.failure],
    ["carried over from step", line.carried_from],
    ...line.left_out.map(([name, value]) => [`left out: ${name}`, value]),
  ]);
  const reply = el("div", { className: "reply" });
  reply.append(folded("prompt", `Prompt, ${characters(line.prompt)}`, () => excerpt(line.prompt, file, asWritten)));
  if (line.carried.length) {
    reply.append(folded("carried", `Text carried over from the steps before, ${characters(line.carried)}`, () => excerpt(line.carried, file, asWritten)));
  }
  if (line.thinking.length) {
    reply.append(folded("thinking", `Thinking, ${characters(line.thinking)}`, () => excerpt(line.thinking, file, asWritten)));
  }
  const title = line.thinking.length ? "Visible answer" : "Reply";
  reply.append(el("h4", {}, title), answer(line.visible, names, file, asWritten));
  const side = el("div", { className: "side" }, knowledge(line, chain.entries, file, asWritten), update(line, chain.entries, file, asWritten));
  const heading = el("h3", {}, el("bdi", {}, about.run), about.seed);
  return el("article", {}, heading, verdict, told, el("div", { className: "parts" }, reply, side));
}
