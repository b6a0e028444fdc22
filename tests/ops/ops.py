"""What these tests share: a tiny model, an axiond as a service manager would
start it, and the manager's end of the two protocols.

Every wait is for an event; HANG only ends a test that hangs.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BUILD = os.environ.get("AXION_BUILD", os.path.join(ROOT, "build"))
AXIOND = os.path.join(BUILD, "axiond")
AXION = os.path.join(BUILD, "axion")
TINY = os.path.join(BUILD, "tests/tiny/tiny-model")
HANG = 120
SKIPPED = 77

# Puts descriptor $1 in the place where a service manager passes the first
# one and becomes the program: only so are LISTEN_PID and the pid equal.
PASS = 'exec 3<&"$1" && shift && LISTEN_PID=$$ exec "$@"'


def main():
    for program in (AXIOND, AXION, TINY):
        if not os.path.exists(program):
            sys.exit(f"{program} is not built")
    unittest.main(verbosity=2)


class Manager:
    """A NOTIFY_SOCKET and what came through it."""

    def __init__(self, name):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(HANG)
        self.socket.bind("\0" + name[1:] if name[0] == "@" else name)

    def message(self):
        """The next message as a list of its lines."""
        return self.socket.recv(4096).decode().split("\n")

    def until(self, line):
        """All messages up to the one with this line."""
        messages = [self.message()]
        while line not in messages[-1]:
            messages.append(self.message())
        return messages


class Test(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="axion-ops-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.model = os.path.join(self.dir, "tiny.gguf")
        subprocess.run([TINY, "--variant", "q8_0", self.model], check=True)
        self.path = os.path.join(self.dir, "engine.sock")

    def listener(self, kind=socket.SOCK_SEQPACKET, listen=True):
        sock = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(sock.close)
        sock.bind(self.path)
        if listen:
            sock.listen(16)
        return sock

    def connect(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(HANG)
        sock.connect(self.path)
        return sock

    def axiond(self, *args, listen=True, fd=None, prepare=None, before=(),
               **env):
        """Starts it.  `fd` is passed on as descriptor 3, with LISTEN_PID its
        own unless `env` has one; `before` is a program that starts it."""
        command = [*before, AXIOND, "--model", self.model, "--threads", "1",
                   *args]
        if listen:
            command += ["--listen", "unix:" + self.path]
        if fd is not None and "LISTEN_PID" not in env:
            command = ["bash", "-c", PASS, "pass", str(fd)] + command
            env.setdefault("LISTEN_FDS", "1")
        return self.start(command, fd, prepare, **env)

    def start(self, command, fd=None, prepare=None, **env):
        """Runs a command; its stderr is a pipe."""
        process = subprocess.Popen(
            command, env={**os.environ, **env}, text=True,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            pass_fds=() if fd is None else (fd,), preexec_fn=prepare)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
        process.wait(timeout=HANG)
        process.stderr.close()

    def wait_log(self, process, text):
        lines = []
        for line in process.stderr:
            lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended without {text!r}: {lines}")

    def terminate(self, process):
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=HANG), 0)

    def ask(self, path=None):
        """The answer that an engine gives on its socket."""
        answer = subprocess.run(
            [AXION, "chat", "--prompt", "Hello", "--max-tokens", "16",
             "--temp", "0", "--connect", "unix:" + (path or self.path)],
            timeout=HANG, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        return answer.stdout
