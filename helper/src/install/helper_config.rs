//! Edits one host's table in the helper's `config.toml` and keeps every other line and comment.

use std::path::Path;

use stile_protocol::names::{Permission, Permissions};
use terraform_credentials_stile::config::{Config, DEFAULT_TTL, Proof, Service, parse_host};
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use crate::cli::Install;
use crate::install::file::TextFile;
use crate::verb::{VerbContext, VerbFailure};

/// Returns the text with the requested settings for the host.
pub(crate) fn edit(
    file: &TextFile,
    context: &VerbContext,
    wanted: &Install,
) -> Result<String, VerbFailure> {
    // Do not edit a file that the helper would reject.
    Config::parse(&file.content, &file.path)?;
    let damaged =
        || VerbFailure::new(format!("`registry` in `{}` is not a table", file.path.display()));
    let mut document: DocumentMut = file.content.parse().map_err(|_| damaged())?;
    let mut implicit = Table::new();
    implicit.set_implicit(true);
    let registries = document
        .entry("registry")
        .or_insert(Item::Table(implicit))
        .as_table_like_mut()
        .ok_or_else(damaged)?;
    let host = &wanted.registry_host;
    let key = registries
        .iter()
        .map(|(key, _)| key.to_owned())
        .find(|key| parse_host(key).as_ref() == Ok(host))
        .unwrap_or_else(|| host.to_string());
    if registries.get(&key).is_none() {
        registries.insert(&key, Item::Table(Table::new()));
    }
    let table = registries.get_mut(&key).and_then(Item::as_table_like_mut).ok_or_else(damaged)?;

    let proof = wanted.proof.proof();
    if let Some(ttl) = wanted.expiration_window {
        set(table, "ttl", ttl.into());
    } else if table.get("ttl").is_none() && proof.unwrap_or_default() == Proof::Sigv4 {
        set(table, "ttl", DEFAULT_TTL.into());
    }
    if !wanted.permission.is_empty() {
        let permissions: Permissions = wanted.permission.iter().copied().collect();
        set(table, "permissions", permissions.iter().map(Permission::as_str).collect());
    }
    if let Some(path) = &wanted.proof.id_token_file {
        table.remove("id_token_env");
        set(table, "id_token_file", absolute(path)?.into());
    }
    if !wanted.proof.id_token_env.is_empty() {
        table.remove("id_token_file");
        set(table, "id_token_env", wanted.proof.id_token_env.iter().map(String::as_str).collect());
    }
    for (name, value) in [
        ("region", context.region.as_deref()),
        ("profile", context.profile.as_deref()),
        ("service", wanted.service.map(Service::as_str)),
        ("proof", proof.map(Proof::as_str)),
        ("trust", wanted.proof.trust.as_deref()),
        ("audience", wanted.proof.audience.as_deref()),
    ] {
        if let Some(value) = value {
            set(table, name, value.into());
        }
    }
    let after = document.to_string();
    Config::parse(&after, &file.path)?;
    Ok(after)
}

/// Returns the path as Terraform's helper finds it from any folder.
fn absolute(path: &Path) -> Result<String, VerbFailure> {
    let path = std::path::absolute(path)?;
    let text = path.to_str();
    text.map(str::to_owned)
        .ok_or_else(|| VerbFailure::new(format!("`{}` is not UTF-8", path.display())))
}

/// Sets a value and keeps the comment after it.
fn set(table: &mut dyn TableLike, name: &str, mut value: Value) {
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(existing) if same(existing, &value) => {}
        Some(existing) => {
            *value.decor_mut() = existing.decor().clone();
            *existing = value;
        }
        None => {
            table.insert(name, Item::Value(value));
        }
    }
}

fn same(one: &Value, other: &Value) -> bool {
    let texts = |value: &Value| {
        let list = value.as_array().map(|list| list.iter());
        list.map(|list| list.map(|item| item.as_str().map(str::to_owned)).collect::<Vec<_>>())
    };
    one.as_str() == other.as_str()
        && one.as_integer() == other.as_integer()
        && texts(one) == texts(other)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use stile_protocol::audience::Audience;
    use terraform_credentials_stile::clock::Clock;
    use terraform_credentials_stile::config::Environment;

    use super::*;
    use crate::cli::ProofFlags;

    fn edited(
        before: &str,
        profile: Option<&str>,
        window: Option<i64>,
        service: Option<Service>,
    ) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, before).unwrap();
        let context = VerbContext {
            environment: Environment::default(),
            clock: Clock::starting_at(DateTime::UNIX_EPOCH),
            config: None,
            region: None,
            profile: profile.map(str::to_owned),
        };
        let wanted = Install {
            registry_host: Audience::parse("registry.example.com").unwrap(),
            service,
            expiration_window: window,
            permission: Vec::new(),
            proof: ProofFlags::default(),
            plugin_directory: None,
            rc_file: None,
            dry_run: false,
        };
        edit(&TextFile::read(&path).unwrap(), &context, &wanted).map_err(|failure| failure.message)
    }

    #[test]
    fn a_file_that_the_helper_would_reject_is_not_edited() {
        for before in [
            "regoin = 1\n",
            "registry = 1\n",
            "[registry.\"a.example\"]\nttl = 1\n",
            "[[registry]]\n",
            "x",
        ] {
            assert!(edited(before, None, None, None).is_err(), "{before}");
        }
    }

    #[test]
    fn an_edit_keeps_other_tables_and_comments_and_a_second_one_changes_nothing() {
        let table = "[registry.\"registry.example.com\"]\nttl = 3600\n";
        let own = "# mine\n[registry.\"Registry.example.com\"] # here\nttl = 900 # short\nprofile = \"a\" # who\n";
        for (before, profile, window, expected) in [
            ("", None, None, table.to_owned()),
            (
                "",
                Some("ci"),
                Some(900),
                "[registry.\"registry.example.com\"]\nttl = 900\nprofile = \"ci\"\n".to_owned(),
            ),
            (own, None, None, own.to_owned()),
            (own, Some("b"), Some(7200), own.replace("900", "7200").replace("\"a\"", "\"b\"")),
            (
                "# top\n[registry.\"a.example\"]   # one\nttl=60\n",
                None,
                None,
                format!("# top\n[registry.\"a.example\"]   # one\nttl=60\n\n{table}"),
            ),
        ] {
            let after = edited(before, profile, window, None).unwrap();
            assert_eq!(after, expected, "{before}");
            assert_eq!(edited(&after, profile, window, None).unwrap(), after);
        }
        assert!(
            edited("", None, None, Some(Service::ExecuteApi))
                .unwrap()
                .ends_with("service = \"execute-api\"\n")
        );
    }
}
