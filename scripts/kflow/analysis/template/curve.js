// The curves: own accuracy beside the rolling majority, over rollouts and over a second axis that
// the reader chooses.

const SVG = "http://www.w3.org/2000/svg";
const TOKENS = [[1, 2, 3, 5, 7], [1, 2, 5], [1]];
const ROLLOUTS = { name: "rollouts", label: "rollouts per problem", ticks: [[1, 2, 4, 8], [1, 4], [1]] };
const AXES = [
  { name: "total", label: "total tokens per problem", ticks: TOKENS },
  { name: "sequential", label: "sequential tokens per problem", ticks: TOKENS },
  { name: "step", label: "steps" },
]; // ticks: of a logarithmic axis, times powers of ten, or of 16 for rollouts; fewer where room lacks
const MEASURES = { own: "Own accuracy", majority: "Rolling majority" };
const TICKS = [[0.1, 0.02], [0.25, 0.05], [0.5, 0.1], [1, 0.25]]; // span of the accuracies, their distance
const SPREAD = 6; // from the least to the most rollouts, from which their axis is logarithmic
const SHAPES = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", // circle
  "M-3.6 -3.6H3.6V3.6H-3.6Z", // square
  "M0 -4.8L4.6 3.6H-4.6Z", // triangle
  "M0 -5L5 0L0 5L-5 0Z", // diamond
  "M0 4.8L4.6 -3.6H-4.6Z", // triangle on its head
  "M-4.4 -1.5H-1.5V-4.4H1.5V-1.5H4.4V1.5H1.5V4.4H-1.5V1.5H-4.4Z", // cross
];
const MARGIN = { left: 46, right: 14, top: 10, bottom: 40 };
const HEIGHT = 236;
const PER_TICK = 40; // pixels
const CLOSE = 14; // pixels between points, below which they are drawn smaller

