//! A release from before trusts on a store with a trust and its grant: the grant allows nothing there,
//! and is in nobody's way.

use std::sync::Arc;

use stile_protocol::names::Permission::Download;
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::{HOST, Place};
use stile_tests::process::previous::Release::{Current, Previous};

use super::registry::{Registry, arn, previous_is_built, session, whoami};

#[tokio::test]
async fn an_earlier_release_on_a_folder_ignores_the_grants_of_trusts() {
    if !previous_is_built("an earlier release ignores the grants of trusts in a folder") {
        return;
    }
    let registry = Registry::at(Place::Folder(Arc::new(tempfile::tempdir().unwrap())));
    registry.admin(Previous, &["store", "init"]).await;
    ignores(&registry).await;
}

#[tokio::test]
async fn an_earlier_release_on_a_table_ignores_the_grants_of_trusts() {
    if !previous_is_built("an earlier release ignores the grants of trusts in a table") {
        return;
    }
    let Some(aws) = EmulatedAws::start_empty() else { return };
    let registry = Registry::at(Place::Aws(Arc::new(aws)));
    registry.admin(Previous, &["store", "init", "--host", HOST]).await;
    ignores(&registry).await;
}

async fn ignores(registry: &Registry) {
    let claim = ["--issuer", "https://git.corp.example", "--claim", "project_id=74"];
    registry.admin(Current, &[&["trust", "create", "ci"][..], &claim].concat()).await;
    let to_trust = ["--principal", "oidc:ci", "--namespace", "acme", "--download"];
    registry.admin(Current, &[&["grant", "create"], &to_trust[..]].concat()).await;
    for (release, role) in [(Current, "first"), (Previous, "second")] {
        let arn = arn(role);
        let to_role = ["--role-arn", &arn, "--namespace", "acme", "--download"];
        registry.admin(release, &[&["grant", "create"], &to_role[..]].concat()).await;
    }
    let broker = registry.serve(Previous).await;
    for role in ["first", "second"] {
        let token = registry.exchange(&broker, &session(role), &[Download]).await.unwrap();
        assert_eq!(whoami(&broker, &token).await, 200, "{role}");
    }
    for list in [&["grant", "list"][..], &["grant", "list", "--namespace", "acme"]] {
        let listed = registry.admin(Previous, list).await;
        assert!(listed.contains("role/first") && listed.contains("role/second"), "{listed}");
        assert!(!listed.contains("oidc:"), "{listed}");
    }
    let arn = arn("second");
    let delete = ["grant", "delete", "--role-arn", &arn, "--namespace", "acme"];
    registry.admin(Previous, &delete).await;
    let listed = registry.admin(Current, &["grant", "list"]).await;
    assert!(listed.contains("oidc:ci") && !listed.contains("role/second"), "{listed}");
    registry.admin(Current, &["trust", "delete", "ci", "--with-grants"]).await;
}
