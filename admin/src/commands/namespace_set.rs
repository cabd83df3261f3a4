//! `namespace set`: sets the limits of a namespace, and the sources that it allows.

use serde_json::{Map, Value, json};
use stile_core::audit::{Kind, Outcome};
use stile_core::package::source::{
    AllowedEntry, AllowedObjects, AllowedSource, AllowedSources, SourceError, SourcesChange,
    SourcesError,
};
use stile_protocol::names::Namespace;
use stile_protocol::region::Region;
use stile_store::{LimitChange, LimitsChange, LimitsSet, SourcesSet};
use terraform_credentials_stile::message::one_line;

use super::{Context, OpenStore, event, kept, record};
use crate::cli::NamespaceSet;
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::spinning;
use crate::target::StoreTarget;

/// What one change did: whether it changed anything, and how to print the result.
struct Shown {
    is_changed: bool,
    lines: String,
    json: Map<String, Value>,
}

/// Makes the changes that the command line names, limits first.
pub(super) async fn set(context: &Context, args: NamespaceSet) -> Result<(), CommandError> {
    let namespace: Namespace = args.namespace.parse()?;
    let sources = sources_change(&args)?;
    let open = context.open_to_change(&args.store).await?;
    let mut shown = Vec::new();
    if args.max_bytes.is_some() || args.max_versions.is_some() {
        let change = LimitsChange {
            max_bytes: args.max_bytes.unwrap_or_default(),
            max_versions: args.max_versions.unwrap_or_default(),
        };
        shown.push(set_limits(context, &open, &namespace, change, &args.store).await?);
    }
    if sources != SourcesChange::default() {
        shown.push(set_sources(context, &open, &namespace, &sources, &args.store).await?);
    }
    let status = if shown.iter().any(|shown| shown.is_changed) { "changed" } else { "unchanged" };
    let mut json = Map::new();
    json.insert("status".to_owned(), status.into());
    json.insert("namespace".to_owned(), namespace.as_str().into());
    let mut lines = Vec::new();
    for shown in shown {
        json.extend(shown.json);
        lines.push(shown.lines);
    }
    context.output.outcome(lines.join("\n"), &json.into())
}

/// Returns the change of the sources that the command line names.
fn sources_change(args: &NamespaceSet) -> Result<SourcesChange, CommandError> {
    let invalid = |error: &SourceError| {
        CommandError::usage(format!("a value of `--source` is not valid: {error}"))
    };
    let (mut add, mut add_objects) = (Vec::new(), Vec::new());
    for text in &args.source {
        if AllowedObjects::is_address(text) {
            let region = args.region.as_deref().ok_or_else(|| {
                CommandError::usage("`--source s3://…` requires `--region`")
                    .hint("write the region of the bucket, such as `--region eu-central-1`")
            })?;
            if Region::named(region).is_none() {
                return Err(CommandError::usage("the value of `--region` is not a region of AWS")
                    .hint("write the region of the bucket, such as `--region eu-central-1`"));
            }
            let objects = AllowedObjects::parse(text, region).map_err(|error| {
                invalid(&error).hint("write a bucket and a prefix, such as `s3://acme-modules/vpc`")
            })?;
            add_objects.push(objects);
        } else {
            let source = AllowedSource::parse(text, args.allow_moving_refs).map_err(|error| {
                invalid(&error)
                    .hint("write the beginning of sources, such as `git::https://github.com/acme`")
            })?;
            add.push(source);
        }
    }
    if args.allow_moving_refs && !add.iter().any(AllowedSource::is_git) {
        return Err(CommandError::usage(
            "`--allow-moving-refs` is only for sources that begin with `git::`",
        ));
    }
    if args.region.is_some() && add_objects.is_empty() {
        return Err(CommandError::usage("`--region` is only for sources that begin with `s3://`"));
    }
    Ok(SourcesChange { remove_all: args.no_source, add, add_objects })
}

async fn set_limits(
    context: &Context,
    open: &OpenStore,
    namespace: &Namespace,
    change: LimitsChange,
    target: &StoreTarget,
) -> Result<Shown, CommandError> {
    let OpenStore { store, operator } = open;
    let mut event = event(Kind::Namespace, operator);
    event.namespace(namespace);
    event.requested(limits_text(change));
    let kept = kept(&event, context);
    let done = store.set_limits(operator, namespace, change, &kept);
    let done = spinning("counting the versions", Box::pin(done)).await;
    let done = record(event, done, |done| match done {
        LimitsSet::Done { before, limits, .. } if before == limits => Outcome::Unchanged,
        LimitsSet::Done { .. } => Outcome::Changed,
        LimitsSet::Absent => Outcome::Absent,
    })?;
    let LimitsSet::Done { before, limits, usage } = done else {
        return Err(absent_with_hint(namespace, target));
    };
    let is_changed = before != limits;
    let of = |limit: Option<u64>, what: &str| match limit {
        Some(limit) => format!("at most {limit} {what}"),
        None => format!("no limit of {what}"),
    };
    let lines = format!(
        "{}the namespace `{namespace}` has {} and {}",
        if is_changed { "" } else { "unchanged: " },
        of(limits.max_bytes, "bytes"),
        of(limits.max_versions, "versions")
    );
    let over = |used: Option<u64>, max: Option<u64>, what: &str| {
        if let Some((used, max)) = used.zip(max).filter(|(used, max)| used >= max) {
            notice(format_args!(
                "the namespace has {used} {what}, and its limit is {max}, so no one can publish in it"
            ));
        }
    };
    over(usage.map(|usage| usage.bytes), limits.max_bytes, "bytes");
    over(usage.map(|usage| usage.versions), limits.max_versions, "versions");
    let json = [
        ("max_bytes", json!(limits.max_bytes)),
        ("max_versions", json!(limits.max_versions)),
        ("bytes", json!(usage.map(|usage| usage.bytes))),
        ("versions", json!(usage.map(|usage| usage.versions))),
    ];
    let json = json.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Ok(Shown { is_changed, lines, json })
}

