"""A server that says what a test tells it to: one thread a connection, and a
script (a function) that answers each request it has read."""

import json
import socket
import threading


def chunk(delta=None, finish=None, **more):
    choices = [] if delta is None and finish is None else [
        {"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return {"id": "chatcmpl-theirs", "object": "chat.completion.chunk",
            "created": 1, "model": "their-name", "choices": choices, **more}


def usage(prompt=7, completion=3, cached=2):
    return {"prompt_tokens": prompt, "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached}}


def event(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return f"data: {text}\n\n".encode()


def words(*texts, finish="stop", **numbers):
    """A whole stream as the servers of this world send it."""
    return (event(chunk({"role": "assistant", "content": ""}))
            + b"".join(event(chunk({"content": t})) for t in texts)
            + event(chunk({}, finish))
            + event(chunk(usage=usage(**numbers)))
            + event("[DONE]"))


def whole(text, finish="stop", **numbers):
    return {"id": "chatcmpl-theirs", "object": "chat.completion", "created": 1,
            "model": "their-name", "usage": usage(**numbers),
            "choices": [{"index": 0, "finish_reason": finish, "message": {
                "role": "assistant", "content": text}}]}


class Connection:
    """What a script has in its hands."""

    def __init__(self, sock, number):
        self.sock = sock
        self.number = number  # of the connection, from 1
        self.data = b""

    def request(self):
        """(head, body) of the next request; None at the end."""
        while b"\r\n\r\n" not in self.data:
            more = self.sock.recv(65536)
            if not more:
                return None
            self.data += more
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                      if line.lower().startswith(b"content-length"))
        while len(self.data) < length:
            more = self.sock.recv(65536)
            if not more:
                return None
            self.data += more
        body, self.data = self.data[:length], self.data[length:]
        return head.decode(), json.loads(body)

    def raw(self, data):
        self.sock.sendall(data)

    def head(self, status=200, kind="text/event-stream", length=None, more=""):
        length = ("Transfer-Encoding: chunked" if length is None
                  else f"Content-Length: {length}")
        self.raw(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{length}\r\n"
                 f"{more}\r\n".encode())

    def piece(self, data):
        self.raw(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self):
        self.raw(b"0\r\n\r\n")

    def stream(self, data, more=""):
        self.head(more=more)
        self.piece(data)
        self.end()

    def json(self, value, status=200, more=""):
        data = json.dumps(value).encode()
        self.head(status, "application/json", len(data), more)
        self.raw(data)

    def closed(self):
        """Waits until the other side is gone."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass


class Remote:
    """`script(connection, head, body)` answers one request; what it returns
    true for ends the connection."""

    def __init__(self, script=None, tls=None):
        self.script = script or answer
        self.tls = tls  # an ssl.SSLContext
        self.requests = []
        self.connections = 0
        self.ended = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.tls:
                try:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                except OSError:
                    sock.close()
                    continue
            threading.Thread(target=self.serve, daemon=True, args=(
                Connection(sock, self.connections),)).start()

    def serve(self, connection):
        try:
            while True:
                request = connection.request()
                if request is None:
                    break
                self.requests.append(request)
                if self.script(connection, *request):
                    break
        except OSError:
            pass
        connection.sock.close()
        self.ended += 1

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass
        self.listener.close()


def long_answer(n, text):
    """A script: n pieces of the text, as fast as they are taken."""
    def script(c, _head, _body):
        c.head()
        for _ in range(n):
            c.piece(event(chunk({"content": text})))
        c.piece(event(chunk({}, "stop")) + event("[DONE]"))
        c.end()
    return script


def answer(connection, _head, body):
    """What a good server does: the last message back, word by word."""
    text = (body["messages"][-1]["content"] if "messages" in body
            else body["prompt"])
    if body["stream"]:
        connection.stream(words(*text.split(" ")))
    elif "messages" in body:
        connection.json(whole(text))
    else:
        connection.json({**whole(text), "object": "text_completion",
                         "choices": [{"index": 0, "text": text,
                                      "finish_reason": "stop"}]})
