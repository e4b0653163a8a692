//! A cache, a bus and a consensus store in a PostgreSQL server that dies, hangs and refuses.
//!
//! Without the programs of the server the tests are ignored and listed as such; with
//! `LARDER_TEST_REQUIRE=postgres` (or `all`) they fail instead.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod bus;
mod entries;
#[path = "../support/events.rs"]
mod events;
mod faults;
#[cfg(feature = "postgres-tls")]
mod identity;
mod lease;
mod place;
mod refusals;
mod schedules;
mod standbys;
#[cfg(feature = "postgres-tls")]
mod tls;
mod unsound;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::OnceLock;

use events::Events;
use larder_testkit::service::PostgresServer;
use libtest_mimic::{Arguments, Failed, Trial};

type Run = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! tests {
    ($($room:ident: $($name:ident),+ $(,)?;)+) => {
        &[$($((
            concat!(stringify!($room), "::", stringify!($name)),
            (|| Box::pin($room::$name())) as Run,
        )),+),+]
    };
}

const TESTS: &[(&str, Run)] = tests! {
    entries:
        what_has_expired_is_deleted_in_the_background,
        schemas_do_not_meet,
        a_key_that_is_written_twice_at_once_ends_with_the_last,
        batches_in_opposite_orders_do_not_stop_one_another,
        times_beyond_the_range_of_the_server_are_kept,
        a_version_that_no_clock_gives_is_a_miss_and_can_be_replaced,
        a_value_above_the_limit_is_refused_and_the_others_are_written,
        there_are_no_more_connections_than_were_allowed;
    faults:
        a_killed_server_fails_calls_in_time_and_is_found_again,
        a_stopped_server_fails_calls_in_time,
        a_silent_server_fails_calls_in_time_and_keeps_no_place,
        terminated_connections_are_opened_again_and_nothing_wrong_is_read,
        an_answer_that_nobody_waits_for_reaches_nobody_else,
        a_lock_that_somebody_holds_is_waited_for_in_time,
        a_tier_outlives_the_runtime_that_connected_it,
        a_server_that_is_gone_leaves_no_shared_memory;
    refusals:
        every_refusal_has_its_effect_over_the_wire,
        a_wrong_login_is_told_at_once_and_not_shown,
        a_user_without_rights_is_refused,
        a_table_of_another_release_is_refused_and_left_alone,
        a_standby_is_refused,
        those_who_open_at_once_make_the_tables_once,
        a_consensus_that_may_lose_what_it_committed_is_refused;
    schedules:
        two_writers_with_gaps_do_not_both_win,
        two_initialisers_do_not_both_win,
        a_writer_that_stood_still_makes_nothing_again_that_was_truncated,
        what_is_not_committed_is_not_seen,
        a_batch_is_judged_key_by_key,
        two_truncations_count_each_version_once,
        a_truncation_goes_by_the_head_that_is_committed,
        truncations_and_scans_are_judged_key_by_key,
        batches_of_truncations_in_opposite_orders_do_not_stop_one_another;
    bus:
        a_subscription_ends_with_its_connection_and_another_one_can_be_had,
        a_server_that_is_away_or_stands_still_fails_calls_in_time,
        a_subscription_that_is_dropped_leaves_no_connection,
        what_others_notify_there_ends_the_subscription;
    lease:
        one_holds_a_lease_at_a_time,
        processes_that_share_a_tier_load_a_key_once;
    standbys:
        what_a_standby_was_not_waited_for_is_not_acknowledged,
        a_standby_that_is_away_leaves_the_outcome_unknown,
        a_warning_that_nobody_knows_leaves_the_outcome_unknown,
        an_operator_who_stops_waiting_for_standbys_is_noticed,
        a_standby_that_is_left_behind_is_warned_about,
        an_operator_who_turns_synchronous_commit_off_takes_nothing_from_us,
        an_operator_who_turns_fsync_off_is_noticed;
    unsound:
        a_statement_that_looks_and_then_inserts_is_found_out;
};

#[cfg(feature = "postgres-tls")]
const TLS_TESTS: &[(&str, Run)] = tests! {
    identity:
        a_server_that_wants_a_certificate_is_shown_ours,
        whoever_has_not_the_right_certificate_is_not_let_in,
        a_certificate_that_is_of_no_use_is_named;
    tls:
        a_server_with_a_good_certificate_is_used_by_all_and_found_again,
        a_server_that_is_somebody_else_is_not_used,
        a_server_that_is_somebody_else_is_told_neither_user_nor_password,
        a_server_without_tls_is_refused_when_tls_was_asked_for,
        whoever_says_that_there_is_no_tls_hears_nothing_more,
        what_is_said_in_the_clear_is_not_taken_for_what_is_protected,
        a_server_that_is_silent_about_tls_fails_calls_in_time,
        a_login_does_not_pass_through_somebody_with_a_good_certificate;
};
#[cfg(not(feature = "postgres-tls"))]
const TLS_TESTS: &[(&str, Run)] = &[];

/// What operators are told of all servers.
fn events() -> &'static Events {
    static EVENTS: OnceLock<Events> = OnceLock::new();
    EVENTS.get_or_init(Events::default)
}

fn main() -> ExitCode {
    tracing::subscriber::set_global_default(events().clone()).unwrap();
    let missing = PostgresServer::missing();
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "postgres"));
    let trials = TESTS.iter().chain(TLS_TESTS).map(|(name, test)| {
        let missing = missing.clone();
        let is_missing = missing.is_some();
        let run = move || {
            if let Some(why) = missing {
                return Err(Failed::from(why));
            }
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2).enable_all().build()?.block_on(test());
            Ok(())
        };
        Trial::test(*name, run).with_ignored_flag(is_missing && !required)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
