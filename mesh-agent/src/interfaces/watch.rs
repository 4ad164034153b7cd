//! Follows the interfaces on a thread of its own. Notifications are hints, the dump is the truth: each one that matters
//! and each loss of some leads to a look, and what differs from the last one is sent, whole.

use std::{
    collections::BTreeSet,
    io,
    ops::ControlFlow,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    classify::{Interfaces, Options, classify},
    clients::{Clients, Namespaces},
    follow::{Difference, Follower},
    look::look,
};
use crate::netlink::{Hint, Socket, Subscription};

/// How long after the first hint others are waited for: a pod comes with a dozen of them.
const BURST: Duration = Duration::from_millis(20);
/// How often the kernel is asked when it does not tell of other namespaces' addresses.
const UNTOLD: Duration = Duration::from_secs(5);
/// How often it is asked although it tells.
const TOLD: Duration = Duration::from_secs(60);
/// How long after a look that failed the next one is taken.
const AGAIN: Duration = Duration::from_millis(200);

/// Why interfaces cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {what}: {source}; following interfaces takes CAP_NET_ADMIN in the host's network namespace"
)]
pub struct WatchError {
    what: &'static str,
    source: io::Error,
}

impl WatchError {
    fn of(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { what, source }
    }
}

/// The interfaces as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// All of them.
    pub interfaces: Interfaces,
    /// What is not as it was in the update before; empty if the kernel is only to be compared with what should be there.
    pub differences: Vec<Difference>,
    /// Who the clients at sockets are.
    pub clients: Clients,
}

/// The interfaces as they are at this moment, without following them.
///
/// # Errors
/// If the kernel does not answer.
pub fn look_once(options: &Options) -> Result<Interfaces, WatchError> {
    let mut socket = Socket::open().map_err(WatchError::of("open a netlink socket"))?;
    let snapshot = look(&mut socket).map_err(WatchError::of("ask for the interfaces"))?;
    let (interfaces, _) =
        Follower::default().follow(classify(&snapshot, options), &BTreeSet::new());
    Ok(interfaces)
}

/// Follows the interfaces of the namespace in which it was opened.
#[derive(Debug)]
pub struct Watch {
    options: Options,
    socket: Socket,
    here: Subscription,
    everywhere: Option<Subscription>,
    stop: UnixStream,
    follower: Follower,
    namespaces: Namespaces,
    sent: Option<(Interfaces, Clients)>,
}

/// Ends the watch that it came with, when it is told to or dropped.
#[derive(Debug)]
pub struct Stop(UnixStream);

impl Stop {
    /// Ends the watch.
    pub fn stop(self) {
        drop(self.0);
    }
}

enum Woken {
    Hints,
    Timeout,
    Stop,
}

/// What hints add up to.
#[derive(Debug, Default)]
struct Hints {
    deleted: BTreeSet<u32>,
    lost: bool,
}

impl Watch {
    /// Subscribes; nothing is asked yet. `netns` are the directories in which pods' namespaces are files.
    ///
    /// # Errors
    /// If the kernel gives no sockets.
    pub fn open(options: Options, netns: Vec<PathBuf>) -> Result<(Self, Stop), WatchError> {
        let here = Subscription::here().map_err(WatchError::of("subscribe to interfaces"))?;
        let everywhere = Subscription::everywhere().map_err(|error| {
            tracing::info!(
                %error,
                "without CAP_NET_BROADCAST the kernel does not tell of addresses in pods: they are asked for every 5 s"
            );
        });
        let socket = Socket::open().map_err(WatchError::of("open a netlink socket"))?;
        let (ours, theirs) =
            UnixStream::pair().map_err(WatchError::of("make a pair of sockets"))?;
        let watch = Self {
            options,
            socket,
            here,
            everywhere: everywhere.ok(),
            stop: ours,
            follower: Follower::default(),
            namespaces: Namespaces::new(netns),
            sent: None,
        };
        Ok((watch, Stop(theirs)))
    }

    /// Sends the interfaces as they are and then whenever they differ, until it is stopped or nobody listens.
    pub fn run(mut self, mut send: impl FnMut(Update) -> ControlFlow<()>) {
        let mut hints = Hints::default();
        loop {
            let pause = match look(&mut self.socket) {
                Ok(snapshot) => {
                    let now = classify(&snapshot, &self.options);
                    let update = self.update(now, &std::mem::take(&mut hints));
                    if update.is_some_and(|update| send(update).is_break()) {
                        return;
                    }
                    self.interval()
                }
                Err(error) => {
                    tracing::warn!(%error, "the interfaces could not be asked for; trying again");
                    AGAIN
                }
            };
            match self.wait_for_burst(pause) {
                Ok(Woken::Stop) => return,
                Ok(Woken::Hints | Woken::Timeout) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot wait for news of interfaces");
                    std::thread::sleep(AGAIN);
                }
            }
            self.take(&mut hints);
        }
    }

    /// What is to be sent: also what did not change, when something was deleted or lost in between, so that what is
    /// attached is looked at.
    fn update(&mut self, now: Interfaces, hints: &Hints) -> Option<Update> {
        let (interfaces, differences) = self.follower.follow(now, &hints.deleted);
        let clients = self.namespaces.clients(&mut self.socket, &interfaces);
        let now = (interfaces, clients);
        let same = self.sent.as_ref() == Some(&now) && differences.is_empty();
        if same && !hints.lost && hints.deleted.is_empty() {
            return None;
        }
        self.sent = Some(now.clone());
        let (interfaces, clients) = now;
        Some(Update {
            interfaces,
            differences,
            clients,
        })
    }

    fn interval(&self) -> Duration {
        if self.everywhere.is_some() {
            TOLD
        } else {
            UNTOLD
        }
    }

    /// Waits for a hint, and then for the others that come with it.
    fn wait_for_burst(&self, pause: Duration) -> io::Result<Woken> {
        let subscriptions = std::iter::once(&self.here).chain(&self.everywhere);
        let told = subscriptions.map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN));
        match self.wait(told.collect(), pause)? {
            Woken::Hints => match self.wait(Vec::new(), BURST)? {
                Woken::Stop => Ok(Woken::Stop),
                Woken::Hints | Woken::Timeout => Ok(Woken::Hints),
            },
            woken @ (Woken::Timeout | Woken::Stop) => Ok(woken),
        }
    }

    fn wait<'a>(&'a self, mut fds: Vec<PollFd<'a>>, pause: Duration) -> io::Result<Woken> {
        let until = Instant::now() + pause;
        fds.push(PollFd::new(self.stop.as_fd(), PollFlags::POLLIN));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(Woken::Timeout),
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let stopped = fds.last().and_then(PollFd::any).unwrap_or(true);
        Ok(if stopped { Woken::Stop } else { Woken::Hints })
    }

    fn take(&mut self, hints: &mut Hints) {
        for subscription in std::iter::once(&mut self.here).chain(&mut self.everywhere) {
            match subscription.take() {
                Ok(found) => hints.add(&found),
                Err(error) => {
                    tracing::warn!(%error, "news of interfaces could not be read");
                    hints.lost = true;
                }
            }
        }
    }
}

impl Hints {
    fn add(&mut self, found: &[Hint]) {
        for hint in found {
            match hint {
                Hint::Changed => {}
                Hint::Deleted(index) => drop(self.deleted.insert(*index)),
                Hint::Lost => self.lost = true,
            }
        }
    }
}
