"""A headless Chromium, and what every look at the page wants: no error on its console, no request to anywhere else."""

import json
import pathlib
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

DESK = (1360, 860)
PHONE = (320, 640)


class Browser:
    def __init__(self, url, scratch):
        """`scratch`: an empty folder of the browser's own; downloads lie in its `downloads`."""
        self.url = url
        self.downloads = pathlib.Path(scratch) / "downloads"
        self.downloads.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={scratch}/profile",
        ):  # fmt: skip
            options.add_argument(argument)
        options.add_experimental_option("prefs", {"download.default_directory": str(self.downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.errors = []
        self.elsewhere = []
        self.size(*DESK)

    def open(self):
        self.driver.get(self.url)

    def clear(self):
        """Forgets what the page has kept."""
        if self.driver.current_url.startswith(self.url):
            self.run("localStorage.clear(); sessionStorage.clear()")

    def size(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if width < 500 else 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, scheme="light", motion="no-preference"):
        features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? null", selector)

    def wait(self, what, met, seconds=60):
        """Until met() is true; the bound only ends a hang."""
        end = time.monotonic() + seconds
        while not (value := met()):
            if time.monotonic() > end:
                raise AssertionError(f"it never came to: {what}")
            time.sleep(0.02)
        return value

    def screenshot(self, path):
        self.driver.save_screenshot(str(path))

    def read_logs(self):
        """Adds to `errors` what the console said, and to `elsewhere` what was asked of anyone but the box."""
        self.errors += [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith((self.url, "data:", "blob:" + self.url, "chrome:")):
                    self.elsewhere.append(url)

    def close(self):
        self.driver.quit()
