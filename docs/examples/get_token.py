#!/usr/bin/env python3
"""Get a Stile token with the AWS credentials that botocore finds, and print it.

Usage: python3 get_token.py HOST [NAMESPACE ...]

Needs botocore (`pip install botocore`). The region is that of the AWS configuration, or us-east-1.
`docs/protocol.md` describes every field. Set SSL_CERT_FILE for a registry with a private authority.
"""

import base64
import hashlib
import json
import os
import secrets
import sys
import urllib.error
import urllib.request

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest


def request_document(namespaces):
    """Returns the bytes of a request for `download`, for an hour."""
    nonce = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    fields = {
        "nonce": nonce,
        "ttl": 3600,
        "namespaces": namespaces or "all",
        "permissions": ["download"],
    }
    return json.dumps(fields).encode()


def sts_host(region):
    """Returns the regional host of STS. Other partitions than `aws` have other suffixes."""
    return f"sts.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def proof(credentials, region, host, document):
    """Signs the STS request that the broker rebuilds, and returns the body of `POST /v1/token`."""
    # The signature must cover exactly these headers, and those that the signer adds itself:
    # host, x-amz-date, and x-amz-security-token with temporary credentials.
    request = AWSRequest(
        method="POST",
        url=f"https://{sts_host(region)}/",
        data="Action=GetCallerIdentity&Version=2011-06-15",
        headers={
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
            "x-stile-audience": host,
            "x-stile-request": hashlib.sha256(document).hexdigest(),
        },
    )
    SigV4Auth(credentials, "sts", region).add_auth(request)
    body = {
        "version": 1,
        "region": region,
        "amz_date": request.headers["X-Amz-Date"],
        "access_key_id": credentials.access_key,
        "signature": request.headers["Authorization"].split("Signature=")[1],
        "request": base64.urlsafe_b64encode(document).decode().rstrip("="),
    }
    if credentials.token:
        body["session_token"] = credentials.token
    return body


def get_token(host, namespaces):
    """Exchanges a proof for a token, and returns the answer of the broker."""
    session = botocore.session.get_session()
    credentials = session.get_credentials()
    if credentials is None:
        sys.exit("no AWS credentials; hint: set AWS_PROFILE, or run `aws sso login`")
    region = (
        os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    )
    body = proof(
        credentials.get_frozen_credentials(), region, host, request_document(namespaces)
    )
    request = urllib.request.Request(
        f"https://{host}/v1/token",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        # The body of an error has `error`, `message`, `request_id` and often `hint`.
        sys.exit(f"HTTP {error.code}: {error.read().decode(errors='replace')}")
    except urllib.error.URLError as error:
        sys.exit(f"cannot reach {host}: {error.reason}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(get_token(sys.argv[1], sys.argv[2:])["token"])
