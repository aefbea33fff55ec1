// Where images come from: the file dialog, a drop anywhere on the page, the clipboard, a sample.

import { byId, el } from "./dom.js";
import { SAMPLES, canvasOf, fileOf } from "./samples.js";

/** Call take(files) with each set of files a person gives. */
export function listen(take) {
  const choose = byId("choose");
  choose.addEventListener("change", () => {
    const files = [...choose.files];
    choose.value = ""; // so that the same file can be chosen again
    if (files.length) take(files);
  });
  listenToDrops(take);
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
  for (const sample of SAMPLES) byId("samples").append(el("li", {}, sampleButton(sample, take)));
}

function listenToDrops(take) {
  let depth = 0; // dragenter and dragleave also come from every child
  const hover = (change) => {
    depth = change === 0 ? 0 : Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => carriesFiles(event) && hover(1));
  document.addEventListener("dragleave", (event) => carriesFiles(event) && hover(-1));
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    hover(0);
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
  });
}

function sampleButton(sample, take) {
  const canvas = canvasOf(sample);
  canvas.setAttribute("aria-hidden", "true");
  return el(
    "button",
    { type: "button", className: "sample", onclick: async () => take([await fileOf(canvas, sample)]) },
    canvas,
    el("span", {}, sample.name),
  );
}
