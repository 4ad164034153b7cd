//! `bench kube-proxy`: the agent and the real kube-proxy, in iptables and in nftables mode, against one real API server:
//! start, connections, one change, churn and memory. The contenders take turns, forwards and backwards.

mod audit;
mod change;
mod churn;
pub(super) mod contender;
mod exchange;
mod memory;
mod objects;
mod places;
mod process;
mod results;
mod witness;
mod world;

use std::{os::unix::process::CommandExt, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::{report::Document, start::STAGES};
use crate::{control_plane, run};
use contender::{Contender, Programs, Running};
use process::Memory;
use results::Results;
use witness::{Watch, Witnesses};
use world::World;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Contenders (kube-proxy)
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["agent", "iptables", "nftables"])]
    contenders: Vec<Contender>,
    /// Seconds in which a start must be done, and the changes of a round in half of them (kube-proxy)
    #[arg(long, default_value_t = 120)]
    limit: u64,
    /// Changes of one endpoint, over all rounds (kube-proxy)
    #[arg(long, default_value_t = 24)]
    changes: u32,
    /// Numbers of Services at which there is a minute of churn (kube-proxy)
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 10_000])]
    churn: Vec<u32>,
}

/// What a run is asked for.
pub(super) struct Plan<'a> {
    pub(super) services: &'a [u32],
    pub(super) rounds: u32,
    pub(super) count: u64,
    pub(super) options: &'a Options,
    /// Where the document goes after each session, so that a run that is cut short leaves what it has.
    pub(super) save: Option<&'a Path>,
}

/// All that one session needs.
struct Bench<'a> {
    plan: &'a Plan<'a>,
    world: World,
    programs: Programs,
    witnesses: Witnesses,
    watch: Watch,
    /// The document before anything was measured.
    empty: Document,
    all: Vec<Results>,
    notes: Vec<String>,
}

pub(super) fn measure(agent: &Path, plan: &Plan<'_>, document: &mut Document) -> Result<()> {
    let mut world = World::build(&plan.options.contenders)?;
    let kubeconfig = world.kubeconfig()?;
    let seat = world.seats.first().context("no contender")?;
    let watch = Watch::start(&kubeconfig, seat.node.host());
    let programs = Programs::new(
        agent.to_owned(),
        mesh_lab::control_plane_binary()?,
        world.files(),
    )?;
    let mut bench = Bench {
        witnesses: Witnesses::start(&world.witnesses)?,
        plan,
        world,
        programs,
        watch,
        empty: document.clone(),
        all: Vec::new(),
        notes: Vec::new(),
    };
    let mut services = plan.services.to_vec();
    services.sort_unstable();
    for number in services {
        if let Err(error) = bench.services(number) {
            eprintln!("{}", bench.world.logs());
            return Err(error);
        }
    }
    bench.write(document)?;
    let Bench { world, watch, .. } = bench;
    drop(watch);
    world.close()
}

