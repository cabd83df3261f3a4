//! The rules of the versions of a provider: one record that grows. A file of a platform never changes,
//! and a new list of digests repeats every line of the one before.

use std::collections::BTreeMap;

use stile_core::audit::{self, Chain, Kept};
use stile_core::package::provider::{NamespaceKeys, NotIncluded, Platform, Release, ReleaseFile};
use stile_core::package::{Life, PackageAddress, SearchText, Version};

use super::model::{Content, VersionRecord};
use super::mutation::{Mutation, Outcome};
use super::outbox::KeptEvent;
use super::packages::MAX_VERSIONS;
use super::signing_keys::StoredKeys;
use super::{Records, package_document};
use crate::retry::Retry;
use crate::{NotReplaced, ProviderCompletion, ProviderManifest, Published, StoreError};

/// A version that a publisher completes.
#[derive(Debug)]
pub(crate) struct NewRelease<'a> {
    pub(crate) address: &'a PackageAddress,
    pub(crate) version: &'a Version,
    pub(crate) manifest: &'a ProviderManifest,
    /// The files that wait for the version. Each is at its place.
    pub(crate) verified: &'a BTreeMap<Platform, ReleaseFile>,
    /// The files of the published version that are not at their place any more.
    pub(crate) lost: &'a [ReleaseFile],
    pub(crate) published_by: String,
    pub(crate) token_id: String,
}

/// How a new list differs from a published version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReleaseChange {
    /// It is the same.
    Same,
    /// The version gets more files, or another signed list.
    Grows,
    /// The list lacks lines of these platforms.
    Stale(Vec<Platform>),
    /// The list has another digest for this platform.
    Different(Platform),
    /// The list does not replace the published one.
    NotReplaced(NotReplaced),
}

/// Compares a new list, which an active key signed, with a published version.
pub(crate) fn change_of(
    published: &Release,
    manifest: &ProviderManifest,
    keys: &NamespaceKeys,
    now: i64,
) -> ReleaseChange {
    match manifest.sums.includes(published) {
        Err(NotIncluded::Missing(platforms)) => return ReleaseChange::Stale(platforms),
        Err(NotIncluded::Different(platform)) => return ReleaseChange::Different(platform),
        Ok(()) => {}
    }
    if published.protocols != manifest.protocols {
        return ReleaseChange::NotReplaced(NotReplaced::Protocols);
    }
    if published.manifest.is_some() && published.manifest != manifest.manifest {
        return ReleaseChange::NotReplaced(NotReplaced::Manifest);
    }
    // A signature of the same list by the same key says nothing new, unless clients reject the old one.
    if published.sums.text == manifest.sums.text()
        && published.sums.key_id == manifest.key_id
        && (published.sums.signature == manifest.signature
            || keys.still_verifies(&published.sums, now))
    {
        return ReleaseChange::Same;
    }
    let has_more = manifest.sums.files().len() > published.files.len();
    if has_more || keys.may_replace(&published.sums, &manifest.signature, now) {
        ReleaseChange::Grows
    } else {
        ReleaseChange::NotReplaced(NotReplaced::Older)
    }
}

/// Returns the release of a record of a provider's version.
pub(crate) fn release_of(record: &VersionRecord) -> Result<&Release, StoreError> {
    match &record.content {
        Content::Provider(release) => Ok(release),
        Content::Archive(_) | Content::Source(_) | Content::Object(_) => Err(StoreError::corrupt(
            "the record of a provider's version has no files of a provider",
        )),
    }
}

