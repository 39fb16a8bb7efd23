"use strict";
/* A figure over the last two minutes: its name, its value now, and lines. Reading it by ear: the text alternative. */

const CHART_SECONDS = 120;
const CHART_HEIGHT = 40;

class Chart {
    /* lines: [{name, figure, kind}], the first is the one that counts. format(value) gives text. `least`: the scale's top
     * is at least this. */
    constructor(parent, { title, lines, format, least = 0 }) {
        Object.assign(this, { title, lines, format, least, points: [] });
        this.value = make("span", { class: "value" });
        this.paths = lines.map((line) => drawn("path", { class: line.kind }));
        this.area = drawn("path", { class: "area" });
        this.cursor = drawn("path", { class: "cursor" });
        this.picture = drawn(
            "svg",
            { viewBox: `0 0 ${CHART_SECONDS - 1} ${CHART_HEIGHT}`, preserveAspectRatio: "none", role: "img" },
            this.area,
            ...this.paths.toReversed(),
            this.cursor,
        );
        this.top = make("span", { class: "top", "aria-hidden": "true" });
        const heading = make("figcaption", {}, make("h3", {}, title), this.value);
        parent.append(make("figure", { class: "chart" }, heading, make("div", { class: "plot" }, this.picture, this.top)));
        this.picture.addEventListener("pointermove", (event) => this.pointAt(event));
        this.picture.addEventListener("pointerleave", () => this.pointAt(null));
        this.pointed = null;
        this.show([]);
    }

    /* points: at most CHART_SECONDS of {figure: value or null}, the latest last. */
    show(points) {
        this.points = points;
        const top = Math.max(this.least, ...points.flatMap((point) => this.lines.map((line) => point[line.figure] ?? 0)));
        const strokes = this.lines.map((line) => strokesOf(points.map((point) => point[line.figure]), top));
        this.paths.forEach((path, at) => path.setAttribute("d", strokes[at].map(({ path }) => path).join("")));
        this.area.setAttribute("d", strokes[0].map(({ path, x }) => `${path}V${CHART_HEIGHT}H${x}Z`).join(""));
        setText(this.top, top ? this.format(top) : "");
        this.showValue();
        this.picture.setAttribute("aria-label", this.sentence());
    }

    showValue() {
        const ago = this.pointed ?? 0;
        const point = this.points.at(-1 - ago);
        const parts = this.lines.map((line) =>
            make(
                "span",
                { class: line.kind },
                this.lines.length > 1 ? make("small", {}, `${line.name} `) : "",
                point?.[line.figure] == null ? "–" : this.format(point[line.figure]),
            ),
        );
        this.value.replaceChildren(...parts, ago ? make("small", {}, `${ago} s ago`) : "");
    }

    pointAt(event) {
        const box = this.picture.getBoundingClientRect();
        const share = event ? (event.clientX - box.left) / box.width : 1;
        const ago = Math.round((1 - share) * (CHART_SECONDS - 1));
        this.pointed = event && ago > 0 && ago < this.points.length ? ago : null;
        const x = CHART_SECONDS - 1 - ago;
        this.cursor.setAttribute("d", this.pointed ? `M${x} 0V${CHART_HEIGHT}` : "");
        this.showValue();
    }

    sentence() {
        const lines = this.lines.map((line) => {
            const { now, lowest, highest } = rangeOf(this.points, line.figure);
            const name = this.lines.length > 1 ? `${line.name} ` : "";
            return highest === null
                ? `${name}not known yet`
                : `${name}${now === null ? "nothing" : this.format(now)} now, ${this.format(lowest)} to ${this.format(highest)}`;
        });
        return `${this.title}, the last two minutes: ${lines.join("; ")}.`;
    }
}

function rangeOf(points, figure) {
    const values = points.map((point) => point[figure]).filter((value) => value != null);
    return {
        now: points.at(-1)?.[figure] ?? null,
        lowest: values.length ? Math.min(...values) : null,
        highest: values.length ? Math.max(...values) : null,
    };
}

/* [{path, x}]: a point a second, the latest at the right edge; a stroke, which begins at `x`, ends where nothing is known. */
function strokesOf(values, top) {
    const strokes = [];
    let open = false;
    values.forEach((value, at) => {
        if (value != null) {
            const x = CHART_SECONDS - values.length + at;
            const y = (CHART_HEIGHT - 1 - (value / (top || 1)) * (CHART_HEIGHT - 2)).toFixed(2);
            if (open) {
                strokes.at(-1).path += `L${x} ${y}`;
            } else {
                strokes.push({ path: `M${x} ${y}h.01`, x });
            }
        }
        open = value != null;
    });
    return strokes;
}
