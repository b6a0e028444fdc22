"""Tokens while nginx runs: an issuer's new keys count within the interval and
its old ones no longer, also for tokens that were verified before; a wrong key
set changes nothing; a token ends when it says; none is ever logged."""

import base64
import hashlib
import hmac
import json
import os
import secrets
import time

import rig


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


if __name__ == "__main__":
    rig.main()
