"use strict";
/* The live figures: /metrics once a second while the page is visible. */

const POLL_MS = 1000;
const WINDOW_MS = 15500; /* of percentiles: in one second too little happens */

const CHARTS = [
    {
        title: "Tokens a second",
        lines: [{ name: "made", figure: "generated", kind: "live" }, { name: "read", figure: "read", kind: "other" }],
        format: shortNumber,
        least: 10,
    },
    {
        title: "Time to first token",
        lines: [{ name: "p50", figure: "first50", kind: "live" }, { name: "p99", figure: "first99", kind: "late" }],
        format: duration,
    },
    {
        title: "Between tokens",
        lines: [{ name: "p50", figure: "between50", kind: "live" }, { name: "p99", figure: "between99", kind: "late" }],
        format: duration,
    },
    {
        title: "Requests",
        lines: [{ name: "running", figure: "running", kind: "live" }, { name: "waiting", figure: "waiting", kind: "other" }],
        format: shortNumber,
        least: 4,
    },
    {
        title: "KV cache in use",
        lines: [{ name: "used", figure: "kv", kind: "live" }],
        format: (share) => `${shortNumber(share * 100)} %`,
        least: 1,
    },
];

const PAGES = [
    ["1G", "1 GiB pages"],
    ["2M", "2 MiB pages"],
    ["thp", "transparent huge pages"],
    ["4K", "4 KiB pages"],
];

class Figures {
    /* `model()` is the id to look at; `onState(state)` hears "ready", "away", "key", "none" or "lost" after every scrape. */
    constructor(model, onState) {
        Object.assign(this, { model, onState, scrapes: [], points: [], timer: 0 });
        this.charts = CHARTS.map((chart) => new Chart(find("#charts"), chart));
        this.shownFor = "";
        document.addEventListener("visibilitychange", () => this.poll());
    }

    async poll() {
        clearTimeout(this.timer);
        if (document.hidden || this.asking) {
            return;
        }
        this.asking = true;
        this.onState(await this.scrape());
        this.asking = false;
        this.timer = setTimeout(() => this.poll(), POLL_MS);
    }

    async scrape() {
        try {
            const signal = AbortSignal.timeout(10 * POLL_MS);
            const response = await fetch("metrics", { headers: authorization(), cache: "no-store", signal });
            if (!response.ok) {
                setText(find("#figures-note"), await refusal(response));
                return response.status === 401 ? "key" : "none";
            }
            this.take(readFigures(await response.text(), this.model()));
            setText(find("#figures-note"), "");
            return this.scrapes.at(-1).sums.engine_up ? "ready" : "away";
        } catch {
            setText(find("#figures-note"), "The box cannot be reached; these are its last figures.");
            return "lost";
        }
    }

    take(scrape) {
        if (this.shownFor !== this.model()) {
            this.shownFor = this.model();
            this.scrapes = [];
            this.points = [];
        }
        const missed = Math.round((scrape.at - (this.scrapes.at(-1)?.at ?? scrape.at)) / POLL_MS) - 1;
        this.scrapes = [...this.scrapes.filter(({ at }) => at >= scrape.at - WINDOW_MS), scrape];
        const gap = Array(Math.min(Math.max(missed, 0), CHART_SECONDS)).fill({});
        this.points = [...this.points, ...gap, this.pointNow()].slice(-CHART_SECONDS);
        for (const chart of this.charts) {
            chart.show(this.points);
        }
        this.showTable();
        this.showMemory(scrape);
    }

    pointNow() {
        const [oldest, before, now] = [this.scrapes[0], this.scrapes.at(-2), this.scrapes.at(-1)];
        const percentile = (q, name) => quantile(q, name, oldest, now);
        return {
            generated: rate("generation_tokens_total", before, now),
            read: rate("prompt_tokens_total", before, now),
            first50: percentile(0.5, "time_to_first_token_seconds"),
            first99: percentile(0.99, "time_to_first_token_seconds"),
            between50: percentile(0.5, "inter_token_latency_seconds"),
            between99: percentile(0.99, "inter_token_latency_seconds"),
            running: now.sums.num_requests_running ?? null,
            waiting: sumOf(now.sums.num_requests_waiting, now.sums.num_requests_parked),
            kv: now.sums.kv_cache_usage_perc ?? null,
        };
    }

