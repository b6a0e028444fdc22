"""Engines that are killed, stopped, restarted or never there: a started
answer ends with an error event, one that was not accepted starts over, and
nginx needs no reload."""

import signal
import threading

import rig


class EngineDeath(rig.Test):
    def times(self, times):
        self.nginx.write(http=self.nginx.settings["http"].replace(
            "connect=30s stall=60s", times))

    # Where stall= is what is tested it is ten of the engine's heartbeats.
    HTTP = "axion_timeout connect=30s stall=60s;"
    SERVER = rig.Test.SERVER + "location = /stub { stub_status; }"

    def test_started_stream_ends_with_an_error_event(self):
        self.start()
        client = self.client().chat("!tokens=1000 !delay_ms=5 abcd")
        client.until(b'"content":"abcd"')
        self.echo.kill()
        text, error, done = client.stream()
        self.assertTrue(text.startswith("abcd"))
        self.assertEqual(error["code"], "engine_lost")
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertFalse(done)

    def test_started_answer_gets_a_502(self):
        self.start()
        client = self.client().chat("!tokens=1000 !delay_ms=5 abcd",
                                    stream=False)
        self.echo.wait("accepted")
        # It says so before it is on the ring; by the next one's first token
        # the worker has had it.
        self.client().chat("!tokens=1000 !delay_ms=5 abcd").until(
            b'"content":"abcd"')
        self.echo.kill()
        status, headers, body = client.whole()
        self.assertEqual(status, 502)
        self.assertIn("retry-after", headers)
        self.assertEqual(rig.json.loads(body)["error"]["code"], "engine_lost")

    def test_request_not_accepted_starts_over(self):
        self.echo.options = ["--accept-delay-ms", "600000"]
        self.start()
        client = self.client().chat("again")
        self.echo.wait("submit")
        self.echo.kill()
        self.nginx.wait("lost engine")
        self.echo.stop()
        self.echo.options = []
        self.echo.start()
        text, error, done = client.stream()
        self.assertEqual((text, error, done), ("again", None, True))
        self.assertEqual(self.nginx.metrics()["axion_retries_total"], 1)

    def test_request_that_kills_engines_is_given_up(self):
        self.start()
        client = self.client().chat("!die poison")
        stop = threading.Event()

        def resurrect():
            while not stop.is_set():
                if self.echo.process.poll() is not None:
                    self.echo.stop()
                    self.echo.start()
                stop.wait(0.01)

        thread = threading.Thread(target=resurrect)
        thread.start()
        try:
            client.drain()
            self.assertIn(b"engine_lost", client.data)
            # its sockets close before the last engine is seen to be dead
            self.assert_serves()
        finally:
            stop.set()
            thread.join()

    def test_engine_that_comes_late_serves_who_waits(self):
        self.nginx.start()
        self.nginx.wait("is not available")
        clients = [self.client().chat("hello") for _ in range(8)]
        models = self.client()
        models.send("GET", "/v1/models")
        self.echo.start()
        for client in clients:
            self.assertEqual(client.stream(), ("hello", None, True))
        status, _, body = models.whole()
        self.assertEqual(status, 200)
        self.assertIn(b'"id":"echo"', body)

    def test_no_engine_is_503(self):
        self.times("connect=100ms")
        self.nginx.start()
        status, headers, body = self.client().chat("hello").whole()
        self.assertEqual(status, 503)
        self.assertIn("retry-after", headers)
        self.assertEqual(rig.json.loads(body)["error"]["code"],
                         "engine_unavailable")
        status, _, _ = self.client().chat("hello", stream=False).whole()
        self.assertEqual(status, 503)

    def test_restarts_cost_no_descriptors_and_no_mappings(self):
        self.start()
        (worker,) = self.nginx.workers()

        def held():
            maps = open(f"/proc/{worker}/maps", encoding="utf-8")
            with maps:
                return (len(rig.os.listdir(f"/proc/{worker}/fd")),
                        maps.read().count("memfd:"))

        self.assert_serves()
        before = rig.wait_until(lambda: self.idle() and held(), "rest")
        for i in range(8):
            self.echo.kill()
            self.nginx.wait("lost engine", i + 1)
            self.echo.stop()
            self.echo.start()
            self.nginx.wait("connected to engine", i + 2)
            self.assert_serves()
        rig.wait_until(lambda: self.idle() and held() == before,
                       f"the worker to hold {before} again")

    def idle(self):
        """No connection but the one that asks."""
        _, body = self.nginx.get("/stub")
        return body.startswith(b"Active connections: 1 ")

    def test_stopped_engine_is_found_out(self):
        self.times("connect=200ms stall=1s")
        self.start()
        running = self.client().chat("!tokens=100000 !delay_ms=2 abcd")
        running.until(b'"content":"abcd"')
        self.echo.kill(signal.SIGSTOP)
        _, error, done = running.stream()
        self.assertEqual((error["code"], done), ("engine_stalled", False))
        status, _, body = self.client().chat("hello").whole()
        self.assertEqual(status, 504, body)
        self.echo.kill(signal.SIGCONT)
        self.nginx.wait("connected to engine", 2)
        self.assert_serves()
        name = f'axion_engine_stalls_total{{engine="unix:{self.echo.path}"}}'
        self.assertEqual(self.nginx.metrics()[name], 1)

    def test_paused_and_silent_streams_are_no_stall(self):
        self.times("connect=30s stall=1s")
        self.start()
        client = self.client().chat("!tokens=2 !first_delay_ms=3000 abcd")
        self.assertEqual(client.stream(), ("abcdabcd", None, True))

    def test_worker_that_was_stopped_blames_nobody(self):
        self.times("connect=30s stall=1s")
        self.start()
        (worker,) = self.nginx.workers()
        short, client = (self.client().chat(f"!tokens={n} !delay_ms=10 abcd")
                         for n in (250, 350))
        for each in (short, client):
            each.until(b'"content":"abcd"')
        rig.os.kill(worker, signal.SIGSTOP)
        self.echo.wait("done")  # after longer than stall=
        rig.os.kill(worker, signal.SIGCONT)
        self.assertEqual(short.stream(), ("abcd" * 250, None, True))
        self.assertEqual(client.stream(), ("abcd" * 350, None, True))

    def test_late_accept_sends_200_first_and_errors_as_events(self):
        self.times("connect=30s stall=60s accept=100ms")
        self.start()
        self.echo.kill(signal.SIGSTOP)
        client = self.client().chat("!error=QUEUE_FULL x")
        client.until(b"200 OK").until(b": ping")
        self.echo.kill(signal.SIGCONT)
        _, error, done = client.stream()
        self.assertEqual((error["code"], done), ("overloaded", False))

    def test_loading_engine_is_waited_for(self):
        self.echo.options.append("--loading")
        self.start()
        streamed = self.client().chat("hello")
        whole = self.client().chat("hello", stream=False)
        self.assertEqual(self.nginx.get("/status?ready")[0], 503)
        self.echo.kill(signal.SIGUSR1)
        self.assertEqual(streamed.stream(), ("hello", None, True))
        self.assertEqual(whole.whole()[0], 200)
        self.assertEqual(self.nginx.get("/status?ready")[0], 200)

    def test_engine_that_loads_too_long_says_so(self):
        self.times("connect=100ms")
        self.echo.options.append("--loading")
        self.start()
        status, headers, body = self.client().chat("hello").whole()
        self.assertEqual(status, 503)
        self.assertIn("retry-after", headers)
        self.assertEqual(rig.json.loads(body)["error"]["code"],
                         "model_loading")

    def test_draining_engine_finishes_and_new_requests_wait(self):
        self.start()
        running = self.client().chat("!tokens=100 !delay_ms=5 abcd")
        running.until(b'"content":"abcd"')
        self.echo.kill(signal.SIGTERM)
        self.echo.wait("draining")
        waiting = self.client().chat("hello")
        self.assertEqual(running.stream(), ("abcd" * 100, None, True))
        self.echo.process.wait(timeout=rig.HANG)
        self.echo.stop()
        self.echo.start()
        self.assertEqual(waiting.stream(), ("hello", None, True))


