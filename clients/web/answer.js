"use strict";
/* One answer, from the request to its last event. */

const EVENT_CHARACTERS_MAX = 1 << 24;

const authorization = () => (store.apiKey() ? { Authorization: `Bearer ${store.apiKey()}` } : {});

/* The data of server-sent events, as they come. */
async function* serverEvents(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let data = "";
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done) {
                return;
            }
            rest += value;
            const lines = rest.split(/\r\n|\n|\r(?!$)/);
            rest = lines.pop();
            for (const line of lines) {
                if (line.startsWith("data:")) {
                    data += (data && "\n") + line.slice(5).replace(/^ /, "");
                } else if (line === "" && data) {
                    yield data;
                    data = "";
                }
            }
            if (rest.length + data.length > EVENT_CHARACTERS_MAX) {
                throw new Error("The box sent an event without an end.");
            }
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

/* The sentence in an answer that is not 200. */
async function refusal(response) {
    let sentence = "";
    try {
        sentence = (await response.json()).error.message;
    } catch {
        /* not in the API's shape: a proxy's, say */
    }
    if (typeof sentence !== "string" || !sentence) {
        sentence = `The box answered ${response.status} ${response.statusText}.`;
    }
    if (response.status === 401) {
        sentence += " The API key is given in the settings.";
    }
    const after = response.headers.get("retry-after");
    return after ? `${sentence} Try again in ${after} s.` : sentence;
}

function requestOf(conversation, model, settings) {
    const messages = conversation.messages
        .filter((message) => message.content)
        .map(({ role, content }) => ({ role, content }));
    if (conversation.system.trim()) {
        messages.unshift({ role: "system", content: conversation.system });
    }
    const request = { model, messages, stream: true, stream_options: { include_usage: true } };
    for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
        if (typeof settings[name] === "number") {
            request[name] = settings[name];
        }
    }
    if (settings.stop_at?.length) {
        request.stop = settings.stop_at;
    }
    return request;
}

/* An answer on its way into `message`: content, reasoning, and a note that says why it is not whole. */
class Answer {
    constructor(message) {
        this.message = message;
        this.clock = new TokenClock();
        this.controller = new AbortController();
        this.reached = false;
    }

    stop() {
        this.controller.abort();
    }

    /* Calls changed() after each event; returns when the answer is over, in whatever way. */
    async run(request, changed) {
        try {
            this.message.note = await this.read(request, changed);
        } catch (error) {
            this.message.note = this.controller.signal.aborted ? "Stopped." : this.failure(error);
        }
        this.message.times = this.clock.times();
    }

    async read(request, changed) {
        const response = await fetch("v1/chat/completions", {
            method: "POST",
            headers: { "Content-Type": "application/json", ...authorization() },
            body: JSON.stringify(request),
            signal: this.controller.signal,
        });
        this.reached = true;
        if (!response.ok) {
            return refusal(response);
        }
        let finish = null;
        for await (const data of serverEvents(response.body)) {
            if (data === "[DONE]") {
                break;
            }
            const event = JSON.parse(data);
            if (event.error) {
                return event.error.message || "The box ended the answer with an error.";
            }
            const choice = event.choices?.[0];
            if (takeDelta(this.message, choice?.delta)) {
                this.clock.token();
            }
            finish = choice?.finish_reason ?? finish;
            this.clock.usage = event.usage ?? this.clock.usage;
            changed();
        }
        if (finish === "length") {
            return "Cut at max tokens, or where the context is full.";
        }
        return finish ? "" : "The connection ended before the answer did.";
    }

    failure(error) {
        if (error instanceof SyntaxError) {
            return "The box sent an event that is not JSON.";
        }
        return this.reached ? "The connection broke before the answer ended." : "The box cannot be reached.";
    }
}

function takeDelta(message, delta) {
    const content = typeof delta?.content === "string" ? delta.content : "";
    const reasoning = typeof delta?.reasoning_content === "string" ? delta.reasoning_content : "";
    message.content += content;
    if (reasoning) {
        message.reasoning = (message.reasoning ?? "") + reasoning;
    }
    return content !== "" || reasoning !== "";
}

/* When tokens came, as seen from here. */
class TokenClock {
    constructor() {
        this.began = performance.now();
        this.first = null;
        this.last = null;
        this.gaps = [];
        this.usage = null;
    }

    token() {
        const now = performance.now();
        if (this.first === null) {
            this.first = now;
        } else {
            this.gaps.push(now - this.last);
        }
        this.last = now;
    }

    times() {
        if (this.first === null) {
            return null;
        }
        const tokens = this.usage?.completion_tokens ?? this.gaps.length + 1;
        const seconds = (this.last - this.first) / 1000;
        return {
            tokens,
            first_seconds: (this.first - this.began) / 1000,
            tokens_per_second: seconds > 0 && tokens > 1 ? (tokens - 1) / seconds : null,
            tiles: tilesOf(this.gaps),
        };
    }
}

const TILES_MAX = 240;

const FRAME_MS = 16; /* what is quicker than a screen's frame is not slow, however quick the rest is */

/* One digit a tile: a token, or where there are many the slowest of several in a row. 0 is up to twice the median,
 * 1 up to four times, 2 up to eight times, 3 more. */
function tilesOf(gaps) {
    const sorted = [...gaps].sort((a, b) => a - b);
    const usual = Math.max(sorted[sorted.length >> 1] ?? 0, FRAME_MS / 2);
    const each = Math.ceil(gaps.length / TILES_MAX) || 1;
    let tiles = "";
    for (let at = 0; at < gaps.length; at += each) {
        const slowest = Math.max(...gaps.slice(at, at + each));
        tiles += Math.min(3, Math.max(0, Math.ceil(Math.log2(slowest / usual)) - 1));
    }
    return tiles;
}
