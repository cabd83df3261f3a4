//! Commits mutations in one transaction. It checks every condition first, before the first change.

use rusqlite::{Transaction, params};
use serde_json::Value as Json;
use stile_core::grants::{Grant, GrantNamespace, Pin};
use stile_core::principal::Principal;

use super::{
    Sqlite, audit, database_error, grants, namespaces, outbox, packages, providers,
    refused_exchanges, revocations, service_tokens, single, trusts, uploads, usage, webhooks,
};
use crate::records::model::{Content, RevocationRecords, VersionRecord};
use crate::records::mutation::{GrantsChange, Mutation, Outcome};
use crate::records::outbox::deliveries;
use crate::records::sealed_keyring;
use crate::{Destination, StoreError};

impl Sqlite {
    /// Commits all of the mutations or none. The lock of the transaction excludes other writers, so
    /// there are no conflicts.
    pub(crate) async fn commit(&self, mutations: Vec<Mutation>) -> Result<Outcome, StoreError> {
        self.write(move |transaction| {
            for (at, mutation) in mutations.iter().enumerate() {
                if !holds(transaction, mutation)? {
                    return Ok(Outcome::Refused(at));
                }
            }
            for mutation in &mutations {
                apply(transaction, mutation)?;
            }
            Ok(Outcome::Done)
        })
        .await
    }
}

