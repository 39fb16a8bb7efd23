"""The page in a real Chromium before a stand-in of the box, which answers as badly as a box could.

    python3 check_page.py FOLDER_OF_THE_JOINED_PAGE FOLDER_FOR_SCREENSHOTS
"""

import json
import pathlib
import sys
import tempfile
import time
import unittest

import browser as browsers
import look
import stand_in
from selenium.webdriver.common.keys import Keys

built, pictures = map(pathlib.Path, sys.argv[1:3])


def setUpModule():
    global box, url, page, scratch
    box, url = stand_in.start(built)
    scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    page = browsers.Browser(url, scratch.name)


def tearDownModule():
    page.close()
    scratch.cleanup()


class PageTest(unittest.TestCase):
    def setUp(self):
        box.api_key = None
        box.requests.clear()
        page.size(*browsers.DESK)
        page.media()
        page.clear()
        page.open()
        self.wait_text("#state-text", "Ready")

    def tearDown(self):
        page.read_logs()
        errors, elsewhere = page.errors, page.elsewhere
        page.errors, page.elsewhere = [], []
        wanted = getattr(self, "console", ())
        self.assertEqual([e for e in errors if not any(w in e for w in wanted)], [], "the console is quiet")
        self.assertEqual(elsewhere, [], "nothing is asked of anyone else")

    def wait_text(self, selector, text):
        page.wait(f"'{text}' in {selector}", lambda: text in (page.text(selector) or ""))

    def type(self, text):
        page.find("#prompt").send_keys(text)

    def answered(self):
        page.wait("the end of the answer", lambda: page.all(".turn.assistant") and not page.all(".streaming"))

    def ask(self, text):
        self.type(text + Keys.ENTER)
        self.answered()

    def last(self, part):
        return page.run("return [...document.querySelectorAll('.turn.assistant')].at(-1).querySelector(arguments[0]).textContent", part)

    def posts(self):
        return [request for request in box.requests if request[2] is not None]


