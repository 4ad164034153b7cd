//! What the programs take by the kernel's own clock, connection by connection, and that they stay still while bytes
//! flow.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use mesh_lab::{Agent, Call, Place, packet_program_runs};
use serde_json::Value;

use super::world::World;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Runs and nanoseconds of each program since statistics were switched on.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(BTreeMap<String, (u64, u64)>);

/// Statistics on; off again when dropped.
pub(super) struct Statistics;

impl Statistics {
    pub(super) fn on() -> Result<Self> {
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self)
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(SWITCH, "0") {
            eprintln!("{SWITCH}: {error}");
        }
    }
}

impl Counts {
    pub(super) fn read(agent: &Agent) -> Result<Self> {
        let status = agent.json(&["status"])?;
        let programs = status["programs"]
            .as_array()
            .context("status has no programs")?;
        let number = |program: &Value, key: &str| program[key].as_u64().unwrap_or_default();
        let counts = programs.iter().filter_map(|program| {
            let name = program["name"].as_str()?.to_owned();
            Some((
                name,
                (number(program, "runCount"), number(program, "runTimeNs")),
            ))
        });
        Ok(Self(counts.collect()))
    }

    /// Those at the interfaces of a node.
    pub(super) fn at_interfaces(node: &Place) -> Result<Self> {
        Ok(Self(packet_program_runs(node)?))
    }

    /// The mean of each program that has run since then, in words.
    pub(super) fn words_since(&self, before: &Self) -> String {
        let words = self.0.keys().filter_map(|name| {
            let mean = self.mean_since(before, name)?;
            let runs = self.runs_since(before, name);
            Some(format!("{name} {mean} ns over {runs} runs"))
        });
        words.collect::<Vec<_>>().join(", ")
    }

    /// Runs of one program since then.
    pub(super) fn runs_since(&self, before: &Self, program: &str) -> u64 {
        self.of(program).0 - before.of(program).0
    }

    /// Runs of all programs since then.
    pub(super) fn all_runs_since(&self, before: &Self) -> u64 {
        self.0
            .keys()
            .map(|program| self.runs_since(before, program))
            .sum()
    }

    /// Mean nanoseconds of one program since then.
    pub(super) fn mean_since(&self, before: &Self, program: &str) -> Option<u64> {
        let runs = self.runs_since(before, program);
        (self.of(program).1 - before.of(program).1).checked_div(runs)
    }

    fn of(&self, program: &str) -> (u64, u64) {
        self.0.get(program).copied().unwrap_or_default()
    }
}

#[derive(Default)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    /// Each program alone: all connections go through Services, first, middle and last in turn. Of the rounds' means
    /// the median, and the least and the greatest beside it.
    pub(super) fn measure(&mut self, world: &World, rounds: u32, count: u64) -> Result<()> {
        let statistics = Statistics::on()?;
        let mut columns = vec![Vec::new(); 8];
        for _ in 0..rounds {
            for (column, mean) in columns.iter_mut().zip(means(world, count)?) {
                column.extend(mean);
            }
        }
        drop(statistics);
        let cells = columns.into_iter().map(cell);
        self.0.push(
            std::iter::once(world.services.to_string())
                .chain(cells)
                .collect(),
        );
        Ok(())
    }

    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let head = [
            "Services",
            "connect4",
            "sock_release",
            "sendmsg4",
            "recvmsg4",
            "connect6",
            "sock_release",
            "sendmsg6",
            "recvmsg6",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.0.iter().cloned());
        rows
    }
}

/// The mean of each program in the order of the table; None for one that did not run.
fn means(world: &World, count: u64) -> Result<Vec<Option<u64>>> {
    let mut means = Vec::new();
    for (v6, connect, sendmsg, recvmsg) in [
        (false, "connect4", "sendmsg4", "recvmsg4"),
        (true, "connect6", "sendmsg6", "recvmsg6"),
    ] {
        let [first, middle, last] = world.places().map(|number| world.service(number, v6));
        let call = Call::connect(first).also(middle).also(last).count(count);
        let before = Counts::read(&world.agent)?;
        mesh_lab::ensure_clean(&world.hooked().call(&call)?)?;
        let after = Counts::read(&world.agent)?;
        means.extend([connect, "sock_release"].map(|program| after.mean_since(&before, program)));
        // One frontend: three Services with the same endpoints could not tell whose a reply is.
        let call = Call::connect(last)
            .unconnected()
            .flag("--keep-socket")
            .count(count);
        mesh_lab::ensure_clean(&world.hooked().call(&call)?)?;
        let done = Counts::read(&world.agent)?;
        means.extend([sendmsg, recvmsg].map(|program| done.mean_since(&after, program)));
    }
    Ok(means)
}

fn cell(mut means: Vec<u64>) -> String {
    means.sort_unstable();
    match (means.first(), means.get(means.len() / 2), means.last()) {
        (Some(least), Some(median), Some(greatest)) => format!("{median} ({least}-{greatest})"),
        _ => "-".to_owned(),
    }
}
