// The page of `nordocr serve`: read documents, look at them, correct lines, take files away.
"use strict";

const DOUBT_BELOW = 0.9;
const byId = (id) => document.getElementById(id);

// Documents in the order in which they were opened; each has `id`, `source`, `pages`, `edits`, and
// whether an edit is `unsaved`.
const opened = [];
let current = null;
let pageNumber = 0;

function say(message, isError = false) {
  const status = byId("status");
  status.textContent = message;
  status.classList.toggle("error", isError);
}

// Requests
// ----------------------------------------

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; is nordocr serve still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new Error(body?.error?.message ?? `the server answered ${response.status}`);
}

function postJson(path, value) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(value) });
}

async function readFiles(files) {
  for (const file of files) {
    say(`Reading ${file.name} …`);
    byId("busy").hidden = false;
    const form = new FormData();
    form.append("file", file);
    try {
      const response = await request("read", { method: "POST", body: form });
      const read = await response.json();
      read.edits = new Map();
      read.unsaved = false;
      opened.push(read);
      show(read, 0);
      say(summaryOf(read));
    } catch (error) {
      say(`${file.name}: ${error.message}`, true);
    } finally {
      byId("busy").hidden = true;
    }
  }
}

function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function summaryOf(read) {
  const lines = read.pages.reduce((sum, page) => sum + page.lines.length, 0);
  const failed = read.pages.filter((page) => page.error).length;
  const problem = failed ? `; ${counted(failed, "page")} could not be read` : "";
  const pages = counted(read.pages.length, "page");
  return `${read.source}: ${pages}, ${counted(lines, "line")}${problem}`;
}

// Drawing
// ----------------------------------------

function show(read, number) {
  current = read;
  pageNumber = number;
  const page = read.pages[number];
  byId("work").hidden = false;
  byId("place").textContent = `${number + 1} of ${read.pages.length}`;
  byId("previous").disabled = number === 0;
  byId("next").disabled = number === read.pages.length - 1;

  const image = byId("image");
  image.src = `documents/${encodeURIComponent(read.id)}/pages/${number}.png`;
  image.alt = `Page ${number + 1} of ${read.source}`;
  drawDocuments();
  drawBoxes(page);
  drawLines(page);
  if (page.error) say(`Page ${number + 1}: ${page.error}`, true);
}

