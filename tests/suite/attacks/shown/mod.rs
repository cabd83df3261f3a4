//! What cannot be written as data: bodies that come slowly, other processes, clocks that go on, stores that are away.

mod intake;
mod replay;

use std::pin::Pin;

use stile_tests::test_broker::{Backend, TestBroker};

/// A test that runs on a store.
pub(super) type Show = fn(Backend) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! shown {
    ($($room:ident: $($name:ident),+;)+) => {
        &[$($((stringify!($name), |backend| Box::pin($room::$name(backend)))),+),+]
    };
}

/// Every one, by the name that cases call it.
pub(super) const SHOWN: &[(&str, Show)] = shown! {
    intake: a_body_is_never_taken_in_past_the_limit, a_body_that_never_ends_is_cut_off_and_others_are_served,
        headers_past_the_limit_are_refused, a_proxy_in_the_environment_is_not_used;
    replay: a_proof_that_is_sent_again_is_refused, a_replay_in_other_words_is_known, a_replay_in_another_process_costs_one_write,
        without_the_store_nothing_is_minted;
};

/// Takes a table away from the store and puts it back: all of them on AWS, where the line is cut.
fn without_table(test: &TestBroker, table: &str, away: bool) {
    match (test.backend(), away) {
        (Backend::Aws, true) => test.aws().meter.cut(),
        (Backend::Aws, false) => test.aws().meter.mend(),
        (Backend::Embedded, true) => database(test, &format!("ALTER TABLE {table} RENAME TO away")),
        (Backend::Embedded, false) => database(test, &format!("ALTER TABLE away RENAME TO {table}")),
    }
}

/// Does that to the embedded store's database, as somebody would who has the file.
fn database(test: &TestBroker, statement: &str) {
    let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    database.execute_batch(statement).unwrap();
}
