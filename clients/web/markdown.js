"use strict";
/* Markdown that is still being written, as elements. A block that can no longer change is built once; only what
 * stands last is built again as text comes, so a long answer costs no more by the token than a short one, and a selection stays.
 * Less than CommonMark: headings, paragraphs, lists, quotes, rules, tables, fenced code; emphasis, code, links.
 * Images are never loaded, and only http, https and mailto become links.
 * Every step is linear in the text that it sees: a hostile one costs no more than a long one. */

const MARKDOWN_DEPTH_MAX = 12;
const INLINE_CHARACTERS_MAX = 50000; /* a longer paragraph is shown as plain text */

class Markdown {
    constructor(parent) {
        this.parent = parent;
        this.done = 0; /* characters of the text that stand in finished blocks */
        this.open = []; /* the blocks after them: the last lines, which may still come to mean something else */
    }

    /* `text` is what was written before with more at its end. */
    write(text) {
        const complete = text.lastIndexOf("\n") + 1;
        const blocks = [];
        for (let at = this.done; at < text.length; at = blocks.at(-1).end) {
            blocks.push(blockAt(text, at, 0));
        }
        const shown = blocks.filter((block) => block.element);
        shown.forEach((block, at) => this.show(block, this.open[at]));
        this.open.slice(shown.length).forEach((block) => block.element.remove());
        this.open = shown.filter((block) => block.end >= complete);
        this.done = blocks.findLast((block) => block.end < complete)?.end ?? this.done;
    }

    show(block, old) {
        if (!old) {
            this.parent.append(block.element);
        } else if (block.kind && old.kind === block.kind) {
            growCode(old.element, block.element);
            block.element = old.element;
        } else {
            old.element.replaceWith(block.element);
        }
    }
}

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)(.*)$/;

function lineAt(text, at) {
    const end = text.indexOf("\n", at);
    return end < 0
        ? { line: text.slice(at), next: text.length }
        : { line: text.slice(at, end).replace(/\r$/, ""), next: end + 1 };
}

/* The block that begins at the line `at`: {element, end}; `end` is where the next one begins. Blank lines: no element. */
function blockAt(text, at, depth) {
    const { line, next } = lineAt(text, at);
    const block =
        (/^\s*$/.test(line) && { end: next }) ||
        codeBlock(text, line, next) ||
        headingBlock(line, next) ||
        (RULE.test(line) && { element: make("hr"), end: next }) ||
        (depth < MARKDOWN_DEPTH_MAX && (quoteBlock(text, at, depth) || listBlock(text, at, depth))) ||
        tableBlock(text, line, next) ||
        paragraphBlock(text, at);
    return skipBlank(text, block);
}

function skipBlank(text, block) {
    for (;;) {
        const { line, next } = lineAt(text, block.end);
        if (block.end === text.length || !/^\s*$/.test(line)) {
            return block;
        }
        block.end = next;
    }
}

const startsBlock = (line) =>
    FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || /^ {0,3}(?:[-*+]|1[.)]) /.test(line);

function renderAll(parent, text, depth) {
    for (let at = 0; at < text.length; ) {
        const block = blockAt(text, at, depth);
        if (block.element) {
            parent.append(block.element);
        }
        at = block.end;
    }
    return parent;
}

