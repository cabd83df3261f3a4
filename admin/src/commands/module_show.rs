//! `module show`: one version, its state, where it comes from, and its inputs and outputs.
//!
//! Any field of the answer may be missing: a registry of another release has other fields.

use serde_json::Value;
use stile_protocol::names::ModuleAddress;

use super::Context;
use super::page::{Page, text};
use super::show::show;
use crate::cli::ModuleShow;
use crate::error::CommandError;

/// Prints one version, or the latest one.
pub(super) async fn run(context: &Context, args: &ModuleShow) -> Result<(), CommandError> {
    let address: ModuleAddress = args.address.parse()?;
    let (version, of) = (args.version.as_deref(), (&address, &address.namespace));
    let page = |found: &Value| page(&address, found);
    show(context, &args.api, "/v1/modules", of, version, page).await
}

/// Returns the page for people. It has no control characters.
fn page(address: &ModuleAddress, found: &Value) -> Page {
    let mut page = Page::default();
    page.line("module", &Value::from(address.to_string()));
    page.line("version", &found["version"]);
    page.line("description", &found["description"]);
    page.life(found, "unpublished");
    let provenance = &found["provenance"];
    let published_at = match &provenance["published_at"] {
        Value::Null => &found["published_at"],
        time => time,
    };
    page.line("published at", published_at);
    page.line("published by", &provenance["published_by"]);
    page.line("token id", &provenance["token_id"]);
    page.line("sha256", &provenance["sha256"]);
    page.line("bytes", &provenance["bytes"]);
    page.line("format", &provenance["format"]);
    page.line("published from", &provenance["source"]);
    // `source` of the answer repeats the repository, and does not say that it is a claim.
    page.line("object version", &provenance["object_version"]);
    page.claimed(&provenance["claimed"]);
    page.list("versions", &found["versions"], version_text);
    let root = &found["root"];
    page.list("inputs", &root["inputs"], input);
    page.list("outputs", &root["outputs"], |output| named(output, ""));
    page.list("submodules", &found["submodules"], path);
    page.list("examples", &found["examples"], path);
    page
}

/// Returns the version in an item of `versions`, which is a text or an object.
fn version_text(item: &Value) -> String {
    if item.is_object() { text(&item["version"]) } else { text(item) }
}

fn path(item: &Value) -> String {
    text(&item["path"])
}

fn input(input: &Value) -> String {
    let kind = match text(&input["type"]) {
        kind if kind.is_empty() => "any".to_owned(),
        kind => kind,
    };
    let need = if input["required"] == Value::Bool(true) { "required" } else { "optional" };
    named(input, &format!(" ({kind}, {need})"))
}

/// Returns the name of an input or output with its description.
fn named(item: &Value, after_name: &str) -> String {
    let (name, description) = (text(&item["name"]), text(&item["description"]));
    match (name.is_empty(), description.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!("{name}{after_name}"),
        (false, false) => format!("{name}{after_name}: {description}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(found: &Value) -> String {
        page(&"acme/vpc/aws".parse().unwrap(), found).into_text()
    }

    #[test]
    fn an_answer_without_any_field_is_shown() {
        for found in [
            json!({}),
            json!({ "deprecation": null, "unpublished": null, "provenance": { "claimed": null } }),
            json!({ "version": {}, "versions": "x", "root": [], "provenance": 7, "submodules": [7] }),
        ] {
            let expected = "module                acme/vpc/aws\nstate                 published\n";
            assert_eq!(shown(&found), expected, "{found}");
        }
    }

    #[test]
    fn nothing_of_an_answer_controls_the_terminal() {
        let evil = "a\u{1b}[2J\u{202e}\nb";
        let page = shown(&json!({
            "version": evil,
            "description": evil,
            "unpublished": { "reason": evil, "replacement": evil },
            "provenance": { "claimed": { "commit": evil } },
            "versions": [evil, { "version": evil }],
            "root": { "inputs": [{ "name": evil, "type": evil, "description": evil }] },
            "submodules": [{ "path": evil }],
        }));
        assert!(page.lines().count() >= 9, "{page}");
        assert!(!page.contains(['\u{1b}', '\u{202e}']), "{page}");
    }

    #[test]
    fn every_part_of_a_version_has_its_line() {
        let found = json!({
            "id": "acme/vpc/aws/1.2.0", "version": "1.2.0", "published_at": "2026-11-20T10:11:12Z",
            "source": null, "description": "A network",
            "deprecation": {
                "reason": "it opens port 22", "link": "https://wiki.example.com/vpc",
                "replacement": "1.3.0", "deprecated_at": "2026-11-21T10:11:12Z",
                "deprecated_by": "aws:111122223333:role/deploy",
            },
            "unpublished": null,
            "provenance": {
                "published_by": "aws:111122223333:role/deploy", "token_id": "0Zr8",
                "published_at": "2026-11-20T10:11:12Z", "sha256": "00", "bytes": 512, "format": "zip",
                "claimed": {
                    "environment": "github-actions", "repository": "https://github.com/acme/vpc",
                    "commit": "c0ffee", "run": "https://github.com/acme/vpc/actions/runs/42",
                },
            },
            "versions": ["1.3.0", { "version": "1.2.0" }],
            "root": {
                "inputs": [
                    { "name": "cidr", "type": "string", "required": true, "description": "The range" },
                    { "name": "tags", "default": "{}", "required": false },
                ],
                "outputs": [{ "name": "id", "description": "" }],
            },
            "submodules": [{ "path": "modules/subnet" }],
            "examples": [],
        });
        insta::assert_snapshot!(shown(&found), @r"
        module                acme/vpc/aws
        version               1.2.0
        description           A network
        state                 deprecated
          reason              it opens port 22
          link                https://wiki.example.com/vpc
          use instead         1.3.0
          by                  aws:111122223333:role/deploy
          at                  2026-11-21T10:11:12Z
        published at          2026-11-20T10:11:12Z
        published by          aws:111122223333:role/deploy
        token id              0Zr8
        sha256                00
        bytes                 512
        format                zip
        environment (claimed) github-actions
        repository (claimed)  https://github.com/acme/vpc
        commit (claimed)      c0ffee
        run (claimed)         https://github.com/acme/vpc/actions/runs/42
        versions              1.3.0
                              1.2.0
        inputs                cidr (string, required): The range
                              tags (any, optional)
        outputs               id
        submodules            modules/subnet
        ");
    }
}
