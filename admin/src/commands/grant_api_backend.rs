//! The grants that a file is applied to, through the API of a registry.
//!
//! The API has no lease. Each change has the tag of the grant that the plan read, so it overwrites no
//! change of others. `apply` compares again before it takes something away, and at its end.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use stile_core::grants::{Grant, GrantNamespace};
use stile_core::principal::Principal;
use stile_protocol::names::{Namespace, Permission, Permissions};
use stile_store::{Change as GrantChange, ExpiryChange, ListedGrants};

use super::Context;
use super::grant_backend::{GrantBackend, KnownNames, Made, differs};
use super::grant_client::{
    Answer, EntityTag, GrantClient, RIGHTS, RemoteGrant, RemoteTarget, needed,
};
use crate::error::CommandError;
use crate::grant_file::{Change, Owned, WantedGrant};
use crate::target::{ApiTarget, operators_only};

/// The grants of some namespaces in a registry.
#[derive(Debug)]
pub(super) struct ApiBackend<'a> {
    context: &'a Context,
    target: &'a ApiTarget,
    /// A client for each namespace of the file, which reads.
    readers: BTreeMap<Namespace, GrantClient>,
    /// A client for each namespace with a change, which may make the changes there.
    writers: OnceCell<BTreeMap<Namespace, GrantClient>>,
    /// The grants of the last list, with their tags.
    tags: RefCell<BTreeMap<(Principal, GrantNamespace), (Grant, EntityTag)>>,
}

impl<'a> ApiBackend<'a> {
    /// Creates the backend for the namespaces that a file owns.
    ///
    /// # Errors
    ///
    /// A refusal, if the file owns what only an operator changes, or if the caller may not change the
    /// grants of one of the namespaces.
    pub(super) async fn open(
        context: &'a Context,
        target: &'a ApiTarget,
        owned: &Owned,
    ) -> Result<Self, CommandError> {
        let mut readers = BTreeMap::new();
        // The right that the caller has on one namespace is first on the next one, so that a refused
        // exchange is rare.
        let mut rights = RIGHTS;
        for namespace in named(owned)? {
            let reader = GrantClient::with_one_of(context, target, &namespace, &rights).await?;
            rights.sort_by_key(|right| !reader.permissions().contains(*right));
            readers.insert(namespace, reader);
        }
        Ok(Self { context, target, readers, writers: OnceCell::new(), tags: RefCell::default() })
    }

    /// Returns whether the grants of a principal apply to the caller itself.
    fn is_own(&self, principal: &Principal) -> bool {
        self.readers
            .values()
            .filter_map(|reader| Principal::parse_stored(reader.caller()).ok())
            .any(|caller| caller == *principal || caller.aliases().contains(principal))
    }

    fn client<'c>(
        clients: Option<&'c BTreeMap<Namespace, GrantClient>>,
        namespace: &GrantNamespace,
    ) -> Result<&'c GrantClient, CommandError> {
        let client = match namespace {
            GrantNamespace::One(one) => clients.and_then(|clients| clients.get(one)),
            GrantNamespace::All => None,
        };
        client.ok_or_else(|| CommandError::failed(format!("no token for namespace `{namespace}`")))
    }

    async fn find(
        &self,
        target: &RemoteTarget,
    ) -> Result<Option<(Grant, EntityTag)>, CommandError> {
        let on = GrantNamespace::One(target.namespace.clone());
        Box::pin(Self::client(Some(&self.readers), &on)?.find(target)).await
    }

    /// Makes a grant in the state of the tag like the wanted one.
    async fn change(&self, tag: &EntityTag, wanted: &WantedGrant) -> Result<Made, CommandError> {
        let change = GrantChange {
            set: wanted.permissions,
            clear: less(Permission::ALL.into_iter().collect(), wanted.permissions),
            expires_at: wanted.expires_at.map_or(ExpiryChange::Never, ExpiryChange::At),
        };
        let target = RemoteTarget::new(wanted.principal.clone(), &wanted.namespace)?;
        let writer = Self::client(self.writers.get(), &wanted.namespace)?;
        Ok(match Box::pin(writer.update(&target, change, tag, false)).await? {
            Answer::Done(_) => Made::Done,
            Answer::Absent => deleted_meanwhile(),
            // A repeated request finds the change of the first one, whose answer was lost.
            Answer::Differs => match self.find(&target).await? {
                Some((grant, _)) if wanted.is(&grant, self.context.clock.now()) => Made::Done,
                Some((grant, _)) => Made::Conflict(differs(&grant)),
                None => deleted_meanwhile(),
            },
            Answer::Conflict(error) => Made::Conflict(error.message().to_owned()),
            Answer::Refused(error) => return Err(refused(error)),
        })
    }

    /// Returns the tag of a grant in this state, or what the last list had instead.
    fn tag(&self, expected: &Grant) -> Result<EntityTag, Option<Box<Grant>>> {
        let key = (expected.principal.clone(), expected.namespace.clone());
        match self.tags.borrow().get(&key) {
            Some((grant, tag)) if grant == expected => Ok(tag.clone()),
            Some((grant, _)) => Err(Some(Box::new(grant.clone()))),
            None => Err(None),
        }
    }
}