function svg(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const round = (number) => Math.round(number * 10) / 10;
const percent = (share) => `${Math.round(100 * share)} %`;
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

// A run's mark; where the colours come round again, another one.
const shape = (number) => SHAPES[(number + Math.floor(number / SHAPES.length)) % SHAPES.length];

function key(number) {
  const path = svg("path", { class: "point", d: shape(number) });
  return svg("svg", { class: `key c${number % SHAPES.length}`, viewBox: "-14 -6 28 12", "aria-hidden": "true" },
    svg("path", { class: "line", d: "M-14 0H14" }), path);
}

function inWords(curve, n, measure, axis) {
  const { right, total, accuracy, low, high } = curve[measure][n];
  const spent = curve.axes[axis.name][n];
  const at = axis.name === "step" ? "" : `, ${spent.toLocaleString("en")} ${spent === 1 ? axis.label.replace("s ", " ") : axis.label}`;
  const interval = low === null ? "" : `, 95 % interval ${percent(low)} to ${percent(high)}`;
  return `${curve.name}, step ${curve.axes.step[n]}${at}: ${+right.toFixed(2)} of ${total}, ${percent(accuracy)}${interval}`;
}

// Whether an axis is logarithmic: tokens always, rollouts where they spread.
function isLogarithmic(axis, [first, last]) {
  return Boolean(axis.ticks) && first > 0 && last > first && (axis !== ROLLOUTS || last / first >= SPREAD);
}

// Values at round numbers, as many as there is room for.
function ticks(axis, [first, last], logarithmic, x, room) {
  if (logarithmic) {
    const base = axis === ROLLOUTS ? 16 : 10;
    const powers = [];
    for (let power = base ** Math.floor(Math.log(first) / Math.log(base)); power <= last; power *= base) powers.push(power);
    const choices = axis.ticks.map((factors) => powers.flatMap((power) => factors.map((factor) => factor * power)).filter((value) => value >= first && value <= last));
    const inside = choices.find((values) => values.every((value, n) => n === 0 || x(value) - x(values[n - 1]) >= PER_TICK));
    return inside?.length ? inside : [first, last];
  }
  const most = Math.max(2, Math.floor(room / PER_TICK));
  for (let scale = 1; ; scale *= 10) {
    for (const factor of [1, 2, 5]) {
      const gap = factor * scale;
      if (last - first > gap * most) continue;
      return Array.from({ length: Math.floor((last - first) / gap) + 1 }, (_, n) => first + n * gap);
    }
  }
}

// The accuracies that the panels share, and the distance of their ticks: with all intervals in it.
function scale() {
  const readings = data.curves.flatMap((curve) => Object.keys(MEASURES).flatMap((measure) => curve[measure].filter(Boolean)));
  const most = Math.max(...readings.map(({ high, accuracy }) => high ?? accuracy));
  const least = Math.min(...readings.map(({ low, accuracy }) => low ?? accuracy));
  const [span, gap] = TICKS.find(([each]) => most <= each);
  if (span < 1 || least < 0.5) return { bottom: 0, top: span, gap };
  return { bottom: 0.5, top: 1, gap: 0.1 };
}

// One panel; `shown` are the curves that have the measure and the axis.
function panel(shown, measure, axis, width) {
  const ends = [Math.min, Math.max].map((end) => end(...shown.flatMap(([curve]) => curve.axes[axis.name])));
  const logarithmic = isLogarithmic(axis, ends);
  const [first, last] = logarithmic ? ends.map(Math.log10) : ends;
  const right = width - MARGIN.right;
  const foot = HEIGHT - MARGIN.bottom;
  const { bottom, top, gap } = scale();
  const x = (value) => {
    const at = logarithmic ? Math.log10(value) : value;
    return last > first ? round(MARGIN.left + 8 + ((right - MARGIN.left - 16) * (at - first)) / (last - first)) : round((MARGIN.left + right) / 2);
  };
  const y = (share) => round(foot - ((foot - MARGIN.top) * (share - bottom)) / (top - bottom));
  const drawing = svg("svg", {
    class: `curve${shown.length > 3 ? " many" : ""}`, width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "group",
    "aria-label": `${MEASURES[measure]} over ${axis.label}; arrow keys go from point to point`,
  });
  const text = (className, at, top, content) => svg("text", { class: className, x: at, y: top, "aria-hidden": "true" }, content);
  for (let share = bottom; share <= top + gap / 2; share += gap) {
    drawing.append(svg("path", { class: "rule", d: `M${MARGIN.left} ${y(share)}H${right}` }), text("row", MARGIN.left - 8, y(share) + 4, percent(share)));
  }
  for (const value of ticks(axis, ends, logarithmic, x, right - MARGIN.left)) {
    drawing.append(text("column", x(value), foot + 18, brief.format(value).replace("K", "k")));
  }
  drawing.append(text("column", (MARGIN.left + right) / 2, HEIGHT - 6, logarithmic ? `${axis.label} (log scale)` : axis.label));
  for (const [curve, number] of shown) drawing.append(line(curve, number, measure, axis, x, y));
  return drawing;
}

function line(curve, number, measure, axis, x, y) {
  const readings = curve[measure].map((reading, n) => [reading, x(curve.axes[axis.name][n]), n]).filter(([reading]) => reading);
  const path = (points) => `M${points.map(([left, top]) => `${left} ${top}`).join("L")}`;
  const known = readings.filter(([reading]) => reading.low !== null);
  const upper = known.map(([reading, left]) => [left, y(reading.high)]);
  const lower = known.map(([reading, left]) => [left, y(reading.low)]).reverse();
  const group = svg("g", { class: `run c${number % SHAPES.length}` });
  if (known.length === 1) group.append(svg("path", { class: "whisker", d: `M${upper[0]}V${lower[0][1]}` }));
  else if (known.length) group.append(svg("path", { class: "band", d: `${path([...upper, ...lower])}Z` }));
  group.append(svg("path", { class: "line", d: path(readings.map(([reading, left]) => [left, y(reading.accuracy)])) }));
  const apart = (readings.at(-1)[1] - readings[0][1]) / Math.max(1, readings.length - 1);
  const scale = readings.length > 1 ? round(Math.min(1, Math.max(0.4, apart / CLOSE))) : 1;
  for (const [reading, left, n] of readings) {
    group.append(svg("path", {
      class: "point", role: "img", tabindex: "-1", "aria-label": inWords(curve, n, measure, axis),
      transform: `translate(${left} ${y(reading.accuracy)})${scale < 1 ? ` scale(${scale})` : ""}`, d: shape(number),
    }));
  }
  return group;
}

function drawCurves() {
  const chosen = document.querySelector("#axis input:checked");
  const second = AXES.find(({ name }) => name === chosen?.value);
  const without = drawPair($("curves-rollouts"), ROLLOUTS);
  $("curves-axis").parentElement.hidden = !second;
  if (second) {
    $("axis-name").textContent = second.label.replace(" per problem", "");
    without.push(...drawPair($("curves-axis"), second));
  }
  $("lacking").replaceChildren();
  plain(without.length ? `Not drawn over tokens, which are not recorded: ${without.join(", ")}.` : "", $("lacking"));
}

// Both measures over one axis; the names of the runs that lack the axis.
function drawPair(box, axis) {
  const having = data.curves.map((curve, number) => [curve, number]).filter(([curve]) => curve.axes[axis.name]);
  const panels = Object.keys(MEASURES).map((measure) => {
    const shown = having.filter(([curve]) => curve[measure].some(Boolean));
    return shown.length ? el("div", { "data-measure": measure }, el("h4", {}, MEASURES[measure])) : null;
  });
  box.replaceChildren(...panels.filter(Boolean));
  for (const each of box.children) {
    const measure = each.dataset.measure;
    const drawing = panel(having.filter(([curve]) => curve[measure].some(Boolean)), measure, axis, each.clientWidth);
    each.append(drawing);
    walkCurve(drawing);
  }
  return data.curves.filter((curve) => !curve.axes[axis.name]).map((curve) => curve.name);
}

function walkCurve(drawing) {
  const lines = [...drawing.querySelectorAll(".run")].map((run) => [...run.querySelectorAll(".point")]);
  const places = lines.map((line) => line.map((point) => point.transform.baseVal[0].matrix));
  const read = (point) => {
    $("reading").textContent = point.getAttribute("aria-label");
    for (const old of document.querySelectorAll(".curve .read")) old.classList.remove("read");
    point.classList.add("read");
  };
  lines[0][0].setAttribute("tabindex", "0");
  drawing.addEventListener("focusin", (event) => {
    if (!event.target.matches(".point")) return;
    for (const old of drawing.querySelectorAll('[tabindex="0"]')) old.setAttribute("tabindex", "-1");
    event.target.setAttribute("tabindex", "0");
    read(event.target);
  });
  drawing.addEventListener("keydown", (event) => {
    const run = lines.findIndex((line) => line.includes(event.target));
    const [across, down] = arrows(event);
    if (run < 0 || across === undefined) return;
    const line = lines[run + down] ?? lines[run];
    const point = line[Math.min(line.length - 1, Math.max(0, lines[run].indexOf(event.target) + across))];
    event.preventDefault();
    point.focus();
  });
  const nearest = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    let best = [Infinity, null];
    lines.forEach((line, r) => line.forEach((point, n) => {
      const away = Math.hypot(3 * (places[r][n].e - at.x), places[r][n].f - at.y);
      if (away < best[0]) best = [away, point];
    }));
    read(best[1]);
  };
  drawing.addEventListener("pointermove", nearest);
  drawing.addEventListener("pointerdown", nearest);
}

