// Who asks, and what the gallery holds.

import { get } from "./api.js";
import { many } from "./dom.js";

export const state = { me: null, stats: null };
export const may = (role) => state.me.roles.includes(role);

export async function facts() {
  state.stats = await get("/v1/stats");
  const { crops, people, cameras } = state.stats;
  const words = [many(crops, "crop"), many(people, "person", "people"), many(cameras.length, "camera")];
  document.getElementById("facts").textContent = words.join(" · ");
}
