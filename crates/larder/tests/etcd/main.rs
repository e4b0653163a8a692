//! A consensus store in an etcd server that dies, hangs and refuses.
//!
//! Without etcd the tests are ignored and listed as such; with `LARDER_TEST_REQUIRE=etcd` (or `all`) they
//! fail instead.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod batches;
mod cluster;
mod fake;
mod faults;
#[cfg(feature = "etcd-tls")]
mod identity;
mod place;
mod quota;
mod reads;
mod refusals;
#[cfg(feature = "etcd-tls")]
mod tls;
mod unsound;

use std::pin::Pin;
use std::process::ExitCode;

use larder_testkit::service::EtcdServer;
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
    batches:
        calls_that_wait_go_together_and_each_is_judged_by_itself,
        a_server_that_takes_less_gets_less;
    faults:
        a_killed_server_fails_calls_in_time_and_is_found_again,
        a_stopped_server_fails_calls_in_time,
        an_answer_that_is_lost_leaves_the_outcome_unknown,
        what_never_left_did_not_happen,
        another_member_is_asked_when_one_is_away_or_silent,
        a_store_outlives_the_runtime_that_connected_it;
    quota:
        a_used_up_quota_is_told_as_it_is,
        whoever_uses_up_the_quota_may_have_been_carried_out;
    reads:
        a_long_scan_is_one_slice_while_others_write_truncate_and_compact,
        large_heads_are_read_while_others_truncate,
        many_keys_are_listed_page_by_page,
        changes_of_other_processes_are_heard_of_and_restarts_outlived,
        prefixes_do_not_meet_and_are_dropped_alone;
    refusals:
        every_refusal_has_its_effect_over_the_wire,
        a_member_that_is_not_fit_is_passed_over,
        keys_of_another_release_are_refused_and_left_alone,
        a_wrong_login_is_told_at_once_and_not_shown;
    cluster:
        what_was_acknowledged_survives_each_leader,
        a_member_without_the_others_answers_later_and_nothing_old,
        who_stood_still_does_not_answer_with_what_was;
    unsound:
        a_look_and_then_a_write_is_found_out;
};

#[cfg(feature = "etcd-tls")]
const TLS_TESTS: &[(&str, Run)] = tests! {
    identity:
        a_server_that_wants_a_certificate_is_shown_ours,
        whoever_has_not_the_right_certificate_is_not_let_in,
        a_certificate_that_is_of_no_use_is_named;
    tls:
        a_server_with_a_good_certificate_is_used_and_found_again,
        a_server_that_is_somebody_else_is_not_used,
        plain_and_tls_do_not_mix,
        a_server_that_is_silent_fails_calls_in_time;
};
#[cfg(not(feature = "etcd-tls"))]
const TLS_TESTS: &[(&str, Run)] = &[];

fn main() -> ExitCode {
    let missing = EtcdServer::missing();
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "etcd"));
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
