"""Remotes: what they are asked, what clients get of their answers, and that
nothing they say or leave unsaid harms a client, a tenant's balance or the
worker."""

import json
import signal
import socket
import ssl
import threading

import fake_remote
import rig
from fake_remote import chunk, event, usage, whole, words


class Remotes(rig.Test):
    """An echo engine that is not started, and one remote."""

    LINE = "remote vllm;"
    ENGINE = ""
    UPSTREAM = "keepalive 4;"
    TENANTS = ""
    TIMES = "connect=5s accept=60s stall=60s"

    def setUp(self):
        super().setUp()
        self.remote = fake_remote.Remote()
        self.addCleanup(self.remote.close)
        self.configure()

    def servers(self):
        return f"server 127.0.0.1:{self.remote.port} max_fails=0;"

    def configure(self):
        engine = self.ENGINE and f"engine unix:{self.echo.path};"
        self.nginx.write(
            http=f"""
            log_format seen '$axion_tenant|$axion_model|$axion_prompt_tokens|'
                '$axion_cached_tokens|$axion_completion_tokens|'
                '$axion_finish_reason|$axion_engine|$status|$upstream_status';
            access_log {self.dir}/seen.log seen;
            upstream vllm {{ {self.servers()} {self.UPSTREAM} }}
            axion_upstream llm {{ {engine} {self.LINE} }}
            axion_timeout {self.TIMES};
            """ + self.HTTP, server=self.TENANTS + self.SERVER)

    def start(self):
        self.nginx.start()

    def script(self, function):
        self.remote.script = function

    def ask(self, text="a b c", **fields):
        client = self.client()
        client.chat(text, headers=["Authorization: Bearer sk-client"],
                    **fields)
        return client

    def error(self, client):
        status, headers, body = client.whole()
        return status, headers, json.loads(body)["error"]

    def events(self, client):
        status, _, body = client.whole()
        self.assertEqual(status, 200, body)
        return [json.loads(e[6:]) for e in body.decode().split("\n\n")
                if e.startswith("data: {")]

    def seen(self, n=1):
        def lines():
            with open(self.dir + "/seen.log", encoding="utf-8") as f:
                text = f.read().splitlines()
            return text if len(text) >= n else None
        return [x.split("|") for x in rig.wait_until(lines, "the access log")]


