// One image: what the model saw, the verdict, where it lies, and how to ask again.

import { scoreHistogram } from "./charts.js";
import { byId, el } from "./dom.js";
import { codeBlock, snippets } from "./snippets.js";
import { inWords, percent, whyInWords } from "./words.js";

/** Show an entry {name, url, verdict} in the section; back, if given, leads to all images. */
export function showOne(entry, model, alpha, back) {
  const section = byId("one");
  const open = new Set([...section.querySelectorAll("details[open]")].map((node) => node.id));
  section.replaceChildren(
    back ? el("button", { type: "button", className: "button", onclick: back }, "← All images") : "",
    el("div", { className: "result" }, pictures(entry, model), verdictPart(entry, model, alpha)),
    el("h3", {}, "Among known images"),
    scoreHistogram(model.card.calibration.score_quantiles, entry.verdict.ood.ood_score, alpha),
    distances(entry.verdict, model),
    request(entry, model),
  );
  for (const id of open) byId(id).open = true;
  section.hidden = false;
}

/** Only the parts that the threshold changes. */
export function rejudge(entry, model, alpha) {
  const section = byId("one");
  section.querySelector(".verdict-part").replaceWith(verdictPart(entry, model, alpha));
  section.querySelector("figure.chart").replaceWith(
    scoreHistogram(model.card.calibration.score_quantiles, entry.verdict.ood.ood_score, alpha),
  );
}

function pictures(entry, model) {
  const { height, width } = model.card.input;
  const original = el("img", { src: entry.url, alt: `${entry.name}, as it was sent` });
  original.onerror = () => original.closest("figure").remove(); // a format the browser cannot show
  return el("div", { className: "pictures" },
    el("figure", {},
      el("img", {
        src: entry.verdict.explanation.seen, className: "seen", alt: `${entry.name}, as the model saw it`,
      }),
      el("figcaption", { className: "muted" }, `as the model saw it, ${width} × ${height}`)),
    el("figure", { className: "original" }, original,
      el("figcaption", { className: "muted name" }, entry.name)));
}

function verdictPart(entry, model, alpha) {
  const { verdict } = entry;
  const words = inWords(verdict, alpha, model.card.calibration);
  return el("div", { className: `verdict-part ${words.unknown ? "unknown" : "known"}` },
    el("h2", { id: "verdict", tabIndex: -1 }, words.headline),
    el("p", {}, words.detail),
    words.unknown ? el("p", { id: "why" }, whyInWords(verdict)) : "",
    el("h3", {}, words.unknown ? "What it would be, were it one of these" : "Its classes"),
    el("ul", { className: "bars" }, verdict.top_k.map(bar)),
    el("p", { className: "muted" },
      `Compared with known images taken for “${verdict.prediction.label}” alone: `
        + `${percent(verdict.ood.class_p_value)} score this low or lower.`));
}

function bar({ label, probability }) {
  const fill = el("span", { className: "fill" });
  fill.style.width = `${probability * 100}%`;
  return el("li", {},
    el("span", { className: "label" }, label),
    el("span", { className: "track", "aria-hidden": "true" }, fill),
    el("span", { className: "value" }, percent(probability)));
}

function distances(verdict, model) {
  const rows = verdict.explanation.distances
    .map((distance, index) => ({ distance, label: model.card.classes[index] }))
    .sort((a, b) => a.distance - b.distance);
  return el("details", { id: "distances" },
    el("summary", {}, "All distances"),
    el("p", { className: "muted" },
      "From the image’s features to each class’s prototype. For the curious: neither the class nor "
        + "the verdict is read off the smallest one."),
    el("div", { className: "scroll", tabIndex: 0, role: "group", "aria-label": "All distances" },
      el("table", {},
        el("thead", {}, el("tr", {}, heading("Class"), heading("Distance"))),
        el("tbody", {}, rows.map(({ label, distance }) =>
          el("tr", {}, el("td", {}, label), el("td", { className: "number" }, distance.toFixed(3))))))));
}

const heading = (text) => el("th", { scope: "col" }, text);

function request(entry, model) {
  const { curl, python } = snippets(entry.name, model);
  return el("details", { id: "request" },
    el("summary", {}, "The request, to copy"),
    codeBlock("curl", curl),
    codeBlock("Python", python));
}
