//! Commits mutations in one `TransactWriteItems`.

use super::attributes::{number, text};
use super::grants::{NEVER, pin_key};
use super::table::{Key, TTL, Write};
use super::{
    DynamoDb, audit, grants, namespaces, outbox, packages, providers, refused_exchanges,
    reservations, revocations, service_tokens, single, trusts, uploads, usage, webhooks,
};
use crate::StoreError;
use crate::records::model::Content;
use crate::records::mutation::{Mutation, Outcome};
use crate::records::outbox::deliveries;
use crate::records::retention::MARGIN;

/// The writes of one mutation, or the reason why it has none.
enum Rendered {
    Writes(Vec<Write>),
    /// The condition does not hold, according to the record that the mutation changes.
    Refused,
    /// A document would become larger than an item can be.
    TooLarge,
}

impl DynamoDb {
    /// Commits all of the mutations or none.
    pub(crate) async fn commit(&self, mutations: Vec<Mutation>) -> Result<Outcome, StoreError> {
        // The index of the mutation for each write.
        let (mut writes, mut owners) = (Vec::new(), Vec::new());
        for (at, mutation) in mutations.iter().enumerate() {
            match self.render(mutation).await? {
                Rendered::Writes(of_this) => {
                    owners.resize(owners.len() + of_this.len(), at);
                    writes.extend(of_this);
                }
                Rendered::Refused => return Ok(Outcome::Refused(at)),
                Rendered::TooLarge => return Ok(Outcome::TooLarge),
            }
        }
        Ok(match self.transact(writes).await? {
            Outcome::Refused(at) => Outcome::Refused(owners.get(at).copied().unwrap_or_default()),
            other => other,
        })
    }

