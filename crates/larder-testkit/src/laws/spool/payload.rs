use bytes::Bytes;
use larder_core::{Effect, Failure, Retry, SharedSpool, Spool, SpoolId};

use super::gather::{answers, is_missing, loads};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, same_bytes};

laws! { SharedSpool, "payloads and ids";
    /// What a successful store wrote is loaded byte for byte, whatever its size and content, with
    /// and without `force_sync`.
    a_stored_payload_is_loaded_byte_for_byte;
    /// Storing under an id that is taken replaces the payload; the old one is never shown again.
    a_second_store_replaces_the_first;
    /// An empty payload is a payload: it loads as no bytes and is not missing.
    an_empty_payload_is_not_a_missing_one;
    /// Loading an id that nobody stored answers `NotFound` with that id, effect `NotApplied` and
    /// retry `Never`.
    a_missing_id_is_not_found;
    /// Ids of UUID version 7 and 1, and ids that carry no time, can be stored, loaded and removed.
    every_kind_of_id_is_accepted;
    /// Ids that differ in a single bit are different entries.
    ids_that_differ_in_one_bit_are_different;
    /// A payload that is a slice of a larger buffer is stored as the slice.
    a_slice_of_a_larger_buffer_is_stored_as_the_slice;
    /// A payload may hold anything, also another payload in the making: nothing in it is ever
    /// taken for structure.
    nothing_in_a_payload_is_taken_for_structure;
    /// The text of an error is one line that does not show the payload.
    an_error_text_is_one_line_without_the_payload;
}

async fn a_stored_payload_is_loaded_byte_for_byte(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    for len in [0, 1, 2, 511, 512, 513, 4_095, 4_096, 4_097, 64 << 10, 1 << 20] {
        for force_sync in [false, true] {
            let (id, data) = (stage.id(), random.bytes(len));
            spool.store(id, data.clone(), force_sync, None).await?;
            loads(&spool, id, &data, &format!("of {len} bytes, force_sync={force_sync}")).await?;
        }
    }
    Ok(())
}

async fn a_second_store_replaces_the_first(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let id = stage.id();
    // Longer, shorter, empty and back: a remainder of the old payload would show.
    for len in [1_000, 10, 5_000, 0, 1, 20_000, 3] {
        let data = random.bytes(len);
        spool.store(id, data.clone(), false, None).await?;
        loads(&spool, id, &data, "after it was replaced").await?;
    }
    Ok(())
}

async fn an_empty_payload_is_not_a_missing_one(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let id = stage.id();
    spool.store(id, Bytes::new(), true, None).await?;
    loads(&spool, id, b"", "stored with no bytes").await?;
    spool.remove(id).await?;
    is_missing(&spool, id, "after the empty payload was removed").await
}

async fn a_missing_id_is_not_found(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let id = stage.id();
    is_missing(&spool, id, "that nobody stored").await?;
    match spool.load(id).await {
        Ok(_) => Err(Violation::new("the missing id was found when asked twice")),
        Err(error) => answers(&error, Effect::NotApplied, Retry::Never),
    }
}

async fn every_kind_of_id_is_accepted(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let v7 = stage.id();
    // The random part of a fresh id keeps the made-up ones apart from those of other runs.
    let stamped = |version: u8| {
        let mut bytes = *stage.id().as_bytes();
        bytes[..6].copy_from_slice(&stage.id().as_bytes()[10..]);
        bytes[6] = version << 4 | (bytes[6] & 0x0F);
        SpoolId::from_bytes(bytes)
    };
    let (v1, v4, odd) = (stamped(1), stamped(4), stamped(15));
    ensure!(v1.created().is_ok() && v4.created().is_err(), "the law made its ids wrongly");
    for (kind, id) in [("version 7", v7), ("version 1", v1), ("version 4", v4), ("no UUID", odd)] {
        let data = random.bytes(100);
        spool.store(id, data.clone(), false, None).await?;
        loads(&spool, id, &data, kind).await?;
        spool.remove(id).await?;
        is_missing(&spool, id, kind).await?;
    }
    Ok(())
}

async fn ids_that_differ_in_one_bit_are_different(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let base = stage.id();
    let mut ids = vec![base];
    for bit in 0..128 {
        let mut bytes = *base.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        ids.push(SpoolId::from_bytes(bytes));
    }
    let payload = |id: &SpoolId| Bytes::copy_from_slice(id.as_bytes());
    spool.store_many(ids.iter().map(|id| (*id, payload(id))).collect(), false, None).await?;
    for id in &ids {
        loads(&spool, *id, id.as_bytes(), "beside 128 ids that differ in one bit").await?;
    }
    spool.remove(base).await?;
    for id in &ids[1..] {
        loads(&spool, *id, id.as_bytes(), "after its neighbour was removed").await?;
    }
    Ok(())
}

async fn a_slice_of_a_larger_buffer_is_stored_as_the_slice(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let buffer = stage.random().bytes(10_000);
    let id = stage.id();
    spool.store(id, buffer.slice(3_000..3_700), true, None).await?;
    let seen = spool.load(id).await?;
    same_bytes("a payload that was a slice", &seen, &buffer[3_000..3_700])
}

async fn nothing_in_a_payload_is_taken_for_structure(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let inner = stage.id();
    let mut nested = inner.as_bytes().to_vec();
    nested.extend(inner.to_string().bytes());
    let payloads = [
        vec![0; 70_000],
        vec![0xFF; 70_000],
        (0..=255).cycle().take(70_000).collect(),
        b"\r\n.\r\n\0'\"\\%s{}$1;--".repeat(500),
        nested.repeat(100),
    ];
    let ids = stage.ids(payloads.len());
    for (id, data) in ids.iter().zip(&payloads) {
        spool.store(*id, data.clone().into(), false, None).await?;
    }
    for (id, data) in ids.iter().zip(&payloads) {
        loads(&spool, *id, data, "with odd content").await?;
    }
    is_missing(&spool, inner, "that is only mentioned inside a payload").await
}

async fn an_error_text_is_one_line_without_the_payload(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let secret = "open-sesame-4111";
    let late = stage.instant();
    let stored = spool.store(stage.id(), Bytes::from(secret), false, Some(late)).await;
    let errors = [stored.err(), spool.load(stage.id()).await.err()];
    for error in errors.into_iter().flatten() {
        for text in [error.to_string(), format!("{error:?}")] {
            ensure!(!text.contains(secret), "an error shows the payload: {text}");
            ensure!(!text.contains('\n'), "an error text is more than one line: {text}");
        }
        let text = error.to_string();
        ensure!(!text.is_empty() && !text.ends_with('.'), "an error text is odd: {text:?}");
        let _ = (error.effect(), error.retry());
    }
    Ok(())
}