function codeBlock(text, line, next) {
    const fence = FENCE.exec(line);
    if (!fence) {
        return null;
    }
    const closing = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}\\s*$`);
    const name = fence[2].trim().split(/\s/)[0] || "text";
    const block = (until, end) => ({ kind: `code ${name}`, element: codeElement(name, text.slice(next, until)), end });
    for (let at = next; at < text.length; ) {
        const inner = lineAt(text, at);
        if (closing.test(inner.line)) {
            return block(at, inner.next);
        }
        at = inner.next;
    }
    return block(text.length, text.length);
}

function codeElement(name, source) {
    const code = make("code", {}, source.replace(/\n$/, ""));
    return make(
        "figure",
        { class: "code", "aria-label": `Code, ${name}` },
        make("figcaption", {}, make("span", {}, name), iconButton("copy", "Copy code", () => copy(code.textContent))),
        make("pre", { tabindex: "0" }, code),
    );
}

function growCode(shown, longer) {
    const [code, next] = [shown, longer].map((element) => element.querySelector("code"));
    const have = code.textContent;
    if (code.firstChild && next.textContent.startsWith(have)) {
        code.firstChild.appendData(next.textContent.slice(have.length));
    } else {
        code.textContent = next.textContent;
    }
}

function headingBlock(line, next) {
    const heading = HEADING.exec(line);
    if (!heading) {
        return null;
    }
    /* h1 is the page's, h2 a message's */
    const element = make(`h${Math.min(6, heading[1].length + 2)}`);
    renderInline(element, heading[2].trimEnd().replace(/(?:^|\s)#+$/, ""), 0);
    return { element, end: next };
}

function quoteBlock(text, at, depth) {
    const inner = [];
    let end = at;
    while (end < text.length) {
        const { line, next } = lineAt(text, end);
        if (!QUOTE.test(line)) {
            break;
        }
        inner.push(line.replace(QUOTE, ""));
        end = next;
    }
    return inner.length ? { element: renderAll(make("blockquote"), inner.join("\n"), depth + 1), end } : null;
}

/* A list goes on while a line is an item, or is indented to an item's text; or follows one without a blank line. */
function listBlock(text, at, depth) {
    const first = ITEM.exec(lineAt(text, at).line);
    if (!first || first[1].length > 3) {
        return null;
    }
    const ordered = /\d/.test(first[2]);
    const items = [];
    let end = at;
    let blank = false;
    let indent = 0;
    while (end < text.length) {
        const { line, next } = lineAt(text, end);
        const item = ITEM.exec(line);
        const inside = items.length && line.search(/\S/) >= indent;
        if (/^\s*$/.test(line)) {
            blank = true;
            items.at(-1).push("");
            end = next;
            continue;
        }
        if (item && !inside && item[1].length <= 3 && /\d/.test(item[2]) === ordered && !RULE.test(line)) {
            indent = item[1].length + item[2].length + Math.min(item[3].length || 1, 4);
            items.push([item[4]]);
        } else if (inside) {
            items.at(-1).push(line.slice(indent));
        } else if (!blank && !startsBlock(line)) {
            items.at(-1).push(line.trimStart());
        } else {
            break;
        }
        blank = false;
        end = next;
    }
    const list = make(ordered ? "ol" : "ul", ordered ? { start: parseInt(first[2], 10) } : {});
    const loose = items.some((lines) => /\n\s*\n\s*\S/.test(lines.join("\n")));
    for (const lines of items) {
        const element = renderAll(make("li"), lines.join("\n"), depth + 1);
        if (!loose && element.firstChild?.tagName === "P") {
            element.firstChild.replaceWith(...element.firstChild.childNodes);
        }
        list.append(element);
    }
    return { element: list, end };
}

const cells = (line) =>
    line
        .trim()
        .replace(/^\||\|$/g, "")
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim().replaceAll("\\|", "|"));

function tableBlock(text, line, next) {
    const delimiters = lineAt(text, next);
    const rules = line.includes("|") ? cells(delimiters.line) : [""];
    if (!rules.every((rule) => /^:?-+:?$/.test(rule)) || cells(line).length !== rules.length) {
        return null;
    }
    const sides = rules.map((cell) => (!cell.endsWith(":") ? "left" : cell[0] === ":" ? "center" : "right"));
    const row = (of, tag) =>
        make("tr", {}, ...cells(of).slice(0, sides.length).map((cell, at) => renderInline(make(tag, { class: sides[at] }), cell, 0)));
    const body = make("tbody");
    let end = delimiters.next;
    while (end < text.length) {
        const at = lineAt(text, end);
        if (!at.line.includes("|")) {
            break;
        }
        body.append(row(at.line, "td"));
        end = at.next;
    }
    const table = make("table", {}, make("thead", {}, row(line, "th")), body);
    return { element: make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Table" }, table), end };
}

function paragraphBlock(text, at) {
    const lines = [];
    let end = at;
    while (end < text.length) {
        const { line, next } = lineAt(text, end);
        if (/^\s*$/.test(line) || (lines.length && startsBlock(line))) {
            break;
        }
        lines.push(line.replace(/^ +/, ""));
        end = next;
    }
    return { element: renderInline(make("p"), lines.join("\n"), 0), end };
}

const INLINE = new RegExp(
    [
        /\\([!-/:-@[-`{-~])/, // 1: escaped
        /(`+)/, // 2: code
        /!?\[([^[\]]*)\]\(\s{0,9}<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)?)>?(?:\s+"[^"]*")?\s*\)/, // 3, 4: link
        /<?(https?:\/\/[^\s<>"`]*[^\s<>"`.,:;!?)'*_])>?/, // 5: bare link
        /(\*\*|__|~~|\*|_)(?=\S)/, // 6: emphasis
        /((?<! ) {2,}|\\)\n/, // 7: line break
    ]
        .map((part) => part.source)
        .join("|"),
    "g",
);
const EMPHASIS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "s" };

