// People: all of them, and one of them with everything they were seen in.

import { cropPicture, facePicture, forgetPictures, get, image, post } from "./api.js";
import { ask, tell } from "./dialogs.js";
import { attempt, clock, h, icon, many, say, show, span, spoken, toast } from "./dom.js";
import { forgetQuery } from "./search.js";
import { facts, may } from "./state.js";
import { timeline } from "./timeline.js";

const PAGE = 60;

export async function peopleView() {
  let shown = 0;
  let people = [];
  let total = 0;
  const list = h("ul", { class: "people" });
  const more = h("button", { type: "button", onclick: (event) => attempt(next, event.currentTarget) }, "Show more");
  async function next() {
    const part = await get(`/v1/people?limit=${PAGE}&offset=${shown}`);
    shown += part.people.length;
    total = part.total;
    people = people.concat(part.people);
    list.append(...part.people.map(personCard));
    more.hidden = shown >= total;
  }
  await next();
  const narrow = async (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    while (shown < total && wanted) await next();
    for (const item of list.children) item.hidden = !item.dataset.name.includes(wanted);
    const left = [...list.children].filter((item) => !item.hidden).length;
    say(many(left, "person", "people"));
  };
  if (!total) {
    const text = "Search for a photo, mark the answers that are right, and give the person a name.";
    return void show(h("div", { class: "nothing tall" }, icon("person"), h("h1", {}, "Nobody is enrolled yet"), h("p", {}, text), h("a", { class: "button main", href: "#search" }, "Search for somebody")));
  }
  const field = h("label", { class: "field narrow" }, h("span", { class: "spoken" }, "Narrow by name"), h("input", { type: "search", placeholder: "Narrow by name", oninput: (event) => attempt(() => narrow(event)) }));
  show(h("div", { class: "page-head" }, h("div", {}, h("h1", {}, "People"), h("p", { class: "quiet" }, many(total, "person is", "people are"), " enrolled in this gallery.")), field), list, more);
}

function personCard(person) {
  const seen = `${many(person.crops, "crop")} · ${person.cameras.length ? many(person.cameras.length, "camera") : "no camera"}`;
  return h(
    "li",
    { "data-name": person.name.toLowerCase() },
    h("a", { href: `#person=${encodeURIComponent(person.name)}` }, h("span", { class: "picture" }, image(facePicture(person.name))), h("span", { class: "lines" }, h("b", {}, person.name), h("span", { class: "quiet" }, seen), person.last === null ? null : h("span", { class: "quiet" }, `last seen ${clock(person.last, true)}`))),
  );
}

// One person, or one tracklet that is nobody's.
export async function personView(kind, name) {
  const told = await get(`/v1/timeline?${kind}=${encodeURIComponent(name)}`);
  const crops = told.sightings.flatMap((sighting) => sighting.crops);
  const chosen = new Set();
  const known = kind === "person";
  const cameras = new Set(told.sightings.map((sighting) => sighting.camera).filter(Boolean));
  const times = crops.map((crop) => crop.time).filter((time) => time !== null);
  const seen = times.length ? span(Math.min(...times), Math.max(...times)) : "time unknown";
  const numbers = [["Crops", told.crops], ["Sightings", told.sightings.length], ["Cameras", cameras.size || "none known"], ["Seen", seen]];
  const middle = crops[Math.floor(crops.length / 2)];
  const head = h(
    "div",
    { class: "person-head" },
    h("div", { class: "picture" }, image(cropPicture(middle.id), `A crop of ${name}`)),
    h(
      "div",
      {},
      h("p", {}, h("a", { class: "back", href: known ? "#people" : "#search" }, icon("back"), known ? "People" : "Search")),
      h("h1", {}, name),
      known ? null : h("p", { class: "quiet" }, "A tracklet that nobody has been named in"),
      h("dl", { class: "numbers" }, numbers.map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value.toLocaleString?.("en") ?? value)))),
    ),
    h("div", { class: "buttons" }, h("a", { class: "button main", href: `#crop=${middle.id}` }, icon("search"), "Where else?"), known ? ofPerson(name, told) : ofTracklet(crops)),
  );
  const bar = h("div", { class: "chosen", hidden: true });
  const choose = (crop, button) => {
    if (!chosen.delete(crop.id)) chosen.add(crop.id);
    button.setAttribute("aria-pressed", chosen.has(crop.id));
    fillBar(bar, chosen, name, known, crops.length);
  };
  const strip = told.sightings.map((sighting, number) => sightingRow(sighting, number, choose));
  show(head, timeline(told.sightings, (number) => strip[number].scrollIntoView({ behavior: "smooth", block: "center" })), h("section", { class: "strip" }, h("h2", {}, "Sightings"), may("write") || may("erase") ? h("p", { class: "quiet" }, "Choose crops to split them off or erase them.") : null, h("ol", {}, strip)), bar);
}

function sightingRow(sighting, number, choose) {
  const able = may("write") || may("erase");
  const thumbs = sighting.crops.map((crop, at) => {
    const label = `Crop ${at + 1} of sighting ${number + 1}, ${clock(crop.time)}`;
    const picture = h("span", { class: "picture" }, image(cropPicture(crop.id), able ? "" : label));
    if (!able) return h("li", {}, picture);
    const button = h("button", { type: "button", class: "thumb", "aria-pressed": "false", title: crop.name, onclick: () => choose(crop, button) }, picture, spoken(label));
    return h("li", {}, button);
  });
  return h(
    "li",
    { class: "sighting" },
    h("div", {}, h("h3", {}, sighting.camera ? `Camera ${sighting.camera}` : "No camera known"), h("p", { class: "quiet" }, span(sighting.first, sighting.last)), h("p", { class: "quiet" }, many(sighting.crops.length, "crop"))),
    h("ul", { class: "thumbs", tabindex: "0", "aria-label": "Crops" }, thumbs),
  );
}

