//! Builds a request from a case, sends it, and reports how the outcome differs from the expected
//! one.

use std::io::Write as _;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use stile_tests::broker::{ACCOUNT, Backend, Reply};
use stile_tests::process::home::Home;
use stile_tests::process::programs::program;
use stile_tests::sts::identity::Identity;
use stile_tests::sts::local::{Answer, identity_xml};
use stile_tests::sts::proof::{with_document, without};

use super::archive;
use super::file::{Caller, Encoding, Input, Instead, Must, Signed, Sts};
use super::forge;
use super::ground::{Ground, LONGEST_LINE, secrets};
use super::text::{Values, expand, expand_json};

/// The route to which the test publishes an archive.
const PUBLISH: &str = "/v1/modules/acme/attack/aws/1.0.0";

/// Sends an input as often as it says. Returns the problems.
pub(super) async fn send(ground: &Ground, input: &Input, case: &Must) -> Vec<String> {
    let must = input.must.or(case);
    if !input.run.is_empty() {
        return run(ground, input, &must).await;
    }
    let mut problems = Vec::new();
    for _ in 0..input.times.unwrap_or(1) {
        problems.extend(send_once(ground, input, &must).await);
    }
    problems
}

async fn send_once(ground: &Ground, input: &Input, must: &Must) -> Vec<String> {
    let test = &ground.test;
    let identity = identity(&input.caller);
    test.sts.add_identity(identity.clone());
    let mut values = Values::from([
        ("token", ground.token.clone()),
        ("identity", identity_xml(&identity)),
        ("sts", test.sts.endpoint()),
    ]);
    let mut proof = signed(ground, &identity, &input.signed, &values);
    let mut hidden = secrets(&identity, &proof);
    hidden.push(ground.token.clone());
    values.insert("proof", proof.to_string());
    values.insert("proof in base64url", URL_SAFE_NO_PAD.encode(proof.to_string()));
    for field in ["request", "signature", "session_token", "access_key_id", "amz_date"] {
        values.extend(proof[field].as_str().map(|text| (field, text.to_owned())));
    }
    if let Some(document) = &input.document {
        proof = with_document(proof, expand(document, &values).as_bytes());
    }
    for (field, value) in &input.set {
        proof[field.as_str()] = expand_json(value, &values);
    }
    proof = input.drop.iter().fold(proof, |proof, field| without(proof, field));
    // Without the opening bracket, so that a text can put a duplicate field before the rest.
    values.insert("fields", proof.to_string()[1..].to_owned());
    if let Some(forged) = &input.forged {
        let token = forge::forged(test, forged, &values).await;
        values.insert("forged", token.clone());
        hidden.push(token);
    }

    let method = input.method.as_deref().unwrap_or("POST");
    let archive = archive::of(input);
    let default_path = if archive.is_some() { PUBLISH } else { "/v1/token" };
    let path = expand(input.path.as_deref().unwrap_or(default_path), &values);
    let mut request = Request::builder().method(method).uri(path);
    let default_type = match (&archive, method) {
        (Some((_, media_type)), _) => *media_type,
        (None, "POST") => "application/json",
        (None, _) => "",
    };
    let content_type = input.content_type.as_deref().unwrap_or(default_type);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    for [name, value] in &input.headers {
        request = request.header(name, expand(value, &values));
    }
    if archive.is_some() {
        request = request.header("authorization", format!("Bearer {}", ground.token));
    }
    let body = match (archive, &input.body) {
        (Some((archive, _)), _) => archive,
        (None, Some(body)) => encoded(&expand(body, &values), input.encoding),
        (None, None) if method == "POST" => encoded(&proof.to_string(), input.encoding),
        (None, None) => Vec::new(),
    };
    let request = match request.body(Body::from(body)) {
        Ok(request) => request,
        Err(error) => return vec![format!("no HTTP client can send it: {error}")],
    };

    test.sts.answer(input.sts.as_ref().map_or(Answer::Genuine, |sts| answer(sts, &values)));
    let outcome = ground.watch(request, &hidden).await;
    test.sts.answer(Answer::Genuine);

    let mut problems = outcome.problems.clone();
    problems.extend(differs(&outcome.reply, must, &outcome.logged.human.text));
    let longest = must.line.unwrap_or(LONGEST_LINE);
    let too_long = outcome.logged.lines().filter(|line| line.len() > longest);
    problems.extend(too_long.map(|line| format!("a log line of {} bytes: {line}", line.len())));
    match must.calls {
        Some(budget) => problems.extend(ground.cost(&outcome, budget)),
        None => problems.push("it has no budget".to_owned()),
    }
    let hosts: Vec<_> = outcome.asked.iter().filter_map(|asked| asked.header("host")).collect();
    if must.host.as_deref().is_some_and(|host| hosts != [host]) {
        problems.push(format!("the broker called {hosts:?}"));
    }
    problems
}

