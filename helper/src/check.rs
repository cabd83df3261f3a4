//! `check`: asks the registries whether installed versions are deprecated, unpublished or signed by a
//! compromised key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use reqwest::StatusCode;
use serde_json::Value;
use stile_protocol::audience::Audience;
use terraform_credentials_stile::call::{self, BrokerResponse};
use terraform_credentials_stile::config::RegistryConfig;
use terraform_credentials_stile::message::{chain, one_line};
use terraform_credentials_stile::token::{self, Token};

use crate::installed::{self, Installed, InstalledAddress, InstalledError, InstalledVersion};
use crate::lock_file;
use crate::terminal;
use crate::verb::{VerbContext, VerbFailure, block_on};

/// Largest answer about one version, in bytes. It contains the README.
const MAX_DETAIL: usize = 8 * 1024 * 1024;

/// The exit codes.
const WITHDRAWN: u8 = 1;
const NOT_ASKED: u8 = 2;

/// The header of the table.
const HEADER: [&str; 5] = ["package", "version", "state", "use instead", "reason"];

/// What is known about an installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Published,
    Deprecated(Advice),
    Unpublished(Advice),
    /// A compromised key signed the version, so that a thief may have made it.
    Compromised(Advice),
    /// The registry did not answer the question.
    Unknown,
    /// No registry of the helper has the package.
    NotChecked,
}

/// What the publisher says about a version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Advice {
    reason: String,
    replacement: String,
}

/// Prints a table of the installed modules and providers. Messages go to stderr.
pub(crate) fn run(context: &VerbContext, folder: &Path) -> ExitCode {
    match table(context, folder) {
        Ok((table, code)) => match terminal::print(&table) {
            Ok(()) => code,
            Err(error) => fail(&error.into()),
        },
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &VerbFailure) -> ExitCode {
    terminal::note(&failure.to_string());
    ExitCode::from(NOT_ASKED)
}

fn table(context: &VerbContext, folder: &Path) -> Result<(String, ExitCode), VerbFailure> {
    let providers = lock_file::read(folder).map_err(|error| unreadable(&error))?;
    let modules = installed::read(folder, &context.environment);
    let mut installed = match (modules, &providers) {
        (Ok(modules), _) => modules,
        // A lock file comes with the configuration, so it can be there before Terraform's folder.
        (Err(error @ InstalledError::NotInitialized(_)), Some(_)) => {
            terminal::note(&format!("{}; its modules are not checked", chain(&error)));
            BTreeSet::new()
        }
        (Err(error), _) => return Err(unreadable(&error)),
    };
    installed.extend(providers.into_iter().flatten());
    if installed.is_empty() {
        terminal::note(&format!(
            "no module and no provider is installed in `{}`",
            folder.display()
        ));
        return Ok((String::new(), ExitCode::SUCCESS));
    }
    let config = context.load_config()?;
    let mut by_host: BTreeMap<&Audience, Vec<&InstalledVersion>> = BTreeMap::new();
    for package in &installed {
        if let Installed::Version(version) = package {
            by_host.entry(&version.host).or_default().push(version);
        }
    }
    let mut states = BTreeMap::new();
    for (host, versions) in by_host {
        let found = match config.registry(host) {
            None => versions.iter().map(|_| State::NotChecked).collect(),
            Some(registry) => {
                let registry = context.with_flags(registry);
                block_on(async { Ok(ask(context, &registry, &versions).await) })?
            }
        };
        states.extend(versions.into_iter().zip(found));
    }
    let rows: Vec<_> = installed
        .iter()
        .map(|package| match package {
            Installed::Version(version) => row(version, &states[version]),
            Installed::Elsewhere(source) => row_of(source.clone(), "-", "not checked", None),
        })
        .collect();
    Ok((render(&rows), conclude(states.iter())))
}

fn unreadable(error: &InstalledError) -> VerbFailure {
    let failure = VerbFailure::new(chain(error));
    match error {
        InstalledError::NotInitialized(_) | InstalledError::Damaged(_) => {
            failure.hint("run `terraform init` there, or name the folder of the configuration")
        }
        InstalledError::Unreadable { .. } => failure,
    }
}

/// Asks one registry about its versions. It prints a message for each failure.
async fn ask(
    context: &VerbContext,
    registry: &RegistryConfig,
    versions: &[&InstalledVersion],
) -> Vec<State> {
    let scope = registry.scope();
    let new_token =
        async || token::for_host(registry, &scope, &context.environment, context.clock).await;
    let mut token = match new_token().await {
        Ok(token) => token,
        Err(error) => {
            let failure = VerbFailure::from(error);
            let failure = failure.context(format_args!("cannot ask `{}`", registry.host));
            terminal::note(&failure.to_string());
            return vec![State::Unknown; versions.len()];
        }
    };
    let mut states = Vec::new();
    for version in versions {
        let mut answer = request(context, registry, &token, version).await;
        let is_rejected =
            answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::UNAUTHORIZED);
        if is_rejected && token.cached {
            // The cached token was revoked.
            let _deleted = token::forget(registry, &scope, &context.environment);
            if let Ok(new) = new_token().await {
                token = new;
                answer = request(context, registry, &token, version).await;
            }
        }
        let state = answer.and_then(|answer| state(&answer, &registry.host));
        states.push(state.unwrap_or_else(|failure| {
            let InstalledVersion { address, version, .. } = version;
            let failure = failure.context(format_args!("cannot check `{address}` {version}"));
            terminal::note(&failure.to_string());
            State::Unknown
        }));
    }
    states
}

