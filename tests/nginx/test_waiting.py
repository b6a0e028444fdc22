"""Requests that wait for an engine's room are served in their order: a small
one that would fit does not overtake a large one that does not.  And waiting
is free: thousands who wait for an engine that is away, or for the room of one
that is full, are not looked at while another engine streams."""

import resource
import signal
import time

import rig

LARGE = 6 << 20  # two fit into a channel's arena of 16 MiB


class Waiting(rig.Test):
    HTTP = """axion_timeout connect=60s stall=60s accept=50ms;
        client_max_body_size 0;"""
    SERVER = rig.Test.SERVER + """
        location /quick/v1/ { axion_pass llm; axion_timeout connect=100ms; }
    """
    ECHO = ("--context", str(1 << 23))

    def active(self):
        return self.nginx.metrics()["axion_streams_active"]

    def small(self):
        client = self.client()
        client.send("POST", "/quick/v1/completions",
                    b'{"model": "echo", "prompt": "abcd"}')
        return client

    def test_newcomers_line_up_behind_those_who_wait(self):
        self.start()
        self.echo.kill(signal.SIGSTOP)
        clients = [self.client().chat("!tokens=2 " + "x" * LARGE)
                   for _ in range(3)]
        for client in clients:  # the comment of accept=: it waits
            client.until(b"HTTP/1.1 200")
        self.assertEqual(self.active(), 2)
        status, _, body = self.small().whole()
        self.assertEqual(status, 503, body)
        self.assertIn(b'"overloaded"', body)
        self.assertEqual(self.active(), 2)
        self.echo.kill(signal.SIGCONT)
        for client in clients:
            text, error, done = client.stream()
            self.assertEqual((text, error, done), ("x" * 8, None, True))
        self.assertEqual(self.small().whole()[0], 200)


CROWD = 2000


class Crowd(rig.Test):
    HTTP = "axion_timeout connect=600s stall=600s accept=600s;"
    CONNECTIONS = CROWD + 200

    def setUp(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < self.CONNECTIONS + 200:
            self.skipTest(f"only {hard} descriptors are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        super().setUp()

    def dispatches(self):
        return self.nginx.metrics()["axion_dispatches_total"]

    def other_engine(self):
        """A second engine, and a location whose requests go there."""
        other = rig.Echo(self.dir, "other")
        self.addCleanup(other.stop)
        self.nginx.write(
            http=self.nginx.settings["http"]
            + f"axion_upstream other {{ engine unix:{other.path}; }}",
            server=self.SERVER + "location /other/v1/ { axion_pass other; }")
        return other

    def ask_other(self, prompt="abcd"):
        client = self.client()
        client.send("POST", "/other/v1/completions", rig.json.dumps(
            {"model": "echo", "prompt": prompt}).encode())
        return client

    def stream_much(self):
        """Thousands of read events on the healthy engine's channel; what
        was dispatched meanwhile, and how long it took."""
        before, start = self.dispatches(), time.monotonic()
        for _ in range(5):
            text, error, done = self.client().chat(
                "!tokens=20000 abcd").stream()
            self.assertEqual((len(text), error, done), (80000, None, True))
        return self.dispatches() - before, time.monotonic() - start

    def test_a_crowd_before_an_engine_that_is_away(self):
        other = self.other_engine()
        self.start()
        clients = [self.ask_other() for _ in range(CROWD)]
        rig.wait_until(lambda: self.dispatches() >= CROWD, "all to wait")
        dispatched, _ = self.stream_much()
        self.assertEqual(dispatched, 5)
        other.start()
        for client in clients:
            self.assertEqual(client.whole()[0], 200)

    def test_a_crowd_before_an_engine_that_is_full(self):
        other = self.other_engine()
        other.start()
        self.start()
        self.nginx.wait("connected to engine", 2)
        other.kill(signal.SIGSTOP)
        clients = [self.ask_other() for _ in range(CROWD)]
        rig.wait_until(lambda: self.dispatches() >= CROWD, "all to wait")
        dispatched, seconds = self.stream_much()
        self.assertLess(dispatched, 50 + seconds * 1000 / 5 * 2)
        other.kill(signal.SIGCONT)
        for client in clients:
            self.assertEqual(client.whole()[0], 200)


if __name__ == "__main__":
    rig.main()
