"""The systemd units: systemd accepts them and rates them as hardened, the
command in them starts the engine that the example describes, and axiond works
within what they leave it: no new code, little locked memory, their system
calls."""

import ctypes
import grp
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess

import ops

UNITS = os.path.join(ops.ROOT, "conf-examples/systemd")
EXPOSURE_TENTHS_MAX = 15
PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE = 65  # Linux 6.3: what MemoryDenyWriteExecute= stands for


def unit(name):
    with open(os.path.join(UNITS, name), encoding="utf-8") as file:
        return file.read()


def setting(name):
    """All values of one setting of the service, in order."""
    return re.findall(rf"^{name}=(.*)$", unit("axiond@.service"), re.M)


def environment_file(path):
    with open(path, encoding="utf-8") as file:
        return dict(line.rstrip("\n").split("=", 1) for line in file
                    if line[0] not in "#\n")


def confine():
    """In the child: what of the unit any process can do to itself."""
    locked = int(setting("LimitMEMLOCK")[0].rstrip("M")) << 20
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most == resource.RLIM_INFINITY or most > locked:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (locked, locked))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_MDWE, 1, 0, 0, 0):
        os._exit(126)


def allowed_calls():
    """SystemCallFilter= as systemd reads it: names of system calls."""
    allowed = expand("@default")
    for value in setting("SystemCallFilter"):
        names = set()
        for name in value.lstrip("~").split():
            names |= expand(name)
        if value.startswith("~"):
            allowed -= names
        else:
            allowed |= names
    return allowed


def expand(name):
    if name[0] != "@":
        return {name}
    names = set()
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name],
                            check=True, stdout=subprocess.PIPE, text=True)
    for line in listed.stdout.splitlines()[1:]:
        line = line.strip()
        if line and line[0] != "#":
            names |= expand(line)
    return names


class Accepted(ops.Test):
    def setUp(self):
        super().setUp()
        if shutil.which("systemd-analyze") is None:
            self.skipTest("systemd-analyze is not installed")
        for name in ("axiond@.service", "axiond@.socket"):
            path = os.path.join(self.dir, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(unit(name).replace("/usr/bin/axiond", ops.AXIOND))
            os.symlink(name, path.replace("@", "@tiny"))

    def analyze(self, *args):
        done = subprocess.run(["systemd-analyze", *args], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def test_systemd_verifies_them(self):
        self.assertEqual("", self.analyze("verify", "--man=no",
                                          self.dir + "/axiond@tiny.service",
                                          self.dir + "/axiond@tiny.socket"))

    def test_exposure_is_low(self):
        self.analyze("security", "--offline=true", "--no-pager",
                     f"--threshold={EXPOSURE_TENTHS_MAX}",
                     self.dir + "/axiond@tiny.service")

    def test_axiond_makes_only_calls_that_the_filter_allows(self):
        if shutil.which("strace") is None:
            self.skipTest("strace is not installed")
        for loop in ("io_uring", "epoll"):
            trace = os.path.join(self.dir, "trace-" + loop)
            process = self.axiond(
                "--event-loop", loop,
                before=("strace", "-f", "-qq", "-o", trace))
            self.wait_log(process, "ready on")
            self.ask()
            # strace passes no SIGTERM on: its child's is asked for.
            with open(f"/proc/{process.pid}/task/{process.pid}/children",
                      encoding="ascii") as file:
                os.kill(int(file.read()), signal.SIGTERM)
            self.assertEqual(process.wait(timeout=ops.HANG), 0)
            with open(trace, encoding="utf-8", errors="replace") as file:
                made = set(re.findall(r"^\d+ +(\w+)\(", file.read(), re.M))
            self.assertIn("recvmsg", made)
            self.assertEqual(made - allowed_calls(), set())


class Command(ops.Test):
    def test_its_command_starts_the_example(self):
        values = environment_file(os.path.join(UNITS, "smollm2.conf"))
        self.assertEqual(set(values), {"MODEL", "OPTIONS"})
        self.assertTrue(values["MODEL"].endswith(".gguf"))
        command, = setting("ExecStart")
        words = []
        for word in shlex.split(command):
            words += (values["OPTIONS"].split() if word == "$OPTIONS"
                      else [word.replace("${MODEL}", self.model)])
        line = words.index("--listen") + 1
        self.assertEqual(words[line],
                         "unix:/run/axion/%i.sock,mode=0660,group=www-data")
        words[line] = (f"unix:{self.path},mode=0660,group="
                       + grp.getgrgid(os.getegid()).gr_name)
        self.assertEqual(words[0], "/usr/bin/axiond")
        process = self.start([ops.AXIOND, *words[1:]])
        self.wait_log(process, "ready on")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o660)
        self.ask()
        self.terminate(process)

    def test_socket_unit_agrees_with_the_service(self):
        text = unit("axiond@.socket")
        self.assertIn("ListenSequentialPacket=/run/axion/%i.sock\n", text)
        self.assertIn("SocketMode=0660\n", text)
        self.assertIn(f"SocketGroup={setting('SupplementaryGroups')[0]}\n",
                      text)
        self.assertIn(f"SocketUser={setting('User')[0]}\n", text)

    def test_time_to_stop_is_longer_than_the_drain(self):
        path = os.path.join(ops.ROOT, "engine/server/option_table.c")
        with open(path, encoding="utf-8") as file:
            drain = re.search(r"drain_timeout_ms = (\d+)",
                              file.read()).group(1)
        stop = int(setting("TimeoutStopSec")[0].rstrip("s"))
        self.assertGreater(stop * 1000, int(drain))

    def test_confined_it_gives_the_same_answer(self):
        for flag in ("MemoryDenyWriteExecute", "NoNewPrivileges"):
            self.assertEqual(setting(flag), ["yes"])
        if subprocess.run(["true"], preexec_fn=confine).returncode == 126:
            self.skipTest("no PR_SET_MDWE")
        process = self.axiond()
        self.wait_log(process, "ready on")
        answer = self.ask()
        self.terminate(process)
        process = self.axiond(prepare=confine)
        self.wait_log(process, "ready on")
        self.assertEqual(self.ask(), answer)
        with open(f"/proc/{process.pid}/maps", encoding="ascii") as file:
            self.assertNotRegex(file.read(), r" .wx. ")
        self.terminate(process)


if __name__ == "__main__":
    ops.main()
