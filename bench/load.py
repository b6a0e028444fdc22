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
    def __init__(self):
        self.sent = self.ended = 0.0
        self.times = []     # of events with text or tokens
        self.usage = {}

    @property
    def ttft(self):
        return self.times[0] - self.sent

    @property
    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]

    @property
    def tokens(self):
        return self.usage.get("completion_tokens", len(self.times))

    @property
    def cached(self):
        details = self.usage.get("prompt_tokens_details") or {}
        return details.get("cached_tokens", 0)


class Connection:
    def __init__(self, port, key=None):
        self.port, self.key = port, key
        self.reader = self.writer = None
        self.reply = Reply()    # of the last request, also while it comes

    async def open(self):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self.port, limit=1 << 20)

    def close(self):
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None

    async def head(self):
        status = await self.reader.readline()
        headers = {}
        while True:
            line = (await self.reader.readline()).strip()
            if not line:
                break
            name, value = line.split(b":", 1)
            headers[name.lower()] = value.strip()
        if b" 200 " not in status:
            raise Failed(status.decode() + (await self.reader.read(
                int(headers.get(b"content-length", 0)))).decode())
        return headers

    async def lines(self, headers):
        """The body's lines, chunked or counted."""
        if b"chunked" not in headers.get(b"transfer-encoding", b""):
            body = await self.reader.readexactly(
                int(headers[b"content-length"]))
            for line in body.splitlines():
                yield line
            return
        rest = b""
        while True:
            size = int(await self.reader.readline(), 16)
            data = await self.reader.readexactly(size + 2)
            if size == 0:
                break
            rest += data[:-2]
            *whole, rest = rest.split(b"\n")
            for line in whole:
                yield line

    async def ask(self, body):
        """One answer, streamed when body says so."""
        await self.open()
        data = json.dumps(body).encode()
        key = f"Authorization: Bearer {self.key}\r\n" if self.key else ""
        reply = self.reply = Reply()
        self.writer.write((f"POST /v1/completions HTTP/1.1\r\nHost: x\r\n{key}"
                           f"Content-Type: application/json\r\n"
                           f"Content-Length: {len(data)}\r\n\r\n").encode()
                          + data)
        reply.sent = time.perf_counter()
        headers = await self.head()
        async for line in self.lines(headers):
            if not body.get("stream"):
                event = json.loads(line) if line else {}
            elif line.startswith(b"data: {"):
                event = json.loads(line[6:])
            else:
                continue
            if event.get("error"):
                raise Failed(str(event["error"]))
            if event.get("choices") and (event["choices"][0].get("text")
                                         or "logprobs" in event):
                reply.times.append(time.perf_counter())
            reply.usage = event.get("usage") or reply.usage
        reply.ended = time.perf_counter()
        if not reply.times:
            reply.times.append(reply.ended)  # a token without text
        return reply


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
