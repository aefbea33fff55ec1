// Several images at once: the least known first, what could not be read last.

import { byId, el } from "./dom.js";
import { decidingPValue, isUnknown, percent, plural } from "./words.js";

/** Show the entries; open(entry) is called for the one that is clicked. */
export function showMany(entries, alpha, open) {
  const section = byId("many");
  const judged = entries.filter((entry) => entry.verdict)
    .sort((a, b) => decidingPValue(a.verdict.ood) - decidingPValue(b.verdict.ood));
  const refused = entries.filter((entry) => entry.problem);
  section.replaceChildren(
    el("h2", { id: "many-heading", tabIndex: -1 }, plural(entries.length, "image")),
    el("p", {}, summary(entries, alpha)),
    el("ul", { className: "grid" }, judged.map((entry) => el("li", {}, tile(entry, alpha, open)))),
    refused.length ? el("h3", {}, "Not judged") : "",
    refused.length ? el("ul", { className: "refused" }, refused.map((entry) =>
      el("li", {}, el("strong", { className: "name" }, entry.name), ` ${entry.problem}`))) : "",
  );
  section.hidden = false;
}

/** "50 images: 45 known, 4 unknown, 1 not judged" */
export function summary(entries, alpha) {
  const judged = entries.filter((entry) => entry.verdict);
  const unknown = judged.filter((entry) => isUnknown(decidingPValue(entry.verdict.ood), alpha)).length;
  const refused = entries.filter((entry) => entry.problem).length;
  const waiting = entries.length - judged.length - refused;
  return [
    `${judged.length - unknown} known, ${unknown} unknown`,
    refused ? `, ${refused} not judged` : "",
    waiting ? `, ${waiting} to come` : "",
    ". The least known come first.",
  ].join("");
}

function tile(entry, alpha, open) {
  const { verdict } = entry;
  const unknown = isUnknown(decidingPValue(verdict.ood), alpha);
  const button = el("button", { type: "button", className: `tile ${unknown ? "unknown" : "known"}` },
    el("img", { src: verdict.explanation.seen, alt: "", loading: "lazy" }),
    el("span", { className: "badge" }, unknown ? "unknown" : verdict.prediction.label),
    el("span", { className: "muted" }, `${percent(decidingPValue(verdict.ood))} score as low`),
    el("span", { className: "muted name" }, entry.name));
  button.onclick = () => open(entry);
  entry.button = button;
  return button;
}
