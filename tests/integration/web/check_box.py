"""The page as a box serves it: the real dataplane before a real engine, in a real Chromium.

    python3 check_box.py FOLDER_FOR_SCREENSHOTS
"""

import hashlib
import json
import os
import pathlib
import re
import secrets
import sys
import tempfile
import unittest
import urllib.request

import browser as browsers
import look
from selenium.common.exceptions import ElementNotInteractableException
from selenium.webdriver.common.keys import Keys

sys.path.append(str(pathlib.Path(__file__).parents[2] / "door"))
from box import TINY, USUAL, Box

pictures = pathlib.Path(sys.argv[1])


def setUpModule():
    global box
    box = Box([USUAL if os.path.exists(USUAL) else TINY]).__enter__()


def tearDownModule():
    box.__exit__()


class BoxTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        cls.page = browsers.Browser(box.url + "/", cls.scratch.name)

    @classmethod
    def tearDownClass(cls):
        cls.page.close()
        cls.scratch.cleanup()

    def setUp(self):
        self.page.open()
        self.page.wait("ready", lambda: self.page.text("#state-text") == "Ready")

    def tearDown(self):
        self.page.read_logs()
        self.assertEqual((self.page.errors, self.page.elsewhere), ([], []))

    def ask(self, text):
        self.page.find("#prompt").send_keys(text + Keys.ENTER)

    def words(self):
        return self.page.run("return [...document.querySelectorAll('.turn.assistant > .text')].at(-1)?.textContent ?? ''")

    def answered(self):
        self.page.wait("the end", lambda: self.page.all(".turn.assistant") and not self.page.all(".streaming"))

    def setting(self, name, value):
        self.page.find("#show-settings").click()
        field = self.page.find(f"#{name}")
        field.clear()
        field.send_keys(value + Keys.TAB)
        self.page.find("#settings [aria-label=Close]").click()

    def test_policy_is_strict(self):
        with urllib.request.urlopen(box.url) as answer:
            headers, html = answer.headers, answer.read().decode()
        policy = headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(headers["Content-Type"], "text/html; charset=utf-8")
        self.assertNotRegex(html, r'(?:src|href)="(?!data:|#)')

    def test_an_answer_streams_and_is_counted(self):
        before = box.metric("tessera:generation_tokens_total")
        self.setting("temperature", "0")
        self.ask("list all files in the folder")
        self.answered()
        self.assertTrue(self.words())
        tokens = int(self.page.text(".facts").split()[0])
        self.assertGreater(tokens, 0)
        self.page.wait("the engine to have counted them", lambda: box.metric("tessera:generation_tokens_total") - before >= tokens)
        first = self.words()
        self.page.find("[aria-label='Ask again']").click()
        self.answered()
        self.assertEqual(self.words(), first, "greedy answers are the same")

    def stopped(self):
        """Asks for much, and presses stop; false where the model had come to its end already, as a quick one may."""
        self.page.find("#new").click()
        self.ask("Explain every command that there is, one after the other.")
        self.page.wait("some words", self.words)
        try:
            self.page.find("#stop").click()
        except ElementNotInteractableException:
            pass
        self.answered()
        return self.page.text(".note") == "Stopped."

    def test_stop_and_charts(self):
        chart = lambda: self.page.find(".plot path.live").get_attribute("d")
        aborted = lambda: box.metric("tessera:request_success_total", finished_reason="abort")
        before, aborted_before = chart(), aborted()
        self.setting("temperature", "2")
        self.setting("max_tokens", "1500")
        self.assertTrue(any(self.stopped() for _ in range(20)), "every answer had ended before it could be stopped")
        self.page.wait("the engine to count it", lambda: aborted() > aborted_before)
        self.page.wait("the chart to move", lambda: chart() != before)
        label = lambda: self.page.all(".plot svg")[2].get_attribute("aria-label")
        self.page.wait("percentiles", lambda: re.search(r"p50 [\d.]+ .?s now", label()))

    def test_card_and_memory(self):
        card = self.page.find("#card").text
        model = json.loads(box.get("/v1/models")[1])["data"][0]
        self.assertIn(model["id"], card)
        self.assertIn(model["meta"]["architecture"], card)
        self.page.wait("kernels", lambda: "Kernels" in self.page.find("#card").text)
        self.page.wait("memory", lambda: self.page.all("#memory .node"))
        self.assertIn("Node 0", self.page.text("#memory"))

    def test_look(self):
        self.ask("list all files in the folder")
        self.answered()
        self.page.wait("figures", lambda: self.page.all("#memory .node"))
        for scheme in ("light", "dark"):
            self.page.media(scheme)
            for name, size in (("desk", browsers.DESK), ("phone", browsers.PHONE)):
                self.page.size(*size)
                self.page.screenshot(pictures / f"box-{scheme}-{name}.png")
                self.assertEqual(self.page.run(look.CONTRAST)["poor"], [])
                self.assertEqual(self.page.run(look.TARGETS), [])
        self.page.size(*browsers.DESK)


class KeyTest(unittest.TestCase):
    def test_a_key_opens_the_box(self):
        key = "tsr-" + secrets.token_urlsafe(32)
        with Box(keys=f"web sha256:{hashlib.sha256(key.encode()).hexdigest()}\n") as locked, tempfile.TemporaryDirectory() as scratch:
            page = browsers.Browser(locked.url + "/", scratch)
            try:
                page.open()
                page.wait("the wish for a key", lambda: page.text("#state-text") == "Wants an API key")
                page.find("#show-settings").click()
                page.find("#api_key").send_keys(key + Keys.TAB)
                page.find("#settings [aria-label=Close]").click()
                page.wait("ready", lambda: page.text("#state-text") == "Ready")
                page.find("#prompt").send_keys("list all files" + Keys.ENTER)
                page.wait("an answer", lambda: page.all(".turn.assistant .facts") and "tokens" in page.text(".turn.assistant .facts"))
            finally:
                page.close()


if __name__ == "__main__":
    pictures.mkdir(parents=True, exist_ok=True)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=1)
