//! Progress on stderr, for people: hidden when stderr is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for work of a known length.
pub(crate) fn bar(length: u64, what: &'static str) -> ProgressBar {
    styled(ProgressBar::new(length), "{msg} [{bar:32}] {human_pos}/{human_len} {eta}", what)
}

/// A spinner with a count, for work whose length shows at its end.
pub(crate) fn count(what: &'static str) -> ProgressBar {
    styled(ProgressBar::no_length(), "{spinner} {msg} {human_pos} {per_sec} {elapsed}", what)
}

/// A spinner, for one step that takes its time.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    styled(ProgressBar::no_length(), "{spinner} {msg} {elapsed}", what)
}

fn styled(bar: ProgressBar, template: &str, what: &'static str) -> ProgressBar {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
