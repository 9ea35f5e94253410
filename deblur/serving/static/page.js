// The page: what is shown when. One picture at a time; others that were dropped with it wait.

import { Refusal, Unreachable, deblur, useKey } from "./client.js";
import { Viewer } from "./viewer.js";

const SUFFIXES = {
  "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/avif": "avif",
  "image/tiff": "tif", "image/bmp": "bmp", "image/heic": "heic", "image/heif": "heif",
};
const NAMES = { WEBP: "WebP" };
const MEBIBYTE = 2 ** 20;
const SPOKEN_EVERY = 5000;

const $ = (id) => document.getElementById(id);
const viewer = new Viewer($("viewer"), $("zoom"));

let limits = {};
let waiting = []; // files that were dropped together with the present one
let present = null; // {file, controller, urls}
let spoken = 0;

function show(state) {
  $("drop").hidden = state === "working" || state === "done";
  $("viewer").hidden = !$("drop").hidden;
  $("begin").hidden = $("drop").hidden;
  $("working").hidden = state !== "working";
  $("done").hidden = state !== "done";
  $("trouble").hidden = state !== "trouble";
  document.body.dataset.state = state;
}

/** For screen readers: what the eye sees at once. */
function say(text) {
  $("status").textContent = text;
  spoken = performance.now();
}

function accept(files) {
  if (files.length === 0) return;
  waiting = [...files].slice(1);
  start(files[0]);
}

/** Ends the present picture: its job is cancelled, its memory freed. */
function leave() {
  present?.controller.abort();
  present?.urls.forEach((url) => URL.revokeObjectURL(url));
  viewer.clear();
  return null;
}

async function start(file) {
  leave();
  const mine = { file, controller: new AbortController(), urls: [] };
  present = mine;
  const url = (blob) => mine.urls[mine.urls.push(URL.createObjectURL(blob)) - 1];
  show("working");
  doing("Opening the photograph");
  say(`Deblurring ${file.name}`);
  $("cancel").focus({ preventScroll: true });
  try {
    const most = limits.megabytes ?? Infinity;
    if (file.size > most * MEBIBYTE) {
      const found = (file.size / MEBIBYTE).toFixed(1);
      throw new Refusal(
        413,
        `${file.name} has ${found} MiB, the limit is ${most} MiB: choose a smaller file.`,
      );
    }
    const visible = await viewer.showBefore(url(file));
    if (mine !== present) return;
    const metadata = $("metadata").checked ? "keep" : "strip";
    const wanted = { accept: $("format").value, metadata };
    // What the browser cannot show is asked for as something that it can.
    if (!visible && wanted.accept === "image/*") wanted.accept = "image/png";
    doing("Sending", 0);
    const started = performance.now();
    const answer = await deblur(file, wanted, mine.controller.signal, {
      upload: (share) => doing(share < 1 ? `Sending, ${percent(share)}` : "Sent", share),
      job: (job) => follow(job),
      lost: () => doing("The connection was lost: trying again"),
    });
    const seconds = (performance.now() - started) / 1000;
    const shown = await viewer.showAfter(url(answer.blob));
    if (mine === present) finish(file, answer, mine.urls.at(-1), seconds, visible, shown);
  } catch (error) {
    if (mine === present) trouble(error);
  }
}

