"""An engine is replaced under load, as docs/operations.md has it: no stream is
cut.  With a second engine beside it no request waits; with one engine, new
requests wait in nginx until the next one is ready."""

import json
import os
import signal
import subprocess
import sys

import ops

sys.path.insert(0, os.path.join(ops.ROOT, "tests/nginx"))
import rig  # noqa: E402

STREAMS = 4
TOKENS = 480


class EngineUpgrade(ops.Test):
    def setUp(self):
        super().setUp()
        os.chmod(self.dir, 0o755)
        # Slow enough that streams still run when the signal comes.
        subprocess.run([ops.TINY, "--format", "f32", "--layers", "8",
                        "--embd", "512", "--ff", "2048", self.model],
                       check=True)

    def nginx(self, *paths):
        engines = " ".join(f"engine unix:{path};" for path in paths)
        server = """location /v1/ { axion_pass llm;
                        axion_timeout connect=60s stall=60s; }
                    location = /status { axion_status llm; }"""
        nginx = rig.Nginx(self.dir, server,
                          f"axion_upstream llm {{ {engines} }}")
        self.addCleanup(nginx.stop)
        nginx.start()
        return nginx

    def engine(self, path):
        process = self.axiond("--listen", f"unix:{path},mode=0666",
                              listen=False)
        self.wait_log(process, "ready on")
        return process

    def request(self, nginx, tokens, stream):
        client = rig.Client(nginx.port)
        self.addCleanup(client.close)
        client.send("POST", "/v1/completions", json.dumps(
            {"model": "tiny", "prompt": "Hello", "max_tokens": tokens,
             "stream": stream, "ignore_eos": True,
             "temperature": 0}).encode())
        return client

    def running(self, nginx):
        clients = [self.request(nginx, TOKENS, True) for _ in range(STREAMS)]
        for client in clients:
            client.until(b"data: ")
        return clients

    def drain(self, process):
        """SIGTERM; only if it still had work then does the test count."""
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        line = self.wait_log(process, "draining: ")
        self.assertNotIn(" 0 requests", line)

    def assert_whole(self, clients):
        texts = set()
        for client in clients:
            status, _, body = client.whole()
            self.assertEqual(status, 200)
            self.assertTrue(body.endswith(b"data: [DONE]\n\n"), body[-200:])
            self.assertIn(b'"finish_reason":"length"', body)
            texts.add("".join(
                json.loads(event[6:])["choices"][0]["text"]
                for event in body.decode().split("\n\n")
                if event.startswith("data: {")))
        self.assertEqual(len(texts), 1)
        return texts.pop()

    def assert_answered(self, client):
        status, _, body = client.whole()
        self.assertEqual(status, 200, body)
        self.assertEqual(json.loads(body)["usage"]["completion_tokens"], 3)

    def test_second_engine_takes_over_at_once(self):
        other = self.dir + "/other.sock"
        nginx = self.nginx(self.path, other)
        old = self.engine(self.path)
        nginx.wait("connected to engine")
        clients = self.running(nginx)
        # so that the next one may take as long as it likes
        old.send_signal(signal.SIGSTOP)
        self.engine(other)
        nginx.wait("connected to engine", 2)
        self.drain(old)
        self.assert_answered(self.request(nginx, 3, False))
        self.assertIsNone(old.poll()) # it did not wait for the old one
        self.assert_whole(clients)
        self.assertEqual(old.wait(timeout=ops.HANG), 0)
        self.assert_answered(self.request(nginx, 3, False))

    def test_one_engine_is_restarted_and_requests_wait(self):
        nginx = self.nginx(self.path)
        old = self.engine(self.path)
        nginx.wait("connected to engine")
        clients = self.running(nginx)
        self.drain(old)
        waiting = self.request(nginx, 3, False)
        self.assert_whole(clients)
        self.assertEqual(old.wait(timeout=ops.HANG), 0)
        self.engine(self.path)
        self.assert_answered(waiting)


if __name__ == "__main__":
    ops.main()