class Chat(PageTest):
    def test_answer_streams(self):
        self.type("show me" + Keys.ENTER)
        early = page.wait("some text", lambda: self.last(".text") if page.all(".turn.assistant") else "")
        self.assertTrue(page.all(".streaming"))
        self.answered()
        whole = self.last(".text")
        self.assertGreater(len(whole), len(early))
        self.assertEqual(page.text(".turn.user .text"), "show me")
        self.assertIn(f"{len(stand_in.SHOWN) // 4 + 1} tokens · first after", self.last(".facts"))
        self.assertEqual(len(page.all(".tiles i")), len(stand_in.SHOWN) // 4)
        self.assertTrue(page.all(".tiles i.late, .tiles i.later, .tiles i.latest"))
        self.assertIn("took more than twice", page.find(".tiles").get_attribute("aria-label"))
        for element in (".text strong", ".text ol li", ".text pre code", ".text table td.right", ".text blockquote a"):
            self.assertTrue(page.all(element), element)
        self.assertIn("float sum", page.text(".text pre code"))
        body = self.posts()[0][2]
        self.assertEqual(body["model"], stand_in.MODEL)
        self.assertEqual(body["stream_options"], {"include_usage": True})
        self.assertEqual(body["messages"], [{"role": "user", "content": "show me"}])

    def test_stop_ends_the_request(self):
        for how in ("button", "escape"):
            aborted = box.aborted
            self.type("slow" + Keys.ENTER)
            page.wait("ten words", lambda: len((page.all(".turn.assistant") and self.last(".text") or "").split()) > 10)
            if how == "button":
                page.find("#stop").click()
                self.assertEqual(page.run("return document.activeElement.id"), "prompt")
            else:
                self.type(Keys.ESCAPE)
            self.answered()
            self.assertEqual(self.last(".note"), "Stopped.")
            page.wait("the box to see it", lambda: box.aborted > aborted)
            part = self.last(".text")
            self.assertIn("word9", part)
            self.assertTrue(page.find("#send").is_displayed())
            self.ask("show")
            messages = self.posts()[-1][2]["messages"]
            self.assertIn("word9", messages[-2]["content"])

    def test_hostile_text_stays_text(self):
        self.ask("hostile")
        self.assertIn("<script>window.hurt = 1</script>", self.last(".text"))
        self.assertIn("</code></pre><script>", page.text(".text pre code"))
        self.assertIsNone(page.run("return window.hurt ?? null"))
        self.assertEqual(len(page.all(".text :is(script, img, iframe, svg[onload], style, b)")), 0)
        self.assertEqual(page.run("return [...document.querySelectorAll('.text a')].map((a) => a.href)"), ["http://example.invalid/a.png"])
        for selector in ("main", "#composer"):
            self.assertTrue(page.find(selector).is_displayed())

    def test_hostile_prompt_and_title(self):
        self.ask("<img src=x onerror=hurt=1> show")
        self.assertEqual(page.text(".turn.user .text"), "<img src=x onerror=hurt=1> show")
        self.assertIn("<img src=x", page.text("#conversations .name"))
        self.assertEqual(len(page.all("img")), 0)

    def test_huge_answer_leaves_the_page_alive(self):
        self.type("huge" + Keys.ENTER)
        page.wait("a megabyte", lambda: page.run("return document.querySelector('.turn.assistant .text')?.textContent.length ?? 0") > 500_000)
        self.type("still here")
        self.assertEqual(page.find("#prompt").get_property("value"), "still here")
        self.answered()
        self.assertEqual(len(page.all(".text > p")), 1024)

    def test_what_goes_wrong_is_said(self):
        self.console = ("the server responded with a status of", "net::ERR_INCOMPLETE_CHUNKED_ENCODING")
        for prompt, note, text in (
            ("error", "The engine ended while it answered.", "So far"),
            ("cut", "The connection broke before the answer ended.", "So far"),
            ("garbled", "The box sent an event that is not JSON.", "So far"),
            ("length", "Cut at max tokens, or where the context is full.", "So far"),
            ("refused", "'temperature' is 3, and at most 2 is possible.", ""),
            ("busy", "The engine is being started. Try again in 2 s.", ""),
            ("gateway", "The box answered 502", ""),
        ):
            with self.subTest(prompt):
                self.ask(prompt)
                self.assertIn(note, self.last(".note"))
                self.assertEqual(self.last(".text").strip(), text)
        self.ask("show")
        roles = [message["role"] for message in self.posts()[-1][2]["messages"]]
        self.assertEqual(roles.count("assistant"), 4, "answers without text are not sent back")

    def test_ask_again(self):
        self.ask("length")
        page.find(".turn.assistant .facts button[aria-label='Ask again']").click()
        self.answered()
        self.assertEqual(len(page.all(".turn")), 2)
        self.assertEqual(self.posts()[0][2]["messages"], self.posts()[1][2]["messages"])

    def test_events_split_at_every_byte(self):
        self.ask("split")
        self.assertEqual(self.last(".text"), "é€😀")
        self.assertEqual(self.last(".note"), "")

    def test_reasoning_is_folded(self):
        self.ask("think")
        self.assertEqual(self.last(".reasoning .text").strip(), "Let me see.")
        self.assertFalse(page.find(".reasoning .text").is_displayed())
        page.find(".reasoning summary").click()
        self.assertTrue(page.find(".reasoning .text").is_displayed())
        self.assertEqual(page.run("return document.querySelector('.turn.assistant > .text').textContent"), "It is four.")
        self.ask("show")
        self.assertNotIn("Let me", json.dumps(self.posts()[-1][2]["messages"]))

    def test_answer_is_spoken_once(self):
        self.ask("think")
        self.assertEqual(page.run("return [...document.querySelectorAll('#spoken p')].map((p) => p.textContent)"), ["It is four.", "End of the answer."])
        self.assertEqual(page.find("#spoken").get_attribute("aria-live"), "polite")
        self.assertEqual(page.find(".turn.assistant").get_attribute("aria-busy"), "false")


class Kept(PageTest):
    def names(self):
        return page.run("return [...document.querySelectorAll('#conversations .name')].map((name) => name.textContent)")

    def test_conversations(self):
        self.ask("length one")
        page.find("#new").click()
        self.assertEqual(len(page.all(".turn")), 0)
        page.find("#system-box summary").click()
        page.find("#system").send_keys("Be brief.")
        self.ask("think two")
        self.assertEqual(self.posts()[-1][2]["messages"][0], {"role": "system", "content": "Be brief."})
        self.assertEqual(self.names(), ["think two", "length one"])
        page.open()
        self.assertEqual(self.names(), ["think two", "length one"])
        page.find("#conversations li:nth-child(2) .name").click()
        self.assertEqual(page.text(".turn.user .text"), "length one")
        self.assertEqual(self.last(".note"), "Cut at max tokens, or where the context is full.")
        page.find("#conversations li:nth-child(2) [aria-label^=Delete]").click()
        self.assertEqual(self.names(), ["think two"])
        self.assertEqual(page.run("return Object.keys(localStorage).filter((key) => key.startsWith('tessera.conversation')).length"), 1)
        page.find("#notice button").click()
        self.assertEqual(self.names(), ["think two", "length one"])
        page.open()
        self.assertEqual(self.names(), ["think two", "length one"])

    def test_an_answer_goes_on_in_a_conversation_left(self):
        self.type("slow" + Keys.ENTER)
        page.wait("text", lambda: page.all(".turn.assistant") and self.last(".text"))
        page.find("#new").click()
        self.assertTrue(page.find("#send").is_displayed())
        self.ask("think")
        self.assertEqual(len(page.all(".turn")), 2)
        page.find("#conversations li:nth-child(2) .name").click()
        before = self.last(".text")
        page.wait("more of it", lambda: len(self.last(".text")) > len(before))
        page.find("#stop").click()
        self.answered()

    def test_export(self):
        self.ask("think")
        page.find("#conversations [aria-label^=Export]").click()
        page.find("#export-all").click()
        for name in ("conversation.json", "conversations.json"):
            path = page.downloads / name
            page.wait(name, path.exists)
            kept = json.loads(path.read_text())
            self.assertEqual(kept["format"], "tessera.conversations")
            self.assertEqual(kept["conversations"][0]["messages"][1]["content"], "It is four.")

    def test_api_key_stays_in_the_tab(self):
        self.console = ("status of 401",)
        box.api_key = "sk-secret"
        page.open()
        self.wait_text("#state-text", "Wants an API key")
        page.find("#show-settings").click()
        page.find("#api_key").send_keys("sk-secret" + Keys.TAB)
        page.find("#settings [aria-label=Close]").click()
        self.wait_text("#state-text", "Ready")
        self.ask("think")
        self.assertEqual(self.posts()[-1][1]["Authorization"], "Bearer sk-secret")
        self.assertNotIn("sk-secret", page.run("return JSON.stringify(localStorage)"))
        self.assertIn("sk-secret", page.run("return JSON.stringify(sessionStorage)"))

    def test_settings_are_sent(self):
        page.find("#show-settings").click()
        for name, value in (("temperature", "0.5"), ("top_p", "0.9"), ("max_tokens", "77"), ("seed", "12345678901")):
            page.find(f"#{name}").send_keys(value + Keys.TAB)
        page.find("#stop_at").send_keys("END\nSTOP" + Keys.TAB)
        page.find("#temperature").send_keys(Keys.CONTROL + "a" + Keys.NULL + "9" + Keys.TAB)
        page.find("#settings [aria-label=Close]").click()
        page.open()
        self.wait_text("#state-text", "Ready")
        self.ask("think")
        body = self.posts()[-1][2]
        wanted = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 77, "seed": 12345678901, "stop": ["END", "STOP"]}
        self.assertEqual({name: body.get(name) for name in wanted}, wanted, "9 is no temperature")

    def test_spoilt_storage(self):
        page.run("""localStorage.setItem("tessera.conversation.a", "{"); localStorage.setItem("tessera.settings", "7");
            localStorage.setItem("tessera.conversation.b", '{"id": "b", "title": "", "system": "", "changed": 1, "messages": [null]}');
            const message = { role: "assistant", content: "" };
            for (const [id, more] of Object.entries({ c: { times: 7 }, d: { reasoning: {} }, e: { role: "system" } }))
                localStorage.setItem("tessera.conversation." + id, JSON.stringify({ id, title: "", system: "", changed: 1, messages: [{ ...message, ...more }] }))""")
        page.open()
        self.wait_text("#state-text", "Ready")
        self.assertEqual(self.names(), [])
        self.ask("think")

    def test_full_storage(self):
        page.run("""try { for (let size = 1 << 22; size; size >>= 1) try { for (let i = 0; ; i++) localStorage.setItem(`full${size}.${i}`, "x".repeat(size)); } catch {} } catch {}""")
        self.ask("think")
        self.assertIn("keeps no more", page.text("#notice span"))
        self.assertEqual(self.last(".note"), "")