async fn request(
    context: &VerbContext,
    registry: &RegistryConfig,
    token: &Token,
    InstalledVersion { address, version, .. }: &InstalledVersion,
) -> Result<BrokerResponse, VerbFailure> {
    let client = call::client(&registry.url, &context.environment)?;
    let url = registry
        .url_for(&format!("{}/{version}", address.route()))
        .map_err(|error| VerbFailure::new(error.to_string()))?;
    let request = client.get(url).bearer_auth(token.expose());
    Ok(call::send_for(request, &context.environment, MAX_DETAIL).await?)
}

/// Reads the state of a version from the answer. Any field may be missing.
fn state(answer: &BrokerResponse, host: &Audience) -> Result<State, VerbFailure> {
    if !answer.status.is_success() {
        return Err(VerbFailure::new(answer.module_refusal()));
    }
    let detail: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let Some(detail) = detail.filter(Value::is_object) else {
        return Err(VerbFailure::new(format!("cannot parse the response of `{}`", answer.url)));
    };
    if let compromised @ Value::Object(_) = &detail["compromised_key"] {
        return Ok(State::Compromised(compromised_advice(compromised, &detail, host)));
    }
    Ok(match (&detail["unpublished"], &detail["deprecation"]) {
        (unpublished @ Value::Object(_), _) => State::Unpublished(advice(unpublished, host)),
        (_, deprecation @ Value::Object(_)) => State::Deprecated(advice(deprecation, host)),
        _ => State::Published,
    })
}

/// Returns why not to use a version of a compromised key, and what its publisher says to use.
fn compromised_advice(compromised: &Value, detail: &Value, host: &Audience) -> Advice {
    let text = |name: &str| one_line(compromised[name].as_str().unwrap_or_default());
    let (key, at) = (text("key_id"), text("at"));
    let mut reason = format!("the signing key {key}").trim_end().to_owned();
    reason.push_str(" is compromised");
    if !at.is_empty() {
        reason = format!("{reason} since {at}");
    }
    let said = [&detail["unpublished"], &detail["deprecation"]].map(|said| advice(said, host));
    let replacement = said.into_iter().map(|said| said.replacement).find(|text| !text.is_empty());
    Advice { reason, replacement: replacement.unwrap_or_default() }
}

fn advice(said: &Value, host: &Audience) -> Advice {
    let text = |name: &str| one_line(said[name].as_str().unwrap_or_default());
    let (mut reason, link, mut replacement) = (text("reason"), text("link"), text("replacement"));
    if !link.is_empty() {
        reason = format!("{reason} ({link})");
    }
    // A version, or else the address of a package of the same registry.
    if replacement.contains('/') {
        replacement = format!("{host}/{replacement}");
    }
    Advice { reason, replacement }
}

fn row(version: &InstalledVersion, state: &State) -> [String; 5] {
    let package = format!("{}/{}", version.host, version.address);
    let (state, advice) = match state {
        State::Published => ("published", None),
        State::Deprecated(advice) => ("deprecated", Some(advice)),
        State::Unpublished(advice) => (unpublished_word(&version.address), Some(advice)),
        State::Compromised(advice) => ("compromised", Some(advice)),
        State::Unknown => ("unknown", None),
        State::NotChecked => ("not checked", None),
    };
    row_of(package, &version.version, state, advice)
}

/// Returns the word for a version that its publisher withdrew. Clients still get a yanked provider.
const fn unpublished_word(address: &InstalledAddress) -> &'static str {
    match address {
        InstalledAddress::Module(_) => "unpublished",
        InstalledAddress::Provider(_) => "yanked",
    }
}

fn row_of(package: String, version: &str, state: &str, advice: Option<&Advice>) -> [String; 5] {
    let Advice { reason, replacement } = advice.cloned().unwrap_or_default();
    [package, version.to_owned(), state.to_owned(), replacement, reason]
}

/// Formats the table. A column without any value is left out.
fn render(rows: &[[String; 5]]) -> String {
    let columns: Vec<usize> =
        (0..HEADER.len()).filter(|at| rows.iter().any(|row| !row[*at].is_empty())).collect();
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([HEADER[at].len()]).max().unwrap_or_default()
    };
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells = columns.iter().map(|at| format!("{:<1$}  ", cell(*at), width(*at)));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    let header = line(&|at| HEADER[at].to_owned());
    let rows = rows.iter().map(|row| line(&|at| row[at].clone()));
    [header].into_iter().chain(rows).collect()
}

