// Makes keys and signs JWTs with jose. Reads and answers one JSON object a line.
//
// {"key": NAME, "alg": ALG}                                  makes a key, and answers its public JWK
// {"sign": NAME, "alg": ALG, "header": {…}, "claims": {…}}   answers a JWT
// {"encrypt": NAME, "alg": ALG, "claims": {…}}               answers an encrypted JWT

import { createInterface } from 'node:readline'
import { EncryptJWT, SignJWT, exportJWK, generateKeyPair } from 'jose'

const keys = new Map()

async function answer(asked) {
  const { alg } = asked
  if (asked.key !== undefined) {
    const pair = await generateKeyPair(alg, { extractable: true })
    keys.set(asked.key, pair)
    return { jwk: await exportJWK(pair.publicKey) }
  }
  if (asked.encrypt !== undefined) {
    const { publicKey } = keys.get(asked.encrypt)
    const encrypted = new EncryptJWT(asked.claims)
    encrypted.setProtectedHeader({ alg, enc: 'A256GCM', cty: 'JWT' })
    return { jwt: await encrypted.encrypt(publicKey) }
  }
  const { privateKey } = keys.get(asked.sign)
  const signed = new SignJWT(asked.claims).setProtectedHeader({ alg, ...asked.header })
  return { jwt: await signed.sign(privateKey) }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`)
}
