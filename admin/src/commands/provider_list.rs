//! `provider list` and `provider show`.

use serde::Deserialize;
use serde_json::{Value, json};
use stile_protocol::names::{Namespace, Permission, ProviderAddress};

use super::page::{Page, text};
use super::{Context, show};
use crate::api::Api;
use crate::cli::{ProviderList, ProviderShow};
use crate::error::CommandError;
use crate::output::notice;
use crate::paged::pages;
use crate::progress::spinning;

/// The response to `…/versions`.
#[derive(Deserialize)]
struct Versions {
    versions: Vec<ListedVersion>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct ListedVersion {
    version: String,
    #[serde(default)]
    protocols: Vec<String>,
    #[serde(default)]
    platforms: Vec<ListedPlatform>,
}

#[derive(Deserialize)]
struct ListedPlatform {
    os: String,
    arch: String,
}

/// One provider in a list.
#[derive(Deserialize)]
struct Summary {
    namespace: String,
    #[serde(alias = "type")]
    name: String,
    version: String,
    published_at: String,
}

/// Lists providers, or the versions of one.
pub(super) async fn list(context: &Context, args: &ProviderList) -> Result<(), CommandError> {
    let of = args.of.as_deref();
    if let Some(of) = of.filter(|of| of.contains('/')) {
        return versions(context, args, &of.parse()?).await;
    }
    let namespace = of.map(Namespace::parse).transpose()?;
    let path = namespace.as_ref().map_or_else(
        || "/v1/providers".to_owned(),
        |namespace| format!("/v1/providers/{namespace}"),
    );
    let api = Api::new(&args.api, Permission::Download, namespace, context.now)?;
    let reading = pages::<Summary>(&api, &path, "providers");
    let found = spinning("reading the providers", Box::pin(reading)).await?;
    let name = |provider: &Summary| format!("{}/{}", provider.namespace, provider.name);
    let rows: Vec<_> = found
        .iter()
        .map(|provider| {
            vec![name(provider), provider.version.clone(), provider.published_at.clone()]
        })
        .collect();
    let object = |provider: &Summary| {
        json!({
            "provider": name(provider), "latest": provider.version,
            "published_at": provider.published_at,
        })
    };
    let json = found.iter().map(object).collect::<Vec<_>>();
    context.output.rows("providers", &["provider", "latest", "published at"], &rows, &json.into())
}

async fn versions(
    context: &Context,
    args: &ProviderList,
    address: &ProviderAddress,
) -> Result<(), CommandError> {
    let namespace = Some(address.namespace.clone());
    let api = Api::new(&args.api, Permission::Download, namespace, context.now)?;
    let path = format!("/v1/providers/{address}/versions");
    let found: Versions = spinning("reading the versions", Box::pin(api.read(&path)))
        .await
        .map_err(|error| error.context(format_args!("`{address}`")))?;
    for warning in &found.warnings {
        notice(warning);
    }
    let platforms = |version: &ListedVersion| {
        let platforms = version.platforms.iter();
        platforms.map(|platform| format!("{}_{}", platform.os, platform.arch)).collect::<Vec<_>>()
    };
    let rows: Vec<_> = found
        .versions
        .iter()
        .map(|version| {
            vec![
                address.to_string(),
                version.version.clone(),
                version.protocols.join(", "),
                platforms(version).join(", "),
            ]
        })
        .collect();
    let object = |version: &ListedVersion| {
        json!({
            "provider": address.to_string(), "version": version.version,
            "protocols": version.protocols, "platforms": platforms(version),
        })
    };
    let json = found.versions.iter().map(object).collect::<Vec<_>>();
    let header = ["provider", "version", "protocols", "platforms"];
    context.output.rows("versions", &header, &rows, &json.into())
}

/// Shows one version, or the latest one.
pub(super) async fn show(context: &Context, args: &ProviderShow) -> Result<(), CommandError> {
    let address: ProviderAddress = args.address.parse()?;
    let (version, of) = (args.version.as_deref(), (&address, &address.namespace));
    let page = |found: &Value| page(&address, found);
    show::show(context, &args.api, "/v1/providers", of, version, page).await
}

/// Returns the page for people. It has no control characters. Any field of the answer may be missing.
fn page(address: &ProviderAddress, found: &Value) -> Page {
    let mut page = Page::default();
    page.line("provider", &Value::from(address.to_string()));
    page.line("version", &found["version"]);
    page.life(found, "yanked");
    page.list("protocols", &found["protocols"], text);
    page.line("signed by key", &found["key_id"]);
    page.line("published at", &found["published_at"]);
    page.line("published by", &found["published_by"]);
    page.claimed(&found["claimed"]);
    page.list("platforms", &found["platforms"], platform);
    page.list("versions", &found["versions"], text);
    page
}

fn platform(item: &Value) -> String {
    let name = format!("{}_{}", text(&item["os"]), text(&item["arch"]));
    let (sha256, bytes) = (text(&item["sha256"]), text(&item["bytes"]));
    format!("{name:<15} {bytes:>12}  {sha256}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: &Value) -> String {
        page(&"acme/dns".parse().unwrap(), found).into_text()
    }

    #[test]
    fn an_answer_without_any_field_is_shown_and_controls_no_terminal() {
        let expected = "provider              acme/dns\nstate                 published\n";
        assert_eq!(shown(&json!({})), expected);
        let evil = "a\u{1b}[2J\u{202e}\nb";
        let page = shown(&json!({
            "version": evil, "key_id": evil, "protocols": [evil],
            "platforms": [{ "os": evil, "arch": evil, "sha256": evil }, evil, 7],
            "claimed": { "commit": evil, "promoted_from": { "registry": evil, "published_by": evil } },
            "unpublished": { "reason": evil },
            "compromised_key": { "key_id": evil, "at": evil },
        }));
        assert!(!page.contains(['\u{1b}', '\u{202e}']), "{page}");
    }

    #[test]
    fn a_version_of_a_compromised_key_is_not_shown_as_published_or_yanked() {
        let compromised = json!({ "key_id": "F9BA19AD6BE4698A", "at": "2026-11-21T10:11:12Z" });
        let mut found = json!({ "version": "1.2.0", "compromised_key": compromised });
        insta::assert_snapshot!(shown(&found), @r"
        provider              acme/dns
        version               1.2.0
        state                 compromised
          signing key         F9BA19AD6BE4698A
          since               2026-11-21T10:11:12Z
        ");
        found["unpublished"] = json!({ "replacement": "1.3.0" });
        let page = shown(&found);
        assert!(page.contains(" compromised\n") && page.contains(" 1.3.0\n"), "{page}");
    }

    #[test]
    fn every_part_of_a_version_has_its_line() {
        let found = json!({
            "version": "1.2.0", "protocols": ["5.0"], "key_id": "F9BA19AD6BE4698A",
            "platforms": [
                { "os": "darwin", "arch": "arm64", "sha256": "00", "bytes": 7, "h1": "h1:x" },
                { "os": "linux", "arch": "amd64", "sha256": "11", "bytes": 12_345_678 },
            ],
            "published_by": "aws:111122223333:role/deploy", "published_at": "2026-11-20T10:11:12Z",
            "claimed": {
                "commit": "c0ffee",
                "promoted_from": {
                    "registry": "staging.example.com", "published_by": "aws:111122223333:role/ci",
                    "published_at": "2026-11-19T10:11:12Z",
                },
            },
            "unpublished": {
                "reason": "it deletes the wrong zone", "replacement": "1.3.0",
                "unpublished_by": "aws:111122223333:role/deploy",
            },
        });
        insta::assert_snapshot!(shown(&found), @r"
        provider              acme/dns
        version               1.2.0
        state                 yanked
          reason              it deletes the wrong zone
          use instead         1.3.0
          by                  aws:111122223333:role/deploy
        protocols             5.0
        signed by key         F9BA19AD6BE4698A
        published at          2026-11-20T10:11:12Z
        published by          aws:111122223333:role/deploy
        commit (claimed)      c0ffee
        promotion (claimed)   promoted from staging.example.com
          published by        aws:111122223333:role/ci
          published at        2026-11-19T10:11:12Z
        platforms             darwin_arm64               7  00
                              linux_amd64         12345678  11
        ");
    }
}
