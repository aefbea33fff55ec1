// The same request for a terminal and for a program, ready to copy.

import { address } from "./server.js";
import { announce, byId, el } from "./dom.js";

const NOT_PLAIN = /[^A-Za-z0-9_.,:/@%+=-]/;

/** {curl, python} that send the file to the model. */
export function snippets(name, model) {
  const url = address("v1/predict").href;
  const query = new URLSearchParams({ model: model.name, top_k: "3" });
  return {
    curl: `curl --data-binary ${shell(`@${name}`)} ${shell(`${url}?${query}`)}`,
    python: [
      "from pathlib import Path",
      "",
      "import httpx",
      "",
      "answer = httpx.post(",
      `    ${JSON.stringify(url)},`,
      `    params={"model": ${JSON.stringify(model.name)}, "top_k": 3},`,
      `    content=Path(${JSON.stringify(name)}).read_bytes(),`,
      ")",
      "verdict = answer.raise_for_status().json()",
      'print(verdict["prediction"]["label"], verdict["ood"]["is_ood"], verdict["ood"]["p_value"])',
    ].join("\n"),
  };
}

/** A titled block of code with a button that copies it. */
export function codeBlock(title, code) {
  const copy = el("button", { type: "button", className: "button" }, "Copy");
  copy.setAttribute("aria-label", `Copy ${title}`);
  copy.onclick = async () => {
    const done = await toClipboard(code);
    copy.textContent = done ? "Copied" : "Select it by hand";
    announce(done ? `${title} copied` : "Copying is not allowed here");
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  };
  return el("div", { className: "code" },
    el("div", { className: "row spread" }, el("h4", {}, title), copy),
    el("pre", { tabIndex: 0, role: "group", "aria-label": title }, el("code", {}, code)));
}

const shell = (text) => (NOT_PLAIN.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : text);

/** The clipboard interface exists on https and localhost alone; elsewhere an old command works. */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { value: text, className: "visually-hidden" });
    byId("main").append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
