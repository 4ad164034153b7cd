//! Who took how much CPU time. Packets on veth are received in the softirq of whoever sent them, and this kernel counts
//! softirq as the time of the task that it interrupts or, when there is much of it, as that of ksoftirqd: both together are
//! what a packet costs from end to end. The rest of the machine, which others use too, is not looked at.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::resource::{UsageWho, getrusage},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// Keeps the calling thread on a processor.
pub(super) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot stay on one processor")
}

/// Of the calling thread.
pub(super) fn thread() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Of all children that this process has waited for.
pub(super) fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Ok(Duration::from_micros(
        micros.iter().sum::<i64>().unsigned_abs(),
    ))
}

/// Of a process, all its threads together.
pub(super) fn process(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += schedstat(&fs::read_to_string(task?.path().join("schedstat"))?)?;
    }
    Ok(sum)
}

/// The kernel's threads that take softirq over from tasks: one for each processor.
pub(super) struct Softirq(Vec<u32>);

impl Softirq {
    pub(super) fn of(cpus: impl IntoIterator<Item = usize>) -> Result<Self> {
        let names: Vec<String> = cpus
            .into_iter()
            .map(|cpu| format!("ksoftirqd/{cpu}\n"))
            .collect();
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if names.contains(&comm) {
                pids.extend(
                    entry
                        .file_name()
                        .to_str()
                        .and_then(|it| it.parse::<u32>().ok()),
                );
            }
        }
        ensure!(
            pids.len() == names.len(),
            "not all of {names:?} are in /proc: run it outside of a PID namespace"
        );
        Ok(Self(pids))
    }

    /// So far.
    pub(super) fn time(&self) -> Result<Duration> {
        self.0.iter().map(|pid| process(*pid)).sum()
    }
}

/// The first figure: nanoseconds on a processor.
fn schedstat(text: &str) -> Result<Duration> {
    let figure = text
        .split_whitespace()
        .next()
        .context("schedstat is empty")?;
    Ok(Duration::from_nanos(figure.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_begins_with_the_time() {
        let time = schedstat("21849274943 1248827572757 580951\n").unwrap();
        assert_eq!(time.as_nanos(), 21_849_274_943);
        assert!(schedstat("").is_err());
    }
}
