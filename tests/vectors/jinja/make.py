#!/usr/bin/env python3
"""Renders every template of source.json with Jinja2 as Hugging Face transformers sets it up, and writes cases.json:
what each gives, or that it fails and with what words.

    apt-get install python3-jinja2; tests/vectors/jinja/make.py

source.json holds one context for all templates. Run again after adding templates; commit both files."""
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent


class Generation(jinja2.ext.Extension):
    """{% generation %} as transformers' AssistantTracker has it, without the tracking."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime(2026, 1, 2, 3, 4, 5).strftime(form)
    return env


def main():
    source = json.loads((HERE / "source.json").read_text())
    env = environment()
    cases = []
    for template in source["templates"]:
        case = {"template": template}
        try:
            case["expected"] = env.from_string(template).render(**source["context"])
        except Exception as error:  # whatever it is, a template that fails must fail
            case["error"] = f"{type(error).__name__}: {error}"
        if "0x7" not in case.get("expected", ""):  # addresses of objects
            cases.append(case)
    text = json.dumps({"now": 1767323045, "context": source["context"], "cases": cases}, ensure_ascii=False, indent=0)
    (HERE / "cases.json").write_text(text + "\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "of them fail")


if __name__ == "__main__":
    main()
