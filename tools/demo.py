"""The body of tools/demo.sh: starts the stack, lets curl stream one chat, shows
the tokens as they come and what they took."""

import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import stack  # noqa: E402

MODEL = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2"
PROMPT = "Explain in a few sentences why the sky is blue."


def say(text=""):
    if os.environ.get("QUIET", "") in ("", "0"):
        print(text, flush=True)


def stream_chat(url, prompt):
    """Runs curl -N and prints what it streams; the figures of the answer."""
    body = {"model": NAME, "stream": True, "max_tokens": 160, "seed": 1,
            "temperature": 0.7, "top_p": 0.9,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": prompt}]}
    argv = ["curl", "-sSN", "--fail-with-body",
            url + "/v1/chat/completions", "-H",
            "Content-Type: application/json", "-d", json.dumps(body)]
    say("$ curl -N " + url + "/v1/chat/completions -d '" + json.dumps(body)
        + "'\n")
    sent = time.monotonic()
    first = last = None
    usage, lines = None, []
    with subprocess.Popen(argv, stdout=subprocess.PIPE,
                          text=True) as curl:
        for line in curl.stdout:
            if not line.startswith("data: "):
                lines.append(line)
                continue
            if line.strip() == "data: [DONE]":
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise stack.StackError(event["error"]["message"])
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text = choice["delta"].get("content")
                if text:
                    last = time.monotonic()
                    first = first or last
                    print(text, end="", flush=True)
    print(flush=True)
    if curl.returncode != 0 or usage is None or first is None:
        raise stack.StackError("no answer from curl: " + "".join(lines))
    return usage, first - sent, last - first


def report(usage, ttft, decode):
    n = usage["completion_tokens"]
    rate = (n - 1) / decode if n > 1 and decode > 0 else 0
    print(f"\nusage: {usage['prompt_tokens']} prompt tokens, {n} completion "
          f"tokens\ntime to first token: {ttft * 1000:.0f} ms"
          f"\ntokens per second: {rate:.1f}", flush=True)


def hints(running):
    say(f"""
What to try next:
  KEEP=1 make demo                 the same, and it stays up
  PROMPT='What is the capital of Italy?' make demo
  {os.path.relpath(stack.build_path('axion'))} chat {MODEL}
  docs/getting-started.md          your own nginx, keys, systemd""")
    if running is None:
        return
    print(f"""
Running until you stop it:
  curl -s {running.url}/status
  curl -s {running.url}/metrics
  curl -N {running.url}/v1/completions -H 'Content-Type: application/json' \\
       -d '{{"model": "{NAME}", "prompt": "Once upon a time", "stream": true}}'
  stop: kill {running.nginx.pid} {running.engine.pid}
Logs and nginx.conf: {running.folder}""", flush=True)


def main():
    keep = os.environ.get("KEEP", "") not in ("", "0")
    stays = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    folder = stack.build_path("demo")
    demo = stack.Stack(folder, MODEL, ["--alias", NAME], keep=keep)
    say(f"Starting axiond and an nginx of its own under {folder} …")
    try:
        demo.start()
        say(f"Ready after {demo.ready_s:.2f} s on {demo.url}.\n")
        report(*stream_chat(demo.url, os.environ.get("PROMPT") or PROMPT))
        hints(demo if keep else None)
        stays = keep
    except stack.StackError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not stays:
            demo.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
