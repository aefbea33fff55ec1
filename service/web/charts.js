// The two histograms. Shapes are SVG stretched to the box; words are HTML, so they keep their size.

import { el, svg } from "./dom.js";
import { percent, plural, whole } from "./words.js";

const BARS = 40;
const LIVE_BARS = 20;
const WIDTH = 400;
const HEIGHT = 100;

/** The share of known images that score at most `score`, by the card's 101 quantiles. */
export function shareBelow(quantiles, score) {
  const above = quantiles.findIndex((quantile) => quantile > score);
  if (above === 0) return 0;
  if (above === -1) return 1;
  const [low, high] = [quantiles[above - 1], quantiles[above]];
  return (above - 1 + (score - low) / (high - low)) / (quantiles.length - 1);
}

/** The score that the share `alpha` of known images does not exceed. */
export function scoreAt(quantiles, alpha) {
  const place = alpha * (quantiles.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, quantiles.length - 1);
  return quantiles[low] + (place - low) * (quantiles[high] - quantiles[low]);
}

/** Where an image's score lies among known images; left of the threshold is rejected. */
export function scoreHistogram(quantiles, score, alpha) {
  const lowest = Math.min(quantiles[0], score);
  const highest = Math.max(quantiles.at(-1), score);
  const span = highest - lowest || 1;
  const x = (value) => ((value - lowest) / span) * WIDTH;
  const threshold = scoreAt(quantiles, alpha);
  const shares = Array.from({ length: BARS }, (_, bar) => {
    const from = lowest + (span * bar) / BARS;
    return shareBelow(quantiles, from + span / BARS) - (bar ? shareBelow(quantiles, from) : 0);
  });
  const tallest = Math.max(...shares);
  const bars = shares.map((share, bar) => {
    const middle = lowest + (span * (bar + 0.5)) / BARS;
    const height = (share / tallest) * (HEIGHT - 8);
    return svg("rect", {
      x: (bar * WIDTH) / BARS + 0.5, width: WIDTH / BARS - 1, y: HEIGHT - height, height,
      class: middle <= threshold ? "bar unknown" : "bar known",
    });
  });
  const marker = el("span", { className: "marker" }, "this image");
  place(marker, x(score) / WIDTH);
  return el(
    "figure",
    { className: "chart" },
    el("div", { className: "marker-row", "aria-hidden": "true" }, marker),
    picture(
      `Histogram of known images’ scores. This image’s score, ${score.toFixed(2)} nats, lies `
        + `above ${percent(shareBelow(quantiles, score))} of them; what scores below `
        + `${threshold.toFixed(2)} is rejected.`,
      ...bars,
      line(x(threshold), "threshold"),
      line(x(score), "here"),
    ),
    el("div", { className: "axis muted", "aria-hidden": "true" },
      el("span", {}, "←\u00a0less like the training images"), el("span", {}, "more like them\u00a0→")),
  );
}

/** p-values of the window against uniform; fine counts are in equal steps of the p-value. */
export function pValueHistogram(fine, alpha) {
  const step = fine.length / LIVE_BARS;
  const counts = Array.from({ length: LIVE_BARS }, (_, bar) =>
    fine.slice(bar * step, (bar + 1) * step).reduce((sum, count) => sum + count, 0));
  const images = counts.reduce((sum, count) => sum + count, 0);
  const level = images / LIVE_BARS;
  const tallest = Math.max(...counts, 2 * level, 1);
  const y = (count) => HEIGHT - (count / tallest) * (HEIGHT - 4);
  const bars = counts.map((count, bar) => svg("rect", {
    x: (bar * WIDTH) / LIVE_BARS + 1, width: WIDTH / LIVE_BARS - 2, y: y(count), height: HEIGHT - y(count),
    class: (bar + 0.5) / LIVE_BARS <= alpha ? "bar unknown" : "bar known",
  }));
  return el(
    "figure",
    { className: "chart" },
    picture(
      `Histogram of the p-values of ${plural(images, "image")} in ${LIVE_BARS} equal steps; level at `
        + `${level.toFixed(1)} images when all is well. Lowest step: ${whole(counts[0])}; `
        + `highest: ${whole(counts.at(-1))}.`,
      ...bars,
      svg("line", { x1: 0, x2: WIDTH, y1: y(level), y2: y(level), class: "level" }),
      line(alpha * WIDTH, "threshold"),
    ),
    el("div", { className: "axis muted", "aria-hidden": "true" },
      el("span", {}, "0: unlike anything known"), el("span", {}, "1: most typical")),
    el("figcaption", { className: "muted" }, "p-values; level with the dashed line when all is well"),
  );
}

function picture(words, ...shapes) {
  return svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words,
  }, ...shapes);
}

const line = (x, name) => svg("line", { x1: x, x2: x, y1: 0, y2: HEIGHT, class: name });

/** Put a label above its line without leaving the box. */
function place(label, share) {
  label.style.left = `${share * 100}%`;
  label.style.transform = `translateX(-${share * 100}%)`;
}
