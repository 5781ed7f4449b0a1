// The curves: a panel for each measure, over the axis that the reader chooses.

const SVG = "http://www.w3.org/2000/svg";
const AXES = [
  ["step", "steps", false],
  ["rollouts", "rollouts per problem", false],
  ["total", "total tokens per problem", true],
  ["sequential", "sequential tokens per problem", true],
]; // name in the data, label, whether it is logarithmic
const MEASURES = { own: "Own accuracy of the step", majority: "Rolling majority" };
const SHAPES = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z", // circle
  "M-3.6 -3.6H3.6V3.6H-3.6Z", // square
  "M0 -4.8L4.6 3.6H-4.6Z", // triangle
  "M0 -5L5 0L0 5L-5 0Z", // diamond
  "M0 4.8L4.6 -3.6H-4.6Z", // triangle on its head
  "M-4.4 -1.5H-1.5V-4.4H1.5V-1.5H4.4V1.5H1.5V4.4H-1.5V1.5H-4.4Z", // cross
];
const MARGIN = { left: 46, right: 14, top: 12, bottom: 40 };
const HEIGHT = 320;
const PER_TICK = 64; // pixels
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

function key(number) {
  const path = svg("path", { class: "point", d: SHAPES[number % SHAPES.length] });
  return svg("svg", { class: `key c${number % SHAPES.length}`, viewBox: "-14 -6 28 12", "aria-hidden": "true" },
    svg("path", { class: "line", d: "M-14 0H14" }), path);
}

function inWords(curve, n, measure, axis) {
  const { right, total, share, low, high } = curve[measure][n];
  const at = axis[0] === "step" ? "" : `, ${curve.axes[axis[0]][n].toLocaleString("en")} ${axis[1]}`;
  const interval = low === null ? "" : `, 95 % interval ${percent(low)} to ${percent(high)}`;
  return `${curve.name}, step ${curve.axes.step[n]}${at}: ${+right.toFixed(2)} of ${total}, ${percent(share)}${interval}`;
}

// Values at round numbers, as many as there is room for.
function ticks([first, last], logarithmic, most) {
  if (logarithmic) {
    const found = [];
    for (let power = Math.floor(Math.log10(first)); power <= Math.ceil(Math.log10(last)); power++) {
      found.push(...[1, 2, 5].map((factor) => factor * 10 ** power));
    }
    const inside = found.filter((value) => value >= first && value <= last);
    const tens = inside.filter((value) => Number.isInteger(Math.log10(value)));
    return inside.length > most && tens.length > 1 ? tens : inside.slice(0, most);
  }
  for (let scale = 1; ; scale *= 10) {
    for (const factor of [1, 2, 5]) {
      const gap = factor * scale;
      if (last - first > gap * most) continue;
      return Array.from({ length: Math.floor((last - first) / gap) + 1 }, (_, n) => first + n * gap);
    }
  }
}

// One panel; `shown` are the curves that have the measure and the axis.
function panel(shown, measure, axis, width) {
  const [name, label, logarithmic] = axis;
  const values = shown.flatMap(([curve]) => curve.axes[name]).filter((value) => !logarithmic || value > 0);
  const ends = [Math.min(...values), Math.max(...values)];
  const [first, last] = logarithmic ? ends.map(Math.log10) : ends;
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = (value) => {
    const at = logarithmic ? Math.log10(Math.max(value, ends[0])) : value;
    return last > first ? round(MARGIN.left + 8 + ((right - MARGIN.left - 16) * (at - first)) / (last - first)) : round((MARGIN.left + right) / 2);
  };
  const y = (share) => round(bottom - (bottom - MARGIN.top) * share);
  const drawing = svg("svg", {
    class: `curve${shown.length > 3 ? " many" : ""}`, width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "group",
    "aria-label": `${MEASURES[measure]} over ${label}; arrow keys go from point to point`,
  });
  const text = (className, at, top, content) => svg("text", { class: className, x: at, y: top, "aria-hidden": "true" }, content);
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    drawing.append(svg("path", { class: "rule", d: `M${MARGIN.left} ${y(share)}H${right}` }), text("row", MARGIN.left - 8, y(share) + 4, percent(share)));
  }
  for (const value of ticks(ends, logarithmic, Math.max(1, Math.floor((right - MARGIN.left) / PER_TICK)))) {
    drawing.append(text("column", x(value), bottom + 18, brief.format(value)));
  }
  drawing.append(text("column", (MARGIN.left + right) / 2, HEIGHT - 6, logarithmic ? `${label} (log scale)` : label));
  for (const [curve, number] of shown) drawing.append(line(curve, number, measure, axis, x, y));
  return drawing;
}

