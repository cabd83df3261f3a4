//! `grant plan`: shows how the grants differ from a file.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use terraform_credentials_stile::message::one_line;

use super::grant_backend::{GrantBackend, StoreBackend};
use super::grant_text::namespace;
use super::{CommandResult, Context};
use crate::cli::{GrantFileArgs, GrantPlan};
use crate::error::CommandError;
use crate::grant_file::{FileFormat, GrantFile, Plan, parse};
use crate::output::{notice, print_error};
use crate::progress::spinning;

/// The name of standard input on the command line.
const STDIN: &str = "-";

/// The most notices about one file. The last one counts the others.
const MAX_NOTICES: usize = 3;

/// Shows the difference. With `--check`, a difference is exit code 1.
pub(super) async fn run(context: &Context, args: &GrantPlan) -> CommandResult {
    let file = load(&args.from, context.now)?;
    let open = context.open(&args.store).await?;
    let backend = StoreBackend::new(&open, &context.clock);
    let plan = plan(&backend, &file, context.now).await?;
    context.output.outcome(lines(context, &plan), &plan.json())?;
    Ok(ExitCode::from(u8::from(args.check && !plan.is_empty())))
}

/// Compares a file with the grants as they are now.
pub(super) async fn plan<B: GrantBackend>(
    backend: &B,
    file: &GrantFile,
    now: i64,
) -> Result<Plan, CommandError> {
    let held = spinning("reading the grants", backend.list()).await?;
    Ok(Plan::between(file, &held, now))
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
        io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(&args.file).map(|read| bytes = read)
    };
    read.map_err(|error| CommandError::failed_because(format!("cannot read `{name}`"), &error))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CommandError::usage(format!("`{name}` is not a text in UTF-8")))?;
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