class Asked(Remotes):
    LINE = "remote vllm model=their-name key=sk-remote;"

    def test_body_and_head(self):
        self.start()
        text, error, done = self.ask(
            "a b", temperature=0.5, priority=9, cache_salt="x", user="u",
            stream_options={"include_usage": False}).stream()
        self.assertEqual((text, error, done), ("ab", None, True))
        head, body = self.remote.requests[0]
        self.assertEqual(body, {
            "model": "their-name", "stream": True, "temperature": 0.5,
            "stream_options": {"include_usage": True}, "user": "u",
            "messages": [{"role": "user", "content": "a b"}]})
        self.assertTrue(head.startswith("POST /v1/chat/completions HTTP/1.1"))
        self.assertIn("Authorization: Bearer sk-remote", head)
        self.assertNotIn("sk-client", head)

    def test_usage_is_hidden_or_shown(self):
        self.start()
        hidden = self.events(self.ask())
        self.assertTrue(all("usage" not in e for e in hidden))
        shown = self.events(self.ask(stream_options={"include_usage": True}))
        self.assertEqual(shown[-1]["usage"], usage())
        self.assertEqual(shown[-1]["choices"], [])
        for e in hidden + shown:
            self.assertEqual(e["model"], "echo")
            self.assertNotEqual(e["id"], "chatcmpl-theirs")
        self.assertEqual(self.seen(2)[0],
                         ["-", "echo", "7", "2", "3", "stop", "vllm", "200",
                          "200"])

    def test_not_streamed(self):
        self.start()
        status, _, body = self.ask("hello", stream=False).whole()
        value = json.loads(body)
        self.assertEqual(status, 200)
        self.assertEqual(value["usage"], usage())
        self.assertEqual(value["model"], "echo")
        self.assertEqual(value["choices"][0]["message"]["content"], "hello")
        self.assertNotIn("stream_options", self.remote.requests[0][1])

    def test_completions(self):
        def script(c, head, body):
            self.assertIn("POST /v1/completions", head)
            c.json({"id": "x", "object": "text_completion", "created": 1,
                    "model": "x", "usage": usage(), "choices": [
                        {"index": 0, "text": body["prompt"],
                         "finish_reason": "length", "logprobs": None}]})
        self.script(script)
        self.start()
        client = self.client()
        client.send("POST", "/v1/completions", json.dumps(
            {"model": "echo", "prompt": "abc"}).encode())
        _, _, body = client.whole()
        self.assertEqual(json.loads(body)["choices"][0]["text"], "abc")
        self.assertEqual(self.seen()[0][5], "length")

    def test_what_engines_cannot_do(self):
        """Tools, images, several choices and log probabilities go there and
        come back as they are."""
        tools = [{"type": "function", "function": {"name": "f"}}]
        calls = [{"index": 0, "id": "call_1", "type": "function",
                  "function": {"name": "f", "arguments": "{\"a\": \"\\n\"}"}}]
        logprobs = {"content": [{"token": "x", "logprob": -0.5}]}

        def script(c, _head, _body):
            first = chunk({"tool_calls": calls})
            first["choices"][0]["logprobs"] = logprobs
            c.stream(event(json.dumps(first, indent=1).replace(
                "\n", "\ndata: ")) + event(chunk({}, "tool_calls"))
                + event(chunk(usage=usage())) + event("[DONE]"))
        self.script(script)
        self.start()
        image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
        got = self.events(self.ask(image, tools=tools, n=2, logprobs=True))
        self.assertEqual(got[0]["choices"][0]["delta"]["tool_calls"], calls)
        self.assertEqual(got[0]["choices"][0]["logprobs"], logprobs)
        self.assertEqual(got[1]["choices"][0]["finish_reason"], "tool_calls")
        body = self.remote.requests[0][1]
        self.assertEqual(body["tools"], tools)
        self.assertEqual(body["n"], 2)
        self.assertEqual(body["messages"][0]["content"], image)


class Kept(Remotes):
    def test_a_connection_serves_many(self):
        self.start()
        for i in range(6):
            self.assertEqual(self.ask(stream=i % 2 == 0).whole()[0], 200)
        self.assertEqual(self.remote.connections, 1)

    def test_closes_what_it_called_kept(self):
        """llama_cpp.server's habit.  Whether nginx sees the end before it
        sends the next request or after: no 502 comes of it."""
        def script(c, head, body):
            fake_remote.answer(c, head, body)
            return True
        self.script(script)
        self.start()
        for i in range(40):
            text, error, done = self.ask("x y").stream()
            self.assertEqual((text, error, done), ("xy", None, True), i)

    def test_closes_with_the_next_request_in_hand(self):
        """Read, and then closed without a byte: only on connections that had
        been used before."""
        def script(c, head, body):
            if getattr(c, "used", False):
                return True
            c.used = True
            return fake_remote.answer(c, head, body)
        self.script(script)
        self.start()
        for i in range(20):
            text, error, done = self.ask("x y").stream()
            self.assertEqual((text, error, done), ("xy", None, True), i)
        self.assertGreater(len(self.remote.requests), 20)

    def test_the_end_of_its_coding_comes_late_or_never(self):
        def script(c, _head, _body):
            c.head()
            c.piece(words("a"))
            c.closed()
            return True
        self.script(script)
        self.start()
        client = self.ask()
        client.until(b"[DONE]")  # at once
        self.assertEqual(client.stream(), ("a", None, True))


