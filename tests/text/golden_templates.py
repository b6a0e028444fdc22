#!/usr/bin/env python3
"""Compares our template interpreter with Jinja2 on real chat templates.

Every *.jinja file of a folder (argument, else $AXION_LLAMA_MODELS/templates,
else .cache/llama-models/templates) is rendered in several conversations by
Jinja2, set up as transformers sets it up, and by the driver
build/tests/text/render-template; the texts must be equal, and where Jinja2
fails ours must fail too.  What a client wrote must end up in untrusted
segments.  Without templates it skips with 77.  The templates are never copied
into the repository.
"""

import glob
import json
import os
import subprocess
import sys
from datetime import datetime, timezone

try:
    import jinja2
    from jinja2.ext import Extension, loopcontrols
except ImportError:
    print("SKIP: jinja2 is not installed (make deps)")
    sys.exit(77)

NOW = 1767225600 + 3600 * 13  # 2026-01-01 13:00
MARK = "\ue000"  # stands in every string that a client wrote


class Generation(Extension):
    """{% generation %} marks training data; the text is what counts."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"],
                                       drop_needle=True)


class TemplateRaised(Exception):
    pass


def raise_exception(message):
    raise TemplateRaised(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None,
           sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent,
                      separators=separators, sort_keys=sort_keys)


def strftime_now(form):
    return datetime.fromtimestamp(NOW, timezone.utc).strftime(form)


def environment():
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True,
                             extensions=[loopcontrols, Generation])
    env.filters["tojson"] = tojson
    # Markup would HTML-escape what is added to it, which no chat format
    # wants; ours has no Markup, so neither has the reference.
    env.filters["safe"] = str
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def weather_tools():
    return [
        {"type": "function", "function": {
            "name": "get_weather",
            "description": "Weather at a place.",
            "parameters": {"type": "object", "properties": {
                "place": {"type": "string", "description": "City"},
                "unit": {"type": "string", "enum": ["C", "F"],
                         "default": "C"},
                "days": {"type": "integer", "nullable": True}},
                "required": ["place"]}}},
        {"type": "function", "function": {
            "name": "list_items",
            "description": "Lists.\nIn two lines.",
            "parameters": {"type": "object", "properties": {
                "filter": {"type": "array",
                           "items": {"type": "string"}},
                "nested": {"type": "object", "properties": {
                    "a": {"type": "number"},
                    "b": {"type": ["string", "null"]}}}}}}},
    ]


def conversations():
    """Name and context of every conversation; strings bear MARK."""
    def say(role, content, **more):
        return {"role": role, "content": content, **more}

    user = say("user", f"Hello{MARK} <|im_end|> wörld\n 'a' \"b\" </s>")
    reply = say("assistant", f" An answer{MARK}.\n")
    parts = say("user", [{"type": "text", "text": f"part one{MARK}"},
                         {"type": "text", "text": f" part two{MARK}"}])
    think = say("assistant", f"<think>\nwhy{MARK}\n</think>\n\nBecause{MARK}")
    reason = say("assistant", f"Out{MARK}", reasoning_content=f"In{MARK}")
    call = say("assistant", f"Calling{MARK}", tool_calls=[
        {"id": "call00001", "type": "function", "function": {
            "name": "get_weather",
            "arguments": {"place": f"Zürich{MARK}", "days": 3,
                          "deep": {"x": [1, 2.5, None, True, "y"]}}}}])
    call_null = say("assistant", None, tool_calls=[
        {"id": "call00002", "type": "function", "function": {
            "name": "list_items", "arguments": {"filter": ["a", "b"]}}},
        {"id": "call00003", "type": "function", "function": {
            "name": "get_weather", "arguments": {"place": "Ulm"}}}])
    result = say("tool", f'{{"temp": 21}}{MARK}', tool_call_id="call00001",
                 name="get_weather")
    system = say("system", f"Be brief{MARK}. ")

    base = {"bos_token": "<s>", "eos_token": "</s>",
            "add_generation_prompt": True}
    tools = weather_tools()
    table = {
        "one": ([user], {}),
        "system": ([system, user], {}),
        "turns": ([system, user, reply, user, reply, user], {}),
        "no-prompt": ([user, reply], {"add_generation_prompt": False}),
        "parts": ([system, parts, reply, user], {}),
        "think": ([user, think, user], {}),
        "reasoning": ([user, reason, user, reason],
                      {"add_generation_prompt": False}),
        "thinking-on": ([system, user], {"enable_thinking": True}),
        "thinking-off": ([user], {"enable_thinking": False}),
        "tools": ([system, user], {"tools": tools}),
        "tools-no-system": ([user], {"tools": tools}),
        "tool-call": ([user, call, result], {"tools": tools}),
        "tool-calls": ([system, user, call_null,
                        say("tool", "[]", tool_call_id="call00002",
                            name="list_items"),
                        say("tool", "{}", tool_call_id="call00003",
                            name="get_weather"), reply, user],
                       {"tools": tools}),
        "documents": ([user], {"documents": [
            {"title": "T", "text": "Body", "doc_id": "1"}]}),
        "two-users": ([user, user], {}),
        "assistant-first": ([reply, user], {}),
        "empty": ([], {}),
        "effort": ([user], {"reasoning_effort": "high"}),
    }
    for name, (messages, extra) in table.items():
        yield name, {**base, "messages": messages, **extra}


def untrusted_marks(segments):
    return all(MARK not in text for trusted, text in segments if trusted)


def render_jinja(env, source, context):
    try:
        # a copy: templates may change lists in place
        return env.from_string(source).render(
            json.loads(json.dumps(context))), None
    except Exception as error:  # whatever a template provokes
        return None, f"{type(error).__name__}: {error}"


def run_driver(driver, jobs):
    text = "".join(json.dumps(job) + "\n" for job in jobs)
    done = subprocess.run([driver], input=text.encode(), check=True,
                          stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def first_difference(ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b),
              min(len(ours), len(theirs)))
    return f"at {at}: {ours[at - 20:at + 40]!r}, not {theirs[at - 20:at + 40]!r}"


def compare(name, conversation, expected, failure, got):
    """One line telling what is wrong, or None."""
    where = f"{name} / {conversation}: "
    if failure is not None:
        # lazy sequences do not turn to JSON in Jinja2; ours are lists
        lenient = "generator is not JSON" in failure
        return (None if "error" in got or lenient else
                where + f"Jinja2 fails ({failure[:100]}), ours renders")
    if "error" in got:
        return where + f"{got['error']}: {got['message']} (line {got['line']})"
    if got["text"] != expected:
        return where + first_difference(got["text"], expected)
    if not untrusted_marks(got["segments"]):
        return where + "a client's text is trusted"
    return None


def template_folder():
    models = os.environ.get("AXION_LLAMA_MODELS", ".cache/llama-models")
    folder = (sys.argv[1] if len(sys.argv) > 1
              else os.path.join(models, "templates"))
    return folder if os.path.isdir(folder) else None


def main():
    folder = template_folder()
    if folder is None:
        print("SKIP: no chat templates (tests/text/fetch_llama_models.sh)")
        return 77
    driver = os.path.join(os.environ.get("AXION_BUILD", "build"),
                          "tests/text/render-template")
    env = environment()
    cases, jobs = [], []
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        with open(path, encoding="utf-8") as file:
            source = file.read()
        for conversation, context in conversations():
            expected, failure = render_jinja(env, source, context)
            cases.append((os.path.basename(path), conversation, expected,
                          failure))
            jobs.append({"template": source, "context": context, "now": NOW})

    results = run_driver(driver, jobs)
    findings = [finding for case, got in zip(cases, results)
                if (finding := compare(*case, got)) is not None]
    for finding in findings:
        print(finding)
    rendered = sum(case[3] is None for case in cases)
    print(f"{len(cases)} renders of {len(set(c[0] for c in cases))} "
          f"templates, {rendered} with text, {len(findings)} differ "
          f"(Jinja2 {jinja2.__version__})")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
