"use strict";
/* The page: which conversation, which model, what is open. */

const wide = matchMedia("(min-width: 64rem)");
const settings = store.settings();
const answers = new Map(); /* conversation id: the Answer under way */
let conversations = store.conversations();
let current = null;
let models = [];
let turns = []; /* the Turns of the current conversation */

const modelNow = () => models.find((model) => model.id === find("#model").value) ?? null;

function keep(conversation) {
    if (!store.keepConversation(conversation)) {
        notify("This browser keeps no more: the conversation will be gone with this page. Export it, or delete others.");
    }
}

/* --- conversations --- */

function openConversation(conversation) {
    current = conversation;
    find("#system").value = conversation.system;
    showSystemMark();
    find("#turns").replaceChildren();
    turns = [];
    for (const message of conversation.messages) {
        addTurn(message);
    }
    showConversation();
    showHistory();
    toEnd();
}

function addTurn(message) {
    const turn = new Turn(message, () => askAgain(message));
    turns.push(turn);
    find("#turns").append(turn.element);
    const answer = answers.get(current.id);
    if (answer?.message === message) {
        turn.show(answer);
    }
    return turn;
}

/* What depends on whether the current conversation has messages, and an answer under way. */
function showConversation() {
    const busy = answers.has(current.id);
    const focused = document.activeElement;
    find("#welcome").hidden = current.messages.length > 0;
    find("#stop").hidden = !busy;
    find("#send").hidden = busy;
    if (focused === find("#send") || focused === find("#stop")) {
        find("#prompt").focus();
    }
    turns.forEach((turn, at) => {
        if (turn.again) {
            turn.again.hidden = busy || at < turns.length - 1;
        }
    });
    document.title = current.title ? `${current.title} – Tessera` : "Tessera";
    showSendable();
}

function showSendable() {
    find("#send").disabled = !find("#prompt").value.trim() || !modelNow();
}

function showHistory() {
    const items = conversations.map((conversation) => {
        const title = conversation.title || "Empty conversation";
        const here = conversation === current;
        const name = make("button", { type: "button", class: "name", click: () => choose(conversation) }, title);
        if (here) {
            name.setAttribute("aria-current", "true");
        }
        return make(
            "li",
            here ? { class: "here" } : {},
            name,
            iconButton("export", `Export "${title}" as JSON`, () => exportConversations([conversation], "conversation.json")),
            iconButton("delete", `Delete "${title}"`, () => drop(conversation)),
        );
    });
    find("#conversations").replaceChildren(...items);
    find("#export-all").hidden = conversations.length === 0;
}

function choose(conversation) {
    openConversation(conversation);
    if (!wide.matches) {
        showSide(null);
    }
    find("#prompt").focus();
}

function startNew() {
    choose(newConversation(current?.system));
}

function drop(conversation) {
    const at = conversations.indexOf(conversation);
    answers.get(conversation.id)?.stop();
    conversations.splice(at, 1);
    store.dropConversation(conversation.id);
    if (conversation === current) {
        openConversation(conversations[Math.min(at, conversations.length - 1)] ?? newConversation());
    } else {
        showHistory();
    }
    const names = find("#conversations").querySelectorAll(".name");
    (names[Math.min(at, names.length - 1)] ?? find("#new")).focus();
    notify("Conversation deleted.", () => {
        conversations.splice(at, 0, conversation);
        keep(conversation);
        openConversation(conversation);
    });
}

/* Another tab has changed what is kept; what is on the page here stays. */
function takeFromOtherTab(event) {
    if (event.storageArea !== localStorage || (event.key && !event.key.startsWith(store.PREFIX))) {
        return;
    }
    const held = (conversation) => conversation === current || answers.has(conversation.id);
    const kept = store.conversations().filter(({ id }) => !conversations.some((c) => c.id === id && held(c)));
    conversations = [...conversations.filter(held), ...kept].sort((a, b) => b.changed - a.changed);
    showHistory();
}

/* --- asking --- */

function send() {
    const text = find("#prompt").value.trim();
    if (!text || !modelNow() || answers.has(current.id)) {
        return;
    }
    find("#prompt").value = "";
    fitPrompt();
    current.title ||= text.replace(/\s+/g, " ").slice(0, 80);
    const message = { role: "user", content: text };
    current.messages.push(message);
    addTurn(message);
    ask();
}