function line(curve, number, measure, axis, x, y) {
  const readings = curve[measure].map((reading, n) => [reading, x(curve.axes[axis[0]][n]), n]).filter(([reading]) => reading);
  const path = (points) => `M${points.map(([left, top]) => `${left} ${top}`).join("L")}`;
  const known = readings.filter(([reading]) => reading.low !== null);
  const upper = known.map(([reading, left]) => [left, y(reading.high)]);
  const lower = known.map(([reading, left]) => [left, y(reading.low)]).reverse();
  const group = svg("g", { class: `run c${number % SHAPES.length}` });
  if (known.length) group.append(svg("path", { class: "band", d: `${path([...upper, ...lower])}Z` }));
  group.append(svg("path", { class: "line", d: path(readings.map(([reading, left]) => [left, y(reading.share)])) }));
  const apart = (readings.at(-1)[1] - readings[0][1]) / Math.max(1, readings.length - 1);
  const scale = readings.length > 1 ? round(Math.min(1, Math.max(0.4, apart / CLOSE))) : 1;
  for (const [reading, left, n] of readings) {
    group.append(svg("path", {
      class: "point", role: "img", tabindex: "-1", "aria-label": inWords(curve, n, measure, axis),
      transform: `translate(${left} ${y(reading.share)})${scale < 1 ? ` scale(${scale})` : ""}`, d: SHAPES[number % SHAPES.length],
    }));
  }
  return group;
}

function drawCurves() {
  const axis = AXES.find(([name]) => name === document.querySelector("#axis input:checked").value);
  const boxes = Object.keys(MEASURES).map((measure) => {
    const shown = data.curves.map((curve, number) => [curve, number]).filter(([curve]) => curve[measure].some(Boolean) && curve.axes[axis[0]]);
    const box = $(`curve-${measure}`);
    box.hidden = !shown.length;
    return [box, measure, shown];
  });
  for (const [box, measure, shown] of boxes) {
    if (!shown.length) continue;
    const drawing = panel(shown, measure, axis, box.clientWidth);
    box.querySelector("svg")?.remove();
    box.append(drawing);
    walkCurve(drawing);
  }
  const lacking = data.curves.filter((curve) => !curve.axes[axis[0]]).map((curve) => curve.name);
  $("lacking").replaceChildren();
  plain(lacking.length ? `Without these numbers, and so not drawn: ${lacking.join(", ")}.` : "", $("lacking"));
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
  document.querySelectorAll("th .key-place").forEach((place, number) => place.replaceWith(key(number)));
  for (const [name, label] of AXES) {
    if (!data.curves.some((curve) => curve.axes[name])) continue;
    const radio = el("input", { type: "radio", name: "axis", value: name, checked: name === "step" });
    $("axis").append(el("label", { className: "check" }, radio, label.replace(" per problem", "")));
  }
  $("axis").addEventListener("change", drawCurves);
  $("axis").hidden = $("axis").querySelectorAll("input").length < 2;
  let width = 0;
  new ResizeObserver(() => {
    if (width === $("curves").clientWidth) return;
    width = $("curves").clientWidth;
    drawCurves();
  }).observe($("curves"));
}
