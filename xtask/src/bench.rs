//! `bench`: what a connection costs with nothing in the way, with our hooks attached, and through a Service of ours, in
//! the same namespaces with the same client, in turn. Prints what was measured; a dated file keeps it.

mod connect;
mod exchange;
mod programs;
mod report;
mod start;
mod world;

use anyhow::{Context, Result, ensure};

use crate::{build, place, run, setup};
use report::Document;
use world::World;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure
    #[arg(value_enum)]
    name: Name,
    /// Numbers of Services
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1000, 10_000, 30_000])]
    services: Vec<u32>,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 6)]
    rounds: u32,
    /// Connections of each kind in a round
    #[arg(long, default_value_t = 2000)]
    count: u64,
    /// Write the result to docs/benchmarks too
    #[arg(long)]
    save: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// connect() through Services, the programs' own time, short connections, requests, bulk and datagrams
    Connect,
    /// A cold start with 10,000 Services stage by stage, one change, memory, and an idle agent
    Start,
}

/// The verb.
pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    setup::ensure(setup::Need::Lab)?;
    let agent = build::agent()?;
    mesh_lab::choose_traffic_binary(build::release_traffic()?);
    ensure!(
        run::is_root(),
        "the bench makes network namespaces: run it as root"
    );
    let mut document = Document::new(&format!("{:?}", arguments.name).to_lowercase())?;
    match arguments.name {
        Name::Connect => connect_bench(arguments, &agent, &mut document)?,
        Name::Start => start::measure(&agent, arguments.rounds, &mut document)?,
    }
    print!("{}", document.text());
    if arguments.save {
        let path = document.save(&place::root().join("docs/benchmarks"))?;
        run::say(&format!("saved as {}", path.display()));
    }
    Ok(())
}

fn connect_bench(
    arguments: &Arguments,
    agent: &std::path::Path,
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
        connects.measure(&world, arguments.rounds, arguments.count)?;
        times.measure(&world, arguments.rounds, arguments.count)?;
        if *services == most {
            document.note(&world.memory()?);
            exchange::measure(&world, arguments.rounds, document)?;
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
