//! `grant export`: prints the grants as a file.

use stile_core::grants::GrantNamespace;

use super::Context;
use super::grant_api_backend::ApiBackend;
use super::grant_backend::{GrantBackend, StoreBackend};
use super::grant_plan::check_namespaces;
use super::grant_text::namespace;
use crate::cli::GrantExport;
use crate::error::CommandError;
use crate::grant_file::{Owned, to_json, to_toml, unreadable_name};
use crate::output::notice;
use crate::progress::spinning;
use crate::target::ChosenTarget;

/// Prints the grants on the named namespaces, or all grants.
pub(super) async fn run(context: &Context, args: &GrantExport) -> Result<(), CommandError> {
    let named: Vec<GrantNamespace> =
        args.namespace.iter().map(|text| namespace(text)).collect::<Result<_, _>>()?;
    let unmentioned = named.clone();
    let owned =
        if named.is_empty() { Owned::All } else { Owned::These(named.into_iter().collect()) };
    match args.at.chosen()? {
        ChosenTarget::Store(target) => {
            let open = context.open(target).await?;
            let backend = StoreBackend::new(&open, &context.clock);
            check_namespaces(&backend, &unmentioned).await?;
            print(context, &owned, &backend).await
        }
        ChosenTarget::Registry(api) => {
            let backend = Box::pin(ApiBackend::open(context, api, &owned)).await?;
            Box::pin(print(context, &owned, &backend)).await
        }
    }
}

async fn print<B: GrantBackend>(
    context: &Context,
    owned: &Owned,
    backend: &B,
) -> Result<(), CommandError> {
    let listed = spinning("reading the grants", backend.list()).await?;
    for unreadable in listed.unreadable.iter().filter(|unreadable| owned.can_include(unreadable)) {
        notice(format_args!(
            "the file does not have the grant of {}, because this program cannot read it",
            unreadable_name(unreadable)
        ));
    }
    let mut grants = listed.grants;
    grants.retain(|grant| owned.includes_grant(grant));
    let file = to_toml(owned, &grants, context.now);
    context.output.outcome(file.trim_end(), &to_json(owned, &grants, context.now))
}