function doing(text, share) {
  $("doing").textContent = text;
  if (share === undefined) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

function follow(job) {
  const { done, total } = job.tiles;
  if (job.state === "queued" || !total) return doing("Waiting for its turn");
  const seconds = job.seconds_left;
  const left = seconds === null ? "" : `, about ${duration(Math.max(1, seconds))} left`;
  const text = `${done} of ${total} tile${total === 1 ? "" : "s"}${left}`;
  doing(text, done / total);
  if (performance.now() - spoken > SPOKEN_EVERY) say(text);
}

function finish(file, { blob, headers }, url, seconds, visible, shown) {
  const stem = file.name.replace(/\.[^.]*$/, "") || "photo";
  const type = headers.get("Content-Type")?.split(";")[0] ?? blob.type;
  const download = $("download");
  download.href = url;
  download.download = `${stem}-sharp.${SUFFIXES[type] ?? "jpg"}`;
  download.textContent = `Download ${(SUFFIXES[type] ?? "").toUpperCase()}`.trim();
  const tiles = headers.get("X-Deblur-Tiles");
  const spent = Number.parseFloat(headers.get("X-Deblur-Seconds") ?? seconds);
  const image = $("viewer").querySelector(shown === "none" ? ".before img" : "img");
  const size = image.naturalWidth ? `${image.naturalWidth} × ${image.naturalHeight}` : "";
  const model = headers.get("X-Deblur-Model")?.slice(0, 12);
  $("facts").replaceChildren(
    ...[
      size,
      weight(blob.size),
      spent < 9.95 ? `${spent.toFixed(1)} s` : duration(spent),
      tiles && `${tiles} tile${tiles === "1" ? "" : "s"}`,
      model && `model ${model}`,
    ].filter(Boolean).map(inSpan),
  );
  const note = {
    both: "",
    alone: visible
      ? "The two differ in size as this browser shows them, so only the answer is shown."
      : "This browser cannot show the original, so only the answer is shown.",
    none: "This browser cannot show the answer. The download holds it.",
  }[shown];
  $("note").textContent = note;
  $("note").hidden = !note;
  $("next").textContent = nameOfNext();
  show("done");
  viewer.focus();
  if (shown !== "both") download.focus({ preventScroll: true });
  say(`The photograph is ready. ${note}`);
}

function trouble(error) {
  const wait = error.retryAfter ?? (error.status === 429 || error.status === 503 ? 5 : null);
  const later = wait === null ? "" : ` Try again in ${duration(wait)}.`;
  if (!(error instanceof Refusal || error instanceof Unreachable)) console.error(error);
  $("problem").textContent = sentence(error.message) + later;
  $("unlock").hidden = error.status !== 401;
  $("again").hidden = !present || !(error instanceof Unreachable || wait !== null);
  $("skip").hidden = !waiting.length;
  $("skip").textContent = nameOfNext();
  viewer.clear();
  show("trouble");
  const first = [$("key"), $("again"), $("choose")].find((item) => item.offsetParent !== null);
  first.focus({ preventScroll: true });
}

/** Back to the beginning, or on to the next of several. */
function next() {
  const file = waiting.shift();
  if (file) return start(file);
  present = leave();
  show("empty");
  $("choose").focus({ preventScroll: true });
}

const nameOfNext = () =>
  waiting.length ? `Next photograph (${waiting.length} waiting)` : "Another photograph";

function cancel() {
  waiting = [];
  next();
  say("Cancelled");
}

function inSpan(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span;
}

const percent = (share) => `${Math.round(share * 100)} %`;

function duration(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function weight(bytes) {
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
}

/** The server's messages begin small and have no full stop. */
function sentence(text) {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

async function tellLimits() {
  try {
    const ready = await (await fetch(new URL("readyz", document.baseURI))).json();
    limits = ready.limits ?? {};
  } catch {
    return; // the page works without
  }
  const formats = limits.formats?.map((format) => NAMES[format] ?? format);
  const most = [
    limits.megabytes && `${limits.megabytes} MiB`,
    limits.megapixels && `${limits.megapixels} megapixels`,
  ].filter(Boolean);
  const kinds = formats ? formats.join(", ").replace(/, ([^,]*)$/, " or $1") : "Any";
  if (most.length) $("limits").textContent = `${kinds}, up to ${most.join(" and ")}.`;
  for (const option of [...$("format").options].slice(1)) {
    const known = !formats || formats.includes(option.text);
    option.hidden = option.disabled = !known;
  }
}

$("choose").onclick = () => $("file").click();
$("file").onchange = (event) => {
  accept(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
};
$("drop").onclick = (event) => {
  if (!event.target.closest("button, input")) $("file").click();
};
$("cancel").onclick = cancel;
$("next").onclick = $("skip").onclick = next;
$("again").onclick = () => start(present.file);
$("unlock").onsubmit = (event) => {
  event.preventDefault();
  useKey($("key").value.trim());
  $("key").value = "";
  start(present.file);
};
$("samples").onclick = async (event) => {
  const name = event.target.closest("button")?.dataset.sample;
  if (!name) return;
  try {
    const answer = await fetch(new URL(`static/samples/${name}.jpg`, document.baseURI));
    const file = new File([await answer.blob()], `${name}.jpg`, { type: "image/jpeg" });
    accept([file]);
  } catch {
    trouble(new Unreachable());
  }
};

let depth = 0; // dragging over a child leaves the parent
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) document.body.classList.toggle("dropping", (depth += 1) > 0);
});
document.addEventListener("dragleave", (event) => {
  if (carriesFiles(event)) document.body.classList.toggle("dropping", (depth -= 1) > 0);
});
document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("dropping");
  accept(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  const files = event.clipboardData?.files ?? [];
  if (files.length) {
    event.preventDefault();
    accept(files);
  }
});
// A job that nobody waits for is not worked on.
window.addEventListener("pagehide", () => {
  if (document.body.dataset.state === "working") cancel();
});

show("empty");
tellLimits();