class Figures(PageTest):
    def test_charts_move(self):
        labels = lambda: page.run("return [...document.querySelectorAll('.plot svg')].map((svg) => svg.getAttribute('aria-label'))")
        paths = lambda: page.run("return [...document.querySelectorAll('.plot path.live')].map((path) => path.getAttribute('d'))")
        before = paths()
        self.type("slow" + Keys.ENTER)
        page.wait("all figures", lambda: not any("not known" in label for label in labels()))
        page.wait("all charts to move", lambda: all(a != b for a, b in zip(before, paths())))
        self.assertRegex(labels()[0], r"^Tokens a second, the last two minutes: made \d")
        self.assertRegex(labels()[2], r"p50 [\d.]+ ms now")
        self.assertRegex(labels()[4], r"10\.1 % now")
        page.find("#figures-table summary").click()
        page.wait("the table", lambda: len(page.all("#figures-table tbody tr")) == 9)
        page.find("#stop").click()
        self.answered()

    def test_memory_and_card(self):
        page.wait("two nodes", lambda: len(page.all("#memory .node")) == 2)
        text = page.text("#memory")
        for words in ("Node 0", "2.3 GiB", "2 GiB in 1 GiB pages", "9 MiB in 4 KiB pages", "4 MiB lie on another node"):
            self.assertIn(words, text)
        card = page.text("#card")
        for words in (stand_in.MODEL, "llama", "135 million", "q4_1, 86.8 MiB", "8,192 tokens", "avx512", "chat, tools (hermes), reasoning, embeddings (576 wide, mean)"):
            self.assertIn(words, card)

    def test_engine_that_goes_and_comes(self):
        box.up = 0
        self.wait_text("#state-text", "The engine is away")
        box.up = 1
        self.wait_text("#state-text", "Ready")

    def test_polling_stops_while_hidden(self):
        page.driver.execute_cdp_cmd("Page.enable", {})
        page.run("Object.defineProperty(document, 'hidden', {value: true, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))")
        time.sleep(1.5)
        count = len(box.requests)
        time.sleep(1.5)
        self.assertEqual(len(box.requests), count)
        page.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        page.wait("the next scrape", lambda: len(box.requests) > count)
        path = "return [...document.querySelectorAll('.plot path.live')].at(-1).getAttribute('d')"
        page.wait("a line with a gap", lambda: page.run(path).count("M") == 2)

    def test_quantiles(self):
        """Against values computed by hand as histogram_quantile() defines them."""
        script = """const figures = (counts) => ({ buckets: { h: new Map([[0.1, counts[0]], [0.2, counts[1]], [1, counts[2]], [Infinity, counts[3]]]) } });
            return arguments[0].map(([q, from, to]) => quantile(q, "h", figures(from), figures(to)));"""
        cases = [
            ([0.5, [0, 0, 0, 0], [10, 10, 10, 10]], 0.05),
            ([0.99, [0, 0, 0, 0], [10, 10, 10, 10]], 0.099),
            ([0.5, [5, 5, 5, 5], [5, 15, 15, 15]], 0.15),
            ([0.75, [0, 0, 0, 0], [2, 2, 4, 4]], 0.6),
            ([0.99, [0, 0, 0, 0], [0, 0, 1, 2]], 1),
            ([0.5, [3, 3, 3, 3], [3, 3, 3, 3]], None),
            ([0.5, [3, 3, 3, 3], [1, 1, 1, 1]], None),
        ]
        for got, (_, wanted) in zip(page.run(script, [case for case, _ in cases]), cases):
            self.assertEqual(got if wanted is None else round(got, 9), wanted)


