//! `grant plan`: shows how the grants differ from a file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use stile_core::grants::GrantNamespace;
use stile_store::ListedGrants;
use terraform_credentials_stile::message::one_line;

use super::grant_api_backend::ApiBackend;
use super::grant_backend::{GrantBackend, KnownNames, StoreBackend};
use super::grant_text::namespace;
use super::known_names::{nearest_namespace, notices_of_plan};
use super::{CommandResult, Context};
use crate::cli::{GrantFileArgs, GrantPlan};
use crate::error::CommandError;
use crate::grant_file::{
    Change, Deletions, FileFormat, GrantFile, MAX_BYTES, Plan, parse, text_of,
};
use crate::output::{notice, print_error};
use crate::progress::spinning;
use crate::target::ChosenTarget;

/// The name of standard input on the command line.
const STDIN: &str = "-";

/// The most notices about one file. The last one counts the others.
const MAX_NOTICES: usize = 3;

/// Shows the difference. With `--check`, a difference is exit code 1.
pub(super) async fn run(context: &Context, args: &GrantPlan) -> CommandResult {
    let file = load(&args.from, context.now)?;
    match args.at.chosen()? {
        ChosenTarget::Store(target) => {
            let open = context.open(target).await?;
            show(context, args, &file, &StoreBackend::new(&open, &context.clock)).await
        }
        ChosenTarget::Registry(api) => {
            let backend = Box::pin(ApiBackend::open(context, api, &file.owned)).await?;
            Box::pin(show(context, args, &file, &backend)).await
        }
    }
}

async fn show<B: GrantBackend>(
    context: &Context,
    args: &GrantPlan,
    file: &GrantFile,
    backend: &B,
) -> CommandResult {
    check_namespaces(backend, &file.unmentioned).await?;
    let (plan, listed) = plan(backend, file, context.now).await?;
    context.output.outcome(lines(context, &plan), &plan.json())?;
    notice_names(backend, &plan, &listed).await;
    backend.warnings(plan.changes()).iter().for_each(notice);
    if let Some(Deletions { deleted, owned }) = plan.mass_deletion() {
        notice(format_args!(
            "the plan deletes {deleted} of the {owned} grants that the file owns; \
             hint: check that the file is complete; `grant apply` needs `--allow-deletes {deleted}`"
        ));
    }
    if let Err(error) = backend.check(plan.changes()) {
        notice(error);
    }
    Ok(ExitCode::from(u8::from(args.check && plan.has_drift())))
}

/// Compares a file with the grants as they are now. Returns these, too.
pub(super) async fn plan<B: GrantBackend>(
    backend: &B,
    file: &GrantFile,
    now: i64,
) -> Result<(Plan, ListedGrants), CommandError> {
    let listed = spinning("reading the grants", backend.list()).await?;
    Ok((Plan::between(file, &listed, now), listed))
}

/// Refuses a namespace that the user named and that the store does not have, because it can be
/// mistyped. A file without grants on it would be like the store.
pub(super) async fn check_namespaces<B: GrantBackend>(
    backend: &B,
    named: &[GrantNamespace],
) -> Result<(), CommandError> {
    if named.iter().all(|namespace| *namespace == GrantNamespace::All) {
        return Ok(());
    }
    let known = spinning("comparing the names", backend.known_names()).await?;
    // The API refuses a namespace on which the caller has no right.
    let Some(KnownNames { namespaces: known, .. }) = known else { return Ok(()) };
    for namespace in named {
        let GrantNamespace::One(one) = namespace else { continue };
        if !known.contains(one) {
            let nearest = nearest_namespace(one, &known);
            return Err(CommandError::usage(format!(
                "the store has no record, no grant and no module of the namespace `{one}`{nearest}"
            ))
            .hint("check the name after `--namespace`"));
        }
    }
    Ok(())
}

/// Prints a notice for the first names of new grants that nothing else in the store mentions. They
/// can be mistyped.
pub(super) async fn notice_names<B: GrantBackend>(backend: &B, plan: &Plan, listed: &ListedGrants) {
    let mut created = plan.changes().iter().filter(|change| matches!(change, Change::Create(_)));
    if created.clone().next().is_none() {
        return;
    }
    match spinning("comparing the names", backend.known_names()).await {
        Ok(None) => {}
        Ok(Some(known)) => {
            let created = created.by_ref().map(Change::key);
            let notices = notices_of_plan(created, &listed.grants, &known, MAX_NOTICES);
            notices.iter().for_each(notice);
        }
        Err(error) => notice(format_args!(
            "the names of new grants were not compared with other names: {error}"
        )),
    }
}

/// Returns the plan for people.
pub(super) fn lines(context: &Context, plan: &Plan) -> String {
    plan.lines(context.output.has_colours(context.no_colour)).join("\n")
}

/// Reads a file of grants. If it is wrong, it prints every error except the last one, which it
/// returns.
pub(super) fn load(args: &GrantFileArgs, now: i64) -> Result<GrantFile, CommandError> {
    let is_stdin = args.file == Path::new(STDIN);
    let name = if is_stdin {
        "standard input".to_owned()
    } else {
        one_line(&args.file.display().to_string())
    };
    let mut bytes = Vec::new();
    let read = if is_stdin {
        io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(&args.file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| CommandError::failed_because(format!("cannot read `{name}`"), &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        let most = MAX_BYTES / (1024 * 1024);
        return Err(CommandError::usage(format!("`{name}` is larger than {most} MiB"))
            .hint("use several files, each with the namespaces that it owns"));
    }
    let text = text_of(&name, bytes)?;
    let format =
        if is_stdin { FileFormat::of_text(&text) } else { FileFormat::of_file(&args.file) };
    match parse(&name, &text, format, now, args.skip_expired) {
        Ok(file) => {
            let shown = file.notices.len().min(MAX_NOTICES);
            for text in file.notices.iter().take(shown) {
                notice(format_args!("`{name}` {text}"));
            }
            if shown < file.notices.len() {
                let more = file.notices.len() - shown;
                notice(format_args!("`{name}` has {more} more lines with an ignored part"));
            }
            narrowed(file, &args.namespace, &name)
        }
        Err(mut errors) => {
            let last = errors.pop();
            errors.iter().for_each(print_error);
            Err(last.unwrap_or_else(|| CommandError::usage(format!("`{name}` is wrong"))))
        }
    }
}

/// Returns the part of a file for these namespaces, or the whole file if there are none.
fn narrowed(file: GrantFile, only: &[String], name: &str) -> Result<GrantFile, CommandError> {
    if only.is_empty() {
        return Ok(file);
    }
    let only = only.iter().map(|text| namespace(text)).collect::<Result<_, _>>()?;
    file.only(only).map_err(|other| {
        CommandError::usage(format!("`{name}` does not own the namespace `{other}`"))
            .hint("name a namespace that is in its `owns`")
    })
}
