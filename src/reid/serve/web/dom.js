// Elements, words and small parts that every view is made of. Text goes in as text, never as HTML.

export function h(tag, props = {}, ...children) {
  const element = tag === "svg" || props.svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false || name === "svg") continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const drawing = h("svg", { "aria-hidden": "true" });
  drawing.append(h("use", { svg: true, href: `#i-${name}` }));
  return drawing;
}

export const spoken = (words) => h("span", { class: "spoken" }, words);

export function say(words) {
  document.getElementById("said").textContent = words;
}

let fading;
export function toast(words, bad = false) {
  const place = document.getElementById("toast");
  place.replaceChildren(h("p", { role: bad ? "alert" : "status" }, words));
  place.className = bad ? "bad" : "";
  place.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => (place.hidden = true), bad ? 9000 : 4500);
}

// Runs what a button asks for, and says in one sentence what went wrong.
export async function attempt(work, button) {
  if (button) button.disabled = true;
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, true);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}

export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;

// Whole per cent, never rounded to certainty.
export function percent(p) {
  if (p >= 0.01 && p <= 0.99) return `${Math.round(100 * p)} %`;
  return p > 0.5 ? "> 99 %" : "< 1 %";
}

const YEAR_1980 = 315532800;
export const isDate = (time) => time !== null && time > YEAR_1980;
const two = (n) => String(n).padStart(2, "0");

// Seconds since 1970 as a date where they can be, and else as a clock that started with the cameras.
export function clock(time, withDay = false) {
  if (time === null) return "time unknown";
  if (isDate(time)) {
    const day = withDay ? { weekday: "short", day: "numeric", month: "short" } : {};
    return new Date(1000 * time).toLocaleString("en-GB", { ...day, hour: "2-digit", minute: "2-digit", second: "2-digit" });
  }
  const whole = Math.floor(Math.abs(time));
  return `${time < 0 ? "−" : ""}${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

export function span(first, last) {
  if (first === null) return "time unknown";
  const from = clock(first, true);
  return clock(first) === clock(last) ? from : `${from} – ${clock(last, day(first) !== day(last))}`;
}

const day = (time) => (isDate(time) ? new Date(1000 * time).toDateString() : "");

export function show(...contents) {
  const main = document.getElementById("main");
  main.replaceChildren(...contents.flat(9).filter(Boolean));
}
