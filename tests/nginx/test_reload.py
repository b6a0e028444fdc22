"""nginx -s reload and -s quit while streams run: the old workers finish them,
byte for byte, and new ones serve meanwhile."""

import signal

import rig

STREAMS = 12


class Reload(rig.Test):
    WORKERS = 2

    def running(self):
        clients = [self.client().chat("!tokens=300 !delay_ms=5 abcdefgh")
                   for _ in range(STREAMS)]
        for client in clients:
            client.until(b'"content":"abcd"')
        return clients

    def assert_whole(self, clients):
        for client in clients:
            text, error, done = client.stream()
            self.assertEqual((text, error, done),
                             ("abcdefgh" * 150, None, True))

    def test_reload_leaves_streams_whole(self):
        self.start()
        old = set(self.nginx.workers())
        clients = self.running()
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("start worker process ", 4)
        self.nginx.wait("connected to engine", 4)
        self.assert_serves()
        self.assert_whole(clients)
        self.nginx.wait("exited with code 0", 2)
        self.assertFalse(old & set(self.nginx.workers()))
        self.assert_serves()

    def test_quit_leaves_streams_whole(self):
        self.start()
        clients = self.running()
        self.nginx.signal(signal.SIGQUIT)
        self.nginx.wait("gracefully shutting down", 2)
        self.assert_whole(clients)
        self.assertEqual(self.nginx.process.wait(timeout=rig.HANG), 0)

    def test_queued_request_survives_a_reload(self):
        self.start()
        client = self.client().chat("!accept_delay_ms=500 later")
        self.echo.wait("submit")
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("gracefully shutting down", 2)
        text, error, done = client.stream()
        self.assertEqual((text, error, done), ("later", None, True))

    def test_counters_outlive_a_reload(self):
        self.start()
        self.assert_serves()
        name = ('axion_requests_total{endpoint="chat_completions",'
                'status="2xx"}')
        before = rig.wait_until(lambda: self.nginx.metrics()[name],
                                "the request to be counted")
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("exited with code 0", 2)
        self.assertGreaterEqual(self.nginx.metrics()[name], before)

    def test_killed_worker_is_replaced_and_counted_out(self):
        self.expected = "exited on signal 9"
        self.start()
        clients = self.running()
        for pid in self.nginx.workers():
            rig.os.kill(pid, signal.SIGKILL)
        self.nginx.wait("connected to engine", 4)
        for client in clients:
            client.close()
        self.assert_serves()
        rig.wait_until(
            lambda: self.nginx.metrics()["axion_streams_active"] == 0,
            "no stream to be counted")


if __name__ == "__main__":
    rig.main()
