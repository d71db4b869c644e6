// Searching: the photo or crop that is asked about, what is left out, and who was found.

import { cropPicture, facePicture, get, image, post } from "./api.js";
import { ask } from "./dialogs.js";
import { attempt, clock, h, icon, isDate, many, say, show, toast } from "./dom.js";
import { boxHint, cut, dropPlace, frame, openPhoto } from "./frame.js";
import { answerList, doubtNote, emptyAnswers, waitingAnswers } from "./results.js";
import { facts, may, state } from "./state.js";

// The query is a photo (with its box) or a crop of the gallery; `row` is its id once it is in the gallery.
let query = null;
let found = null;
const wanted = { per: "person", cameras: [], after: null, before: null, camera: "", others: false, k: 24 };
let running = null;

export async function searchView() {
  if (!query) return void (await firstView());
  if (query.photo?.wide && !found && !running) return void show(stage());
  show(
    h("h1", { class: "spoken" }, "Search"),
    h("div", { class: "search" }, h("aside", { "aria-label": "Who is searched for" }, queryCard(), options()), h("section", { id: "found", "aria-label": "Answers" })),
  );
  showFound();
}

async function firstView() {
  const known = state.stats.people ? (await get("/v1/people?limit=12")).people : [];
  const start = state.stats.crops
    ? [h("h1", {}, "Where else was this person seen?"), dropPlace((file) => attempt(() => startFromFile(file)))]
    : [
        h("h1", {}, "This gallery is empty"),
        h("p", { class: "quiet lead" }, "Drop a photo of somebody to enrol them, or fill it from a folder of crops:"),
        h("pre", {}, "reid index add people.db crops/"),
        dropPlace((file) => attempt(() => startFromFile(file))),
      ];
  const faces = known.map((person) =>
    h("li", {}, h("a", { class: "face", href: `#person=${encodeURIComponent(person.name)}` }, h("span", { class: "picture" }, image(facePicture(person.name))), h("b", {}, person.name), h("span", { class: "quiet" }, many(person.cameras.length, "camera")))),
  );
  const strip = known.length ? h("section", { class: "known" }, h("h2", {}, "Or somebody who is enrolled"), h("ul", { class: "faces" }, faces)) : null;
  show(h("div", { class: "hero" }, start), strip);
}

export async function startFromFile(file) {
  const photo = await openPhoto(file);
  running?.abort();
  query = { photo, row: null };
  found = running = null;
  await searchView();
  if (!photo.wide) await search();
  else document.querySelector(".frame .box").focus();
}

// A whole frame is shown large until it is known who is meant.
function stage() {
  const hint = h("p", { class: "quiet" }, boxHint(query.photo));
  const area = frame(query.photo, () => (hint.textContent = boxHint(query.photo)));
  const go = async () => {
    running = new AbortController();
    await searchView();
    await search();
  };
  const buttons = h("div", { class: "buttons" }, dropPlace((file) => attempt(() => startFromFile(file)), true), h("button", { type: "button", class: "main", onclick: go }, icon("search"), "Search"));
  return h("div", { class: "stage" }, h("h1", {}, "Who is it?"), area, h("div", { class: "stage-foot" }, hint, buttons));
}

export async function startFromCrop(id) {
  const crop = await get(`/v1/crops/${id}`);
  running?.abort();
  query = { crop, row: crop.id };
  wanted.camera = "";
  found = running = null;
  await searchView();
  await search();
}

function queryCard() {
  const again = dropPlace((file) => attempt(() => startFromFile(file)), true);
  if (query.crop) {
    const { crop } = query;
    const picture = h("div", { class: "picture" }, image(cropPicture(crop.id), `The crop ${crop.name}`));
    const lines = [crop.person ?? "Nobody known", crop.camera ? `camera ${crop.camera}` : null, clock(crop.time, true)];
    return h("div", { class: "query" }, h("h2", {}, "Looking for"), picture, h("ul", { class: "known-of" }, lines.filter(Boolean).map((line) => h("li", {}, line))), again);
  }
  const hint = h("p", { class: "hint" }, boxHint(query.photo));
  const area = frame(query.photo, () => {
    query.row = null;
    hint.textContent = boxHint(query.photo);
    if (found) search();
  });
  const button = h("button", { type: "button", class: "main", onclick: () => search() }, icon("search"), "Search");
  return h("div", { class: "query" }, h("h2", {}, "Looking for"), area, hint, button, again);
}