    async fn render(&self, mutation: &Mutation) -> Result<Rendered, StoreError> {
        let writes = match mutation {
            Mutation::RecordSingleUse { digest, keep_until, .. } => {
                let key = Key::new(format!("proof {}", hex::encode(digest)), "claim");
                // The condition does not depend on time: a proof is recorded once, whatever a clock
                // says. It does not matter when the table deletes the record, because AWS rejects
                // the signature long before.
                let until = number(keep_until.saturating_add(MARGIN));
                vec![Write::put(key, [(TTL, until)]).only_if_absent()]
            }
            Mutation::PinFirst { principal, id } => {
                let pin = Write::update(pin_key(principal), "SET pin = if_not_exists(pin, :id)");
                let pin = pin.only_if("attribute_not_exists(pin) OR pin = :id OR pin = :never");
                vec![pin.value(":id", text(id.as_str())).value(":never", text(NEVER))]
            }
            Mutation::SetPin { principal, id } => {
                let wanted = id.as_ref().map_or(NEVER, |id| id.as_str());
                let pin = Write::put(pin_key(principal), [("pin", text(wanted))]);
                let pin = pin.only_if("attribute_not_exists(pin) OR pin = :pin");
                vec![pin.value(":pin", text(wanted))]
            }
            Mutation::ClearPin { principal } => {
                vec![Write::delete(pin_key(principal)).only_if("attribute_exists(pk)")]
            }
            Mutation::ChangeGrants { principal, before, change } => {
                match grants::writes(principal, before, change) {
                    Some(writes) => writes,
                    None => return Ok(Rendered::TooLarge),
                }
            }
            Mutation::KeepGrants { principal, before } => {
                vec![Write::check(grants::grants_key(principal)).only_if_revision(before.0)]
            }
            Mutation::KeepRevocations { before } => {
                vec![Write::check(revocations::key()).only_if_revision(before.0)]
            }
            Mutation::ChangeRevocations { before, after } => {
                match revocations::write(before.revision, after) {
                    Some(write) => vec![write],
                    None => return Ok(Rendered::TooLarge),
                }
            }
            Mutation::AddVersion { address, version, record } => {
                let content = &record.content;
                let add = packages::add_version(address, version, record);
                let (holder, object_version) = (content.sha256(), content.object_version());
                match content {
                    // Its files have waited for it, so nobody deletes them.
                    Content::Provider(_) => vec![add],
                    _ => vec![add, reservations::end(address, version, &holder, object_version)],
                }
            }
            Mutation::MoveArchive { address, version, sha256, object_version } => {
                let moved =
                    self.moved_archive(address, version, sha256, object_version.as_deref()).await?;
                match moved {
                    Some(write) => {
                        let object_version = object_version.as_deref();
                        vec![write, reservations::end(address, version, sha256, object_version)]
                    }
                    None => return Ok(Rendered::Refused),
                }
            }
            Mutation::ReplaceObject { address, version, before, after } => {
                match self.replaced_object(address, version, before, after).await? {
                    Some(write) => vec![write],
                    None => return Ok(Rendered::Refused),
                }
            }
            Mutation::ChangeLife { address, version, before, after } => {
                match self.changed_life(address, version, before, after).await? {
                    Some(write) => vec![write],
                    None => return Ok(Rendered::Refused),
                }
            }
            Mutation::PutSearchText { address, text } => {
                self.put_search_text(address, text).await?.into_iter().collect()
            }
            Mutation::PutPackage { address, before, package } => {
                match packages::put_package(address, *before, package) {
                    Some(writes) => writes.into(),
                    None => return Ok(Rendered::TooLarge),
                }
            }
            Mutation::CountVersion { namespace, bytes, is_new, quota } => {
                vec![namespaces::count_version(namespace, *bytes, *is_new, quota)]
            }
            Mutation::ReplaceRelease { address, version, before, after } => {
                match self.replaced_release(address, version, before, after).await? {
                    Some(write) => vec![write],
                    None => return Ok(Rendered::Refused),
                }
            }
            Mutation::PutSigningKeys { namespace, before, keys } => {
                match providers::put_keys(namespace, *before, keys) {
                    Some(write) => vec![write],
                    None => return Ok(Rendered::TooLarge),
                }
            }
            Mutation::KeepSigningKeys { namespace, before } => {
                vec![providers::keep_keys(namespace, *before)]
            }
            Mutation::PutWaitingFile { address, version, key, before, after, .. } => {
                providers::put_waiting((address, version, key), *before, after)
            }
            Mutation::AddUpload { upload, namespace, before, after, .. } => {
                let open = uploads::add_open(upload, namespace, *before, after);
                vec![uploads::add(upload), open]
            }
            Mutation::DeleteUpload { id, namespace } => {
                vec![Write::delete(uploads::key(id)), uploads::remove_open(id, namespace)]
            }
            Mutation::CountDownloads { counts, deprecated, .. } => {
                let counts = counts.iter().map(|(key, count)| usage::add(key, *count));
                counts.chain(deprecated.iter().map(usage::put_deprecated)).collect()
            }
            Mutation::AddRefusedExchange { refused, .. } => vec![refused_exchanges::add(refused)],
            Mutation::PutKeyring { before, keyring } => {
                vec![single::put_keyring(*before, keyring)]
            }
            Mutation::AddNamespace(record) => vec![namespaces::add(record)],
            Mutation::SetLimits { before, record, counted, usage } => {
                let set =
                    self.set_limits(before.as_ref(), record, counted.as_ref(), *usage).await?;
                match set {
                    Some(writes) => writes,
                    None => return Ok(Rendered::Refused),
                }
            }
            Mutation::SetSources { before, record } => {
                match self.set_sources(before.as_ref(), record).await? {
                    Some(write) => vec![write],
                    None => return Ok(Rendered::Refused),
                }
            }
            Mutation::AddEvent { event, destinations, .. } => {
                deliveries(event, destinations).map(|delivery| outbox::add(&delivery)).collect()
            }
            Mutation::RemoveDelivery(delivery) => vec![outbox::remove(delivery)],
            Mutation::PutSendingState { destination, before, after } => {
                vec![outbox::put_state(destination, *before, after)]
            }
            Mutation::AddWebhook(webhook) => vec![webhooks::add(webhook)],
            Mutation::RemoveWebhook { name, id } => webhooks::remove(name, id),
            Mutation::AddServiceToken(token) => vec![service_tokens::add(token)],
            Mutation::ChangeServiceToken { id, before, after } => {
                vec![service_tokens::change(id, before, after)]
            }
            Mutation::DeleteServiceToken(id) => vec![service_tokens::delete(id)],
            Mutation::RecordServiceTokenUse { id, day } => {
                vec![service_tokens::record_use(id, *day)]
            }
            Mutation::AddTrust(record) => vec![trusts::add(record)],
            Mutation::PutTrust { before, after } => vec![trusts::put(*before, after)],
            Mutation::RemoveTrust { name, id } => vec![trusts::remove(name, id)],
            Mutation::KeepTrust { name, id } => vec![trusts::keep(name, id)],
            Mutation::AddHost(host) => vec![single::add_host(host)],
            Mutation::PutGrantLease { before, after } => {
                vec![single::put_grant_lease(*before, after)]
            }
            Mutation::AppendAudit { before, link, after } => {
                vec![audit::put_head(before, after), audit::add(&after.chain, link)]
            }
        };
        Ok(Rendered::Writes(writes))
    }
}