impl GrantBackend for ApiBackend<'_> {
    const EXCLUSIVE: bool = false;

    type Lease = ();

    async fn list(&self) -> Result<ListedGrants, CommandError> {
        let (mut tags, mut unreadable) = (BTreeMap::new(), Vec::new());
        for (namespace, reader) in &self.readers {
            let on = GrantNamespace::One(namespace.clone());
            for grant in Box::pin(reader.list(None, Some(&on))).await? {
                match grant {
                    RemoteGrant::Whole(grant, tag) => {
                        let key = (grant.principal.clone(), grant.namespace.clone());
                        tags.insert(key, (grant, tag));
                    }
                    RemoteGrant::Unreadable(one) => unreadable.push(one),
                    RemoteGrant::Own(_) => {
                        return Err(CommandError::refused(format!(
                            "the registry does not show the grants on `{namespace}` completely"
                        ))
                        .hint("you need `create_grant` or `delete_grant` on the namespace"));
                    }
                }
            }
        }
        let grants = tags.values().map(|(grant, _)| grant.clone()).collect();
        self.tags.replace(tags);
        Ok(ListedGrants { grants, unreadable })
    }

    async fn known_names(&self) -> Result<Option<KnownNames>, CommandError> {
        Ok(None)
    }

    fn check(&self, changes: &[Change]) -> Result<(), CommandError> {
        let of_many = |change: &&Change| {
            matches!(change.principal(), Principal::Account(_) | Principal::AwsGroup(_))
        };
        match changes.iter().find(of_many) {
            None => Ok(()),
            Some(change) => Err(operators_only(&format!(
                "changes the grant of `{}`, which is {}",
                change.principal(),
                match change.principal() {
                    Principal::Account(_) => "a whole account",
                    _ => "a group of AWS callers",
                }
            ))),
        }
    }

    fn warnings(&self, changes: &[Change]) -> Vec<String> {
        let takes = |change: &&Change| change.takes_right() && self.is_own(change.principal());
        let lost = changes.iter().filter(takes).map(Change::namespace);
        lost.map(|on| format!("the file takes your own right to change grants on `{on}`")).collect()
    }

    async fn prepare(&self, mut changes: Vec<Change>) -> Result<Vec<Change>, CommandError> {
        self.check(&changes)?;
        let mut scopes: BTreeMap<&Namespace, Permissions> = BTreeMap::new();
        for change in &changes {
            if let GrantNamespace::One(namespace) = change.namespace() {
                let scope = scopes.entry(namespace).or_default();
                *scope = scope.union(needed(change.before(), change.after()));
            }
        }
        let mut writers = BTreeMap::new();
        for (namespace, scope) in scopes {
            let writer = GrantClient::with(self.context, self.target, namespace, scope).await;
            let writer = writer.map_err(|error| error.context("nothing was changed"))?;
            writers.insert(namespace.clone(), writer);
        }
        let _only_once = self.writers.set(writers);
        // After a change that takes something from the caller, it may not make the others.
        let now = self.context.clock.now();
        changes.sort_by_key(|change| change.takes(now) && self.is_own(change.principal()));
        Ok(changes)
    }

    async fn create(&self, (): &mut (), wanted: &WantedGrant) -> Result<Made, CommandError> {
        let target = RemoteTarget::new(wanted.principal.clone(), &wanted.namespace)?;
        let writer = Self::client(self.writers.get(), &wanted.namespace)?;
        let creating = Box::pin(writer.create(&target, wanted.permissions, wanted.expires_at));
        let conflict = match creating.await?.0 {
            Answer::Done(_) => return Ok(Made::Done),
            Answer::Refused(error) => return Err(refused(error)),
            Answer::Conflict(error) => error,
            Answer::Absent | Answer::Differs => return Err(writer.unexpected("another answer")),
        };
        let now = self.context.clock.now();
        Ok(match self.find(&target).await? {
            Some((grant, _)) if wanted.is(&grant, now) => Made::Done,
            // The list can be without a grant that ended long ago.
            Some((grant, tag)) if grant.expires_at.is_some_and(|end| end <= now) => {
                return self.change(&tag, wanted).await;
            }
            Some((grant, _)) => Made::Conflict(differs(&grant)),
            None => Made::Conflict(conflict.message().to_owned()),
        })
    }

    async fn update(
        &self,
        (): &mut (),
        expected: &Grant,
        wanted: &WantedGrant,
    ) -> Result<Made, CommandError> {
        match self.tag(expected) {
            Ok(tag) => self.change(&tag, wanted).await,
            Err(other) => {
                Ok(other.map_or_else(deleted_meanwhile, |other| Made::Conflict(differs(&other))))
            }
        }
    }

    async fn delete(&self, (): &mut (), expected: &Grant) -> Result<Made, CommandError> {
        let tag = match self.tag(expected) {
            Ok(tag) => tag,
            Err(None) => return Ok(Made::Done),
            Err(Some(other)) => return Ok(Made::Conflict(differs(&other))),
        };
        let target = RemoteTarget::new(expected.principal.clone(), &expected.namespace)?;
        let writer = Self::client(self.writers.get(), &expected.namespace)?;
        Ok(match Box::pin(writer.delete(&target, &tag, false)).await? {
            Answer::Done(_) | Answer::Absent => Made::Done,
            Answer::Differs => match self.find(&target).await? {
                None => Made::Done,
                Some((grant, _)) => Made::Conflict(differs(&grant)),
            },
            Answer::Conflict(error) => Made::Conflict(error.message().to_owned()),
            Answer::Refused(error) => return Err(refused(error)),
        })
    }
}

/// Returns the namespaces that a file owns, or the refusal of a file that owns more than the API
/// shows.
fn named(owned: &Owned) -> Result<BTreeSet<Namespace>, CommandError> {
    let refused = || {
        operators_only("reads and changes every grant, or those on `*`").hint(
            "name the namespaces with `--namespace`, or run the command where the store is, with \
             `--data DIR` or `--table NAME`",
        )
    };
    let Owned::These(these) = owned else { return Err(refused()) };
    let one = |namespace: &GrantNamespace| match namespace {
        GrantNamespace::One(one) => Ok(one.clone()),
        GrantNamespace::All => Err(refused()),
    };
    these.iter().map(one).collect()
}

fn less(all: Permissions, some: Permissions) -> Permissions {
    some.iter().fold(all, |rest, permission| rest.without(permission))
}

/// Returns the error of a change that the caller may not make, or that the registry does not accept.
///
/// It stops the run: another change that takes access away can belong to this one.
fn refused(error: CommandError) -> CommandError {
    error.or_hint("change the file, or ask for the missing right; `grant plan` shows what is left")
}

fn deleted_meanwhile() -> Made {
    Made::Conflict("it was deleted in the meantime".to_owned())
}
