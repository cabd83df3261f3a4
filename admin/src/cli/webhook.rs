//! The subcommands and flags of `webhook`.

use clap::{Args, Subcommand};

use crate::target::StoreTarget;

#[derive(Debug, Subcommand)]
pub(crate) enum WebhookVerb {
    /// Send an event to a URL when a version is published or its life changes
    ///
    /// It prints the secret that signs the events, once. A broker sends only to public addresses,
    /// and follows no redirect. It takes effect within 10 seconds in every process.
    ///
    /// Example: `stile-admin webhook add ci https://ci.example.com/stile --data /var/lib/stile`
    Add(WebhookAdd),
    /// List the webhooks, without their secrets
    ///
    /// Example: `stile-admin webhook list --data /var/lib/stile`
    List(StoreTarget),
    /// Remove a webhook, and with it the events that it has not got
    ///
    /// It takes effect within 10 seconds in every process.
    ///
    /// Example: `stile-admin webhook remove ci --data /var/lib/stile`
    Remove(WebhookRemove),
}

#[derive(Debug, Args)]
pub(crate) struct WebhookAdd {
    /// The name, such as `ci`
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The URL, which begins with `https://`
    #[arg(value_name = "URL")]
    pub(crate) url: String,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}

#[derive(Debug, Args)]
pub(crate) struct WebhookRemove {
    /// The name, such as `ci`
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) store: StoreTarget,
}
