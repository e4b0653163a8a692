//! Which run of the machine this is.

/// A number that stays until the machine starts again; `None` where the system does not tell.
///
/// What a process has written and not synced is lost with the machine, not with the process: who
/// finds the number of before knows that nothing is missing.
pub(crate) fn boot_id() -> Option<[u8; 16]> {
    // Linux alone has it.
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_stays_the_same_while_the_machine_runs() {
        assert_eq!(super::boot_id(), super::boot_id());
        assert_eq!(super::boot_id().is_some(), cfg!(target_os = "linux"));
    }
}
