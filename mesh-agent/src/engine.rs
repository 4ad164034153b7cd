//! The loop from changes to writes, without threads: changes come in by `submit`, `step` writes whatever is due, and
//! what cannot be written now is tried again later. Owns store, mirror and writer.

mod audit;
mod findings;
mod queue;
mod random;
mod standing;
mod unread;
mod view;

use std::collections::BTreeMap;

use mesh_common::{Address, FrontendKey};

use crate::{
    apply::{Clock, MapWriter, Tally, WriteError, execute},
    desired::{Desired, desired},
    gone::Look,
    model::{Change, Kind, ObjectId},
    plan::{
        Applied, Holders, Surroundings, Time, Transaction, plan_garbage, plan_known, plan_lost,
        plan_lower, plan_raise,
    },
    store::{Store, Touched},
};
use findings::Findings;
use queue::{Queue, Retry};
use standing::Standing;
use unread::Unread;

pub use random::{Random, SplitMix};
pub use standing::WithoutLocal;
pub use view::{BackendView, PortView, ServiceView};

/// One Service that cannot be written must not keep all others out of force for longer.
const LONG_ENOUGH: Time = Time::from_secs(5);

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// All writes: system calls and stores.
    pub writes: u64,
    /// System calls on maps.
    pub map_ops: u64,
    /// Single stores into mapped arrays.
    pub stores: u64,
    /// Grace periods waited for.
    pub graces: u64,
    /// Services whose writes failed, and will be tried again.
    pub failures: u64,
    /// When to call `step` again without a change; None: not before one.
    pub next_wakeup: Option<Time>,
}

/// See the module.
#[derive(Debug)]
pub struct Engine<W, C, R> {
    store: Store,
    applied: Applied,
    writer: W,
    clock: C,
    random: R,
    queue: Queue,
    findings: Findings,
    standing: Standing,
    /// `Applied::freed` when the unfit were last tried.
    freed: u64,
    /// What an earlier run left is to be looked for, and when.
    garbage: Option<Retry>,
    write_failures: BTreeMap<&'static str, u64>,
    unread: Unread,
    /// Whose sockets are to be destroyed.
    gone: Look,
    /// When writing began.
    began: Option<Time>,
    programmed: bool,
}

impl<W: MapWriter, C: Clock, R: Random> Engine<W, C, R> {
    /// Over a store (empty, as a rule) and what the kernel holds.
    pub fn new(store: Store, applied: Applied, writer: W, clock: C, random: R) -> Self {
        let mut queue = Queue::default();
        for owner in store.owners() {
            queue.add(&owner, Time::ZERO);
        }
        Self {
            store,
            applied,
            writer,
            clock,
            random,
            queue,
            findings: Findings::default(),
            standing: Standing::default(),
            freed: 0,
            garbage: Some(Retry::default()),
            write_failures: BTreeMap::new(),
            unread: Unread::default(),
            gone: Look::everything(),
            began: None,
            programmed: false,
        }
    }

    /// Takes changes in. Nothing is written before the next step.
    pub fn submit(&mut self, changes: impl IntoIterator<Item = Change>) {
        let mut touched = Touched::default();
        let was_incomplete = self.store.is_incomplete();
        let knew_all = self.store.is_synced() && !was_incomplete;
        for change in changes {
            self.store.apply(change, &mut touched);
        }
        let now = self.clock.now();
        for address in touched.died {
            self.died(address, now);
            if knew_all {
                self.gone.departed(address);
            }
        }
        if knew_all {
            self.gone.replaced(touched.replaced);
        }
        for owner in touched.owners {
            self.queue.add(&owner, now);
        }
        if was_incomplete && !self.store.is_incomplete() {
            self.unread.clear();
            self.gone.extend(Look::everything());
            self.plan_all(now);
        }
    }

