"""A new nginx binary takes over under load (USR2, then QUIT to the old
master): no stream is cut, and new requests are served by the new one.  The same
when the new one is taken back, and when it cannot even start."""

import ctypes
import os
import signal

import rig

STREAMS = 12
PR_SET_CHILD_SUBREAPER = 36


class Upgrade(rig.Test):
    WORKERS = 2

    def setUp(self):
        # The new master is the old one's child; when that is gone it becomes
        # ours, so that its end can be waited for.
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            self.skipTest("no subreaper")
        super().setUp()
        self.start()
        self.pid_file = self.nginx.dir + "/nginx.pid"

    def running(self):
        clients = [self.client().chat("!tokens=300 !delay_ms=5 abcdefgh")
                   for _ in range(STREAMS)]
        for client in clients:
            client.until(b'"content":"abcd"')
        return clients

    def assert_whole(self, clients):
        for client in clients:
            self.assertEqual(client.stream(), ("abcdefgh" * 150, None, True))

    def new_master(self):
        """USR2; the pid of the new master, once its workers serve."""
        old = self.read_pid(self.pid_file)
        self.nginx.signal(signal.SIGUSR2)
        rig.wait_until(lambda: os.path.exists(self.pid_file + ".oldbin"),
                       "the old pid file to move")
        new = rig.wait_until(lambda: self.read_pid(self.pid_file),
                             "the new pid file")
        self.assertNotEqual(old, new)
        self.addCleanup(self.end, new)
        self.nginx.wait("start worker process ", 2 * self.WORKERS)
        self.nginx.wait("connected to engine", 2 * self.WORKERS)
        return new

    @staticmethod
    def read_pid(path):
        try:
            with open(path, encoding="ascii") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            return None

    @staticmethod
    def end(pid):
        try:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def assert_served_by(self, master):
        """Whoever answers is a child of this master."""
        status, body = self.nginx.get("/pid")
        self.assertEqual(status, 200)
        with open(f"/proc/{int(body)}/stat", encoding="ascii") as file:
            self.assertEqual(int(file.read().rsplit(")", 1)[1].split()[1]),
                             master)

    SERVER = rig.Test.SERVER + 'location = /pid { return 200 "$pid"; }\n'

    def test_no_stream_is_cut_and_the_new_one_serves(self):
        clients = self.running()
        new = self.new_master()
        both = self.running()
        self.nginx.signal(signal.SIGQUIT)
        self.nginx.wait("gracefully shutting down", self.WORKERS)
        self.assert_serves()
        self.assert_served_by(new)
        after = self.running()
        self.assert_whole(clients)
        self.assert_whole(both)
        self.assertEqual(self.nginx.process.wait(timeout=rig.HANG), 0)
        self.assert_whole(after)
        self.assert_served_by(new)
        self.assert_serves()

    def test_upgrade_that_is_taken_back_cuts_no_stream(self):
        new = self.new_master()
        self.nginx.signal(signal.SIGWINCH)
        self.nginx.wait("gracefully shutting down", self.WORKERS)
        clients = self.running()
        self.assert_served_by(new)
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("start worker process ", 3 * self.WORKERS)
        self.nginx.wait("connected to engine", 3 * self.WORKERS)
        os.kill(new, signal.SIGQUIT)
        self.nginx.wait("gracefully shutting down", 2 * self.WORKERS)
        self.assert_serves()
        self.assert_served_by(self.nginx.process.pid)
        self.assert_whole(clients)

    def test_new_one_that_cannot_start_harms_nobody(self):
        self.expected = "no_such_directive"
        clients = self.running()
        self.nginx.write(server=self.SERVER + "no_such_directive;")
        self.nginx.signal(signal.SIGUSR2)
        self.nginx.wait("no_such_directive")
        self.assert_serves()
        self.assert_served_by(self.nginx.process.pid)
        self.assert_whole(clients)


if __name__ == "__main__":
    rig.main()
