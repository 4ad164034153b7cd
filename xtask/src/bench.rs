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
    /// Rounds of each measurement: 6 unless given, 3 beside kube-proxy, 10, 6 and 20 of the parts of `packets`
    #[arg(long)]
    rounds: Option<u32>,
    /// Connections of each kind in a round
    #[arg(long, default_value_t = 2000)]
    count: u64,
    /// Of `packets`: an eBPF object instead of mesh-agent's
    #[arg(long)]
    object: Option<PathBuf>,
    /// Of `packets`: these parts; all of them unless given
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<packets::Part>,
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
    /// What a packet costs: at each hook, forwarded through a node port beside kube-proxy, from a pod to a ClusterIP
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
    let parts = packet_parts(arguments, &names);
    let rivals = names.contains(&Name::KubeProxy) || parts.contains(&packets::Part::NodePort);
    setup::ensure(if rivals {
        setup::Need::Test
    } else {
        setup::Need::Lab
    })?;
    if rivals {
        rival::find_control_plane()?;
    }
    let agent = build::agent()?;
    mesh_lab::choose_traffic_binary(build::release_traffic()?);
    for name in names {
        measure(name, arguments, &agent, &parts)?;
    }
    Ok(())
}

/// None where packets are not asked for.
fn packet_parts(arguments: &Arguments, names: &[Name]) -> Vec<packets::Part> {
    if !names.contains(&Name::Packets) {
        return Vec::new();
    }
    if arguments.parts.is_empty() {
        return packets::Part::value_variants().to_vec();
    }
    arguments.parts.clone()
}

fn measure_packets(
    arguments: &Arguments,
    agent: &Path,
    parts: &[packets::Part],
    document: &mut Document,
) -> Result<()> {
    let object = match &arguments.object {
        Some(object) => object.clone(),
        None => build::object()?,
    };
    let object =
        std::fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    let built = packets::Built {
        object: &object,
        agent,
    };
    packets::measure(parts, &built, arguments.rounds, document)
}

fn measure(name: Name, arguments: &Arguments, agent: &Path, parts: &[packets::Part]) -> Result<()> {
    let directory = place::root().join("docs/benchmarks");
    let mut document = Document::new(name.title())?;
    let rounds = arguments.rounds.unwrap_or(6);
    match name {
        Name::Connect => connect_bench(arguments, rounds, agent, &mut document)?,
        Name::Start => start::measure(agent, rounds, &mut document)?,
        Name::Packets => measure_packets(arguments, agent, parts, &mut document)?,
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
