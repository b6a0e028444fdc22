"""A new nginx binary takes over under load (USR2, then QUIT to the old
master): no stream is cut, and new requests are served by the new one.  The same
when the new one is taken back, and when it cannot even start."""

import ctypes
import os
import signal
import subprocess

import rig

STREAMS = 12
PR_SET_CHILD_SUBREAPER = 36


class Master:
    """A master that is a daemon, with as much of Popen as the rig uses."""

    def __init__(self, pid):
        self.pid = pid
        self.status = None

    def send_signal(self, number):
        os.kill(self.pid, number)

    def end(self, flags=0):
        if self.status is None:
            pid, status = os.waitpid(self.pid, flags)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def poll(self):
        return self.end(os.WNOHANG)

    def wait(self, timeout):
        return rig.wait_until(lambda: self.poll() is not None and
                              (self.status,), "the master's end")[0]


class Daemon(rig.Nginx):
    """With `daemon off` nginx ignores USR2."""

    def write(self, **settings):
        super().write(**settings)
        with open(self.conf, encoding="utf-8") as file:
            text = file.read()
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(text.replace("daemon off;", ""))

    def start(self):
        subprocess.run([rig.NGINX, "-c", self.conf, "-p", self.dir, "-e",
                        self.log], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process = Master(rig.wait_until(self.read_pid, "the pid file"))
        self.wait("start worker process ", self.settings["workers"])

    def read_pid(self):
        try:
            with open(self.dir + "/nginx.pid", encoding="ascii") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            return None


class Upgrade(rig.Test):
    WORKERS = 2
    SERVER = rig.Test.SERVER + 'location = /pid { return 200 "$pid"; }\n'

    def setUp(self):
        # Daemons become this process's children, so that their end can be
        # waited for.
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            self.skipTest("no subreaper")
        super().setUp()
        self.nginx = Daemon(self.dir, self.SERVER,
                            self.nginx.settings["http"], self.WORKERS)
        self.start()

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
        old = self.nginx.process.pid
        self.addCleanup(self.end_other, old)
        self.nginx.signal(signal.SIGUSR2)
        self.nginx.wait("connected to engine", 2 * self.WORKERS)
        new = self.nginx.read_pid()
        self.assertNotEqual(old, new)
        self.assertTrue(os.path.exists(self.dir + "/nginx.pid.oldbin"))
        return new

    def end_other(self, old):
        """What has the pid file now, unless it is the master that the rig
        ends itself."""
        pid = self.nginx.read_pid()
        if pid is not None and pid != old:
            self.nginx.stop()
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)

    def assert_served_by(self, master):
        """Whoever answers is a child of this master."""
        status, body = self.nginx.get("/pid")
        self.assertEqual(status, 200)
        with open(f"/proc/{int(body)}/stat", encoding="ascii") as file:
            self.assertEqual(int(file.read().rsplit(")", 1)[1].split()[1]),
                             master)

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
        # The old master takes its pid file back when the new one has ended;
        # until then that one could vanish under clean-up's feet.
        rig.wait_until(lambda: self.nginx.read_pid() == self.nginx.process.pid,
                       "the new master's end")

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
