// The slider for alpha: fine where thresholds usually lie, from one image in 1,000 to every second.

import { byId } from "./dom.js";
import { percent } from "./words.js";

/** [from, to, step] in tenths of a percent: every stop is an edge that the server counts at. */
const RANGES = [[1, 50, 1], [55, 100, 5], [110, 500, 10]];

const STOPS = RANGES.flatMap(([from, to, step]) =>
  Array.from({ length: (to - from) / step + 1 }, (_, place) => (from + place * step) / 1000));

/** Calls changed(alpha) when a person moves it. */
export function listenToStrictness(changed) {
  const slider = byId("alpha");
  slider.max = STOPS.length - 1;
  slider.addEventListener("input", () => changed(STOPS[Number(slider.value)]));
}

/** Show an alpha; the slider goes to the stop next to it. */
export function showStrictness(alpha) {
  const away = STOPS.map((stop) => Math.abs(stop - alpha));
  byId("alpha").value = away.indexOf(Math.min(...away));
  byId("alpha").setAttribute("aria-valuetext", percent(alpha));
  byId("alpha-shown").textContent = percent(alpha);
}
