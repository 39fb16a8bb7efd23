"""What can be computed of how the page looks and speaks: contrast, names, overflow."""

# Text that stands on the page: the lowest contrast of each, as WCAG 2 computes it, with what it must have.
CONTRAST = r"""
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function rgba(colour) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
}
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
function ground(element) {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
        layers.push(rgba(getComputedStyle(e).backgroundColor));
        if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
}
function luminance(colour) {
    const [r, g, b] = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(a, b) {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
}
const seen = (e) => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && e.getClientRects().length &&
    !e.closest(".unseen, .skip, :disabled, noscript");
const poor = [];
let looked = 0;
const look = (element, colour, what, wanted) => {
    const under = ground(element);
    const ratio = contrast(over(rgba(colour), under), under);
    looked++;
    if (ratio < wanted) poor.push(`${what}: ${ratio.toFixed(2)} of ${wanted}`);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !seen(element)) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    look(element, style.color, `"${text.slice(0, 30)}"`, large ? 3 : 4.5);
}
for (const field of document.querySelectorAll("input, textarea, select")) {
    if (!seen(field)) continue;
    look(field, getComputedStyle(field).color, `#${field.id} text`, 4.5);
    if (field.placeholder) look(field, getComputedStyle(field, "::placeholder").color, `#${field.id} placeholder`, 4.5);
    if (field.matches("input:not([type=radio]), textarea")) {
        look(field.parentElement, getComputedStyle(field).borderTopColor, `#${field.id} border`, 3);
    }
}
for (const drawing of document.querySelectorAll("button svg, .plot path.live, .plot path.late, .plot path.other")) {
    if (seen(drawing)) look(drawing.parentElement, getComputedStyle(drawing).stroke, `${drawing.parentElement.className} drawing`, 3);
}
return { poor, looked };
"""

# Rules of HTML and WAI-ARIA that a machine can see.
STRUCTURE = r"""
const wrong = [];
const all = (selector) => [...document.querySelectorAll(selector)];
const ids = all("[id]").map((e) => e.id);
for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push(`id ${id} twice`);
for (const name of ["for", "aria-controls", "aria-labelledby", "aria-describedby"])
    for (const e of all(`[${name}]`))
        for (const id of e.getAttribute(name).split(/\s+/)) if (!ids.includes(id)) wrong.push(`${name} names ${id}, which is not there`);
if (!document.documentElement.lang) wrong.push("the page has no language");
if (!document.title) wrong.push("the page has no title");
for (const [selector, count] of [["main", 1], ["h1", 1], ["body > header", 1], ["nav", 1], ["aside", 1]])
    if (all(selector).length !== count) wrong.push(`${all(selector).length} of ${selector}`);
for (const e of all("[tabindex]")) if (e.tabIndex > 0) wrong.push(`positive tabindex on ${e.outerHTML.slice(0, 60)}`);
for (const e of all("[style]")) if (e.id !== "prompt") wrong.push(`style attribute on ${e.outerHTML.slice(0, 60)}`);
for (const e of all("*")) for (const a of e.attributes) if (a.name.startsWith("on")) wrong.push(`${a.name} on ${e.tagName}`);
for (const e of all("ul, ol")) for (const c of e.children) if (c.tagName !== "LI") wrong.push(`${c.tagName} in a list`);
for (const e of all("[aria-hidden=true] :is(button, a, input, textarea, select, [tabindex])")) wrong.push(`hidden but focusable: ${e.outerHTML.slice(0, 60)}`);
let level = 0;
for (const e of all("h1, h2, h3, h4, h5, h6").filter((e) => e.checkVisibility() && !e.closest("dialog"))) {
    const now = Number(e.tagName[1]);
    if (now > level + 1) wrong.push(`after h${level} comes ${e.tagName} "${e.textContent.slice(0, 30)}"`);
    level = now;
}
return wrong;
"""

# Controls that a finger cannot hit (WCAG 2.2: 24 by 24), or that lie outside the window.
TARGETS = r"""
const wrong = [];
for (const e of document.querySelectorAll("button, select, input:not([type=radio]), textarea, summary")) {
    if (!e.checkVisibility({ checkVisibilityCSS: true }) || e.closest("#notice, dialog:not([open])")) continue;
    const box = e.getBoundingClientRect();
    if (box.width < 24 || box.height < 24) wrong.push(`${e.id || e.className || e.textContent} is ${box.width} by ${box.height}`);
    if (box.left < 0 || box.right > innerWidth) wrong.push(`${e.id || e.className} reaches from ${box.left} to ${box.right}`);
}
if (document.documentElement.scrollWidth > innerWidth) wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
for (const e of document.querySelectorAll("#columns > *, dialog[open]"))
    if (e.checkVisibility() && e.scrollWidth > e.clientWidth + 1) wrong.push(`${e.id} scrolls sideways: ${e.scrollWidth} in ${e.clientWidth}`);
return wrong;
"""

NEEDS_NAME = {"button", "textbox", "combobox", "spinbutton", "radio", "link", "image", "navigation", "complementary", "dialog", "region", "group"}


def unnamed(browser):
    """What the browser's accessibility tree holds that a screen reader could not call by a name."""
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    found = []
    for node in nodes:
        role = node.get("role", {}).get("value")
        if node.get("ignored") or role not in NEEDS_NAME:
            continue
        if not node.get("name", {}).get("value", "").strip():
            properties = {p["name"]: p["value"].get("value") for p in node.get("properties", [])}
            if role != "group" or properties.get("focusable"):
                found.append(f"{role} {properties}")
    return found, len(nodes)