    showTable() {
        if (!find("#figures-table").open) {
            return;
        }
        const rows = CHARTS.flatMap((chart) =>
            chart.lines.map((line) => {
                const range = rangeOf(this.points, line.figure);
                const cell = (value) => make("td", {}, value === null ? "–" : chart.format(value));
                const name = chart.lines.length > 1 ? `${chart.title}, ${line.name}` : chart.title;
                return make("tr", {}, make("th", { scope: "row" }, name), cell(range.now), cell(range.lowest), cell(range.highest));
            }),
        );
        find("#figures-table tbody").replaceChildren(...rows);
    }

    showMemory(scrape) {
        const nodes = Object.entries(scrape.nodes);
        const text = JSON.stringify(nodes);
        if (text !== this.memoryShown) {
            this.memoryShown = text;
            const most = Math.max(...nodes.map(([, node]) => total(node)), 1);
            find("#memory").replaceChildren(...nodes.map(([name, node]) => memoryOf(name, node, most)));
        }
    }
}

const sumOf = (a, b) => (a === undefined && b === undefined ? null : (a ?? 0) + (b ?? 0));
const total = (node) => Object.values(node.pages).reduce((sum, bytes) => sum + bytes, 0);

/* A bar for a node: one part a kind of page; what lies on the wrong node is said in words. */
function memoryOf(name, node, most) {
    const used = PAGES.filter(([page]) => node.pages[page]);
    let x = 0;
    const parts = used.map(([page, label]) => {
        const width = (100 * node.pages[page]) / most;
        const part = drawn("rect", { class: `page-${page}`, x, y: 0, width, height: 6 });
        part.append(drawn("title", {}, `${byteSize(node.pages[page])} in ${label}`));
        x += width;
        return part;
    });
    const words = used.map(([page, label]) => `${byteSize(node.pages[page])} in ${label}`).join(", ");
    const bar = drawn("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" }, ...parts);
    const wrong = node.misplaced ? make("p", { class: "bad" }, `${byteSize(node.misplaced)} lie on another node`) : "";
    return make(
        "div",
        { class: "node" },
        make("p", {}, make("span", {}, `Node ${name}`), make("span", { class: "value" }, byteSize(total(node)))),
        bar,
        make("p", { class: "help" }, words),
        wrong,
    );
}

/* The model's card. `meta` is Tessera's; another server's model has only a name. */
function showCard(model) {
    const meta = model?.meta ?? {};
    const tokens = (count) => (count ? `${count.toLocaleString("en")} tokens` : "");
    const rows = [
        ["Name", model?.id],
        ["Architecture", meta.architecture],
        ["Parameters", meta.parameters && parameterCount(meta.parameters)],
        ["Weights", [meta.weights, meta.weights_bytes && byteSize(meta.weights_bytes)].filter(Boolean).join(", ")],
        ["Context", tokens(meta.context_tokens ?? model?.max_model_len)],
        ["Vocabulary", tokens(meta.vocabulary)],
        ["Can do", abilitiesOf(meta).join(", ")],
        ["Kernels", meta.kernels],
        ["Engine", meta.engine],
    ];
    const shown = rows.filter(([, value]) => typeof value === "string" && value);
    find("#card").replaceChildren(...shown.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

function abilitiesOf(meta) {
    const { width, pooling } = meta.embedding ?? {};
    return [
        meta.chat && "chat",
        meta.tools && meta.tools !== "none" && `tools (${meta.tools})`,
        meta.reasoning && "reasoning",
        pooling && pooling !== "none" && `embeddings (${width} wide, ${pooling})`,
    ].filter(Boolean);
}

function parameterCount(count) {
    const [divisor, unit] = count >= 1e9 ? [1e9, "billion"] : [1e6, "million"];
    return `${shortNumber(count / divisor)} ${unit}`;
}