fn differs(reply: &Reply, must: &Must, log: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let text = reply.text();
    if must.answer.as_deref() != Some(&reply.error()) {
        problems.push(format!("{} instead of {:?}: {text:.300}", reply.error(), must.answer));
    }
    for (name, value) in &must.header {
        if reply.header(name) != value {
            problems.push(format!("header {name} is `{}`", reply.header(name)));
        }
    }
    problems.extend(
        must.says
            .iter()
            .filter(|part| !text.contains(*part))
            .map(|part| format!("it does not say `{part}`: {text:.300}")),
    );
    let hides = |part: &&String| text.contains(*part) || log.contains(*part);
    problems.extend(
        must.hides.iter().filter(hides).map(|part| format!("it reveals `{part}`: {text:.300}")),
    );
    problems.extend(
        must.logs
            .iter()
            .filter(|part| !log.contains(*part))
            .map(|part| format!("the log has no `{part}`: {log}")),
    );
    problems
}

/// Runs a program that finds the store of the test by environment variables.
async fn run(ground: &Ground, input: &Input, must: &Must) -> Vec<String> {
    let mut home = Home::temporary();
    match ground.test.backend() {
        Backend::Embedded => home.variable("STILE_DATA", ground.test.data()),
        Backend::Aws => ground
            .test
            .aws()
            .environment()
            .into_iter()
            .for_each(|(name, value)| home.variable(name, value)),
    }
    let arguments: Vec<&str> = input.run.iter().skip(1).map(String::as_str).collect();
    let ran = home.run(&program(&input.run[0]), &arguments).await;
    let said = format!("{}{}", ran.stdout, ran.stderr);
    let exit = ran.code.map(|code| format!("exit {code}"));
    let mut problems = Vec::new();
    if must.answer != exit {
        problems.push(format!("{exit:?} instead of {:?}: {said}", must.answer));
    }
    problems.extend(
        must.says
            .iter()
            .filter(|part| !said.contains(*part))
            .map(|part| format!("it does not say `{part}`: {said}")),
    );
    problems
}

fn identity(caller: &Caller) -> Identity {
    let account = caller.account.as_deref().unwrap_or(ACCOUNT);
    let session = caller.session.as_deref().unwrap_or("i-0abc");
    let mut identity = match (&caller.user, &caller.role) {
        (Some(user), _) => Identity::user(account, user),
        (None, role) => Identity::role(account, role.as_deref().unwrap_or("deploy"), session),
    };
    if let Some(partition) = &caller.partition {
        identity.arn = identity.arn.replacen("arn:aws:", &format!("arn:{partition}:"), 1);
    }
    identity.arn = caller.arn.clone().unwrap_or(identity.arn);
    identity.user_id = caller.user_id.clone().unwrap_or(identity.user_id);
    identity
}

fn signed(
    ground: &Ground,
    identity: &Identity,
    signed: &Signed,
    values: &Values,
) -> serde_json::Value {
    let mut proof = ground.test.proof(identity).now(ground.test.time() + signed.at);
    if let Some(region) = &signed.region {
        proof = proof.region(region);
    }
    if let Some(audience) = &signed.audience {
        proof = proof.audience(audience);
    }
    if let Some(headers) = &signed.headers {
        proof = proof.signed_headers(headers);
    }
    if let Some(document) = &signed.document {
        return proof.document_bytes(expand(document, values)).build();
    }
    let namespaces = signed.namespaces.as_ref().map_or_else(
        || json!("all"),
        |names| names.iter().map(|name| expand(name, values)).collect(),
    );
    let permissions =
        signed.permissions.as_ref().map_or_else(|| json!(["download"]), |list| json!(list));
    let document = json!({
        "nonce": nonce(), "ttl": signed.ttl.unwrap_or(600), "namespaces": namespaces, "permissions": permissions,
    });
    proof.document_bytes(document.to_string()).build()
}

fn nonce() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    URL_SAFE_NO_PAD.encode(random)
}

fn answer(sts: &Sts, values: &Values) -> Answer {
    match sts.instead {
        Some(Instead::Endless) => return Answer::Endless,
        Some(Instead::Redirect) => return Answer::Redirect(values["sts"].clone()),
        None => {}
    }
    let body = match (&sts.body, &sts.code) {
        (Some(body), _) => expand(body, values),
        (None, Some(code)) => {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{}</Message></Error></ErrorResponse>",
                sts.message
            )
        }
        (None, None) => values["identity"].clone(),
    };
    let body = sts.replace.iter().fold(body, |body, [from, to]| {
        assert!(body.contains(from.as_str()), "`{from}` is not in STS's answer");
        body.replace(from.as_str(), to)
    });
    Answer::Raw {
        status: sts.status,
        content_type: sts.content_type.clone(),
        body: body.into_bytes(),
    }
}

pub(super) fn encoded(text: &str, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::Utf16le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(),
        Encoding::GzipBomb => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            packed.write_all(&vec![0; 10 << 20]).unwrap();
            packed.finish().unwrap()
        }
    }
}
