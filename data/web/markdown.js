// Markdown to DOM nodes. What a model writes is never read as HTML: text becomes text nodes and nothing else,
// elements are the few that are made here, and a link leads to http, https or mailto or is no link.

const element = (name, children = [], attributes = {}) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};

export function safeLink(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// One pass over the text, in linear time whatever it is: OPENERS find what may begin something; where that ends is
// looked for from where the last search for such an end has stopped.
const OPENERS = /`+|\*\*(?=\S)|~~(?=\S)|(?<![*\w])\*(?=[^\s*])|(?<!\w)_(?=[^\s_])|!?\[/g;
const CLOSERS = { "**": /(?<=\S)\*\*/g, "~~": /(?<=\S)~~/g, "*": /\*/g, _: /_/g, "[": /[\]\n]/g };
const NAMES = { "**": "strong", "~~": "del", "*": "em", _: "em" };
const TARGET = /\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)/y;

function inline(text, depth = 0) {
  const nodes = [];
  const found = new Map(); // kind -> where its next end is
  const openers = new RegExp(OPENERS);
  const runs = new Map(); // how many backticks -> where they stand
  const targets = new Map(); // where a label ends -> what stands behind it
  let done = 0;

  function closer(kind, from) {
    if (!(found.get(kind) >= from)) {
      CLOSERS[kind].lastIndex = from;
      found.set(kind, CLOSERS[kind].exec(text)?.index ?? Infinity);
    }
    return found.get(kind);
  }

  // Code ends with as many backticks as it begins with.
  function closingRun(length, from) {
    if (!runs.size) {
      for (const { 0: ticks, index } of text.matchAll(/`+/g)) {
        if (!runs.has(ticks.length)) runs.set(ticks.length, { next: 0, places: [] });
        runs.get(ticks.length).places.push(index);
      }
    }
    const run = runs.get(length);
    while (run.places[run.next] < from) run.next += 1;
    return run.places[run.next] ?? Infinity;
  }

  function target(at) {
    if (!targets.has(at)) {
      TARGET.lastIndex = at;
      targets.set(at, text[at] === "(" ? TARGET.exec(text) : null);
    }
    return targets.get(at);
  }

  // [node, where it ends], or nothing
  function made(mark, start, inside) {
    const kind = mark.replace("!", "");
    const code = kind[0] === "`";
    const end = code ? closingRun(kind.length, inside) : closer(kind, inside + (kind === "**" || kind === "~~"));
    if (end === Infinity) return null;
    const content = () => inline(text.slice(inside, end), depth + 1);
    if (code) return [element("code", [text.slice(inside, end).replace(/^ (.+) $/, "$1")]), end + kind.length];
    if (kind === "[") {
      const behind = text[end] === "]" && target(end + 1);
      if (!behind) return null;
      const after = end + 1 + behind[0].length;
      const href = mark === "[" ? safeLink(behind[1]) : null;
      if (!href) return [document.createTextNode(text.slice(start, after)), after];
      const label = end > inside ? content() : inline(behind[1], depth + 1);
      return [element("a", label, { href, target: "_blank", rel: "noopener noreferrer" }), after];
    }
    const within = /\s/.test(text[end - 1]) || /\w/.test(text[end + 1] ?? "") || text[end + 1] === kind;
    if (kind.length === 1 && within) return null;
    return [element(NAMES[kind], content()), end + kind.length];
  }

  for (let opener; depth < 8 && (opener = openers.exec(text)); ) {
    const result = made(opener[0], opener.index, openers.lastIndex);
    if (!result) continue;
    if (opener.index > done) nodes.push(text.slice(done, opener.index));
    nodes.push(result[0]);
    done = openers.lastIndex = result[1];
  }
  if (done < text.length) nodes.push(text.slice(done));
  return nodes;
}

// In none of these may two neighbours match the same characters: a long line that fits almost would take for ever.
const FENCE = /^ {0,3}(`{3,}(?!`)|~{3,}(?!~))[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(\S[^]*)?$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(\S[^]*)?$/;
const DASHES = /^:?-+:?$/; // a cell

const isBlock = (line) => [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));

