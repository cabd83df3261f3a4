//! `namespace`: creates, shows and lists namespaces in the store.

use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::package::source::AllowedSources;
use stile_protocol::names::Namespace;
use stile_store::{NamespaceCreated, NamespaceLimits, NamespaceSummary};
use terraform_credentials_stile::message::one_line;

use super::namespace_set::{absent, set, sources_json, sources_lines};
use super::{CommandResult, Context, OpenStore, event, kept, record};
use crate::cli::{NamespaceOne, NamespaceVerb};
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::StoreTarget;

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: NamespaceVerb) -> CommandResult {
    match verb {
        NamespaceVerb::Create(args) => create(context, args).await?,
        NamespaceVerb::Set(args) => set(context, args).await?,
        NamespaceVerb::Show(args) => show(context, args).await?,
        NamespaceVerb::List(store) => list(context, store).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(context: &Context, args: NamespaceOne) -> Result<(), CommandError> {
    let namespace: Namespace = args.namespace.parse()?;
    let OpenStore { store, operator } = context.open_to_change(&args.store).await?;
    let mut event = event(Kind::Namespace, &operator);
    event.namespace(&namespace);
    let kept = kept(&event, context);
    let created = store.create_namespace(&operator, namespace.clone(), &kept).await;
    match record(event, created, |created| match created {
        NamespaceCreated::Done(_) => Outcome::Created,
        NamespaceCreated::Exists(_) => Outcome::Unchanged,
    })? {
        NamespaceCreated::Done(_) => context.output.outcome(
            format_args!("created the namespace `{namespace}`"),
            &json!({ "status": "created", "namespace": namespace }),
        ),
        NamespaceCreated::Exists(_) => context.output.outcome(
            format_args!("unchanged: the namespace `{namespace}` already exists"),
            &json!({ "status": "unchanged", "namespace": namespace }),
        ),
    }
}

async fn show(context: &Context, args: NamespaceOne) -> Result<(), CommandError> {
    let namespace: Namespace = args.namespace.parse()?;
    let OpenStore { store, operator } = context.open(&args.store).await?;
    let found = store.namespace(&operator, &namespace).await?;
    let found = found.ok_or_else(|| {
        absent(&namespace)
            .hint(format!("`{}` lists all namespaces", args.store.command("namespace list")))
    })?;
    let [by, at] = origin(&found);
    let lines = [
        ("namespace", namespace.to_string()),
        ("grants", found.grants.to_string()),
        ("modules", found.modules.to_string()),
        ("versions", versions(&found)),
        ("bytes", bytes(&found)),
        ("created by", one_line(&by)),
        ("created at", at),
    ];
    // One line for each source, below the others. Most namespaces have none.
    let sources = sources_lines(&sources(&found)).into_iter().map(|line| ("source", line));
    let lines: Vec<String> = lines
        .into_iter()
        .chain(sources)
        .map(|(name, value)| format!("{name:<12} {value}"))
        .collect();
    context.output.outcome(lines.join("\n"), &object(&found))
}

async fn list(context: &Context, target: StoreTarget) -> Result<(), CommandError> {
    let OpenStore { store, operator } = context.open(&target).await?;
    let namespaces = spinning("reading the namespaces", store.namespaces(&operator)).await?;
    let row = |found: &NamespaceSummary| {
        let [by, at] = origin(found);
        vec![
            found.namespace.to_string(),
            found.grants.to_string(),
            found.modules.to_string(),
            versions(found),
            bytes(found),
            by,
            at,
        ]
    };
    let rows: Vec<_> = namespaces.iter().map(row).collect();
    context.output.rows(
        "namespaces",
        &["namespace", "grants", "modules", "versions", "bytes", "created by", "created at"],
        &rows,
        &namespaces.iter().map(object).collect::<Vec<_>>().into(),
    )
}

/// Returns who created a namespace, and when. A namespace without a record has neither.
fn origin(found: &NamespaceSummary) -> [String; 2] {
    match &found.record {
        Some(record) => [record.created_by.clone(), rfc3339(record.created_at)],
        None => ["-".to_owned(), "-".to_owned()],
    }
}

fn versions(found: &NamespaceSummary) -> String {
    used_of(found.usage.map(|usage| usage.versions), limits(found).max_versions)
}

fn bytes(found: &NamespaceSummary) -> String {
    used_of(found.usage.map(|usage| usage.bytes), limits(found).max_bytes)
}

fn limits(found: &NamespaceSummary) -> NamespaceLimits {
    found.record.as_ref().map(|record| record.limits).unwrap_or_default()
}

fn sources(found: &NamespaceSummary) -> AllowedSources {
    found.record.as_ref().map(|record| record.sources.clone()).unwrap_or_default()
}

/// Returns a number and its limit, such as `3 of 10`. A hyphen stands for a number that the store
/// does not count.
fn used_of(used: Option<u64>, max: Option<u64>) -> String {
    let used = used.map_or_else(|| "-".to_owned(), |used| used.to_string());
    max.map_or(used.clone(), |max| format!("{used} of {max}"))
}

fn object(found: &NamespaceSummary) -> Value {
    let record = found.record.as_ref();
    let (limits, usage) = (limits(found), found.usage);
    json!({
        "namespace": found.namespace, "grants": found.grants, "modules": found.modules,
        "providers": found.providers,
        "created_by": record.map(|record| &record.created_by),
        "created_at": record.map(|record| rfc3339(record.created_at)),
        "versions": usage.map(|usage| usage.versions), "max_versions": limits.max_versions,
        "bytes": usage.map(|usage| usage.bytes), "max_bytes": limits.max_bytes,
        "sources": sources_json(&sources(found)),
    })
}
