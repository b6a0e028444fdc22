"""What these tests share: an echo engine and an nginx of their own in a
folder of their own, and a client that sees every byte.

They show what Test::Nginx cannot express: several workers, reloads while
streams run, engines that are killed and stopped, readers that do not read.
Every wait is for an event (a log line, a byte, the end of a process); HANG is
only there so that a hung test ends, it never decides one.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
from stack import free_port  # noqa: E402

BUILD = os.environ.get("AXION_BUILD", os.path.join(ROOT, "build"))
ECHO = os.path.join(BUILD, "axion-echo")
MODULE = os.path.join(BUILD, "ngx_http_axion_module.so")
NGINX = os.environ.get("TEST_NGINX_BINARY") or shutil.which(
    "nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
HANG = 120

# What says how things stand when a wait was in vain: functions that return a
# text.  Each test puts its engine and its nginx here.
WITNESSES = []

CONF = """
load_module {module};
daemon off;
{main}
user {user};
worker_processes {workers};
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections {connections}; }}
http {{
    access_log {dir}/access.log;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} {listen};
        {server}
    }}
}}
"""


def main():
    for file in (NGINX, ECHO, MODULE):
        if not file or not os.path.exists(file):
            print(f"skipped: {file or 'nginx'} is not there")
            sys.exit(77)
    unittest.main(verbosity=2)


def wait_until(condition, what):
    """Polls what has no event of its own; only a hang ends it."""
    end = time.monotonic() + HANG
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("\n".join(
                [f"hung waiting for {what}", *(w() for w in WITNESSES)]))
        time.sleep(0.01)


def last_lines(text, n=8):
    return "".join(f"    {line[:200]}\n" for line in text.splitlines()[-n:])


def state_of(process):
    """How the kernel sees a process: "S (sleeping)", "exit 1"."""
    if process is None:
        return "not started"
    if process.poll() is not None:
        return f"exit {process.returncode}"
    with open(f"/proc/{process.pid}/status", encoding="ascii") as f:
        return re.search(r"State:\s+(.*)", f.read()).group(1)


class Echo:
    """One axion-echo; its log says what the ring brought."""

    def __init__(self, folder, name="echo", options=()):
        self.path = os.path.join(folder, name + ".sock")
        self.log = os.path.join(folder, name + ".log")
        self.options = list(options)
        self.process = None

    def start(self):
        if os.path.exists(self.log):
            os.unlink(self.log)
        self.process = subprocess.Popen(
            [ECHO, "--listen", f"unix:{self.path},mode=0666", "--log",
             self.log, *self.options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.wait("listen")

    def text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait(self, pattern, count=1):
        wait_until(lambda: len(re.findall(pattern, self.text())) >= count,
                   f"{count} times {pattern!r} in {self.log}")

    def told(self):
        return (f"echo engine: {state_of(self.process)}, its log ends:\n"
                + last_lines(self.text()))

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)

    def go_on(self):
        """SIGCONT for one that stops itself (!hang), once it has done so."""
        wait_until(lambda: state_of(self.process).startswith("T"),
                   "the engine to stop itself")
        self.kill(signal.SIGCONT)

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.process = None


class Nginx:
    def __init__(self, folder, server, http="", workers=1, listen="",
                 connections=1024, main=""):
        self.dir = folder
        self.port = free_port()
        self.conf = os.path.join(folder, "nginx.conf")
        self.log = os.path.join(folder, "error.log")
        self.process = None
        self.settings = {"workers": workers, "listen": listen, "http": http,
                         "server": server, "connections": connections,
                         "main": main}
        self.write()

    def write(self, **settings):
        self.settings.update(settings)
        user = "root" if os.geteuid() == 0 else "nobody"
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(CONF.format(module=MODULE, dir=self.dir, user=user,
                                port=self.port, **self.settings))

    def start(self):
        self.process = subprocess.Popen(
            [NGINX, "-c", self.conf, "-p", self.dir, "-e", self.log],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.wait("start worker process ", self.settings["workers"])
        wait_until(self.accepts, "nginx to accept")
        # the kernel accepts, and the log has it, before they say who they are
        wait_until(lambda: len(self.workers()) >= self.settings["workers"],
                   "the workers' titles")

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            if self.process.poll() is not None:
                raise AssertionError("nginx ended: " + self.text()) from None
            return False

    def text(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait(self, pattern, count=1):
        wait_until(lambda: len(re.findall(pattern, self.text())) >= count,
                   f"{count} times {pattern!r} in {self.log}")

    def told(self):
        return (f"nginx: {state_of(self.process)}, its log ends:\n"
                + last_lines(self.text()) + self.sockets())

    def sockets(self):
        """Its connections as ss prints them, where it is installed."""
        try:
            return subprocess.run(
                ["ss", "-tinoH", "sport", "=", f":{self.port}"],
                capture_output=True, text=True, check=False,
                timeout=HANG).stdout
        except FileNotFoundError:
            return ""

    def signal(self, number):
        self.process.send_signal(number)

    def workers(self):
        """The processes of the master that are not shutting down."""
        pids = []
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children",
                  encoding="ascii") as f:
            for pid in f.read().split():
                try:
                    with open(f"/proc/{pid}/cmdline", encoding="ascii") as c:
                        if "worker process" in c.read():
                            pids.append(int(pid))
                except (FileNotFoundError, ProcessLookupError):
                    pass  # it ended meanwhile
        return pids

    def rss_kb(self, pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=HANG)
        self.process = None

    def get(self, path):
        c = Client(self.port)
        c.send("GET", path)
        status, _, body = c.whole()
        return status, body

    def metrics(self):
        status, body = self.get("/metrics")
        assert status == 200, body
        values = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values


class Client:
    """One request on one connection, read as far as the test wants."""

    def __init__(self, port, rcvbuf=None, source=None):
        self.sock = socket.socket()
        if source:
            self.sock.bind((source, 0))
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(HANG)
        self.sock.connect(("127.0.0.1", port))
        self.data = b""

    def send(self, method, path, body=b"", headers=()):
        head = [f"{method} {path} HTTP/1.1", "Host: localhost",
                "Connection: close", *headers]
        if body:
            head += ["Content-Type: application/json",
                     f"Content-Length: {len(body)}"]
        self.sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def chat(self, text, stream=True, headers=(), **fields):
        body = {"model": "echo", "stream": stream,
                "messages": [{"role": "user", "content": text}], **fields}
        self.send("POST", "/v1/chat/completions", json.dumps(body).encode(),
                  headers)
        return self

    def more(self):
        data = self.sock.recv(65536)
        self.data += data
        return data

    def until(self, text):
        while text not in self.data:
            if not self.more():
                raise AssertionError(f"end before {text!r}: {self.data!r}")
        return self

    def drain(self):
        while self.more():
            pass
        return self.data

    def close(self):
        self.sock.close()

    def whole(self):
        """Status, headers in lower case, body without chunk framing."""
        self.drain()
        self.sock.close()
        head, _, body = self.data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = dechunk(body)
        elif "content-length" in headers:
            assert len(body) == int(headers["content-length"]), "cut short"
        return int(lines[0].split()[1]), headers, body

    def stream(self):
        """(text, error, done) of a stream, every event parsed."""
        status, headers, body = self.whole()
        if status != 200:
            raise AssertionError(f"{status}: {body!r}")
        assert headers["content-type"] == "text/event-stream", headers
        return parse_stream(body)


def dechunk(body):
    out = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        n = int(size, 16)
        if n == 0:
            if rest != b"\r\n":
                raise AssertionError(f"after the last chunk: {rest!r}")
            return out
        out += rest[:n]
        if rest[n:n + 2] != b"\r\n":
            raise AssertionError("chunk framing")
        body = rest[n + 2:]


def parse_stream(body):
    text, error, done = "", None, False
    for event in body.decode().split("\n\n"):
        if event == "" or event.startswith(":"):
            continue
        assert event.startswith("data: "), event
        assert not done, f"after [DONE]: {event}"
        if event == "data: [DONE]":
            done = True
            continue
        value = json.loads(event[6:])
        if "error" in value:
            error = value["error"]
            continue
        for choice in value["choices"]:
            text += choice["delta"].get("content") or ""
    return text, error, done


class Test(unittest.TestCase):
    """A folder, an engine and an nginx for each test."""

    ECHO = ()
    WORKERS = 1
    HTTP = ""
    LISTEN = ""
    CONNECTIONS = 1024
    MAIN = ""
    SERVER = """
        location /v1/ { axion_pass llm; }
        location = /metrics { axion_metrics; }
        location = /status { axion_status llm; }
    """

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="axion-nginx-")
        self.addCleanup(self.clean)
        os.chmod(self.dir, 0o755)
        self.echo = Echo(self.dir, options=self.ECHO)
        self.nginx = Nginx(
            self.dir, self.SERVER,
            f"axion_upstream llm {{ engine unix:{self.echo.path}; }}\n"
            + self.HTTP, self.WORKERS, self.LISTEN, self.CONNECTIONS,
            self.MAIN)
        self.expected = None
        WITNESSES[:] = [self.nginx.told, self.echo.told]

    def start(self):
        self.echo.start()
        self.nginx.start()
        self.nginx.wait("connected to engine", self.WORKERS)

    def client(self, **options):
        c = Client(self.nginx.port, **options)
        self.addCleanup(c.close)
        return c

    def assert_serves(self):
        text, error, done = self.client().chat("still here").stream()
        self.assertEqual((text, error, done), ("still here", None, True))

    def clean(self):
        self.nginx.stop()
        self.echo.stop()
        log = self.nginx.text()
        shutil.rmtree(self.dir)
        for bad in ("[alert]", "[emerg]", "signal 11", "signal 6",
                    "open socket"):
            if bad in log:
                lines = [x for x in log.splitlines() if bad in x
                         and not (self.expected and self.expected in x)]
                if lines:
                    self.fail("nginx logged: " + "\n".join(lines[:5]))
