// The page of the chat server. The conversation lives here; the server gets all of it with every request.
import { markdown } from "./markdown.js";

const $ = (id) => document.getElementById(id);
const NUMBERS = ["temperature", "top_k", "top_p", "max_tokens", "seed"];
const KINDS = { content: "text", python: "python", python_output: "python_output" }; // a delta's fields -> a part's type

let messages = []; // {role, parts: [{type, text}], model?, speed?, note?, error?}
let asked = null; // the last request: {address, body}
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
  for (const [at, { type, text }] of message.parts.entries()) {
    if (type === "text") nodes.push(...markdown(text));
    else if (type === "python") nodes.push(toolCall(text, message.parts[at + 1], isWriting(message)));
    else if (message.parts[at - 1]?.type !== "python") nodes.push(make("div", { class: "tool" }, make("code", {}, `= ${text}`)));
  }
  body.replaceChildren(...nodes);
}

// A call and what came of it; while it is being written, with what there is so far.
function toolCall(call, next, writing) {
  const node = make("div", { class: "tool" }, make("span", { class: "what" }, "calculator"), make("code", {}, call));
  if (next?.type === "python_output") node.append(make("code", {}, `= ${next.text}`));
  else if (writing && !next) node.classList.add("open");
  else node.append(make("span", { class: "what" }, "no result"));
  return node;
}

function drawMessage(message, index) {
  const mine = message.role === "user";
  const who = mine ? "You" : message.model ?? "Model";
  const node = make("article", { class: `message ${message.role}`, "aria-label": who });
  node.append(make("p", { class: "who", "aria-hidden": "true" }, who));
  if (index === editing) {
    node.append(editor(message, index));
    return node;
  }
  const body = make("div", { class: isWriting(message) && !message.parts.length ? "body waiting" : "body" });
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
  if (!mine && index === messages.length - 1) {
    row.append(button("Regenerate", regenerate));
    if (asked) row.append(button("Copy as curl", (event) => copy(curl(asked), event.currentTarget)));
  }
  if (message.speed) row.append(make("span", { class: "speed" }, message.speed));
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

const isWriting = (message) => Boolean(running) && message === messages.at(-1);
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
  from.dataset.label ??= from.textContent;
  from.textContent = "Copied";
  say("Copied");
  setTimeout(() => (from.textContent = from.dataset.label), 1500);
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
  asked = null;
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
    for (const block of blocks) {
      if (block === "data: [DONE]") return;
      if (block.startsWith("data: ")) yield JSON.parse(block.slice(6));
    }
  }
}

function add(message, type, text) {
  const last = message.parts.at(-1);
  if (last?.type === type) last.text += text;
  else message.parts.push({ type, text });
}

// The last request as a command. The key stays out of it: whoever runs it has it in COURSE_API_KEY.
function curl({ address, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const key = sessionStorage.getItem("key") ? ['-H "authorization: Bearer $COURSE_API_KEY"'] : [];
  const words = [`curl -N ${quoted(address)}`, "-H 'content-type: application/json'", ...key, `--data-raw ${quoted(body)}`];
  return words.join(" \\\n  ");
}

async function errorOf(response) {
  const body = await response.json().catch(() => null);
  if (body?.error?.code === "model_not_found") describe(); // the server has others now
  const wait = response.headers.get("retry-after");
  const sentence = body?.error?.message ?? `the server answered with status ${response.status}`;
  return wait ? `${sentence} (about ${wait} s)` : sentence;
}

async function reply() {
  const model = $("models").hidden ? {} : { model: $("models").value };
  const stream = { stream: true, stream_options: { include_usage: true } };
  const body = JSON.stringify({ ...model, messages: conversation(), ...settings(), ...stream });
  const message = { role: "assistant", parts: [], ...model };
  asked = { address: new URL("v1/chat/completions", location.href).href, body };
  const control = (running = new AbortController());
  messages.push(message);
  draw();
  toEnd();
  if (document.activeElement === document.body) $("stop").focus(); // the button that was pressed is gone
  say("The model is writing");
  let wantsKey = false;
  const sent = performance.now();
  try {
    const request = { method: "POST", headers: headers(), body, signal: control.signal };
    const response = await fetch(asked.address, request);
    wantsKey = response.status === 401;
    if (!response.ok) throw new Error(await errorOf(response));
    let ended = false;
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const [choice] = event.choices;
      for (const [field, type] of Object.entries(KINDS)) {
        if (choice?.delta[field]) add(message, type, choice.delta[field]);
      }
      if (choice?.finish_reason) {
        ended = true;
        if (choice.finish_reason === "length") message.note = "Cut off: no more tokens were allowed.";
      }
      if (event.usage) message.speed = speedOf(event.usage.completion_tokens, (performance.now() - sent) / 1000);
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

// From the request to the end of the reply: reading the prompt and waiting for a place are in it.
function speedOf(tokens, seconds) {
  const rate = tokens / seconds;
  const words = tokens === 1 ? "1 token" : `${tokens} tokens`;
  return `${words} in ${seconds.toFixed(seconds < 1 ? 2 : 1)} s, ${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`;
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
  const { data } = await response.json();
  const picker = $("models");
  const picked = picker.value;
  $("model").textContent = data[0].id;
  picker.replaceChildren(...data.map(({ id }) => make("option", { value: id }, id)));
  if (data.some(({ id }) => id === picked)) picker.value = picked;
  picker.hidden = data.length < 2;
  $("model").hidden = !picker.hidden;
  for (const [name, value] of Object.entries(data[0].defaults)) $(name).placeholder = value;
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
