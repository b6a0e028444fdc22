"""A real remote: PyPI's llama_cpp.server behind `remote`.  Answers, usage and
a tenant's balance are what the server itself says, connections that it closes
make no 502, and an engine that is away or full overflows to it."""

import hashlib
import json
import os
import subprocess
import sys
import urllib.request

import base

sys.path.insert(0, os.path.join(base.ROOT, "tests", "nginx"))
import rig  # noqa: E402

PYTHON = os.path.join(base.ROOT, ".cache", "llama", "bin", "python")
KEY = "Authorization: Bearer key-of-acme"


def need_server():
    """Exits with 77 where there is no server or no model."""
    base.need_stack()
    found = os.path.exists(PYTHON) and subprocess.run(
        [PYTHON, "-c", "import llama_cpp.server.app"], check=False,
        capture_output=True).returncode == 0
    if not found:
        print("skipped: llama_cpp.server is not there: tools/llama.sh builds "
              "it from source in some ten minutes, PyPI has no wheel of it")
        sys.exit(base.SKIPPED)


class Server:
    """One for all tests: it takes a second to load."""

    def __init__(self):
        self.port = rig.free_port()
        self.process = subprocess.Popen(
            [PYTHON, "-m", "llama_cpp.server", "--model",
             os.environ["AXION_MODEL"], "--host", "127.0.0.1", "--port",
             str(self.port), "--n_ctx", "512", "--n_threads", "1",
             "--api_key", "sk-llama"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rig.wait_until(self.answers, "llama_cpp.server")

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("llama_cpp.server ended")
        try:
            return self.ask("/v1/models")
        except OSError:
            return None

    def ask(self, path, body=None):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            body and json.dumps(body).encode(),
            {"Content-Type": "application/json",
             "Authorization": "Bearer sk-llama"})
        with urllib.request.urlopen(request, timeout=rig.HANG) as answer:
            return json.load(answer)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Llama(rig.Test):
    ENGINE = ""
    LINE = "remote llama key=sk-llama;"
    BUDGET = 100000

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        super().setUp()
        engine = self.ENGINE and f"engine unix:{self.echo.path};"
        key = hashlib.sha256(b"key-of-acme").hexdigest()
        self.nginx.write(
            http=f"""
            upstream llama {{ server 127.0.0.1:{self.server.port};
                keepalive 4; }}
            axion_upstream llm {{ {engine} {self.LINE} }}
            axion_timeout connect=60s accept=60s;
            axion_limit_state {self.dir}/limits;
            """,
            server=f"""
            axion_tenant acme {{ key sha256:{key}; budget {self.BUDGET}/d; }}
            location /v1/ {{ axion_pass llm; }}
            location = /metrics {{ axion_metrics; }}
            """)
        self.nginx.start()

    def body(self, text, **fields):
        return {"model": "echo", "temperature": 0, "max_tokens": 8,
                "messages": [{"role": "user", "content": text}], **fields}

    def ask(self, text, **fields):
        client = self.client()
        client.send("POST", "/v1/chat/completions", json.dumps(
            self.body(text, **fields)).encode(), [KEY])
        return client

    def used(self):
        return {name: int(sum(
            v for k, v in self.nginx.metrics().items()
            if k.startswith(f"axion_usage_{name}_total{{")))
            for name in ("requests", "prompt_tokens", "completion_tokens")}

    def test_the_same_answers_and_the_same_numbers(self):
        pieces = 0
        for i in range(3):
            text = f"Count to {i + 3}"
            theirs = self.server.ask("/v1/chat/completions", self.body(text))
            status, _, body = self.ask(text).whole()
            self.assertEqual(status, 200, body)
            ours = json.loads(body)
            self.assertEqual(ours["usage"], theirs["usage"])
            self.assertEqual(ours["choices"], theirs["choices"])
            # streamed: the server tells no usage, pieces are counted
            got, error, done = self.ask(text, stream=True).stream()
            self.assertEqual((got, error, done), (
                theirs["choices"][0]["message"]["content"], None, True))
            pieces += 2 * ours["usage"]["completion_tokens"]
        rig.wait_until(lambda: self.used()["requests"] == 6, "the counters")
        self.assertEqual(self.used()["completion_tokens"], pieces)

    def test_closed_connections_cost_nothing(self):
        for i in range(20):
            status, _, body = self.ask("Hi", max_tokens=1,
                                       stream=i % 2 == 0).whole()
            self.assertEqual(status, 200, body)

    def test_charged_is_what_it_says(self):
        prompt = completion = 0
        for _ in range(3):
            _, _, body = self.ask("Hello").whole()
            usage = json.loads(body)["usage"]
            prompt += usage["prompt_tokens"]
            completion += usage["completion_tokens"]
        rig.wait_until(lambda: self.used()["requests"] == 3, "the counters")
        self.assertEqual(self.used(), {
            "requests": 3, "prompt_tokens": prompt,
            "completion_tokens": completion})

    def test_its_errors(self):
        status, _, body = self.ask("x " * 2000).whole()
        error = json.loads(body)["error"]
        self.assertEqual(status, 400)
        self.assertIn("context", error["message"])

    def test_a_client_that_leaves(self):
        client = self.ask("Count to 1000", stream=True, max_tokens=300)
        client.until(b'"content"')
        client.close()
        self.assertEqual(self.ask("Hello").whole()[0], 200)


class Bounded(Llama):
    BUDGET = 300

    def test_bounded_by_what_is_left(self):
        """Never more than the tenant has, and 429 when that is used up."""
        total = 0
        for _ in range(20):
            status, _, body = self.ask("Tell me a long story",
                                       max_tokens=100).whole()
            answer = json.loads(body)
            if status == 429:
                break
            self.assertEqual(status, 200, body)
            total += answer["usage"]["total_tokens"]
            self.assertLessEqual(total, self.BUDGET)
        self.assertEqual(answer["error"]["code"], "insufficient_quota")


class Overflow(Llama):
    ENGINE = "yes"
    LINE = "remote llama backup key=sk-llama;"

    def test_from_an_engine_that_comes_and_goes(self):
        self.assertEqual(self.ask("Hello").whole()[0], 200)
        self.echo.start()
        self.nginx.wait("connected to engine")
        _, _, body = self.ask("here").whole()
        self.assertEqual(
            json.loads(body)["choices"][0]["message"]["content"], "here")
        self.echo.kill()
        self.nginx.wait("lost engine")
        _, _, body = self.ask("here").whole()
        self.assertEqual(json.loads(body)["usage"], self.server.ask(
            "/v1/chat/completions", self.body("here"))["usage"])


for name in [n for n in dir(Llama) if n.startswith("test_")]:
    setattr(Bounded, name, None)  # once is enough
    setattr(Overflow, name, None)


if __name__ == "__main__":
    need_server()
    rig.main()
