"""Requests that wait for an engine's room are served in their order: a small
one that would fit does not overtake a large one that does not."""

import signal

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


if __name__ == "__main__":
    rig.main()