/// Prints a summary to stderr, and returns the exit code.
fn conclude<'a>(states: impl Iterator<Item = (&'a &'a InstalledVersion, &'a State)>) -> ExitCode {
    let (mut counts, mut withdrawn, mut unknown) = (BTreeMap::<_, usize>::new(), false, false);
    for (version, state) in states {
        match state {
            State::Deprecated(_) => *counts.entry("deprecated").or_default() += 1,
            State::Unpublished(_) => {
                *counts.entry(unpublished_word(&version.address)).or_default() += 1;
                withdrawn = true;
            }
            State::Compromised(_) => {
                *counts.entry("compromised").or_default() += 1;
                withdrawn = true;
            }
            State::Unknown => unknown = true,
            State::Published | State::NotChecked => {}
        }
    }
    for (what, count) in counts {
        let versions = if count == 1 { "version is" } else { "versions are" };
        terminal::note(&format!("{count} installed {versions} {what}"));
    }
    ExitCode::from(match (withdrawn, unknown) {
        (true, _) => WITHDRAWN,
        (false, true) => NOT_ASKED,
        (false, false) => 0,
    })
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::*;

    fn host() -> Audience {
        Audience::parse("registry.example.com").unwrap()
    }

    fn answer(status: u16, body: &str) -> BrokerResponse {
        BrokerResponse {
            url: Url::parse("https://registry.example.com/v1/modules/a/b/c/1.0.0").unwrap(),
            status: StatusCode::from_u16(status).unwrap(),
            date: None,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn an_answer_that_does_not_say_the_state_is_a_failure() {
        for (status, body, expected) in [
            (404, r#"{"errors":["there is no such version"]}"#, "there is no such version"),
            (403, r#"{"errors":["no","hint: ask"]}"#, "no; hint: ask"),
            (502, "", "a proxy or gateway in front of the registry answered `502 Bad Gateway`"),
            (
                200,
                "<html>",
                "cannot parse the response of `https://registry.example.com/v1/modules/a/b/c/1.0.0`",
            ),
            (
                200,
                "[]",
                "cannot parse the response of `https://registry.example.com/v1/modules/a/b/c/1.0.0`",
            ),
        ] {
            let failure = state(&answer(status, body), &host()).unwrap_err();
            assert_eq!(failure.to_string(), expected, "{body}");
        }
    }

    #[test]
    fn any_field_of_an_answer_may_be_missing_and_none_controls_the_terminal() {
        let none = Advice::default();
        let compromised = |reason: &str| {
            State::Compromised(Advice { reason: reason.to_owned(), ..Advice::default() })
        };
        let said = |reason: &str, replacement: &str| Advice {
            reason: reason.to_owned(),
            replacement: replacement.to_owned(),
        };
        for (body, expected) in [
            ("{}", State::Published),
            (r#"{"deprecation":null,"unpublished":null}"#, State::Published),
            (r#"{"compromised_key":null}"#, State::Published),
            (r#"{"compromised_key":{}}"#, compromised("the signing key is compromised")),
            (
                r#"{"compromised_key":{"key_id":"A\u001bB","at":7},"deprecation":{"reason":"old"}}"#,
                compromised("the signing key A B is compromised"),
            ),
            (r#"{"deprecation":{}}"#, State::Deprecated(none.clone())),
            (
                r#"{"deprecation":{"reason":7,"link":[],"later":1}}"#,
                State::Deprecated(none.clone()),
            ),
            (r#"{"deprecation":{},"unpublished":{}}"#, State::Unpublished(none)),
            (
                r#"{"unpublished":{"reason":"a\u001b[2J\nb","replacement":"1.3.0"}}"#,
                State::Unpublished(said("a [2J b", "1.3.0")),
            ),
            (
                r#"{"deprecation":{"reason":"a","link":"https://x.example/","replacement":"b/c/d"}}"#,
                State::Deprecated(said("a (https://x.example/)", "registry.example.com/b/c/d")),
            ),
        ] {
            assert_eq!(state(&answer(200, body), &host()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn a_column_without_a_value_is_left_out() {
        let plain = row_of("a/b".to_owned(), "1.0.0", "published", None);
        assert_eq!(
            render(std::slice::from_ref(&plain)),
            "package  version  state\na/b      1.0.0    published\n"
        );
        let advice = Advice { reason: "é".to_owned(), replacement: String::new() };
        let other = row_of("é".to_owned(), "-", "deprecated", Some(&advice));
        assert_eq!(
            render(&[plain, other]),
            "package  version  state       reason\n\
             a/b      1.0.0    published\n\
             é        -        deprecated  é\n"
        );
    }
}