class TwoEngines(rig.Test):
    def setUp(self):
        super().setUp()
        self.other = rig.Echo(self.dir, "other", ["--model", "other",
                                                  "--model", "echo"])
        self.addCleanup(self.other.stop)
        self.nginx.write(http=f"""
            axion_timeout connect=200ms;
            axion_upstream llm {{
                engine unix:{self.echo.path};
                engine unix:{self.other.path};
            }}""")

    def test_load_is_spread_and_the_other_takes_over(self):
        self.other.start()
        self.echo.start()
        self.nginx.start()
        self.nginx.wait("connected to engine", 2)
        # none ends before the last one is there
        clients = [self.client().chat("!stall_after=1 abcd")
                   for _ in range(8)]
        for client in clients:
            client.until(b'"content":"abcd"')
        self.assertEqual(len(rig.re.findall("submit", self.echo.text())), 4)
        self.assertEqual(len(rig.re.findall("submit", self.other.text())), 4)
        for client in clients:
            client.close()
        self.echo.kill()
        self.nginx.wait("lost engine")
        for _ in range(4):
            self.assert_serves()

    def test_models_of_both_are_listed_and_found(self):
        self.other.start()
        self.echo.start()
        self.nginx.start()
        self.nginx.wait("connected to engine", 2)
        status, body = self.nginx.get("/v1/models")
        self.assertEqual(status, 200)
        ids = [m["id"] for m in rig.json.loads(body)["data"]]
        self.assertEqual(sorted(ids), ["echo", "other"])
        client = self.client().chat("hi", model="other")
        self.assertEqual(client.stream(), ("hi", None, True))


if __name__ == "__main__":
    rig.main()
