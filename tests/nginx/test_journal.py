"""An engine that knows of a worker's death before another worker does: what
its journal says waits for that, through whatever the ring has meanwhile, and
is what the tenant pays."""

import fcntl
import json
import os
import signal
import socket
import struct
import threading

import rig
import test_limits
from test_hostile_engine import (ACCEPTED, PAGE, SQ_HEAD, SQ_TAIL, Channel)

JOURNAL = 4
LEASE_ID = 32  # of a SUBMIT
SIOCOUTQ = 0x5411
LOOKS = 100


def peer(channel):
    data = channel.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", data)[0]


class Journal(rig.Test):
    WORKERS = 2
    HTTP = ("axion_timeout stall=600s accept=600s;"
            + test_limits.tenants(acme="budget 100k/mo;"))

    def setUp(self):
        super().setUp()
        self.expected = "exited on signal 9"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(self.listener.close)
        self.listener.bind(self.echo.path)
        os.chmod(self.echo.path, 0o666)
        self.listener.listen(64)

    def accept(self):
        sock, _ = self.listener.accept()
        self.addCleanup(sock.close)
        channel = Channel(sock, threading.Event())
        os.close(channel.welcome())
        return channel

    def submit(self, channels):
        """The channel with a SUBMIT, and the lease's number."""
        def one():
            for c in channels:
                if c.index(SQ_TAIL) != c.index(SQ_HEAD):
                    return c
            return None
        channel = rig.wait_until(one, "a request")
        at = channel.index(SQ_HEAD) & (channel.sq_entries - 1)
        lease, = struct.unpack_from("<Q", channel.region,
                                    PAGE + 64 * at + LEASE_ID)
        self.assertNotEqual(lease, 0)
        channel.record(ACCEPTED, *channel.submitted(),
                       struct.pack("<2I", 4, 0))
        return channel, lease

    def look(self, channel):
        """The worker takes a doorbell, and so looks at what it has."""
        channel.ring()
        rig.wait_until(lambda: fcntl.ioctl(
            channel.sock, SIOCOUTQ, bytes(4)) == bytes(4), "the doorbell")

    def test(self):
        self.nginx.start()
        channels = [self.accept(), self.accept()]
        self.nginx.wait("connected to engine", 2)
        self.client().chat(
            "abcd", model="bad", headers=["Authorization: Bearer acme"])
        dying, lease = self.submit(channels)
        channels.remove(dying)
        living, = channels
        done = struct.pack("<12I", 4, 4, 0, 2, *[0] * 8)
        living.message(JOURNAL, struct.pack("<2IQ2I", 1, 0, lease, 0, 0)
                       + done)
        for _ in range(LOOKS):
            self.look(living)
        os.kill(peer(dying), signal.SIGKILL)
        self.nginx.wait(f"lease {lease} of a process that died is settled by "
                        r".*: 4\+2 tokens")
        status, body = self.nginx.get("/status")
        self.assertEqual(status, 200)
        acme, = json.loads(body)["tenants"]
        self.assertEqual((acme["month"]["tokens"], acme["active"]), (6, 0))


if __name__ == "__main__":
    rig.main()