class Errors(Remotes):
    def refused(self, status, value=None, more="", **fields):
        value = value or {"error": {"message": "no: ü", "param": "seed",
                                    "type": "x", "code": 1}}

        def script(c, _head, _body):
            c.json(value, status, more)
        self.script(script)
        return self.error(self.ask(**fields))

    def test_statuses(self):
        self.start()
        for theirs, ours, code in (
                (400, 400, "invalid_request"), (422, 400, "invalid_request"),
                (401, 502, "remote_refused"), (403, 502, "remote_refused"),
                (404, 404, "model_not_found"), (429, 503, "overloaded"),
                (500, 502, "remote_failed"), (503, 503, "overloaded"),
                (302, 502, "remote_failed"), (204, 502, "remote_failed")):
            for stream in (True, False):
                with self.subTest(theirs=theirs, stream=stream):
                    status, _, error = self.refused(theirs, stream=stream)
                    self.assertEqual((status, error["code"]), (ours, code))
                    said = theirs in (400, 422, 404)
                    self.assertEqual(error["message"] == "no: ü", said)
                    self.assertEqual(error["param"], "seed" if said else None)

    def test_retry_after(self):
        self.start()
        _, headers, _ = self.refused(429, more="Retry-After: 17\r\n")
        self.assertEqual(headers["retry-after"], "17")

    def test_error_bodies_of_others(self):
        self.start()
        for value, text in (({"detail": "d"}, None), ({"error": "e"}, "e"),
                            ({"message": "m", "object": "error"}, "m"),
                            ([1], None)):
            status, _, error = self.refused(400, value)
            self.assertEqual(status, 400)
            if text:
                self.assertEqual(error["message"], text)

    def test_nobody_there(self):
        self.remote.close()
        self.start()
        status, _, error = self.error(self.ask())
        self.assertEqual((status, error["code"]), (503, "remote_unavailable"))

    def test_error_in_a_stream(self):
        def script(c, _head, _body):
            c.head()
            c.piece(event(chunk({"content": "a"})))
            read.wait()
            c.piece(event({"error": {"message": "boom", "code": 500}}))
            c.end()
        read = threading.Event()
        self.script(script)
        self.start()
        client = self.ask()
        client.until(b'"a"')
        read.set()
        text, error, done = client.stream()
        self.assertEqual((text, error["code"], done),
                         ("a", "remote_failed", False))
        self.nginx.wait("boom")


