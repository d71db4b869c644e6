// When each camera saw somebody: a row a camera, a block a sighting.

import { clock, h, isDate, many, span } from "./dom.js";

const ROW = 34;
const LABEL = 84;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];

export function timeline(sightings, onChoose) {
  const timed = sightings.map((sighting, number) => ({ ...sighting, number })).filter((one) => one.first !== null);
  if (!timed.length) return null;
  const cameras = [...new Set(timed.map((one) => one.camera))].sort((a, b) => (a === null) - (b === null) || String(a).localeCompare(String(b), "en", { numeric: true }));
  const first = Math.min(...timed.map((one) => one.first));
  const last = Math.max(...timed.map((one) => one.last));
  const place = h("div", { class: "timeline" });
  const words = `${many(timed.length, "sighting")} by ${many(cameras.length, "camera")}, ${span(first, last)}`;
  const draw = () => {
    const width = Math.max(260, place.clientWidth);
    place.replaceChildren(drawing(timed, cameras, first, last, width, words, onChoose));
  };
  new ResizeObserver(draw).observe(place);
  return h("section", { class: "when" }, h("h2", {}, "Timeline"), place);
}

function drawing(timed, cameras, first, last, width, words, onChoose) {
  const room = Math.max((last - first) * 0.03, 1);
  const [from, to] = [first - room, last + room];
  const x = (time) => LABEL + ((time - from) / (to - from)) * (width - LABEL - 8);
  const height = cameras.length * ROW + 28;
  const part = (tag, props, ...rest) => h(tag, { svg: true, ...props }, ...rest);
  const svg = part("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words });
  for (const tick of ticks(from, to, Math.max(2, Math.floor(width / 110)))) {
    svg.append(part("line", { class: "tick", x1: x(tick), x2: x(tick), y1: 0, y2: cameras.length * ROW }));
    svg.append(part("text", { class: "time", x: x(tick), y: height - 8, "text-anchor": "middle" }, label(tick, to - from)));
  }
  cameras.forEach((camera, row) => {
    const middle = row * ROW + ROW / 2;
    svg.append(part("line", { class: "row", x1: LABEL, x2: width - 8, y1: middle, y2: middle }));
    svg.append(part("text", { class: "camera", x: 0, y: middle + 4 }, shortened(camera ?? "unknown")));
  });
  for (const one of timed) {
    const left = x(one.first);
    const wide = Math.max(8, x(one.last) - left);
    const y = cameras.indexOf(one.camera) * ROW + ROW / 2 - 9;
    const block = part("rect", { class: "seen", x: left - (wide === 8 ? 4 : 0), y, width: wide, height: 18, rx: 4, onclick: () => onChoose(one.number) });
    block.append(part("title", {}, `${one.camera ?? "no camera known"}, ${span(one.first, one.last)}, ${many(one.crops.length, "crop")}`));
    svg.append(block);
  }
  return svg;
}

const shortened = (name) => (name.length > 10 ? `${name.slice(0, 9)}…` : name);

function ticks(from, to, most) {
  const step = STEPS.find((size) => (to - from) / size <= most) ?? (to - from) / most;
  const shift = isDate(from) ? 60 * new Date(1000 * from).getTimezoneOffset() : 0;
  const found = [];
  for (let tick = Math.ceil((from - shift) / step) * step + shift; tick <= to; tick += step) found.push(tick);
  return found;
}

function label(time, spread) {
  if (isDate(time) && spread > 2 * 86400) return new Date(1000 * time).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return spread > 600 ? clock(time).slice(0, -3) : clock(time);
}
