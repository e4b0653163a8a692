use std::collections::HashSet;

use bytes::Bytes;
use larder_core::key::KEY_BYTES_MAX;
use larder_core::{CacheValue, Condition, Key, Tier};

use super::entry::{Store, hits, key, misses, put, removes, text};
use crate::law::laws;
use crate::{Stage, Verdict, ensure, ensure_eq};

laws! { Store, "values and keys";
    /// What was written is read byte for byte, whatever its size and content, empty included.
    a_written_value_is_read_byte_for_byte;
    /// A key that nobody wrote misses; a miss is no error.
    an_unknown_key_misses;
    /// A write replaces the value, longer or shorter; the old one is never shown again.
    a_second_write_replaces_the_first;
    /// A removed key misses at once.
    a_removed_key_misses;
    /// A remove says whether the key was there; removing a missing key is no error.
    a_remove_says_whether_the_key_was_there;
    /// Every valid key is a key of its own: up to 1 KiB, with blanks, slashes, line feeds and any
    /// Unicode.
    every_valid_key_is_a_key_of_its_own;
    /// The printed form of a tier shows neither keys nor values.
    the_printed_form_shows_no_keys_and_values;
    /// A tier has a label, and names the leaf that answered.
    a_hit_names_its_source;
    /// The statistics list every tier inside once, by the way and the name that its hits have.
    the_statistics_list_where_hits_come_from;
    /// `clear` removes every key, and the tier goes on.
    clear_removes_every_key [Exclusive];
    /// Values that are read are shared: a later write does not change what a reader holds.
    a_value_in_hand_does_not_change;
}

async fn a_written_value_is_read_byte_for_byte(stage: &Stage<Store>) -> Verdict {
    let (tier, mut random) = (stage.open().await?, stage.random());
    for len in [0, 1, 100, 4_095, 4_096, 64 << 10] {
        let (key, value) = (key(stage, "bytes")?, CacheValue::new(random.bytes(len)));
        put(&tier, &key, value.clone()).await?;
        hits(&tier, &key, &value, &format!("of {len} bytes")).await?;
    }
    let odd = [vec![0; 1_000], vec![0xFF; 1_000], (0..=255).cycle().take(5_000).collect()];
    for data in odd {
        let (key, value) = (key(stage, "odd")?, CacheValue::new(Bytes::from(data)));
        put(&tier, &key, value.clone()).await?;
        hits(&tier, &key, &value, "with odd content").await?;
    }
    Ok(())
}

async fn an_unknown_key_misses(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    for _ in 0..3 {
        misses(&tier, &key(stage, "unknown")?, "for a key that nobody wrote").await?;
    }
    Ok(())
}

async fn a_second_write_replaces_the_first(stage: &Stage<Store>) -> Verdict {
    let (tier, key, mut random) = (stage.open().await?, key(stage, "twice")?, stage.random());
    for len in [1_000, 10, 0, 5_000, 1] {
        let value = CacheValue::new(random.bytes(len));
        put(&tier, &key, value.clone()).await?;
        hits(&tier, &key, &value, "after it was replaced").await?;
    }
    Ok(())
}

async fn a_removed_key_misses(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "removed")?);
    for round in ["first", "second"] {
        put(&tier, &key, text(round)).await?;
        removes(&tier, &key, true, "of a key that is there").await?;
        misses(&tier, &key, "after a remove").await?;
    }
    Ok(())
}

async fn a_remove_says_whether_the_key_was_there(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "there")?);
    removes(&tier, &key, false, "of an unknown key").await?;
    put(&tier, &key, text("x")).await?;
    removes(&tier, &key, true, "of a written key").await?;
    removes(&tier, &key, false, "of a removed key").await
}