MARKDOWN = {
    "*a* **b** `c` ~~d~~ \\*e\\*": "<p><em>a</em> <strong>b</strong> <code>c</code> <s>d</s> *e*</p>",
    "snake_case_name and 2 * 3 * 4": "<p>snake_case_name and 2 * 3 * 4</p>",
    "**a *b* c** ***d***": "<p><strong>a <em>b</em> c</strong> <strong><em>d</em></strong></p>",
    "**open": "<p>**open</p>",
    "# A\n## B ##\nc": "<h3>A</h3><h4>B</h4><p>c</p>",
    "- a\n- b\n  - c\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "In\n1986. It was": "<p>In\n1986. It was</p>",
    "> a\n> b\n\nc": "<blockquote><p>a\nb</p></blockquote><p>c</p>",
    "a\n\n---\n\nb": "<p>a</p><hr><p>b</p>",
    "a  \nb": "<p>a<br>b</p>",
    "``a ` b``": "<p><code>a ` b</code></p>",
    "&lt;b&gt; <i>": "<p>&amp;lt;b&amp;gt; &lt;i&gt;</p>",
    "| a |\n| --- |\n| b |\n\nc": '<div class="wide" tabindex="0" role="group" aria-label="Table"><table><thead><tr><th class="left">a</th></tr></thead><tbody><tr><td class="left">b</td></tr></tbody></table></div><p>c</p>',
    "[x](https://a.example/b_(c)) https://d.example/e.": '<p><a href="https://a.example/b_(c)" target="_blank" rel="noopener noreferrer">x</a> <a href="https://d.example/e" target="_blank" rel="noopener noreferrer">https://d.example/e</a>.</p>',
    "[x](javascript:y) [z](/local)": "<p><span>x (javascript:y)</span> <span>z (/local)</span></p>",
    "![cat](https://a.example/c.png)": '<p><a href="https://a.example/c.png" target="_blank" rel="noopener noreferrer">cat</a></p>',
}


