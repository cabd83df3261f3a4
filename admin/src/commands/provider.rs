//! `provider`: publishes versions of providers and manages their keys, through the broker's API.

use std::process::ExitCode;

use stile_protocol::names::ProviderAddress;

use super::life::{self, Named};
use super::{CommandResult, Context, provider_keys, provider_list, provider_publish};
use crate::cli::{ProviderDeprecate, ProviderOne, ProviderVerb};

/// Runs one subcommand.
pub(crate) async fn run(context: &Context, verb: ProviderVerb) -> CommandResult {
    match verb {
        ProviderVerb::Publish(args) => {
            Box::pin(provider_publish::run(context, &args)).await?;
        }
        ProviderVerb::List(args) => provider_list::list(context, &args).await?,
        ProviderVerb::Show(args) => provider_list::show(context, &args).await?,
        ProviderVerb::Deprecate(ProviderDeprecate { of, statement }) => {
            life::deprecate::<ProviderAddress>(context, named(&of), &statement).await?;
        }
        ProviderVerb::Undeprecate(of) => {
            life::undeprecate::<ProviderAddress>(context, named(&of)).await?;
        }
        ProviderVerb::Yank(ProviderDeprecate { of, statement }) => {
            life::take_back::<ProviderAddress>(context, named(&of), &statement, "yanked").await?;
        }
        ProviderVerb::Restore(of) => {
            life::restore::<ProviderAddress>(context, named(&of)).await?;
        }
        ProviderVerb::Keys { verb } => Box::pin(provider_keys::run(context, verb)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn named(of: &ProviderOne) -> Named<'_> {
    Named { address: &of.address, version: &of.version, api: &of.api }
}
