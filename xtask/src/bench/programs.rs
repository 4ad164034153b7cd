//! What the programs take by the kernel's own clock, connection by connection, and that they stay still while bytes
//! flow.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use mesh_lab::{Agent, Call};
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
    /// Each program alone: all connections go through Services, first, middle and last in turn.
    pub(super) fn measure(&mut self, world: &World, count: u64) -> Result<()> {
        let statistics = Statistics::on()?;
        let mut cells = vec![world.services.to_string()];
        for (v6, connect, sendmsg, recvmsg) in [
            (false, "connect4", "sendmsg4", "recvmsg4"),
            (true, "connect6", "sendmsg6", "recvmsg6"),
        ] {
            let [first, middle, last] = world.places().map(|number| world.service(number, v6));
            let call = Call::connect(first)
                .also(middle)
                .also(last)
                .count(count * 6);
            let before = Counts::read(&world.agent)?;
            mesh_lab::ensure_clean(&world.hooked().call(&call)?)?;
            let after = Counts::read(&world.agent)?;
            cells.extend([connect, "sock_release"].map(|program| mean(&after, &before, program)));
            // One frontend: three Services with the same endpoints could not tell whose a reply is.
            let call = Call::connect(last)
                .unconnected()
                .flag("--keep-socket")
                .count(count * 6);
            mesh_lab::ensure_clean(&world.hooked().call(&call)?)?;
            let done = Counts::read(&world.agent)?;
            cells.extend([sendmsg, recvmsg].map(|program| mean(&done, &after, program)));
        }
        drop(statistics);
        self.0.push(cells);
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

fn mean(after: &Counts, before: &Counts, program: &str) -> String {
    after
        .mean_since(before, program)
        .map_or_else(|| "-".to_owned(), |mean| mean.to_string())
}
