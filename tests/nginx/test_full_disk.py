"""No room for nginx's temporary file of a large request body: a JSON error for
that request alone, and service as before when there is room again.  Needs
root, for a file system of its own."""

import json
import os
import subprocess
import sys

import rig

SMALL, LARGE = "64k", "16m"


def mount(folder, *options):
    return subprocess.run(
        ["mount", "-t", "tmpfs", *options, "none", folder], check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


class FullDisk(rig.Test):
    def setUp(self):
        super().setUp()
        self.body = os.path.join(self.dir, "body")
        os.mkdir(self.body)
        self.assertEqual(mount(self.body, "-o", f"size={SMALL}"), 0)
        # before the folder is removed: cleanups run last to first
        self.addCleanup(subprocess.run, ["umount", "-l", self.body],
                        check=True)
        self.start()

    def ask(self, bytes_, headers=()):
        client = self.client()
        body = json.dumps({"model": "echo",
                           "prompt": "!tokens=1 abcd" + "x" * bytes_}).encode()
        if headers:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            client.sock.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
                b"Content-Type: application/json\r\nConnection: close\r\n"
                + b"".join(headers) + b"\r\n" + body)
        else:
            client.send("POST", "/v1/completions", body)
        status, _, answer = client.whole()
        return status, json.loads(answer)

    def check(self, *headers):
        status, answer = self.ask(300_000, headers)
        self.assertEqual(status, 500)
        self.assertEqual(answer["error"]["type"], "server_error")
        self.nginx.wait("28: No space left on device")
        self.assertEqual(self.ask(100, headers)[0], 200)
        rig.wait_until(lambda: not os.path.isdir(self.body) or not any(
            files for _, _, files in os.walk(self.body)),
            "the temporary file to be gone")
        self.assertEqual(
            mount(self.body, "-o", f"remount,size={LARGE}"), 0)
        self.assertEqual(self.ask(300_000, headers)[0], 200)

    def test_a_body_with_its_length(self):
        self.check()

    def test_a_chunked_body(self):
        self.check(b"Transfer-Encoding: chunked\r\n")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: only root can mount a small file system")
        sys.exit(77)
    with rig.tempfile.TemporaryDirectory() as probe:
        if mount(probe, "-o", f"size={SMALL}") != 0:
            print("skipped: a file system cannot be mounted here")
            sys.exit(77)
        subprocess.run(["umount", probe], check=True)
    rig.main()
