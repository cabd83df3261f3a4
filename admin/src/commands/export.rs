//! `export`: writes the packages of a registry as a tree of files, which any web server can serve.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::json;
use stile_protocol::exchange::{MAX_NAMESPACES, Namespaces};
use stile_protocol::names::{Namespace, Permission, Permissions};

use super::{CommandResult, Context};
use crate::api::Api;
use crate::cli::Export;
use crate::error::CommandError;
use crate::export::{Fetched, Folder, Owner, Plan, TreePath, Written, fetch, read};
use crate::output::notice;
use crate::progress::spinning;

/// What an export changed, or would change in a dry run.
#[derive(Debug, Default)]
struct Changes {
    written: Vec<TreePath>,
    removed: Vec<TreePath>,
    unchanged: usize,
    /// The number of files that no index names, and that stay.
    stale: usize,
}

/// Writes the tree: archives first, then what names them, and the discovery document last.
pub(crate) async fn run(context: &Context, args: Export) -> CommandResult {
    let Export { out, namespaces, prune, dry_run, api } = args;
    let namespaces: BTreeSet<Namespace> =
        namespaces.iter().map(|text| Namespace::parse(text)).collect::<Result<_, _>>()?;
    let namespaces: Vec<Namespace> = namespaces.into_iter().collect();
    let scope = match namespaces.len() {
        1..=MAX_NAMESPACES => Namespaces::List(namespaces.clone()),
        // A token cannot name more.
        _ => Namespaces::All,
    };
    let permissions = Permissions::NONE.with(Permission::Download);
    let api = Api::of_scope(&api, scope, permissions, context.now)?;
    let folder = Folder::open(&out, api.host(), dry_run)?;
    let inventory = folder.inventory()?;
    let reading = read(&api, &namespaces, inventory.values());
    let mut plan = Plan::new(spinning("reading the registry", Box::pin(reading)).await?);
    let Fetched { written, unchanged, bytes, unreadable } =
        Box::pin(fetch(&api, &folder, &plan, dry_run)).await?;
    folder.sync()?;
    plan.leave_out(unreadable);
    let archives = written.len();
    let mut changes = Changes { written, unchanged, ..Changes::default() };
    changes.write(&folder, plan.signed())?;
    changes.write(&folder, plan.versions())?;
    changes.write(&folder, plan.snippets())?;
    changes.write(&folder, plan.indexes())?;
    let wanted = plan.paths();
    for (path, owner) in inventory.into_iter().filter(|(path, _)| !wanted.contains(path)) {
        changes.take_out(&folder, path, &owner, prune || plan.is_distrusted(&owner))?;
    }
    changes.write(&folder, [Plan::discovery()])?;
    for out in &plan.catalogue().left_out {
        notice(&out.sentence);
    }
    report(context, &plan, &changes, (archives, bytes), dry_run, &api, &out)?;
    Ok(ExitCode::SUCCESS)
}

impl Changes {
    /// Writes files of which none names another one, and makes them survive a crash of the machine.
    fn write(
        &mut self,
        folder: &Folder,
        documents: impl IntoIterator<Item = (TreePath, Vec<u8>)>,
    ) -> Result<(), CommandError> {
        for (path, bytes) in documents {
            match folder.write(&path, &bytes)? {
                Written::Unchanged => self.unchanged += 1,
                Written::Changed => self.written.push(path),
            }
        }
        folder.sync()
    }

    /// Takes out a file that the registry no longer lists. An index goes at once, every other file only if
    /// `entirely`.
    fn take_out(
        &mut self,
        folder: &Folder,
        path: TreePath,
        owner: &Owner,
        entirely: bool,
    ) -> Result<(), CommandError> {
        if owner.is_index() || entirely {
            folder.remove(&path)?;
            self.removed.push(path);
        } else {
            self.stale += 1;
        }
        Ok(())
    }
}

/// Prints the changed files to stdout, and their numbers to stderr.
fn report(
    context: &Context,
    plan: &Plan,
    changes: &Changes,
    (archives, bytes): (usize, u64),
    dry_run: bool,
    api: &Api,
    out: &std::path::Path,
) -> Result<(), CommandError> {
    let Changes { written, removed, unchanged, stale } = changes;
    let catalogue = plan.catalogue();
    let versions = catalogue.providers.iter().map(|provider| provider.versions.len());
    let versions: usize =
        versions.chain(catalogue.modules.iter().map(|module| module.versions.len())).sum();
    let (write, remove) =
        if dry_run { ("would write", "would remove") } else { ("wrote", "removed") };
    for path in written {
        context.output.line(format_args!("{write} {path}"))?;
    }
    for path in removed {
        context.output.line(format_args!("{remove} {path}"))?;
    }
    context.output.json(&json!({
        "registry": api.host().as_str(),
        "out": out.display().to_string(),
        "dry_run": dry_run,
        "providers": catalogue.providers.len(),
        "modules": catalogue.modules.len(),
        "versions": versions,
        "written": written.iter().map(TreePath::as_str).collect::<Vec<_>>(),
        "removed": removed.iter().map(TreePath::as_str).collect::<Vec<_>>(),
        "unchanged": unchanged,
        "archives": archives,
        "archive_bytes": bytes,
        "stale": stale,
        "left_out": catalogue.left_out.iter().map(|out| &out.sentence).collect::<Vec<_>>(),
    }))?;
    notice(format_args!(
        "{write} {} files ({archives} archives, {bytes} bytes), {remove} {}, left {unchanged} as they were; providers: {}, modules: {}, versions: {versions}",
        written.len(),
        removed.len(),
        catalogue.providers.len(),
        catalogue.modules.len()
    ));
    if *stale > 0 {
        notice(format_args!(
            "{stale} files of earlier versions stay; hint: delete them with `--prune` when caches have expired"
        ));
    }
    Ok(())
}
