// The review queue: list what was kept, say what it is.

import { announce, byId, el } from "./dom.js";
import { ask, askFile, models, useReviewToken, useToken } from "./server.js";
import { percent, plural, whole } from "./words.js";

const IMAGES = "v1/review/images";
const FILTERS = ["mark", "rejected", "predicted"];

let known = [];
let next = null;
let asked = 0;

async function start() {
  try {
    known = [...new Set((await models()).flatMap((model) => model.card.classes))];
  } catch (error) {
    fail(error);
    return;
  }
  byId("predicted").replaceChildren(
    el("option", { value: "" }, "any"),
    ...known.map((name) => el("option", { value: name }, name)),
  );
  list();
}

/** Show the newest, or with a cursor what follows. */
async function list(before = null) {
  asked += 1;
  const mine = asked;
  if (before === null) byId("more").hidden = true; // it would go on in the list that leaves
  const query = new URLSearchParams();
  for (const [name, id] of [["mark", "mark"], ["rejected", "rejected"], ["label", "predicted"]]) {
    if (byId(id).value) query.set(name, byId(id).value);
  }
  if (before !== null) query.set("before", before);
  try {
    const page = await ask(`${IMAGES}?${query}`);
    if (mine !== asked) return; // the filters have changed meanwhile
    byId("notice").hidden = byId("token-form").hidden = true;
    if (before === null) clear();
    byId("queue").append(...page.images.map(card));
    next = page.next;
    byId("more").hidden = next === null;
    showCounts(page.counts);
    if (before === null) announce(plural(page.images.length, "image"));
    if (!byId("queue").children.length) notice("No image here.");
  } catch (error) {
    if (mine === asked) fail(error);
  }
}

function clear() {
  for (const image of byId("queue").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  byId("queue").replaceChildren();
}

function showCounts(counts) {
  byId("counts").textContent = `${whole(counts.none)} without a label, ${whole(counts.known_class)} of a known class, `
    + `${whole(counts.new_class)} of a new class, ${whole(counts.junk)} junk`;
}

function card(image) {
  const picture = el("img", { alt: `Kept image ${image.id}` });
  askFile(`${IMAGES}/${image.id}/file`).then((blob) => { picture.src = URL.createObjectURL(blob); }, () => {});
  const item = el("li", { className: "card item" },
    picture,
    el("div", { className: "facts" },
      el("p", { className: image.rejected ? "unknown" : "known" },
        el("span", { className: "badge" }, image.rejected ? "unknown" : "known")),
      el("p", {}, `Taken for “${image.label}” (${percent(image.probability)}); `
        + `${percent(image.p_value)} of known images score as low.`),
      el("p", { className: "muted" }, `${new Date(image.taken).toLocaleString()} · ${image.model} version ${image.version}`)),
    el("div", { className: "say" }));
  draw(item, image);
  return item;
}

/** The label it has, or the three ways to give it one. */
function draw(item, image) {
  const say = item.querySelector(".say");
  if (image.mark) {
    const words = image.mark === "junk" ? "Junk"
      : `${image.mark === "known_class" ? "Known class" : "New class"}: ${image.class_name}`;
    say.replaceChildren(
      el("p", { className: "said" }, words),
      el("button", { type: "button", className: "button", onclick: () => mark(item, image, null, null) }, "Undo"),
    );
    return;
  }
  const select = el("select", { "aria-label": `Known class of image ${image.id}` },
    known.map((name) => el("option", { value: name, selected: name === image.label }, name)));
  const input = el("input", {
    type: "text", required: true, maxLength: 100, placeholder: "its name",
    "aria-label": `New class of image ${image.id}`,
  });
  input.setAttribute("list", "new-classes");
  say.replaceChildren(
    form("Known class", select, () => mark(item, image, "known_class", select.value)),
    form("New class", input, () => mark(item, image, "new_class", input.value.trim())),
    el("button", { type: "button", className: "button", onclick: () => mark(item, image, "junk", null) }, "Junk"),
  );
}

function form(words, field, done) {
  const node = el("form", { className: "row" }, field, el("button", { className: "button" }, words));
  node.onsubmit = (event) => {
    event.preventDefault();
    done();
  };
  return node;
}

async function mark(item, image, as, className) {
  try {
    await ask(`${IMAGES}/${image.id}/mark`, {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ mark: as, class_name: className }),
    });
  } catch (error) {
    fail(error);
    return;
  }
  byId("notice").hidden = true;
  Object.assign(image, { mark: as, class_name: className });
  if (as === "new_class") remember(className);
  draw(item, image);
  item.querySelector(".say button, .say select")?.focus();
  announce(as ? `Image ${image.id}: ${item.querySelector(".said").textContent}` : "Label taken back");
  try {
    showCounts((await ask(`${IMAGES}?limit=1`)).counts);
  } catch (error) {
    fail(error);
  }
}

function remember(name) {
  const list = byId("new-classes");
  if (![...list.options].some((option) => option.value === name)) list.append(el("option", { value: name }));
}

function fail(error) {
  const which = { 401: "The server’s access token", 403: "The review token" }[error.status];
  if (which === undefined) {
    notice(error.message);
    return;
  }
  byId("token-label").textContent = which;
  byId("token-form").hidden = false;
  byId("token-form").dataset.status = error.status;
  byId("token").value = "";
  byId("token").focus();
}

function notice(text) {
  byId("notice").replaceChildren(el("p", {}, text));
  byId("notice").hidden = false;
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value;
  if (byId("token-form").dataset.status === "401") useToken(token);
  else useReviewToken(token);
  start();
});
for (const id of FILTERS) byId(id).addEventListener("change", () => list());
byId("more").addEventListener("click", () => list(next));
start();