function options() {
  const { cameras, first, last } = state.stats;
  const change = () => found && search();
  const per = h(
    "fieldset",
    { class: "segments" },
    h("legend", {}, "Answers"),
    [["person", "People"], ["crop", "Crops"]].map(([value, words]) =>
      h("label", {}, h("input", { type: "radio", name: "per", value, checked: wanted.per === value, onchange: () => ((wanted.per = value), change()) }), h("span", {}, words)),
    ),
  );
  const box = ({ name, crops }) => {
    const toggle = (event) => {
      wanted.cameras = event.target.checked ? [...wanted.cameras, name] : wanted.cameras.filter((other) => other !== name);
      change();
    };
    return h("label", { class: "chip" }, h("input", { type: "checkbox", checked: wanted.cameras.includes(name), onchange: toggle }), h("span", {}, name, h("small", {}, crops.toLocaleString("en"))));
  };
  const where = cameras.length ? h("fieldset", {}, h("legend", {}, "Only cameras"), h("div", { class: "chips" }, cameras.map(box))) : null;
  const when = first === null ? null : h("fieldset", { class: "times" }, h("legend", {}, "Seen between"), timeField("after", "From", first, change), timeField("before", "to", last, change));
  const own = query.photo && cameras.length ? cameraOf(cameras, change) : null;
  const others = query.photo && !wanted.camera ? null : h("label", { class: "check" }, h("input", { type: "checkbox", checked: wanted.others, onchange: (e) => ((wanted.others = e.target.checked), change()) }), "Only other cameras than its own");
  return h("details", { class: "options", open: matchMedia("(min-width: 860px)").matches }, h("summary", {}, "Which answers"), per, where, when, own, others);
}

function cameraOf(cameras, change) {
  const pick = (event) => {
    wanted.camera = event.target.value;
    wanted.others = wanted.others && wanted.camera !== "";
    document.querySelector("details.options").replaceWith(options());
    change();
  };
  const choices = [h("option", { value: "" }, "not known"), cameras.map(({ name }) => h("option", { value: name }, name))];
  const select = h("select", { onchange: pick }, choices);
  select.value = wanted.camera;
  return h("label", { class: "field" }, h("span", {}, "The photo is of camera"), select);
}

// A date and time where the cameras' clock is one, else seconds.
function timeField(name, words, limit, change) {
  const dated = isDate(limit);
  const local = (time) => new Date(1000 * time - 60000 * new Date(1000 * time).getTimezoneOffset()).toISOString().slice(0, 19);
  const value = wanted[name] === null ? "" : dated ? local(wanted[name]) : wanted[name];
  const input = h("input", {
    type: dated ? "datetime-local" : "number",
    step: dated ? 1 : "any",
    value,
    placeholder: dated ? undefined : Math.round(limit),
    onchange: () => {
      wanted[name] = input.value === "" ? null : dated ? new Date(input.value).getTime() / 1000 : Number(input.value);
      change();
    },
  });
  return h("label", { class: "field" }, h("span", {}, dated ? words : `${words}, in seconds`), input);
}

async function search() {
  running?.abort();
  const mine = (running = new AbortController());
  const place = document.getElementById("found");
  place.setAttribute("aria-busy", "true");
  if (!found) place.replaceChildren(waitingAnswers());
  say("Searching");
  try {
    const answer = query.crop ? await byCrop(mine.signal) : await byPhoto(mine.signal);
    if (mine !== running) return;
    found = { answer: answer.answers[0], marks: new Map() };
    showFound();
    say(`${many(found.answer.matches.length, "answer")} found`);
  } catch (error) {
    if (error.name === "AbortError" || mine !== running) return;
    found = null;
    place.replaceChildren(h("div", { class: "nothing", role: "alert" }, h("h2", {}, "The search failed"), h("p", {}, error.message), h("button", { type: "button", onclick: () => search() }, "Try again")));
  } finally {
    if (mine === running) place.removeAttribute("aria-busy");
  }
}

