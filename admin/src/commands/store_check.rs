//! `store check`: finds versions without an archive, lists that differ from the records of their
//! versions, archives without a version, and faults of trusts. It repairs what can be repaired.

use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::audit::{Kind, Outcome};
use stile_core::clock::rfc3339;
use stile_core::package::PackageAddress;
use stile_store::{Leftover, Migrated, PackageFault, PackageFaultKind, Relisted, Repaired, Store};

use super::store_check_trusts::{self, TrustFault};
use super::{CommandResult, Context, OpenStore, event, kept, record};
use crate::cli::StoreCheck;
use crate::error::CommandError;
use crate::output::notice;
use crate::progress::{packages_bar, spinning};
use crate::target::{StoreLocation, StoreTarget};

/// The age in seconds from which no publish that is still in progress can need an archive.
const SETTLED: i64 = 24 * 3600;

/// Checks a store. The exit code is 1 if a fault remains.
pub(crate) async fn run(
    context: &Context,
    StoreCheck { store, repair, older_than }: StoreCheck,
) -> CommandResult {
    reject_older_format(&store)?;
    let opened =
        if repair { context.open_to_change(&store).await? } else { context.open(&store).await? };
    let Checked { faults, error } = check_packages(context, &opened, repair).await?;
    let (leftovers, later_error) = if error.is_some() {
        (Vec::new(), None)
    } else if let Some(reason) = keeps_leftovers(&faults) {
        notice(reason);
        (Vec::new(), None)
    } else if repair {
        delete_leftovers(context, &opened, &store, older_than).await
    } else {
        find_leftovers(context, &opened).await
    };
    let (trusts, trust_error) = match store_check_trusts::find(&opened).await {
        Ok(trusts) => (trusts, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    // What was found and done is printed in any case.
    print(context, &faults, &trusts, &leftovers)?;
    if let Some(error) = error.or(later_error).or(trust_error) {
        return Err(error);
    }
    let remains = faults.iter().any(|found| !found.is_repaired) || !trusts.is_empty();
    Ok(ExitCode::from(u8::from(remains)))
}

/// Returns why no archive without a version is looked for.
///
/// Its record can be the one that is lost. To delete it would lose the version for good.
fn keeps_leftovers(faults: &[Found]) -> Option<&'static str> {
    let lost = [PackageFaultKind::ListedWithoutRecord, PackageFaultKind::UnreadableVersion];
    faults.iter().any(|found| lost.contains(&found.fault.kind)).then_some(
        "archives without a version are not looked for, because the archive of a lost record would be one",
    )
}

/// Refuses a data folder of an older format, because to open it would migrate it.
fn reject_older_format(store: &StoreTarget) -> Result<(), CommandError> {
    let StoreLocation::Folder(folder) = store.location()? else { return Ok(()) };
    let Migrated { from, to } = Store::pending_migration(&folder, store.embedded_deadlines())?;
    if from == to {
        return Ok(());
    }
    let folder = folder.display();
    Err(CommandError::refused(format!(
        "the store in `{folder}` has format {from}, and this program's is {to}"
    ))
    .hint(format!("run `{}`", store.command("store migrate"))))
}

/// A fault of a package.
#[derive(Debug)]
struct Found {
    package: PackageAddress,
    fault: PackageFault,
    is_repaired: bool,
}

/// The faults of all packages, and the first error.
#[derive(Debug)]
struct Checked {
    faults: Vec<Found>,
    error: Option<CommandError>,
}

/// Checks all packages, and repairs their lists if the operator wants it.
async fn check_packages(
    context: &Context,
    opened: &OpenStore,
    repair: bool,
) -> Result<Checked, CommandError> {
    let OpenStore { store, operator } = opened;
    let reading = Box::pin(store.stored_packages(operator));
    let stored = spinning("looking for packages", reading).await?;
    let bar = packages_bar(stored.addresses().len());
    let (mut found, mut versions, mut packages) = (Vec::new(), 0, 0);
    let mut error: Option<CommandError> = None;
    for address in stored.addresses() {
        let checked = Box::pin(store.check_package(operator, &stored, address)).await;
        let checked = match checked {
            Ok(checked) => checked,
            Err(failed) => {
                let is_down = failed.kind().is_retryable();
                error.get_or_insert(failed.into());
                if is_down {
                    break;
                }
                continue;
            }
        };
        packages += 1;
        versions += checked.versions;
        let is_of_the_list = |fault: &PackageFault| fault.kind.is_of_the_list();
        let mut is_right = false;
        if repair && checked.faults.iter().any(is_of_the_list) {
            match relist(context, opened, address).await {
                Ok(done) => is_right = done,
                Err(failed) => drop(error.get_or_insert(failed)),
            }
        }
        found.extend(checked.faults.into_iter().map(|fault| Found {
            package: address.clone(),
            is_repaired: is_right && is_of_the_list(&fault),
            fault,
        }));
        bar.inc(1);
    }
    bar.finish_and_clear();
    notice(format_args!(
        "checked {packages} packages with {versions} versions: {}",
        match found.len() {
            0 => "no faults".to_owned(),
            1 => "1 fault".to_owned(),
            faults => format!("{faults} faults"),
        }
    ));
    say_what_helps(&found, repair);
    Ok(Checked { faults: found, error })
}

/// Makes the list of a package from the records. Returns whether it is right then, and says why if
/// not.
async fn relist(
    context: &Context,
    opened: &OpenStore,
    address: &PackageAddress,
) -> Result<bool, CommandError> {
    let OpenStore { store, operator } = opened;
    let mut event = event(Kind::Store, operator);
    event.namespace(address.namespace());
    event.package(address, None);
    let done = Box::pin(store.relist(operator, address, &kept(&event, context))).await;
    let outcome = |done: &Relisted| match done {
        Relisted::Done => Outcome::Changed,
        Relisted::Unchanged => Outcome::Unchanged,
        Relisted::Unreadable | Relisted::RecordsLost => Outcome::Conflict,
        Relisted::TooLarge => Outcome::Full,
    };
    let reason = match record(event, done, outcome)? {
        Relisted::Done | Relisted::Unchanged => return Ok(true),
        Relisted::Unreadable => "a record or the list itself cannot be read",
        Relisted::RecordsLost => "most of its versions have no record",
        Relisted::TooLarge => "it would be too large",
    };
    notice(format_args!("the list of `{address}` is as it was, because {reason}"));
    Ok(false)
}

/// Says once for each kind of fault what the operator can do.
fn say_what_helps(found: &[Found], repair: bool) {
    let has = |kind| found.iter().any(|found| found.fault.kind == kind);
    if has(PackageFaultKind::MissingArchive) {
        notice(
            "the download of a version without its archive fails; hint: publish the same archive again, or restore a backup",
        );
    }
    if has(PackageFaultKind::UnreadableVersion) {
        notice(
            "a record that cannot be read is of a newer release, or damaged; hint: use the newest `stile-admin`, or restore a backup",
        );
    }
    if has(PackageFaultKind::ListedWithoutRecord) {
        notice(
            "a version without a record is lost; hint: publish the same archive again, or restore a backup",
        );
    }
    if !repair && found.iter().any(|found| found.fault.kind.is_of_the_list()) {
        notice("a list is wrong; hint: use `--repair` to make it from the records");
    }
}

/// The archives without a version that a command found or deleted, and the error that ended it.
type Leftovers = (Vec<Leftover>, Option<CommandError>);

async fn find_leftovers(context: &Context, opened: &OpenStore) -> Leftovers {
    let looking = Box::pin(opened.store.leftovers(&opened.operator));
    let leftovers = match spinning("looking for leftovers", looking).await {
        Ok(leftovers) => leftovers,
        Err(error) => return (Vec::new(), Some(error.into())),
    };
    let is_young = |leftover: &&Leftover| context.now - leftover.written_at < SETTLED;
    let young = leftovers.iter().filter(is_young).count();
    if young > 0 {
        notice(format_args!(
            "{young} of the leftovers are less than a day old, and can belong to a publish in progress"
        ));
    }
    (leftovers, None)
}

/// Deletes old leftovers, and returns those that it deleted.
async fn delete_leftovers(
    context: &Context,
    opened: &OpenStore,
    store: &StoreTarget,
    older_than: i64,
) -> Leftovers {
    let mut event = event(Kind::Store, &opened.operator);
    match store.location() {
        Ok(StoreLocation::Folder(folder)) => event.resource(folder.display().to_string()),
        Ok(StoreLocation::Aws(place)) => event.resource(place.bucket),
        Err(error) => return (Vec::new(), Some(error)),
    }
    let written_until = context.now.saturating_sub(older_than);
    let deleting_event = kept(&event, context);
    let deleting = opened.store.delete_leftovers(&opened.operator, written_until, &deleting_event);
    let repaired = spinning("deleting leftovers", Box::pin(deleting)).await;
    let outcome = |repaired: &Repaired| match repaired.deleted.is_empty() {
        true => Outcome::Unchanged,
        false => Outcome::Deleted,
    };
    let Repaired { deleted, kept, error } = match record(event, repaired, outcome) {
        Ok(repaired) => repaired,
        Err(error) => return (Vec::new(), Some(error.into())),
    };
    for (leftover, reason) in &kept {
        notice(format_args!("kept `{}`: {reason}", leftover.archive));
    }
    let bytes: u64 = deleted.iter().map(|leftover| leftover.bytes).sum();
    notice(format_args!("deleted {} archives with {bytes} bytes", deleted.len()));
    (deleted, error.map(Into::into))
}

/// Prints the faults, and the archives that no version names, or named.
fn print(
    context: &Context,
    faults: &[Found],
    trusts: &[TrustFault],
    leftovers: &[Leftover],
) -> Result<(), CommandError> {
    if context.output.is_json() {
        let of_trusts = trusts.iter().map(store_check_trusts::object);
        let all = faults.iter().map(fault_json).chain(of_trusts);
        let all = all.chain(leftovers.iter().map(leftover_json));
        return context.output.json(&all.collect::<Vec<_>>().into());
    }
    let none = Value::Null;
    if !faults.is_empty() {
        let header = ["package", "version", "fault", "repaired"];
        let rows: Vec<_> = faults.iter().map(fault_row).collect();
        context.output.rows("faults", &header, &rows, &none)?;
    }
    store_check_trusts::print(context, trusts)?;
    let header = ["archive", "object version", "bytes", "written at"];
    let rows: Vec<_> = leftovers.iter().map(leftover_row).collect();
    context.output.rows("leftovers", &header, &rows, &none)
}

fn fault_row(Found { package, fault, is_repaired }: &Found) -> Vec<String> {
    vec![
        package.to_string(),
        fault.version.clone().unwrap_or_else(|| "-".to_owned()),
        fault.kind.describe().to_owned(),
        if *is_repaired { "yes" } else { "no" }.to_owned(),
    ]
}

fn fault_json(Found { package, fault, is_repaired }: &Found) -> Value {
    json!({
        "kind": fault.kind.as_str(), "package": package.to_string(), "version": fault.version,
        "repaired": is_repaired,
    })
}

fn leftover_row(leftover: &Leftover) -> Vec<String> {
    vec![
        leftover.archive.clone(),
        leftover.object_version.clone().unwrap_or_else(|| "-".to_owned()),
        leftover.bytes.to_string(),
        rfc3339(leftover.written_at),
    ]
}

fn leftover_json(leftover: &Leftover) -> Value {
    json!({
        "kind": "leftover", "archive": leftover.archive,
        "object_version": leftover.object_version, "bytes": leftover.bytes,
        "written_at": rfc3339(leftover.written_at),
    })
}