function fillBar(bar, chosen, name, known, total) {
  bar.hidden = !chosen.size;
  const rows = [...chosen];
  const act = (work) => (event) => attempt(work, event.currentTarget);
  bar.replaceChildren(
    h("b", {}, `${many(chosen.size, "crop")} chosen`),
    h(
      "div",
      { class: "buttons" },
      may("write") && known && chosen.size < total ? h("button", { type: "button", onclick: act(() => split(name, rows)) }, "Somebody else …") : null,
      may("write") && !known ? h("button", { type: "button", onclick: act(() => enrol(rows)) }, "Name …") : null,
      may("erase") ? h("button", { type: "button", class: "danger", onclick: act(() => erase({ rows }, many(rows.length, "crop"), null)) }, "Erase …") : null,
    ),
  );
}

function ofPerson(name, told) {
  const act = (work) => (event) => attempt(work, event.currentTarget);
  return [
    may("write") ? h("button", { type: "button", onclick: act(() => rename(name)) }, "Rename …") : null,
    may("write") ? h("button", { type: "button", onclick: act(() => merge(name)) }, "Merge …") : null,
    may("write") ? h("button", { type: "button", onclick: act(() => forget(name)) }, "Forget name …") : null,
    may("erase") ? h("button", { type: "button", class: "danger", onclick: act(() => erase({ people: [name] }, `all ${many(told.crops, "crop")} of ${name}`, name)) }, "Erase …") : null,
  ];
}

function ofTracklet(crops) {
  const rows = crops.map((crop) => crop.id);
  return may("write") ? h("button", { type: "button", onclick: (event) => attempt(() => enrol(rows), event.currentTarget) }, icon("person"), "Name this person") : null;
}

async function names() {
  return (await get("/v1/people?limit=1000")).people.map((person) => person.name);
}

async function done(words, hash) {
  await facts();
  toast(words);
  if (location.hash === hash) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = hash;
}

const person = (name) => `#person=${encodeURIComponent(name)}`;

async function enrol(rows) {
  const given = await ask({ title: "Who is this?", text: `${many(rows.length, "crop")} will carry this name.`, fields: [{ name: "name", label: "Name", options: await names() }], action: "Enrol" });
  if (!given) return;
  await post("/v1/people/enrol", { name: given.name.trim(), rows });
  await done(`${given.name.trim()} is enrolled.`, person(given.name.trim()));
}

async function rename(name) {
  const given = await ask({ title: `Rename ${name}`, text: [], fields: [{ name: "name", label: "New name", value: name }], action: "Rename" });
  if (!given || given.name.trim() === name) return;
  await post("/v1/people/rename", { name, new: given.name.trim() });
  await done(`${name} is now ${given.name.trim()}.`, person(given.name.trim()));
}

async function merge(name) {
  const others = (await names()).filter((other) => other !== name);
  const given = await ask({
    title: `Merge ${name} with somebody`,
    text: "Both are one person from then on. Splitting them again is by hand.",
    fields: [
      { name: "other", label: "The same person as", options: others },
      { name: "into", label: "Called", value: name },
    ],
    action: "Merge",
    check: ({ other }) => (others.includes(other.trim()) ? "" : "Choose somebody who is enrolled."),
  });
  if (!given) return;
  const into = given.into.trim();
  await post("/v1/people/merge", { names: [name, given.other.trim()], into });
  await done(`${name} and ${given.other.trim()} are one person, ${into}.`, person(into));
}

async function split(name, rows) {
  const given = await ask({ title: `${many(rows.length, "crop")} of ${name} show somebody else`, text: "Who?", fields: [{ name: "name", label: "Name", options: await names() }], action: "Split off" });
  if (!given) return;
  await post("/v1/people/split", { name, rows, new: given.name.trim() });
  await done(`${many(rows.length, "crop")} split off as ${given.name.trim()}.`, person(name));
}

async function forget(name) {
  const text = "The crops stay in the gallery without a name, and are found as before.";
  if (!(await ask({ title: `Forget who ${name} is?`, text, action: "Forget the name" }))) return;
  await post("/v1/people/forget", { name });
  await done(`Nobody is called ${name} any more.`, "#people");
}

async function erase(filter, words, name) {
  const { rows } = await post("/v1/count", filter);
  const typed = name ?? "erase";
  const given = await ask({
    title: `Erase ${words}?`,
    text: "Vectors, pictures and what was said of them are removed for good, from the file and its free pages. This cannot be undone.",
    fields: [{ name: "typed", label: `Type ${typed} to confirm` }],
    action: `Erase ${many(rows, "crop")}`,
    danger: true,
    check: (answer) => (answer.typed.trim() === typed ? "" : `Type ${typed}, letter by letter.`),
  });
  if (!given) return;
  const receipt = await post("/v1/erase", { ...filter, expect: rows });
  forgetPictures();
  forgetQuery();
  await facts();
  location.hash = "#people";
  const at = new Date(1000 * receipt.at).toISOString().replace("T", " ").slice(0, 19);
  tell("Erased", [
    ["Crops", receipt.rows.toLocaleString("en")],
    ["By", receipt.by],
    ["At", `${at} UTC`],
    ["Log entry", `${receipt.entry}`],
    ["Digest", receipt.digest],
  ]);
}
