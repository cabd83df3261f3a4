//! Creates grants in a store, for a broker that starts later.

use std::path::Path;

use stile_core::grants::Grant;
use stile_core::principal::Principal;
use stile_protocol::names::Permission;
use stile_store::{Created, Store};

use super::operator::AsOperator as _;
use super::{NOW, embedded};
use crate::aws::emulated::EmulatedAws;
use crate::time_limits;

/// Creates a data folder with one grant, for a broker that starts later.
pub async fn make_data(
    folder: &Path,
    principal: &str,
    namespace: &str,
    permissions: &[Permission],
) {
    grant(&embedded(folder, time_limits::embedded()), principal, namespace, permissions, NOW).await;
}

/// Creates a grant in the table, for brokers that start later.
pub async fn allow(
    aws: &EmulatedAws,
    principal: &str,
    namespace: &str,
    permissions: &[Permission],
) {
    let store = aws.store(None);
    grant(&store, principal, namespace, permissions, NOW).await;
}

pub(crate) async fn grant(
    store: &Store,
    principal: &str,
    namespace: &str,
    permissions: &[Permission],
    now: i64,
) {
    let grant = Grant {
        principal: Principal::parse_stored(principal).unwrap(),
        namespace: namespace.parse().unwrap(),
        permissions: permissions.iter().copied().collect(),
        expires_at: None,
        created_by: "test".to_owned(),
        created_at: now,
    };
    let created = store.as_operator().create_grant(grant.clone(), None).await.unwrap();
    assert!(matches!(&created, Created::Done { grant: made, .. } if *made == grant), "{created:?}");
}
