//! The life of a version: `module deprecate`, `undeprecate`, `unpublish` and `restore`.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, Url};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use stile_core::package::Version;
use stile_protocol::names::{ModuleAddress, Permission};
use terraform_credentials_stile::message::one_line;
use terraform_credentials_stile::token::Token;

use super::Context;
use super::module_send::version_of;
use crate::api::Api;
use crate::cli::{ModuleDeprecate, ModuleOne, ModuleUnpublish};
use crate::error::CommandError;
use crate::progress::spinning;

/// A change of one version, as the program reports it.
struct Change {
    method: Method,
    /// The path below that of the version.
    path: &'static str,
    body: Option<Value>,
    /// The status of a change, which is also the verb of an error.
    done: &'static str,
}

/// The broker's response to a change.
#[derive(Deserialize)]
struct Changed {
    status: String,
}

/// Marks a version as deprecated.
pub(super) async fn deprecate(
    context: &Context,
    args: &ModuleDeprecate,
) -> Result<(), CommandError> {
    let body = said(&args.reason, args.link.as_deref(), args.replacement.as_deref())?;
    let body = Some(body.into());
    let change = Change { method: Method::PUT, path: "/deprecation", body, done: "deprecated" };
    make(context, &args.of, change).await
}

/// Ends the deprecation of a version.
pub(super) async fn undeprecate(context: &Context, of: &ModuleOne) -> Result<(), CommandError> {
    let (method, done) = (Method::DELETE, "undeprecated");
    make(context, of, Change { method, path: "/deprecation", body: None, done }).await
}

/// Takes a version out of the list of versions.
pub(super) async fn unpublish(
    context: &Context,
    args: &ModuleUnpublish,
) -> Result<(), CommandError> {
    let body = said(&args.reason, args.link.as_deref(), args.replacement.as_deref())?;
    let body = Some(body.into());
    make(context, &args.of, Change { method: Method::DELETE, path: "", body, done: "unpublished" })
        .await
}

/// Brings an unpublished version back.
pub(super) async fn restore(context: &Context, of: &ModuleOne) -> Result<(), CommandError> {
    let (method, done) = (Method::POST, "restored");
    make(context, of, Change { method, path: "/restore", body: None, done }).await
}

/// Sends a change, and prints whether the registry made it.
async fn make(context: &Context, of: &ModuleOne, change: Change) -> Result<(), CommandError> {
    let address: ModuleAddress = of.address.parse()?;
    let version = version_of(&of.version)?;
    let Change { method, path, body, done } = change;
    let api = Api::new(&of.api, Permission::Upload, Some(address.namespace.clone()), context.now)?;
    let url = api.at(&format!("/v1/modules/{address}/{version}{path}"))?;
    let sending = api.call(async |client: &Client, token: &Token| {
        let request = client.request(method.clone(), url.clone()).bearer_auth(token.expose());
        let request = match &body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body.to_string()),
            None => request,
        };
        api.send(request.timeout(api.request_timeout())).await
    });
    let changed: Changed = spinning("waiting for the registry", Box::pin(sending))
        .await
        .and_then(|answer| answer.read())
        .map_err(|error| error.context(format_args!("`{address}` {version} was not {done}")))?;
    let status = if changed.status == "unchanged" { "unchanged" } else { done };
    context.output.outcome(
        format_args!("{status} {address} {version}"),
        &json!({
            "status": status,
            "module": address.to_string(),
            "version": version.to_string(),
        }),
    )
}

/// Returns a body with what the publisher says.
fn said(
    reason: &str,
    link: Option<&str>,
    replacement: Option<&str>,
) -> Result<Map<String, Value>, CommandError> {
    let mut body = Map::new();
    if reason.trim().is_empty() || reason.chars().any(char::is_control) {
        return Err(CommandError::usage("`--reason` must be one line of text"));
    }
    body.insert("reason".to_owned(), reason.into());
    if let Some(link) = link {
        body.insert("link".to_owned(), checked_link(link)?.into());
    }
    if let Some(replacement) = replacement {
        let is_valid = if replacement.contains('/') {
            replacement.parse::<ModuleAddress>().map(|_| ()).map_err(CommandError::from)
        } else {
            version_of(replacement).map(|_: Version| ())
        };
        is_valid.map_err(|error| {
            error
                .context("`--replacement`")
                .hint("use a version such as `1.3.0`, or an address `namespace/name/system`")
        })?;
        body.insert("replacement".to_owned(), replacement.into());
    }
    Ok(body)
}

/// Checks a link, which other programs print: an `https` URL without a user and a password.
fn checked_link(text: &str) -> Result<&str, CommandError> {
    let invalid = |problem: &str| CommandError::usage(format!("the URL of `--link` {problem}"));
    let url = Url::parse(text).map_err(|error| invalid(&format!("is not valid: {error}")))?;
    if url.scheme() != "https" {
        return Err(invalid("must begin with `https://`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("contains a user or a password"));
    }
    if one_line(text) != text {
        return Err(invalid("contains a space or a control character"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_public_https_url_and_its_error_does_not_repeat_it() {
        for text in [
            "",
            "wiki",
            "http://example.com/hunter2",
            "javascript:hunter2",
            "https://bob:hunter2@example.com/",
            "https://hunter2@example.com/",
            "https://example.com/\u{1b}[2J",
        ] {
            let error = checked_link(text).unwrap_err().to_string();
            assert!(error.starts_with("the URL of `--link` "), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
        assert_eq!(checked_link("https://example.com/a?b#c").unwrap(), "https://example.com/a?b#c");
    }

    #[test]
    fn a_reason_is_one_line_and_a_replacement_is_a_version_or_an_address() {
        for (text, replacement) in [
            ("", None),
            (" ", None),
            ("a\nb", None),
            ("a\u{1b}[2J", None),
            ("a", Some("")),
            ("a", Some("v1.3.0")),
            ("a", Some("1.3")),
            ("a", Some("acme/vpc")),
            ("a", Some("acme/VPC/aws")),
            ("a", Some("registry.example.com/acme/vpc/aws")),
        ] {
            assert!(said(text, None, replacement).is_err(), "{text:?} {replacement:?}");
        }
        for replacement in ["1.3.0", "1.3.0-rc.1", "acme/net/aws"] {
            let body = said("it opens port 22", None, Some(replacement)).unwrap();
            let expected = json!({ "reason": "it opens port 22", "replacement": replacement });
            assert_eq!(Value::from(body), expected);
        }
    }
}
