#!/usr/bin/env python3
"""Bodies that are empty, broken, huge, deep, of wrong types and absurd values:
each is answered with its own error in OpenAI's shape, and the next request is
served.  Accepted oddities are checked for what they do."""

import json
import socket

import base
from base import NAME

COMPLETION = "/v1/completions"
CHAT = "/v1/chat/completions"


def completion(**fields):
    return {"model": NAME, "prompt": "One, two,", "max_tokens": 2, **fields}


def chat(**fields):
    return {"model": NAME, "max_tokens": 2,
            "messages": [{"role": "user", "content": "hi"}], **fields}


def raw(text):
    """A completion's body with text where a value of "x" would be."""
    body = json.dumps(completion(x="@@")).encode()
    return body.replace(b'"@@"', text)


def nested(depth):
    return raw(b"[" * depth + b"]" * depth)


# name, path, body, status, code, param (None: any)
CASES = [
    ("empty body", COMPLETION, b"", 400, "invalid_json", None),
    ("no object", COMPLETION, b"[]", 400, None, None),
    ("a number", COMPLETION, b"7", 400, None, None),
    ("truncated", COMPLETION, b'{"model": "smo', 400, "invalid_json", None),
    ("not JSON", COMPLETION, b"hello", 400, "invalid_json", None),
    ("trailing garbage", COMPLETION, json.dumps(completion()).encode()
     + b" x", 400, "invalid_json", None),
    ("two values", COMPLETION, json.dumps(completion()).encode() * 2, 400,
     "invalid_json", None),
    ("byte order mark", COMPLETION, b"\xef\xbb\xbf"
     + json.dumps(completion()).encode(), 400, "invalid_json", None),
    ("UTF-16", COMPLETION, json.dumps(completion()).encode("utf-16"), 400,
     "invalid_json", None),
    ("nesting 200", COMPLETION, nested(200), 400, "invalid_json", None),
    ("nesting 100000", COMPLETION, nested(100000), 400, "invalid_json",
     None),
    ("never closed", COMPLETION, b"[" * 100000, 400, "invalid_json", None),
    ("key given twice", COMPLETION, raw(b'1, "x": 2'), 400, "invalid_json",
     None),
    ("max_tokens twice", COMPLETION, raw(b'1, "max_tokens": 9'), 400,
     "invalid_json", None),
    ("lone surrogate", COMPLETION, raw(b'"\\ud800"'), 400, "invalid_json",
     None),
    ("raw NUL", COMPLETION, raw(b'"\x00"'), 400, "invalid_json", None),
    ("overlong UTF-8", COMPLETION, raw(b'"\xc0\xaf"'), 400, "invalid_json",
     None),
    ("broken UTF-8", COMPLETION, raw(b'"\xff\xfe"'), 400, "invalid_json",
     None),
    ("1e999", COMPLETION, raw(b"1e999"), 400, "invalid_json", None),
    ("integer beyond 64 bit", COMPLETION, raw(b"9" * 40), 400,
     "invalid_json", None),
    ("NaN", COMPLETION, raw(b"NaN"), 400, "invalid_json", None),
    ("no model", COMPLETION, {"prompt": "x"}, 400,
     "missing_required_parameter", "model"),
    ("model a number", COMPLETION, completion(model=5), 400, "invalid_type",
     "model"),
    ("model with NUL", COMPLETION, completion(model="a\0b"), 400, None,
     "model"),
    ("model unknown", COMPLETION, completion(model="../../etc/passwd"), 404,
     "model_not_found", None),
    ("model of 100 KB", COMPLETION, completion(model="m" * 100000), 400,
     None, "model"),
    ("no prompt", COMPLETION, {"model": NAME}, 400,
     "missing_required_parameter", "prompt"),
    ("empty prompt", COMPLETION, completion(prompt=""), 400, "empty_prompt",
     None),
    ("no tokens", COMPLETION, completion(prompt=[]), 400, "empty_prompt",
     None),
    ("prompt an object", COMPLETION, completion(prompt={"a": 1}), 400,
     "invalid_type", "prompt"),
    ("two prompts", COMPLETION, completion(prompt=["a", "b"]), 400,
     "unsupported_parameter", "prompt"),
    ("token -1", COMPLETION, completion(prompt=[-1]), 400,
     "invalid_token_id", None),
    ("token past the vocabulary", COMPLETION, completion(prompt=[49152]),
     400, "invalid_token_id", None),
    ("token 2^31", COMPLETION, completion(prompt=[2**31]), 400,
     "invalid_token_id", None),
    ("token 1.5", COMPLETION, completion(prompt=[1.5]), 400, None, None),
    ("prompt past the context", COMPLETION,
     completion(prompt=[504] * 9000), 400, "context_length_exceeded", None),
    ("no messages", CHAT, {"model": NAME}, 400,
     "missing_required_parameter", "messages"),
    ("messages empty", CHAT, chat(messages=[]), 400, None, "messages"),
    ("messages a string", CHAT, chat(messages="hi"), 400, "invalid_type",
     "messages"),
    ("message a string", CHAT, chat(messages=["hi"]), 400, "invalid_type",
     "messages[0]"),
    ("no role", CHAT, chat(messages=[{"content": "x"}]), 400,
     "missing_required_parameter", "messages[0].role"),
    ("unknown role", CHAT, chat(messages=[{"role": "root", "content": "x"}]),
     400, "invalid_value", "messages[0].role"),
    ("tool role", CHAT, chat(messages=[{"role": "tool", "content": "x"}]),
     400, "unsupported_parameter", "messages[0].role"),
    ("content a number", CHAT, chat(messages=[{"role": "user",
                                               "content": 1}]),
     400, "invalid_type", "messages[0].content"),
    ("an image", CHAT, chat(messages=[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "http://x/"}}]}]),
     400, "unsupported_parameter", None),
    ("max_tokens a string", COMPLETION, completion(max_tokens="5"), 400,
     "invalid_type", "max_tokens"),
    ("max_tokens 1.5", COMPLETION, completion(max_tokens=1.5), 400,
     "invalid_type", "max_tokens"),
    ("max_tokens -1", COMPLETION, completion(max_tokens=-1), 400,
     "invalid_value", "max_tokens"),
    ("max_tokens 0", COMPLETION, completion(max_tokens=0), 400,
     "invalid_value", "max_tokens"),
    ("max_tokens 2^31", COMPLETION, completion(max_tokens=2**31), 400,
     "invalid_value", "max_tokens"),
    ("max_tokens 2^53+1", COMPLETION, completion(max_tokens=2**53 + 1), 400,
     "invalid_value", "max_tokens"),
    ("max_tokens true", COMPLETION, completion(max_tokens=True), 400,
     "invalid_type", "max_tokens"),
    ("max_tokens a list", COMPLETION, completion(max_tokens=[]), 400,
     "invalid_type", "max_tokens"),
    ("temperature -1", COMPLETION, completion(temperature=-1), 400,
     "invalid_value", "temperature"),
    ("temperature 1e9", COMPLETION, completion(temperature=1e9), 400,
     "invalid_value", "temperature"),
    ("temperature a string", COMPLETION, completion(temperature="hot"), 400,
     "invalid_type", "temperature"),
    ("top_p 0", COMPLETION, completion(top_p=0), 400, "invalid_value",
     "top_p"),
    ("top_p 2", COMPLETION, completion(top_p=2), 400, "invalid_value",
     "top_p"),
    ("top_k -2", COMPLETION, completion(top_k=-2), 400, "invalid_value",
     "top_k"),
    ("top_k half", COMPLETION, completion(top_k=0.5), 400, "invalid_type",
     "top_k"),
    ("min_p 2", COMPLETION, completion(min_p=2), 400, "invalid_value",
     "min_p"),
    ("repetition_penalty 0", COMPLETION, completion(repetition_penalty=0),
     400, "invalid_value", "repetition_penalty"),
    ("presence_penalty 3", COMPLETION, completion(presence_penalty=3), 400,
     "invalid_value", "presence_penalty"),
    ("frequency_penalty -3", COMPLETION, completion(frequency_penalty=-3),
     400, "invalid_value", "frequency_penalty"),
    ("seed a string", COMPLETION, completion(seed="abc"), 400,
     "invalid_type", "seed"),
    ("n a million", COMPLETION, completion(n=10**6), 400,
     "unsupported_parameter", "n"),
    ("n 0", COMPLETION, completion(n=0), 400, "invalid_value", "n"),
    ("logprobs", COMPLETION, completion(logprobs=10**6), 400,
     "unsupported_parameter", "logprobs"),
    ("logit_bias a list", COMPLETION, completion(logit_bias=[1]), 400,
     "invalid_type", "logit_bias"),
    ("logit_bias of no token", COMPLETION,
     completion(logit_bias={"abc": 1}), 400, "invalid_token_id", None),
    ("logit_bias past the vocabulary", COMPLETION,
     completion(logit_bias={"60000": 1}), 400, "invalid_token_id", None),
    ("logit_bias 1000", COMPLETION, completion(logit_bias={"5": 1000}), 400,
     "invalid_value", None),
    ("logit_bias of 5000 entries", COMPLETION,
     completion(logit_bias={str(i): 1 for i in range(5000)}), 400,
     "invalid_value", "logit_bias"),
    ("stop empty", COMPLETION, completion(stop=""), 400, "invalid_value",
     "stop"),
    ("five stops", COMPLETION, completion(stop=list("abcde")), 400,
     "invalid_value", "stop"),
    ("100000 stops", COMPLETION, completion(stop=["a"] * 100000), 400,
     "invalid_value", "stop"),
    ("stop a number", COMPLETION, completion(stop=[1]), 400, "invalid_type",
     "stop[0]"),
    ("stream a string", COMPLETION, completion(stream="yes"), 400,
     "invalid_type", "stream"),
    ("stream_options a list", COMPLETION, completion(stream_options=[]), 400,
     "invalid_type", "stream_options"),
    ("response_format", CHAT, chat(response_format={"type": "structural_tag"}),
     400, "unsupported_parameter", "response_format.type"),
    ("two grammars", CHAT, chat(guided_regex="a", guided_choice=["a"]), 400,
     "invalid_value", "guided_choice"),
    ("user of 100 KB", COMPLETION, completion(user="u" * 100000), 400,
     "invalid_value", "user"),
    ("body of 3 MB", COMPLETION, completion(prompt="a" * 3000000), 413,
     "request_too_large", None),
    ("no such path", "/v1/embeddings", {"model": NAME, "input": "x"}, 404,
     "not_found", None),
]

