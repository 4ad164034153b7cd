//! The name of a run: everything that the lab makes on the host begins with it, and it says whose it is, so that
//! what a dead run left behind can be told from what a living one uses.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

pub(super) const PREFIX: &str = "mesh-lab-";

/// Socket paths must stay below 108 bytes, and the name is a part of them.
const LONGEST_TITLE: usize = 20;

static SEQUENCE: AtomicU32 = AtomicU32::new(1);

/// A fresh name for this process: prefix, pid, the process's start time (pids are used again), number, title.
pub(super) fn fresh(title: &str) -> Result<String> {
    let pid = std::process::id();
    let start = start_ticks(pid).context("cannot read this process's start time from /proc")?;
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let title: String = title
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
        .take(LONGEST_TITLE)
        .collect();
    Ok(format!("{PREFIX}{pid}-{start}-{number}-{title}"))
}

/// Whether the process that made this name lives. None if it is no name of a run.
pub(super) fn owner_lives(name: &str) -> Option<bool> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(4, '-');
    let pid: u32 = parts.next()?.parse().ok()?;
    let start: u64 = parts.next()?.parse().ok()?;
    let _number: u32 = parts.next()?.parse().ok()?;
    parts.next()?;
    Some(start_ticks(pid) == Some(start))
}

/// Field 22 of /proc/PID/stat; the fields are counted from the end of the command, which may hold anything.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_know_their_owner() {
        let name = fresh("socket_tcp: long and odd title").unwrap();
        assert_eq!(owner_lives(&name), Some(true));
        assert!(name.len() < 64, "{name}");
        let pid = std::process::id();
        assert_eq!(
            owner_lives(&format!("{PREFIX}{pid}-1-1-other-start")),
            Some(false)
        );
    }

    #[test]
    fn other_names_are_left_alone() {
        for name in ["mesh-lab-", "mesh-lab-x-1-1-a", "web", "mesh-lab-1-2-3"] {
            assert_eq!(owner_lives(name), None, "{name}");
        }
    }
}
