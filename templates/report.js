"use strict";
// Draws the curves at the width that the page has, and shows the values under the pointer.
const curves = JSON.parse(document.getElementById("curves").textContent);
const NAMES = { train: "train", validation: "validation", rate: "learning rate" };

function element(name, attributes, parent) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  parent.append(made);
  return made;
}

// Round numbers, about `count` of them, around all values.
function ticks(low, high, count) {
  const span = Math.max(high - low, Math.abs(high) * 0.02, 1e-6);
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => span / step <= count);
  const found = [];
  for (let i = Math.floor(low / step + 1e-6); i <= Math.ceil(high / step - 1e-6); i++) found.push(i * step);
  if (found.length < 2) found.push(found[0] + step);
  return { values: found, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// Powers of ten around all values, for a learning rate that drops.
function powers(low, high) {
  const found = [];
  let [first, last] = [Math.floor(Math.log10(low) + 1e-9), Math.ceil(Math.log10(high) - 1e-9)];
  if (first === last) [first, last] = [first - 1, last + 1];
  for (let power = first; power <= last; power++) found.push(10 ** power);
  return { values: found };
}

function draw(chart) {
  const ofRate = chart.dataset.rate !== undefined;
  // A rate that drops does so by factors; one that moves comes close to 0.
  const logarithmic = ofRate && !curves.lr_moves;
  const lines = JSON.parse(chart.dataset.lines).map(([column, kind]) => ({ kind, values: curves[column] }));
  const numbers = lines.flatMap((line) => line.values).filter((value) => value !== null && (!logarithmic || value > 0));
  chart.replaceChildren();
  if (numbers.length === 0) return;
  const width = chart.clientWidth, height = Number(chart.dataset.height);
  const box = { left: 46, right: width - 14, top: 12, bottom: height - 38 };
  if (ofRate && !logarithmic) numbers.push(0);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const scale = logarithmic ? powers(low, high) : ticks(low, high, height / 42);
  const measure = logarithmic ? Math.log10 : Number;
  const [bottom, top] = [measure(scale.values[0]), measure(scale.values.at(-1))];
  const [first, last] = [curves.epoch[0], curves.epoch.at(-1)];
  const x = (epoch) => first === last ? (box.left + box.right) / 2
    : box.left + 8 + (epoch - first) / (last - first) * (box.right - box.left - 16);
  const y = (value) => box.bottom - (measure(value) - bottom) / (top - bottom) * (box.bottom - box.top);

  const title = chart.closest("section").querySelector("h2").textContent;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${title} against epoch` }, chart);
  for (const value of scale.values) {
    element("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }, svg);
    const label = element("text", { x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, svg);
    label.textContent = ofRate ? String(Number(value.toPrecision(3))) : value.toFixed(scale.decimals);
  }
  const room = Math.max(2, Math.floor(width / 60));
  const marks = ticks(first, last, room).values.filter((epoch) => Number.isInteger(epoch) && epoch >= first && epoch <= last);
  for (const epoch of marks) {
    element("text", { x: x(epoch), y: height - 18, "text-anchor": "middle" }, svg).textContent = epoch;
  }
  const caption = element("text", { x: box.right, y: height - 4, "text-anchor": "end" }, svg);
  caption.textContent = "epoch";
  for (let i = 1; i < curves.lr.length && !ofRate && !curves.lr_moves; i++) {
    if (curves.lr[i] === curves.lr[i - 1] || new Set(curves.lr).size > 12) continue;
    const middle = (x(curves.epoch[i - 1]) + x(curves.epoch[i])) / 2;
    element("line", { class: "drop", x1: middle, x2: middle, y1: box.top, y2: box.bottom }, svg);
  }
  for (const line of lines) {
    let path = "";
    line.values.forEach((value, i) => {
      if (value === null) return;
      const begins = i === 0 || line.values[i - 1] === null;
      // A rate that drops holds for its whole epoch: steps instead of slopes.
      if (logarithmic && !begins) path += `H${(x(curves.epoch[i - 1]) + x(curves.epoch[i])) / 2}V${y(value)}H${x(curves.epoch[i])}`;
      else path += `${begins ? "M" : "L"}${x(curves.epoch[i])} ${y(value)}`;
    });
    element("path", { class: "line", d: path, style: `stroke: var(--${line.kind === "validation" ? "validation" : "train"})` }, svg);
  }
  hover(chart, svg, lines, x, y, box);
  if (curves.epoch.length <= 30) dots(svg, lines, x, y);
}

function dots(svg, lines, x, y) {
  for (const line of lines) {
    line.values.forEach((value, i) => {
      if (value === null) return;
      const colour = `fill: var(--${line.kind === "validation" ? "validation" : "train"})`;
      element("circle", { cx: x(curves.epoch[i]), cy: y(value), r: 3, style: colour }, svg);
    });
  }
}

function hover(chart, svg, lines, x, y, box) {
  const guide = element("line", { class: "guide", y1: box.top, y2: box.bottom, visibility: "hidden" }, svg);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  chart.append(tip);
  svg.addEventListener("pointermove", (event) => {
    const at = event.clientX - svg.getBoundingClientRect().left;
    let nearest = 0;
    curves.epoch.forEach((epoch, i) => {
      if (Math.abs(x(epoch) - at) < Math.abs(x(curves.epoch[nearest]) - at)) nearest = i;
    });
    const middle = x(curves.epoch[nearest]);
    guide.setAttribute("x1", middle);
    guide.setAttribute("x2", middle);
    guide.setAttribute("visibility", "visible");
    tip.replaceChildren(`epoch ${curves.epoch[nearest]}`);
    for (const line of lines) {
      const value = line.values[nearest];
      if (value === null) continue;
      const row = document.createElement("div");
      row.className = `key ${line.kind}`;
      row.textContent = `${NAMES[line.kind]} ${line.kind === "rate" ? Number(value.toPrecision(4)) : value.toFixed(4)}`;
      tip.append(row);
    }
    tip.hidden = false;
    const left = middle + 14 + tip.offsetWidth > chart.clientWidth ? middle - 14 - tip.offsetWidth : middle + 14;
    tip.style.left = `${Math.max(0, left)}px`;
    // Away from the curves.
    const high = lines.some((line) => line.values[nearest] !== null && y(line.values[nearest]) < (box.top + box.bottom) / 2);
    tip.style.top = `${high ? box.bottom - tip.offsetHeight - 8 : box.top + 4}px`;
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    guide.setAttribute("visibility", "hidden");
  });
}

const widths = new Map();
const observer = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (widths.get(target) === target.clientWidth) continue;
    widths.set(target, target.clientWidth);
    draw(target);
  }
});
document.querySelectorAll(".chart").forEach((chart) => observer.observe(chart));
