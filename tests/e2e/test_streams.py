#!/usr/bin/env python3
"""64 streams at once, and nginx reloaded and stopped under load: every stream is
whole, and its text is byte for byte what the same request gives alone."""

import os
import signal
import threading

import base
from base import NAME

STREAMS = 64


class Streams(base.StackTest):
    OPTIONS = ["--max-sequences", "16"]  # so that most streams wait for a place

    def body(self, i, **fields):
        return {"model": NAME, "seed": i, "max_tokens": 24 + i % 17,
                "prompt": f"Story number {i}: once upon a time, " * (1 + i % 5),
                **fields}

    def run_streams(self, n, meanwhile=None, **fields):
        """n streams on threads; meanwhile() runs when all have begun."""
        results = [None] * n
        begun = threading.Barrier(n + 1)

        def one(i):
            try:
                answer = self.post("/v1/completions", self.body(
                    i, stream=True, stream_options={"include_usage": True},
                    **fields))
                if answer.status != 200:
                    raise AssertionError(answer.read())
                begun.wait(120)
                results[i] = answer.stream()
            except BaseException as error:
                begun.abort()
                results[i] = error

        threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
        for thread in threads:
            thread.start()
        try:
            begun.wait(120)
        except threading.BrokenBarrierError:
            pass
        else:
            if meanwhile is not None:
                meanwhile()
        for thread in threads:
            thread.join()
        return results

    def check(self, results, **fields):
        """Each stream against the same request alone and not streamed."""
        for i, result in enumerate(results):
            if isinstance(result, BaseException):
                raise result
            text, reason, usage, error = result
            self.assertIsNone(error)
            alone = self.complete(**{k: v for k, v in self.body(
                i, **fields).items() if k != "model"})
            self.assertEqual(text, alone["choices"][0]["text"], i)
            self.assertEqual(reason, alone["choices"][0]["finish_reason"], i)
            self.assertEqual(usage["completion_tokens"],
                             alone["usage"]["completion_tokens"], i)
            self.assertEqual(usage["prompt_tokens"],
                             alone["usage"]["prompt_tokens"], i)

    def test_1_streams_at_once(self):
        before = self.stack.metric("axion_engine_completion_tokens_total")
        results = self.run_streams(STREAMS)
        self.check(results)
        sent = sum(result[2]["completion_tokens"] for result in results)
        # counted twice: once streamed, once alone
        after = self.stack.metric("axion_engine_completion_tokens_total")
        self.assertEqual(after - before, 2 * sent)
        self.stack.wait_metric("axion_engine_requests_running", 0)
        self.stack.wait_metric("axion_engine_kv_blocks_used", 0)

    def test_2_reload_under_load(self):
        old = self.workers()
        fields = {"max_tokens": 80, "ignore_eos": True}
        results = self.run_streams(
            16, lambda: self.stack.nginx.send(signal.SIGHUP), **fields)
        self.check(results, **fields)
        # the old workers go when their streams have ended
        for pid in old:
            self.wait_gone(pid)
        self.assertTrue(self.workers())
        self.assertFalse(old & self.workers())
        self.assert_serves()

    def test_3_quit_lets_streams_end(self):
        fields = {"max_tokens": 80, "ignore_eos": True}
        results = self.run_streams(
            8, lambda: self.stack.nginx.send(signal.SIGQUIT), **fields)
        self.assertTrue(self.stack.nginx.died_within(60))
        self.assertEqual(self.stack.nginx.process.wait(), 0)
        self.stack.start_nginx()
        self.stack.wait_ready()
        self.check(results, **fields)

    def workers(self):
        with open(f"/proc/{self.stack.nginx.pid}/task/"
                  f"{self.stack.nginx.pid}/children") as file:
            return {int(pid) for pid in file.read().split()}

    def wait_gone(self, pid):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            ready, _, _ = base.stack.select.select([pidfd], [], [], 60)
            self.assertTrue(ready, f"worker {pid} is still there")
        finally:
            os.close(pidfd)


if __name__ == "__main__":
    base.main()
