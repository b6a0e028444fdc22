"""Tenants and remotes: what a call may use, what it is charged, and that no
bound of a tenant ends where a remote begins, whatever that says of itself."""

import hashlib
import json

import fake_remote
import rig
from fake_remote import chunk, event, whole, words
from test_remote import Remotes

KEY = hashlib.sha256(b"key-of-acme").hexdigest()


class Tenant(Remotes):
    """Everything is acme's."""

    def ask(self, text="a b c", **fields):
        client = self.client()
        client.chat(text, headers=["Authorization: Bearer key-of-acme"],
                    **fields)
        return client

    def complete(self, prompt, **fields):
        client = self.client()
        client.send("POST", "/v1/completions", json.dumps(
            {"model": "echo", "prompt": prompt, **fields}).encode(),
            headers=["Authorization: Bearer key-of-acme"])
        return client

    def figure(self, name):
        return next(v for k, v in self.nginx.metrics().items()
                    if k.startswith(name))

    def refused(self, client):
        status, _, error = self.error(client)
        self.assertEqual((status, error["code"]),
                         (400, "context_length_exceeded"))
        return error

    def lines(self, words):
        return self.nginx.text().count(words)


class Limits(Tenant):
    HTTP = "axion_limit_state {dir}/limits;"
    TENANTS = f"axion_tenant acme {{ key sha256:{KEY}; budget 1000/mo; }}"

    def configure(self):
        self.HTTP = self.HTTP.format(dir=self.dir)
        super().configure()

    def left(self, client):
        return int(client.whole()[1]["x-ratelimit-remaining-tokens"])

    def test_charged_is_what_the_remote_says(self):
        def script(c, _head, _body):
            c.stream(words("a", prompt=100, completion=50))
        self.script(script)
        self.start()
        self.assertEqual(self.ask().stream()[0], "a")
        balance = self.nginx.metrics()
        used = [v for k, v in balance.items()
                if k.startswith("axion_tenant_") and "tokens_total" in k]
        self.assertIn(100, used)
        self.assertIn(50, used)
        # what is left goes to the remote as the bound of its answer
        self.ask().stream()
        bound = self.remote.requests[1][1]["max_tokens"]
        self.assertLessEqual(bound, 1000 - 150)
        self.assertGreater(bound, 600)

    def test_the_last_token(self):
        def script(c, _head, body):
            c.stream(words("a", finish="length", prompt=400,
                           completion=body["max_tokens"]))
        self.script(script)
        self.start()
        got = self.events(self.ask(max_tokens=5000))
        last = [e for e in got if e["choices"]][-1]
        self.assertEqual(last["choices"][0]["finish_reason"], "length")
        self.assertEqual(last["incomplete_details"]["reason"],
                         "insufficient_quota")
        self.assertEqual(self.error(self.ask())[0], 429)

    def test_names_that_clients_make_up_are_no_labels(self):
        self.LINE = "remote vllm models=listed,made*;"
        self.configure()
        self.start()
        for name in ("made-up", "listed", "listed"):
            self.assertEqual(self.ask("a", model=name).stream()[0], "a")
        models = {k.split('model="')[1].split('"')[0]
                  for k in self.nginx.metrics()
                  if k.startswith("axion_usage_") and 'model="' in k}
        self.assertEqual(models - {"listed"}, {""})

    def test_many_answers_share_what_is_left(self):
        """max_tokens bounds each of them."""
        self.start()
        self.ask(n=10, n_predict=9999, max_tokens=500).stream()
        body = self.remote.requests[0][1]
        self.assertEqual(body["n"], 10)
        self.assertNotIn("n_predict", body)
        self.assertLess(body["max_tokens"], 1000 / 10)
        self.assertGreater(body["max_tokens"], 80)
        status, _, error = self.error(self.ask(n=1024))
        self.assertEqual((status, error["code"]), (429, "insufficient_quota"))
        self.assertEqual(len(self.remote.requests), 1)

    def test_a_client_that_leaves_with_the_last_event(self):
        """It is charged what the remote has told, though the end of its
        coding is not there yet."""
        def script(c, _head, _body):
            c.head()
            c.piece(words("a", prompt=100, completion=50))
            c.closed()
            return True
        self.script(script)
        self.start()
        client = self.ask()
        client.until(b"[DONE]")
        client.close()
        self.assertEqual(self.seen()[0][2:6], ["100", "2", "50", "stop"])
        figures = self.nginx.metrics()
        self.assertEqual(figures["axion_cancels_total"], 0)
        self.assertIn(50, [v for k, v in figures.items() if k.startswith(
            "axion_tenant_") and "tokens_total" in k])

    def test_a_failure_costs_nothing(self):
        self.script(lambda c, _h, _b: c.json({}, 500))
        self.start()
        for _ in range(5):
            self.assertEqual(self.error(self.ask())[0], 502)
        self.script(fake_remote.answer)
        self.ask().stream()
        self.assertGreater(self.remote.requests[-1][1]["max_tokens"], 900)

    def test_usage_that_cannot_be(self):
        """Neither empties the balance, nor tells the client so."""
        def script(c, _head, body):
            numbers = {"prompt": 4000000000, "completion": 4000000000}
            if body["stream"]:
                c.stream(words("a", **numbers))
            else:
                c.json(whole("a", **numbers))
        self.script(script)
        self.TENANTS = self.TENANTS.replace("1000/mo", "100k/mo")
        self.configure()
        self.start()
        asked = {"max_tokens": 5, "n": 2}
        got = self.events(self.ask(stream_options={"include_usage": True},
                                   **asked))
        told = [e["usage"] for e in got if e["usage"]]
        self.assertEqual(len(told), 1)
        self.assertEqual(told[0]["completion_tokens"], 10)
        self.assertLess(told[0]["prompt_tokens"], 4096 + 300)
        body = json.loads(self.ask(stream=False, **asked).whole()[2])
        self.assertEqual(body["usage"]["completion_tokens"], 10)
        self.assertLess(body["usage"]["total_tokens"], 4096 + 300)
        self.assertEqual(self.figure("axion_remote_usage_bounded_total"), 2)
        self.assertEqual(self.lines("more than the request can have used"), 1)
        self.script(fake_remote.answer)
        self.ask().stream()
        self.assertGreater(self.remote.requests[-1][1]["max_tokens"], 8000)

    def short(self):
        """Twenty chunks of text, and usage of one token."""
        def script(c, _head, body):
            numbers = {"prompt": 1, "completion": 1, "cached": 1}
            if body["stream"]:
                c.stream(words(*["word "] * 20, **numbers))
            else:
                c.json(whole("other words " * 30, **numbers))
        self.script(script)
        self.TENANTS = self.TENANTS.replace("1000/mo", "100k/mo")
        self.configure()
        self.start()

    def test_usage_that_is_too_little(self):
        """What is proved is charged, and told to the client."""
        self.short()
        text = "some words of a prompt " * 70  # 100 times 16 bytes
        got = self.events(self.ask(text, stream_options={
            "include_usage": True}))
        told = [e["usage"] for e in got if e["usage"]]
        self.assertEqual([(u["prompt_tokens"], u["completion_tokens"])
                          for u in told], [(100, 20)])
        body = json.loads(self.ask(text, stream=False).whole()[2])
        self.assertEqual((body["usage"]["prompt_tokens"],
                          body["usage"]["completion_tokens"]), (100, 22))
        used = self.seen(2)
        self.assertEqual([(u[2], u[4]) for u in used],
                         [("100", "20"), ("100", "22")])
        self.assertEqual(self.figure("axion_remote_usage_raised_total"), 2)
        self.assertEqual(self.lines("less than the request must have used"),
                         1)
        figures = self.nginx.metrics()
        charged = [v for k, v in figures.items() if k.startswith(
            "axion_tenant_") and "tokens_total" in k]
        self.assertIn(200, charged)
        self.assertIn(42, charged)

    def test_a_server_that_is_believed(self):
        self.LINE = "remote vllm usage_floor=off;"
        self.short()
        self.ask("some words of a prompt " * 70).stream()
        self.assertEqual(self.seen()[0][2:5], ["1", "1", "1"])
        self.assertEqual(self.figure("axion_remote_usage_raised_total"), 0)

    def test_usage_for_forms_sake(self):
        def script(c, _head, _body):
            c.stream(event(chunk({"content": "a"}))
                     + event(chunk({}, "stop")) + event(chunk(usage={}))
                     + event("[DONE]"))
        self.script(script)
        self.start()
        self.assertEqual(self.ask().stream(), ("a", None, True))
        self.nginx.wait("are an estimate")