impl Bench<'_> {
    /// Everything at one number of Services.
    fn services(&mut self, services: u32) -> Result<()> {
        run::say(&format!(
            "{services} Services of {} endpoints",
            objects::ENDPOINTS
        ));
        let mut memory = memory::Steps::new(&self.programs.agent, &self.world, services);
        memory.step(&self.world)?;
        self.world.add_services(services)?;
        memory.step(&self.world)?;
        self.world.add_slices(services)?;
        memory.step(&self.world)?;
        self.notes.extend(memory.sentence());
        let contenders = &self.plan.options.contenders;
        let first = self.all.len();
        self.all.extend(
            contenders
                .iter()
                .map(|it| Results::new(services, Some(*it))),
        );
        self.all.push(Results::new(services, None));
        for round in 0..self.plan.rounds {
            let mut order: Vec<usize> = (0..contenders.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            self.nothing()?;
            for seat in order {
                self.session(seat, first + seat, round + 1 == self.plan.rounds)?;
                self.save()?;
            }
        }
        Ok(())
    }

    fn save(&self) -> Result<()> {
        if let Some(directory) = self.plan.save {
            let mut document = self.empty.clone();
            self.write(&mut document)?;
            document.save(directory)?;
        }
        Ok(())
    }

    /// Direct calls alone, where nobody is in the way.
    fn nothing(&mut self) -> Result<()> {
        let direct = self.world.direct()?;
        let ends = exchange::Ends {
            direct,
            first: direct,
            last: direct,
        };
        let exchange = exchange::measure(&self.world.alone(), ends, self.plan.count)?;
        if let Some(results) = self.all.last_mut() {
            results.exchanges.push(exchange);
        }
        Ok(())
    }

    /// One contender, from its start to its end.
    fn session(&mut self, seat: usize, index: usize, last: bool) -> Result<()> {
        let limit = Duration::from_secs(self.plan.options.limit);
        if self.all[index].gave_up {
            return Ok(());
        }
        run::say(self.world.seats[seat].contender.title());
        let started = Running::start(&mut self.world, seat, &self.programs, limit)?;
        let Some((running, start)) = started else {
            self.all[index].gave_up = true;
            return Ok(());
        };
        self.all[index].starts.push(start);
        self.figures(seat, index, &running)?;
        if last && self.plan.options.churn.contains(&self.all[index].services) {
            let sight = (&self.witnesses, &self.watch);
            let churn = churn::measure(&mut self.world, seat, &running, sight)?;
            self.all[index].churn = Some(churn);
        }
        running.stop(&self.world.seats[seat], &self.programs)
    }

    fn figures(&mut self, seat: usize, index: usize, running: &Running) -> Result<()> {
        let seat = &self.world.seats[seat];
        let (ends, places) = places::ends(&self.world, seat, &self.programs)?;
        let exchange = exchange::measure(&seat.client(), ends, self.plan.count)?;
        let count = self.plan.options.changes.div_ceil(self.plan.rounds);
        let sight = (&self.witnesses, &self.watch);
        let limit = Duration::from_secs(self.plan.options.limit);
        let changes = change::measure(&self.world, seat, sight, count, limit / 2)?;
        let results = &mut self.all[index];
        results.places = places;
        results.exchanges.push(exchange);
        results.changes.extend(changes);
        results.memory = Memory::of(running.pid())?;
        if let Some(metrics) = running.metrics() {
            results.maps = Some(metrics.sum("mesh_agent_map_bytes", &[]) / f64::from(1 << 20));
            let stage =
                |name| metrics.sum("mesh_agent_startup_duration_seconds", &[("stage", name)]);
            results.stages = Some(STAGES.map(stage));
        }
        Ok(())
    }

    fn write(&self, document: &mut Document) -> Result<()> {
        document.note(&self.settings()?);
        let limit = Duration::from_secs(self.plan.options.limit);
        document.table("start", &results::starts(&self.all, limit));
        document.table(
            "the agent's start by its own clock",
            &results::stages(&self.all),
        );
        document.table("connect(), microseconds", &results::connects(&self.all));
        document.table("exchanges", &results::exchanges(&self.all));
        document.table("one change", &results::changes(&self.all));
        document.table(
            "churn: a hundred changes a second for a minute",
            &results::churns(&self.all),
        );
        document.note(
            "Decoded to written, and the CPU time of the thread that does it, are upper bounds of buckets (1, 2, 5) of the \
             agent's own histograms: by the clock the turns of others on the processor count too, by CPU time they do not.",
        );
        document.table("memory", &results::memory(&self.all));
        for note in &self.notes {
            document.note(note);
        }
        Ok(())
    }

    fn settings(&self) -> Result<String> {
        let kubernetes = run::capture(
            Command::new(&self.programs.control_plane).args(["kube-proxy", "--version"]),
        )?;
        let words = [self.programs.path.as_str(), "iptables", "-V"];
        let iptables = run::capture(Command::new("env").args(words))?;
        let nft = run::capture(Command::new("nft").arg("-v"))?;
        let agent = run::capture(Command::new(&self.programs.agent).arg("version"))?;
        let agent = agent.lines().next().unwrap_or_default().to_owned();
        Ok(format!(
            "{agent}; kube-proxy and API server {}; {}; {}. ClusterIP Services with one TCP port, IPv4, {} endpoints each; \
             {} rounds. Each contender has a node (a network namespace) of its own with one client; all endpoints are on \
             one more node, behind a switch. kube-proxy: its defaults, detectLocalMode InterfaceNamePrefix, conntrack limits \
             untouched. Its binary is the API server's too, so what is shared between the two makes its proportional memory \
             look small: compare resident.",
            kubernetes.trim(),
            iptables.trim(),
            nft.trim(),
            objects::ENDPOINTS,
            self.plan.rounds
        ))
    }
}

/// The lab finds the control plane by a variable, which a process cannot safely give to itself: this one starts anew with
/// it.
pub(super) fn find_control_plane() -> Result<()> {
    if mesh_lab::control_plane_binary().is_ok() {
        return Ok(());
    }
    let error = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("MESH_CONTROL_PLANE_BIN", control_plane::binary()?)
        .exec();
    Err(error).context("cannot start xtask anew")
}