impl Records {
    /// Returns one version, and the signing keys of its namespace, in one read.
    pub(crate) async fn version_and_keys(
        &self,
        address: &PackageAddress,
        version: &Version,
    ) -> Result<(Option<VersionRecord>, StoredKeys), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.version_and_keys(address, version).await,
            Self::DynamoDb(dynamodb) => dynamodb.version_and_keys(address, version).await,
        }
    }

    /// Adds a version of a provider, or lets it grow, and lists it, in one commit. `event` keeps the
    /// event of it, if there is a listener. `put_sums` puts the signed list to its place. It runs only if
    /// nothing refuses the version, because nobody deletes what a refused completion leaves there.
    pub(crate) async fn put_release(
        &self,
        new: &NewRelease<'_>,
        put_sums: impl Future<Output = Result<(), StoreError>> + Send,
        event: Option<KeptEvent>,
        kept: &Kept,
    ) -> Result<ProviderCompletion, StoreError> {
        let NewRelease { address, version, manifest, .. } = *new;
        let namespace = address.namespace();
        let mut put_sums = Some(Box::pin(put_sums));
        let mut retry = Retry::default();
        loop {
            let (existing, keys) = self.version_and_keys(address, version).await?;
            let before = existing.as_ref().map(release_of).transpose()?;
            let change = before.map(|before| change_of(before, manifest, &keys.keys, kept.at()));
            let sums = manifest.sums.text();
            let is_same = change == Some(ReleaseChange::Same);
            // A key that was retired since signs nothing new, and this is nothing new.
            let is_served =
                |before: &Release| keys.keys.for_download(&before.sums.key_id).is_some();
            if !(is_same && before.is_some_and(is_served))
                && let Err(error) = keys.keys.signer(sums, &manifest.signature, kept.at())
            {
                return Ok(ProviderCompletion::Signer(error));
            }
            match change {
                Some(ReleaseChange::Same) if new.lost.is_empty() => {
                    return Ok(ProviderCompletion::Published(Published::Same));
                }
                Some(ReleaseChange::Stale(platforms)) => {
                    return Ok(ProviderCompletion::Stale(platforms));
                }
                Some(ReleaseChange::Different(platform)) => {
                    return Ok(ProviderCompletion::Different(platform));
                }
                Some(ReleaseChange::NotReplaced(reason)) => {
                    return Ok(ProviderCompletion::NotReplaced(reason));
                }
                Some(ReleaseChange::Same | ReleaseChange::Grows) | None => {}
            }
            let mut release = match joined(before, new) {
                Ok(release) => release,
                Err(missing) => {
                    let of = address.provider().map(|provider| &provider.provider_type);
                    let name = |platform| {
                        Some(stile_core::package::provider::zip_name(of?, version, platform))
                    };
                    return Ok(ProviderCompletion::Missing(
                        missing.iter().filter_map(name).collect(),
                    ));
                }
            };
            // Only the place of files can differ, and the published signature stays.
            if let Some(before) = before.filter(|_| is_same) {
                release.sums = before.sums.clone();
                release.manifest.clone_from(&before.manifest);
            }
            // A file of a folder is at its place again, and its record is as it was.
            if before == Some(&release) {
                return Ok(ProviderCompletion::Published(Published::Same));
            }
            let added = release.bytes().saturating_sub(before.map_or(0, Release::bytes));
            let record = record(existing.as_ref(), release, new, kept.at());
            let (package, quota) = self.package_and_quota(address).await?;
            let quota = quota.filter(|_| !is_same);
            let mut package = package.unwrap_or_else(|| package_document::empty(address));
            let is_new = existing.is_none();
            let full = is_new && package.versions.len() >= MAX_VERSIONS;
            let exceeded = quota.and_then(|quota| quota.exceeded(added, is_new));
            if let Some(exceeded) = exceeded {
                return Ok(ProviderCompletion::Published(Published::OverQuota(exceeded)));
            }
            if full {
                return Ok(ProviderCompletion::Published(Published::Full));
            }
            let revision = package.revision;
            package.add(address, version, record.published_at);
            package.describe(address, version, &record, &keys.distrusted());
            package.set_warnings(address);
            let mut mutations = vec![match (&existing, &record.content) {
                (Some(existing), Content::Provider(after)) => Mutation::ReplaceRelease {
                    address: address.clone(),
                    version: version.clone(),
                    before: release_of(existing)?.clone(),
                    after: after.clone(),
                },
                _ => Mutation::AddVersion {
                    address: address.clone(),
                    version: version.clone(),
                    record,
                },
            }];
            mutations.push(Mutation::KeepSigningKeys {
                namespace: namespace.clone(),
                before: keys.revision,
            });
            mutations.push(Mutation::PutPackage {
                address: address.clone(),
                before: revision,
                package,
            });
            mutations.extend(quota.map(|quota| Mutation::CountVersion {
                namespace: namespace.clone(),
                bytes: added,
                is_new,
                quota,
            }));
            // Lost files that are there again are no news.
            let event = event.iter().filter(|_| !is_same);
            mutations.extend(event.clone().filter_map(KeptEvent::mutation));
            let (outcome, published) = if is_new {
                (audit::Outcome::Created, Published::Created)
            } else {
                (audit::Outcome::Changed, Published::Replaced)
            };
            // The published signature stays, so another one of the same list goes nowhere.
            let has_sums =
                !is_same || before.is_some_and(|it| it.sums.signature == manifest.signature);
            if has_sums && let Some(put_sums) = put_sums.take() {
                put_sums.await?;
            }
            let chain = Chain::from(namespace);
            match self.commit_audited(&chain, mutations, kept, outcome).await? {
                Outcome::Done => {
                    event.for_each(KeptEvent::report_dropped);
                    return Ok(ProviderCompletion::Published(published));
                }
                Outcome::TooLarge => return Ok(ProviderCompletion::Published(Published::Full)),
                // Another writer changed the version, its package, the keys or the usage.
                Outcome::Refused(_) | Outcome::Conflict => retry.wait().await?,
            }
        }
    }
}

/// Returns the release of the new list.
///
/// # Errors
///
/// The platforms whose file is neither published nor verified.
fn joined(before: Option<&Release>, new: &NewRelease<'_>) -> Result<Release, Vec<Platform>> {
    let mut files = before.map(|before| before.files.clone()).unwrap_or_default();
    let mut missing = Vec::new();
    for (platform, sha256) in new.manifest.sums.files() {
        if files.get(platform).is_some_and(|file| !new.lost.contains(file)) {
            continue;
        }
        let Some(file) = new.verified.get(platform).filter(|file| file.sha256 == *sha256) else {
            missing.push(platform.clone());
            continue;
        };
        // A published file keeps everything but its place, which is where the same bytes are again.
        let file = match files.get(platform) {
            Some(lost) => {
                ReleaseFile { object_version: file.object_version.clone(), ..lost.clone() }
            }
            None => file.clone(),
        };
        files.insert(platform.clone(), file);
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    let (protocols, manifest) = (new.manifest.protocols.clone(), new.manifest.manifest.clone());
    let release = Release::new(protocols, files, new.manifest.signed_sums(), manifest);
    Ok(match before {
        Some(before) => release.replacing(before),
        None => release,
    })
}

/// Returns the record of a version that grows, or of a new one.
fn record(
    existing: Option<&VersionRecord>,
    release: Release,
    new: &NewRelease<'_>,
    now: i64,
) -> VersionRecord {
    let bytes = release.bytes();
    let content = Content::Provider(release);
    match existing {
        Some(existing) => VersionRecord { content, bytes, ..existing.clone() },
        None => VersionRecord {
            content,
            bytes,
            published_by: new.published_by.clone(),
            published_at: now,
            token_id: Some(new.token_id.clone()),
            claimed: new.manifest.claimed.clone(),
            life: Life::default(),
            search: SearchText::default(),
        },
    }
}