export function markdown(text, depth = 0) {
  const lines = text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    let found;
    if (!line.trim()) {
      at += 1;
    } else if ((found = FENCE.exec(line))) {
      const code = [];
      for (at += 1; at < lines.length && !lines[at].trim().startsWith(found[1]); at += 1) code.push(lines[at]);
      at += 1;
      nodes.push(element("pre", [element("code", [code.join("\n")])], { tabindex: "0" }));
    } else if ((found = HEADING.exec(line))) {
      nodes.push(element(`h${Math.min(found[1].length + 1, 4)}`, inline((found[2] ?? "").trimEnd().replace(/(?<!\S)#+$/, "").trimEnd())));
      at += 1;
    } else if (RULE.test(line)) {
      nodes.push(element("hr"));
      at += 1;
    } else if (QUOTE.test(line) && depth < 8) {
      const inner = [];
      for (; at < lines.length && QUOTE.test(lines[at]); at += 1) inner.push(lines[at].replace(QUOTE, ""));
      nodes.push(element("blockquote", markdown(inner.join("\n"), depth + 1)));
    } else if (ITEM.test(line) && depth < 8) {
      const [list, after] = listFrom(lines, at, depth);
      nodes.push(list);
      at = after;
    } else if (line.includes("|") && at + 1 < lines.length && cells(lines[at + 1]).every((cell) => DASHES.test(cell))) {
      const rows = [];
      for (; at < lines.length && lines[at].includes("|"); at += 1) rows.push(cells(lines[at]));
      nodes.push(table(rows));
    } else {
      const words = [line];
      for (at += 1; at < lines.length && lines[at].trim() && !isBlock(lines[at]); at += 1) words.push(lines[at]);
      nodes.push(element("p", lineBreaks(words)));
    }
  }
  return nodes;
}

// A chat keeps its line ends.
function lineBreaks(lines) {
  return inline(lines.map((line) => line.trim()).join("\n")).flatMap((node) =>
    typeof node !== "string" ? [node] : node.split("\n").flatMap((part, n) => (n ? [element("br"), part] : [part])));
}

function listFrom(lines, at, depth) {
  const [, spaces, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const items = [];
  while (at < lines.length) {
    const found = ITEM.exec(lines[at]);
    if (!found || found[1].length > spaces.length + 1 || /\d/.test(found[2]) !== ordered) break;
    if (found[1].length < spaces.length) break;
    const inner = [found[3] ?? ""];
    const indent = found[1].length + 2;
    for (at += 1; at < lines.length; at += 1) {
      const line = lines[at];
      const deeper = line.search(/\S/) >= indent;
      const blankInside = !line.trim() && at + 1 < lines.length && lines[at + 1].search(/\S/) >= indent;
      const goesOn = line.trim() && !deeper && !isBlock(line) && lines[at - 1].trim();
      if (!deeper && !blankInside && !goesOn) break;
      inner.push(deeper ? line.slice(Math.min(line.search(/\S/), indent + (ordered ? 1 : 0))) : line.trim());
    }
    while (at < lines.length && !lines[at].trim() && at + 1 < lines.length && ITEM.test(lines[at + 1])) at += 1;
    items.push(element("li", unwrapped(markdown(inner.join("\n"), depth + 1))));
  }
  const start = ordered && parseInt(mark, 10) !== 1 ? { start: String(parseInt(mark, 10)) } : {};
  return [element(ordered ? "ol" : "ul", items, start), at];
}

// The words of an item stand in it without a paragraph of their own.
function unwrapped(nodes) {
  const [first, ...others] = nodes;
  return first?.localName === "p" ? [...first.childNodes, ...others] : nodes;
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table([head, , ...rows]) {
  const row = (name, values) => element("tr", values.slice(0, head.length).map((value) => element(name, inline(value))));
  const parts = [element("thead", [row("th", head)]), element("tbody", rows.map((values) => row("td", values)))];
  return element("div", [element("table", parts)], { class: "table", tabindex: "0" });
}