class Context(Tenant):
    TENANTS = f"axion_tenant acme {{ key sha256:{KEY}; max_context 200; }}"

    def test_a_prompt_that_is_too_long(self):
        self.start()
        self.refused(self.ask("word " * 200))
        self.refused(self.ask("word " * 200, tools=[{"type": "function"}]))
        self.assertEqual(self.remote.requests, [])

    def test_the_rest_bounds_the_answer(self):
        self.start()
        for fields in ({}, {"max_tokens": 5000}, {"n": 2, "max_tokens": 500}):
            self.assertEqual(self.ask(**fields).stream()[0], "abc")
            bound = self.remote.requests[-1][1]["max_tokens"]
            self.assertLess(bound, 200 - 32)
            self.assertGreater(bound, 80)
        self.ask(max_tokens=7).stream()
        self.assertEqual(self.remote.requests[-1][1]["max_tokens"], 7)

    def test_tokens_are_counted(self):
        self.script(lambda c, _h, _b: c.json(
            {**whole("a"), "object": "text_completion", "choices": [
                {"index": 0, "text": "a", "finish_reason": "stop"}]}))
        self.start()
        self.refused(self.complete([1] * 200))
        self.assertEqual(self.complete([1] * 190).whole()[0], 200)
        self.assertEqual(self.remote.requests[0][1]["max_tokens"], 10)
        self.refused(self.complete([[1] * 100] * 2))
        self.assertEqual(self.complete([[123456] * 95] * 2).whole()[0], 200)
        self.assertEqual(self.remote.requests[1][1]["max_tokens"], 10)

    def test_pictures_are_no_text(self):
        self.TENANTS = self.TENANTS.replace("200", "4000")
        self.configure()
        self.start()
        for n, status in ((1, 200), (4, 400)):
            parts = [{"type": "image_url", "image_url": {
                "url": "data:image/png;base64," + "A" * 100000}}] * n
            client = self.client()
            client.send("POST", "/v1/chat/completions", json.dumps({
                "model": "echo", "stream": False, "messages": [
                    {"role": "user", "content": parts}]}).encode(),
                headers=["Authorization: Bearer key-of-acme"])
            self.script(lambda c, _h, _b: c.json(whole("a")))
            self.assertEqual(client.whole()[0], status)

    def test_text_by_other_names(self):
        """Servers read it; beside a picture, token ids or the content."""
        text = "word " * 2000
        self.TENANTS = self.TENANTS.replace("200", "3000")
        self.LINE = self.LINE.replace("200", "3000")
        self.configure()
        self.start()
        for message in (
                {"content": [{"type": "image_url", "image_url": "data:,"},
                             {"type": "input_text", "text": text}]},
                {"content": "x", "reasoning_content": text}):
            client = self.client()
            client.send("POST", "/v1/chat/completions", json.dumps({
                "model": "echo", "messages": [{"role": "user", **message}]
            }).encode(), headers=["Authorization: Bearer key-of-acme"])
            self.refused(client)
        self.refused(self.complete([1], suffix=text))
        self.assertEqual(self.remote.requests, [])

    def test_text_that_is_denser_is_told_of(self):
        self.script(lambda c, _h, _b: c.stream(words("a", prompt=199)))
        self.start()
        for _ in range(2):
            self.assertEqual(self.ask().stream()[0], "a")
        self.assertEqual(self.figure("axion_remote_context_passed_total"), 2)
        self.assertEqual(self.lines("beyond max_context"), 1)

    def test_bytes_as_tokens(self):
        """Then nothing can pass it."""
        self.LINE = "remote vllm bytes_per_token=1;"
        self.configure()
        self.start()
        self.refused(self.ask("x" * 170))
        self.assertEqual(self.ask("x" * 20).stream()[0], "x" * 20)


