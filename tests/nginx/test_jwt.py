"""Tokens while nginx runs: an issuer's new keys count within the interval and
its old ones no longer, also for tokens that were verified before; a wrong key
set changes nothing; a token ends when it says; none is ever logged; a flood of
those that are slow to verify is bounded and holds up nobody else."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import signal
import time

import rig

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..",
                       "api", "jwt_vectors.json")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """One that signs with HS256: the standard library has no other."""

    def __init__(self, kid):
        self.kid, self.secret = kid, secrets.token_bytes(32)

    def jwk(self):
        return {"kty": "oct", "kid": self.kid, "k": b64(self.secret)}

    def token(self, **claims):
        claims = {"iss": "me", "aud": "axion", "sub": "acme",
                  "exp": time.time() + 3600, **claims}
        text = b64(json.dumps({"alg": "HS256", "kid": self.kid}).encode()) \
            + "." + b64(json.dumps(claims).encode())
        return text + "." + b64(hmac.new(self.secret, text.encode(),
                                         hashlib.sha256).digest())


class Jwt(rig.Test):
    WORKERS = 2

    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.dir, "jwks")
        self.old, self.new = Issuer("old"), Issuer("new")
        self.put(self.old)
        self.configure()

    def configure(self, more=""):
        self.nginx.write(http=f"""
            axion_upstream llm {{ engine unix:{self.echo.path}; }}
            axion_tenant acme {{ }}
            axion_jwt jwks={self.path} issuer=me audience=axion tenant=sub
                      priority=level interval=200ms {more};
            log_format who '$axion_tenant $axion_auth $status';
            access_log {self.dir}/who.log who;""")

    def put(self, *issuers):
        with open(self.path + ".new", "w", encoding="ascii") as f:
            json.dump({"keys": [i.jwk() for i in issuers]}, f)
        os.rename(self.path + ".new", self.path)

    def ask(self, token):
        client = self.client()
        client.send("GET", "/v1/models",
                    headers=[f"Authorization: Bearer {token}"])
        return client.whole()

    def statuses(self, *tokens):
        """Of each token, by whichever worker, several times."""
        return [{self.ask(token)[0] for _ in range(4)} for token in tokens]

    def test_keys_are_rotated(self):
        self.start()
        old, new = self.old.token(), self.new.token()
        self.assertEqual(self.statuses(old, new), [{200}, {401}])
        self.put(self.old, self.new)
        self.nginx.wait("has 2 keys that verify", 2)
        self.assertEqual(self.statuses(old, new), [{200}, {200}])
        self.put(self.new)
        self.nginx.wait("has 1 keys that verify", 2)
        self.assertEqual(self.statuses(old, new), [{401}, {200}])

    def test_a_wrong_set_changes_nothing(self):
        self.start()
        old = self.old.token()
        self.put()
        self.nginx.wait("the set has no key that could verify in .*, what "
                        "was read before stays in force", 2)
        self.assertEqual(self.statuses(old), [{200}])
        os.unlink(self.path)
        self.nginx.wait("cannot find .*jwks", 2)
        self.assertEqual(self.statuses(old), [{200}])
        self.put(self.new)
        self.nginx.wait("has 1 keys that verify", 2)
        self.assertEqual(self.statuses(old), [{401}])

    def test_a_token_ends(self):
        self.configure("leeway=0")
        self.start()
        token = self.old.token(exp=time.time() + 3)
        seen = []

        def ended():
            status, _, body = self.ask(token)
            seen.append(status)
            return status == 401 and b"the token has expired" in body

        rig.wait_until(ended, "the token's end")
        self.assertEqual(seen, sorted(seen))

    def test_no_token_is_logged(self):
        self.start()
        tokens = [self.old.token(), self.new.token(), self.old.token(exp=5),
                  self.old.token(sub="nobody"), self.old.token(level="x")]
        for token in tokens:
            self.ask(token)
        self.nginx.wait("the token has expired")
        self.nginx.wait("the token's tenant is not known here")
        self.nginx.wait("the token was not signed by a known key")
        self.nginx.stop()
        with open(os.path.join(self.dir, "who.log"), encoding="ascii") as f:
            self.assertEqual(f.read().splitlines(),
                             ["acme jwt 200"] + 4 * ["- - 401"])
        for name in ("error.log", "who.log"):
            with open(os.path.join(self.dir, name), encoding="utf-8") as f:
                text = f.read()
            for token in tokens:
                for part in token.split("."):
                    self.assertNotIn(part, text)


class SlowTokens(rig.Test):
    """By keys and tokens of another implementation (make_jwt_vectors.py)."""

    def setUp(self):
        super().setUp()
        with open(VECTORS, encoding="ascii") as f:
            vectors = json.load(f)
        self.good = vectors["good"]
        self.keys = {k["kid"]: k for k in vectors["jwks"]["keys"]}
        self.path = os.path.join(self.dir, "jwks")
        # Four keys of one name are tried for a token: 5 ms and more.
        self.put("rsa", "p521", *["p384"] * 4)
        self.nginx.write(http=f"""
            axion_upstream llm {{ engine unix:{self.echo.path}; }}
            axion_tenant acme {{ }}
            axion_jwt jwks={self.path} issuer=https://id.example
                      audience=axion tenant=sub interval=200ms;""")
        self.start()

    def put(self, *names):
        with open(self.path + ".new", "w", encoding="ascii") as f:
            json.dump({"keys": [self.keys[name] for name in names]}, f)
        os.rename(self.path + ".new", self.path)

    def ask(self, token, **options):
        client = self.client(**options)
        client.send("GET", "/v1/models",
                    headers=[f"Authorization: Bearer {token}"])
        return client

    def forged(self):
        text, _, signature = self.good["ES384"].rpartition(".")
        return f"{text}.{b64(secrets.token_bytes(30))}{signature[40:]}"

    def flood(self, n):
        """So many at once, each with a signature of its own."""
        worker, = self.nginx.workers()
        os.kill(worker, signal.SIGSTOP)
        clients = [self.ask(self.forged()) for _ in range(n)]
        os.kill(worker, signal.SIGCONT)
        return clients

    def test_slow_ones_are_let_in_or_refused(self):
        for _ in range(2):
            for alg in ("RS256", "ES384", "ES512"):
                self.assertEqual(self.ask(self.good[alg]).whole()[0], 200)
            status, headers, body = self.ask(self.forged()).whole()
            self.assertEqual((status, headers["www-authenticate"]),
                             (401, 'Bearer error="invalid_token"'))
            self.assertIn(b"signature is not valid", body)

    def test_a_flood_is_bounded_and_holds_up_nobody(self):
        flood = self.flood(100)
        # One whose token is quick, and another address: neither waits for
        # room that the flood has.
        self.assertEqual(self.ask(self.good["RS256"]).whole()[0], 200)
        self.assertEqual(self.ask(self.good["ES384"],
                                  source="127.0.0.2").whole()[0], 200)
        seen = {401: 0, 503: 0}
        for client in flood:
            status, headers, body = client.whole()
            seen[status] += 1
            if status == 503:
                self.assertEqual(headers["retry-after"], "1")
                self.assertIn(b'"code":"overloaded"', body)
        self.assertGreaterEqual(seen[401], 32)
        self.assertGreater(seen[503], 0)
        self.assertEqual(self.ask(self.good["ES384"]).whole()[0], 200)

    def test_keys_that_leave_while_they_are_used(self):
        flood = self.flood(32)
        flood.append(self.ask(self.good["ES512"]))
        self.put("rsa")
        self.nginx.wait("has 1 keys that verify")
        for client in flood:
            self.assertIn(client.whole()[0], (200, 401, 503))
        for alg, status in (("RS256", 200), ("ES384", 401), ("ES512", 401)):
            self.assertEqual(self.ask(self.good[alg]).whole()[0], status)

    def test_a_worker_that_ends_answers_who_waits(self):
        flood = self.flood(20)
        self.assertEqual(self.ask(self.good["RS256"]).whole()[0], 200)
        self.nginx.signal(signal.SIGQUIT)
        for client in flood:
            self.assertEqual(client.whole()[0], 401)
        self.assertEqual(self.nginx.process.wait(timeout=rig.HANG), 0)


if __name__ == "__main__":
    rig.main()
