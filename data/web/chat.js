// The page of the chat server. The conversation lives here; the server gets all of it with every request.
import { markdown } from "./markdown.js";

const $ = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_k", "top_p", "max_tokens", "seed"];

let messages = []; // {role, parts: [{type, text}], note?, error?}
let running = null; // the AbortController of the reply that is being written
let editing = -1; // the message that is being edited

const textOf = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function button(label, action, attributes = {}) {
  const node = make("button", { type: "button", ...attributes }, label);
  node.addEventListener("click", action);
  return node;
}

// ---- what is shown

function drawBody(body, message) {
  if (message.role === "user") {
    body.replaceChildren(textOf(message));
    return;
  }
  const nodes = [];
  let tool = null;
  for (const { type, text } of message.parts) {
    if (type === "text") {
      nodes.push(...markdown(text));
      tool = null;
    } else if (type === "python") {
      tool = make("div", { class: "tool" }, make("span", { class: "what" }, "calculator"), make("code", {}, text));
      nodes.push(tool);
    } else {
      const result = make("code", {}, `= ${text}`);
      tool ? tool.append(result) : nodes.push(make("div", { class: "tool" }, result));
    }
  }
  body.replaceChildren(...nodes);
}

function drawMessage(message, index) {
  const mine = message.role === "user";
  const node = make("article", { class: `message ${message.role}`, "aria-label": mine ? "You" : "Model" });
  node.append(make("p", { class: "who", "aria-hidden": "true" }, mine ? "You" : "Model"));
  if (index === editing) {
    node.append(editor(message, index));
    return node;
  }
  const writing = running && index === messages.length - 1;
  const body = make("div", { class: writing && !message.parts.length ? "body waiting" : "body" });
  drawBody(body, message);
  node.append(body);
  if (message.note) node.append(make("p", { class: "note" }, message.note));
  if (message.error) node.append(make("p", { class: "error", role: "alert" }, message.error));
  if (!running) node.append(actions(message, index, mine));
  return node;
}

function actions(message, index, mine) {
  const row = make("div", { class: "actions" });
  if (textOf(message)) row.append(button("Copy", (event) => copy(textOf(message), event.currentTarget)));
  if (mine) row.append(button("Edit", () => edit(index)));
  if (!mine && index === messages.length - 1) row.append(button("Regenerate", regenerate));
  return row;
}

function editor(message, index) {
  const area = make("textarea", { "aria-label": "Edit your message", rows: "2", maxlength: "8000" });
  area.value = textOf(message);
  const save = () => {
    const text = area.value.trim();
    if (!text) return;
    editing = -1;
    messages = messages.slice(0, index);
    ask(text);
  };
  area.addEventListener("input", () => fit(area));
  area.addEventListener("keydown", (event) => {
    if (sends(event)) save();
    if (event.key === "Escape") edit(-1);
  });
  const row = make("div", { class: "row" }, button("Send again", save, { class: "save" }), button("Cancel", () => edit(-1)));
  return make("div", { class: "editor" }, area, row);
}

function draw() {
  const log = $("log");
  log.setAttribute("aria-busy", String(Boolean(running)));
  keepingEnd(() => log.replaceChildren(...messages.map(drawMessage)));
  $("empty").hidden = messages.length > 0;
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
  $("clear").disabled = !messages.length;
}

let due = false;
function drawLastSoon() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    const body = $("log").lastElementChild?.querySelector(".body");
    if (!running || !body) return;
    body.classList.remove("waiting");
    keepingEnd(() => drawBody(body, messages.at(-1)));
  });
}

// A reader at the end stays there; one who has scrolled up is left where they read.
function keepingEnd(change) {
  const scroll = $("scroll");
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
  change();
  if (atEnd) toEnd();
}

const toEnd = () => ($("scroll").scrollTop = $("scroll").scrollHeight);
const say = (text) => ($("status").textContent = text);

function fit(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
}

const sends = (event) => {
  const sending = event.key === "Enter" && !event.shiftKey && !event.isComposing;
  if (sending) event.preventDefault();
  return sending;
};

// ---- what a reader does

function edit(index) {
  editing = index;
  draw();
  const area = document.querySelector(".editor textarea");
  if (area) {
    fit(area);
    area.focus();
  } else {
    $("input").focus();
  }
}

async function copy(text, from) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { class: "hidden" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    from.focus();
  }
  from.textContent = "Copied";
  say("Copied");
  setTimeout(() => (from.textContent = "Copy"), 1500);
}

function regenerate() {
  messages.pop();
  reply();
}

function ask(text) {
  if (messages.at(-1)?.role === "user") messages.pop(); // it never got a reply
  messages.push({ role: "user", parts: [{ type: "text", text }] });
  reply();
}

