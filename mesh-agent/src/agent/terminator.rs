//! The thread that destroys connected sockets whose backend is gone. It is told what to look for once the tables are
//! without those backends, so that whoever connects anew is given another; it looks soon, and again when the ids of
//! what was taken back have rested, for sockets that had chosen by then and were not yet connected.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mesh_common::Address;

use super::shared::Shared;
use crate::{
    datapath::{Connections, DatapathError},
    gone::{Destroyer, Doomed, Look, Outcome, Pace},
    telemetry::metrics::Metrics,
};

/// When it looks again: an id is given out anew after it has rested for a second.
const AGAIN: Duration = Duration::from_secs(1);
/// How long it waits when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// The running thread. It ends when nobody holds a sender any more.
pub(super) struct Terminator(JoinHandle<()>);

impl Terminator {
    /// Begins; what is sent is looked for.
    pub(super) fn start(
        shared: Arc<Shared>,
        metrics: Metrics,
        destroyer: Destroyer,
    ) -> std::io::Result<(Self, Sender<Look>)> {
        let (sender, looks) = channel();
        let work = Work {
            shared,
            metrics,
            destroyer,
            pace: Pace::default(),
            connections: None,
            later: VecDeque::new(),
            said: BTreeSet::new(),
        };
        let thread = std::thread::Builder::new().name("terminator".to_owned());
        let thread = thread.spawn(move || work.run(&looks))?;
        Ok((Self(thread), sender))
    }

    /// Waits for its end.
    pub(super) fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("a thread broke down: a defect, please report it");
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    metrics: Metrics,
    destroyer: Destroyer,
    pace: Pace,
    /// Kept from a look until nothing is to be looked for again.
    connections: Option<Connections>,
    /// What is looked for again, and when.
    later: VecDeque<(Instant, Look)>,
    /// What failed is said once.
    said: BTreeSet<String>,
}

impl Work {
    fn run(mut self, looks: &Receiver<Look>) {
        loop {
            let due = self.later.front().map(|(due, _)| *due);
            let pause = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
            let mut new = match looks.recv_timeout(pause) {
                Ok(look) => look,
                Err(RecvTimeoutError::Timeout) => Look::default(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            std::thread::sleep(self.pace.pause(Instant::now()));
            for more in looks.try_iter() {
                new.extend(more);
            }
            let mut look = self.due();
            look.extend(new.clone());
            if !look.is_empty() {
                let began = Instant::now();
                self.look(&look);
                self.pace.looked(began, began.elapsed());
            }
            if !new.is_empty() {
                self.later.push_back((Instant::now() + AGAIN, new.again()));
            }
            if self.later.is_empty() {
                self.connections = None;
            }
        }
    }

    /// What is to be looked for again by now.
    fn due(&mut self) -> Look {
        let now = Instant::now();
        let mut look = Look::default();
        while let Some((_, due)) = self.later.pop_front_if(|(due, _)| *due <= now) {
            look.extend(due);
        }
        look
    }

    fn look(&mut self, look: &Look) {
        match self.doomed(look) {
            Ok(doomed) if doomed.is_empty() => {}
            Ok(doomed) => {
                let outcome = self.destroyer.destroy(doomed);
                self.tell(outcome);
            }
            Err(error) => tracing::warn!("{error}; looking for sockets of gone backends later"),
        }
    }

    fn doomed(&mut self, look: &Look) -> Result<Doomed, DatapathError> {
        let reader = self.shared.reader();
        let connections = match self.connections.take() {
            Some(connections) => connections,
            None => reader.connections()?,
        };
        let connections = self.connections.insert(connections);
        let peers = connections.peers().filter(|peer| look.concerns(peer));
        let sockets = peers.map(|peer| Ok((peer, reader.backend(peer.id())?)));
        let sockets: Vec<_> = sockets.collect::<Result<_, DatapathError>>()?;
        let questions = look.questions(&sockets);
        let alive = self.alive(questions);
        Ok(look.doomed(&sockets, &alive))
    }

    fn alive(&self, mut addresses: BTreeSet<Address>) -> BTreeSet<Address> {
        if !addresses.is_empty() {
            let engine = self.shared.engine();
            addresses.retain(|address| engine.store().is_alive(*address));
        }
        addresses
    }

    fn tell(&mut self, outcome: Outcome) {
        for (protocol, count) in &outcome.destroyed {
            self.metrics.sockets_destroyed(protocol, *count);
        }
        self.metrics.namespaces_searched(outcome.searched);
        self.shared.add_destroyed(outcome.destroyed.values().sum());
        tracing::debug!(
            destroyed = ?outcome.destroyed,
            missing = outcome.missing,
            namespaces = outcome.searched,
            "looked for sockets of gone backends"
        );
        if outcome.is_denied {
            self.say(
                "sockets in pods are not destroyed when their backend is gone: entering pods' namespaces takes \
                 CAP_SYS_ADMIN"
                    .to_owned(),
            );
        }
        for error in outcome.errors {
            self.say(format!(
                "sockets whose backend is gone are not all destroyed: {error}; `mesh-agent check` says what the kernel can"
            ));
        }
    }

    fn say(&mut self, what: String) {
        if !self.said.contains(&what) {
            tracing::warn!("{what}");
            self.said.insert(what);
        }
    }
}