function drawDocuments() {
  byId("documents").hidden = opened.length < 2;
  const items = opened.map((read) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = read.source;
    button.setAttribute("aria-current", String(read === current));
    button.addEventListener("click", () => show(read, 0));
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  byId("documents").querySelector("ul").replaceChildren(...items);
}

function isDoubtful(line) {
  return line.confidence !== null && line.confidence < DOUBT_BELOW;
}

function drawBoxes(page) {
  const svg = byId("boxes");
  svg.setAttribute("viewBox", `0 0 ${page.width_px} ${page.height_px}`);
  const boxes = page.lines.map((line, index) => {
    const box = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    box.setAttribute("points", line.outline.map((point) => point.join(",")).join(" "));
    box.classList.toggle("doubt", isDoubtful(line));
    box.addEventListener("click", () => inputs()[index].focus());
    return box;
  });
  svg.replaceChildren(...boxes);
}

function drawLines(page) {
  const items = page.lines.map((line, index) => {
    const input = document.createElement("textarea");
    input.rows = 1;
    input.value = current.edits.get(keyOf(index)) ?? line.text;
    input.spellcheck = false;
    input.autocomplete = "off";
    input.maxLength = 2000;
    input.setAttribute("aria-label", `Line ${index + 1}`);
    input.addEventListener("focus", () => mark(index));
    input.addEventListener("input", () => onInput(index));
    input.addEventListener("keydown", (event) => onLineKey(event, index));

    const sure = document.createElement("span");
    sure.className = "sure";
    const item = document.createElement("li");
    item.append(input, sure);
    return item;
  });
  byId("lines").replaceChildren(...items);
  page.lines.forEach((_, index) => drawState(index));
  inputs().forEach(fit);
}

// Give a field the height of its text: a long line wraps, so that all of it is seen.
function fit(input) {
  input.style.height = "auto";
  const borders = input.offsetHeight - input.clientHeight;
  input.style.height = `${input.scrollHeight + borders}px`;
}

function drawState(index) {
  const line = current.pages[pageNumber].lines[index];
  const item = byId("lines").children[index];
  const edited = current.edits.get(keyOf(index));
  const changed = edited !== undefined && edited !== line.text;
  const confirmed = edited !== undefined && !changed;
  item.classList.toggle("doubt", isDoubtful(line) && edited === undefined);
  item.classList.toggle("changed", changed);
  item.classList.toggle("confirmed", confirmed);
  const percent = line.confidence === null ? "" : String(Math.round(line.confidence * 100));
  const words = changed ? "edited" : confirmed ? "right" : percent;
  item.querySelector(".sure").textContent = words;
}

function inputs() {
  return byId("lines").querySelectorAll("textarea");
}

function mark(index) {
  const boxes = [...byId("boxes").children];
  boxes.forEach((box, number) => box.classList.toggle("current", number === index));
  const sheet = byId("sheet");
  const image = byId("image");
  const box = current.pages[pageNumber].lines[index].box;
  const scale = image.clientHeight / current.pages[pageNumber].height_px;
  sheet.scrollTop = (box.y + box.height / 2) * scale - sheet.clientHeight / 2;
  sheet.scrollLeft = (box.x - box.height) * scale;
}

// Correcting
// ----------------------------------------

function keyOf(index) {
  return `${pageNumber}/${index}`;
}

function onInput(index) {
  const input = inputs()[index];
  if (input.value.includes("\n")) input.value = input.value.replace(/\s*\n\s*/g, " ");
  fit(input);
  edit(index, input.value);
}

function edit(index, text) {
  current.edits.set(keyOf(index), text);
  current.unsaved = true;
  drawState(index);
}

function undo(index) {
  current.edits.delete(keyOf(index));
  const input = inputs()[index];
  input.value = current.pages[pageNumber].lines[index].text;
  fit(input);
  drawState(index);
}

function onLineKey(event, index) {
  const step = { Enter: event.shiftKey ? -1 : 1, ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") undo(index);
  if (event.key === "Enter" && !event.shiftKey) edit(index, inputs()[index].value);
  if (step === undefined) return;
  event.preventDefault();
  inputs()[index + step]?.focus();
}

function editedLines() {
  return [...current.edits].map(([key, text]) => {
    const [page, line] = key.split("/").map(Number);
    return { page, line, text };
  });
}

async function save() {
  const read = current;
  const path = `documents/${encodeURIComponent(read.id)}/corrections`;
  try {
    const response = await postJson(path, { lines: editedLines() });
    const saved = await response.json();
    read.unsaved = false;
    say(`Saved: ${saved.manifest} has ${counted(saved.rows, "line")} now.`);
  } catch (error) {
    say(error.message, true);
  }
}

async function download(format) {
  const path = `documents/${encodeURIComponent(current.id)}/files/${format}`;
  try {
    const response = await postJson(path, { lines: editedLines() });
    const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name?.[1] ?? `document.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    say(`Downloaded ${link.download}.`);
  } catch (error) {
    say(error.message, true);
  }
}

// Events
// ----------------------------------------

function turn(step) {
  const number = pageNumber + step;
  if (current && number >= 0 && number < current.pages.length) show(current, number);
}

byId("file").addEventListener("change", (event) => {
  readFiles([...event.target.files]);
  event.target.value = "";
});
byId("previous").addEventListener("click", () => turn(-1));
byId("next").addEventListener("click", () => turn(1));
byId("save").addEventListener("click", save);
for (const button of document.querySelectorAll(".download")) {
  button.addEventListener("click", () => download(button.dataset.format));
}

window.addEventListener("resize", () => inputs().forEach(fit));
window.addEventListener("beforeunload", (event) => {
  if (opened.some((read) => read.unsaved)) event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (!current) return;
  if (event.key === "PageDown") turn(1);
  if (event.key === "PageUp") turn(-1);
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
    event.preventDefault();
    save();
  }
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("drop").hidden = true;
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").hidden = true;
  readFiles([...event.dataTransfer.files]);
});
