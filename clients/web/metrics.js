"use strict";
/* The figures in /metrics (Prometheus text), and what a second's change of them means. */

/* Calls each(name, labels, value) for every sample whose name begins with "tessera:". */
function eachSample(text, each) {
    for (const line of text.split("\n")) {
        const sample = /^(tessera:\w+)(?:\{(.*)\})?\s+(\S+)/.exec(line);
        if (!sample) {
            continue;
        }
        const labels = {};
        for (const [, name, value] of (sample[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
            labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
        }
        const value = sample[3] === "+Inf" ? Infinity : Number(sample[3]);
        if (!Number.isNaN(value)) {
            each(sample[1], labels, value);
        }
    }
}

/* One scrape for one model: sums over what else the samples differ in. */
function readFigures(text, model) {
    const figures = { at: performance.now(), sums: {}, buckets: {}, nodes: {} };
    eachSample(text, (name, labels, value) => {
        if (labels.model_name !== undefined && labels.model_name !== model) {
            return;
        }
        const short = name.slice("tessera:".length);
        if (short.endsWith("_bucket")) {
            const buckets = (figures.buckets[short.slice(0, -"_bucket".length)] ??= new Map());
            const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
            buckets.set(bound, (buckets.get(bound) ?? 0) + value);
        } else {
            figures.sums[short] = (figures.sums[short] ?? 0) + value;
        }
        if (labels.node !== undefined) {
            const node = (figures.nodes[labels.node] ??= { pages: {}, misplaced: 0 });
            if (short === "memory_bytes") {
                node.pages[labels.page] = (node.pages[labels.page] ?? 0) + value;
            } else if (short === "memory_misplaced_bytes") {
                node.misplaced += value;
            }
        }
    });
    return figures;
}

/* A counter's growth a second between two scrapes; null where it is not known, or the engine began anew. */
function rate(name, older, newer) {
    const [from, to] = [older?.sums[name], newer.sums[name]];
    if (from === undefined || to === undefined || to < from || newer.at <= older.at) {
        return null;
    }
    return ((to - from) * 1000) / (newer.at - older.at);
}

/* The q-quantile of what a histogram took between two scrapes, interpolated within its bucket as PromQL's
 * histogram_quantile() does; null where it took nothing. */
function quantile(q, name, older, newer) {
    const [from, to] = [older?.buckets[name], newer.buckets[name]];
    if (!from || !to) {
        return null;
    }
    const bounds = [...to.keys()].sort((a, b) => a - b);
    const counts = bounds.map((bound) => to.get(bound) - (from.get(bound) ?? 0));
    const rank = q * counts.at(-1);
    if (!(rank > 0) || counts.some((count) => count < 0)) {
        return null;
    }
    const at = counts.findIndex((count) => count >= rank);
    const lower = at ? bounds[at - 1] : 0;
    if (bounds[at] === Infinity) {
        return lower;
    }
    const below = at ? counts[at - 1] : 0;
    return lower + ((bounds[at] - lower) * (rank - below)) / (counts[at] - below);
}
