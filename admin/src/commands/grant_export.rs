//! `grant export`: prints the grants as a file.

use super::Context;
use super::grant_backend::{GrantBackend as _, StoreBackend};
use super::grant_text::namespace;
use crate::cli::GrantExport;
use crate::error::CommandError;
use crate::grant_file::{Owned, to_json, to_toml};
use crate::progress::spinning;

/// Prints the grants on the named namespaces, or all grants.
pub(super) async fn run(context: &Context, args: &GrantExport) -> Result<(), CommandError> {
    let owned = if args.namespace.is_empty() {
        Owned::All
    } else {
        let named = args.namespace.iter().map(|text| namespace(text));
        Owned::These(named.collect::<Result<_, _>>()?)
    };
    let open = context.open(&args.store).await?;
    let backend = StoreBackend::new(&open, &context.clock);
    let mut grants = spinning("reading the grants", backend.list()).await?;
    grants.retain(|grant| owned.includes(&grant.namespace));
    let file = to_toml(&owned, &grants, context.now);
    context.output.outcome(file.trim_end(), &to_json(&owned, &grants, context.now))
}
