"""An HTTP client for measuring servers: streams of /v1/completions on one
thread, each event stamped as it is read, all over keep-alive connections.

A request is a dictionary; what comes back of it is a Reply.  Times are
time.perf_counter()'s; TTFT counts from the moment the request was written to
the first event with a token, ITL is every gap between two such events.
"""

import asyncio
import json
import time


class Failed(Exception):
    pass


class Reply:
    """What came of a request.  Bytes are stamped as they are read, looked into
    for the end of the answer when it may be there, and for anything else when
    somebody asks: the client shares the machine with what it measures."""

    def __init__(self, stream=False):
        self.sent = self.ended = 0.0
        self._stream = stream
        self._raw = []      # [(when, bytes)] not looked into
        self._tail = b""    # the last of all that came
        self._head = None
        self._left = None   # bytes of a counted body; None: chunked
        self._unread = b""
        self._body = b""    # what is unread of it, behind the framing
        self._events = []   # [(when, bytes)] not looked into
        self._times = []
        self._usage = {}

    def take(self, data):
        self._raw.append((time.perf_counter(), data))
        self._tail = (self._tail + data)[-5:]

    def over(self):
        """Whether the answer is there; Failed if it is a refusal."""
        return ((self._head is None or self._left is not None
                 or self._tail == b"0\r\n\r\n") and self._read_raw())

    def _read_raw(self):
        raw, self._raw = self._raw, []
        for self.ended, data in raw:
            self._unread += data
            if self._read():
                return True
        return False

    def _read(self):
        if self._head is None and not self._read_head():
            return False
        if self._left is not None:
            if len(self._unread) < self._left:
                return False
            if b" 200 " not in self._head:
                raise Failed((self._head + b"\n" + self._unread).decode())
            self._events.append((self.ended, self._unread))
            return True
        while True:
            size, newline, rest = self._unread.partition(b"\r\n")
            n = int(size, 16) if newline else 0
            if not newline or len(rest) < n + 2:
                return False
            self._unread = rest[n + 2:]
            self._body += rest[:n]
            if self._stream:
                *whole, self._body = self._body.split(b"\n")
                for line in whole:
                    if line.startswith(b"data: {"):
                        self._events.append((self.ended, line[6:]))
            if n == 0:
                if not self._stream:
                    self._events.append((self.ended, self._body))
                return True

    def _read_head(self):
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        if not end:
            return False
        self._unread = rest
        self._head, *fields = head.split(b"\r\n")
        for field in fields:
            name, value = field.lower().split(b":", 1)
            if name == b"content-length":
                self._left = int(value)
        return True

    def _look(self):
        self._read_raw()
        events, self._events = self._events, []
        for when, text in events:
            event = json.loads(text)
            if event.get("error"):
                raise Failed(str(event["error"]))
            if event.get("choices") and (event["choices"][0].get("text")
                                         or "logprobs" in event):
                self._times.append(when)
            self._usage = event.get("usage") or self._usage

    @property
    def times(self):
        """Of events with text or tokens so far."""
        self._look()
        return self._times

    @property
    def usage(self):
        self._look()
        return self._usage

    @property
    def ttft(self):
        """A first token may have no text."""
        return (self.times or [self.ended])[0] - self.sent

    @property
    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]

    @property
    def tokens(self):
        return self.usage.get("completion_tokens", len(self._times))

    @property
    def cached(self):
        details = self.usage.get("prompt_tokens_details") or {}
        return details.get("cached_tokens", 0)


class Connection(asyncio.Protocol):
    def __init__(self, port, key=None):
        self.port, self.key = port, key
        self.transport = self.end = None
        self.reply = Reply()    # of the last request, also while it comes

    async def open(self):
        if self.transport is None:
            await asyncio.get_running_loop().create_connection(
                lambda: self, "127.0.0.1", self.port)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.reply.take(data)
        if self.end is None or self.end.done():
            return
        try:
            if self.reply.over():
                self.end.set_result(None)
        except (Failed, ValueError) as error:
            self.end.set_exception(error)

    def connection_lost(self, error):
        if self.end is not None and not self.end.done():
            self.end.set_exception(error or Failed("the connection ended"))

    def close(self):
        if self.transport is not None:
            self.transport.close()
            self.transport = None

    async def ask(self, body):
        """One answer, streamed when body says so."""
        await self.open()
        data = json.dumps(body).encode()
        key = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        reply = self.reply = Reply(bool(body.get("stream")))
        self.end = asyncio.get_running_loop().create_future()
        self.transport.write((f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                              f"{key}Content-Type: application/json\r\n"
                              f"Content-Length: {len(data)}\r\n\r\n").encode()
                             + data)
        reply.sent = time.perf_counter()
        await self.end
        return reply    # errors within a stream: to whom looks into it


async def together(port, bodies, key=None):
    """All at once, one connection each."""
    connections = [Connection(port, key) for _ in bodies]
    for connection in connections:
        await connection.open()
    try:
        return await asyncio.gather(
            *(c.ask(b) for c, b in zip(connections, bodies)))
    finally:
        for connection in connections:
            connection.close()


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
