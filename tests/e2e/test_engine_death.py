#!/usr/bin/env python3
"""The engine is killed, stopped and started again under nginx: streams that had
begun end with an error event, what was not accepted yet is answered by the next
engine, the site goes on, and nothing needs a reload."""

import os
import signal
import threading

import base
from base import NAME

SERVER = base.stack.Stack.SERVER + """\
        location = /site { return 200 "the site\\n"; }
"""
TIMEOUTS = "    axion_timeout connect=60s stall=2s idle=60s;\n"


class EngineDeath(base.StackTest):
    SETTINGS = {"server": SERVER,
                "http": base.stack.Stack.HTTP + TIMEOUTS}

    def begin_stream(self):
        answer = self.post("/v1/completions", {
            "model": NAME, "prompt": "Once upon a time", "stream": True,
            "max_tokens": 4000, "ignore_eos": True})
        self.assertEqual(answer.status, 200)
        next(answer.events())
        return answer

    def assert_lost(self, answer, *codes):
        """The stream ends cleanly, with an error event of these."""
        _, _, _, error = answer.stream()
        self.assertIsNotNone(error)
        self.assertIn(error["code"], codes)
        self.assertEqual(set(error), {"message", "type", "param", "code"})

    def assert_site(self):
        site = base.Answer(self.stack.port, "/site", None, method="GET")
        self.assertEqual(site.read(), b"the site\n")

    def restart(self):
        self.stack.engine.stop(signal.SIGKILL)
        self.stack.start_engine()

    def test_killed(self):
        answers = [self.begin_stream() for _ in range(3)]
        self.stack.engine.stop(signal.SIGKILL)
        for answer in answers:
            self.assert_lost(answer, "engine_lost", "engine_unavailable")
        self.assert_site()
        # a request that comes now waits for the next engine
        result = []
        waiting = threading.Thread(target=lambda: result.append(
            self.complete("The capital of France is", max_tokens=5,
                          temperature=0)))
        waiting.start()
        self.stack.start_engine()
        waiting.join()
        self.assertIn("Paris", result[0]["choices"][0]["text"])
        self.stack.wait_ready()
        self.assert_serves()

    def test_stopped_engine_counts_as_dead(self):
        answer = self.begin_stream()
        os.kill(self.stack.engine.pid, signal.SIGSTOP)
        try:
            self.assert_lost(answer, "engine_stalled", "engine_lost")
            self.assert_site()
        finally:
            os.kill(self.stack.engine.pid, signal.SIGCONT)
        self.stack.wait_ready()
        self.assert_serves()

    def test_term_lets_answers_end(self):
        result = []
        ending = threading.Thread(target=lambda: result.append(
            self.complete("Count: 1, 2, 3,", max_tokens=60,
                          ignore_eos=True)))
        ending.start()
        self.stack.wait_metric("axion_engine_requests_running", 1)
        self.stack.engine.send(signal.SIGTERM)
        ending.join()
        self.assertEqual(result[0]["usage"]["completion_tokens"], 60)
        self.assertTrue(self.stack.engine.died_within(60))
        self.assertEqual(self.stack.engine.process.wait(), 0)
        self.stack.start_engine()
        self.stack.wait_ready()
        self.assert_serves()


if __name__ == "__main__":
    base.main()
