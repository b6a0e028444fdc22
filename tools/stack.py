"""An engine and an nginx of our own, for the demo, the end-to-end tests and the
benchmarks: unprivileged, on a free loopback port, all files under one folder,
never touching the system's nginx.

Both are children that die with their parent (except where keep is asked for).
Waiting is polling of axion_status against the children's life, never a fixed
sleep; what a child said is in its log and goes into the exception when it dies.
"""

import ctypes
import getpass
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PR_SET_PDEATHSIG = 1
SOCKET_PATH_MAX = 107
POLL_S = 0.02
KEPT_PORTS = []

CONF = """\
user {user};
daemon off;
worker_processes {workers};
pid nginx.pid;
error_log error.log {level};
load_module {module};
events {{ worker_connections 4096; }}
http {{
    log_format llm '$remote_addr "$request" $status $axion_tenant '
                   '$axion_model $axion_prompt_tokens '
                   '$axion_completion_tokens ttft=$axion_ttft '
                   'tpot=$axion_tpot $axion_finish_reason';
    access_log access.log llm;
    client_body_temp_path tmp/body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
{http}
    server {{
        listen 127.0.0.1:{port} backlog=4096{listen};
{server}
    }}
}}
"""


class StackError(Exception):
    pass


def build_path(name):
    build = os.environ.get("AXION_BUILD") or os.path.join(
        ROOT, os.environ.get("BUILD", "build"))
    return os.path.join(os.path.abspath(build), name)


def free_port():
    """A port of the loopback, kept until this process ends: a socket that is
    bound to it and does not listen lets a server have it (one that asks for
    SO_REUSEADDR or SO_REUSEPORT: nginx, redis-server, llama-server), and
    nobody who looks for a free one.  Below those that the kernel gives to
    clients by default: one of these could take it while nginx is down."""
    while True:
        port = random.randrange(10000, 30000)
        kept = socket.socket()
        try:
            kept.bind(("127.0.0.1", port))
        except OSError:
            kept.close()
            continue
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        KEPT_PORTS.append(kept)
        return port


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A process whose output goes to a file."""

    def __init__(self, argv, log, keep=False, cwd=None):
        self.argv, self.log = argv, log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                cwd=cwd, start_new_session=keep,
                preexec_fn=None if keep else die_with_parent)
        self.pidfd = os.pidfd_open(self.process.pid)

    @property
    def pid(self):
        return self.process.pid

    def died_within(self, seconds):
        """Waits for the death, at most so long."""
        ready, _, _ = select.select([self.pidfd], [], [], seconds)
        return bool(ready)

    def tail(self, lines=20):
        with open(self.log, errors="replace") as file:
            return "".join(file.readlines()[-lines:])

    def send(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM, seconds=30):
        """Ends it and returns its status; what does not end is killed."""
        self.send(number)
        if not self.died_within(seconds):
            self.send(signal.SIGKILL)
        status = self.process.wait()
        os.close(self.pidfd)
        return status


class Stack:
    """One axiond and one nginx.  options: more of axiond's; http, server:
    lines for nginx.conf, {socket} in http stands for the engine's address;
    listen: more parameters of the listen directive; early: not to wait for
    more than the first `ready`."""

    HTTP = "    axion_upstream llm { engine unix:{socket}; }\n"
    SERVER = """\
        location /v1/ {
            axion_pass llm;
            client_max_body_size 2m;
            client_body_buffer_size 256k;  # longer ones go through a file
        }
        location = /status { axion_status llm; }
        location = /metrics { axion_metrics; }
