use larder_core::key::KEY_BYTES_MAX;
use larder_core::{Consensus, InvalidArgument, SeqNo, SharedConsensus};

use super::log::{commits, head_is, holds, is_invalid, keys, mismatches, swap, version};
use crate::law::laws;
use crate::{Stage, Verdict, ensure, ensure_eq};

laws! { SharedConsensus, "arguments";
    /// A new sequence number that is not above the expected one is `InvalidArgument`, effect
    /// `NotApplied`.
    a_number_that_does_not_rise_is_invalid;
    /// Arguments are judged before any I/O, so a number that does not rise is `InvalidArgument`
    /// also when the expectation is outdated or the key has no data.
    arguments_are_judged_before_the_expectation;
    /// A sequence number above `i64::MAX` is `InvalidArgument` in every place of every call.
    a_number_above_the_maximum_is_invalid;
    /// An empty key, one above 1 KiB and one with a NUL are `InvalidArgument` in every call.
    a_text_that_is_no_key_is_invalid;
    /// A key of exactly 1 KiB, and keys with blanks, slashes, quotes, line feeds and any Unicode
    /// are keys of their own.
    every_valid_key_is_a_key_of_its_own;
    /// A call with an invalid argument creates no key.
    an_invalid_call_creates_no_key;
}

fn not_rising(what: &InvalidArgument) -> bool {
    matches!(what, InvalidArgument::NotIncreasing { .. })
}

fn too_large(what: &InvalidArgument) -> bool {
    matches!(what, InvalidArgument::SeqNoTooLarge { .. })
}

async fn a_number_that_does_not_rise_is_invalid(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("rise"));
    commits(&store, &key, None, 5).await?;
    for new in [5, 4, 0] {
        let answer = swap(&store, &key, Some(5), new).await;
        is_invalid(&format!("compare-and-set of 5 to {new}"), answer, not_rising)?;
    }
    holds(&store, &key, &[5], "after invalid calls").await
}

async fn arguments_are_judged_before_the_expectation(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("before"));
    let answer = swap(&store, &key, Some(5), 5).await;
    is_invalid("compare-and-set of 5 to 5 on a key without data", answer, not_rising)?;
    commits(&store, &key, None, 5).await?;
    commits(&store, &key, Some(5), 9).await?;
    for (expected, new) in [(5, 5), (5, 3), (7, 7), (20, 12)] {
        let answer = swap(&store, &key, Some(expected), new).await;
        let call = format!("compare-and-set of {expected} to {new} with the head at 9");
        is_invalid(&call, answer, not_rising)?;
    }
    // The neighbour that is valid is a plain mismatch.
    mismatches(&store, &key, Some(5), 6, Some(9)).await?;
    holds(&store, &key, &[5, 9], "after invalid calls").await
}

async fn a_number_above_the_maximum_is_invalid(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("above"));
    for round in 0..2 {
        for over in [1 << 63, (1 << 63) + 1, u64::MAX] {
            let call = |name: &str| format!("{name} with {over}");
            let answer = swap(&store, &key, None, over).await;
            is_invalid(&call("a first version"), answer, too_large)?;
            let answer = swap(&store, &key, Some(5), over).await;
            is_invalid(&call("a new version"), answer, too_large)?;
            let answer = swap(&store, &key, Some(over), over).await;
            is_invalid(&call("an expectation and a new version"), answer, too_large)?;
            let answer = store.scan(&key, SeqNo(over), 1).await;
            is_invalid(&call("a scan"), answer, too_large)?;
            let answer = store.truncate(&key, SeqNo(over)).await;
            is_invalid(&call("a truncation"), answer, too_large)?;
        }
        if round == 0 {
            commits(&store, &key, None, 5).await?;
        }
    }
    holds(&store, &key, &[5], "after invalid calls").await
}

async fn a_text_that_is_no_key_is_invalid(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let too_long = "k".repeat(KEY_BYTES_MAX + 1);
    // The limit counts bytes: these are fewer characters than it allows.
    let too_many_bytes = "é".repeat(KEY_BYTES_MAX / 2 + 1);
    for text in ["", &too_long, &too_many_bytes, "a\0b", "\0"] {
        let no_key = |what: &InvalidArgument| matches!(what, InvalidArgument::Key(_));
        let shown = format!("a text of {} bytes that is no key", text.len());
        is_invalid(&format!("head of {shown}"), store.head(text).await, no_key)?;
        is_invalid(&format!("write to {shown}"), swap(&store, text, None, 1).await, no_key)?;
        is_invalid(&format!("scan of {shown}"), store.scan(text, SeqNo(0), 1).await, no_key)?;
        let answer = store.truncate(text, SeqNo(0)).await;
        is_invalid(&format!("truncation of {shown}"), answer, no_key)?;
    }
    Ok(())
}

async fn every_valid_key_is_a_key_of_its_own(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let base = stage.key("x");
    let mut longest = base.clone();
    longest.push_str(&"k".repeat(KEY_BYTES_MAX - longest.len()));
    let mut keys = vec![longest[..KEY_BYTES_MAX - 1].to_owned(), longest];
    let endings = [
        "",
        " ",
        "  ",
        "/",
        "//",
        "/..",
        "/a",
        "%",
        "%2F",
        "'",
        "\"",
        "\\",
        "\n",
        "\r\n",
        "\t",
        "a",
        "A",
        "é",
        "e\u{301}",
        "\u{1F980}",
        "*",
        "?",
        "_",
        ";--",
        "\u{7F}",
        "\u{FEFF}",
        "0",
        "00",
    ];
    keys.extend(endings.iter().map(|ending| format!("{base}{ending}")));
    for (seqno, key) in (1..).zip(&keys) {
        head_is(&store, key, None, &format!("of the unused key {key:?}")).await?;
        commits(&store, key, None, seqno).await?;
    }
    for (seqno, key) in (1..).zip(&keys) {
        holds(&store, key, &[seqno], &format!("of {key:?}")).await?;
    }
    let listed = super::log::keys(&store).await?;
    for key in &keys {
        let times = listed.iter().filter(|listed| *listed == key).count();
        ensure_eq!(times, 1, "how often {key:?} is listed");
    }
    Ok(())
}

async fn an_invalid_call_creates_no_key(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("none"));
    let answer = swap(&store, &key, None, u64::MAX).await;
    ensure!(answer.is_err(), "a number above the maximum was accepted: {answer:?}");
    let answer = store.compare_and_set(&key, Some(SeqNo(9)), version(3)).await;
    ensure!(answer.is_err(), "a number that does not rise was accepted: {answer:?}");
    head_is(&store, &key, None, "after invalid calls").await?;
    ensure!(!keys(&store).await?.contains(&key), "an invalid call created a key");
    Ok(())
}