async fn every_valid_key_is_a_key_of_its_own(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let base = stage.key("x");
    let mut longest = base.clone();
    longest.push_str(&"k".repeat(KEY_BYTES_MAX - longest.len()));
    let mut texts = vec![longest[..KEY_BYTES_MAX - 1].to_owned(), longest];
    let endings =
        ["", " ", "  ", "/", "//", "%", "%2F", "'", "\\", "\n", "\r\n", "a", "A", "é", "e\u{301}"];
    texts.extend(endings.iter().map(|ending| format!("{base}{ending}")));
    let mut written = Vec::new();
    for (number, key_text) in texts.into_iter().enumerate() {
        let (key, value) = (Key::new(key_text)?, text(&format!("value {number}")));
        misses(&tier, &key, "for a key beside similar ones").await?;
        put(&tier, &key, value.clone()).await?;
        written.push((key, value));
    }
    for (key, value) in &written {
        hits(&tier, key, value, "beside similar keys").await?;
    }
    removes(&tier, &written[2].0, true, "of one of many similar keys").await?;
    for (_, (key, value)) in written.iter().enumerate().filter(|(place, _)| *place != 2) {
        hits(&tier, key, value, "after a similar key was removed").await?;
    }
    Ok(())
}

async fn the_printed_form_shows_no_keys_and_values(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let key = key(stage, "card-4111-1111")?;
    put(&tier, &key, text("open-sesame-9876")).await?;
    let found = tier.read(key.as_ref()).await?;
    ensure!(found.is_some(), "a value that was just written is missing");
    let printed = format!("{tier:?} {key:?} {:?}", key.as_ref());
    ensure!(!printed.contains("card-4111"), "the printed form shows a key");
    ensure!(!printed.contains("open-sesame"), "the printed form shows a value");
    Ok(())
}

async fn a_hit_names_its_source(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "source")?);
    ensure!(!tier.label().is_empty(), "a tier has a label");
    put(&tier, &key, text("x")).await?;
    if let Some(found) = tier.read(key.as_ref()).await? {
        let named = tier.describe(found.source);
        if tier.tier_stats().len() == 1 {
            ensure_eq!(named, tier.label(), "the name of a tier that answered itself");
        } else {
            let below = named.strip_prefix(tier.label()).and_then(|rest| rest.strip_prefix('.'));
            ensure!(
                below.is_some_and(|below| !below.is_empty()),
                "{named} leads to no tier inside"
            );
        }
    }
    Ok(())
}

async fn the_statistics_list_where_hits_come_from(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "stats")?);
    put(&tier, &key, text("x")).await?;
    let tiers = tier.tier_stats();
    let ways: HashSet<_> = tiers.iter().map(|tier| tier.source).collect();
    ensure_eq!(ways.len(), tiers.len(), "the number of ways to as many tiers");
    for listed in &tiers {
        ensure_eq!(tier.describe(listed.source), listed.path, "the name of a tier that is listed");
    }
    if let Some(found) = tier.read(key.as_ref()).await? {
        ensure!(ways.contains(&found.source), "a hit came from a tier that is not listed");
    }
    Ok(())
}

async fn clear_removes_every_key(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    tier.clear().await?;
    let mut keys = Vec::new();
    for number in 0..50 {
        let key = key(stage, "clear")?;
        put(&tier, &key, text(&format!("value {number}"))).await?;
        keys.push(key);
    }
    tier.clear().await?;
    for key in &keys {
        misses(&tier, key, "after a clear").await?;
        removes(&tier, key, false, "after a clear").await?;
    }
    put(&tier, &keys[0], text("again")).await?;
    hits(&tier, &keys[0], &text("again"), "written after a clear").await
}

async fn a_value_in_hand_does_not_change(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "hand")?);
    put(&tier, &key, text("the first")).await?;
    let held = tier.read(key.as_ref()).await?;
    put(&tier, &key, text("the second")).await?;
    tier.remove(key.as_ref(), Condition::Always).await?;
    let data = held.map(|found| found.value.data).unwrap_or_default();
    ensure!(*data == *b"the first", "a value in hand changed under its reader");
    Ok(())
}
