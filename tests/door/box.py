"""A box to test against: engines and a dataplane, as programs, in a scratch folder.

TESSERA_SOURCE and TESSERA_BUILD say where sources and programs lie. With TESSERA_URL a server that runs already is asked
instead, so the same tests can be tried on others.
"""

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

SOURCE = os.environ.get("TESSERA_SOURCE", os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("TESSERA_BUILD", os.path.join(SOURCE, "build", "release"))
TINY = os.path.join(SOURCE, "tests", "vectors", "shell-5m")
USER = os.getuid() or "nobody"  # as whom the dataplane runs
SLOW = int(os.environ.get("TESSERA_TEST_SLOW", "1"))
USUAL = os.path.join(SOURCE, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")

# Tools as Hermes and Qwen write them, for models that bring no such template.
TOOLS_TEMPLATE = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- 'You may call functions. Their signatures:\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\nFor each call return an object with name and arguments:\\n<tool_call>\\n{"name": <name>, "arguments": <args-dict>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def patience(seconds):
    """How long to wait before something counts as hanging: longer on a machine that is TESSERA_TEST_SLOW times slower."""
    return seconds * SLOW


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


class Box:
    """Engines (one a model) behind one dataplane. Use as a context.

    listen: the dataplane's addresses, the first of them is self.url; keys: the lines of its key file; headers: of each
    question of the box's own; prefix: words before the dataplane's command line."""

    def __init__(self, models=(TINY,), dataplane=(), engine=(), keys=None, listen=("127.0.0.1:0",), headers=None, prefix=()):
        self.work = tempfile.mkdtemp(prefix="tessera-test-")
        os.chmod(self.work, 0o755)  # started as root, the programs become others
        for index in range(len(models)):
            os.mkdir(os.path.dirname(self.socket(index)), 0o755)
        self.models, self.dataplane_options, self.engine_options = models, list(dataplane), list(engine)
        self.listen, self.headers, self.prefix = listen, headers or {}, list(prefix)
        self.engines = [None] * len(models)
        self.door = None
        if keys:
            self.keys = os.path.join(self.work, "keys")
            with open(os.open(self.keys, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write(keys)
            self.own(self.keys)
            self.dataplane_options += ["--keys", self.keys]
        if os.geteuid() == 0:
            os.chmod(self.work, 0o711)
            self.engine_options += ["--allow", f"uid:{self.door_user().pw_name},tenants,requests=1024,request-ring=4M,event-ring=16M,bytes=256M"]

    @staticmethod
    def door_user():
        """As whom a door that root starts goes on."""
        return next(entry for name in ("tessera", "nobody") for entry in pwd.getpwall() if entry.pw_name == name)

    def own(self, path):
        """So that the doors can read a file."""
        if os.geteuid() == 0:
            os.chown(path, self.door_user().pw_uid, -1)

    def __enter__(self):
        try:
            for index in range(len(self.models)):
                self.start_engine(index)
            self.start_door()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in [self.door, *self.engines]:
            if process and process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.work, ignore_errors=True)

    def socket(self, index=0):
        return os.path.join(self.work, f"engine{index}", "engine.sock")

    def start_engine(self, index=0):
        options = ["--model", self.models[index], "--socket", self.socket(index), "--kv-bytes", "64M", "--quiet"]
        options += ["--allow", f"uid:{USER},requests=1100,event-ring={1 << 24},tenants"]
        self.engines[index] = self._start("engine/serve/tessera-engine", options + self.engine_options, r"^ready")

    def kill_engine(self, index=0):
        self.engines[index].kill()
        self.engines[index].wait()

    def start_door(self):
        options = [word for address in self.listen for word in ("--listen", address)]
        for index in range(len(self.models)):
            options += ["--engine", self.socket(index)]
        self.door = self._start("dataplane/uring/tessera-dataplane", options + self.dataplane_options, r"^ready", self.prefix)
        self.url = re.search(rf"http://{re.escape(self.listen[0].rpartition(':')[0])}:\d+", self.door.said)[0]
        self.wait(self.is_ready, "the dataplane is not ready")

    def is_ready(self):
        ready = self.get("/ready")[0] == 200
        return ready and (len(self.models) == 1 or self.metric("tessera:engine_up") == len(self.models))

    def _start(self, program, options, pattern, prefix=()):
        log = os.path.join(self.work, os.path.basename(program) + ".err")
        with open(log, "ab") as errors:
            process = subprocess.Popen([*prefix, os.path.join(BUILD, program), *options], stdout=subprocess.PIPE, stderr=errors, text=True)
        process.said = ""
        for line in process.stdout:
            process.said += line
            if re.search(pattern, line):
                return process
        process.wait()
        with open(log) as file:
            raise RuntimeError(f"{program} ended with {process.returncode}: {file.read()[-2000:]}")

    @staticmethod
    def wait(condition, what, seconds=30):
        end = time.monotonic() + patience(seconds)
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(what)
            time.sleep(0.02)

    def get(self, path, headers=None):
        """(status, text)"""
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers or self.headers), timeout=patience(20)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name, **labels):
        """The sum of a metric's samples with these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            match = re.match(r"([\w:]+)(?:\{(.*)\})? (\S+)$", line)
            if match and match[1] == name and all(f'{key}="{value}"' in (match[2] or "") for key, value in labels.items()):
                total += float(match[3])
        return total

    def idle(self):
        """Waits until the engines have no request."""
        names = ("tessera:num_requests_running", "tessera:num_requests_waiting", "tessera:num_requests_parked")
        self.wait(lambda: sum(self.metric(name) for name in names) == 0, "requests are left in the engine")

    def stop(self):
        """Asks all to end, and wants that they do so cleanly."""
        for process in [self.door, *self.engines]:
            process.send_signal(signal.SIGTERM)
            if process.wait(timeout=patience(60)) != 0:
                raise RuntimeError(f"{process.args[0]} ended with {process.returncode}")


def tools_model(folder):
    """The tiny model with a template that knows tools."""
    shutil.copytree(TINY, folder)
    path = os.path.join(folder, "tokenizer_config.json")
    with open(path) as file:
        config = json.load(file)
    config["chat_template"] = TOOLS_TEMPLATE
    with open(path, "w") as file:
        json.dump(config, file)
    return folder
