//! Converts the errors of delegated grants into answers, with the next step of each.

use stile_protocol::reply::ErrorCode;

use super::error::ApiError;
use crate::app::grants::GrantsError;
use stile_core::clock::rfc3339;
use stile_core::grants::DelegationRefusal;

/// The hint for a change that no bearer makes.
const OPERATOR: &str = "ask an operator, who does it with `stile-admin` at the store";

impl ApiError {
    /// Converts the error of a list or a change of grants.
    pub fn grants(error: GrantsError) -> Self {
        let message = error.to_string();
        match error {
            GrantsError::Authenticate(error) => Self::authenticate(error),
            GrantsError::Refused(refusal) => Self::delegation(refusal),
            GrantsError::Absent(_) => Self::not_found(message)
                .hint("create it with `POST /v1/grants` (`stile-admin grant create`)"),
            GrantsError::Exists(_) => Self::new(ErrorCode::Conflict, message)
                .hint("change it with `PATCH /v1/grants` (`stile-admin grant update`)"),
            GrantsError::DiffersByCase { twin, .. } => {
                Self::new(ErrorCode::Conflict, message).hint(format!(
                    "IAM treats both as the same name; use `{}`, or delete its grants first",
                    twin.display_name()
                ))
            }
            GrantsError::PrincipalFull { .. } | GrantsError::Full(_) => {
                Self::new(ErrorCode::Conflict, message).hint("ask an operator for one grant on `*`")
            }
            GrantsError::NamespaceFull { .. } => Self::new(ErrorCode::Conflict, message)
                .hint("delete grants that nobody needs, or ask an operator"),
            GrantsError::NoTrust(_) => Self::new(ErrorCode::Conflict, message)
                .hint("ask an operator for `stile-admin trust create`"),
            GrantsError::TrustOfAws(_) => Self::new(ErrorCode::Conflict, message)
                .hint("grant to the role or user that the JWT of AWS names"),
            GrantsError::TrustRecreated(principal) => Self::new(ErrorCode::Conflict, message).hint(
                format!("ask an operator for `stile-admin grant repin --principal {principal}`"),
            ),
            GrantsError::TooManyNamespaces => Self::new(ErrorCode::InvalidRequest, message)
                .hint("name one with `namespace`, or a principal with `principal`"),
            GrantsError::WouldBeEmpty => Self::new(ErrorCode::InvalidRequest, message)
                .hint("delete it with `DELETE /v1/grants` (`stile-admin grant delete`)"),
            GrantsError::Differs => Self::new(ErrorCode::PreconditionFailed, message)
                .hint("read the grant again, and repeat the change with its new `etag`"),
            GrantsError::NotDelegated(error) => Self::new(ErrorCode::NoGrant, message)
                .hint("ask an operator to set `delegated_grants = true` in `infra/registry`, or to change the grant with `stile-admin`")
                .caused_by(error),
            GrantsError::Store(error) => Self::store(error),
        }
    }

    /// Converts a refusal to change or to list grants.
    pub(super) fn delegation(refusal: DelegationRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            DelegationRefusal::Refused(refusal) => Self::refusal(refusal),
            DelegationRefusal::TooLong { until, .. } => Self::new(ErrorCode::NoGrant, message)
                .hint(format!("set `expires_at` to `{}` or earlier", rfc3339(until))),
            DelegationRefusal::Ended(_) => Self::new(ErrorCode::InvalidRequest, message)
                .hint("set a later `expires_at`, or delete the grant"),
            DelegationRefusal::NoPermission | DelegationRefusal::NeverOfService(_) => {
                Self::new(ErrorCode::InvalidRequest, message)
            }
            DelegationRefusal::AllNamespaces
            | DelegationRefusal::Account(_)
            | DelegationRefusal::Group(_) => {
                Self::new(ErrorCode::NoGrant, message).hint(OPERATOR)
            }
            DelegationRefusal::ListsAllNamespaces => Self::new(ErrorCode::NoGrant, message)
                .hint("name one namespace, or none for all that you may see"),
            DelegationRefusal::ExplainsAllNamespaces => {
                Self::new(ErrorCode::NoGrant, message).hint("name one namespace")
            }
            DelegationRefusal::LastGrantGiver { .. } => Self::new(ErrorCode::Conflict, message).hint(
                "give `create_grant` to another principal for as long first, or repeat it with `force=true` (`--force` of `stile-admin`)",
            ),
        }
    }
}
