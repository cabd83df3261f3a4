// Get a Stile token with the AWS credentials in the environment, and print it.
//
// Usage: node get-token.mjs HOST [NAMESPACE ...]
//
// Needs Node 18 or newer, and `npm install @smithy/signature-v4 @aws-crypto/sha256-js`.
// `docs/protocol.md` describes every field. For the credentials of a profile, use the package
// `@aws-sdk/credential-providers`. Set NODE_EXTRA_CA_CERTS for a registry with a private authority.

import { createHash, randomBytes } from "node:crypto";
import { Sha256 } from "@aws-crypto/sha256-js";
import { SignatureV4 } from "@smithy/signature-v4";

/** Returns the bytes of a request for `download`, for an hour. */
function requestDocument(namespaces) {
  return Buffer.from(
    JSON.stringify({
      nonce: randomBytes(16).toString("base64url"),
      ttl: 3600,
      namespaces: namespaces.length > 0 ? namespaces : "all",
      permissions: ["download"],
    }),
  );
}

/** Returns the regional host of STS. Other partitions than `aws` have other suffixes. */
function stsHost(region) {
  return `sts.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
}

/** Signs the STS request that the broker rebuilds, and returns the body of `POST /v1/token`. */
async function proof(credentials, region, host, document) {
  const signer = new SignatureV4({
    service: "sts",
    region,
    credentials,
    sha256: Sha256,
    // Otherwise the signer adds `x-amz-content-sha256`, which the broker does not rebuild.
    applyChecksum: false,
  });
  // The signature must cover exactly these headers, and those that the signer adds itself:
  // x-amz-date, and x-amz-security-token with temporary credentials.
  const { headers } = await signer.sign({
    method: "POST",
    protocol: "https:",
    hostname: stsHost(region),
    path: "/",
    query: {},
    headers: {
      host: stsHost(region),
      "content-type": "application/x-www-form-urlencoded; charset=utf-8",
      "x-stile-audience": host,
      "x-stile-request": createHash("sha256").update(document).digest("hex"),
    },
    body: "Action=GetCallerIdentity&Version=2011-06-15",
  });
  return {
    version: 1,
    region,
    amz_date: headers["x-amz-date"],
    access_key_id: credentials.accessKeyId,
    ...(credentials.sessionToken && { session_token: credentials.sessionToken }),
    signature: headers.authorization.split("Signature=")[1],
    request: document.toString("base64url"),
  };
}

const [host, ...namespaces] = process.argv.slice(2);
const {
  AWS_ACCESS_KEY_ID: accessKeyId,
  AWS_SECRET_ACCESS_KEY: secretAccessKey,
  AWS_SESSION_TOKEN: sessionToken,
  AWS_REGION: region = "us-east-1",
} = process.env;
if (!host || !accessKeyId || !secretAccessKey) {
  console.error("usage: node get-token.mjs HOST [NAMESPACE ...]");
  console.error("hint: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN");
  process.exit(2);
}
const body = await proof(
  { accessKeyId, secretAccessKey, sessionToken },
  region,
  host,
  requestDocument(namespaces),
);
const answer = await fetch(`https://${host}/v1/token`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(body),
});
if (!answer.ok) {
  // The body of an error has `error`, `message`, `request_id` and often `hint`.
  console.error(`HTTP ${answer.status}: ${await answer.text()}`);
  process.exit(1);
}
console.log((await answer.json()).token);