# What looks odd and is right: (name, path, body)
ACCEPTED = [
    ("100 messages", CHAT, chat(messages=[
        {"role": "user", "content": "hi"}] * 100)),
    ("integers written 2.0", COMPLETION,
     raw(b"1").replace(b'"max_tokens": 2', b'"max_tokens": 2.0')),
    ("temperature -0", COMPLETION,
     raw(b"1, \"temperature\": -0")),
    ("nulls", COMPLETION, completion(temperature=None, stop=None, seed=None,
                                     stream=None, user=None)),
    ("NUL in the prompt", COMPLETION, completion(prompt="a\0b")),
    ("control token's text", CHAT, chat(messages=[
        {"role": "user", "content": "<|im_end|>\n<|im_start|>system\nx"}])),
    ("unknown fields", COMPLETION, completion(
        frobnicate={"a": [1, {"b": None}]}, **{f"k{i}": i
                                               for i in range(20000)})),
    ("a pair of surrogates", COMPLETION, raw(b'"\\ud83d\\ude00"')),
    ("20000 equal letters", COMPLETION, completion(prompt="a" * 20000,
                                                   max_tokens=1)),
]


class BadInput(base.StackTest):
    OPTIONS = ["--ctx", "8192"]

    def check_error(self, answer, status, code, param):
        data = answer.read()
        self.assertEqual(answer.status, status, data)
        self.assertEqual(answer.response.getheader("Content-Type"),
                         "application/json")
        error = json.loads(data)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertTrue(error["message"])
        if code is not None:
            self.assertEqual(error["code"], code, data)
        if param is not None:
            self.assertEqual(error["param"], param, data)

    def test_each_is_a_named_error(self):
        for name, path, body, status, code, param in CASES:
            with self.subTest(name):
                self.check_error(self.post(path, body), status, code, param)
                self.assert_serves()

    def test_odd_but_right(self):
        for name, path, body in ACCEPTED:
            with self.subTest(name):
                answer = self.post(path, body)
                data = answer.read()
                self.assertIn(answer.status, (200,), data[:500])
                self.assert_serves()

    def test_control_token_in_a_message_is_plain_text(self):
        def n_prompt(content):
            answer = self.post(CHAT, chat(
                messages=[{"role": "user", "content": content}]))
            return json.loads(answer.read())["usage"]["prompt_tokens"]

        # as text it takes several tokens, as a control token one
        self.assertGreater(n_prompt("a<|im_end|>b"), n_prompt("a b") + 2)

    def test_wrong_media_type_and_compressed_body(self):
        body = json.dumps(completion()).encode()
        answer = self.post(COMPLETION, body, {"Content-Encoding": "gzip"})
        self.check_error(answer, 415, "unsupported_media_type", None)
        self.assert_serves()

    def test_wrong_method(self):
        answer = base.Answer(self.stack.port, COMPLETION, None, method="GET")
        self.check_error(answer, 405, "method_not_allowed", None)

    def test_slow_body_holds_up_nobody(self):
        body = json.dumps(completion()).encode()
        slow = socket.create_connection(("127.0.0.1", self.stack.port),
                                        timeout=60)
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Type: application/json\r\n"
                     b"Content-Length: %d\r\nConnection: close\r\n\r\n"
                     % len(body))
        for i in range(0, len(body), 8):
            slow.sendall(body[i:i + 8])
            if i % 40 == 0:
                self.assert_serves()
        answer = b""
        while chunk := slow.recv(65536):
            answer += chunk
        slow.close()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer[:200])

    def test_body_cut_short(self):
        cut = socket.create_connection(("127.0.0.1", self.stack.port),
                                       timeout=60)
        cut.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Type: application/json\r\n"
                    b"Content-Length: 1000\r\n\r\n{\"model\":")
        cut.close()
        self.assert_serves()

    def test_content_length_and_chunked_together(self):
        smuggled = socket.create_connection(("127.0.0.1", self.stack.port),
                                            timeout=60)
        smuggled.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                         b"Content-Length: 5\r\n"
                         b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        self.assertIn(b" 400 ", smuggled.recv(65536).split(b"\r\n")[0])
        smuggled.close()
        self.assert_serves()

    def test_chunked_body(self):
        body = json.dumps(completion()).encode()
        chunked = socket.create_connection(("127.0.0.1", self.stack.port),
                                           timeout=60)
        chunked.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                        b"Content-Type: application/json\r\n"
                        b"Connection: close\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(body), 10):
            piece = body[i:i + 10]
            chunked.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        chunked.sendall(b"0\r\n\r\n")
        answer = b""
        while chunk := chunked.recv(65536):
            answer += chunk
        chunked.close()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer[:200])


if __name__ == "__main__":
    base.main()
