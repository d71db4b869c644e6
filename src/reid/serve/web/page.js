// The page: who asks, which view is shown, and photos that arrive by drop or paste.

import { get, hasToken, keepToken } from "./api.js";
import { ask } from "./dialogs.js";
import { attempt, h, icon, show } from "./dom.js";
import { fileOf } from "./frame.js";
import { peopleView, personView } from "./people.js";
import { searchView, startFromCrop, startFromFile } from "./search.js";
import { facts, state } from "./state.js";

async function begin() {
  try {
    state.me = await get("/v1/me");
    await facts();
    document.getElementById("who").hidden = !hasToken();
    document.getElementById("who").replaceChildren(icon("key"), state.me.name);
    await route();
  } catch (error) {
    if (error.status === 401) askToken(hasToken() ? "That token is not known. Ask for a new one." : "");
    else show(h("div", { class: "nothing" }, h("h1", {}, "Nothing to show"), h("p", {}, error.message)), h("button", { class: "main", onclick: begin }, "Try again"));
  }
}

function askToken(wrong) {
  const form = h(
    "form",
    {
      class: "door",
      onsubmit: (event) => {
        event.preventDefault();
        keepToken(form.elements.token.value.trim());
        begin();
      },
    },
    icon("mark"),
    h("h1", {}, "This gallery takes a token"),
    h("p", { class: "quiet" }, "It is kept until this tab is closed, and sent to nobody but this service."),
    h("label", { class: "field" }, h("span", {}, "Token"), h("input", { name: "token", type: "password", required: true, autocomplete: "off" })),
    h("p", { class: "wrong-answer", role: "alert" }, wrong),
    h("button", { class: "main" }, "Open the gallery"),
  );
  show(form);
  form.elements.token.focus();
}

document.getElementById("who").addEventListener("click", async () => {
  const roles = state.me.roles.join(", ");
  const text = `You are ${state.me.name} and may ${roles}. Leaving forgets the token in this tab.`;
  if (await ask({ title: "Leave the gallery?", text, action: "Leave" })) {
    keepToken(null);
    location.hash = "";
    location.reload();
  }
});

async function route() {
  const [view, ...rest] = decodeURIComponent(location.hash.slice(1)).split("=");
  const name = rest.join("=");
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === `#${view || "search"}` || (link.hash === "#people" && (view === "person" || view === "tracklet"));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
  await attempt(async () => {
    if (view === "people") await peopleView();
    else if (view === "person" || view === "tracklet") await personView(view, name);
    else if (view === "crop") await startFromCrop(name);
    else await searchView();
  });
  document.querySelector("main h1")?.setAttribute("tabindex", "-1");
}

addEventListener("hashchange", () => state.stats && route());

async function take(file) {
  if (!file || !state.stats || document.querySelector("dialog[open]")) return;
  if (!["", "#search"].includes(location.hash)) {
    history.pushState(null, "", "#search");
    await route();
  }
  await attempt(() => startFromFile(file));
}

addEventListener("paste", (event) => take(fileOf(event.clipboardData)));
const overlay = document.getElementById("overlay");
addEventListener("dragover", (event) => {
  event.preventDefault();
  overlay.hidden = !state.stats || ![...event.dataTransfer.types].includes("Files");
});
addEventListener("dragleave", (event) => (overlay.hidden = event.relatedTarget === null || overlay.hidden));
addEventListener("drop", (event) => {
  event.preventDefault();
  overlay.hidden = true;
  take(fileOf(event.dataTransfer));
});

begin();
