// Answers as cards: the picture, how likely, who, where, when, and the marks right and wrong.

import { cropPicture, image } from "./api.js";
import { clock, h, icon, percent, spoken } from "./dom.js";

const DOUBTS = { size: "small", blur: "blurred", cut: "cut off or too wide", dark: "dark", bright: "overexposed" };

export function doubtNote(doubt, evidence) {
  if (!doubt.length) return null;
  const words = doubt.map((name) => DOUBTS[name] ?? name).join(" and ");
  const left = evidence === null ? "" : ` About ${Math.round(100 * evidence)} % of the evidence is left, which draws every probability towards one half.`;
  return h("p", { class: "doubt" }, icon("doubt"), h("span", {}, h("b", {}, `The photo is ${words}.`), left));
}

export function emptyAnswers(title, text, action = null) {
  return h("div", { class: "nothing" }, icon("person"), h("h2", {}, title), h("p", {}, text), action);
}

export function waitingAnswers() {
  return h("div", { class: "answers waiting", "aria-hidden": "true" }, Array.from({ length: 12 }, () => h("div", {}, h("div", { class: "picture" }), h("i", {}), h("i", {}))));
}

// `mark` takes a match and whether it is right; null where the caller may not mark.
export function answerList(matches, marks, mark) {
  const list = h("ol", { class: "answers", "aria-label": "Answers, nearest first" });
  const cards = matches.map((match) => card(match, marks, mark));
  list.append(...cards);
  list.addEventListener("keydown", (event) => {
    const at = cards.findIndex((one) => one.contains(document.activeElement));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    const said = { r: true, w: false }[event.key.toLowerCase()];
    if (step) cards[at + step]?.querySelector(".look").focus();
    else if (said !== undefined && mark) cards[at].querySelector(said ? ".say-right" : ".say-wrong").click();
    else return;
    event.preventDefault();
  });
  return list;
}

function card(match, marks, mark) {
  const { crop, probability, same, rank, distance } = match;
  const who = crop.person ?? crop.tracklet ?? crop.name;
  const target = crop.person ? `#person=${encodeURIComponent(crop.person)}` : crop.tracklet ? `#tracklet=${encodeURIComponent(crop.tracklet)}` : `#crop=${crop.id}`;
  const item = h("li", { "data-id": crop.id });
  const state = () => {
    const said = marks.get(crop.id);
    item.className = said === undefined ? "" : said ? "right" : "wrong";
    for (const button of item.querySelectorAll("button.say")) button.setAttribute("aria-pressed", said !== undefined && button.classList.contains("say-right") === said);
  };
  const say = (right) => async (event) => {
    event.currentTarget.disabled = true;
    await mark(match, right);
    item.querySelectorAll(".say").forEach((button) => (button.disabled = false));
    event.target?.closest?.("button")?.focus();
    state();
  };
  const marking = mark
    ? h(
        "div",
        { class: "marks" },
        h("button", { type: "button", class: "say say-right", onclick: say(true), title: "Right: the same person" }, icon("right"), spoken(`Answer ${rank} is right: the same person`)),
        h("button", { type: "button", class: "say say-wrong", onclick: say(false), title: "Wrong: somebody else" }, icon("wrong"), spoken(`Answer ${rank} is wrong: somebody else`)),
        again(crop, rank),
      )
    : h("div", { class: "marks" }, again(crop, rank));
  const look = h(
    "a",
    { class: "look", href: target },
    h("span", { class: "picture" }, image(cropPicture(crop.id))),
    h("span", { class: "rank" }, spoken("Answer "), rank),
    h("span", { class: crop.person ? "who" : "who quiet" }, who),
  );
  item.append(look, chance(probability, same, distance), h("p", { class: "quiet where" }, [crop.camera, crop.time === null ? null : clock(crop.time)].filter(Boolean).join(" · ")), marking);
  state();
  return item;
}

function again(crop, rank) {
  return h("a", { class: "say", href: `#crop=${crop.id}`, title: "Search from this crop" }, icon("search"), spoken(`Search from answer ${rank}`));
}

function chance(probability, same, distance) {
  if (probability === null) return h("p", { class: "chance" }, h("b", {}, distance.toFixed(3)), h("span", { class: "quiet" }, " distance"));
  const bar = h("meter", { min: 0, max: 1, value: probability, "aria-label": "Probability" });
  const doubt = same === null ? h("span", { class: "quiet" }, "cannot tell") : null;
  return h("div", { class: `chance${same ? " likely" : ""}` }, h("p", {}, h("b", {}, percent(probability)), doubt), bar);
}