function clear() {
  running?.abort();
  messages = [];
  editing = -1;
  draw();
  say("New chat");
  $("input").focus();
}

// ---- talking to the server

function settings() {
  const chosen = {};
  for (const name of NUMBERS) {
    const value = $(name).value.trim();
    if (value) chosen[name] = Number(value);
  }
  return chosen;
}

function conversation() {
  const system = $("system").value.trim();
  const sent = [];
  for (const { role, parts, error } of messages) {
    if (error && !parts.length) sent.pop(); // a question that never got a reply
    else sent.push({ role, content: parts.length ? parts : "" });
  }
  return system ? [{ role: "system", content: system }, ...sent] : sent;
}

function headers() {
  const key = sessionStorage.getItem("key");
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) if (block.startsWith("data: ")) yield JSON.parse(block.slice(6));
  }
}

function add(message, type, text) {
  const last = message.parts.at(-1);
  if (last?.type === type) last.text += text;
  else message.parts.push({ type, text });
}

async function errorOf(response) {
  const body = await response.json().catch(() => null);
  const wait = response.headers.get("retry-after");
  const sentence = body?.error?.message ?? `the server answered with status ${response.status}`;
  return wait ? `${sentence} (about ${wait} s)` : sentence;
}

async function reply() {
  const body = JSON.stringify({ messages: conversation(), ...settings() });
  const message = { role: "assistant", parts: [] };
  const control = (running = new AbortController());
  messages.push(message);
  draw();
  toEnd();
  if (document.activeElement === document.body) $("stop").focus(); // the button that was pressed is gone
  say("The model is writing");
  let wantsKey = false;
  try {
    const request = { method: "POST", headers: headers(), body, signal: control.signal };
    const response = await fetch("chat/completions", request);
    wantsKey = response.status === 401;
    if (!response.ok) throw new Error(await errorOf(response));
    let ended = false;
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      for (const [name, type] of [["token", "text"], ["python", "python"], ["python_output", "python_output"]]) {
        if (event[name]) add(message, type, event[name]);
      }
      if (event.done) {
        ended = true;
        if (event.finish_reason === "length") message.note = "Cut off: no more tokens were allowed.";
      }
      drawLastSoon();
    }
    if (!ended) throw new Error("the connection ended before the reply did");
  } catch (error) {
    if (control.signal.aborted) message.note = "Stopped.";
    else message.error = error instanceof TypeError ? "the server cannot be reached; is it still running?" : error.message;
  }
  if (running !== control) return; // the chat was cleared
  running = null;
  if (wantsKey) {
    messages.pop();
    draw();
    askKey();
    return;
  }
  const lost = document.activeElement === $("stop");
  draw();
  if (lost) $("input").focus();
  say(message.error ?? message.note ?? "The reply is complete");
}

function askKey() {
  const form = $("key-form");
  $("key").value = "";
  $("ask-key").showModal();
  form.onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", $("key").value.trim());
    $("ask-key").close();
    describe();
    if (messages.at(-1)?.role === "user") reply();
  };
}

async function describe() {
  const response = await fetch("v1/models", { headers: headers() }).catch(() => null);
  if (!response?.ok) return;
  const model = (await response.json()).data[0];
  $("model").textContent = model.id;
  for (const [name, value] of Object.entries(model.defaults)) $(name).placeholder = value;
}

// ---- settings

function checkSettings() {
  let wrong = "";
  for (const name of NUMBERS) {
    const { value, dataset } = $(name);
    const number = Number(value);
    const fits = number >= Number(dataset.min) && number <= Number(dataset.max);
    const right = !value.trim() || (fits && (!("whole" in dataset) || Number.isInteger(number)));
    $(name).setAttribute("aria-invalid", String(!right));
    if (!right && !wrong) wrong = `${$(name).labels[0].firstChild.textContent.trim()}: ${value} does not fit.`;
  }
  $("settings-error").textContent = wrong;
  return !wrong;
}

$("open-settings").addEventListener("click", () => $("settings").showModal());
$("settings").querySelector("form").addEventListener("submit", (event) => {
  if (!checkSettings()) event.preventDefault();
});
$("settings").addEventListener("cancel", (event) => {
  if (!checkSettings()) event.preventDefault();
});

// ---- the composer

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("input").value.trim();
  if (!text || running) return;
  $("input").value = "";
  fit($("input"));
  editing = -1;
  ask(text);
});
$("input").addEventListener("input", () => fit($("input")));
$("input").addEventListener("keydown", (event) => {
  if (sends(event)) $("composer").requestSubmit();
});
$("stop").addEventListener("click", () => {
  running?.abort();
  $("input").focus();
});
$("clear").addEventListener("click", clear);
$("no-key").addEventListener("click", () => $("ask-key").close());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) running.abort();
});

draw();
describe();
$("input").focus();
