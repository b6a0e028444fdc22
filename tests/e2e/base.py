"""What the end-to-end tests share: one engine with SmolLM2 and one nginx per
test file, and a client that sees every byte of an answer.

A file that runs without the model is skipped aloud (exit 77).  Everything is loopback, and every wait is for an event.
"""

import http.client
import json
import os
import sys
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
import stack  # noqa: E402

NAME = "smollm2"
SKIPPED = 77


def need_stack():
    """Exits with 77 without the model; not built is a failure."""
    if not os.environ.get("AXION_MODEL"):
        print("skipped: AXION_MODEL is not set (make model fetches it)")
        sys.exit(SKIPPED)
    for file in ("axiond", "ngx_http_axion_module.so"):
        if not os.path.exists(stack.build_path(file)):
            sys.exit(f"{stack.build_path(file)} is not built")


def main():
    need_stack()
    unittest.main(verbosity=2)


class StackTest(unittest.TestCase):
    """One stack for all tests of a class; its folder keeps the logs."""

    OPTIONS = []
    SETTINGS = {}
    STACK = stack.Stack

    @classmethod
    def setUpClass(cls):
        cls.stack = cls.STACK(
            stack.build_path("e2e/" + cls.__name__),
            os.environ["AXION_MODEL"], ["--alias", NAME, *cls.OPTIONS],
            **cls.SETTINGS)
        try:
            cls.stack.start()
        except BaseException:
            cls.stack.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.stop()

    def post(self, path, body, headers=None, timeout=120):
        return Answer(self.stack.port, path, body, headers, timeout)

    def complete(self, prompt, **fields):
        """The answer's JSON of one completion that is not streamed."""
        body = {"model": NAME, "prompt": prompt, **fields}
        answer = self.post("/v1/completions", body)
        text = answer.read()
        self.assertEqual(answer.status, 200, text)
        return json.loads(text)

    def text(self, prompt, **fields):
        return self.complete(prompt, **fields)["choices"][0]["text"]

    def assert_serves(self):
        """The next ordinary request is answered."""
        result = self.complete("The capital of France is", max_tokens=4,
                               temperature=0)
        self.assertEqual(result["usage"]["completion_tokens"], 4)


class Answer:
    """One request over its own connection, read as it comes."""

    def __init__(self, port, path, body, headers=None, timeout=120,
                 method="POST"):
        self.connection = http.client.HTTPConnection("127.0.0.1", port,
                                                     timeout=timeout)
        if not isinstance(body, bytes) and body is not None:
            body = json.dumps(body).encode()
        self.connection.request(
            method, path, body,
            {"Content-Type": "application/json", **(headers or {})})
        self.response = None

    def head(self):
        if self.response is None:
            self.response = self.connection.getresponse()
        return self.response

    @property
    def status(self):
        return self.head().status

    def read(self):
        data = self.head().read()
        self.connection.close()
        return data

    def close(self):
        """Hangs up, whatever is still to come."""
        if self.connection.sock is not None:
            self.connection.sock.close()
        if self.response is not None:
            self.response.close()
        self.connection.close()

    def events(self):
        """Each `data:` of the stream as it arrives; fails on anything that
        is neither an event, a comment nor a blank line."""
        for line in self.head():
            line = line.rstrip(b"\r\n")
            if line == b"" or line.startswith(b":"):
                continue
            if not line.startswith(b"data: "):
                raise AssertionError(f"not an event: {line!r}")
            yield line[6:]

    def stream(self):
        """(text, last event's finish reason, usage, error) of a completion
        or chat stream, all of it checked."""
        text, reason, usage, error, done = "", None, None, None, 0
        for data in self.events():
            if done:
                raise AssertionError(f"{data!r} after [DONE]")
            if data == b"[DONE]":
                done = 1
                continue
            event = json.loads(data)
            if "error" in event:
                error = event["error"]
                continue
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                delta = choice.get("delta")
                piece = choice["text"] if delta is None \
                    else delta.get("content")
                if piece and reason:
                    raise AssertionError("text after the finish reason")
                text += piece or ""
                reason = choice["finish_reason"] or reason
        self.connection.close()
        if done != (error is None):
            raise AssertionError(f"{done} [DONE], error {error}")
        return text, reason, usage, error
