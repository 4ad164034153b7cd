//! The process's own figures, from /proc at each scrape, by the names that every Prometheus client gives them.

use std::fs;

/// Ticks of /proc/self/stat per second: USER_HZ, which Linux fixes at 100 towards user space.
const USER_HZ: f64 = 100.0;

/// What /proc says of this process. A figure that could not be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// process_resident_memory_bytes
    pub(super) resident_bytes: Option<u64>,
    /// process_cpu_seconds_total
    pub(super) cpu_seconds: Option<f64>,
    /// process_open_fds
    pub(super) open_fds: Option<u64>,
    /// process_start_time_seconds
    pub(super) start_time_seconds: Option<f64>,
}

impl Process {
    /// As it is now.
    pub(super) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let own = text("/proc/self/stat");
        Self {
            resident_bytes: resident(&text("/proc/self/status")),
            cpu_seconds: ticks(&own, 14)
                .zip(ticks(&own, 15))
                .map(|(user, system)| (user + system) / USER_HZ),
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| entries.count() as u64),
            start_time_seconds: boot_time(&text("/proc/stat"))
                .zip(ticks(&own, 22))
                .map(|(boot, start)| boot + start / USER_HZ),
        }
    }
}

/// VmRSS of /proc/self/status.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// A field of /proc/self/stat, counted from 1 as proc(5) does. The second, the command's name, may hold anything: what
/// counts is the last closing parenthesis.
fn ticks(stat: &str, field: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(field - 3)?.parse().ok()
}

/// btime of /proc/stat: when the host booted, seconds since 1970.
fn boot_time(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_it_is_written() {
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t   12 kB\nVmData:\t1 kB\n"),
            Some(12_288)
        );
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 900 1 1";
        assert_eq!(
            (ticks(stat, 14), ticks(stat, 15), ticks(stat, 22)),
            (Some(250.0), Some(50.0), Some(900.0))
        );
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1.7e9));
        assert_eq!(
            (resident(""), ticks("", 14), boot_time("")),
            (None, None, None)
        );
    }

    #[test]
    fn this_process_has_all_of_it() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 0 && process.open_fds.unwrap() > 2);
        assert!(process.cpu_seconds.is_some() && process.start_time_seconds.unwrap() > 1.0e9);
    }
}
