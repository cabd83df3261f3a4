//! Cases that data cannot express: slow bodies, other processes, clocks that move, and stores that
//! are away.

mod bearer;
mod helper;
mod identity;
mod intake;
mod replay;
mod sts;

use std::pin::Pin;

use stile_tests::broker::{Backend, TestBroker};

/// A test that runs on one store.
pub(super) type Show = fn(Backend) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! shown {
    ($($room:ident: $($name:ident),+;)+) => {
        &[$($((stringify!($name), |backend| Box::pin($room::$name(backend)))),+),+]
    };
}

/// Every test of this kind, by the name that cases use.
pub(super) const SHOWN: &[(&str, Show)] = shown! {
    intake: a_body_is_never_taken_in_past_the_limit,
        a_body_that_never_ends_is_cut_off_and_others_are_served,
        headers_past_the_limit_are_refused, a_proxy_in_the_environment_is_not_used;
    replay: a_proof_that_is_sent_again_is_refused, a_replay_in_other_words_is_known,
        a_replay_in_another_process_costs_one_write,
        without_the_store_nothing_is_minted;
    sts: an_answer_longer_than_its_stated_length_is_rejected,
        an_sts_that_hangs_holds_one_region_and_no_other,
        an_sts_without_a_certificate_that_holds_is_not_asked;
    identity: a_pattern_written_by_hand_allows_nothing,
        a_row_that_cannot_be_read_leaves_the_others_good,
        without_the_table_a_known_caller_is_not_refused;
    bearer: a_megabyte_of_token_is_refused, every_bent_token_is_refused,
        a_token_under_a_dropped_key_is_refused,
        what_is_revoked_is_refused_everywhere, a_snapshot_older_than_five_minutes_is_not_used,
        a_grant_taken_away_ends_access_everywhere,
        an_authorizer_names_the_one_request, a_link_carries_no_token;
    helper: a_proof_is_never_sent_on, a_clock_that_is_off_is_corrected_once,
        credentials_come_from_wherever_aws_keeps_them,
        credentials_that_end_soon_are_loaded_again,
        a_cache_that_others_could_read_or_write_is_not_used,
        many_processes_mint_once, verbs_follow_the_protocol;
};

/// Makes a table unavailable, or available again. On AWS this affects all tables, because the test
/// cuts the connection.
fn without_table(test: &TestBroker, table: &str, away: bool) {
    match (test.backend(), away) {
        (Backend::Aws, true) => test.aws().proxy.cut(),
        (Backend::Aws, false) => test.aws().proxy.repair(),
        (Backend::Embedded, true) => database(test, &format!("ALTER TABLE {table} RENAME TO away")),
        (Backend::Embedded, false) => {
            database(test, &format!("ALTER TABLE away RENAME TO {table}"));
        }
    }
}

/// Runs a statement on the embedded store's database, as someone with access to the file could.
fn database(test: &TestBroker, statement: &str) {
    let database = rusqlite::Connection::open(test.data().join("stile.sqlite3")).unwrap();
    database.busy_timeout(stile_tests::time_limits::BACKSTOP).unwrap();
    database.execute_batch(statement).unwrap();
}