class Markdown(PageTest):
    def rendered(self, pieces):
        return page.run(
            """const parent = document.createElement("div"); const markdown = new Markdown(parent); let text = "";
               for (const piece of arguments[0]) markdown.write(text += piece);
               return parent.innerHTML;""",
            pieces,
        )

    def test_cases(self):
        for text, wanted in MARKDOWN.items():
            with self.subTest(text):
                self.assertEqual(self.rendered([text]), wanted)

    def test_streamed_is_whole(self):
        for text in [stand_in.SHOWN, stand_in.HOSTILE, *MARKDOWN, "a\n\n\n```\n\nx\n```\n1. b\n\n   c\n\n- d\n"]:
            self.assertEqual(self.rendered(list(text)), self.rendered([text]), text)

    def test_bounded(self):
        """Texts that make a careless parser quadratic, exponential or deep; the time limit is the test's."""
        for unit in ("*a ", "**", "`", "[", "> ", "- ", "_a_b", "|", "![](", "\\", "<", "#" * 7 + " ", "  - a\n", "~~~\n", "| - ", "http://a."):
            for size in (3000, 30_000):
                text = (unit * (size // len(unit) + 1))[:size]
                self.assertTrue(self.rendered([text, "\n", text]))
        for text in ("[a](%sb", "[a](b%s", "- %sx", "a|b\n-%sx", "# a%sb", "```%s`", "a%sb", "> %s", "|%s", "`%s`` "):
            self.assertTrue(self.rendered([text % (" " * 40_000)]))
        table = "|" * 2000 + "\n" + "|-" * 1999 + "|\n" + "|\n" * 2000
        self.assertLess(len(self.rendered([table])), 1_000_000)


class Look(PageTest):
    def fill(self):
        self.ask("show me")
        self.ask("think")
        self.ask("length")

    def good(self, where):
        seen = page.run(look.CONTRAST)
        self.assertGreater(seen["looked"], 5, where)
        self.assertEqual(seen["poor"], [], where)
        self.assertEqual(page.run(look.TARGETS), [], where)
        self.assertEqual(page.run(look.STRUCTURE), [], where)
        unnamed, nodes = look.unnamed(page)
        self.assertGreater(nodes, 20, where)
        self.assertEqual(unnamed, [], where)

    def test_light_dark_and_phone(self):
        page.screenshot(pictures / "welcome.png")
        self.good("welcome")
        self.fill()
        page.wait("figures", lambda: "not known" not in page.find(".plot svg").get_attribute("aria-label"))
        for scheme in ("light", "dark"):
            page.media(scheme)
            page.size(*browsers.DESK)
            page.run("document.querySelector('#transcript').scrollTop = 0")
            page.screenshot(pictures / f"{scheme}.png")
            self.good(scheme)
            page.find("#show-settings").click()
            page.screenshot(pictures / f"{scheme}-settings.png")
            self.good(f"{scheme} settings")
            page.find("#settings [aria-label=Close]").click()
            page.size(*browsers.PHONE)
            page.wait("the narrow layout", lambda: not page.find("#figures").is_displayed())
            page.screenshot(pictures / f"{scheme}-phone.png")
            self.good(f"{scheme} phone")
            for side in ("figures", "history"):
                page.find(f"#show-{side}").click()
                self.assertTrue(page.find(f"#{side}").is_displayed())
                self.assertFalse(page.find("#chat").is_displayed())
                page.screenshot(pictures / f"{scheme}-phone-{side}.png")
                self.good(f"{scheme} phone {side}")
            page.find("#show-history").click()
            self.assertTrue(page.find("#chat").is_displayed())
            page.find("#show-settings").click()
            self.good(f"{scheme} phone settings")
            page.find("#settings [aria-label=Close]").click()

    def test_theme_switch(self):
        ground = lambda: page.run("return getComputedStyle(document.body).color")
        light = ground()
        page.find("#show-settings").click()
        page.find("input[value=dark]").click()
        dark = ground()
        self.assertNotEqual(dark, light)
        page.open()
        self.assertEqual(ground(), dark)
        page.run("localStorage.clear()")
        page.open()
        page.media("dark")
        self.assertEqual(ground(), dark)

    def test_reduced_motion(self):
        self.type("slow" + Keys.ENTER)
        page.wait("text", lambda: page.all(".turn.assistant") and self.last(".text"))
        running = lambda: page.run("return document.getAnimations().filter((a) => a.playState === 'running').length")
        self.assertGreater(running(), 0)
        page.media("light", "reduce")
        page.wait("no motion", lambda: running() == 0)
        page.find("#stop").click()
        self.answered()

    def test_zoomed_text(self):
        """Text at twice its size on a small desk: nothing is cut off sideways."""
        self.fill()
        page.size(1280 // 2, 1024 // 2)
        self.assertEqual(page.run(look.TARGETS), [])


class Keyboard(PageTest):
    def press(self, *keys):
        page.run("return document.activeElement").send_keys(*keys)

    def focused(self):
        return page.run(
            """const e = document.activeElement; const box = e.getBoundingClientRect(); const style = getComputedStyle(e);
               return { what: e.id || e.getAttribute("aria-label") || e.textContent.trim().slice(0, 40), tag: e.tagName,
                        ring: e.matches(":focus-visible") && parseFloat(style.outlineWidth) >= 1 && style.outlineStyle !== "none",
                        shown: box.width > 0 && box.height > 0 && box.top >= 0 && box.bottom <= innerHeight + 1 };"""
        )

    def test_everything_without_a_mouse(self):
        self.press(Keys.TAB)
        self.assertEqual(self.focused()["what"], "Skip to the message")
        self.press(Keys.ENTER)
        self.assertEqual(self.focused()["what"], "prompt")
        self.press("length" + Keys.ENTER)
        self.answered()
        self.assertEqual(self.focused()["what"], "prompt")
        page.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
        walked = []
        for _ in range(80):
            self.press(Keys.TAB)
            now = self.focused()
            if now["tag"] == "BODY" or (walked and now == walked[0]):
                break
            self.assertTrue(now["ring"], f"the focus is seen on {now}")
            self.assertTrue(now["shown"], f"{now} is in the window")
            walked.append(now)
        order = [step["what"] for step in walked]
        wanted = ["show-history", "model", "show-figures", "show-settings", "new", "length", "export-all", "transcript", "Copy answer", "Ask again", "prompt"]
        self.assertEqual([what for what in order if what in wanted], wanted)

    def test_settings_by_key(self):
        page.find("#show-settings").send_keys(Keys.ENTER)
        self.assertTrue(page.find("#settings").is_displayed())
        for _ in range(14):
            self.press(Keys.TAB)
            self.assertTrue(page.run("return document.activeElement.closest('#settings') !== null || document.activeElement === document.body"))
        self.press(Keys.ESCAPE)
        self.assertFalse(page.find("#settings").is_displayed())
        self.assertEqual(self.focused()["what"], "show-settings")

    def test_shift_enter_and_composition(self):
        self.press(Keys.TAB)
        self.press(Keys.ENTER)
        self.type("one" + Keys.SHIFT + Keys.ENTER + Keys.NULL + "two")
        self.assertEqual(page.find("#prompt").get_property("value"), "one\ntwo")
        page.run("document.querySelector('#prompt').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))")
        self.assertEqual(len(page.all(".turn")), 0)


if __name__ == "__main__":
    pictures.mkdir(parents=True, exist_ok=True)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)
