// The page: a model and images from the person's disk, a row for each verdict. `?model=URL` opens a
// model that lies beside the page.

import { Model } from "./model.js";
import { pixelsOf } from "./pixels.js";

const byId = (id) => document.getElementById(id);
let model = null;
let opening = 0; // the last one that was asked for is the one that is shown

async function open(name, read) {
  const turn = ++opening;
  model = null;
  byId("images").disabled = true;
  byId("problem").hidden = true;
  byId("card").textContent = `Opening ${name} …`;
  try {
    const opened = await Model.read(await read());
    if (turn !== opening) return;
    model = opened;
    byId("card").textContent = described(model.card);
    byId("images").disabled = false;
  } catch (error) {
    if (turn !== opening) return;
    byId("card").textContent = "Choose a model.onnx.";
    complain(`${name}: ${error.message}`);
  }
}

function described({ name, network, classes, input, calibration }) {
  return (
    `${name}: ${network}, ${input.width} × ${input.height} pixels, ${classes.length} classes; ` +
    `unknown where p ≤ ${calibration.alpha}.`
  );
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = false;
}

async function judge(files) {
  byId("problem").hidden = true;
  const judging = model;
  byId("images").disabled = true; // one run at a time
  for (const file of files) {
    try {
      const pixels = await pixelsOf(file, judging.card.input);
      show(file.name, pixels, await judging.judge(pixels));
    } catch (error) {
      complain(`${file.name}: ${error.message}`);
    }
  }
  byId("images").disabled = model === null;
}

function show(name, pixels, verdict) {
  const { prediction, ood } = verdict;
  const row = byId("verdicts").tBodies[0].insertRow();
  row.dataset.verdict = JSON.stringify({ name, ...verdict });
  const canvas = document.createElement("canvas");
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(new ImageData(pixels.data, pixels.width, pixels.height), 0, 0);
  row.insertCell().append(canvas);
  row.insertCell().textContent = name;
  const said = row.insertCell();
  said.textContent = ood.is_ood ? "I don't know this." : "Known";
  said.className = ood.is_ood ? "unknown" : "known";
  row.insertCell().textContent = prediction.label;
  row.insertCell().textContent = prediction.probability.toFixed(3);
  row.insertCell().textContent = ood.p_value.toFixed(4);
  byId("verdicts").hidden = false;
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`not there (${response.status})`);
  return new Uint8Array(await response.arrayBuffer());
}

byId("model").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) open(file.name, async () => new Uint8Array(await file.arrayBuffer()));
});
byId("images").addEventListener("change", async ({ target }) => {
  await judge([...target.files]);
  target.value = ""; // so that the same file may be chosen again
});

const beside = new URLSearchParams(location.search).get("model");
if (beside) open(beside, () => fetched(beside));
