//! A consensus store in an S3 endpoint that fails, loses replies and is killed.
//!
//! The endpoint is part of the test kit: nothing has to be installed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a set-up that fails is a failed test, and a process that cannot serve says so"
)]

mod endpoint;
mod faults;
mod limits;
mod opening;
mod place;
mod tls;

use std::pin::Pin;
use std::process::ExitCode;

use larder_testkit::service::serve_s3_if_asked;
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
    endpoint:
        of_many_that_name_one_etag_one_wins,
        of_many_that_create_one_wins,
        what_was_acknowledged_is_there_after_a_kill;
    opening:
        a_store_without_if_match_is_refused,
        a_store_without_if_none_match_is_refused,
        a_store_that_looks_before_it_writes_is_refused,
        another_format_is_refused_and_left_alone,
        what_belongs_to_something_else_is_refused,
        wrong_credentials_and_buckets_are_told_at_once_and_not_shown,
        an_endpoint_that_is_away_or_hangs_fails_in_time,
        those_who_open_at_once_agree,
        opening_leaves_one_object;
    faults:
        a_lost_reply_is_settled_by_reading,
        a_lost_request_is_sent_again,
        every_refusal_is_settled_by_reading,
        what_is_settled_by_no_time_is_unknown_or_not_as_the_case_may_be,
        a_request_that_hangs_leaves_time_to_find_out,
        a_late_put_does_not_break_the_chain,
        a_late_put_that_comes_first_is_recognised,
        a_late_first_put_makes_nothing_again_that_was_truncated,
        a_lost_truncation_is_counted_once,
        a_put_that_others_have_built_upon_is_found,
        an_object_that_was_taken_away_is_told,
        a_read_is_repeated,
        a_damaged_object_is_an_error_and_stays;
    limits:
        odd_keys_have_objects_of_their_own,
        a_full_object_says_what_to_do,
        a_listing_has_pages,
        calls_beyond_the_connections_wait,
        calls_beyond_those_that_may_wait_are_refused,
        only_a_prefix_is_cleared;
    tls:
        an_endpoint_with_a_good_certificate_is_used,
        an_endpoint_that_is_somebody_else_is_not_used,
        plain_and_tls_do_not_mix,
        an_endpoint_that_is_silent_fails_in_time;
};

fn main() -> ExitCode {
    // A test wants this program to be an endpoint.
    if let Err(why) = serve_s3_if_asked() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    let trials = TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(2).enable_all().build()?.block_on(test());
            Ok::<_, Failed>(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
