"""A worker that has no descriptor left for an engine's channel: requests are
refused with a JSON error, the log names what lacks, attempts back off, and
the next one after the shortage succeeds."""

import http.client
import json
import os
import time

import rig

LIMIT = 48  # descriptors that a worker may have
PROMPT = json.dumps({"model": "echo", "prompt": "abcd"})


class Descriptors(rig.Test):
    HTTP = """axion_timeout connect=50ms;
        keepalive_timeout 600s; client_header_timeout 600s;"""
    MAIN = f"worker_rlimit_nofile {LIMIT};"
    SERVER = rig.Test.SERVER + """
        location /patient/v1/ { axion_pass llm; axion_timeout connect=600s; }
    """

    def held(self):
        return len(os.listdir(f"/proc/{self.worker}/fd"))

    def fill(self, free):
        """Connections until the worker has so many descriptors left."""
        clients = []
        while True:
            n = self.held()
            if n == LIMIT - free:
                return clients
            clients.append(self.client())
            rig.wait_until(lambda: self.held() == n + 1,
                           "the worker to accept")

    def ask(self, prefix=""):
        """Over the one connection that is kept: no descriptor is needed."""
        self.kept.request("POST", prefix + "/v1/completions", PROMPT,
                          {"Content-Type": "application/json"})
        response = self.kept.getresponse()
        return response.status, json.loads(response.read())

    def failures(self):
        self.kept.request("GET", "/metrics")
        for line in self.kept.getresponse().read().decode().splitlines():
            if line.startswith("axion_engine_connect_failures_total{"):
                return int(line.rsplit(" ", 1)[1])
        raise AssertionError("no such metric")

    def lacks(self, free):
        start = time.monotonic()
        self.nginx.start()
        (self.worker,) = self.nginx.workers()
        self.kept = http.client.HTTPConnection("127.0.0.1", self.nginx.port,
                                               timeout=rig.HANG)
        self.addCleanup(self.kept.close)
        self.assertEqual(self.ask()[0], 503)  # the engine is not there
        clients = self.fill(free)
        self.echo.start()
        self.nginx.wait(r"is not available: .*24: Too many open files")
        status, body = self.ask()
        self.assertEqual(status, 500)
        self.assertEqual(body["error"]["code"], "system_error")
        # 50 ms, doubled up to 2 s
        failures = self.failures()
        self.assertLessEqual(failures, 7 + (time.monotonic() - start) / 2)
        rig.wait_until(lambda: self.failures() > failures, "one more attempt")
        self.assertEqual(self.nginx.workers(), [self.worker])
        for client in clients:
            client.close()
        status, body = self.ask("/patient")
        self.assertEqual(status, 200)
        self.assertEqual(body["choices"][0]["text"], "abcd")

    def test_none_for_the_socket(self):
        self.lacks(0)

    def test_none_for_the_region(self):
        self.lacks(1)


if __name__ == "__main__":
    rig.main()
