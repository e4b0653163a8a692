//! A log with group commit and nothing else: no index, no checksum, no recovery.

use std::io::IoSlice;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use larder::SpoolId;
use larder_testkit::meter::RawFile;
use tokio::sync::oneshot;

use super::{Sink, Work};
use crate::error::Result;

/// What arrived during the last sync is the next batch: one vectored write, one fdatasync.
pub(crate) struct BareLog {
    queue: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<RawFile>>>,
}

type Request = (Bytes, oneshot::Sender<std::io::Result<()>>);

impl BareLog {
    /// One into a new file at `path` that grows.
    pub(crate) fn growing(path: &Path) -> Result<Self> {
        Ok(Self::new(RawFile::growing(path)?))
    }

    pub(crate) fn new(file: RawFile) -> Self {
        let (queue, requests) = channel();
        let thread = std::thread::spawn(move || commit(&requests, file));
        Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) }
    }

    /// Ends it and gives its file back.
    pub(crate) fn end(&self) -> Result<Option<RawFile>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map(|thread| thread.join().map_err(|_| "the bare log panicked".into())).transpose()
    }
}

fn commit(requests: &Receiver<Request>, mut file: RawFile) -> RawFile {
    let mut batch = Vec::new();
    while let Ok(first) = requests.recv() {
        batch.push(first);
        batch.extend(requests.try_iter());
        let mut slices: Vec<_> = batch.iter().map(|(data, _)| IoSlice::new(data)).collect();
        let done = file.append(&mut slices).map_err(|error| error.kind());
        for (_, answer) in batch.drain(..) {
            // Somebody who stopped waiting needs no answer.
            let _ = answer.send(done.map_err(std::io::Error::from));
        }
    }
    file
}

impl Sink for BareLog {
    fn store(&self, _id: SpoolId, data: Bytes) -> Work<'_, ()> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            if let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
                queue.send((data, answer))?;
            }
            Ok(answered.await??)
        })
    }

    fn close(&self) -> Work<'_, ()> {
        Box::pin(async { self.end().map(drop) })
    }
}
