// Questions that are asked before something changes.

import { h } from "./dom.js";

// Asks; gives what was filled in by name, or null. `check` gives a sentence where the answer will not do.
export function ask({ title, text, fields = [], action, danger = false, check = () => "" }) {
  return new Promise((resolve) => {
    let answer = null;
    const wrong = h("p", { class: "wrong-answer", role: "alert" });
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          const given = Object.fromEntries(new FormData(form));
          wrong.textContent = check(given);
          if (wrong.textContent) return;
          answer = given;
          dialog.close();
        },
      },
      h("h2", { id: "dialog-title" }, title),
      [text].flat().map((part) => h("p", { class: "quiet" }, part)),
      fields.map(field),
      wrong,
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { class: danger ? "danger" : "main" }, action),
      ),
    );
    const dialog = h(
      "dialog",
      {
        "aria-labelledby": "dialog-title",
        onclose: () => {
          dialog.remove();
          resolve(answer);
        },
      },
      form,
    );
    document.body.append(dialog);
    dialog.showModal();
    form.querySelector("input, select, button.main")?.focus();
  });
}

function field({ name, label, value = "", type = "text", options, hint }) {
  const list = options ? h("datalist", { id: `list-${name}` }, options.map((option) => h("option", { value: option }))) : null;
  const input = h("input", {
    name,
    type,
    value,
    required: true,
    maxlength: 200,
    autocomplete: "off",
    spellcheck: "false",
    list: options ? `list-${name}` : undefined,
  });
  return h("label", { class: "field" }, h("span", {}, label), input, list, hint ? h("small", {}, hint) : null);
}

// Tells something that should be read.
export function tell(title, rows) {
  const dialog = h(
    "dialog",
    { "aria-labelledby": "dialog-title", onclose: () => dialog.remove() },
    h("h2", { id: "dialog-title" }, title),
    h("dl", { class: "receipt" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("div", { class: "buttons" }, h("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Done")),
  );
  document.body.append(dialog);
  dialog.showModal();
}
