//! Prints `docs/laws.md`.

#![expect(clippy::print_stdout, reason = "the page goes to standard output")]

fn main() {
    print!("{}", larder_testkit::laws_markdown());
}
