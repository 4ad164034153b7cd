//! What a start costs, stage by stage, and one change after it: 10,000 Services of 10 endpoints from JSON and from
//! YAML, with memory, and what an agent with little to do takes.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Agent, AgentOptions, Families, Format, Lab, Many, Metrics, Node, eventually};

use super::report::Document;

const MANY: Many = Many {
    services: 10_000,
    endpoints: 10,
};
/// Services in the file that is changed: below 100 kB.
const SMALL: u32 = 20;
const CHANGES: u32 = 50;
/// From an event decoded to the last write it caused: by the clock, and the CPU time of it.
pub(super) const PROGRAMMING: &str = "mesh_agent_programming_duration_seconds";
pub(super) const PROGRAMMING_CPU: &str = "mesh_agent_programming_cpu_seconds";
pub(super) const STAGES: [&str; 4] = ["load", "list", "write", "attach"];
/// Long enough for a share of 0.1 % to be a tick of the clock.
const IDLE: Duration = Duration::from_secs(10);

pub(super) fn measure(agent: &Path, rounds: u32, document: &mut Document) -> Result<()> {
    let mut rows = vec![head()];
    for format in [Format::Json, Format::Yaml] {
        let mut lab = Lab::new("bench")?;
        let node = lab.node("node-a", Families::V4)?;
        MANY.write(&lab.source(), format)?;
        change(&lab, format, 0)?;
        let mut figures = Vec::new();
        for round in 0..rounds {
            crate::run::say(&format!("{format:?}, round {}", round + 1));
            figures.push(cold(&lab, &node, agent, format)?);
        }
        rows.push(row(format, figures));
        lab.close()?;
    }
    document.table("10,000 Services of 10 endpoints, cold start", &rows);
    document.note(
        "load: maps and programs into the kernel; list: reading and parsing all files; write: planning and writing what \
         had not been written while they were read; attach: programs in force. A change is one endpoint of a file of 20 \
         Services; its median is the upper bound of a histogram's bucket.",
    );
    document.note(&idle(agent)?);
    Ok(())
}

fn head() -> Vec<String> {
    [
        "",
        "load, ms",
        "list, ms",
        "write, ms",
        "attach, ms",
        "sum, ms",
        "resident, MiB",
        "maps, MiB",
        "a change, ms",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The figures of one cold start, in the order of the head.
fn cold(lab: &Lab, node: &Node, binary: &Path, format: Format) -> Result<Vec<f64>> {
    let mut agent = node.agent_with(&AgentOptions::binary(binary))?;
    let metrics = agent.metrics()?;
    let stages = STAGES.map(|stage| {
        1000.0 * metrics.sum("mesh_agent_startup_duration_seconds", &[("stage", stage)])
    });
    let mut figures = stages.to_vec();
    figures.push(stages.iter().sum());
    figures.extend(memory(&metrics));
    figures.push(changes(lab, &agent, format)?);
    agent.terminate()?;
    agent.cli(&["cleanup"])?.ok()?;
    Ok(figures)
}

fn memory(metrics: &Metrics) -> [f64; 2] {
    ["process_resident_memory_bytes", "mesh_agent_map_bytes"]
        .map(|name| metrics.sum(name, &[]) / f64::from(1 << 20))
}

/// The median of many changes in milliseconds, from the agent's own histogram.
fn changes(lab: &Lab, agent: &Agent, format: Format) -> Result<f64> {
    let count = |metrics: &Metrics| metrics.sum(&format!("{PROGRAMMING}_count"), &[]);
    let before = agent.metrics()?;
    for number in 1..=CHANGES {
        let seen = count(&agent.metrics()?);
        change(lab, format, number)?;
        eventually("the change is programmed", || {
            ensure!(count(&agent.metrics()?) > seen, "it is not");
            Ok(())
        })?;
    }
    let after = agent.metrics()?;
    let median = quantile(PROGRAMMING, (&before, &after), 0.5).context("no change was counted")?;
    Ok(1000.0 * median)
}

/// The upper bound of the bucket of a histogram that a share of what came between two scrapes did not exceed.
pub(super) fn quantile(
    name: &str,
    (before, after): (&Metrics, &Metrics),
    share: f64,
) -> Option<f64> {
    let name = &format!("{name}_bucket");
    let in_bucket =
        |bound: &str| after.sum(name, &[("le", bound)]) - before.sum(name, &[("le", bound)]);
    let all = in_bucket("+Inf");
    let mut bounds: Vec<(f64, String)> = after
        .values_of(name, "le")
        .filter_map(|bound| Some((bound.parse().ok()?, bound.to_owned())))
        .collect();
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let found = bounds
        .into_iter()
        .find(|(_, bound)| in_bucket(bound) >= share * all)?;
    (all > 0.0).then_some(found.0)
}

/// A file of a few Services; the first has an endpoint more or less each time.
fn change(lab: &Lab, format: Format, number: u32) -> Result<()> {
    let first = MANY.services;
    let mut objects = MANY.objects_of(first, MANY.endpoints - number % 2);
    for service in first + 1..first + SMALL {
        objects.extend(MANY.objects(service));
    }
    match format {
        Format::Json => lab.source().write("small.json", &objects),
        Format::Yaml => lab.source().write_yaml("small.yaml", &objects),
    }
}

fn row(format: Format, rounds: Vec<Vec<f64>>) -> Vec<String> {
    let columns = rounds.first().map_or(0, Vec::len);
    let median = |column: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
        values.sort_by(f64::total_cmp);
        format!("{:.1}", values[values.len() / 2])
    };
    std::iter::once(format!("{format:?}"))
        .chain((0..columns).map(median))
        .collect()
}

/// Ten Services, and nothing happens.
fn idle(binary: &Path) -> Result<String> {
    let mut lab = Lab::new("bench")?;
    let node = lab.node("node-a", Families::V4)?;
    let few = Many {
        services: 10,
        ..MANY
    };
    few.write(&lab.source(), Format::Json)?;
    let agent = node.agent_with(&AgentOptions::binary(binary))?;
    let before = ticks(agent.pid())?;
    std::thread::sleep(IDLE);
    let ticks = ticks(agent.pid())? - before;
    let [resident, maps] = memory(&agent.metrics()?);
    drop(agent);
    lab.close()?;
    Ok(format!(
        "Idle with 10 Services: {resident:.1} MiB resident, {maps:.1} MiB of maps, {ticks} ticks of CPU time (10 ms each) in {} s",
        IDLE.as_secs()
    ))
}

/// CPU time of a process so far, in ticks (proc(5), stat: utime and stime).
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("stat has no name")?;
    let mut times = fields.split_whitespace().skip(11).take(2);
    let mut time = || {
        times
            .next()
            .context("stat is short")?
            .parse::<u64>()
            .context("stat")
    };
    Ok(time()? + time()?)
}
