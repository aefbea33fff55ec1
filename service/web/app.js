// The page: what was given, what the server said of it, and how strictly to read that.

import { announce, byId, el } from "./dom.js";
import { showMany, summary } from "./grid.js";
import { listen } from "./intake.js";
import { Live } from "./live.js";
import { rejudge, showOne } from "./result.js";
import { models, predict, predictMany, useToken } from "./server.js";
import { listenToStrictness, showStrictness } from "./strictness.js";
import { decidingPValue, inWords, isUnknown, plural, whole } from "./words.js";

const CHUNK_IMAGES = 16;
const CHUNK_BYTES = 16 * 2 ** 20;
const MOST_IMAGES = 500;
const PATIENCE_MS = 700;

const live = new Live();
const state = { models: [], model: null, alpha: null, serverAlpha: null, entries: [], shown: null };
let running = null;
let retry = null;

async function start() {
  try {
    state.models = await models();
  } catch (error) {
    byId("model-facts").textContent = "";
    fail(error, start);
    return;
  }
  if (!state.models.length) {
    byId("model-facts").textContent = "No model is loaded yet.";
    setTimeout(start, 2000);
    return;
  }
  byId("notice").hidden = true;
  const select = byId("model");
  select.replaceChildren(...state.models.map((model) => el("option", { value: model.name }, model.name)));
  select.hidden = byId("model-label").hidden = state.models.length === 1;
  const first = defaultModel(state.models);
  select.value = first.name;
  await chooseModel(first);
}

// As the server does for requests that name none: of the two models that come with the program, the
// one for photographs.
function defaultModel(models) {
  const names = models.map((model) => model.name).sort().join();
  return names === "cifar10,clothes" ? models.find((model) => model.name === "clothes") : models[0];
}

async function chooseModel(model) {
  state.model = live.model = model;
  const { card } = model;
  byId("model-facts").textContent = `${model.name}, version ${model.version}: `
    + `${plural(card.classes.length, "class", "classes")} (${some(card.classes)}), `
    + `calibrated on ${whole(card.calibration.n)} known images.`;
  await live.refresh();
  state.serverAlpha = live.last?.rejection.alpha ?? card.calibration.alpha;
  setAlpha(state.serverAlpha);
}

const some = (names) =>
  names.length > 12 ? `${names.slice(0, 10).join(", ")} and ${names.length - 10} more` : names.join(", ");

async function take(files) {
  if (!state.model) return;
  running?.abort();
  const control = new AbortController();
  running = control;
  for (const entry of state.entries) URL.revokeObjectURL(entry.url);
  byId("one").hidden = byId("many").hidden = byId("notice").hidden = true;
  const chosen = files.slice(0, MOST_IMAGES);
  state.shown = null;
  state.entries = chosen.map((file) => ({
    file, name: file.name || "pasted.png", url: URL.createObjectURL(file),
  }));
  const progress = new Progress(chosen.length);
  try {
    await (chosen.length === 1 ? judgeOne(control.signal) : judgeMany(control.signal, progress));
    if (files.length > MOST_IMAGES) notice(`Only the first ${MOST_IMAGES} of ${whole(files.length)} were sent.`);
  } catch (error) {
    if (error.name !== "AbortError") fail(error, () => take(files));
    else if (running === control) announce("Cancelled");
  } finally {
    progress.end();
    if (running === control) running = null;
    live.refresh().then(showEffect);
  }
}

async function judgeOne(signal) {
  const [entry] = state.entries;
  if (!await readable(entry)) {
    notice(`${entry.name} ${entry.problem}`);
    return;
  }
  try {
    entry.verdict = await predict(entry.file, state.model, signal);
  } catch (error) {
    if (![400, 413, 415].includes(error.status)) throw error;
    notice(`${entry.name} cannot be judged: ${error.message}.`);
    return;
  }
  show(entry, null);
  bringIntoView(byId("one"));
  const words = inWords(entry.verdict, state.alpha, state.model.card.calibration);
  announce(`${words.headline} ${words.detail}`);
}

async function judgeMany(signal, progress) {
  const { entries } = state;
  for (const entry of entries) await readable(entry);
  signal.throwIfAborted();
  redrawMany();
  bringIntoView(byId("many"));
  for (const chunk of chunks(entries.filter((entry) => !entry.problem))) {
    const results = await predictMany(chunk.map((entry) => entry.file), state.model, signal);
    results.forEach((result, place) => {
      if (result.ood) chunk[place].verdict = result;
      else chunk[place].problem = `cannot be judged: ${result.detail}.`;
    });
    progress.advance(chunk.length);
    redrawMany();
  }
  announce(`${plural(entries.length, "image")}: ${summary(entries, state.alpha)}`);
}

