"use strict";
/* A message as it stands on the page. */

class Turn {
    /* `again()` asks for the answer anew. */
    constructor(message, again) {
        this.message = message;
        this.body = make("div", { class: "text" });
        const name = message.role === "user" ? "You" : message.model || "Answer";
        this.element = make("article", { class: `turn ${message.role}`, "aria-label": name }, make("h2", {}, name));
        if (message.role === "user") {
            this.body.textContent = message.content;
            this.element.append(this.body);
            return;
        }
        this.markdown = new Markdown(this.body);
        this.reasoning = null;
        this.note = make("p", { class: "note" });
        this.tiles = make("div", { class: "tiles", role: "img" });
        this.words = make("span");
        this.again = iconButton("again", "Ask again", again);
        this.facts = make(
            "div",
            { class: "facts" },
            this.words,
            iconButton("copy", "Copy answer", () => copy(message.content)),
            this.again,
        );
        this.element.append(this.body, this.note, this.tiles, this.facts);
        this.show(null);
    }

    /* What the message has become; `answer` is the one under way, or null. */
    show(answer) {
        const { message } = this;
        const times = answer ? answer.clock.times() : message.times;
        if (message.reasoning) {
            this.showReasoning(answer);
        }
        this.markdown.write(message.content);
        setText(this.note, answer ? "" : (message.note ?? ""));
        this.element.classList.toggle("streaming", Boolean(answer));
        this.element.setAttribute("aria-busy", String(Boolean(answer)));
        setText(this.words, factsOf(times));
        this.showTiles(times?.tiles ?? "");
        this.facts.hidden = Boolean(answer) && !times;
    }

    /* Folded, so that it can be read and does not stand in the way. */
    showReasoning(answer) {
        if (!this.reasoning) {
            const text = make("div", { class: "text" });
            const summary = make("summary");
            const element = make("details", { class: "reasoning" }, summary, text);
            this.reasoning = { summary, markdown: new Markdown(text) };
            this.body.before(element);
        }
        setText(this.reasoning.summary, answer && !this.message.content ? "Thinking" : "Reasoning");
        this.reasoning.markdown.write(this.message.reasoning);
    }

    showTiles(tiles) {
        const kinds = ["", "late", "later", "latest"];
        for (let at = 0; at < tiles.length || at < this.tiles.children.length; at++) {
            const kind = kinds[tiles[at]];
            if (kind === undefined) {
                this.tiles.children[tiles.length].remove();
                at--;
            } else if (!this.tiles.children[at]) {
                this.tiles.append(make("i", kind ? { class: kind } : {}));
            } else if (this.tiles.children[at].className !== kind) {
                this.tiles.children[at].className = kind;
            }
        }
        const slow = [...tiles].filter((kind) => kind !== "0").length;
        const label = `One tile a step of the answer, ${tiles.length} in all; ${slow} took more than twice as long as usual.`;
        this.tiles.setAttribute("aria-label", label);
        this.tiles.title = label;
        this.tiles.hidden = tiles.length === 0;
    }
}

function factsOf(times) {
    if (!times) {
        return "";
    }
    const parts = [`${times.tokens} ${times.tokens === 1 ? "token" : "tokens"}`, `first after ${duration(times.first_seconds)}`];
    if (times.tokens_per_second) {
        parts.push(`${shortNumber(times.tokens_per_second)} tokens/s`);
    }
    return parts.join(" · ");
}

/* Reads an answer to a screen reader sentence by sentence: its place on the page changes as it is written, which would be
 * read again and again. */
class Speaker {
    constructor(region) {
        this.region = region;
        this.said = 0;
    }

    say(sentence) {
        const plain = sentence.replace(/[*_`#>|]+/g, " ").trim();
        if (plain) {
            this.region.append(make("p", {}, plain));
        }
        while (this.region.children.length > 20) {
            this.region.firstChild.remove();
        }
    }

    follow(text) {
        const ends = /[.!?:;](?=\s)|\n/g;
        ends.lastIndex = this.said;
        for (let match = ends.exec(text); match; match = ends.exec(text)) {
            this.say(text.slice(this.said, ends.lastIndex));
            this.said = ends.lastIndex;
        }
    }

    finish(text, note) {
        this.follow(text);
        this.say(text.slice(this.said));
        this.say(note || "End of the answer.");
    }
}
