//! A million flows: how much memory they take, and what looking for those that are over costs.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Agent, AgentOptions, Families, Lab, PinnedMaps};

use crate::bench::report::Document;

const FLOWS: u32 = 1_000_000;
/// Some passes of the collector's long.
const WATCHED: Duration = Duration::from_secs(60);
const MIB: f64 = 1_048_576.0;

pub(super) fn measure(agent: &Path, document: &mut Document) -> Result<()> {
    let mut lab = Lab::new("bench")?;
    let node = lab.node("node-a", Families::V4)?;
    let flag = ["--max-flows".to_owned(), FLOWS.to_string()];
    let options = AgentOptions {
        binary: Some(agent.to_owned()),
        flags: flag.to_vec(),
        ..AgentOptions::default()
    };
    let mut agent = node.agent_with(&options)?;
    agent.wait_ready()?;
    crate::run::say(&format!("{FLOWS} flows"));
    let refused = PinnedMaps::of(&node).fill_flows(FLOWS)?;
    let before = entries(&agent)?;
    let cpu = collector_time(agent.pid())?;
    thread::sleep(WATCHED);
    let cpu = collector_time(agent.pid())?.saturating_sub(cpu);
    let after = entries(&agent)?;
    ensure!(
        before == after && before > 1.99 * f64::from(FLOWS),
        "{before} entries became {after}: the flows did not stay"
    );
    let bytes = agent
        .metrics()?
        .sum("mesh_agent_map_bytes", &[("map", "flows")]);
    let share = 100.0 * cpu.as_secs_f64() / WATCHED.as_secs_f64();
    document.table(
        "1,000,000 confirmed flows of two tuples each",
        &[
            [
                "memory, MiB",
                "tuples without a place",
                "collecting, % of a core",
            ]
            .map(str::to_owned)
            .to_vec(),
            vec![
                format!("{:.1}", bytes / MIB),
                refused.to_string(),
                format!("{share:.2}"),
            ],
        ],
    );
    document.note(&format!(
        "An agent with --max-flows {FLOWS}, whose table is filled through its pin; what the kernel says the map takes, and the CPU \
         time of the collector's thread in {} s.",
        WATCHED.as_secs()
    ));
    agent.terminate()?;
    agent.cli(&["cleanup"])?.ok()?;
    lab.close()
}

fn entries(agent: &Agent) -> Result<f64> {
    Ok(agent
        .metrics()?
        .sum("mesh_agent_map_entries", &[("map", "flows")]))
}

/// CPU time of the agent's thread that collects flows, from its schedstat.
fn collector_time(process: u32) -> Result<Duration> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() != "collector" {
            continue;
        }
        let text = fs::read_to_string(task.join("schedstat"))?;
        let nanoseconds = text.split(' ').next().context("an empty schedstat")?;
        return Ok(Duration::from_nanos(nanoseconds.parse()?));
    }
    anyhow::bail!("the agent has no thread `collector`")
}