function terms() {
  const pairs = [["k", wanted.k], ["per", wanted.per], ["other_cameras", wanted.others], ["after", wanted.after], ["before", wanted.before]];
  return [...pairs.filter(([, value]) => value !== null && value !== ""), ...wanted.cameras.map((name) => ["cameras", name])];
}

async function byPhoto(signal) {
  const form = new FormData();
  form.append("crop", await cut(query.photo, state.stats.max_bytes), "photo");
  for (const [name, value] of terms()) form.append(name, value);
  if (wanted.camera) form.append("camera", wanted.camera);
  return post("/v1/search", form, signal);
}

async function byCrop(signal) {
  return get(`/v1/crops/${query.crop.id}/similar?${new URLSearchParams(terms())}`, signal);
}

function showFound() {
  const place = document.getElementById("found");
  if (!place) return;
  if (!found) return void place.replaceChildren(waitingAnswers());
  const { matches, doubt, evidence } = found.answer;
  const naming = may("write") ? h("button", { type: "button", class: "main", id: "enrol", onclick: (event) => attempt(enrol, event.currentTarget) }, icon("person"), "Name this person") : null;
  if (!matches.length) {
    const why = state.stats.crops ? "The cameras and times that are chosen leave nobody to find. Choose more of them." : "The gallery is empty. Name this person to begin.";
    return void place.replaceChildren(emptyAnswers("Nobody", why, state.stats.crops ? null : naming));
  }
  const words = wanted.per === "person" ? many(matches.length, "person or tracklet", "people and tracklets") : many(matches.length, "crop");
  const head = h(
    "div",
    { class: "found-head" },
    h("div", {}, h("h2", {}, words), h("p", { class: "quiet" }, "Nearest first. The probability is of each pair alone, as likely as not beforehand.")),
    naming,
  );
  const keys = may("write") ? h("p", { class: "keys quiet" }, h("kbd", {}, "←"), h("kbd", {}, "→"), " move, ", h("kbd", {}, "R"), " right, ", h("kbd", {}, "W"), " wrong. ", query.photo ? "Marking keeps the photo in the gallery." : "") : null;
  place.replaceChildren(...[head, doubtNote(doubt, evidence), answerList(matches, found.marks, may("write") ? mark : null), keys].filter(Boolean));
}

// The id of the query's row. A photo goes into the gallery first, so that what is said of it has two sides.
async function queryRow() {
  if (!query.row) {
    const form = new FormData();
    form.append("crop", await cut(query.photo, state.stats.max_bytes), "photo");
    if (wanted.camera) form.append("camera", wanted.camera);
    query.row = (await post("/v1/crops", form)).rows[0];
    await facts();
  }
  return query.row;
}

async function mark(match, same) {
  const done = await attempt(async () => post("/v1/feedback", { query: await queryRow(), answer: match.crop.id, same }));
  if (!done) return false;
  found.marks.set(match.crop.id, same);
  say(`${match.crop.person ?? match.crop.name} marked ${same ? "right" : "wrong"}`);
  return true;
}

async function enrol() {
  const right = found.answer.matches.filter((match) => found.marks.get(match.crop.id));
  const names = (await get("/v1/people?limit=1000")).people.map((person) => person.name);
  const guess = right.map((match) => match.crop.person).find(Boolean) ?? query.crop?.person ?? "";
  const with_ = right.length ? ` and ${many(right.length, "crop")} marked right` : "";
  const text = `The ${query.photo ? "photo" : "crop"}${with_} will carry this name. Mark more answers right to enrol them too.`;
  const given = await ask({ title: "Who is this?", text, fields: [{ name: "name", label: "Name", value: guess, options: names }], action: "Enrol" });
  if (!given) return;
  const rows = [await queryRow(), ...right.map((match) => match.crop.id)];
  await post("/v1/people/enrol", { name: given.name.trim(), rows });
  await facts();
  toast(`${given.name.trim()} is enrolled with ${many(rows.length, "crop")}.`);
  location.hash = `person=${encodeURIComponent(given.name.trim())}`;
}

export const forgetQuery = () => {
  query = found = null;
};
