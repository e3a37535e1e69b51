//! How much memory this process uses, as the operating system counts it.

/// Resident memory of this process in bytes; none where the system does not tell it the way Linux does.
///
/// Reads a file of the kernel's, not of a disk: it takes some microseconds and does not block.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    resident_bytes_in(&status)
}

fn resident_bytes_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_and_anything_else_is_no_figure() {
        assert_eq!(resident_bytes_in("VmPeak:\t  10 kB\nVmRSS:\t   12345 kB\n"), Some(12_345 * 1_024));
        for other in [
            "",
            "VmRSS:",
            "VmRSS: kB",
            "VmRSS: 1 MB",
            "VmRSS: 99999999999999999999 kB",
            "VmRSS: 18446744073709551615 kB",
        ] {
            assert_eq!(resident_bytes_in(other), None, "{other}");
        }
    }
}
