"""Writes tests/api/jwt_vectors.json: a JWK set and tokens by an independent
implementation (PyJWT, cryptography), good ones of every algorithm and bad ones
of every kind.  The keys are made for this and kept nowhere.

    pip install 'pyjwt[crypto]' && python3 tests/api/make_jwt_vectors.py

Times: the good ones are valid from 2020 until 2096; a test that needs a clock
brings its own.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets

import cryptography
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import algorithms

FROM, UNTIL = 1577836800, 3976214400
CLAIMS = {"iss": "https://id.example", "aud": "axion", "sub": "acme",
          "iat": FROM, "nbf": FROM, "exp": UNTIL}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public(key, kid, **more):
    if isinstance(key, rsa.RSAPrivateKey):
        text = algorithms.RSAAlgorithm.to_jwk(key.public_key())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        text = algorithms.ECAlgorithm.to_jwk(key.public_key())
    else:
        text = algorithms.OKPAlgorithm.to_jwk(key.public_key())
    jwk = json.loads(text)
    jwk.pop("key_ops", None)
    return {**jwk, "kid": kid, "use": "sig", **more}


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM,
        serialization.PublicFormat.SubjectPublicKeyInfo)


def raw(header, claims, secret=b"", signature=None):
    """A token by hand, for what no library would sign."""
    text = b64(json.dumps(header).encode()) + "." + b64(
        claims if isinstance(claims, bytes) else json.dumps(claims).encode())
    if signature is None:
        signature = b64(hmac.new(secret, text.encode(),
                                 hashlib.sha256).digest())
    return text + "." + signature


def main():
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    p256, p384, p521 = (ec.generate_private_key(c) for c in (
        ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()))
    ed = ed25519.Ed25519PrivateKey.generate()
    stranger = ec.generate_private_key(ec.SECP256R1())
    secret, short = secrets.token_bytes(64), secrets.token_bytes(16)
    keys = [public(rsa_key, "rsa"), public(p256, "p256"),
            public(p384, "p384"), public(p521, "p521"), public(ed, "ed"),
            {"kty": "oct", "k": b64(secret), "kid": "oct"},
            # those that are left out
            public(small, "small"), public(p256, "enc", use="enc"),
            public(rsa_key, "oaep", alg="RSA-OAEP"),
            public(p256, "signs", key_ops=["sign"]),
            {"kty": "oct", "k": b64(short), "kid": "short"},
            {"kty": "AKP", "kid": "new"}]
    signers = {"rsa": rsa_key, "p256": p256, "p384": p384, "p521": p521,
               "ed": ed, "oct": secret}
    algs = {"HS256": "oct", "HS384": "oct", "HS512": "oct", "RS256": "rsa",
            "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa",
            "PS512": "rsa", "ES256": "p256", "ES384": "p384",
            "ES512": "p521", "EdDSA": "ed"}

    def sign(claims, alg="ES256", kid=None, key=None, **header):
        kid = algs[alg] if kid is None else kid
        return jwt.encode(claims, key if key is not None else
                          signers[algs[alg]], alg,
                          {**({"kid": kid} if kid else {}), **header})

    def es(**changes):
        claims = {**CLAIMS, **changes}
        return sign({k: v for k, v in claims.items() if v is not None})

    good = {alg: sign(CLAIMS, alg) for alg in algs}
    good |= {
        "no kid": sign(CLAIMS, kid=""),
        "typ at+jwt": sign(CLAIMS, typ="at+jwt"),
        "no typ": jwt.encode(CLAIMS, p256, "ES256",
                             {"kid": "p256", "typ": None}),
        "aud in a list": es(aud=["other", "axion"]),
        "fraction": es(exp=UNTIL + 0.5),
        "models": es(axion={"models": ["echo", "gem*"]}, level="high"),
        "models as words": es(axion={"models": " echo  gem* "}),
        "no models": es(axion={"models": []}),
        "claim with dots": es(**{"axion.models": ["echo"]}),
        "tenant other": es(sub="other"),
    }
    head, _, tail = good["ES256"].rpartition(".")
    flipped = ("B" if tail[10] == "A" else "A")
    bad = {
        "none": [raw({"alg": "none"}, CLAIMS, signature=""), "algorithm"],
        "None": [raw({"alg": "None"}, CLAIMS, signature=""), "algorithm"],
        "no alg": [raw({"kid": "oct"}, CLAIMS, secret), "algorithm"],
        "alg is a list": [raw({"alg": ["HS256"]}, CLAIMS, secret),
                          "algorithm"],
        "rsa public key as a secret": [
            raw({"alg": "HS256", "kid": "rsa"}, CLAIMS, pem(rsa_key)),
            "known key"],
        "rsa public key as a secret, no kid": [
            raw({"alg": "HS256"}, CLAIMS, pem(rsa_key)), "signature"],
        "ec modulus as a secret": [
            raw({"alg": "HS256", "kid": "p256"}, CLAIMS,
                base64.urlsafe_b64decode(keys[1]["x"] + "==")), "known key"],
        "short secret": [raw({"alg": "HS256", "kid": "short"}, CLAIMS, short),
                         "known key"],
        "small rsa": [jwt.encode(CLAIMS, small, "RS256", {"kid": "small"}),
                      "known key"],
        "key for encryption": [sign(CLAIMS, kid="enc"), "known key"],
        "key that only signs": [sign(CLAIMS, kid="signs"), "known key"],
        "key of another algorithm": [sign(CLAIMS, "RS256", kid="oaep"),
                                     "known key"],
        "unknown kid": [sign(CLAIMS, kid="gone"), "known key"],
        "kid is a number": [raw({"alg": "HS256", "kid": 5}, CLAIMS, secret),
                            "known key"],
        "stranger": [sign(CLAIMS, key=stranger), "signature"],
        "stranger's jwk inside": [
            sign(CLAIMS, key=stranger, jwk=public(stranger, "p256")),
            "signature"],
        "changed signature": [head + "." + tail[:10] + flipped + tail[11:],
                              "signature"],
        "cut signature": [head + "." + tail[:-4], "signature"],
        "no signature": [head + ".", "signature"],
        "changed payload": [
            head.split(".")[0] + "." + b64(json.dumps(
                {**CLAIMS, "sub": "other"}).encode()) + "." + tail,
            "signature"],
        "der signature": [head + "." + b64(stranger.sign(
            head.encode(), ec.ECDSA(cryptography.hazmat.primitives.hashes
                                    .SHA256()))), "signature"],
        "padded": [head + "." + tail + "==", "signature"],
        "crit": [sign(CLAIMS, crit=["exp"]), "extension"],
        "b64": [raw({"alg": "HS256", "kid": "oct", "b64": False}, CLAIMS,
                    secret), "extension"],
        "typ logout": [sign(CLAIMS, typ="logout+jwt"), "another type"],
        "two parts": [head, "malformed"],
        "four parts": [good["ES256"] + ".x", "malformed"],
        "five parts": ["a.b.c.d.e", "malformed"],
        "header is a list": [raw(["HS256"], CLAIMS, secret), "malformed"],
        "header is no json": [b64(b"{") + "." + head.split(".")[1] + ".x",
                              "malformed"],
        "alg twice": [
            b64(b'{"alg":"HS256","alg":"none"}') + "." + head.split(".")[1]
            + ".", "malformed"],
        "payload is a list": [raw({"alg": "HS256", "kid": "oct"}, [1], secret),
                              "malformed"],
        "payload is no json": [raw({"alg": "HS256", "kid": "oct"}, b"{",
                                   secret), "malformed"],
        "sub twice": [raw({"alg": "HS256", "kid": "oct"},
                          json.dumps(CLAIMS)[:-1].encode()
                          + b',"sub":"other"}', secret), "malformed"],
        "no exp": [es(exp=None), "when it expires"],
        "exp is text": [raw(
            {"alg": "HS256", "kid": "oct"}, {**CLAIMS, "exp": "never"},
            secret), "when it expires"],
        "exp is negative": [es(exp=-1), "when it expires"],
        "nbf is text": [raw({"alg": "HS256", "kid": "oct"},
                            {**CLAIMS, "nbf": "now"}, secret),
                        "not valid yet"],
        "expired": [es(exp=FROM + 1), "has expired"],
        "not yet": [es(nbf=UNTIL - 1), "not valid yet"],
        "from the future": [es(iat=UNTIL - 1), "in the future"],
        "another issuer": [es(iss="https://evil.example"), "issuer"],
        "no issuer": [es(iss=None), "issuer"],
        "another audience": [es(aud="axion2"), "audience"],
        "no audience": [es(aud=None), "audience"],
        "audiences": [es(aud=["a", "b"]), "audience"],
        "no tenant": [es(sub=None), "names no tenant"],
        "tenant is no name": [es(sub="a/b"), "names no tenant"],
        "tenant is a number": [raw({"alg": "HS256", "kid": "oct"},
                                   {**CLAIMS, "sub": 5}, secret),
                               "names no tenant"],
        "models are numbers": [es(axion={"models": [1]}), "models"],
        "models are an object": [es(axion={"models": {"a": 1}}), "models"],
        "too many models": [es(axion={"models": ["m"] * 33}), "models"],
        "an empty model": [es(axion={"models": [""]}), "models"],
        "priority is unknown": [es(level="urgent"), "priority"],
        "priority is a number": [es(level=2), "priority"],
    }
    out = {
        "made by": f"PyJWT {jwt.__version__}, cryptography "
                   f"{cryptography.__version__}",
        "jwks": {"keys": keys}, "skipped": 6,
        "with a private part": {"keys": [json.loads(
            algorithms.ECAlgorithm.to_jwk(stranger))]},
        "good": good, "bad": bad,
    }
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "jwt_vectors.json")
    with open(path, "w", encoding="ascii") as f:
        json.dump(out, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
