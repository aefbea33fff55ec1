// What came in lately: the rejected share and the p-values of the last minutes, from the server.

import { pValueHistogram } from "./charts.js";
import { byId, el } from "./dom.js";
import { drift } from "./server.js";
import { percent, plural } from "./words.js";

const EVERY_MS = 5000;

/** Polls while the page is seen. */
export class Live {
  constructor() {
    this.model = null;
    this.alpha = 0.05;
    this.last = null;
    byId("window").addEventListener("change", () => this.refresh());
    document.addEventListener("visibilitychange", () => this.refresh());
    setInterval(() => this.refresh(), EVERY_MS);
  }

  async refresh() {
    if (!this.model || document.hidden) return;
    try {
      this.last = await drift(this.model.name, byId("window").value);
      this.draw();
    } catch (error) {
      this.last = null;
      byId("live").replaceChildren(el("p", { className: "muted" }, error.message));
    }
  }

  draw() {
    const found = this.last;
    if (!found) return;
    if (!found.images) {
      byId("live").replaceChildren(el("p", { className: "muted" }, "No images yet."));
      return;
    }
    byId("live").replaceChildren(
      el("p", {},
        el("strong", { className: "figure" }, percent(found.rejection.share)), " rejected of ",
        `${plural(found.images, "image")}; the true share is likely `,
        `${percent(found.rejection.lower)} to ${percent(found.rejection.upper)}, `,
        `${percent(found.rejection.alpha)} is expected.`),
      el("p", { className: "judgement" }, judgement(found)),
      pValueHistogram(found.fine_counts, this.alpha),
      el("p", { className: "muted small" },
        "At the server’s setting, whoever sent them."),
    );
  }

  /** What the window would have rejected at alpha; null before anything came in. */
  rejectedAt(alpha) {
    if (!this.last?.images) return null;
    const { rejection, images } = this.last;
    if (alpha === rejection.alpha) return { rejected: rejection.rejected, images };
    const fine = this.last.fine_counts;
    const below = fine.slice(0, Math.round(alpha * fine.length));
    return { rejected: below.reduce((sum, count) => sum + count, 0), images };
  }
}

function judgement(found) {
  const { verdict } = found.rejection;
  if (verdict === "above") return "More than known images would explain: something new comes in.";
  if (verdict === "below") return "Fewer than known images would explain: is it always the same picture?";
  const differ = found.kolmogorov.drifted || found.stability.drifted;
  if (verdict === "too_few") {
    return differ
      ? "Few images yet, but they differ from those of the calibration."
      : "Too few yet to say more.";
  }
  if (differ) return "The rejected share is usual, but the images differ from those of the calibration.";
  return "Like the images of the calibration.";
}
