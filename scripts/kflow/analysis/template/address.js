// The address, which says what is open, and what the data says of a place in a run.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// The address -> {run, map, seed, problem, step, slot, other, otherSeed} as positions. problem -1:
// none is open; map: the seed of which the map is, -1 for all of several.
function state() {
  const given = new URLSearchParams(location.hash.slice(1));
  const position = (list, value, otherwise) => {
    const at = list.findIndex((each) => String(each) === value);
    return at < 0 ? otherwise : at;
  };
  const names = data.runs.map((run) => run.name);
  // Without a name the first run whose attempts follow one another: the others have no story.
  const first = Math.max(0, data.runs.findIndex((each) => !each.ahead));
  const run = position(names, given.get("run"), first);
  const { seeds, problems, steps } = data.runs[run];
  const other = position(names, given.get("with"), -1);
  const at = {
    run,
    map: position(seeds, given.get("map"), seeds.length > 1 ? -1 : 0),
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
  if (run.seeds.length > 1 && at.map >= 0) given.set("map", run.seeds[at.map]);
  if (run.seeds.length > 1 && at.problem >= 0) given.set("seed", run.seeds[at.seed]);
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

// The other run's position of the same problem, -1 where it has none.
function counterpart(run, problem, other) {
  if (run.own_ids && other.own_ids) {
    const at = other.problems.indexOf(run.problems[problem]);
    return at >= 0 && other.golds[at] === run.golds[problem] ? at : -1;
  }
  return other.golds[problem] === run.golds[problem] ? problem : -1;
}

// The steps, as positions, at which a chain was asked for an answer: neither those that repeat its
// end nor those that came after it.
function answering(run, { seed, problem }) {
  const [codes, marks] = [run.outcomes[seed][problem], run.marks[seed][problem]];
  return [...run.steps.keys()].filter((step) => codes[step] !== "a" && !"ex".includes(marks[step]));
}
