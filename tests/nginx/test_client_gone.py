"""A client that is gone before its request is looked at: its end comes with
the request's bytes, and nothing will tell of it once more."""

import os
import signal

import rig


class ClientGone(rig.Test):
    def stopped(self, pid):
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(") ", 1)[1].startswith("T")

    def leave_unread(self, **fields):
        """Asks and leaves while the worker is stopped."""
        self.start()
        (worker,) = self.nginx.workers()
        os.kill(worker, signal.SIGSTOP)
        rig.wait_until(lambda: self.stopped(worker), "the worker to stop")
        client = self.client()
        client.chat("!first_delay_ms=600000 abcd", **fields)
        client.close()
        os.kill(worker, signal.SIGCONT)
        self.echo.wait("reason=cancelled")
        self.assertEqual(
            self.nginx.metrics()["axion_cancels_total"], 1)
        self.assert_serves()

    def test_a_stream_is_cancelled(self):
        self.leave_unread(stream=True)

    def test_an_answer_that_is_not_streamed_is_cancelled(self):
        self.leave_unread(stream=False)


if __name__ == "__main__":
    rig.main()
