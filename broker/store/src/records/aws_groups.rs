//! Which groups of AWS callers an operator granted or revoked something, for the mint of a caller
//! with a JWT of AWS.

use std::collections::BTreeSet;

use stile_core::principal::Principal;

use super::Records;
use crate::StoreError;

/// The most grants that are read for each start of a group's text. It bounds what a mint costs: a
/// caller is not found in the groups beyond.
pub(super) const MAX_ROWS: usize = 2_000;

impl Records {
    /// Returns the groups with a grant or a revocation whose text begins with one of these. Those that
    /// are revoked come first, so that no limit on groups with grants leaves one out.
    pub(crate) async fn aws_groups(&self, starts: &[String]) -> Result<Vec<Principal>, StoreError> {
        if starts.is_empty() {
            return Ok(Vec::new());
        }
        let granted = match self {
            Self::Sqlite(sqlite) => sqlite.granted_principals(starts.to_vec()).await?,
            Self::DynamoDb(dynamodb) => dynamodb.granted_principals(starts).await?,
        };
        let revoked = self.revocation_records().await?.principals;
        let revoked = revoked.iter().filter_map(|(principal, _)| principal.as_str());
        let is_asked = |text: &&str| starts.iter().any(|start| text.starts_with(start.as_str()));
        let revoked: BTreeSet<&str> = revoked.filter(is_asked).collect();
        let granted: BTreeSet<&str> = granted.iter().map(String::as_str).collect();
        let group = |text: &str| match Principal::parse_stored(text) {
            Ok(group @ Principal::AwsGroup(_)) => Some(group),
            // Another principal, or a group of a newer program, which gives nothing here.
            _ => None,
        };
        let granted = granted.difference(&revoked);
        Ok(revoked.iter().chain(granted).filter_map(|text| group(text)).collect())
    }
}

/// Raises the alarm for more grants than a mint reads.
pub(super) fn too_many(start: &str) {
    tracing::error!(
        alarm = "too_many_group_grants",
        start,
        "more than {MAX_ROWS} grants are of groups that begin so; a caller does not get the others"
    );
}
