#!/usr/bin/env python3
"""A new nginx binary beside the old one, and one that is taken back: both have
the one balance of each tenant."""

import json

import rig
import test_binary_upgrade
from test_limits import prompt_tokens, tenants


class Upgrade(test_binary_upgrade.Upgrade):
    """A new binary beside the old one: one balance for both."""

    def setUp(self):
        self.HTTP = tenants(acme="budget 2000/mo;")
        super().setUp()

    def running(self):
        return []

    def ask(self, prompt):
        return self.client().chat(prompt,
                                  headers=["Authorization: Bearer acme"])

    def assert_serves(self):
        """Whoever serves has the one balance."""
        prompt = "!tokens=30 abcd"
        before = self.left()
        self.assertEqual(self.ask(prompt).stream()[0], "abcd" * 30)
        rig.wait_until(
            lambda: before - self.left() == 30 + prompt_tokens(prompt),
            "the balance to be exact")

    def left(self):
        body = json.loads(self.nginx.get("/status")[1])
        return body["tenants"][0]["limits"][0]["left"]

    def assert_whole(self, clients):
        self.assertEqual(clients, [])


if __name__ == "__main__":
    rig.main()
