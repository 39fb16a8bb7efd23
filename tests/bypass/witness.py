"""Clients of tests/quic as processes, which stream and tell what they got."""
import os
import re
import subprocess

from net import BUILD, KEY, OURS, UDP_PORT, patience

CLIENT = os.path.join(BUILD, "tests/quic/quic_client")
CHAT = "/v1/chat/completions"


def ask(tokens, model="shell-5m"):
    """For --data: always the same answer."""
    return (f'{{"model":"{model}","messages":[{{"role":"user","content":"find all python files"}}],"temperature":0,'
            f'"max_tokens":{tokens},"ignore_eos":true,"stream":true}}')


def client(*arguments, path="/health", address=OURS, seconds=60):
    """Starts one; its options are at the head of quic_client.c."""
    url = f"https://{f'[{address}]' if ':' in address else address}:{UDP_PORT}{path}"
    return subprocess.Popen([CLIENT, "--show", "--header", f"authorization: Bearer {KEY}", "--timeout", str(round(patience(seconds))), *arguments, url],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process):
    """All of it, when it has ended well."""
    text = process.communicate()[0]
    assert process.returncode == 0, f"a client ended with {process.returncode}: {text[-600:]}"
    return text


def serves(path="/ready", seconds=5):
    """Whether somebody new is served."""
    process = client(path=path, seconds=seconds)
    process.communicate()
    return process.returncode == 0


def texts(answer):
    """Of streamed answers, one a request."""
    return ["".join(re.findall(r'"content":"((?:[^"\\]|\\.)*)"', one)) for one in answer.split("data: [DONE]")[:-1]]


def door_figures(pid):
    """A door's metrics without their prefix, KiB that are resident, descriptors."""
    samples = {}
    for name, value in re.findall(r"^(tessera:door_\S+) (\S+)$", said(client(path="/metrics")), re.M):
        samples[name.removeprefix("tessera:door_")] = float(value)
    return samples | process_figures(pid)


def process_figures(pid):
    with open(f"/proc/{pid}/status") as file:
        kib = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
    return {"KiB": kib, "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}