class Hostile(Remotes):
    """The script breaks off, babbles or stalls; the client gets an error of
    ours in the form that is still possible, and the worker lives on."""

    def gets(self, script, code, before=True, **fields):
        def until_read(c, head, body):
            c.read = self.read.wait
            return script(c, head, body)
        self.read = threading.Event()
        self.script(until_read)
        client = self.ask(**fields)
        if before:
            _, _, error = self.error(client)
        else:
            client.until(b'"content": "x"')
            self.read.set()
            _, error, done = client.stream()
            self.assertFalse(done)
        self.assertEqual(error["code"], code)
        self.script(fake_remote.answer)
        self.assertEqual(self.ask("a b").stream(), ("ab", None, True))

    def test_no_http(self):
        self.start()
        for data in (b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n",
                     b"HTTP/1.1 100 Continue\r\n\r\n", b"\0" * 100,
                     b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70000):
            self.gets(lambda c, _h, _b, d=data: c.raw(d) or True,
                      "remote_unavailable")

    def test_bad_bodies(self):
        """Lengths and codings that contradict each other."""
        self.start()
        kind = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        for head in (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                     b"Content-Length: 5\r\nContent-Length: 6\r\n",
                     b"Content-Length: -1\r\n", b"Content-Length: x\r\n",
                     b"Transfer-Encoding: gzip, chunked\r\n",
                     b"Content-Encoding: br\r\n"):
            self.gets(lambda c, _h, _b, h=head: c.raw(kind + h + b"\r\n0123")
                      or True, "remote_unavailable")

    def test_bad_chunks(self):
        self.start()
        self.gets(lambda c, _h, _b: c.head() or c.raw(b"zz\r\n") or True,
                  "remote_protocol")

    def test_another_content_type(self):
        self.start()
        self.gets(lambda c, _h, _b: c.json(whole("x")), "remote_protocol")
        self.gets(lambda c, _h, _b: c.stream(words("x")), "remote_protocol",
                  stream=False)
        self.gets(lambda c, _h, _b: c.head(kind="text/html", length=2)
                  or c.raw(b"hi"), "remote_protocol")

    def test_no_chunks(self):
        self.start()
        for data in ("nonsense", "[1]", "{}", '{"choices":1}',
                     '{"choices":[1]}', '{"choices":[]', "\u0001",
                     '{"choices":[],"usage":{"prompt_tokens":-1}}',
                     "[" * 100000):
            self.gets(lambda c, _h, _b, d=data: c.stream(event(d)) or True,
                      "remote_protocol")
            def script(c, _head, _body, data=data):
                c.head()
                c.piece(event(chunk({"content": "x"})))
                c.read()
                c.piece(event(data))
                c.end()
                return True
            self.gets(script, "remote_protocol", before=False)

    def test_invalid_utf8(self):
        self.start()
        bad = b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'
        self.gets(lambda c, _h, _b: c.stream(bad) or True, "remote_protocol")

    def test_a_line_without_end(self):
        def script(c, _head, _body):
            c.head()
            for _ in range(40):
                c.piece(b"data: " + b"x" * 65536)
            c.closed()
            return True
        self.start()
        self.gets(script, "remote_protocol")

    def test_a_whole_answer_without_end(self):
        def script(c, _head, _body):
            c.head(kind="application/json")
            for _ in range(400):
                c.piece(b" " * 65536)
            c.closed()
            return True
        self.start()
        self.gets(script, "remote_protocol", stream=False)

    def test_cut_streams(self):
        """At every byte of a stream."""
        self.start()
        data = words("x", "b")
        read = data.index(b'"x"')
        read = data.index(b"\n\n", read) + 2
        end = data.index(b'"finish_reason": "stop"')
        first = data.index(b"\n\n")
        for n in range(0, end, 37):
            if first < n <= read:
                continue  # the client may have the first chunk, or not
            def script(c, _head, _body, n=n):
                c.head()
                if n:
                    c.piece(data[:min(n, read)])
                if n > read:
                    c.read()
                    c.piece(data[read:n])
                return True
            self.gets(script, "remote_failed", before=n <= read)

    def test_cut_behind_the_finish(self):
        """Nothing is missing but the usual last words."""
        def script(c, _head, _body):
            c.head()
            c.piece(words("a").split(b'data: [DONE]')[0])
            return True
        self.script(script)
        self.start()
        self.assertEqual(self.ask().stream(), ("a", None, True))
        self.assertEqual(self.seen()[0][2:5], ["7", "2", "3"])

    def test_cut_answer(self):
        self.start()
        self.gets(lambda c, _h, _b: c.head(kind="application/json", length=999)
                  or c.raw(b'{"choices":[') or True, "remote_failed",
                  stream=False)
        self.gets(lambda c, _h, _b: c.head(kind="application/json", length=3)
                  or c.raw(b"{}x"), "remote_protocol", stream=False)

    def test_errors_without_an_end(self):
        """A body that goes on for ever, and none where none can be."""
        def babbles(c, _head, _body):
            c.head(500, kind="text/plain")
            while True:
                c.piece(b"x" * 65536)
        self.start()
        self.gets(babbles, "remote_failed")
        self.gets(lambda c, _h, _b: c.raw(b"HTTP/1.1 204 No\r\n\r\n")
                  or c.closed() or True, "remote_failed")

    def test_what_it_says_is_one_line_of_the_log(self):
        self.start()
        self.gets(lambda c, _h, _b: c.json(
            {"error": {"message": "boom\nforged\x7f"}}, 500),
            "remote_failed")
        self.nginx.wait(r"says with status 500: boom\?forged\?")

    def test_stalls(self):
        def silent(c, _head, _body):
            c.closed()
            return True

        def stalled(c, _head, _body):
            c.head()
            c.piece(event(chunk({"content": "x"})))
            c.closed()
            return True
        self.LINE = "remote vllm timeout=2s;"
        self.configure()
        self.start()
        self.gets(silent, "timeout")
        self.gets(stalled, "timeout", before=False)

    def test_in_small_pieces(self):
        def script(c, _head, _body):
            c.head(more="Set-Cookie: a=b\r\nX-Accel-Redirect: /metrics\r\n")
            for i in range(len(data)):
                c.piece(data[i:i + 1])
            c.end()
        data = (b"\xef\xbb\xbf: hi\r\n\r\nevent: x\rid: 1\r"
                + words("ä", "b").replace(b"\n", b"\r\n"))
        self.script(script)
        self.start()
        client = self.ask()
        text, error, done = client.stream()
        self.assertEqual((text, error, done), ("äb", None, True))
        self.assertNotIn(b"cookie", client.data.lower())

    def test_without_usage(self):
        def script(c, _head, body):
            if body["stream"]:
                c.stream(event(chunk({"content": "a"}))
                         + event(chunk({"content": "b"}))
                         + event(chunk({}, "stop")) + event("[DONE]"))
            else:
                value = whole("a")
                del value["usage"]
                c.json(value)
        self.script(script)
        self.start()
        got = self.events(self.ask(stream_options={"include_usage": True}))
        self.assertEqual(got[-1]["usage"]["completion_tokens"], 2)
        self.assertEqual(self.ask(stream=False).whole()[0], 200)
        self.nginx.wait("are an estimate", 2)


