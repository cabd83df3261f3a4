//! The kinds and the outcomes of audit events, with their names in the log and in the store.

use stile_protocol::reply::ErrorCode;

macro_rules! names {
    ($(#[$outer:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$doc])* $name,)+
        }

        impl $type {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the name in the log.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

names! {
    /// The kind of request: the field `event`.
    Kind {
        /// Exchanging a proof for a token.
        Exchange = "exchange",
        /// Showing the identity of the bearer.
        Whoami = "whoami",
        /// Listing the modules that the bearer may read.
        List = "list",
        /// Searching the modules that the bearer may read.
        Search = "search",
        /// Listing the versions of a package.
        Versions = "versions",
        /// Getting the signed URL of a version.
        Download = "download",
        /// Fetching an archive by its signed URL.
        Fetch = "fetch",
        /// Publishing a version, or completing an upload session.
        Publish = "publish",
        /// Beginning an upload session.
        Upload = "upload",
        /// Verifying one file of an upload session.
        VerifyFile = "verify_file",
        /// Showing a version.
        Show = "show",
        /// Showing who downloads a module.
        Usage = "usage",
        /// Deprecating a version.
        Deprecate = "deprecate",
        /// Taking a deprecation back.
        Undeprecate = "undeprecate",
        /// Unpublishing a version.
        Unpublish = "unpublish",
        /// Restoring an unpublished version.
        Restore = "restore",
        /// Listing the signing keys of a namespace.
        ListSigningKeys = "list_signing_keys",
        /// Adding a signing key to a namespace.
        AddSigningKey = "add_signing_key",
        /// Retiring a signing key of a namespace.
        RetireSigningKey = "retire_signing_key",
        /// Authorising a request to another registry, for API Gateway.
        Authorize = "authorize",
        /// Creating, changing or deleting a grant.
        Grant = "grant",
        /// Listing the grants that the bearer may see.
        ListGrants = "list_grants",
        /// Explaining an access to the bearer.
        ExplainGrant = "explain_grant",
        /// Issuing, rotating, adopting or revoking a service token.
        ServiceToken = "service_token",
        /// Listing the service tokens that the bearer may see.
        ListServiceTokens = "list_service_tokens",
        /// Listing the kept events that the bearer may see.
        ListAudit = "list_audit",
        /// Removing the pinned unique id of a role or user.
        Repin = "repin",
        /// Revoking a token or a principal.
        Revoke = "revoke",
        /// Lifting the revocation of a principal.
        Lift = "lift",
        /// Deleting the keys that seal tokens.
        Key = "key",
        /// Creating a namespace, or setting its limits.
        Namespace = "namespace",
        /// Creating, changing or deleting a trust.
        Trust = "trust",
        /// Adding or removing a webhook.
        Webhook = "webhook",
        /// Removing kept events that are older than a number of days.
        Expire = "expire",
        /// Creating, migrating or restoring a store, or deleting its leftovers.
        Store = "store",
        /// Copying a store into a backup.
        Backup = "backup",
    }
}

names! {
    /// The outcome of a decision: the field `decision`.
    Outcome {
        /// The request was allowed.
        Allowed = "allowed",
        /// A token was minted.
        Minted = "minted",
        /// The object was created.
        Created = "created",
        /// The same object already exists.
        Unchanged = "unchanged",
        /// A different object already exists, so nothing changed.
        Conflict = "conflict",
        /// A limit is reached, so nothing changed.
        Full = "full",
        /// An upload session started.
        Begun = "begun",
        /// The file of an upload was verified.
        Verified = "verified",
        /// The file of an upload is being verified.
        Verifying = "verifying",
        /// No upload session started, because the archive fits into one request.
        Direct = "direct",
        /// The object was changed.
        Changed = "changed",
        /// The object was deleted.
        Deleted = "deleted",
        /// The object does not exist, so nothing changed.
        Absent = "absent",
        /// The token or principal was revoked.
        Revoked = "revoked",
        /// The revocation was lifted.
        Lifted = "lifted",
        /// The pinned unique id was removed.
        Cleared = "cleared",
        /// The keys were deleted.
        Dropped = "dropped",
        /// The request was refused. The field `code` has the reason.
        Refused = "refused",
        /// The decision or the action failed. The field `code` has the reason.
        Failed = "failed",
        /// The caller closed the connection before the decision.
        Abandoned = "abandoned",
    }
}

impl Outcome {
    /// Returns the outcome of a request whose response has this code.
    pub const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotFound => Self::Absent,
            ErrorCode::Throttled
            | ErrorCode::StsUnavailable
            | ErrorCode::StoreUnavailable
            | ErrorCode::KeyUnavailable
            | ErrorCode::InsufficientStorage
            | ErrorCode::StsBadResponse
            | ErrorCode::StsInconsistent
            | ErrorCode::StsTimeout
            | ErrorCode::Internal => Self::Failed,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let kinds: std::collections::BTreeSet<_> =
            Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        let outcomes: std::collections::BTreeSet<_> =
            Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        assert_eq!((kinds.len(), outcomes.len()), (Kind::ALL.len(), Outcome::ALL.len()));
    }
}