/// Returns whether the condition of a mutation holds.
fn holds(transaction: &Transaction<'_>, mutation: &Mutation) -> Result<bool, StoreError> {
    let exists = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.exists(values))
            .map_err(database_error)
    };
    match mutation {
        Mutation::RecordSingleUse { digest, .. } => {
            // The condition contains no time: a proof is recorded once, whatever a clock says.
            Ok(!exists("SELECT 1 FROM proofs WHERE signature_digest = ?1", &[digest])?)
        }
        Mutation::PinFirst { principal, id } => Ok(match grants::pin_of(transaction, principal)? {
            Pin::Unpinned | Pin::Disabled => true,
            Pin::Pinned(pinned) => pinned == *id,
        }),
        Mutation::SetPin { principal, id } => Ok(match grants::pin_of(transaction, principal)? {
            Pin::Unpinned => true,
            Pin::Disabled => id.is_none(),
            Pin::Pinned(pinned) => id.as_ref() == Some(&pinned),
        }),
        Mutation::ClearPin { principal } => {
            exists("SELECT 1 FROM pins WHERE principal = ?1", &[&principal.as_str()])
        }
        Mutation::ChangeGrants { principal, before, change } => {
            let unchanged = grants::revision_of(transaction, principal)? == before.revision;
            let same_name = grants::same_name(transaction, principal)?;
            let free = same_name.is_none_or(|name| name == principal.as_str());
            Ok(unchanged
                && (free || !matches!(change, GrantsChange::Create { reserves: true, .. })))
        }
        Mutation::KeepGrants { principal, before } => {
            Ok(grants::revision_of(transaction, principal)? == *before)
        }
        Mutation::KeepRevocations { before } => {
            Ok(revocations::all(transaction)?.revision == *before)
        }
        Mutation::ChangeRevocations { before, .. } => {
            Ok(revocations::all(transaction)?.revision == before.revision)
        }
        Mutation::AddVersion { address, version, .. } => {
            Ok(packages::version_of(transaction, address, version)?.is_none())
        }
        Mutation::MoveArchive { address, version, sha256, .. } => {
            let published = packages::version_of(transaction, address, version)?;
            Ok(published.is_some_and(|published| published.content.sha256() == *sha256))
        }
        Mutation::ReplaceObject { address, version, before, .. } => {
            let published = packages::version_of(transaction, address, version)?;
            let has = |published: VersionRecord| match published.content {
                Content::Object(object) => object == *before,
                Content::Archive(_) | Content::Source(_) | Content::Provider(_) => false,
            };
            Ok(published.is_some_and(has))
        }
        Mutation::ChangeLife { address, version, before, .. } => {
            let record = packages::version_of(transaction, address, version)?;
            Ok(record.is_some_and(|record| record.life == *before))
        }
        Mutation::PutPackage { address, before, .. } => {
            Ok(packages::revision_of(transaction, address)? == *before)
        }
        Mutation::CountVersion { namespace, bytes, is_new, .. } => {
            let quota = namespaces::quota_of(transaction, namespace)?;
            Ok(quota.and_then(|quota| quota.exceeded(*bytes, *is_new)).is_none())
        }
        Mutation::ReplaceRelease { address, version, before, .. } => {
            let published = packages::version_of(transaction, address, version)?;
            let has = |found: &VersionRecord| matches!(&found.content, Content::Provider(release) if release == before);
            Ok(published.as_ref().is_some_and(has))
        }
        Mutation::PutSigningKeys { namespace, before, .. }
        | Mutation::KeepSigningKeys { namespace, before } => {
            Ok(providers::keys_of(transaction, namespace)?.revision == *before)
        }
        Mutation::PutWaitingFile { address, version, key, before, .. } => {
            let revision = providers::waiting_revision(transaction, address, version, key);
            Ok(revision.map_err(database_error)? == *before)
        }
        Mutation::AddUpload { upload, namespace, before, .. } => {
            let free = !exists("SELECT 1 FROM uploads WHERE id = ?1", &[&upload.id.as_str()])?;
            Ok(free && uploads::open(transaction, namespace)?.revision == *before)
        }
        Mutation::DeleteUpload { .. }
        | Mutation::CountDownloads { .. }
        | Mutation::PutSearchText { .. }
        | Mutation::AddRefusedExchange { .. }
        | Mutation::AddEvent { .. }
        | Mutation::RecordServiceTokenUse { .. }
        | Mutation::RemoveDelivery(_) => Ok(true),
        Mutation::PutSendingState { destination, before, .. } => {
            let state = outbox::state_of(transaction, destination)?;
            Ok(state.is_some_and(|state| state.revision == *before))
        }
        Mutation::PutKeyring { before, .. } => {
            let revision = single::keyring(transaction)?.map_or(0, |keyring| keyring.revision);
            Ok(revision == *before)
        }
        Mutation::PutGrantLease { before, .. } => {
            Ok(single::grant_lease(transaction)?.revision == *before)
        }
        Mutation::AddNamespace(record) => {
            let sql = "SELECT 1 FROM namespaces WHERE namespace = ?1";
            Ok(!exists(sql, &[&record.namespace.as_str()])?)
        }
        Mutation::SetLimits { before, record, .. } | Mutation::SetSources { before, record } => {
            let stored = namespaces::record_of(transaction, &record.namespace)?;
            Ok(stored == before.clone().map(Some))
        }
        Mutation::AddWebhook(webhook) => {
            Ok(!exists("SELECT 1 FROM webhooks WHERE name = ?1", &[&webhook.name.as_str()])?)
        }
        Mutation::RemoveWebhook { id, .. } => exists("SELECT 1 FROM webhooks WHERE id = ?1", &[id]),
        Mutation::AddServiceToken(token) => {
            let stored = service_tokens::text_of(transaction, token.id());
            Ok(stored.map_err(database_error)?.is_none())
        }
        Mutation::ChangeServiceToken { id, before, .. } => {
            let stored = service_tokens::text_of(transaction, id).map_err(database_error)?;
            Ok(stored.as_ref() == Some(before))
        }
        Mutation::DeleteServiceToken(id) => {
            let stored = service_tokens::text_of(transaction, id);
            Ok(stored.map_err(database_error)?.is_some())
        }
        Mutation::AddTrust(record) => {
            Ok(!exists("SELECT 1 FROM trusts WHERE name = ?1", &[&record.name.as_str()])?)
        }
        Mutation::PutTrust { before, after } => {
            trusts::is_still(transaction, &after.name, &after.id, Some(*before))
        }
        Mutation::RemoveTrust { name, id } | Mutation::KeepTrust { name, id } => {
            trusts::is_still(transaction, name, id, None)
        }
        Mutation::AddHost(_) => Ok(single::host(transaction)?.is_none()),
        Mutation::AppendAudit { before, link, .. } => Ok(audit::head(transaction, &before.chain)?
            == *before
            && !audit::has(transaction, &before.chain, link.seq)?),
    }
}

