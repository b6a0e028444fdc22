#!/usr/bin/env python3
"""Writes the fuzzers' first seeds into tests/fuzz/corpus/: small programs for
the two ring fuzzers and two requests, each of which gets past the checks."""

import os
import struct

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "..", "fuzz", "corpus")


def write(fuzzer, name, data):
    folder = os.path.join(ROOT, fuzzer)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def section(tag, data):
    return (struct.pack("<II", tag, len(data)) + data +
            bytes(-len(data) % 8))


def request(kind, sections):
    body = b"".join(sections)
    head = struct.pack("<IIIIQQ16s6f6I", 1, 96 + len(body), kind, 1, 42, 7,
                       bytes(16), 1, 1, 0, 1, 0, 0, 0, 16, 0, 1, 0,
                       len(sections))
    return head + body


def submit(slot, generation, offset, size):
    return bytes([1, slot, generation - 1, offset, size])


def turn(what):
    return bytes([7, what])


READ_ALL = bytes([4])


def event(op, slot, reason, rest=b""):
    return bytes([1, op - 1, slot, reason - 1]) + rest


def main():
    write("fuzz_request", "chat", request(1, [
        section(1, b"smollm2"), section(2, b"system"), section(3, b"brief"),
        section(2, b"user"), section(8, b"bob"),
        section(3, "Grüße €".encode()), section(6, b"\n\n"),
        section(7, struct.pack("<If", 5, -1.5))]))
    write("fuzz_request", "completion", request(2, [
        section(4, b"Once upon a time")]))
    write("fuzz_request", "grammar", request(2, [
        section(4, b"x"),
        section(11, struct.pack("<II", 2, 0) + b'{"type":"object"}')]))
    write("fuzz_request", "tokens", request(2, [
        section(5, struct.pack("<3I", 1, 2, 3))]))

    life = submit(0, 1, 0, 100) + turn(0x85) + turn(0xfd) + READ_ALL
    write("fuzz_ring_channel", "lives", b"\x02" + life + turn(1) +
          READ_ALL + turn(0) + submit(0, 2, 3, 200) + turn(0x7d) + turn(3) +
          READ_ALL + turn(0))
    write("fuzz_ring_channel", "waits", b"\x02" + submit(1, 1, 0, 10) +
          turn(0xfd) * 8 + READ_ALL + turn(0xfd) + READ_ALL + turn(1))
    write("fuzz_ring_channel", "wraps", b"\x01\xfe\xff\xff\xff" +
          submit(0, 1, 0, 9) + submit(1, 1, 1, 9) + submit(2, 1, 2, 9) +
          turn(1) + READ_ALL)

    tokens = bytes([2, 90, 0]) + b"xyz"
    error = struct.pack("<I", 600) + bytes([40]) + b"e"
    write("fuzz_ring_client", "lives", b"\x01" + turn(1) +
          event(1, 0, 1) + event(3, 0, 1, tokens) + turn(0) +
          event(5, 0, 1) + turn(1) + event(6, 0, 1, error) + turn(1))
    write("fuzz_ring_client", "commands", b"\x01" + turn(1) * 3 +
          turn(0x1d) * 12 + b"\x04" + turn(0x3d) + event(2, 1, 1) + turn(0))


if __name__ == "__main__":
    main()