class Tls(Remotes):
    def configure(self):
        """A certificate for "cluster.example", and who trusts it."""
        if not rig.shutil.which("openssl"):
            self.skipTest("openssl is not there")
        files = [f"{self.dir}/server{end}" for end in (".key", ".pem")]
        rig.subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             "/CN=cluster.example", "-addext",
             "subjectAltName=DNS:cluster.example", "-keyout", files[0],
             "-out", files[1]], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files[1], files[0])
        context.sni_callback = self.note_name
        self.names = []
        self.remote.tls = context

    def note_name(self, _sock, name, _context):
        self.names.append(name)

    def line(self, text):
        self.LINE = f"remote https://vllm {text};"
        super().configure()
        self.start()

    def test_verified(self):
        self.line(f"ca={self.dir}/server.pem host=cluster.example")
        for _ in range(3):
            self.assertEqual(self.ask("a b").stream(), ("ab", None, True))
        self.assertEqual(self.names, ["cluster.example"])
        self.assertIn("Host: cluster.example\r\n",
                      self.remote.requests[0][0])

    def refused(self, text):
        self.line(text)
        status, _, error = self.error(self.ask())
        self.assertEqual((status, error["code"]), (503, "remote_unavailable"))
        self.assertEqual(self.remote.requests, [])

    def test_another_name(self):
        self.refused(f"ca={self.dir}/server.pem host=other.example")

    def test_nobody_vouches_for_it(self):
        if not rig.os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
            self.skipTest("ca-certificates is not installed")
        self.refused("host=cluster.example")

    def test_not_verified(self):
        self.line("verify=off")
        self.assertEqual(self.ask("a b").stream(), ("ab", None, True))


