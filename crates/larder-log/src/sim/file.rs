//! The simulated disk as the log's door to a file.

use std::io::{self, IoSlice};
use std::num::NonZeroUsize;

use super::image::Image;
use super::state::State;
use super::{Fault, SimDisk, SimRandom};
use crate::io::File;

const BEGIN_BYTES: usize = 2048;

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) id: u64,
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut Image, &mut SimRandom) -> T) -> io::Result<T> {
        let mut state = self.disk.lock();
        let State { images, random, .. } = &mut *state;
        let image = images.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        Ok(work(image, random))
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.disk.lock().check_alive()?;
        self.with(|image, _| image.bytes().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.lock().read()?;
        self.with(|image, _| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(image.bytes().len());
            let bytes = &image.bytes()[from..];
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            len
        })
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            bytes.extend_from_slice(part);
        }
        let (fault, full) = {
            let mut state = self.disk.lock();
            let end = offset + bytes.len() as u64;
            (state.step()?, state.lacks_room(self.id, end))
        };
        self.with(|image, random| {
            match fault {
                Some(Fault::Crash) => {
                    let part = random.below(bytes.len() as u64 + 1);
                    image.write(offset, &bytes[..usize::try_from(part).unwrap_or(0)]);
                    Err(io::Error::other("the power is off"))
                }
                Some(Fault::ShortWrite) if bytes.len() > 1 => {
                    let part = usize::try_from(1 + random.below(bytes.len() as u64 - 1));
                    let part = part.unwrap_or(1);
                    image.write(offset, &bytes[..part]);
                    Ok(part)
                }
                fault if fault == Some(Fault::NoSpace) || full => {
                    // What still fits is written: a short write first, then the error.
                    let room = image.reserved().saturating_sub(offset);
                    let part = usize::try_from(room).unwrap_or(0).min(bytes.len());
                    image.write(offset, &bytes[..part]);
                    if part > 0 { Ok(part) } else { Err(io::ErrorKind::StorageFull.into()) }
                }
                _ => {
                    image.write(offset, &bytes);
                    Ok(bytes.len())
                }
            }
        })?
    }

    /// A little, so that schedules meet it in the middle of ordinary groups.
    fn begin_bytes(&self) -> Option<NonZeroUsize> {
        NonZeroUsize::new(BEGIN_BYTES)
    }

    /// What was begun may be durable or not, as all that is not synced.
    fn begin_sync(&self, _offset: u64, _len: u64) -> io::Result<()> {
        let fault = self.disk.lock().step()?;
        self.with(|image, random| match fault {
            Some(Fault::Crash) => Err(io::Error::other("the power is off")),
            Some(Fault::SyncError { lost }) => {
                image.fail_sync(lost, random);
                Err(io::Error::other("planned error of what was begun"))
            }
            _ => Ok(()),
        })?
    }

    fn sync(&self) -> io::Result<()> {
        let fault = self.disk.lock().step()?;
        self.with(|image, random| match fault {
            Some(Fault::Crash) => {
                // Some of it may have reached the disk, which the crash decides anyway.
                Err(io::Error::other("the power is off"))
            }
            Some(Fault::SyncError { lost }) => {
                image.fail_sync(lost, random);
                Err(io::Error::other("planned sync error"))
            }
            Some(Fault::LyingSync) => {
                image.fail_sync(false, random);
                Ok(())
            }
            _ => {
                image.sync();
                Ok(())
            }
        })?
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let (fault, full) = {
            let mut state = self.disk.lock();
            (state.step()?, state.lacks_room(self.id, offset + len))
        };
        self.disk.lock().check_alive()?;
        if fault == Some(Fault::NoSpace) || full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.with(|image, _| image.grow(offset + len))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.lock().step()?;
        self.disk.lock().check_alive()?;
        self.with(|image, _| image.truncate(len))
    }
}
