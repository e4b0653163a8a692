//! What goes to stdout: text or JSON, whole lines, and payloads byte for byte.

use std::io::{BufWriter, Stdout, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::exit::Exit;

/// The standard output of one command.
///
/// Everything is buffered; [`Output::flush`] before a wait that the reader should not notice. A
/// reader that has left ends the command, silently.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    stdout: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stdout: BufWriter::with_capacity(64 << 10, std::io::stdout()) }
    }

    /// Whether JSON was asked for.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Prints one line: `object` when JSON was asked for, `text` otherwise.
    pub(crate) fn line(&mut self, object: &impl Serialize, text: &str) -> Result<(), Exit> {
        if self.json { self.object(object) } else { self.text(text) }
    }

    /// Prints one object on a line of its own, whatever was asked for.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Exit> {
        let line = serde_json::to_string(object)
            .map_err(|error| Exit::failed(format!("cannot write the answer as JSON: {error}")))?;
        self.text(&line)
    }

    /// Prints one line of text, whatever was asked for.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Exit> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a payload byte for byte, or in base64 when JSON was asked for.
    pub(crate) fn payload(&mut self, data: &[u8]) -> Result<(), Exit> {
        if self.json {
            return self.object(&serde_json::json!({ "data": STANDARD.encode(data) }));
        }
        self.bytes(data)
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Exit> {
        self.stdout.write_all(bytes).map_err(|error| Exit::stdout(&error))
    }

    /// Hands everything to the reader now.
    pub(crate) fn flush(&mut self) -> Result<(), Exit> {
        self.stdout.flush().map_err(|error| Exit::stdout(&error))
    }

    /// The end of a command that succeeded.
    pub(crate) fn finish(mut self) -> Result<(), Exit> {
        self.flush()
    }
}
