//! Batches in, writes out; programs are put in force once the first full state is in the maps. Knows no threads: `turns`
//! says which of them programs when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant, SystemTime},
};

use super::{
    attach::Attachments,
    health_checks::HealthChecks,
    passes::Passes,
    shared::{KernelEngine, Monotonic, Shared},
    take_over::TakeOver,
};
use crate::{
    apply::Clock,
    datapath,
    desired::{Finding, Weight},
    engine::StepReport,
    gone::Look,
    interfaces::{Place, Update},
    model::{Change, ObjectName},
    source::{
        Batch, Moment,
        news::{Herald, News},
    },
    telemetry::{
        kube_proxy::Pass,
        metrics::{Metrics, StartupStage},
    },
};

/// Without anything to do the engine still looks this often.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// How often putting programs in force is tried again.
const COMMIT_AGAIN: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Programmer {
    attachments: Arc<Attachments>,
    shared: Arc<Shared>,
    metrics: Metrics,
    /// Who is told what owners of objects should see.
    herald: Herald,
    /// Who destroys sockets whose backend is gone; None with --terminate-connections never.
    terminator: Option<Sender<Look>>,
    take_over: TakeOver,
    findings: BTreeSet<Finding>,
    /// The engine's revision of them.
    revision: u64,
    source_problems: usize,
    /// Failed writes that were counted.
    failures: BTreeMap<&'static str, u64>,
    committed: bool,
    /// Connections are, or are not, asked who their clients are, as Services want it.
    learns: bool,
    began: Instant,
    /// When the source had delivered everything once.
    listed: Option<Instant>,
    passes: Passes,
    /// This node.
    node: ObjectName,
    health_checks: HealthChecks,
}

impl Programmer {
    pub(super) fn new(
        shared: Arc<Shared>,
        metrics: Metrics,
        herald: Herald,
        attachments: Arc<Attachments>,
        terminator: Option<Sender<Look>>,
        take_over: TakeOver,
        health_checks: HealthChecks,
    ) -> Self {
        Self {
            attachments,
            health_checks,
            node: ObjectName::new("", shared.node()),
            shared,
            metrics,
            herald,
            terminator,
            take_over,
            findings: BTreeSet::new(),
            revision: 0,
            source_problems: 0,
            failures: BTreeMap::new(),
            committed: false,
            learns: false,
            began: Instant::now(),
            listed: None,
            passes: Passes::new(SystemTime::now()),
        }
    }

    /// Whether the programs are in force.
    pub(super) const fn is_committed(&self) -> bool {
        self.committed
    }

