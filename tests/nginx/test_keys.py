"""Keys from `axion keygen` to an answer: both kinds are let in, the worker
serves others while one is verified, many who ask the same wait for one
verification, those beyond the bound are told to come again, a reload waits
for whoever waits, and no key is ever written into a log."""

import os
import re
import signal
import struct
import subprocess

import rig
import test_http2

AXION = os.path.join(rig.BUILD, "axion")
COMPLETION = b'{"model":"echo","prompt":"hello"}'


def keygen(*options, secret=None):
    """What `axion keygen` prints, as lines."""
    done = subprocess.run([AXION, "keygen", *options], check=True, text=True,
                          input=secret, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    return done.stdout.splitlines()


class Keys(rig.Test):
    def begin(self, lines, **settings):
        self.HTTP = ("log_format who '$axion_tenant $axion_key $status';"
                     f"access_log {self.dir}/who.log who;"
                     "axion_tenant acme {\n" + "\n".join(lines) + "\n}")
        self.nginx.write(http=self.nginx.settings["http"] + self.HTTP,
                         **settings)
        self.start()

    def ask(self, key):
        client = self.client()
        client.send("POST", "/v1/completions", COMPLETION,
                    [f"Authorization: Bearer {key}"])
        return client

    def assert_in_no_log(self, *secrets):
        for name in os.listdir(self.dir):
            path = os.path.join(self.dir, name)
            if name.endswith(".log"):
                with open(path, encoding="utf-8", errors="replace") as f:
                    text = f.read()
                for secret in secrets:
                    self.assertNotIn(secret, text, name)

    def test_both_kinds_are_let_in_and_not_logged(self):
        key, line = keygen("--name", "ci", "--expires", "2099-01-01")
        self.assertRegex(key, r"^sk-axion-[A-Za-z0-9_-]{43}$")
        chosen, = keygen("--argon2id", "--memory", "1m", "--passes", "1",
                         "--name", "boss", secret="correct-horse\n")
        given, = keygen("--stdin", secret="of-another-system-0123456789")
        self.begin([line, chosen, given])
        for sent in (key, "acme:correct-horse", "acme:correct-horse",
                     "of-another-system-0123456789"):
            status, _, body = self.ask(sent).whole()
            self.assertEqual((status, b'"text":"hello"' in body), (200, True))
        for sent in (key[:-1], "acme:correct-horsf", "correct-horse"):
            self.assertEqual(self.ask(sent).whole()[0], 401)
        self.nginx.stop()
        with open(os.path.join(self.dir, "who.log"), encoding="ascii") as f:
            self.assertEqual(f.read().split("\n"),
                             ["acme ci 200", "acme boss 200", "acme boss 200",
                              "acme - 200", "- - 401", "- - 401", "- - 401",
                              ""])
        self.assert_in_no_log(key, "correct-hors", "of-another-system", key[9:])

    def test_others_are_served_while_a_key_is_verified(self):
        slow, = keygen("--argon2id", "--memory", "256m", "--passes", "10",
                       secret="correct-horse")
        key, line = keygen()
        self.begin([slow, line])
        waits = [self.ask("acme:correct-horse") for _ in range(20)]
        for _ in range(5):
            self.assertEqual(self.ask(key).whole()[0], 200)
        # Far from done: 20 of them one after the other would take a minute.
        for client in waits:
            self.assertEqual(client.whole()[0], 200)

    def test_too_many_questions_are_told_to_come_again(self):
        slow, = keygen("--argon2id", "--memory", "64m", "--passes", "10",
                       secret="correct-horse")
        key, line = keygen()
        self.begin([slow, line])
        for n in range(66):
            self.ask(f"acme:wrong-{n}")
        # More than the queue holds: some are refused at once, whatever the
        # speed of the two that run.
        refused = [self.ask(f"acme:more-{n}") for n in range(66)]
        seen = 0
        for client in reversed(refused):
            client.until(b"\r\n\r\n")
            if client.data.startswith(b"HTTP/1.1 503"):
                self.assertIn(b"Retry-After: 1\r\n", client.data)
                self.assertIn(b'"code":"overloaded"', client.drain())
                seen += 1
                break
        self.assertEqual(seen, 1)
        self.assertEqual(self.ask(key).whole()[0], 200)

    def test_a_worker_that_ends_answers_who_waits(self):
        slow, = keygen("--argon2id", "--memory", "256m", "--passes", "4",
                       secret="correct-horse")
        self.begin([slow])
        client = self.ask("acme:correct-horse")
        self.assertEqual(self.ask("none").whole()[0], 401)
        self.nginx.signal(signal.SIGQUIT)
        self.nginx.wait("gracefully shutting down")
        status, _, body = client.whole()
        self.assertEqual((status, b'"text":"hello"' in body), (200, True))
        self.assertEqual(self.nginx.process.wait(timeout=rig.HANG), 0)

    def test_a_client_that_leaves_takes_its_question_along(self):
        slow, = keygen("--argon2id", "--memory", "128m", "--passes", "4",
                       secret="correct-horse")
        key, line = keygen()
        self.begin([slow, line], listen="http2")
        frames = test_http2.Frames(self.nginx.port)
        for stream in (1, 3, 5):
            frames.ask(stream, "never", [(b"x-api-key",
                                          b"acme:correct-horse")])
            frames.send(test_http2.RST_STREAM, 0, stream,
                        struct.pack(">I", test_http2.CANCEL))
        frames.ask(7, "hello", [(b"x-api-key", key.encode())])
        frames.until_ends({7})
        self.assertIn(b"data: [DONE]", frames.data[7])
        frames.sock.close()
        self.nginx.signal(signal.SIGQUIT)
        self.assertEqual(self.nginx.process.wait(timeout=rig.HANG), 0)
        self.assertEqual(len(re.findall(" submit", self.echo.text())), 1)

    def test_keygen_refuses(self):
        for options, secret, why in (
                (["sk-typed"], None, "never given on the command line"),
                (["--argon2id", "--stdin"], "secret-key",
                 "--stdin is for keys"),
                (["--name", "a b"], None, "--name needs"),
                (["--expires", "soon"], None, "--expires needs"),
                (["--stdin"], "", "no key on standard input"),
                (["--stdin"], "sh0rt", "shorter than 8"),
                (["--stdin"], "with a blank", "printable ASCII"),
                (["--argon2id"], "x" * 2000, "longer than 1024")):
            done = subprocess.run([AXION, "keygen", *options], text=True,
                                  input=secret, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(done.stdout, "")
            self.assertRegex(done.stderr, "^axion keygen: .*" +
                             re.escape(why))
            if secret:
                self.assertNotIn(secret, done.stderr)


if __name__ == "__main__":
    rig.main()
