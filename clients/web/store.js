"use strict";
/* What the browser keeps. Conversations and settings: localStorage, a key for each conversation, so that two tabs
 * do not overwrite each other's. The API key: sessionStorage, gone with the tab. A browser may refuse or be full:
 * then reading finds nothing and keeping returns false. */

const store = {
    PREFIX: "tessera.conversation.",

    read(storage, key) {
        try {
            return JSON.parse(window[storage].getItem(key));
        } catch {
            return null;
        }
    },

    keep(storage, key, value) {
        try {
            window[storage].setItem(key, JSON.stringify(value));
            return true;
        } catch {
            return false;
        }
    },

    settings() {
        const kept = store.read("localStorage", "tessera.settings");
        return kept && typeof kept === "object" && Array.isArray(kept.stop_at ?? []) ? kept : {};
    },

    keepSettings: (settings) => store.keep("localStorage", "tessera.settings", settings),

    apiKey() {
        const kept = store.read("sessionStorage", "tessera.key");
        return typeof kept === "string" ? kept : "";
    },

    keepApiKey: (key) => store.keep("sessionStorage", "tessera.key", key),

    /* The newest first. What is not a conversation is passed over. */
    conversations() {
        const found = [];
        try {
            for (const key of Object.keys(localStorage)) {
                const kept = key.startsWith(store.PREFIX) ? store.read("localStorage", key) : null;
                if (isConversation(kept) && key === store.PREFIX + kept.id) {
                    found.push(kept);
                }
            }
        } catch {
            /* no storage, no conversations */
        }
        return found.sort((a, b) => b.changed - a.changed);
    },

    keepConversation: (conversation) => store.keep("localStorage", store.PREFIX + conversation.id, conversation),

    dropConversation(id) {
        try {
            localStorage.removeItem(store.PREFIX + id);
        } catch {
            /* it was never kept */
        }
    },
};

function newConversation(system = "") {
    const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
    return { id, title: "", system, changed: Date.now(), messages: [] };
}

function isConversation(kept) {
    return (
        kept !== null &&
        typeof kept === "object" &&
        typeof kept.id === "string" &&
        typeof kept.title === "string" &&
        typeof kept.system === "string" &&
        typeof kept.changed === "number" &&
        Array.isArray(kept.messages) &&
        kept.messages.every(isMessage)
    );
}

function isMessage(kept) {
    const times = kept?.times ?? { tokens: 0, first_seconds: 0, tiles: "" };
    return (
        (kept?.role === "user" || kept?.role === "assistant") &&
        typeof kept.content === "string" &&
        ["model", "reasoning", "note"].every((name) => ["string", "undefined"].includes(typeof kept[name])) &&
        typeof times.tokens === "number" &&
        typeof times.first_seconds === "number" &&
        typeof times.tiles === "string"
    );
}

function exportConversations(conversations, name) {
    const text = JSON.stringify({ format: "tessera.conversations", version: 1, conversations }, null, 2);
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
}
