"""The Nth allocation that the module makes fails, for every N: while nginx
reads its configuration, while a worker connects to an engine, and in a request
of every kind.  Each is a named error or a whole answer, the worker lives, and
the same thing works right afterwards."""

import json
import mmap
import os
import re
import struct
import subprocess

import fake_remote
import rig

PRELOAD = os.path.join(rig.BUILD, "tests", "faults", "preload.so")
TENANTS = "".join(
    f"axion_tenant t{i} {{ key sha256:{i:064x}; models a b{i}*; }}\n"
    for i in range(60))
CHOSEN = """axion_tenant acme {
    key argon2id:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$%s;
    key sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683;
}
""" % "QAbvsGmIVF86xUdKejj/8v2Ee1FfDsXmSX3LBxYCpOQ"


class Faults:
    """The file that tests/faults/preload.c looks into."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "faults")
        with open(self.path, "wb") as file:
            file.write(bytes(mmap.PAGESIZE))
        os.chmod(self.path, 0o666)
        fd = os.open(self.path, os.O_RDWR)
        self.map = mmap.mmap(fd, mmap.PAGESIZE)
        os.close(fd)
        self.environment = {"LD_PRELOAD": PRELOAD, "AXION_FAULTS": self.path}

    def arm(self, n):
        self.map[:24] = struct.pack("qqq", n, 0, 0)

    def hit(self):
        """Whether one failed since; none does from here on."""
        _, calls, failed = struct.unpack("qqq", self.map[:24])
        self.arm(0)
        self.calls = calls
        return failed > 0


class NginxUnderFaults(rig.Test):
    HTTP = "axion_timeout connect=60s accept=60s;"

    def setUp(self):
        if not os.path.exists(PRELOAD):
            self.skipTest(f"{PRELOAD} is not built")
        super().setUp()
        self.expected = "emory"  # "out of memory", "Cannot allocate memory"
        self.faults = Faults(self.dir)

    def each(self, what):
        """what(n) for n = 1, 2, ... until it runs without a failure."""
        n = 1
        while what(n):
            n += 1
        return n - 1

    # ---- configuration ----

    def test_configuration(self):
        self.nginx.write(http=self.nginx.settings["http"] + TENANTS)
        self.configurations((1,))

    def configurations(self, failures):
        command = [rig.NGINX, "-t", "-c", self.nginx.conf, "-p", self.dir,
                   "-e", self.nginx.log]
        environment = {**os.environ, **self.faults.environment}

        def check(n):
            self.faults.arm(n)
            run = subprocess.run(command, env=environment, text=True,
                                 capture_output=True, check=False)
            hit = self.faults.hit()
            self.assertIn(run.returncode, failures if hit else (0,),
                          f"allocation {n}: {run.stderr}")
            if run.returncode != 0:
                self.assertIn("[emerg]", run.stderr, f"allocation {n}")
            return hit

        self.assertGreater(self.each(check), 2)

    # ---- a running worker ----

    def start(self):
        before = dict(os.environ)
        os.environ.update(self.faults.environment)
        try:
            self.nginx.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        self.echo.start()
        self.nginx.wait("connected to engine")
        (self.worker,) = self.nginx.workers()

    def test_connection_to_an_engine(self):
        self.start()

        def check(n):
            self.echo.stop()
            self.nginx.wait("lost engine", n)
            self.faults.arm(n)
            self.echo.start()
            self.nginx.wait("connected to engine", n + 1)
            hit = self.faults.hit()
            self.assert_serves()
            return hit

        self.assertGreater(self.each(check), 2)
        self.assertEqual(self.nginx.workers(), [self.worker])

    def ask(self, request):
        client = self.client()
        client.send(*request)
        client.drain()
        client.close()
        return client.data

    # OpenSSL does not tell a signature that it had no memory for from a wrong
    # one: only tests of tokens may have a 401.
    STATUSES = (200, 400, 404, 500, 503)

    def assert_whole_or_nothing(self, data, n):
        """No answer, a whole answer or refusal, or a stream that was cut in
        the way that every client notices."""
        if data == b"":
            return
        head, _, body = data.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        self.assertIn(status, self.STATUSES, f"allocation {n}")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length is not None:
            if len(body) != int(length.group(1)):
                self.fail(f"allocation {n}: {data!r}")
            if b"application/json" in head and status >= 400:
                self.assertIn("code", json.loads(body)["error"])
        elif body.endswith(b"\r\n0\r\n\r\n"):
            text = rig.dechunk(body)
            self.assertTrue(text.endswith(b"\n\n"), f"allocation {n}")
            self.assertTrue(text.endswith(b"data: [DONE]\n\n")
                            or b'"error"' in text, f"allocation {n}")

    def essence(self, data):
        """What two answers to the same question have in common."""
        head, _, body = data.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if b"event-stream" in head:
            return status, b"".join(re.findall(
                rb'"(?:content|text)":"([^"]*)"', rig.dechunk(body)))
        if b"application/json" not in head:
            return status, len(body) > 0
        value = json.loads(body)
        return status, value.get("error"), value.get("choices")

    def survives(self, *request):
        """The number of allocations in one request."""
        wanted = self.essence(self.ask(request))

        def check(n):
            self.faults.arm(n)
            data = self.ask(request)
            hit = self.faults.hit()
            self.assert_whole_or_nothing(data, n)
            self.assertEqual(self.essence(self.ask(request)), wanted,
                             f"after {n}")
            return hit

        allocations = self.each(check)
        self.assertEqual(self.nginx.workers(), [self.worker])
        rig.wait_until(
            lambda: self.nginx.metrics()["axion_streams_active"] == 0,
            "no stream to be left")
        rig.wait_until(self.engine_is_idle, "the engine to have no stream")
        return allocations

    def engine_is_idle(self):
        log = self.echo.text()
        return log.count(" submit ") == (log.count(" done ")
                                         + log.count(" error "))

    def post(self, path, **fields):
        return self.survives("POST", path, json.dumps(
            {"model": "echo", **fields}).encode())

    def test_chat(self):
        self.start()
        n = self.post("/v1/chat/completions", messages=[
            {"role": "user", "content": "!tokens=50 abcd"}])
        self.assertGreater(n, 1)

    def test_streamed_chat(self):
        self.start()
        n = self.post("/v1/chat/completions", stream=True,
                      stream_options={"include_usage": True}, messages=[
                          {"role": "user", "content": "!tokens=5000 abcd"}])
        self.assertGreater(n, 1)

    def test_streamed_completion(self):
        self.start()
        self.post("/v1/completions", stream=True,
                  prompt="!tokens=300 abcdefgh")

    def test_long_answer(self):
        self.start()
        n = self.post("/v1/completions", prompt="!tokens=20000 abcdefgh")
        self.assertGreater(n, 1)

    def test_refusals(self):
        self.start()
        self.post("/v1/completions", prompt="!error=QUEUE_FULL a")
        self.post("/v1/completions", prompt=1.5)
        self.post("/v1/nothing")

    def test_large_body(self):
        self.start()
        n = self.post("/v1/completions", prompt="!tokens=1 " + "x" * 300000)
        self.assertGreater(n, 1)

    def test_pages(self):
        self.start()
        for path in ("/v1/models", "/v1/models/echo", "/metrics", "/status"):
            self.survives("GET", path)

    # ---- a remote ----

    def remote(self, script=fake_remote.answer):
        self.STATUSES += (502,)
        remote = fake_remote.Remote(script)
        self.addCleanup(remote.close)
        self.nginx.write(http=self.nginx.settings["http"] + f"""
            upstream far {{
                server 127.0.0.1:{remote.port} max_fails=0;
                keepalive 4;
            }}
            axion_upstream away {{ remote far models=echo; }}""",
            server=self.SERVER.replace("axion_pass llm", "axion_pass away"))
        self.start()

    def chat(self, **fields):
        n = self.post("/v1/chat/completions", messages=[
            {"role": "user", "content": "a b c d"}], **fields)
        self.assertGreater(n, 3)

    def test_remote(self):
        self.remote()
        self.chat()

    def test_remote_streams(self):
        self.remote()
        self.chat(stream=True, stream_options={"include_usage": True})

    def test_remote_long_answer(self):
        self.remote(lambda c, _h, _b: c.json(fake_remote.whole("x" * 200000)))
        self.chat()

    def test_remote_refuses(self):
        self.remote(lambda c, _h, _b: c.json(
            {"error": {"message": "no" * 2000}}, 400))
        self.chat()

    def test_remote_breaks_off(self):
        def script(c, _head, _body):
            c.head(kind="application/json", length=1000)
            c.raw(b"{")
            return True
        self.remote(script)
        self.chat()

    # ---- who asks ----

    def identities(self, few=False):
        """Keys of both kinds in a file, and an issuer of tokens; `few` of its
        keys, where each allocation costs a start of nginx."""
        vectors = os.path.join(rig.ROOT, "tests", "api", "jwt_vectors.json")
        with open(vectors, encoding="ascii") as f:
            vectors = json.load(f)
        self.token = vectors["good"]["ES256"]
        self.slow = vectors["good"]["ES384"]
        with open(os.path.join(self.dir, "jwks"), "w",
                  encoding="ascii") as f:
            keys = vectors["jwks"]["keys"]
            json.dump({"keys": keys[5:6] if few else keys}, f)
        with open(os.path.join(self.dir, "tenants"), "w",
                  encoding="ascii") as f:
            f.write(CHOSEN)
        self.nginx.write(http=self.nginx.settings["http"] + f"""
            axion_tenants file={self.dir}/tenants;
            axion_jwt jwks={self.dir}/jwks tenant=sub models=models;""")

    def test_configuration_of_identity(self):
        self.identities(few=True)
        self.configurations((0, 1))  # jansson does without some of its own

    def known(self, *headers):
        return self.survives("GET", "/v1/models", b"", headers)

    def test_keys(self):
        self.identities()
        self.start()
        self.known("x-api-key: acme:chosen")
        self.known("x-api-key: key")

    def test_a_chosen_key_never_seen(self):
        self.never_seen(lambda n: f"acme:wrong-{n}")

    def test_a_slow_token_never_seen(self):
        self.never_seen(lambda n: f"{self.slow[:-9]}AAAA{n:04d}A")

    def never_seen(self, key):
        """What a thread has to find out, another one each time."""
        self.identities()
        self.start()

        def check(n):
            self.faults.arm(n)
            data = self.ask(("GET", "/v1/models", b"",
                             [f"x-api-key: {key(n)}"]))
            hit = self.faults.hit()
            if not hit or data:
                self.assertIn(int(data.split()[1]), (401, 500, 503))
            return hit

        self.assertGreater(self.each(check), 2)
        self.assertEqual(self.nginx.workers(), [self.worker])

    def test_tokens(self):
        self.STATUSES += (401,)
        self.identities()
        self.start()
        self.known("Authorization: Bearer " + self.token)


if __name__ == "__main__":
    rig.main()
