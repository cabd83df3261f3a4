//! The rules of kept audit events: a change and its event are one commit, and the events of a chain
//! have no gap.

use std::sync::Arc;
use std::time::Duration;

use stile_core::audit::{self, Chain, Head, Kept, StoredLink, link};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Records;
use super::mutation::{Mutation, Outcome};
use crate::retry::Retry;
use crate::{StoreError, StoreErrorKind};

/// The number of locks for the turns of one process. Two chains can share one.
const TURNS: usize = 64;

/// The longest wait for a turn. A writer then goes on without one, so a store that does not answer
/// costs each writer one deadline, and not one for each writer before it.
const LONGEST_TURN: Duration = Duration::from_secs(2);

/// What became of a commit with an event.
enum Appended {
    /// The backend answered it.
    Yes(Outcome),
    /// The chain takes no event, for this reason, and nothing was changed.
    Blocked(Chain, StoreError),
}

/// The most strays that a page names. A chain with one of them is damaged already.
pub(super) const STRAYS: usize = 100;

/// A page of stored events, in order.
///
/// The next page is the one after the number of the last event. A page without an event is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// The events, each with a number above that of the one before it. Nobody has verified them.
    pub links: Vec<StoredLink>,
    /// The keys of rows that are no events, because no writer makes such a key: each is a
    /// [`Fault::Stray`](stile_core::audit::Fault::Stray). The page after 0 has also those before the
    /// first event. A page names 100 at most.
    pub strays: Vec<String>,
}

/// Lets the writers of one process append to a chain one after the other, so that they do not make
/// each other try again. Writers of several processes still can.
#[derive(Clone)]
pub(crate) struct ChainTurns(Arc<[Arc<Mutex<()>>; TURNS]>);

impl Default for ChainTurns {
    fn default() -> Self {
        Self(Arc::new(std::array::from_fn(|_| Arc::default())))
    }
}

impl ChainTurns {
    /// Waits for the turn of a chain. `None` if that took too long.
    async fn take(&self, chain: &Chain, longest: Duration) -> Option<OwnedMutexGuard<()>> {
        let [first, ..] = Head::empty(chain.clone()).hash;
        let turn = Arc::clone(self.0.get(usize::from(first) % TURNS)?);
        tokio::time::timeout(longest, turn.lock_owned()).await.ok()
    }
}

impl Records {
    /// Commits all of the mutations, and appends their event to the chain. It does all or nothing.
    ///
    /// It tries again if only another event of the chain was faster, or after a conflict with another
    /// writer. Every other result is for the caller, as of [`Records::commit`].
    pub(crate) async fn commit_audited(
        &self,
        chain: &Chain,
        mutations: Vec<Mutation>,
        kept: &Kept,
        outcome: audit::Outcome,
    ) -> Result<Outcome, StoreError> {
        self.commit_audited_in(std::slice::from_ref(chain), mutations, kept, outcome).await
    }

    /// Commits all of the mutations, and appends their event to each of several chains, in the same way.
    pub(crate) async fn commit_audited_in(
        &self,
        chains: &[Chain],
        mutations: Vec<Mutation>,
        kept: &Kept,
        outcome: audit::Outcome,
    ) -> Result<Outcome, StoreError> {
        match self.append(chains, mutations, kept, outcome).await? {
            Appended::Yes(done) => Ok(done),
            Appended::Blocked(_, error) => Err(error),
        }
    }

    /// Commits mutations that take access away, with their event in the chain of operators. If that
    /// chain takes no event, it commits them without one, and raises an alarm.
    ///
    /// The attack: a stolen function writes one row of the chain, so that nobody can revoke its tokens.
    pub(crate) async fn commit_revocation(
        &self,
        mutations: Vec<Mutation>,
        kept: &Kept,
        outcome: audit::Outcome,
    ) -> Result<Outcome, StoreError> {
        self.commit_revocation_in(&[Chain::Operator], mutations, kept, outcome).await
    }

    /// Commits mutations that take access away, with their event in each of several chains, in the same
    /// way.
    pub(crate) async fn commit_revocation_in(
        &self,
        chains: &[Chain],
        mutations: Vec<Mutation>,
        kept: &Kept,
        outcome: audit::Outcome,
    ) -> Result<Outcome, StoreError> {
        match self.append(chains, mutations.clone(), kept, outcome).await? {
            Appended::Yes(done) => Ok(done),
            Appended::Blocked(chain, cause) => {
                let done = self.commit_with_retries(mutations).await?;
                if done == Outcome::Done {
                    alarm_about(&chain, &cause);
                }
                Ok(done)
            }
        }
    }

