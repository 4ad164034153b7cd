//! What a process takes: memory and CPU time, as proc(5) tells them.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// Kibibytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) resident: u64,
    /// With what is shared with others counted in part.
    pub(super) proportional: u64,
    /// The most that was ever resident.
    pub(super) peak: u64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self {
            resident: kibibytes(&rollup, "Rss:")?,
            proportional: kibibytes(&rollup, "Pss:")?,
            peak: kibibytes(&status, "VmHWM:")?,
        })
    }
}

fn kibibytes(text: &str, key: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    let number = value.and_then(|value| value.split_whitespace().next());
    let number = number.with_context(|| format!("no {key} of the process"))?;
    Ok(number.parse()?)
}

/// CPU time so far, with that of the children that it has waited for.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("stat has no name")?;
    // utime, stime, cutime, cstime in ticks of 10 ms
    let times = fields.split_whitespace().skip(11).take(4);
    let ticks: u64 = times.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_key() {
        let text = "Rss:    1234 kB\nPss:  99 kB\n";
        assert_eq!(kibibytes(text, "Pss:").unwrap(), 99);
        assert!(kibibytes(text, "VmHWM:").is_err());
    }
}
