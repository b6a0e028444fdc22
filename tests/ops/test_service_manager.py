"""axiond under a service manager: what it tells NOTIFY_SOCKET and when, and
that it serves on a socket that was passed to it and leaves that socket be."""

import os
import shutil
import socket
import subprocess

import ops


class Notify(ops.Test):
    def check_life(self, name):
        manager = ops.Manager(name)
        self.addCleanup(manager.socket.close)
        process = self.axiond(NOTIFY_SOCKET=name)
        before = manager.until("READY=1")
        self.assertEqual(before[0], ["STATUS=loading " + self.model])
        self.assertEqual(before[-1], ["READY=1", 'STATUS=serving "tiny" on '
                                      + self.path])
        self.ask()
        self.terminate(process)
        self.assertEqual(manager.until("STOPPING=1")[-1],
                         ["STOPPING=1", "STATUS=draining 0 requests"])

    def test_ready_after_load_and_stopping_on_a_path(self):
        self.check_life(os.path.join(self.dir, "notify"))

    def test_ready_after_load_and_stopping_on_an_abstract_socket(self):
        self.check_life("@axion-test-" + os.path.basename(self.dir))

    def test_failed_load_is_told_and_never_ready(self):
        manager = ops.Manager(os.path.join(self.dir, "notify"))
        self.addCleanup(manager.socket.close)
        with open(self.model, "wb") as file:
            file.write(b"no model")
        process = self.axiond(NOTIFY_SOCKET=manager.name)
        self.assertEqual(process.wait(timeout=ops.HANG), 1)
        self.assertIn("STATUS=loading ", manager.message()[0])
        last = manager.message()
        self.assertEqual(len(last), 1)
        self.assertIn("STATUS=cannot load the model: ", last[0])

    def test_status_cannot_add_lines(self):
        manager = ops.Manager(os.path.join(self.dir, "notify"))
        self.addCleanup(manager.socket.close)
        self.model = os.path.join(self.dir, "a\nMAINPID=1")
        with open(self.model, "wb") as file:
            file.write(b"no model")
        process = self.axiond("--alias", "a", NOTIFY_SOCKET=manager.name)
        self.assertEqual(process.wait(timeout=ops.HANG), 1)
        for text in "STATUS=loading ", "STATUS=cannot load the model: ":
            lines = manager.message()
            self.assertEqual(len(lines), 1)
            self.assertIn(text, lines[0])
            self.assertRegex(lines[0], r"a(\?|\\x0a)MAINPID=1")

    def test_unreachable_manager_is_one_warning(self):
        process = self.axiond(NOTIFY_SOCKET=self.dir + "/nobody")
        lines = []
        while not lines or "ready on" not in lines[-1]:
            lines.append(process.stderr.readline())
            self.assertNotEqual(lines[-1], "")
        self.assertEqual(sum("NOTIFY_SOCKET" in x for x in lines), 1, lines)
        self.ask()
        self.terminate(process)


class Activation(ops.Test):
    def test_passed_socket_is_served_and_left_alone(self):
        fd = self.listener().fileno()
        first = self.axiond(listen=False, fd=fd)
        self.wait_log(first, "ready on " + self.path)
        answer = self.ask()
        self.terminate(first)
        self.assertTrue(os.path.exists(self.path))

        # Nobody serves now, and yet a client gets in and waits for the next
        # engine, which answers what it sent (with a refusal: it is nothing).
        with self.connect() as waiting:
            waiting.send(b"nothing")
            second = self.axiond(listen=False, fd=fd)
            waiting.recv(4096)
        self.wait_log(second, "ready on " + self.path)
        self.assertEqual(self.ask(), answer)
        self.terminate(second)

    def test_passed_socket_goes_before_the_option(self):
        fd = self.listener().fileno()
        process = self.axiond("--listen", f"unix:{self.dir}/other",
                              listen=False, fd=fd)
        self.wait_log(process, "ready on " + self.path)
        self.assertFalse(os.path.exists(self.dir + "/other"))
        self.terminate(process)

    def test_what_is_no_listening_seqpacket_socket_is_refused(self):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.bind(self.dir + "/stream")
        stream.listen(1)
        internet = socket.socket()
        internet.bind(("127.0.0.1", 0))
        internet.listen(1)
        file = open(self.model, "rb")
        for bad in (stream, internet, file, self.listener(listen=False)):
            self.addCleanup(bad.close)
            process = self.axiond(listen=False, fd=bad.fileno())
            self.wait_log(process, "not a listening unix socket")
            self.assertEqual(process.wait(timeout=ops.HANG), 2)

    def test_more_sockets_than_one_are_refused(self):
        process = self.axiond(fd=self.listener().fileno(), LISTEN_FDS="2")
        self.wait_log(process, "2 sockets were passed")
        self.assertEqual(process.wait(timeout=ops.HANG), 2)

    def test_numbers_that_are_none_are_refused(self):
        for pid, n in (("1x", "1"), ("1", "-1"), ("", "1")):
            process = self.axiond(LISTEN_PID=pid, LISTEN_FDS=n)
            self.wait_log(process, "is not a number")
            self.assertEqual(process.wait(timeout=ops.HANG), 2)

    def test_socket_of_another_process_is_left_alone(self):
        process = self.axiond(LISTEN_PID="1", LISTEN_FDS="1")
        self.wait_log(process, "ready on " + self.path)
        self.terminate(process)
        self.assertFalse(os.path.exists(self.path))

    def test_systemds_own_tool_can_start_it(self):
        tool = shutil.which("systemd-socket-activate")
        if tool is None:
            self.skipTest("systemd-socket-activate is not installed")
        manager = subprocess.Popen(
            [tool, "--seqpacket", "--listen", self.path, ops.AXIOND,
             "--model", self.model, "--threads", "1"], text=True,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(self.end, manager)
        self.wait_log(manager, "Listening on")
        with self.connect():
            self.wait_log(manager, "ready on " + self.path)
        self.assertNotEqual(self.ask(), "")
        self.terminate(manager) # it has become the engine


if __name__ == "__main__":
    ops.main()
