//! `bench`: what a connection costs with nothing in the way, with our hooks attached, and through a Service of ours, in
//! the same namespaces with the same client, in turn; what a start costs; what a packet costs; and connections and starts
//! beside the real kube-proxy. Prints what was measured; a dated file keeps it.

mod connect;
mod exchange;
mod packets;
mod programs;
mod report;
mod rival;
mod start;
mod world;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::{build, place, run, setup};
use report::Document;
use world::World;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure; everything unless given
    #[arg(value_enum)]
    name: Option<Name>,
    /// Numbers of Services
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000, 10_000, 30_000])]
    services: Vec<u32>,
    /// Rounds of each measurement: 6 unless given, 3 beside kube-proxy
    #[arg(long)]
    rounds: Option<u32>,
    /// Connections of each kind in a round
    #[arg(long, default_value_t = 2000)]
    count: u64,
    /// Of `packets`: an eBPF object instead of mesh-agent's
    #[arg(long)]
    object: Option<PathBuf>,
    /// Write the result to docs/benchmarks too
    #[arg(long)]
    save: bool,
    #[command(flatten)]
    rival: rival::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// connect() through Services, the programs' own time, short connections, requests, bulk and datagrams
    Connect,
    /// A cold start with 10,000 Services stage by stage, one change, memory, and an idle agent
    Start,
    /// What a packet costs at each hook, kind by kind, at 1 and at 10,000 Services
    Packets,
    /// The agent and the real kube-proxy in turn: start, connections, one change, churn, memory
    KubeProxy,
}

impl Name {
    const fn title(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Start => "start",
            Self::Packets => "packets",
            Self::KubeProxy => "kube-proxy",
        }
    }
}

/// The verb.
pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    ensure!(
        run::is_root(),
        "the bench makes network namespaces: run it as root"
    );
    let names = arguments
        .name
        .map_or_else(|| Name::value_variants().to_vec(), |name| vec![name]);
    setup::ensure(if names.contains(&Name::KubeProxy) {
        setup::Need::Test
    } else {
        setup::Need::Lab
    })?;
    if names.contains(&Name::KubeProxy) {
        rival::find_control_plane()?;
    }
    // Packets need the programs alone.
    if names.contains(&Name::Packets) {
        measure_packets(arguments)?;
    }
    let others = names.into_iter().filter(|name| *name != Name::Packets);
    let others: Vec<Name> = others.collect();
    if others.is_empty() {
        return Ok(());
    }
    let agent = build::agent()?;
    mesh_lab::choose_traffic_binary(build::release_traffic()?);
    for name in others {
        measure(name, arguments, &agent)?;
    }
    Ok(())
}

fn measure_packets(arguments: &Arguments) -> Result<()> {
    let object = match &arguments.object {
        Some(object) => object.clone(),
        None => build::object()?,
    };
    let object =
        std::fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    let mut document = Document::new(Name::Packets.title())?;
    let rounds = arguments.rounds.unwrap_or(packets::ROUNDS);
    packets::measure(&object, rounds, packets::CALLS, &mut document)?;
    finish(arguments, &document)
}

fn measure(name: Name, arguments: &Arguments, agent: &Path) -> Result<()> {
    let directory = place::root().join("docs/benchmarks");
    let mut document = Document::new(name.title())?;
    let rounds = arguments.rounds.unwrap_or(6);
    match name {
        Name::Connect => connect_bench(arguments, rounds, agent, &mut document)?,
        Name::Start => start::measure(agent, rounds, &mut document)?,
        Name::Packets => {}
        Name::KubeProxy => {
            let plan = rival::Plan {
                services: &arguments.services,
                rounds: arguments.rounds.unwrap_or(3),
                count: arguments.count,
                options: &arguments.rival,
                save: arguments.save.then_some(directory.as_path()),
            };
            rival::measure(agent, &plan, &mut document)?;
        }
    }
    finish(arguments, &document)
}

fn finish(arguments: &Arguments, document: &Document) -> Result<()> {
    print!("{}", document.text());
    if arguments.save {
        let path = document.save(&place::root().join("docs/benchmarks"))?;
        run::say(&format!("saved as {}", path.display()));
    }
    Ok(())
}

fn connect_bench(
    arguments: &Arguments,
    rounds: u32,
    agent: &Path,
    document: &mut Document,
) -> Result<()> {
    let mut connects = connect::Table::default();
    let mut times = programs::Table::default();
    let most = *arguments
        .services
        .iter()
        .max()
        .context("no number of Services")?;
    for services in &arguments.services {
        run::say(&format!("{services} Services of 3 endpoints each"));
        let world = World::build(agent, *services, most)?;
        connects.measure(&world, rounds, arguments.count)?;
        times.measure(&world, rounds, arguments.count)?;
        if *services == most {
            document.note(&world.memory()?);
            exchange::measure(&world, rounds, document)?;
        }
        world.close()?;
    }
    document.table("connect(), microseconds", &connects.rows());
    document.table(
        "time of the programs by themselves, nanoseconds (BPF_ENABLE_STATS)",
        &times.rows(),
    );
    Ok(())
}