fn apply(transaction: &Transaction<'_>, mutation: &Mutation) -> Result<(), StoreError> {
    let execute = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(values))
            .map(drop)
            .map_err(database_error)
    };
    match mutation {
        Mutation::RecordSingleUse { digest, keep_until, forget_before } => {
            execute("DELETE FROM proofs WHERE keep_until < ?1", &[forget_before])?;
            execute(
                "INSERT INTO proofs (signature_digest, keep_until) VALUES (?1, ?2)",
                &[digest, keep_until],
            )
        }
        Mutation::PinFirst { principal, id } => execute(
            "INSERT OR IGNORE INTO pins (principal, unique_id) VALUES (?1, ?2)",
            &[&principal.as_str(), &id.as_str()],
        ),
        Mutation::SetPin { principal, id } => execute(
            "INSERT INTO pins (principal, unique_id) VALUES (?1, ?2) \
             ON CONFLICT (principal) DO UPDATE SET unique_id = excluded.unique_id",
            &[&principal.as_str(), &id.as_ref().map(|id| id.as_str())],
        ),
        Mutation::ClearPin { principal } => {
            execute("DELETE FROM pins WHERE principal = ?1", &[&principal.as_str()])
        }
        Mutation::ChangeGrants { principal, change, .. } => {
            change_grants(transaction, principal, change).map_err(database_error)
        }
        Mutation::ChangeRevocations { before, after } => {
            change_revocations(transaction, before, after).map_err(database_error)
        }
        Mutation::AddVersion { address, version, record } => {
            packages::add_version(transaction, address, version, record).map_err(database_error)
        }
        Mutation::MoveArchive { address, version, object_version, .. } => {
            let object_version = object_version.as_deref();
            packages::move_archive(transaction, address, version, object_version)
                .map_err(database_error)
        }
        Mutation::ReplaceObject { address, version, after, .. } => {
            packages::replace_object(transaction, address, version, after).map_err(database_error)
        }
        Mutation::ChangeLife { address, version, after, .. } => {
            packages::change_life(transaction, address, version, after).map_err(database_error)
        }
        Mutation::PutPackage { address, package, .. } => {
            packages::put_package(transaction, address, package).map_err(database_error)
        }
        Mutation::ReplaceRelease { address, version, after, .. } => {
            packages::replace_release(transaction, address, version, after).map_err(database_error)
        }
        Mutation::PutSigningKeys { namespace, before, keys } => {
            providers::put_keys(transaction, namespace, *before, keys).map_err(database_error)
        }
        Mutation::PutWaitingFile { address, version, key, before, after, forget_before } => {
            let file = (address, version, key);
            providers::put_waiting(transaction, file, *before, after, *forget_before)
                .map_err(database_error)
        }
        // The trigger counts each version. A search finds the text in the version itself.
        Mutation::KeepGrants { .. }
        | Mutation::KeepRevocations { .. }
        | Mutation::KeepSigningKeys { .. }
        | Mutation::KeepTrust { .. }
        | Mutation::CountVersion { .. }
        | Mutation::PutSearchText { .. } => Ok(()),
        Mutation::AddUpload { upload, forget_before, .. } => {
            execute("DELETE FROM uploads WHERE complete_until < ?1", &[forget_before])?;
            uploads::add(transaction, upload).map_err(database_error)
        }
        Mutation::DeleteUpload { id, .. } => {
            execute("DELETE FROM uploads WHERE id = ?1", &[&id.as_str()])
        }
        Mutation::CountDownloads { counts, deprecated, forget_before } => {
            usage::add(transaction, counts, deprecated, *forget_before).map_err(database_error)
        }
        Mutation::AddRefusedExchange { refused, forget_before } => {
            refused_exchanges::add(transaction, refused, *forget_before).map_err(database_error)
        }
        Mutation::PutKeyring { keyring, .. } => put_single(
            transaction,
            single::KEYRING,
            keyring.revision,
            &sealed_keyring::to_text(keyring),
        )
        .map_err(database_error),
        Mutation::AddNamespace(record) | Mutation::SetLimits { record, .. } => {
            namespaces::put(transaction, record).map_err(database_error)
        }
        Mutation::SetSources { record, .. } => {
            namespaces::put_sources(transaction, record).map_err(database_error)
        }
        Mutation::AddEvent { event, destinations, forget_before } => {
            outbox::forget(transaction, *forget_before)
                .and_then(|()| {
                    deliveries(event, destinations)
                        .try_for_each(|delivery| outbox::add(transaction, &delivery))
                })
                .map_err(database_error)
        }
        Mutation::RemoveDelivery(delivery) => {
            outbox::remove(transaction, delivery).map_err(database_error)
        }
        Mutation::PutSendingState { destination, after, .. } => {
            outbox::put_state(transaction, destination, after).map_err(database_error)
        }
        Mutation::AddWebhook(webhook) => {
            webhooks::add(transaction, webhook).map_err(database_error)
        }
        Mutation::RemoveWebhook { id, .. } => {
            let destination = Destination::Webhook(id.clone());
            execute("DELETE FROM sending WHERE destination = ?1", &[&destination.key()])?;
            execute("DELETE FROM webhooks WHERE id = ?1", &[id])
        }
        Mutation::AddServiceToken(token) => {
            service_tokens::add(transaction, token).map_err(database_error)
        }
        Mutation::ChangeServiceToken { id, after, .. } => {
            service_tokens::change(transaction, id, after).map_err(database_error)
        }
        Mutation::DeleteServiceToken(id) => {
            service_tokens::delete(transaction, id).map_err(database_error)
        }
        Mutation::RecordServiceTokenUse { id, day } => {
            service_tokens::record_use(transaction, id, *day).map_err(database_error)
        }
        Mutation::AddTrust(record) | Mutation::PutTrust { after: record, .. } => {
            trusts::put(transaction, record).map_err(database_error)
        }
        Mutation::RemoveTrust { name, .. } => {
            execute("DELETE FROM trusts WHERE name = ?1", &[&name.as_str()])
        }
        Mutation::AddHost(host) => {
            put_single(transaction, single::HOST, 1, host.as_str()).map_err(database_error)
        }
        Mutation::PutGrantLease { after, .. } => put_single(
            transaction,
            single::GRANT_LEASE,
            after.revision,
            &single::lease_to_text(after),
        )
        .map_err(database_error),
        Mutation::AppendAudit { link, after, .. } => {
            audit::append(transaction, link, after).map_err(database_error)
        }
    }
}