"""

    def __init__(self, folder, model, options=(), http=None, server=None,
                 workers=2, level="notice", keep=False, listen="",
                 early=False):
        self.folder = os.path.abspath(folder)
        self.model, self.options, self.keep = model, list(options), keep
        self.http = http or self.HTTP
        self.server = server or self.SERVER
        self.workers, self.level = workers, level
        self.listen, self.early = listen, early
        self.engine = self.nginx = self.scratch = None
        self.started_s = self.ready_s = None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def start(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(os.path.join(self.folder, "tmp"))
        self.socket = os.path.join(self.folder, "engine.sock")
        if len(self.socket) > SOCKET_PATH_MAX:
            self.scratch = tempfile.mkdtemp(prefix="axion-")
            self.socket = os.path.join(self.scratch, "engine.sock")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.write_conf()
        self.start_engine()
        self.start_nginx()
        self.wait_ready(early=self.early)
        return self

    def write_conf(self):
        text = CONF.format(
            user=getpass.getuser(), workers=self.workers, level=self.level,
            module=build_path("ngx_http_axion_module.so"), port=self.port,
            listen=self.listen and " " + self.listen,
            http=self.http.replace("{socket}", self.socket),
            server=self.server)
        with open(os.path.join(self.folder, "nginx.conf"), "w") as file:
            file.write(text)

    def start_engine(self):
        self.started_s, self.ready_s = time.monotonic(), None
        self.engine = Child(
            [build_path("axiond"), "--model", self.model, "--listen",
             f"unix:{self.socket}", *self.options],
            os.path.join(self.folder, "axiond.log"), self.keep)

    def start_nginx(self):
        binary = os.environ.get("TEST_NGINX_BINARY") or shutil.which(
            "nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if binary is None:
            raise StackError("nginx is not installed (make deps)")
        self.nginx = Child(
            [binary, "-p", self.folder + "/", "-c", "nginx.conf", "-e",
             "error.log"],
            os.path.join(self.folder, "nginx.out"), self.keep)

    def errors(self):
        path = os.path.join(self.folder, "error.log")
        if not os.path.exists(path):
            return ""
        with open(path, errors="replace") as file:
            return file.read()

    def wait_ready(self, seconds=120, early=False):
        """Until axion_status says that the engine is ready and, but for
        `early`, that all is loaded: its steps cost what they will."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.engine.died_within(0):
                raise StackError("axiond ended:\n" + self.engine.tail())
            if self.nginx.died_within(POLL_S):
                raise StackError("nginx ended:\n" + self.nginx.tail()
                                 + self.errors()[-2000:])
            try:
                with urllib.request.urlopen(self.url + "/status?ready",
                                            timeout=5) as answer:
                    text = answer.read()
                self.status = json.loads(text)
                if self.ready_s is None:
                    self.ready_s = time.monotonic() - self.started_s
                if early or b'"loaded"' not in text:
                    return
            except (urllib.error.URLError, OSError, ValueError):
                continue
        raise StackError(f"not ready after {seconds} s:\n"
                         + self.engine.tail() + self.errors()[-2000:])

    def stop(self):
        for child, number in ((self.nginx, signal.SIGTERM),
                              (self.engine, signal.SIGTERM)):
            if child is not None:
                child.stop(number)
        self.nginx = self.engine = None
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def metrics(self):
        """All samples, {'name{labels}': value}."""
        with urllib.request.urlopen(self.url + "/metrics",
                                    timeout=120) as answer:
            text = answer.read().decode()
        samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def metric(self, name):
        """The sum over all labels."""
        found = [v for k, v in self.metrics().items()
                 if k == name or k.startswith(name + "{")]
        if not found:
            raise StackError(f"no metric {name}")
        return sum(found)

    def wait_until(self, read, wanted, what, seconds=120):
        """Until read() gives what is wanted, while nginx lives: of what has
        no event of its own."""
        deadline = time.monotonic() + seconds
        while True:
            value = read()
            if value == wanted:
                return
            if time.monotonic() > deadline:
                raise StackError(f"{what} is {value}, not {wanted}, "
                                 f"after {seconds} s")
            if self.nginx.died_within(POLL_S):
                raise StackError("nginx ended:\n" + self.nginx.tail()
                                 + self.errors()[-2000:])

    def wait_metric(self, name, wanted, seconds=120):
        """Until the metric has the value; the load board is polled."""
        def read():
            try:
                return self.metric(name)
            except StackError:
                return None  # this worker is not connected yet
        self.wait_until(read, wanted, name, seconds)


def rss_bytes(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