/** A folder can be dropped like a file, but not read like one. */
async function readable(entry) {
  try {
    await entry.file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    entry.problem = "cannot be read: a folder, or a file that is gone.";
    return false;
  }
}

function* chunks(entries) {
  let chunk = [];
  let bytes = 0;
  for (const entry of entries) {
    if (chunk.length && (chunk.length === CHUNK_IMAGES || bytes + entry.file.size > CHUNK_BYTES)) {
      yield chunk;
      chunk = [];
      bytes = 0;
    }
    chunk.push(entry);
    bytes += entry.file.size;
  }
  if (chunk.length) yield chunk;
}

function redrawMany() {
  showMany(state.entries, state.alpha, (entry) => {
    show(entry, () => {
      byId("one").hidden = true;
      state.shown = null;
      entry.button.focus();
    });
    byId("verdict").focus();
    bringIntoView(byId("one"));
  });
  showEffect();
}

/** Scroll only where the section would start low on the screen or above it. */
function bringIntoView(section) {
  const { top } = section.getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.4) section.scrollIntoView({ block: "start" });
}

function show(entry, back) {
  state.shown = entry;
  showOne(entry, state.model, state.alpha, back);
  showEffect();
}

function setAlpha(alpha) {
  state.alpha = live.alpha = alpha;
  showStrictness(alpha);
  byId("alpha-reset").hidden = alpha === state.serverAlpha;
  live.draw();
  if (state.shown) rejudge(state.shown, state.model, alpha);
  if (!byId("many").hidden) redrawMany();
  showEffect();
}

/** What this threshold would have done to the images here and to those of the window. */
function showEffect() {
  const sentences = [];
  const judged = state.entries.filter((entry) => entry.verdict);
  if (judged.length) {
    const rejected = judged.filter((entry) => isUnknown(decidingPValue(entry.verdict.ood), state.alpha)).length;
    sentences.push(judged.length === 1
      ? `The image above would be ${rejected ? "rejected" : "accepted"}.`
      : `Of your ${judged.length} images, ${rejected} would be rejected.`);
  }
  const lately = live.rejectedAt(state.alpha);
  if (lately) sentences.push(`Of ${plural(lately.images, "recent image")} it would have rejected ${lately.rejected}.`);
  byId("alpha-effect").textContent = sentences.join(" ");
}

function notice(text) {
  byId("notice").replaceChildren(el("p", {}, text));
  byId("notice").hidden = false;
}

function fail(error, again) {
  if (error.status === 401) {
    retry = again;
    byId("token-form").hidden = false;
    byId("token").focus();
    return;
  }
  notice(error.message);
  byId("notice").append(el("button", {
    type: "button", className: "button", onclick: () => { byId("notice").hidden = true; again(); },
  }, "Try again"));
}

/** Shown only when the server takes its time. */
class Progress {
  constructor(images) {
    this.images = images;
    this.done = 0;
    this.started = performance.now();
    this.timer = setInterval(() => this.draw(), 250);
    this.said = false;
  }

  advance(images) {
    this.done += images;
  }

  draw() {
    const waited = performance.now() - this.started;
    if (waited < PATIENCE_MS) return;
    byId("progress").hidden = false;
    const many = this.images > 1 ? `${this.done} of ${this.images} judged, ` : "";
    byId("progress-text").textContent = `Waiting for the server: ${many}${Math.round(waited / 1000)} s`;
    if (!this.said) announce("Waiting for the server");
    this.said = true;
  }

  end() {
    clearInterval(this.timer);
    byId("progress").hidden = true;
  }
}

listenToStrictness(setAlpha);
byId("alpha-reset").addEventListener("click", () => {
  setAlpha(state.serverAlpha);
  byId("alpha").focus();
});
byId("cancel").addEventListener("click", () => running?.abort());
byId("model").addEventListener("change", (event) => {
  chooseModel(state.models[event.target.selectedIndex]);
  if (state.entries.length) take(state.entries.map((entry) => entry.file));
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value);
  byId("token-form").hidden = true;
  retry?.();
});
listen(take);
start();
