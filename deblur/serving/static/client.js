// Sends a picture to the server and follows the job until its answer is there.

const FINAL = new Set(["done", "failed", "cancelled"]);
const KEY = "deblur.key";

let key = storedKey();

/** The server said no. `detail` is its sentence, `retryAfter` in seconds or null. */
export class Refusal extends Error {
  constructor(status, detail, retryAfter = null) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The server was not reached. */
export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached: check the connection, then try again.");
  }
}

/** Keeps the key for as long as the tab is open, and no longer. */
export function useKey(given) {
  key = given;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // Where storage is blocked, the key lasts until the page is left.
  }
}

function storedKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/**
 * The deblurred picture: {blob, headers}.
 *
 * `wanted` is {accept, metadata}. `on.upload(share)` is told the share that is sent, `on.job(job)`
 * each state of the job, `on.lost()` that the connection broke off and is tried again. Aborting
 * `signal` rejects with an AbortError and deletes the job, at once, so that it also works while the
 * page is being left.
 */
export async function deblur(file, wanted, signal, on) {
  const job = address(`v1/jobs/${randomId()}`);
  const query = `?metadata=${wanted.metadata}`;
  const forget = () =>
    fetch(job, { method: "DELETE", headers: keyHeader(), keepalive: true }).catch(() => {});
  signal.addEventListener("abort", forget, { once: true });
  const stopForgetting = () => signal.removeEventListener("abort", forget);
  try {
    const put = await send("PUT", job + query, file, wanted.accept, signal, on.upload);
    if (put.status === 404 || put.status === 405) {
      // A server without jobs: the same in one request, without progress.
      stopForgetting();
      const url = address("v1/deblur") + query;
      return await taken(await send("POST", url, file, wanted.accept, signal, on.upload));
    }
    on.job(JSON.parse(await (await taken(put)).blob.text()));
    try {
      await finished(job, signal, on);
      return await taken(await request(`${job}/result`, signal));
    } finally {
      if (!signal.aborted) forget();
    }
  } finally {
    stopForgetting();
  }
}

/** Follows the events; begins anew where the stream breaks off before the job has ended. */
async function finished(job, signal, on) {
  // Jobs outlive a restart of the server, which may take a while.
  for (let failures = 0; failures < 30; failures += 1) {
    if (failures > 0) {
      on.lost();
      await pause(1000, signal);
    }
    try {
      const response = await request(`${job}/events`, signal);
      if (response.status >= 500) throw new Unreachable();
      if (!response.ok) await taken(response);
      for await (const state of events(response)) {
        on.job(state);
        failures = 0;
        if (state.state === "cancelled") {
          throw new Refusal(410, "The job was cancelled on the server: send the photograph again.");
        }
        if (FINAL.has(state.state)) return;
      }
    } catch (error) {
      if (signal.aborted || error instanceof Refusal) throw error;
    }
  }
  throw new Unreachable();
}

/** The data of each event. Read by fetch, because EventSource cannot send a key. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield JSON.parse(lines.map((line) => line.slice(5)).join("\n"));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** By XMLHttpRequest, because fetch does not tell how much has been sent. */
function send(method, url, body, accept, signal, onUpload) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    const abort = () => xhr.abort();
    signal.throwIfAborted();
    signal.addEventListener("abort", abort, { once: true });
    xhr.open(method, url);
    xhr.responseType = "blob";
    xhr.setRequestHeader("Accept", accept);
    xhr.setRequestHeader("Content-Type", body.type || "application/octet-stream");
    for (const [name, value] of Object.entries(keyHeader())) xhr.setRequestHeader(name, value);
    xhr.upload.onprogress = (event) =>
      event.lengthComputable && onUpload(event.loaded / event.total);
    xhr.onload = () => resolve(responseOf(xhr));
    xhr.onerror = () => reject(new Unreachable());
    xhr.onabort = () => reject(signal.reason);
    xhr.onloadend = () => signal.removeEventListener("abort", abort);
    xhr.send(body);
  });
}

function responseOf(xhr) {
  const headers = new Headers();
  for (const line of xhr.getAllResponseHeaders().trim().split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const body = xhr.status === 204 ? null : xhr.response;
  return new Response(body, { status: xhr.status, headers });
}

async function request(url, signal) {
  try {
    return await fetch(url, { headers: keyHeader(), signal, cache: "no-store" });
  } catch (error) {
    throw signal.aborted ? error : new Unreachable();
  }
}

/** The body of a good answer; any other is thrown with the server's own sentence. */
async function taken(response) {
  if (response.ok) return { blob: await response.blob(), headers: response.headers };
  let detail = `The server answered ${response.status} without a reason: try again later.`;
  try {
    const said = (await response.json()).detail;
    if (typeof said === "string") detail = said;
  } catch {
    // A proxy's page: its status is all that can be told.
  }
  const wait = Number.parseFloat(response.headers.get("Retry-After"));
  throw new Refusal(response.status, detail, Number.isFinite(wait) ? wait : null);
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

function keyHeader() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Relative to the page, so that it also works under a path of a reverse proxy. */
function address(path) {
  return new URL(path, document.baseURI).href;
}

/** 128 random bits. `crypto.randomUUID` exists over https and on localhost alone. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
