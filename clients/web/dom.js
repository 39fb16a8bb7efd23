"use strict";
/* Making elements. Text becomes text nodes, never markup: what a model says is never parsed as HTML. */

const find = (selector) => document.querySelector(selector);

/* make("button", {class: "icon", "aria-label": "Copy", click: copy}, icon("copy"), "text") */
function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function") {
            element.addEventListener(name, value);
        } else {
            element.setAttribute(name, value);
        }
    }
    element.append(...children);
    return element;
}

function drawn(tag, attributes = {}, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) {
        element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
}

const icon = (name) => drawn("svg", { "aria-hidden": "true" }, drawn("use", { href: `#icon-${name}` }));

function iconButton(name, label, click) {
    return make("button", { type: "button", class: "icon", "aria-label": label, title: label, click }, icon(name));
}

/* Writes only what has changed, so that a screen reader's place and a selection stay. */
function setText(element, text) {
    if (element.textContent !== text) {
        element.textContent = text;
    }
}

/* A sentence for the person, perhaps with a way back; it stays until the next or for ten seconds. */
function notify(text, undo = null) {
    const notice = find("#notice");
    const button = notice.querySelector("button");
    clearTimeout(notify.timer);
    notice.querySelector("span").textContent = text;
    button.hidden = !undo;
    button.onclick = () => {
        notify("");
        undo();
    };
    if (text) {
        notify.timer = setTimeout(() => notify(""), 10000);
    }
}

async function copy(text) {
    try {
        await navigator.clipboard.writeText(text);
        notify("Copied.");
    } catch {
        notify("This browser does not let a page without HTTPS copy; select the text instead.");
    }
}

/* Numbers for people: three digits that count, units as they fit. */
function shortNumber(value) {
    if (value === 0 || Math.abs(value) >= 100) {
        return Math.round(value).toLocaleString("en");
    }
    return String(Number(value.toPrecision(Math.abs(value) < 10 ? 2 : 3)));
}

function duration(seconds) {
    if (seconds < 0.001) {
        return `${shortNumber(seconds * 1e6)} µs`;
    }
    return seconds < 1 ? `${shortNumber(seconds * 1e3)} ms` : `${shortNumber(seconds)} s`;
}

function byteSize(bytes) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
    return `${shortNumber(bytes / 1024 ** power)} ${units[power]}`;
}
