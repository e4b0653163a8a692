//! A cache in a Redis server that dies, hangs, refuses and forgets.
//!
//! Without the program `redis-server` the tests are ignored and listed as such; with
//! `LARDER_TEST_REQUIRE=redis` (or `all`) they fail instead.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod entries;
mod fake;
mod faults;
mod outage;
mod place;
mod refusals;
#[cfg(feature = "redis-tls")]
mod tls;
mod together;

use std::pin::Pin;
use std::process::ExitCode;

use larder_testkit::service::RedisServer;
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
        the_server_is_told_the_life_that_is_left,
        namespaces_do_not_meet,
        what_another_program_wrote_is_a_miss_and_gives_way,
        a_value_above_the_limit_is_refused_and_the_others_are_written,
        a_forgotten_script_is_loaded_again,
        all_calls_share_one_connection;
    faults:
        a_killed_server_fails_calls_in_time_and_is_found_again,
        a_stopped_server_fails_calls_in_time_and_keeps_their_order,
        killed_connections_are_opened_again_and_nothing_wrong_is_read,
        a_connection_that_ended_while_idle_is_not_noticed,
        a_connection_that_stays_silent_is_given_up,
        a_connection_lost_after_sending_leaves_the_effect_unknown,
        a_server_that_hangs_while_it_greets_fails_calls_in_time,
        a_tier_outlives_the_runtime_that_connected_it,
        a_tier_outlives_the_runtime_that_was_connecting_it,
        an_outage_is_told_once,
        a_memory_tier_serves_while_the_server_is_away;
    outage:
        callers_go_on_while_the_server_stands_still_and_it_catches_up_afterwards;
    refusals:
        every_refusal_has_its_effect_over_the_wire,
        a_wrong_login_is_told_at_once_and_not_shown,
        a_database_that_is_not_there_is_told_at_once,
        a_full_server_refuses_writes_and_keeps_what_it_has,
        a_replica_refuses_writes_and_answers_reads,
        a_user_without_leave_is_refused,
        a_busy_server_is_waited_for,
        a_cluster_is_refused;
    together:
        reads_that_wait_together_are_one_command,
        a_read_sees_what_was_written_before_it_however_many_read,
        a_read_that_waits_for_others_keeps_its_own_time_limit,
        a_caller_that_leaves_takes_no_other_with_it,
        reads_outlive_the_runtime_that_was_to_send_them;
};

#[cfg(feature = "redis-tls")]
const TLS_TESTS: &[(&str, Run)] = tests! {
    tls:
        a_server_with_a_good_certificate_is_used_and_found_again,
        a_server_that_is_somebody_else_is_not_used,
        plain_and_tls_do_not_mix;
};
#[cfg(not(feature = "redis-tls"))]
const TLS_TESTS: &[(&str, Run)] = &[];

fn main() -> ExitCode {
    let missing = RedisServer::missing();
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "redis"));
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