class Next(Remotes):
    """Two servers in the upstream {}."""

    def servers(self):
        return super().servers() + (
            f" server 127.0.0.1:{self.second.port} max_fails=0;")

    def setUp(self):
        self.second = fake_remote.Remote()
        self.addCleanup(self.second.close)
        super().setUp()

    def test_another_server_before_the_first_byte(self):
        self.start()
        for script in (lambda c, _h, _b: c.json({}, 503),
                       lambda c, _h, _b: c.json({}, 429),
                       lambda c, _h, _b: c.raw(b"??\r\n\r\n") or True,
                       lambda c, _h, _b: True):
            self.script(script)
            for _ in range(2):
                self.assertEqual(self.ask("a b").stream(),
                                 ("ab", None, True))

    def test_not_behind_it(self):
        def script(c, _head, _body):
            c.head()
            c.piece(event(chunk({"content": "a"})))
            read.wait()
            return True
        read = threading.Event()
        self.script(script)
        self.second.script = script
        self.start()
        client = self.ask()
        client.until(b'"a"')
        read.set()
        _, error, _ = client.stream()
        self.assertEqual(error["code"], "remote_failed")
        self.assertEqual(len(self.remote.requests)
                         + len(self.second.requests), 1)


class Overflow(Remotes):
    LINE = "remote vllm backup queue=2;"
    ENGINE = "yes"

    def start(self, engine=True):
        if engine:
            self.echo.start()
        self.nginx.start()
        if engine:
            self.nginx.wait("connected to engine", self.WORKERS)

    def where(self, n):
        return [x[6] for x in self.seen(n)]

    def test_engines_first(self):
        self.start()
        for _ in range(4):
            self.assertEqual(self.ask("here").stream()[0], "here")
        self.assertEqual(self.remote.requests, [])

    def test_the_engine_is_away(self):
        self.start(engine=False)
        self.assertEqual(self.ask("a b").stream(), ("ab", None, True))
        self.assertEqual(self.where(1), ["vllm"])

    def test_nobody_has_the_model(self):
        self.start()
        self.assertEqual(self.ask("a b", model="other").stream()[0], "ab")
        self.assertEqual(self.remote.requests[0][1]["model"], "other")

    def test_tools_go_to_the_remote_alone(self):
        self.start()
        self.ask("a", tools=[{"type": "function"}]).stream()
        self.assertEqual(self.where(1), ["vllm"])

    def test_the_engine_refuses(self):
        self.start()
        self.assertEqual(self.ask("!error=503 a").stream()[1:], (None, True))
        self.assertEqual(len(self.remote.requests), 1)

    def test_the_engine_dies(self):
        """A stream that was accepted is lost; the next has the remote."""
        self.start()
        client = self.ask("!stall_after=1 xxxx")
        client.until(b"x")
        self.echo.kill(signal.SIGKILL)
        _, error, _ = client.stream()
        self.assertEqual(error["code"], "engine_lost")
        self.assertEqual(self.ask("a b").stream()[0], "ab")

    def test_both_are_away(self):
        self.remote.close()
        self.start(engine=False)
        status, _, error = self.error(self.ask())
        self.assertEqual((status, error["code"]), (503, "remote_unavailable"))


class Peers(Overflow):
    """Without `backup` it shares the work."""

    LINE = "remote vllm models=echo,o*;"

    def test_engines_first(self):
        self.start()
        held = [self.ask("!stall_after=1 xxxx").until(b"x")]
        rig.wait_until(lambda: any(
            v == 1 for k, v in self.nginx.metrics().items()
            if k.startswith("axion_engine_requests_running")),
            "the load board to tell of it")
        self.assertEqual(self.ask("a b").stream()[0], "ab")
        self.assertEqual(len(self.remote.requests), 1)
        self.assertEqual(len(held), 1)

    def test_other_models(self):
        self.start()
        status, _, error = self.error(self.ask("a", model="else"))
        self.assertEqual((status, error["code"]), (404, "model_not_found"))
        status, body = self.nginx.get("/v1/models")
        self.assertEqual([m["id"] for m in json.loads(body)["data"]], ["echo"])


