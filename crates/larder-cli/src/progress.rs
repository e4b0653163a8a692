//! Progress on stderr, for people: hidden when stderr is no terminal.

use std::fmt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar for work of a known length.
pub(crate) fn bar(length: u64, what: &'static str) -> ProgressBar {
    styled(ProgressBar::new(length), "{msg} [{bar:32}] {human_pos}/{human_len} {eta}", what)
}

/// Turns a count into a bar, once it is known how far it will go.
pub(crate) fn set_length(bar: &ProgressBar, length: u64) {
    bar.set_length(length);
    style(bar, "{msg} [{bar:32}] {human_pos}/{human_len} {rate} {eta}");
}

/// A spinner with a count, for work whose length shows at its end.
pub(crate) fn count(what: &'static str) -> ProgressBar {
    styled(ProgressBar::no_length(), "{spinner} {msg} {human_pos} {rate} {elapsed}", what)
}

/// A spinner, for one step that takes its time.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    styled(ProgressBar::no_length(), "{spinner} {msg} {elapsed}", what)
}

fn styled(bar: ProgressBar, template: &str, what: &'static str) -> ProgressBar {
    style(&bar, template);
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, to: &mut dyn fmt::Write| {
            // A display that fails to draw is no reason to fail the work.
            let _ = write!(to, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
    }
}