    async fn append(
        &self,
        chains: &[Chain],
        mutations: Vec<Mutation>,
        kept: &Kept,
        outcome: audit::Outcome,
    ) -> Result<Appended, StoreError> {
        // One turn is enough to be fair. Two that share a lock would wait for each other.
        let _turn = match chains.first() {
            Some(chain) => self.chain_turns().take(chain, LONGEST_TURN).await,
            None => None,
        };
        let first = mutations.len();
        let mut refused: Option<Head> = None;
        let mut retry = Retry::default();
        loop {
            let (mut all, mut heads) = (mutations.clone(), Vec::with_capacity(chains.len()));
            for chain in chains {
                let before = match self.audit_head(chain).await {
                    Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                        return Ok(Appended::Blocked(chain.clone(), error));
                    }
                    head => head?,
                };
                if refused.as_ref() == Some(&before) {
                    let cause = StoreError::corrupt(format!(
                        "the chain of audit events `{chain}` has an event after its head, number {}, so nothing was changed; hint: run `stile-admin audit verify`",
                        before.seq
                    ));
                    return Ok(Appended::Blocked(chain.clone(), cause));
                }
                let (link, after) = link(&before, kept, outcome);
                all.push(Mutation::AppendAudit { before: before.clone(), link, after });
                heads.push(before);
            }
            match self.commit(all).await? {
                Outcome::Refused(at) if at >= first => {
                    refused = heads.into_iter().nth(at.saturating_sub(first));
                }
                Outcome::Conflict => {}
                other => return Ok(Appended::Yes(other)),
            }
            // The head can also move each time, because an attacker moves it.
            if let Err(busy) = retry.wait().await {
                let chain = chains.first().cloned().unwrap_or(Chain::Operator);
                return Ok(Appended::Blocked(chain, busy));
            }
        }
    }

    /// Returns the heads of all chains that have events, in order of chain.
    pub(crate) async fn audit_heads(&self) -> Result<Vec<Head>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.audit_heads().await,
            Self::DynamoDb(dynamodb) => dynamodb.audit_heads().await,
        }
    }

    /// Returns at most `limit` events of a chain, in order, from the first one after `after` on, and
    /// the rows among them that are no events.
    pub(crate) async fn audit_page(
        &self,
        chain: &Chain,
        after: u64,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.audit_page(chain, after, limit).await,
            Self::DynamoDb(dynamodb) => dynamodb.audit_page(chain, after, limit).await,
        }
    }

    /// Returns at most `limit` events of a chain, the latest first, from the last one before `before`
    /// on.
    pub(crate) async fn audit_page_before(
        &self,
        chain: &Chain,
        before: u64,
        limit: usize,
    ) -> Result<Vec<StoredLink>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.audit_page_before(chain, before, limit).await,
            Self::DynamoDb(dynamodb) => dynamodb.audit_page_before(chain, before, limit).await,
        }
    }

    async fn audit_head(&self, chain: &Chain) -> Result<Head, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.audit_head(chain).await,
            Self::DynamoDb(dynamodb) => dynamodb.audit_head(chain).await,
        }
    }

    const fn chain_turns(&self) -> &ChainTurns {
        match self {
            Self::Sqlite(sqlite) => sqlite.chain_turns(),
            Self::DynamoDb(dynamodb) => dynamodb.chain_turns(),
        }
    }
}

/// Returns the error for a head that cannot be read. Without a head, nobody knows which event is next,
/// so no change of the chain takes effect.
pub(super) fn unreadable_head(chain: &str) -> StoreError {
    StoreError::corrupt(format!(
        "cannot read the head of the audit events of `{chain}`; hint: run `stile-admin audit verify`"
    ))
}