class Clients(Remotes):
    def test_a_client_that_leaves_ends_the_call(self):
        def script(c, _head, _body):
            c.head()
            c.piece(event(chunk({"content": "x"})))
            c.closed()
            return True
        self.script(script)
        self.start()
        client = self.ask()
        client.until(b'"x"')
        client.close()
        rig.wait_until(lambda: self.remote.ended == 1, "the remote's end")

    def test_the_rest_of_an_answer_is_read_by_nobody(self):
        """Where the length is known a connection is not kept for the next
        request before the answer's end."""
        def script(c, _head, _body):
            c.head(length=9999)
            c.raw(event(chunk({"content": "x"})))
            c.closed()
            return True
        self.script(script)
        self.start()
        client = self.ask()
        client.until(b'"x"')
        client.close()
        rig.wait_until(lambda: self.remote.ended == 1, "the remote's end")

    def test_a_client_that_leaves_before_the_head(self):
        def script(c, _head, _body):
            c.closed()
            return True
        self.script(script)
        self.start()
        client = self.ask()
        rig.wait_until(lambda: self.remote.requests, "the request")
        client.close()
        rig.wait_until(lambda: self.remote.ended == 1, "the remote's end")

    def test_a_slow_reader_stops_the_remote(self):
        """16 MiB for one that does not read: the worker stays small, and all
        of it comes when the client reads."""
        n = 1024
        text = "x" * 16384
        self.script(fake_remote.long_answer(n, text))
        self.start()
        before = self.nginx.rss_kb(self.nginx.workers()[0])
        client = self.client(rcvbuf=4096)
        client.chat("x")
        client.until(b"xxx")
        rig.wait_until(lambda: self.nginx.metrics()["axion_pauses_total"] > 0,
                       "a pause")
        after = self.nginx.rss_kb(self.nginx.workers()[0])
        self.assertLess(after - before, 4 * 1024)
        data = bytearray(client.data)
        while more := client.sock.recv(1 << 20):
            data += more
        self.assertEqual(data.count(b"x" * 1024), n * len(text) // 1024)
        self.assertEqual(data.count(b"data: [DONE]"), 1)
        self.assertLess(self.nginx.rss_kb(self.nginx.workers()[0]) - before,
                        4 * 1024)

    def test_slow_readers_cost_what_they_have_not_read(self):
        """Of short events as of long ones, and of events that grow."""
        def script(c, _head, _body):
            c.head()
            c.piece(b"".join(event(chunk({"content": "x" * (4096 + 16 * i)}))
                             for i in range(500)))
            while True:
                c.piece(short)
        short = event(chunk({"content": "x"})) * 100
        self.script(script)
        self.start()
        before = self.nginx.rss_kb(self.nginx.workers()[0])
        clients = [self.client(rcvbuf=65536) for _ in range(3)]
        for n, client in enumerate(clients, 1):
            client.chat("x")
            while len(client.data) < 5 << 20:
                client.more()
            rig.wait_until(
                lambda n=n: self.nginx.metrics()["axion_pauses_total"] >= n,
                "a pause")
        after = self.nginx.rss_kb(self.nginx.workers()[0])
        self.assertLess(after - before, 3 * 2 * 1024)

    def test_streams_outlive_a_reload(self):
        def script(c, _head, _body):
            c.head()
            c.piece(event(chunk({"content": "a"})))
            self.nginx.wait("gracefully shutting down")
            c.piece(words("b"))
            c.end()
        self.script(script)
        self.start()
        client = self.ask()
        client.until(b'"a"')
        self.nginx.signal(signal.SIGHUP)
        self.assertEqual(client.stream(), ("ab", None, True))

    def test_http_1_0_and_head_requests_do_not_matter(self):
        self.start()
        with socket.create_connection(("127.0.0.1", self.nginx.port)) as s:
            s.settimeout(rig.HANG)
            body = json.dumps({"model": "echo", "stream": True, "messages": [
                {"role": "user", "content": "a b"}]}).encode()
            s.sendall(b"POST /v1/chat/completions HTTP/1.0\r\n"
                      b"Content-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            data = b""
            while more := s.recv(65536):
                data += more
        self.assertTrue(data.endswith(b"data: [DONE]\n\n"))


if __name__ == "__main__":
    rig.main()