    /// Every Service and every Pod with host ports is planned anew, and what nobody wants is looked for.
    fn plan_all(&mut self, now: Time) {
        for owner in self.store.owners() {
            self.queue.add(&owner, now);
        }
        self.garbage = Some(Retry::at(now));
    }

    /// Writes what is due. Nothing is written before every kind has delivered its first full list.
    pub fn step(&mut self) -> StepReport {
        let now = self.clock.now();
        let mut report = StepReport::default();
        if !self.store.is_synced() {
            return report;
        }
        self.applied.settle(now);
        self.gone.came_back(|address| self.store.is_alive(address));
        self.retry_unfit(now);
        let mut tally = Tally::default();
        self.drop_lost(&mut tally, &mut report);
        let due = self.queue.take_due(now);
        // All raises come first: a frontend that changes hands is replaced before its old holder could delete it.
        let mut to_lower = Vec::new();
        for (owner, retry) in due {
            if self.awaits_endpoints(&owner) {
                continue;
            }
            let (mut desired, findings) = desired(&self.store, &owner);
            if self.store.is_incomplete() {
                self.unread.keep(&self.applied, &mut desired);
            }
            self.findings.planned(&owner, findings);
            self.standing.planned(&owner, &desired);
            match self.raise(&owner, &desired, &mut tally) {
                Ok(()) if self.lower_plan(&owner, &desired).is_empty() => {
                    self.findings.written(&owner, None);
                }
                Ok(()) => to_lower.push((owner, desired, retry)),
                Err(error) => self.failed(owner, retry, &error, &mut report),
            }
        }
        for (owner, desired, retry) in to_lower {
            let lower = self.lower_plan(&owner, &desired);
            match self.execute(&lower, &mut tally) {
                Ok(()) if lower.waits => {
                    let retry = retry.later(self.clock.now(), &mut self.random);
                    self.queue.put_back(owner, retry);
                }
                Ok(()) => self.findings.written(&owner, None),
                Err(error) => self.failed(owner, retry, &error, &mut report),
            }
        }
        self.collect_garbage(now, &mut tally, &mut report);
        let without_backend = |address| self.applied.holders(address) == Holders::default();
        self.gone.taken_back(without_backend);
        let began = *self.began.get_or_insert(now);
        let tried = now.saturating_sub(began) >= LONG_ENOUGH;
        self.programmed |= self.queue.is_empty() || tried;
        self.finish(tally, report)
    }

    /// An address is nobody's any more: the backends there are to go.
    fn died(&mut self, address: Address, now: Time) {
        let holders = self.applied.holders(address);
        for owner in holders.owners {
            self.queue.add(&owner, now);
        }
        if holders.orphans {
            self.garbage = Some(Retry::at(now));
        }
    }

    /// Which connected sockets are to be looked for, once: those of backends that were taken back. Nothing is known to be
    /// gone before every kind has delivered its first full list, nor while something of the source cannot be read.
    pub fn take_gone(&mut self) -> Look {
        if !self.store.is_synced() || self.store.is_incomplete() {
            return Look::default();
        }
        let look = self.gone.take();
        // What could not be written yet may still serve who is gone.
        if look.is_of_everything() && self.is_failing() {
            self.gone.extend(Look::everything());
        }
        look
    }

    /// Whether a Service is left as an earlier run had it: where its endpoints come from may be in what could not be
    /// read.
    fn awaits_endpoints(&self, owner: &ObjectId) -> bool {
        let service = Some(owner).filter(|owner| owner.kind == Kind::Service);
        let service = service.and_then(|owner| self.store.service(&owner.name));
        self.store.is_incomplete()
            && service.is_some_and(|service| {
                let ports = service.ports.iter();
                let mut keys =
                    ports.flat_map(|port| self.store.frontends(service, port).into_keys());
                !self.store.has_endpoint_sources(service)
                    && keys.any(|key| self.applied.is_left_over(&key))
            })
    }