async fn set_sources(
    context: &Context,
    open: &OpenStore,
    namespace: &Namespace,
    change: &SourcesChange,
    target: &StoreTarget,
) -> Result<Shown, CommandError> {
    let OpenStore { store, operator } = open;
    let mut event = event(Kind::Namespace, operator);
    event.namespace(namespace);
    event.requested(sources_text(change));
    let kept = kept(&event, context);
    let done = store.set_sources(operator, namespace, change, &kept).await;
    let done = record(event, done, |done| match done {
        SourcesSet::Done { before, sources } if before == sources => Outcome::Unchanged,
        SourcesSet::Done { .. } => Outcome::Changed,
        SourcesSet::Absent => Outcome::Absent,
        SourcesSet::Rejected(SourcesError::TooMany) => Outcome::Full,
        SourcesSet::Rejected(SourcesError::Unreadable) => Outcome::Conflict,
    })?;
    let (before, sources) = match done {
        SourcesSet::Done { before, sources } => (before, sources),
        SourcesSet::Absent => return Err(absent_with_hint(namespace, target)),
        SourcesSet::Rejected(error) => {
            let hint = match error {
                SourcesError::TooMany => "allow a path that includes several of them",
                SourcesError::Unreadable => {
                    "use the newest release, or remove all sources with `--no-source`"
                }
            };
            return Err(CommandError::refused(error.to_string()).hint(hint));
        }
    };
    let is_changed = before != sources;
    let listed = sources_lines(&sources);
    let lines = format!(
        "{}the namespace `{namespace}` allows {}{}",
        if is_changed { "" } else { "unchanged: " },
        if listed.is_empty() { "no sources" } else { "these sources:" },
        listed.iter().map(|line| format!("\n  {line}")).collect::<String>()
    );
    let json = [("sources".to_owned(), sources_json(&sources))].into_iter().collect();
    Ok(Shown { is_changed, lines, json })
}

/// Returns the requested limits for the audit log.
fn limits_text(change: LimitsChange) -> String {
    let limits = [("max_bytes", change.max_bytes), ("max_versions", change.max_versions)];
    let text = limits.into_iter().filter_map(|(name, change)| match change {
        LimitChange::Keep => None,
        LimitChange::Unlimited => Some(format!("{name}=unlimited")),
        LimitChange::At(limit) => Some(format!("{name}={limit}")),
    });
    text.collect::<Vec<_>>().join(" ")
}

/// Returns the requested change of the sources for the audit log: `-*` removes all others.
fn sources_text(change: &SourcesChange) -> String {
    let removed = change.remove_all.then(|| "-*".to_owned());
    let sources = change.add.iter().map(|source| format!("+{}", source.address()));
    let objects = change.add_objects.iter().map(|objects| format!("+{}", objects.address()));
    removed.into_iter().chain(sources).chain(objects).collect::<Vec<_>>().join(" ")
}

/// Returns each allowed source as one line.
pub(super) fn sources_lines(sources: &AllowedSources) -> Vec<String> {
    if !sources.is_readable() {
        return vec!["a list that this program cannot read, which allows nothing".to_owned()];
    }
    let line = |entry: &AllowedEntry| match entry {
        AllowedEntry::Known(source) if source.moving_refs() => {
            format!("{} (with branches and all tags)", source.address())
        }
        AllowedEntry::Known(source) => source.address().to_owned(),
        AllowedEntry::Objects(objects) => format!("{} ({})", objects.address(), objects.region()),
        AllowedEntry::Unknown(value) => {
            one_line(&format!("{value} (this program cannot read it, and it allows nothing)"))
        }
    };
    sources.entries().iter().map(line).collect()
}

/// Returns the allowed sources as JSON; `null` for a list that this program cannot read.
pub(super) fn sources_json(sources: &AllowedSources) -> Value {
    if !sources.is_readable() {
        return Value::Null;
    }
    let object = |entry: &AllowedEntry| match entry {
        AllowedEntry::Known(source) => {
            json!({ "address": source.address(), "moving_refs": source.moving_refs() })
        }
        AllowedEntry::Objects(objects) => {
            json!({ "address": objects.address(), "region": objects.region() })
        }
        AllowedEntry::Unknown(value) => json!({ "address": null, "unreadable": value }),
    };
    sources.entries().iter().map(object).collect()
}

/// Returns the error for a namespace of which the store knows nothing.
pub(super) fn absent(namespace: &Namespace) -> CommandError {
    CommandError::refused(format!("there is no namespace `{namespace}`"))
}

fn absent_with_hint(namespace: &Namespace, target: &StoreTarget) -> CommandError {
    absent(namespace)
        .hint(format!("create it with `{} {namespace}`", target.command("namespace create")))
}
