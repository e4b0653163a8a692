//! `larder verify` and `larder dump`: an embedded folder, looked at from outside.

use std::path::Path;

use larder::error::chain;
use larder_log::{DumpItem, OpenError, VerifyReport};
use serde_json::{Value, json};

use crate::exit::{Code, Exit};
use crate::output::Output;
use crate::progress;

/// Checks every segment and every checksum; changes nothing.
pub(crate) fn verify(path: &Path, output: &mut Output) -> Result<(), Exit> {
    let path = folder(path);
    let bar = progress::spinner("verifying");
    let report = larder_log::verify(&path);
    bar.finish_and_clear();
    let report = report.map_err(|error| exit(&error))?;
    show(&report, output)?;
    output.flush()?;
    if report.is_sound() {
        return Ok(());
    }
    Err(Exit::failed(format!(
        "{}: damaged places: {}, entries lost: {}",
        path.display(),
        report.damage.len(),
        report.lost_entries
    )))
}

/// Prints every record; changes nothing.
pub(crate) fn dump(path: &Path, output: &mut Output) -> Result<(), Exit> {
    let mut printed = Ok(());
    let dumped = larder_log::dump(&folder(path), |item| {
        if printed.is_ok() {
            printed = output.line(&item_object(&item), &item.to_string());
        }
    });
    // What went wrong with the log comes first, whether its reader has left or not.
    dumped.map_err(|error| exit(&error))?;
    printed
}

/// The folder; its address is taken as well, because it is what the other commands take.
fn folder(path: &Path) -> std::path::PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix("log:")) {
        Some(folder) if !path.exists() => {
            folder.split_once('?').map_or(folder, |(folder, _)| folder).into()
        }
        _ => path.to_owned(),
    }
}

fn exit(error: &OpenError) -> Exit {
    let code = match error {
        OpenError::NotFound { .. } => Code::NotFound,
        OpenError::Locked { .. } => Code::Unavailable,
        OpenError::NotAFolder { .. } => Code::Usage,
        _ => Code::Failed,
    };
    if let OpenError::NotFound { path } = error {
        return Exit::new(code, format!("{}: there is no log here", path.display()));
    }
    Exit::new(code, chain(error))
}

fn show(report: &VerifyReport, output: &mut Output) -> Result<(), Exit> {
    let bytes: u64 = report.segments.iter().map(|segment| segment.bytes).sum();
    if output.json() {
        let damage: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
        return output.object(&json!({
            "path": report.path.to_string_lossy(), "format_version": report.format_version,
            "sound": report.is_sound(), "clean": report.clean,
            "segments": report.segments.len(), "bytes": bytes, "records": report.records,
            "entries": report.entries, "torn_bytes": report.torn_bytes, "mended": report.mended,
            "lost_entries": report.lost_entries, "damage": damage,
        }));
    }
    for damage in &report.damage {
        output.text(&format!("DAMAGE {damage}"))?;
    }
    if report.mended > 0 {
        output.text(&format!(
            "{} record headers have a rotten byte that can be put right: opening writes them anew",
            report.mended
        ))?;
    }
    let end = if report.clean { "shut down cleanly" } else { "not shut down: recovered at open" };
    output.text(&format!(
        "{} segments, {bytes} bytes, {} records, {} entries, {} torn bytes, {end}",
        report.segments.len(),
        report.records,
        report.entries,
        report.torn_bytes,
    ))?;
    output.text(if report.is_sound() { "sound" } else { "damaged" })
}

fn item_object(item: &DumpItem) -> Value {
    match item {
        DumpItem::Segment { segment, bytes, sealed, .. } => {
            json!({ "type": "segment", "segment": segment, "bytes": bytes, "sealed": sealed })
        }
        DumpItem::Record { segment, offset, lsn, kind, slot, len, sound, note, .. } => json!({
            "type": "record", "segment": segment, "offset": offset, "lsn": lsn, "kind": kind,
            "slot": slot.map(|slot| slot.to_string()), "len": len, "sound": sound, "note": note,
        }),
        DumpItem::Damage(damage) => json!({ "type": "damage", "damage": damage.to_string() }),
        DumpItem::Cancelled { first, last, .. } => {
            json!({ "type": "cancelled", "first": first, "last": last })
        }
        DumpItem::Torn(bytes) => json!({ "type": "torn", "bytes": bytes }),
        _ => json!({ "type": "other", "text": item.to_string() }),
    }
}
