//! How long the kernel's own conntrack remembers TCP connections: kube-proxy sets that for its node, so who takes its place
//! can be told to. In: what is wanted. Out: the node's timeouts, and a file in the run directory that says what they were,
//! by which `cleanup` puts them back.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    admin::run_dir,
    netlink::{TcpState, set_tcp_timeout},
};

const SYSCTLS: &str = "/proc/sys/net/netfilter";

const STATES: [(TcpState, &str); 2] = [
    (
        TcpState::Established,
        "nf_conntrack_tcp_timeout_established",
    ),
    (TcpState::CloseWait, "nf_conntrack_tcp_timeout_close_wait"),
];

/// What is wanted; None leaves a timeout as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Of connections that are established.
    pub established: Option<Duration>,
    /// Of those that one side has closed.
    pub close_wait: Option<Duration>,
}

impl Timeouts {
    fn of(&self, state: TcpState) -> Option<u32> {
        let wanted = match state {
            TcpState::Established => self.established,
            TcpState::CloseWait => self.close_wait,
        };
        let seconds = |it: Duration| u32::try_from(it.as_secs()).unwrap_or(u32::MAX);
        // To kube-proxy too 0 means: as it is.
        wanted.map(seconds).filter(|seconds| *seconds != 0)
    }
}

/// Keeps the timeouts as they are wanted: a kernel may get its conntrack later than the agent starts.
#[derive(Debug)]
pub(crate) struct Keeper {
    wanted: Timeouts,
    file: PathBuf,
    /// That something could not be set is said once.
    has_failed: bool,
}

impl Keeper {
    pub(crate) fn new(wanted: Timeouts, run_dir: &Path) -> Self {
        Self {
            wanted,
            file: run_dir.join(run_dir::CONNTRACK_TIMEOUTS),
            has_failed: false,
        }
    }

    /// Sets what is not as wanted.
    pub(crate) fn apply(&mut self) {
        for (state, name) in STATES {
            let Some(wanted) = self.wanted.of(state) else {
                continue;
            };
            // A kernel without conntrack has no such file.
            let Some(found) = read(name).filter(|found| *found != wanted) else {
                continue;
            };
            let set =
                remember(&self.file, name, found, wanted).and_then(|()| set(state, name, wanted));
            match set {
                Ok(()) => tracing::info!(
                    name,
                    before = found,
                    now = wanted,
                    "the kernel's conntrack has another timeout"
                ),
                Err(error) if !self.has_failed => {
                    self.has_failed = true;
                    tracing::warn!(
                        "{name} stays at {found} s: {error}; set it with sysctl, or leave out the flag that asks for {wanted} s"
                    );
                }
                Err(_) => {}
            }
        }
    }
}

/// What is, or would be, put back: "NAME = SECONDS". What somebody has set to something else since stays.
pub(crate) fn restore(run_dir: &Path, dry_run: bool) -> Vec<String> {
    let text = fs::read_to_string(run_dir.join(run_dir::CONNTRACK_TIMEOUTS)).unwrap_or_default();
    let changed = text.lines().filter_map(Changed::parse);
    let ours = changed.filter(|it| read(it.name) == Some(it.now));
    let back = ours.filter(|it| {
        dry_run
            || set(it.state, it.name, it.before)
                .inspect_err(|error| tracing::warn!("{} stays at {} s: {error}", it.name, it.now))
                .is_ok()
    });
    back.map(|it| format!("{} = {}", it.name, it.before))
        .collect()
}

/// A line of the file: what a timeout was before an agent set it, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Changed {
    state: TcpState,
    name: &'static str,
    before: u32,
    now: u32,
}

impl Changed {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let (state, name) = STATES.into_iter().find(|(_, known)| *known == name)?;
        Some(Self {
            state,
            name,
            before: words.next()?.parse().ok()?,
            now: words.next()?.parse().ok()?,
        })
    }
}

/// The file with one more line, or with another number in the one that is there: what was before the first change counts.
fn noted(text: &str, name: &str, before: u32, now: u32) -> String {
    let known = text.lines().filter_map(Changed::parse);
    let (own, others): (Vec<_>, Vec<_>) = known.partition(|it| it.name == name);
    let before = own.first().map_or(before, |it| it.before);
    let others = others
        .iter()
        .map(|it| format!("{} {} {}\n", it.name, it.before, it.now));
    others.chain([format!("{name} {before} {now}\n")]).collect()
}

fn remember(file: &Path, name: &str, before: u32, now: u32) -> io::Result<()> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    fs::write(file, noted(&text, name, before, now))
}

/// What the kernel's conntrack is set to, in seconds; None where it has no such setting.
pub(crate) fn read(name: &str) -> Option<u32> {
    let text = fs::read_to_string(Path::new(SYSCTLS).join(name)).ok()?;
    text.trim().parse().ok()
}

fn set(state: TcpState, name: &str, seconds: u32) -> io::Result<()> {
    let written = fs::write(Path::new(SYSCTLS).join(name), seconds.to_string());
    // Containers may not write there, or only see it.
    written.or_else(|_| set_tcp_timeout(state, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE_WAIT: &str = "nf_conntrack_tcp_timeout_close_wait";

    #[test]
    fn what_was_before_the_first_change_is_kept() {
        let text = noted("", CLOSE_WAIT, 60, 3600);
        let text = noted(
            &text,
            "nf_conntrack_tcp_timeout_established",
            432_000,
            86_400,
        );
        let text = noted(&text, CLOSE_WAIT, 3600, 1800);
        let changed: Vec<_> = text.lines().filter_map(Changed::parse).collect();
        let numbers: Vec<_> = changed.iter().map(|it| (it.before, it.now)).collect();
        assert_eq!(numbers, [(432_000, 86_400), (60, 1800)]);
        assert_eq!(Changed::parse("kernel.panic 0 1"), None);
    }

    #[test]
    fn seconds_are_whole_and_have_an_end() {
        let wanted = Timeouts {
            established: Some(Duration::MAX),
            close_wait: Some(Duration::ZERO),
        };
        assert_eq!(wanted.of(TcpState::Established), Some(u32::MAX));
        assert_eq!(wanted.of(TcpState::CloseWait), None);
    }
}