// [across, down] of an arrow key, Home or End that is pressed alone, else [].
function arrows(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return [];
  return { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1], Home: [-Infinity, 0], End: [Infinity, 0] }[event.key] ?? [];
}

function startCurves() {
  document.querySelectorAll(".key-place").forEach((place) => place.replaceWith(key(Number(place.dataset.run))));
  // An axis that would show the same as another one is not offered.
  const differs = {
    total: ({ axes }) => axes.total,
    sequential: ({ axes }) => axes.sequential?.some((tokens, n) => tokens !== axes.total[n]),
    step: ({ axes }) => axes.rollouts.some((rollouts, n) => rollouts !== axes.step[n] + 1),
  };
  const axes = AXES.filter(({ name }) => data.curves.some(differs[name]));
  for (const [n, { name, label }] of axes.entries()) {
    const radio = el("input", { type: "radio", name: "axis", value: name, checked: n === 0 });
    $("axis").append(el("label", { className: "check" }, radio, label.replace(" per problem", "")));
  }
  $("axis").addEventListener("change", drawCurves);
  $("axis").hidden = axes.length < 2;
  let width = 0;
  new ResizeObserver(() => {
    if (width === $("curves").clientWidth) return;
    width = $("curves").clientWidth;
    drawCurves();
  }).observe($("curves"));
}
