// A photo, and the box around the person in it. What lies outside the box never leaves the browser.

import { h, icon, say } from "./dom.js";

const LEAST = 0.02; // of a side that a box has
const TALLEST = 1024; // pixels that are sent; the model looks at 256

export async function openPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error("This file is no picture that the browser can show; try a JPEG or PNG.");
  }
  const wide = bitmap.height < 1.1 * bitmap.width;
  return { file, bitmap, wide, box: { left: 0, top: 0, right: 1, bottom: 1 }, url: URL.createObjectURL(file) };
}

const whole = (box) => box.left === 0 && box.top === 0 && box.right === 1 && box.bottom === 1;

// The picture inside the box, as a file to send.
export async function cut({ file, bitmap, box }, maxBytes) {
  if (whole(box) && bitmap.height <= TALLEST && file.size < maxBytes / 2) return file;
  const width = Math.max(1, Math.round((box.right - box.left) * bitmap.width));
  const height = Math.max(1, Math.round((box.bottom - box.top) * bitmap.height));
  const scale = Math.min(1, TALLEST / height, TALLEST / width);
  const canvas = h("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, box.left * bitmap.width, box.top * bitmap.height, width, height, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

// The photo with its box, which is drawn and moved by mouse, finger or keys. `changed` is called after each change.
export function frame(photo, changed) {
  const box = h("button", { type: "button", class: "box" }, ["nw", "ne", "sw", "se"].map((at) => h("span", { class: at })));
  const shade = h("div", { class: "shade" });
  const img = h("img", { src: photo.url, alt: "The photo to search for", draggable: "false" });
  const area = h("div", { class: `frame${photo.wide ? " wide" : ""}` }, img, shade, box);

  function place(report = false) {
    const { left, top, right, bottom } = photo.box;
    for (const element of [box, shade]) {
      element.style.left = `${100 * left}%`;
      element.style.top = `${100 * top}%`;
      element.style.width = `${100 * (right - left)}%`;
      element.style.height = `${100 * (bottom - top)}%`;
    }
    area.classList.toggle("whole", whole(photo.box));
    const size = `${Math.round((right - left) * photo.bitmap.width)} by ${Math.round((bottom - top) * photo.bitmap.height)} pixels`;
    const words = whole(photo.box) ? "The whole photo" : `${size}, ${Math.round(100 * left)} % from the left, ${Math.round(100 * top)} % from the top`;
    box.setAttribute("aria-label", `Box around the person: ${words}. Arrow keys move it, with Shift they change its size.`);
    if (report) {
      say(words);
      changed();
    }
  }

  function set(next) {
    const clip = (value) => Math.min(1, Math.max(0, value));
    const [left, right] = [clip(Math.min(next.left, next.right)), clip(Math.max(next.left, next.right))];
    const [top, bottom] = [clip(Math.min(next.top, next.bottom)), clip(Math.max(next.top, next.bottom))];
    photo.box = { left, top, right, bottom };
    place();
  }

  const point = (event) => {
    const edges = area.getBoundingClientRect();
    return { x: (event.clientX - edges.left) / edges.width, y: (event.clientY - edges.top) / edges.height };
  };

  area.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    area.setPointerCapture(event.pointerId);
    const start = point(event);
    const before = { ...photo.box };
    const corner = event.target.parentElement === box ? event.target.className : "";
    const inside = event.target === box && !whole(before);
    const move = (now) => {
      const to = point(now);
      const dx = to.x - start.x;
      const dy = to.y - start.y;
      if (corner) {
        set({
          left: before.left + (corner.includes("w") ? dx : 0),
          right: before.right + (corner.includes("e") ? dx : 0),
          top: before.top + (corner.includes("n") ? dy : 0),
          bottom: before.bottom + (corner.includes("s") ? dy : 0),
        });
      } else if (inside) {
        shift(before, dx, dy);
      } else if (Math.abs(dx) > LEAST / 2 || Math.abs(dy) > LEAST / 2) {
        set({ left: start.x, top: start.y, right: to.x, bottom: to.y });
      }
    };
    const end = () => {
      area.removeEventListener("pointermove", move);
      const { left, top, right, bottom } = photo.box;
      if (right - left < LEAST || bottom - top < LEAST) set({ left: 0, top: 0, right: 1, bottom: 1 });
      box.focus({ preventScroll: true });
      if (JSON.stringify(before) !== JSON.stringify(photo.box)) place(true);
    };
    area.addEventListener("pointermove", move);
    area.addEventListener("pointerup", end, { once: true });
    area.addEventListener("pointercancel", end, { once: true });
  });

  function shift(from, dx, dy) {
    const x = Math.min(1 - from.right, Math.max(-from.left, dx));
    const y = Math.min(1 - from.bottom, Math.max(-from.top, dy));
    set({ left: from.left + x, right: from.right + x, top: from.top + y, bottom: from.bottom + y });
  }

  box.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const step = event.ctrlKey ? 0.1 : 0.02;
    const now = photo.box;
    if (event.shiftKey) {
      const right = Math.min(1, Math.max(now.left + LEAST, now.right + dx * step));
      const bottom = Math.min(1, Math.max(now.top + LEAST, now.bottom + dy * step));
      set({ ...now, right, bottom });
    } else shift(now, dx * step, dy * step);
    place(true);
  });

  place();
  return area;
}

// A place to drop, paste or choose a photo.
export function dropPlace(onFile, small = false) {
  const input = h("input", {
    type: "file",
    accept: "image/*",
    class: "spoken",
    id: "choose",
    onchange: () => input.files.length && onFile(input.files[0]),
  });
  return h(
    "label",
    { class: small ? "drop small" : "drop" },
    input,
    icon("photo"),
    small ? h("b", {}, "Another photo") : h("b", {}, "Drop a photo here, paste one, or choose"),
    small ? null : h("span", { class: "quiet" }, "A crop of one person, or a whole frame in which you draw a box"),
  );
}

export function fileOf(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));
}

export function boxHint({ wide, box }) {
  if (!whole(box)) return "What lies outside the box stays in this browser.";
  return wide ? "This looks like a whole frame. Draw a box around the person." : "Draw a box where the person fills only a part of it.";
}
