//! The life of a version: `deprecate`, `undeprecate`, `unpublish` or `yank`, and `restore`, of modules
//! and providers.

use std::fmt;
use std::str::FromStr;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use stile_core::package::Version;
use stile_protocol::names::{ModuleAddress, NameError, Namespace, Permission, ProviderAddress};
use terraform_credentials_stile::message::one_line;

use super::Context;
use super::module_send::version_of;
use crate::api::Api;
use crate::cli::Statement;
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::ApiTarget;

/// The address of a kind of package.
pub(super) trait Address: FromStr<Err = NameError> + fmt::Display {
    /// The name of the kind: the noun of commands, and the key in their JSON.
    const NOUN: &'static str;
    /// The path of all packages of the kind.
    const PATH: &'static str;
    /// The form of an address, for hints.
    const FORM: &'static str;

    /// Returns the namespace.
    fn namespace(&self) -> &Namespace;
}

impl Address for ModuleAddress {
    const NOUN: &'static str = "module";
    const PATH: &'static str = "/v1/modules";
    const FORM: &'static str = "namespace/name/system";

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Address for ProviderAddress {
    const NOUN: &'static str = "provider";
    const PATH: &'static str = "/v1/providers";
    const FORM: &'static str = "namespace/type";

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// The version that a command names.
pub(super) struct Named<'a> {
    pub(super) address: &'a str,
    pub(super) version: &'a str,
    pub(super) api: &'a ApiTarget,
}

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
pub(super) async fn deprecate<A: Address>(
    context: &Context,
    of: Named<'_>,
    statement: &Statement,
) -> Result<(), CommandError> {
    let body = Some(said::<A>(statement)?.into());
    let change = Change { method: Method::PUT, path: "/deprecation", body, done: "deprecated" };
    make::<A>(context, of, change).await
}

/// Ends the deprecation of a version.
pub(super) async fn undeprecate<A: Address>(
    context: &Context,
    of: Named<'_>,
) -> Result<(), CommandError> {
    let (method, done) = (Method::DELETE, "undeprecated");
    make::<A>(context, of, Change { method, path: "/deprecation", body: None, done }).await
}

/// Takes a version back. `done` is the word for it: the list of a module loses the version, and that of
/// a provider keeps it with a warning.
pub(super) async fn take_back<A: Address>(
    context: &Context,
    of: Named<'_>,
    statement: &Statement,
    done: &'static str,
) -> Result<(), CommandError> {
    let body = Some(said::<A>(statement)?.into());
    make::<A>(context, of, Change { method: Method::DELETE, path: "", body, done }).await
}

/// Brings a version back.
pub(super) async fn restore<A: Address>(
    context: &Context,
    of: Named<'_>,
) -> Result<(), CommandError> {
    let (method, done) = (Method::POST, "restored");
    make::<A>(context, of, Change { method, path: "/restore", body: None, done }).await
}

/// Sends a change, and prints whether the registry made it.
async fn make<A: Address>(
    context: &Context,
    of: Named<'_>,
    change: Change,
) -> Result<(), CommandError> {
    let address: A = of.address.parse()?;
    let version = version_of(of.version)?;
    let Change { method, path, body, done } = change;
    let namespace = Some(address.namespace().clone());
    let api = Api::new(of.api, Permission::Upload, namespace, context.now)?;
    let url = api.at(&format!("{}/{address}/{version}{path}", A::PATH))?;
    let headers = HeaderMap::new();
    let sending = api.send_json(&method, &url, &headers, body.as_ref());
    let changed: Changed = spinning("waiting for the registry", Box::pin(sending))
        .await
        .and_then(|answer| answer.read())
        .map_err(|error| error.context(format_args!("`{address}` {version} was not {done}")))?;
    let status = if changed.status == "unchanged" { "unchanged" } else { done };
    let mut json = json!({ "status": status, "version": version.to_string() });
    json[A::NOUN] = address.to_string().into();
    context.output.outcome(format_args!("{status} {address} {version}"), &json)
}

/// Returns a body with what the publisher says.
fn said<A: Address>(statement: &Statement) -> Result<Map<String, Value>, CommandError> {
    let Statement { reason, link, replacement } = statement;
    let mut body = Map::new();
    if reason.trim().is_empty() || reason.chars().any(char::is_control) {
        return Err(CommandError::usage("`--reason` must be one line of text"));
    }
    body.insert("reason".to_owned(), reason.as_str().into());
    if let Some(link) = link {
        body.insert("link".to_owned(), checked_link(link)?.into());
    }
    if let Some(replacement) = replacement {
        let is_valid = if replacement.contains('/') {
            replacement.parse::<A>().map(|_| ()).map_err(CommandError::from)
        } else {
            version_of(replacement).map(|_: Version| ())
        };
        is_valid.map_err(|error| {
            let hint = format!("use a version such as `1.3.0`, or an address `{}`", A::FORM);
            error.context("`--replacement`").hint(hint)
        })?;
        body.insert("replacement".to_owned(), replacement.as_str().into());
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

    fn statement(reason: &str, replacement: Option<&str>) -> Statement {
        let replacement = replacement.map(str::to_owned);
        Statement { reason: reason.to_owned(), link: None, replacement }
    }

    #[test]
    fn the_replacement_of_a_provider_is_a_provider() {
        for (replacement, is_valid) in [("acme/dns", true), ("1.3.0", true), ("a/b/c", false)] {
            let said = said::<ProviderAddress>(&statement("it leaks", Some(replacement)));
            assert_eq!(said.is_ok(), is_valid, "{replacement}");
        }
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
            let statement = statement(text, replacement);
            assert!(said::<ModuleAddress>(&statement).is_err(), "{text:?} {replacement:?}");
        }
        for replacement in ["1.3.0", "1.3.0-rc.1", "acme/net/aws"] {
            let statement = statement("it opens port 22", Some(replacement));
            let body = said::<ModuleAddress>(&statement).unwrap();
            let expected = json!({ "reason": "it opens port 22", "replacement": replacement });
            assert_eq!(Value::from(body), expected);
        }
    }
}
