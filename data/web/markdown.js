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

// [pattern, what it becomes]; the first that matches earliest in the text wins.
const INLINE = [
  [/(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/, (found) => element("code", [found[2].replace(/^ (.+) $/, "$1")])],
  [/\*\*(?=\S)([\s\S]*?\S)\*\*/, (found, depth) => element("strong", inline(found[1], depth))],
  [/(?<![*\w])\*(?=[^\s*])([^*]*?[^\s*])\*(?![*\w])/, (found, depth) => element("em", inline(found[1], depth))],
  [/(?<![\w_])_(?=[^\s_])([^_]*?[^\s_])_(?![\w_])/, (found, depth) => element("em", inline(found[1], depth))],
  [/~~(?=\S)([\s\S]*?\S)~~/, (found, depth) => element("del", inline(found[1], depth))],
  [/!?\[([^\]\n]*)\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)/, link],
];

function link(found, depth) {
  const href = found[0].startsWith("!") ? null : safeLink(found[2]);
  if (!href) return document.createTextNode(found[0]);
  return element("a", inline(found[1] || found[2], depth), { href, target: "_blank", rel: "noopener noreferrer" });
}

function inline(text, depth = 0) {
  const nodes = [];
  while (text) {
    let first = null;
    for (const [pattern, make] of depth < 8 ? INLINE : []) {
      const found = pattern.exec(text);
      if (found && (!first || found.index < first.found.index)) first = { found, make };
    }
    if (!first) break;
    const { found, make } = first;
    if (found.index) nodes.push(text.slice(0, found.index));
    nodes.push(make(found, depth + 1));
    text = text.slice(found.index + found[0].length);
  }
  if (text) nodes.push(text);
  return nodes;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const DASHES = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

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
      nodes.push(element(`h${Math.min(found[1].length + 1, 4)}`, inline(found[2])));
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
    } else if (line.includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") && DASHES.test(lines[at + 1])) {
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
    const inner = [found[3]];
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
  const row = (name, values) => element("tr", head.map((_, n) => element(name, inline(values[n] ?? ""))));
  const parts = [element("thead", [row("th", head)]), element("tbody", rows.map((values) => row("td", values)))];
  return element("div", [element("table", parts)], { class: "table", tabindex: "0" });
}