    /// Takes a batch in and writes what is due; how long until the next step at the latest.
    pub(super) fn take(&mut self, batch: Batch) -> Duration {
        if let Some(problems) = batch.problems {
            self.source_problems = problems.len();
            for problem in self.shared.set_problems(problems) {
                self.metrics.problem_found();
                tracing::warn!("{problem}");
                if let Some(news) = News::problem(&problem) {
                    self.herald.say(news);
                }
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

    /// Interfaces changed, and with them the node's addresses.
    pub(super) fn follow(&mut self, update: Update) -> Duration {
        let addresses = update.interfaces.node_addresses();
        let mut engine = self.shared.engine();
        if !engine.store().has_addresses(&addresses) {
            engine.submit(vec![Change::NodeAddresses(addresses)]);
        }
        drop(engine);
        let (pods, devices) = (&update.interfaces.pods, &update.interfaces.devices);
        self.metrics.set_interfaces(Place::Pod.name(), pods.len());
        self.metrics
            .set_interfaces(Place::Device.name(), devices.len());
        self.shared.set_interfaces(update.interfaces);
        self.step(None)
    }

    /// Writes what is due; how long until the next step at the latest.
    pub(super) fn step(&mut self, received: Option<Moment>) -> Duration {
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
        self.metrics
            .kube_proxy
            .set_without_local(engine.without_local());
        if self.committed {
            answer_checks(&mut self.health_checks, &mut engine);
            self.take_over.step(&mut engine);
        }
        let findings = new_findings(&engine, &mut self.revision);
        let failures = engine.write_failures().clone();
        self.metrics.set_dirty(engine.dirty());
        drop(engine);
        self.count_failures(failures);
        if let Some(received) = received.filter(|_| report.writes > 0) {
            self.metrics
                .programmed(received.at.elapsed(), received.worked());
        }
        if let Some(findings) = findings {
            self.tell(findings);
        }
        self.metrics
            .set_problems(self.source_problems + self.findings.len());
        if programmed && !self.committed {
            if !self.commit() {
                return COMMIT_AGAIN;
            }
            answer_checks(&mut self.health_checks, &mut self.shared.engine());
        }
        if self.committed {
            self.terminate();
            if report.writes > 0 || !self.learns {
                self.learns = self.learn_clients();
            }
        }
        if failing || (self.committed && !self.learns) {
            self.shared.set_behind();
        } else if self.committed {
            self.shared.set_updated();
            self.synced(full, took);
        }
        let wakeup = until_wakeup(&report);
        let wakeup = wakeup.min(self.health_checks.pause().unwrap_or(IDLE));
        if self.committed && (!self.attachments.retry() || !self.learns) {
            return wakeup.min(COMMIT_AGAIN);
        }
        wakeup
    }

    /// Connections are asked who their clients are while a Service asks; false if that could not be arranged.
    fn learn_clients(&self) -> bool {
        let mut engine = self.shared.engine();
        let asked = engine.asks_for_clients();
        let Err(error) = engine.writer().learn_clients(asked) else {
            return true;
        };
        tracing::error!("{error}; trying again");
        false
    }

    /// The tables lead nobody to the backends that are gone: their sockets may go.
    fn terminate(&self) {
        let look = self.shared.engine().take_gone();
        if let Some(terminator) = self.terminator.as_ref().filter(|_| !look.is_empty())
            && terminator.send(look).is_err()
        {
            tracing::error!("the thread `terminator` is gone: a defect, please report it");
        }
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

    /// New findings are told once.
    fn tell(&mut self, findings: BTreeSet<Finding>) {
        for finding in findings.difference(&self.findings) {
            self.metrics.problem_found();
            match finding.weight {
                Weight::Problem => {
                    tracing::warn!("{finding}");
                    self.herald.say(News::finding(finding));
                }
                Weight::Note => tracing::info!("{finding}"),
            }
        }
        self.findings = findings;
    }

    /// Puts the programs in force. Until then the agent is not ready.
    fn commit(&mut self) -> bool {
        let programmed = Instant::now();
        self.take_over.begin(&mut self.shared.engine());
        if let Err(error) = self.shared.engine().writer().commit() {
            tracing::error!("{error}; trying again");
            self.shared.set_obstacle(error.to_string());
            return false;
        }
        self.shared.note_ports();
        // What fails here is one interface's, and tried again: the rest serves.
        self.attachments.begin();
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

/// What the engine has found; None while it is as it was at this revision.
fn new_findings(engine: &KernelEngine, revision: &mut u64) -> Option<BTreeSet<Finding>> {
    let now = engine.findings_revision();
    let before = std::mem::replace(revision, now);
    (before != now).then(|| engine.findings().into_iter().collect())
}

/// Load balancers are told of this node once it serves.
fn answer_checks(checks: &mut HealthChecks, engine: &mut KernelEngine) {
    let revision = engine.health_checks_revision();
    let addresses = engine.store().node_port_addresses();
    if checks.follow(revision, engine.health_checks(), addresses) {
        engine.set_health_failures(checks.failures());
    }
}

fn until_wakeup(report: &StepReport) -> Duration {
    report
        .next_wakeup
        .map_or(IDLE, |at| at.saturating_sub(Monotonic.now()).min(IDLE))
}
