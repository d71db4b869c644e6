// Requests to the service, and pictures, which are fetched so that they can carry the token.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

let token = sessionStorage.getItem("reid token");
export const hasToken = () => token !== null;

export function keepToken(text) {
  token = text;
  if (text === null) sessionStorage.removeItem("reid token");
  else sessionStorage.setItem("reid token", text);
}

async function ask(path, options = {}) {
  const headers = { ...(options.headers ?? {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `The service answered ${answer.status}.` }));
  throw new Problem(answer.status, `${problem.detail[0].toUpperCase()}${problem.detail.slice(1)}.`);
}

export async function get(path, signal) {
  return (await ask(path, { signal })).json();
}

export async function post(path, body, signal) {
  const json = !(body instanceof FormData);
  const headers = json ? { "Content-Type": "application/json" } : {};
  return (await ask(path, { method: "POST", headers, body: json ? JSON.stringify(body) : body, signal })).json();
}

const pictures = new Map();

export function forgetPictures() {
  for (const url of pictures.values()) url.then((it) => it && URL.revokeObjectURL(it));
  pictures.clear();
}

function picture(path) {
  if (!pictures.has(path)) {
    const url = ask(path).then(async (answer) => URL.createObjectURL(await answer.blob()), () => null);
    pictures.set(path, url);
  }
  return pictures.get(path);
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      picture(target.dataset.path).then((url) => {
        if (url) target.src = url;
        target.parentElement?.classList.toggle("missing", !url);
        target.parentElement?.classList.add("settled");
      });
    }
  },
  { rootMargin: "200px" },
);

// An image that is fetched once it comes into sight; its frame says so where there is none.
export function image(path, alt = "") {
  const img = document.createElement("img");
  img.alt = alt;
  img.dataset.path = path;
  seen.observe(img);
  return img;
}

export const cropPicture = (id) => `/v1/crops/${id}/picture`;
export const facePicture = (name) => `/v1/people/picture?person=${encodeURIComponent(name)}`;