class Bounded(Context):
    """The server's own context, which its line tells."""

    LINE = "remote vllm context=200;"
    TENANTS = f"axion_tenant acme {{ key sha256:{KEY}; }}"

    def test_text_that_is_denser_is_told_of(self):
        self.script(lambda c, _h, _b: c.stream(words("a", prompt=500)))
        self.start()
        got = self.events(self.ask(stream_options={"include_usage": True}))
        self.assertEqual(got[-1]["usage"]["prompt_tokens"], 200)
        self.assertEqual(self.figure("axion_remote_usage_bounded_total"), 1)

    def test_pictures_are_no_text(self):
        self.LINE = self.LINE.replace("200", "4000")
        super().test_pictures_are_no_text()

    def test_bytes_as_tokens(self):
        self.LINE = "remote vllm bytes_per_token=1 context=200;"
        self.configure()
        self.start()
        self.refused(self.ask("x" * 170))


class Two(Tenant):
    """Another server has more room."""

    TENANTS = f"axion_tenant acme {{ key sha256:{KEY}; }}"
    LINE = "remote vllm context=200; remote large backup;"

    def setUp(self):
        self.large = fake_remote.Remote()
        self.addCleanup(self.large.close)
        self.HTTP = f"upstream large {{ server 127.0.0.1:{self.large.port}; }}"
        super().setUp()

    def test_a_prompt_that_is_too_long(self):
        self.start()
        self.assertEqual(self.ask("word" * 300).stream()[0], "word" * 300)
        self.assertEqual((len(self.remote.requests),
                          len(self.large.requests)), (0, 1))

    def test_the_server_counts(self):
        """The one that does refuses, the other answers."""
        def script(c, _head, _body):
            c.json({"error": {"message": "This model's maximum context length "
                              "is 9 tokens."}}, 400)
        self.script(script)
        self.start()
        self.assertEqual(self.ask().stream()[0], "abc")
        self.large.script = script
        error = self.refused(self.ask())
        self.assertIn("is 9 tokens", error["message"])


class Engine(Tenant):
    """What an engine has counted holds for a remote."""

    LINE = "remote vllm backup bytes_per_token=16;"
    ENGINE = "yes"
    TENANTS = f"axion_tenant acme {{ key sha256:{KEY}; max_context 90; }}"

    def test_too_long_for_the_tenant(self):
        self.echo.start()
        self.nginx.start()
        self.nginx.wait("connected to engine", self.WORKERS)
        self.refused(self.ask("x" * 400))
        self.assertEqual(self.remote.requests, [])


if __name__ == "__main__":
    rig.main()
