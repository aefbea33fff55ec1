// Everything that is asked of the server. Addresses are relative, so the page works under a prefix.

const TRIES_WHEN_BUSY = 6;
const TOKEN = "isoserve-token";
const REVIEW_TOKEN = "isoserve-review-token";

/** What went wrong, in a sentence for a person; status 0 when there was no answer at all. */
export class ServerError extends Error {
  constructor(status, reason, detail) {
    super(detail);
    this.status = status;
    this.reason = reason;
  }
}

export const address = (path) => new URL(path, document.baseURI);

export function useToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function useReviewToken(token) {
  sessionStorage.setItem(REVIEW_TOKEN, token);
}

/** JSON of an answer; null where there is none. */
export async function ask(path, options = {}) {
  const response = await answered(path, options);
  return response.status === 204 ? null : response.json();
}

/** An answer's bytes. */
export async function askFile(path) {
  return (await answered(path, {})).blob();
}

/** Waits and tries again while the server is busy; throws what it refuses. */
async function answered(path, options) {
  const headers = { ...options.headers };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const reviewToken = sessionStorage.getItem(REVIEW_TOKEN);
  if (reviewToken && path.startsWith("v1/review/")) headers["X-Review-Token"] = reviewToken;
  for (let left = TRIES_WHEN_BUSY; ; left -= 1) {
    let response;
    try {
      response = await fetch(address(path), { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError(0, "unreachable", "The server does not answer.");
    }
    if (response.ok) return response;
    if (response.status === 429 && left > 1) {
      await pause(Number(response.headers.get("Retry-After")) || 1, options.signal);
      continue;
    }
    throw await refusal(response);
  }
}

/** The verdict on one file, with its explanation. */
export function predict(file, model, signal) {
  return ask(`v1/predict?${query(model)}`, { method: "POST", body: file, signal });
}

/** One verdict or problem a file, in order; a request too large for the server is split. */
export async function predictMany(files, model, signal) {
  const form = new FormData();
  for (const file of files) form.append("files", file);
  try {
    const answer = await ask(`v1/predict/batch?${query(model)}`, { method: "POST", body: form, signal });
    return answer.results;
  } catch (error) {
    if (error.status !== 413) throw error;
    if (files.length === 1) return [{ status: 413, reason: error.reason, detail: error.message }];
    const half = Math.ceil(files.length / 2);
    return [
      ...await predictMany(files.slice(0, half), model, signal),
      ...await predictMany(files.slice(half), model, signal),
    ];
  }
}

/** Models that answer now: {name, version, card}. */
export async function models() {
  const { models: all } = await ask("v1/models");
  return all.filter((model) => model.serving !== null).map((model) => ({
    name: model.name,
    version: model.serving,
    card: model.versions.find((version) => version.version === model.serving).card,
  }));
}

export const drift = (name, seconds) =>
  ask(`v1/models/${encodeURIComponent(name)}/drift?window=${seconds}`);

const query = (model) =>
  new URLSearchParams({ model: model.name, top_k: "5", explain: "true" }).toString();

async function refusal(response) {
  try {
    const problem = await response.json();
    return new ServerError(response.status, problem.reason, problem.detail);
  } catch {
    return new ServerError(response.status, "http", `The server answered ${response.status}.`);
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