function renderInline(parent, text, depth) {
    if (depth > MARKDOWN_DEPTH_MAX || text.length > INLINE_CHARACTERS_MAX) {
        parent.append(text);
        return parent;
    }
    let plain = 0; /* what stands before it is in `parent` */
    const unclosed = new Set(); /* marks that nothing ends any more */
    const put = (from, to, node) => {
        parent.append(text.slice(plain, from), node);
        plain = to;
    };
    for (let at = 0; ; ) {
        INLINE.lastIndex = at;
        const match = INLINE.exec(text);
        if (!match) {
            break;
        }
        const from = match.index;
        at = from + match[0].length;
        if (match[1]) {
            put(from, at, match[1]);
        } else if (match[2]) {
            const close = unclosed.has(match[2]) ? -1 : codeEnd(text, at, match[2].length);
            if (close < 0) {
                unclosed.add(match[2]);
            } else {
                const code = text.slice(at, close).replaceAll("\n", " ");
                at = close + match[2].length;
                put(from, at, make("code", {}, /^ .*\S.* $/.test(code) ? code.slice(1, -1) : code));
            }
        } else if (match[4] !== undefined) {
            put(from, at, link(match[4], renderInline(make("a"), match[3], depth + 1)));
        } else if (match[5]) {
            put(from, at, link(match[5], make("a", {}, match[5])));
        } else if (match[6]) {
            if (unclosed.has(match[6]) || (match[6][0] === "_" && isWord(text[from - 1]))) {
                continue;
            }
            const close = emphasisEnd(text, from, match[6]);
            if (close < 0) {
                unclosed.add(match[6]);
            } else {
                put(from, close + match[6].length, renderInline(make(EMPHASIS[match[6]]), text.slice(at, close), depth + 1));
                at = plain;
            }
        } else {
            put(from, at, make("br"));
        }
    }
    parent.append(text.slice(plain));
    return parent;
}

/* Where the run of exactly `count` backticks begins that closes a code span; -1: nowhere. */
function codeEnd(text, at, count) {
    const ticks = "`".repeat(count);
    for (let close = text.indexOf(ticks, at); close >= 0; ) {
        let after = close;
        while (text[after] === "`") {
            after++;
        }
        if (after - close === count) {
            return close;
        }
        close = text.indexOf(ticks, after);
    }
    return -1;
}

const isWord = (character) => character !== undefined && /[\p{L}\p{N}]/u.test(character);

function emphasisEnd(text, from, mark) {
    const start = from + mark.length;
    for (let close = text.indexOf(mark, start + 1); close >= 0; close = text.indexOf(mark, close + mark.length)) {
        const after = text[close + mark.length];
        if (/\s|\\/.test(text[close - 1]) || (mark[0] === "_" && isWord(after))) {
            continue;
        }
        if (mark.length === 1 && (after === mark || text[close - 1] === mark)) {
            continue; /* the double mark's */
        }
        return mark.length === 2 && after === mark[0] && text[close + 3] !== mark[0] ? close + 1 : close;
    }
    return -1;
}

function link(address, element) {
    if (!/^(?:https?:\/\/|mailto:)/i.test(address)) {
        return make("span", {}, ...element.childNodes, address ? ` (${address})` : "");
    }
    element.setAttribute("href", address);
    element.setAttribute("target", "_blank");
    element.setAttribute("rel", "noopener noreferrer");
    return element;
}