/// Raises the alarm that a change has no event. `stile-admin` prints it, too.
pub(super) fn alarm_about(chain: &Chain, cause: &StoreError) {
    tracing::error!(
        alarm = "audit_chain_damaged",
        %chain,
        %cause,
        "this change has no event in the store, because a chain of audit events is damaged; hint: run `stile-admin audit verify`"
    );
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use stile_core::audit::{Event, Fault, Kind, Verifier};
    use stile_protocol::audience::Audience;

    use super::*;
    use crate::EmbeddedDeadlines;
    use crate::records::Sqlite;

    fn acme() -> Chain {
        Chain::parse_stored("acme").unwrap()
    }

    fn kept() -> Kept {
        Kept::new(&Event::new(Kind::Namespace), 1_700_000_000)
    }

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            Sqlite::init(&folder.database(), EmbeddedDeadlines::default()).unwrap();
            folder
        }

        fn database(&self) -> std::path::PathBuf {
            self.0.path().join("stile.sqlite3")
        }

        /// Opens the database as another process does.
        fn open(&self) -> Records {
            let opened = Sqlite::open(&self.database(), EmbeddedDeadlines::default());
            Records::Sqlite(opened.unwrap())
        }

        fn by_hand(&self, sql: &str) {
            rusqlite::Connection::open(self.database()).unwrap().execute_batch(sql).unwrap();
        }
    }

    async fn append(records: &Records, mutations: Vec<Mutation>) -> Result<Outcome, StoreError> {
        records.commit_audited(&acme(), mutations, &kept(), audit::Outcome::Created).await
    }

    async fn faults(records: &Records) -> Vec<Fault> {
        let mut verifier = Verifier::after(Head::empty(acme()));
        for head in records.audit_heads().await.unwrap() {
            verifier.expect(head.seq, head.hash);
        }
        let AuditPage { links, strays } = records.audit_page(&acme(), 0, 1000).await.unwrap();
        let mut faults: Vec<_> = strays.into_iter().map(|key| Fault::Stray { key }).collect();
        faults.extend(links.iter().flat_map(|link| verifier.check(link)));
        faults.extend(verifier.finish());
        faults
    }

    #[tokio::test]
    async fn many_writers_of_several_processes_make_one_chain_without_a_gap() {
        let folder = Folder::new();
        let processes = [folder.open(), folder.open(), folder.open()];
        let all = processes.iter().flat_map(|records| (0..7).map(|_| append(records, vec![])));
        for done in join_all(all).await {
            assert_eq!(done.unwrap(), Outcome::Done);
        }
        let records = &processes[0];
        let [head] = &records.audit_heads().await.unwrap()[..] else { panic!("one chain") };
        assert_eq!((head.chain.clone(), head.seq), (acme(), 21));
        assert_eq!(faults(records).await, []);
        let seqs = |links: Vec<StoredLink>| links.iter().map(|link| link.seq).collect::<Vec<_>>();
        assert_eq!(seqs(records.audit_page(&acme(), 5, 3).await.unwrap().links), [6, 7, 8]);
        let before = records.audit_page_before(&acme(), u64::MAX, 2).await.unwrap();
        assert_eq!(seqs(before), [21, 20]);
        assert_eq!(seqs(records.audit_page_before(&acme(), 2, 5).await.unwrap()), [1]);
        assert_eq!(records.audit_page(&Chain::Operator, 0, 5).await.unwrap().links, []);
    }

    #[tokio::test]
    async fn a_change_that_is_refused_has_no_event() {
        let folder = Folder::new();
        let records = folder.open();
        let host = || Mutation::AddHost(Audience::parse("registry.example.com").unwrap());
        assert_eq!(append(&records, vec![host()]).await.unwrap(), Outcome::Done);
        assert_eq!(append(&records, vec![host()]).await.unwrap(), Outcome::Refused(0));
        assert_eq!(records.audit_heads().await.unwrap()[0].seq, 1);
    }

    #[tokio::test]
    async fn a_change_is_refused_while_its_chain_is_damaged() {
        let folder = Folder::new();
        let records = folder.open();
        append(&records, vec![]).await.unwrap();
        folder.by_hand("INSERT INTO audit_events VALUES ('acme', 2, 1, '{}', x'00')");
        let error = append(&records, vec![]).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        assert_eq!(faults(&records).await, [Fault::Unreadable { seq: 2 }]);
        folder.by_hand("DELETE FROM audit_events WHERE seq = 2");
        append(&records, vec![]).await.unwrap();
        folder.by_hand("UPDATE audit_heads SET hash = x'00'");
        let error = append(&records, vec![]).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    }

    #[tokio::test]
    async fn a_row_before_the_first_event_is_a_fault_and_in_no_list() {
        let folder = Folder::new();
        let records = folder.open();
        append(&records, vec![]).await.unwrap();
        folder.by_hand(
            "INSERT INTO audit_events SELECT chain, 0, segment, body, hash FROM audit_events;
             INSERT INTO audit_events SELECT chain, -9223372036854775807 - 1, segment, body, hash \
             FROM audit_events WHERE seq = 1",
        );
        let stray = |key: &str| Fault::Stray { key: key.to_owned() };
        assert_eq!(faults(&records).await, [stray("-9223372036854775808"), stray("0")]);
        let listed = records.audit_page_before(&acme(), u64::MAX, 10).await.unwrap();
        assert_eq!(listed.iter().map(|link| link.seq).collect::<Vec<_>>(), [1]);
        let rest = records.audit_page(&acme(), 1, 10).await.unwrap();
        assert_eq!(rest, AuditPage { links: vec![], strays: vec![] });
    }

    #[tokio::test]
    async fn a_writer_whose_turn_does_not_come_goes_on_without_it() {
        let turns = ChainTurns::default();
        let at_once = Duration::ZERO;
        let held = turns.take(&acme(), LONGEST_TURN).await;
        assert!(held.is_some() && turns.take(&Chain::Operator, at_once).await.is_some());
        assert!(turns.take(&acme(), at_once).await.is_none());
        drop(held);
        assert!(turns.take(&acme(), at_once).await.is_some());
    }
}
