#!/usr/bin/env python3
"""A client that goes away, while it streams, during its prefill or in the queue,
frees its sequence; one that stops reading is parked and slows nobody. Seen on
the engine's own metrics."""

import socket

import base
from base import NAME

RUNNING = "axion_engine_requests_running"
WAITING = "axion_engine_requests_waiting"
PARKED = "axion_engine_requests_parked"
CANCELLED = "axion_engine_requests_cancelled_total"

LONG = {"model": NAME, "prompt": "Count: 1, 2, 3,", "max_tokens": 4000,
        "ignore_eos": True, "temperature": 0, "stream": True}


class Disconnect(base.StackTest):
    OPTIONS = ["--max-sequences", "2"]

    def setUp(self):
        self.cancelled = self.stack.metric(CANCELLED)
        self.answers = []

    def tearDown(self):
        for answer in self.answers:
            answer.close()
        self.stack.wait_metric(RUNNING, 0)
        self.stack.wait_metric(WAITING, 0)
        self.stack.wait_metric("axion_engine_kv_blocks_used", 0)
        self.assert_serves()

    def start(self, **fields):
        answer = self.post("/v1/completions", {**LONG, **fields})
        self.answers.append(answer)
        return answer

    def assert_cancelled(self, n=1):
        self.stack.wait_metric(CANCELLED, self.cancelled + n)

    def test_while_streaming(self):
        answer = self.start()
        events = answer.events()
        for _ in range(5):
            next(events)
        self.stack.wait_metric(RUNNING, 1)
        answer.close()
        self.assert_cancelled()
        self.stack.wait_metric(RUNNING, 0)

    def test_answer_that_is_not_streamed(self):
        answer = self.start(stream=False)
        self.stack.wait_metric(RUNNING, 1)
        answer.close()
        self.assert_cancelled()

    def test_during_prefill(self):
        answer = self.start(prompt="word " * 7000)
        self.stack.wait_metric(RUNNING, 1)
        answer.close()
        self.assert_cancelled()

    def test_while_queued(self):
        running = [self.start(), self.start()]
        events = [answer.events() for answer in running]
        for event in events:
            next(event)
        queued = self.start()
        self.stack.wait_metric(WAITING, 1)
        queued.close()
        self.stack.wait_metric(WAITING, 0)
        self.assert_cancelled()
        # those that ran go on
        for event in events:
            next(event)
        self.assertEqual(self.stack.metric(RUNNING), 2)


class SlowReader(base.StackTest):
    OPTIONS = ["--max-sequences", "4"]
    SETTINGS = {"listen": "sndbuf=8k",
                "http": base.stack.Stack.HTTP + "    axion_buffer 4k;\n"}

    def test_reader_that_stops_is_parked_and_slows_nobody(self):
        answer = self.slow_connection()
        try:
            self.stack.wait_metric(PARKED, 1)
            # the neighbour gets all of its answer meanwhile
            result = self.complete("Once upon a time", max_tokens=64,
                                   ignore_eos=True)
            self.assertEqual(result["usage"]["completion_tokens"], 64)
            self.assertEqual(self.stack.metric(PARKED), 1)
            # and when it reads on, its text is whole
            text, reason, _, error = answer.stream()
        finally:
            answer.close()
        self.assertIsNone(error)
        self.assertEqual(reason, "length")
        self.assertEqual(text, self.text(
            LONG["prompt"], max_tokens=600, ignore_eos=True, temperature=0))

    def slow_connection(self):
        """A stream whose socket takes little and is not read."""
        answer = base.Answer.__new__(base.Answer)
        connection = base.http.client.HTTPConnection(
            "127.0.0.1", self.stack.port, timeout=120)
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sock.settimeout(120)
        connection.sock.connect(("127.0.0.1", self.stack.port))
        answer.connection, answer.response = connection, None
        connection.request("POST", "/v1/completions", base.json.dumps(
            {**LONG, "max_tokens": 600}).encode(),
            {"Content-Type": "application/json"})
        return answer


if __name__ == "__main__":
    base.main()
