//! What a stretch of time cost this process and its disk.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{major, minor};
use rustix::time::{ClockId, clock_gettime};

/// The counters of this process, and of the device below a folder, at one instant.
///
/// Linux only; elsewhere everything but the processor time is unknown.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    cpu: Duration,
    written: Option<u64>,
    device: Option<(DeviceId, DeviceSpent)>,
}

/// What was used between two instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "figures to be read")]
pub struct Spent {
    /// Processor time of all threads of this process, user and system.
    pub cpu: Duration,
    /// What this process dirtied in the page cache, as the kernel counts it: nothing of others and
    /// no metadata of the file system is in it, but a whole folio counts however little of it
    /// changed, which can be 1 MiB for one byte of a file that was written before. `None` where the
    /// system does not tell.
    pub written: Option<u64>,
    /// What the device did meanwhile, whoever asked for it. `None` when no folder was given or its
    /// device keeps no counters.
    pub device: Option<DeviceSpent>,
}

impl Spent {
    /// Bytes that went to the disk: those of the device if it is known, else what the process
    /// dirtied.
    pub fn disk_bytes(&self) -> Option<u64> {
        self.device.map(|device| device.bytes).or(self.written)
    }
}

/// Work of a block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "figures to be read")]
pub struct DeviceSpent {
    /// Bytes written.
    pub bytes: u64,
    /// Write requests.
    pub writes: u64,
    /// Flushes of the device's cache.
    pub flushes: u64,
}

type DeviceId = (u32, u32);

impl Usage {
    /// The counters of this instant; those of a device too when `folder` is on one.
    pub fn now(folder: Option<&Path>) -> Self {
        let device = folder.and_then(device_of).and_then(|id| Some((id, device_counters(id)?)));
        Self { cpu: cpu_time(), written: written_bytes(), device }
    }

    /// What was used since this instant.
    pub fn spent(&self) -> Spent {
        let device = self.device.and_then(|(id, before)| {
            let after = device_counters(id)?;
            Some(DeviceSpent {
                bytes: after.bytes.saturating_sub(before.bytes),
                writes: after.writes.saturating_sub(before.writes),
                flushes: after.flushes.saturating_sub(before.flushes),
            })
        });
        let written = self.written.zip(written_bytes());
        Spent {
            cpu: cpu_time().saturating_sub(self.cpu),
            written: written.map(|(before, after)| after.saturating_sub(before)),
            device,
        }
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn written_bytes() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/self/io").ok()?;
    let line = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
    line.trim().parse().ok()
}

fn device_of(folder: &Path) -> Option<DeviceId> {
    let device = std::fs::metadata(folder).ok()?.dev();
    Some((major(device), minor(device)))
}

/// Fields 5, 7 and 16 of the kernel's `stat` of a block device; a sector is 512 bytes there.
fn device_counters((major, minor): DeviceId) -> Option<DeviceSpent> {
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    parse_stat(&stat)
}

fn parse_stat(stat: &str) -> Option<DeviceSpent> {
    let fields: Vec<u64> = stat.split_whitespace().map_while(|word| word.parse().ok()).collect();
    Some(DeviceSpent {
        bytes: fields.get(6)?.saturating_mul(512),
        writes: *fields.get(4)?,
        flushes: fields.get(15).copied().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_block_device_are_found() {
        let stat = "1 2 3 4 50 6 700 8 9 10 11 12 13 14 15 160 17\n";
        let spent = DeviceSpent { bytes: 700 * 512, writes: 50, flushes: 160 };
        assert_eq!(parse_stat(stat), Some(spent));
        let old = "1 2 3 4 50 6 700 8 9 10 11";
        assert_eq!(parse_stat(old).map(|spent| spent.flushes), Some(0));
        assert_eq!(parse_stat("1 2 3"), None);
    }

    #[test]
    fn time_of_the_processor_is_counted() {
        let usage = Usage::now(None);
        let mut mixed = 1_u64;
        while usage.spent().cpu < Duration::from_millis(2) {
            mixed = std::hint::black_box(mixed.wrapping_mul(3));
        }
        assert!(usage.spent().device.is_none());
    }

    #[test]
    fn the_device_is_believed_before_the_process() {
        let spent = Spent { cpu: Duration::ZERO, written: Some(1), device: None };
        assert_eq!(spent.disk_bytes(), Some(1));
        let device = Some(DeviceSpent { bytes: 2, ..DeviceSpent::default() });
        assert_eq!(Spent { device, ..spent }.disk_bytes(), Some(2));
    }
}