function askAgain(message) {
    if (answers.has(current.id) || current.messages.at(-1) !== message) {
        return;
    }
    current.messages.pop();
    turns.pop().element.remove();
    ask();
    find("#prompt").focus();
}

async function ask() {
    const conversation = current;
    const request = requestOf(conversation, modelNow().id, settings);
    const message = { role: "assistant", model: modelNow().id, content: "" };
    const answer = new Answer(message);
    const speaker = new Speaker(find("#spoken"));
    answers.set(conversation.id, answer);
    conversation.changed = Date.now();
    conversation.messages.push(message);
    conversations = [conversation, ...conversations.filter((other) => other !== conversation)];
    keep(conversation);
    addTurn(message).show(answer);
    showConversation();
    showHistory();
    toEnd();

    const show = throttled(() => {
        if (answers.get(conversation.id) !== answer) {
            return;
        }
        showAnswer(message, answer);
        if (conversation === current) {
            speaker.follow(message.content);
        }
    });
    await answer.run(request, show);
    answers.delete(conversation.id);
    showAnswer(message, null);
    if (conversations.includes(conversation)) {
        keep(conversation);
    }
    if (conversation === current) {
        speaker.finish(message.content, message.note);
        showConversation();
    }
}

function showAnswer(message, answer) {
    const turn = turns.find((shown) => shown.message === message);
    if (turn) {
        const follow = atEnd();
        turn.show(answer);
        if (follow) {
            toEnd();
        }
        showLatest();
    }
}

/* Calls of what it returns lead to at most one call of `work` a frame, and to fewer where that takes long: a very long
 * answer must not stop the page. */
function throttled(work) {
    let due = false;
    let next = 0;
    const run = () => {
        const began = performance.now();
        if (began < next) {
            setTimeout(run, next - began);
            return;
        }
        due = false;
        work();
        next = performance.now() + 4 * (performance.now() - began);
    };
    return () => {
        if (!due) {
            due = true;
            document.hidden ? setTimeout(run, 250) : requestAnimationFrame(run);
        }
    };
}

/* --- reading --- */

function atEnd() {
    const box = find("#transcript");
    return box.scrollHeight - box.scrollTop - box.clientHeight < 48;
}

function toEnd() {
    const box = find("#transcript");
    box.scrollTop = box.scrollHeight;
    showLatest();
}

function showLatest() {
    find("#latest").hidden = atEnd();
}

function fitPrompt() {
    const prompt = find("#prompt");
    prompt.style.height = "auto";
    prompt.style.height = `${prompt.scrollHeight + 2}px`;
    showSendable();
}

/* --- panels --- */

/* Wide: both sides stand beside the chat, as chosen. Narrow: `side` takes the chat's place; null is the chat. */
function showSide(side) {
    for (const name of ["history", "figures"]) {
        const shown = wide.matches ? settings[`hide_${name}`] !== true : name === side;
        document.body.classList.toggle(`with-${name}`, shown);
        find(`#show-${name}`).setAttribute("aria-expanded", String(shown));
    }
}

function toggleSide(name) {
    const shown = document.body.classList.contains(`with-${name}`);
    if (wide.matches) {
        settings[`hide_${name}`] = shown;
        store.keepSettings(settings);
    }
    showSide(shown ? null : name);
}

/* --- settings --- */

function showTheme() {
    document.documentElement.dataset.theme = settings.theme ?? "system";
}

function fillSettings() {
    for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
        find(`#${name}`).value = settings[name] ?? "";
    }
    find("#stop_at").value = (settings.stop_at ?? []).join("\n");
    find("#api_key").value = store.apiKey();
    for (const choice of document.getElementsByName("theme")) {
        choice.checked = choice.value === (settings.theme ?? "system");
    }
}

function takeSetting(input) {
    if (input.id === "api_key") {
        store.keepApiKey(input.value.trim());
        loadModels();
        return;
    }
    if (input.name === "theme") {
        settings.theme = input.value;
        showTheme();
    } else if (input.id === "stop_at") {
        settings.stop_at = input.value.split("\n").filter(Boolean).slice(0, 4);
    } else if (input.checkValidity()) {
        settings[input.id] = input.value === "" ? undefined : input.valueAsNumber;
    } else {
        input.reportValidity();
        return;
    }
    store.keepSettings(settings);
}

