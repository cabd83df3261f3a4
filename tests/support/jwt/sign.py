"""Makes keys and signs JWTs with PyJWT and cryptography. Reads and answers one JSON object a line.

{"key": NAME, "alg": ALG}                         makes a key, and answers its public parts
{"sign": NAME, "alg": ALG, "header": {…}, "claims": {…}}   answers a JWT
{"bytes": NAME, "alg": ALG, "message": BASE64URL}  answers a signature of any bytes
"""

import base64
import json
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

ALGORITHMS = get_default_algorithms()
NEW = {
    "RS": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "PS": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
keys = {}


def text(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def answer(asked):
    alg = asked["alg"]
    algorithm = ALGORITHMS[alg]
    if "key" in asked:
        private = NEW[alg[:2] if alg[:2] in NEW else alg]()
        keys[asked["key"]] = private
        public = private.public_key()
        info = (PublicFormat.SubjectPublicKeyInfo,)
        return {
            "jwk": algorithm.to_jwk(public, as_dict=True),
            "pem": public.public_bytes(Encoding.PEM, *info).decode(),
            "der": text(public.public_bytes(Encoding.DER, *info)),
        }
    if "sign" in asked:
        header = asked["header"]
        return {"jwt": jwt.encode(asked["claims"], keys[asked["sign"]], alg, header)}
    message = raw(asked["message"])
    return {"signature": text(algorithm.sign(message, algorithm.prepare_key(keys[asked["bytes"]])))}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
