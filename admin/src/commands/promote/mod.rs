//! `promote`: publishes a version of one registry in another one, with the same bytes.

mod module;
mod provider;

use std::fmt;
use std::process::ExitCode;

use serde_json::Value;
use stile_core::package::Version;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{ModuleAddress, Permission, Permissions, ProviderAddress};
use terraform_credentials_stile::message::one_line;

use super::life::Address;
use super::module_send::version_of;
use super::{CommandResult, Context};
use crate::api::Api;
use crate::cli::Promote;
use crate::error::CommandError;
use crate::output::notice;

/// Promotes the version of a module or a provider.
pub(crate) async fn run(context: &Context, args: Promote) -> CommandResult {
    let version = version_of(&args.version)?;
    match args.address.matches('/').count() {
        1 => {
            let promotion = Promotion::<ProviderAddress>::new(context, &args, version)?;
            Box::pin(provider::promote(context, &promotion)).await?;
        }
        2 => {
            let promotion = Promotion::<ModuleAddress>::new(context, &args, version)?;
            Box::pin(module::promote(context, &promotion)).await?;
        }
        _ => {
            let problem = format!("`{}` is not an address", one_line(&args.address));
            let forms = (ModuleAddress::FORM, ProviderAddress::FORM);
            return Err(CommandError::usage(problem)
                .hint(format!("use `{}` for a module, or `{}` for a provider", forms.0, forms.1)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A version, the registry that has it, and the one that gets it.
struct Promotion<A> {
    address: A,
    version: Version,
    /// The registry that has the version. Its token can only download.
    from: Api,
    /// The registry that gets the version. Its token is another one.
    to: Api,
    jobs: usize,
    dry_run: bool,
}

impl<A: Address> Promotion<A> {
    fn new(context: &Context, args: &Promote, version: Version) -> Result<Self, CommandError> {
        let address: A = args.address.parse()?;
        let (from, to) = args.registries.targets()?;
        let namespaces = || Namespaces::List(vec![address.namespace().clone()]);
        let download = Permissions::NONE.with(Permission::Download);
        let upload = download.with(Permission::Upload);
        let from = Api::of_scope(&from, namespaces(), download, context.now)?;
        let to = Api::of_scope(&to, namespaces(), upload, context.now)?;
        let (jobs, dry_run) = (usize::from(args.jobs), args.dry_run);
        Ok(Self { address, version, from, to, jobs, dry_run })
    }

    /// Returns the address and the version, for messages.
    fn about(&self) -> String {
        format!("{} {}", self.address, self.version)
    }

    /// Returns the hosts of both registries, for messages.
    fn hosts(&self) -> (&str, &str) {
        (self.from.host().as_str(), self.to.host().as_str())
    }

    /// Adds to an error what was not done.
    fn not_promoted(&self, error: CommandError) -> CommandError {
        let (address, version) = (&self.address, &self.version);
        error.context(format_args!("`{address}` {version} was not promoted"))
    }

    /// Refuses the promotion, because the version has other files at both registries.
    fn different(&self, what: impl fmt::Display, digests: (&str, &str)) -> CommandError {
        let (from, to) = self.hosts();
        CommandError::refused(format!(
            "{what} has the SHA-256 {} at `{from}`, and {} at `{to}`",
            digests.0, digests.1
        ))
        .hint("lock files have the digest of a version, so publish and promote a new version")
    }

    /// Refuses the archive that `from` sent, because it has another digest than the version.
    fn changed_on_the_way(&self, name: &str, found: &str, expected: &str) -> CommandError {
        let (from, to) = self.hosts();
        CommandError::refused(format!(
            "`{name}` has the SHA-256 {found}, and the version at `{from}` has {expected}"
        ))
        .hint(format!(
            "nothing was sent to `{to}`; run the command again, and ask the operator of `{from}` if the error stays"
        ))
    }

    /// Refuses a version that was taken back at `from`, and says what is not promoted of a deprecated
    /// one. `taken_back` is the word for it.
    fn check_life(&self, details: &Value, taken_back: &str) -> Result<(), CommandError> {
        let (from, to) = self.hosts();
        let noun = A::NOUN;
        let (address, version) = (&self.address, &self.version);
        if details["unpublished"].is_object() {
            return Err(CommandError::refused(format!("it is {taken_back} at `{from}`")).hint(
                format!("promote another version, or bring it back there with `stile-admin {noun} restore {address} {version} --registry-host {from}`"),
            ));
        }
        if details["deprecation"].is_object() {
            notice(format_args!(
                "`{address}` {version} is deprecated at `{from}`, which is not promoted; hint: use `stile-admin {noun} deprecate` for `{to}` too"
            ));
        }
        Ok(())
    }
}

/// Adds to an error which registry it is about.
fn at(api: &Api) -> impl Fn(CommandError) -> CommandError {
    let host = api.host().as_str().to_owned();
    move |error| error.about(&host)
}

/// Returns the error for a registry that does not list what it accepted.
fn not_listed(problem: impl fmt::Display) -> CommandError {
    CommandError::failed(format!("the version is published, but {problem}"))
        .hint("run the same command again; ask the operator of the registry if the error stays")
}