function showSystemMark() {
    find("#system-mark").textContent = current.system.trim() ? current.system.trim().slice(0, 120) : "none";
}

/* --- the box --- */

const STATES = {
    ready: "Ready",
    away: "The engine is away",
    key: "Wants an API key",
    none: "No figures",
    lost: "Not reachable",
};

let stateNow = "";

function showState(state) {
    find("#state").dataset.state = state;
    setText(find("#state-text"), STATES[state]);
    find("#state").title = STATES[state];
    if (state !== stateNow || (models.length === 0 && state !== "lost")) {
        stateNow = state;
        loadModels();
    }
}

async function loadModels() {
    try {
        const response = await fetch("v1/models", { headers: authorization(), cache: "no-store" });
        const list = response.ok ? (await response.json()).data : [];
        models = Array.isArray(list) ? list.filter((model) => typeof model?.id === "string") : [];
    } catch {
        return; /* the old ones stay: the box will be back */
    }
    const select = find("#model");
    const wanted = select.value || settings.model;
    const options = models.map((model) => make("option", { value: model.id }, model.id));
    select.replaceChildren(...(options.length ? options : [make("option", { value: "" }, "no model yet")]));
    if (models.some((model) => model.id === wanted)) {
        select.value = wanted;
    }
    showModel();
}

function showModel() {
    const model = modelNow();
    showCard(model);
    const mute = model?.meta?.chat === false;
    find("#prompt").disabled = mute;
    find("#prompt").placeholder = mute ? "This model cannot chat: it has no chat template" : "Message";
    find("#welcome-model").textContent = model?.id ?? "the model";
    showSendable();
}

/* --- wiring --- */

function begin() {
    showTheme();
    fillSettings();
    showSide(null);
    openConversation(newConversation());
    loadModels();

    find("#composer").addEventListener("submit", (event) => {
        event.preventDefault();
        send();
    });
    find("#prompt").addEventListener("input", fitPrompt);
    find("#prompt").addEventListener("keydown", (event) => {
        const plain = !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey && !event.isComposing;
        if (event.key === "Enter" && plain) {
            event.preventDefault();
            send();
        }
    });
    document.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && !find("#settings").open) {
            answers.get(current.id)?.stop();
        }
    });
    find("#stop").addEventListener("click", () => answers.get(current.id)?.stop());
    find("#new").addEventListener("click", startNew);
    find("#export-all").addEventListener("click", () => exportConversations(conversations, "conversations.json"));
    find("#transcript").addEventListener("scroll", showLatest);
    find("#latest").addEventListener("click", () => {
        toEnd();
        find("#prompt").focus();
    });
    for (const idea of find("#ideas").querySelectorAll("button")) {
        idea.addEventListener("click", () => {
            find("#prompt").value = idea.textContent;
            fitPrompt();
            find("#prompt").focus();
        });
    }
    find("#system").addEventListener("input", () => {
        current.system = find("#system").value;
        showSystemMark();
    });
    find("#system").addEventListener("change", () => {
        if (conversations.includes(current)) {
            keep(current);
        }
    });
    find("#model").addEventListener("change", () => {
        settings.model = find("#model").value;
        store.keepSettings(settings);
        showModel();
    });
    for (const name of ["history", "figures"]) {
        find(`#show-${name}`).addEventListener("click", () => toggleSide(name));
    }
    wide.addEventListener("change", () => showSide(null));
    find("#show-settings").addEventListener("click", () => find("#settings").showModal());
    find("#settings").addEventListener("change", (event) => takeSetting(event.target));
    find("#settings form").addEventListener("submit", (event) => {
        event.preventDefault();
        find("#settings").close();
    });
    addEventListener("storage", takeFromOtherTab);
    addEventListener("pagehide", () => {
        for (const conversation of conversations.filter(({ id }) => answers.has(id))) {
            store.keepConversation(conversation);
        }
    });
    new Figures(() => find("#model").value, showState).poll();
}

begin();