    fn raise(
        &mut self,
        owner: &ObjectId,
        desired: &Desired,
        tally: &mut Tally,
    ) -> Result<(), WriteError> {
        let (transaction, error) = match plan_raise(&self.applied, owner, desired) {
            Ok(transaction) => (transaction, None),
            Err(error) => (plan_known(&self.applied, owner, desired), Some(error)),
        };
        self.findings.fitted(owner, error);
        self.execute(&transaction, tally)
    }

    fn lower_plan(&self, owner: &ObjectId, desired: &Desired) -> Transaction {
        let incomplete = self.store.is_incomplete();
        let claimed = |key: &FrontendKey| {
            let winner = self.store.winner(key);
            winner.is_some_and(|winner| winner != owner)
        };
        let around = Surroundings {
            alive: &|address| incomplete || self.store.is_alive(address),
            claimed: &claimed,
        };
        plan_lower(&self.applied, owner, desired, &around)
    }

    fn execute(&mut self, transaction: &Transaction, tally: &mut Tally) -> Result<(), WriteError> {
        execute(
            transaction,
            &mut self.applied,
            &mut self.writer,
            &self.clock,
            tally,
        )
    }

    /// What cannot be deleted keeps the sets that it leads to: nobody takes those over.
    fn drop_lost(&mut self, tally: &mut Tally, report: &mut StepReport) {
        if self.store.is_incomplete() || !self.applied.has_leftovers() {
            return;
        }
        let wanted = |key: &_| self.store.winner(key).is_some();
        let transaction = plan_lost(&self.applied, &wanted);
        if let Err(error) = self.execute(&transaction, tally) {
            self.count_failure(&error, report);
        }
    }

    fn collect_garbage(&mut self, now: Time, tally: &mut Tally, report: &mut StepReport) {
        if self.store.is_incomplete() {
            return;
        }
        let retry = match self.garbage.take_if(|retry| retry.is_due(now)) {
            Some(retry) => retry,
            // What a Service wanted but could not claim is looked at again after each change.
            None if self.garbage.is_none() && self.applied.has_leftovers() => Retry::default(),
            None => return,
        };
        let wanted = |key: &_| self.store.winner(key).is_some();
        let alive = |address| self.store.is_alive(address);
        let transaction = plan_garbage(&self.applied, &wanted, &alive);
        if let Err(error) = self.execute(&transaction, tally) {
            self.count_failure(&error, report);
            self.garbage = Some(retry.later(self.clock.now(), &mut self.random));
        }
    }

    /// What did not fit is tried again once something has become free.
    fn retry_unfit(&mut self, now: Time) {
        let freed = self.applied.freed();
        if freed == self.freed {
            return;
        }
        self.freed = freed;
        for owner in self.findings.unfit() {
            self.queue.add(owner, now);
        }
    }

    fn failed(
        &mut self,
        owner: ObjectId,
        retry: Retry,
        error: &WriteError,
        report: &mut StepReport,
    ) {
        self.count_failure(error, report);
        self.findings.written(&owner, Some(error.to_string()));
        let retry = retry.later(self.clock.now(), &mut self.random);
        self.queue.put_back(owner, retry);
    }

    fn count_failure(&mut self, error: &WriteError, report: &mut StepReport) {
        report.failures += 1;
        *self.write_failures.entry(error.map()).or_default() += 1;
    }

    fn finish(&self, tally: Tally, report: StepReport) -> StepReport {
        let unfit = if self.findings.unfit().len() == 0 {
            None
        } else if self.applied.freed() == self.freed {
            self.applied.next_rest()
        } else {
            Some(self.clock.now())
        };
        let garbage = self.garbage.filter(|_| !self.store.is_incomplete());
        let garbage = garbage.map(|retry| retry.due());
        let wakeups = [unfit, garbage, self.queue.next_due()];
        StepReport {
            writes: tally.writes(),
            map_ops: tally.map_ops,
            stores: tally.stores,
            graces: tally.graces,
            next_wakeup: wakeups.into_iter().flatten().min(),
            ..report
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