fn change_grants(
    transaction: &Transaction<'_>,
    principal: &Principal,
    change: &GrantsChange,
) -> rusqlite::Result<()> {
    let delete = |namespace: &GrantNamespace| {
        transaction
            .prepare_cached("DELETE FROM grants WHERE principal = ?1 AND namespace = ?2")?
            .execute(params![principal.as_str(), namespace.to_string()])
            .map(drop)
    };
    match change {
        GrantsChange::Create { grant, forget, reserves } => {
            forget.iter().try_for_each(delete)?;
            add_grant(transaction, grant, *reserves)
        }
        GrantsChange::Give { grants, forget } => {
            forget.iter().try_for_each(delete)?;
            grants.iter().try_for_each(|grant| match update_grant(transaction, grant)? {
                0 => add_grant(transaction, grant, false),
                _ => Ok(()),
            })
        }
        GrantsChange::Update(grant) => update_grant(transaction, grant).map(drop),
        GrantsChange::Delete(namespace) => delete(namespace),
    }
}

/// Changes a grant, and returns the number of changed rows. The other columns do not change, including
/// those of a newer program.
fn update_grant(transaction: &Transaction<'_>, grant: &Grant) -> rusqlite::Result<usize> {
    let sql = "UPDATE grants SET permissions = ?3, expires_at = ?4 \
         WHERE principal = ?1 AND namespace = ?2";
    transaction.prepare_cached(sql)?.execute(params![
        grant.principal.as_str(),
        grant.namespace.to_string(),
        grant.permissions.bits(),
        grant.expires_at
    ])
}

fn add_grant(transaction: &Transaction<'_>, grant: &Grant, reserves: bool) -> rusqlite::Result<()> {
    // No principal has the empty name, so such a row reserves none.
    let folded = if reserves { grant.principal.folded() } else { String::new() };
    transaction
        .prepare_cached(
            "INSERT INTO grants (principal, namespace, permissions, expires_at, created_by, created_at, folded) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            grant.principal.as_str(),
            grant.namespace.to_string(),
            grant.permissions.bits(),
            grant.expires_at,
            grant.created_by,
            grant.created_at,
            folded
        ])
        .map(drop)
}

/// Writes only the differences. Rows that are the same in both do not change.
fn change_revocations(
    transaction: &Transaction<'_>,
    before: &RevocationRecords,
    after: &RevocationRecords,
) -> rusqlite::Result<()> {
    let change = |old: &[(Json, i64)], new: &[(Json, i64)], delete: &str, insert: &str| {
        let gone = old.iter().filter(|entry| !new.contains(entry));
        for name in gone.filter_map(|(name, _)| name.as_str()) {
            transaction.prepare_cached(delete)?.execute([name])?;
        }
        for (name, at) in new.iter().filter(|entry| !old.contains(entry)) {
            transaction.prepare_cached(insert)?.execute(params![name.as_str(), at])?;
        }
        Ok(())
    };
    change(
        &before.tokens,
        &after.tokens,
        "DELETE FROM revoked_tokens WHERE jti = ?1",
        "INSERT INTO revoked_tokens (jti, keep_until) VALUES (?1, ?2)",
    )?;
    change(
        &before.principals,
        &after.principals,
        "DELETE FROM revoked_principals WHERE principal = ?1",
        "INSERT INTO revoked_principals (principal, revoked_at) VALUES (?1, ?2)",
    )
}

fn put_single(
    transaction: &Transaction<'_>,
    name: &str,
    revision: i64,
    record: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO registry_records (name, revision, record) VALUES (?1, ?2, ?3) \
             ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, record = excluded.record",
        )?
        .execute(params![name, revision, record])
        .map(drop)
}
