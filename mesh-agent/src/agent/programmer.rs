//! The engine's thread: batches in, writes out; programs are put in force once the first full state is in the maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant, SystemTime},
};

use super::{
    housekeeping::Housekeeping,
    passes::Passes,
    shared::{KernelEngine, Monotonic, Shared},
};
use crate::{
    apply::Clock,
    config::Intervals,
    datapath,
    desired::Finding,
    engine::StepReport,
    model::ObjectName,
    source::Batch,
    telemetry::{
        kube_proxy::Pass,
        metrics::{Metrics, StartupStage},
    },
};

/// Without anything to do the thread still wakes up this often.
const IDLE: Duration = Duration::from_secs(30);
/// How often putting programs in force is tried again.
const COMMIT_AGAIN: Duration = Duration::from_secs(2);

struct Programmer<'a> {
    shared: &'a Shared,
    metrics: &'a Metrics,
    findings: BTreeSet<Finding>,
    /// The engine's revision of them.
    revision: u64,
    source_problems: usize,
    /// Failed writes that were counted.
    failures: BTreeMap<&'static str, u64>,
    committed: bool,
    began: Instant,
    /// When the source had delivered everything once.
    listed: Option<Instant>,
    passes: Passes,
    /// This node.
    node: ObjectName,
}

/// Runs until no batch can come any more.
pub(super) fn run(
    shared: &Shared,
    metrics: &Metrics,
    batches: &Receiver<Batch>,
    intervals: Intervals,
) {
    let mut programmer = Programmer {
        shared,
        metrics,
        findings: BTreeSet::new(),
        revision: 0,
        source_problems: 0,
        failures: BTreeMap::new(),
        committed: false,
        began: Instant::now(),
        listed: None,
        passes: Passes::new(SystemTime::now()),
        node: ObjectName::new("", shared.node()),
    };
    let mut housekeeping = Housekeeping::new(Instant::now(), intervals);
    let mut pause = IDLE;
    loop {
        match batches.recv_timeout(pause) {
            Ok(batch) => pause = programmer.take(batch),
            Err(RecvTimeoutError::Timeout) => pause = programmer.step(None),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if programmer.committed {
            let due = housekeeping.run(shared, metrics, Instant::now());
            pause = pause.min(due);
        }
    }
}

impl Programmer<'_> {
    fn take(&mut self, batch: Batch) -> Duration {
        if let Some(problems) = batch.problems {
            self.source_problems = problems.len();
            for problem in self.shared.set_problems(problems) {
                self.metrics.problem_found();
                tracing::warn!("{problem}");
            }
        }
        tracing::debug!(changes = batch.changes.len(), "objects changed");
        let changes = self.passes.take(&batch.changes);
        self.metrics.kube_proxy.queued(changes, SystemTime::now());
        let mut engine = self.shared.engine();
        engine.submit(batch.changes);
        let listed = engine.store().is_synced();
        drop(engine);
        if listed && self.listed.is_none() {
            self.metrics
                .started(StartupStage::List, self.began.elapsed());
            self.listed = Some(Instant::now());
        }
        self.step(Some(batch.received))
    }

    /// Writes what is due; how long to wait for the next batch.
    fn step(&mut self, received: Option<Instant>) -> Duration {
        let began = Instant::now();
        let mut engine = self.shared.engine();
        let report = engine.step();
        let took = began.elapsed();
        if report.writes > 0 || report.failures > 0 {
            tracing::debug!(
                stores = report.stores,
                operations = report.map_ops,
                failures = report.failures,
                "written"
            );
        }
        let programmed = engine.is_programmed();
        let full = !self.committed;
        let failing = engine.is_failing();
        let node = engine.store().node(&self.node);
        self.shared
            .set_node_eligible(node.is_none_or(|node| !node.leaving));
        let findings = self.new_findings(&engine);
        let failures = engine.write_failures().clone();
        self.metrics.set_dirty(engine.dirty());
        drop(engine);
        self.count_failures(failures);
        if let Some(received) = received.filter(|_| report.writes > 0) {
            self.metrics.programmed(received.elapsed());
        }
        if let Some(findings) = findings {
            self.tell(findings);
        }
        self.metrics
            .set_problems(self.source_problems + self.findings.len());
        if programmed && !self.committed && !self.commit() {
            return COMMIT_AGAIN;
        }
        if failing {
            self.shared.set_behind();
        } else if self.committed {
            self.shared.set_updated();
            self.synced(full, took);
        }
        until_wakeup(&report)
    }

    /// Everything that came in is in force.
    fn synced(&mut self, full: bool, took: Duration) {
        let ended = SystemTime::now();
        let pass = Pass { full, took, ended };
        self.metrics.kube_proxy.synced(pass);
        self.passes.done(&self.metrics.kube_proxy, ended);
    }

    fn count_failures(&mut self, failures: BTreeMap<&'static str, u64>) {
        for (map, count) in &failures {
            for _ in self.failures.get(map).copied().unwrap_or_default()..*count {
                self.metrics.write_failed(map);
            }
        }
        self.failures = failures;
    }

    /// What the engine has found; None while it is as it was.
    fn new_findings(&mut self, engine: &KernelEngine) -> Option<BTreeSet<Finding>> {
        let revision = engine.findings_revision();
        let changed = revision != self.revision;
        self.revision = revision;
        changed.then(|| engine.findings().into_iter().collect())
    }

    /// New findings are told once.
    fn tell(&mut self, findings: BTreeSet<Finding>) {
        for finding in findings.difference(&self.findings) {
            self.metrics.problem_found();
            tracing::warn!("{finding}");
        }
        self.findings = findings;
    }

    /// Puts the programs in force. Until then the agent is not ready.
    fn commit(&mut self) -> bool {
        let programmed = Instant::now();
        if let Err(error) = self.shared.engine().writer().commit() {
            tracing::error!("{error}; trying again");
            self.shared.set_obstacle(error.to_string());
            return false;
        }
        self.committed = true;
        self.shared.set_ready();
        let listed = self.listed.unwrap_or(programmed);
        self.metrics
            .started(StartupStage::Write, programmed.duration_since(listed));
        self.metrics
            .started(StartupStage::Attach, programmed.elapsed());
        datapath::trim_heap();
        let waiting = self.shared.engine().dirty();
        let services = if waiting == 0 {
            "every Service is programmed".to_owned()
        } else {
            format!("{waiting} Services are not programmed, every other is")
        };
        tracing::info!(
            milliseconds = self.began.elapsed().as_millis(),
            "{services}, the programs are in force"
        );
        true
    }
}

fn until_wakeup(report: &StepReport) -> Duration {
    report
        .next_wakeup
        .map_or(IDLE, |at| at.saturating_sub(Monotonic.now()).min(IDLE))
}
