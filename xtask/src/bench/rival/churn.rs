//! A hundred endpoint changes a second for a minute, four of them each second on the Service that the client calls. What
//! the kernel holds afterwards is compared with what the API server holds.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use mesh_lab::{Client, Metrics, traffic::Percentiles};

use super::{
    audit,
    change::{Change, Probe},
    contender::Running,
    objects, process,
    witness::{Watch, Witnesses},
    world::{self, World},
};
use crate::bench::start::{PROGRAMMING, PROGRAMMING_CPU, quantile};

const TIME: Duration = Duration::from_secs(60);
const WRITERS: u32 = 4;
/// Each writer's, a second.
const RATE: u32 = 24;
/// Between two changes of the probed Service.
const GAP: Duration = Duration::from_millis(250);

/// What became of it.
pub(super) struct Churn {
    /// Changes that the API server took a second.
    pub(super) rate: f64,
    /// From the write's answer to the effect.
    pub(super) lag: Percentiles,
    /// From the sending of the write to the effect, less what the bare watch took: microseconds.
    pub(super) beyond: [i64; 2],
    /// CPU time of the contender and of the tools that it ran.
    pub(super) cpu: Duration,
    /// Connections of the client that failed.
    pub(super) failed: u64,
    /// Seconds from a change decoded to its last write, by the agent's own count.
    pub(super) programming: Option<Programming>,
    /// Services whose endpoints in the kernel are not the API server's.
    pub(super) missed: Option<usize>,
}

/// Median and 99th percentile each.
pub(super) struct Programming {
    /// By the clock, others' turns on the processor included.
    pub(super) wall: [f64; 2],
    /// Of the thread that decodes and writes.
    pub(super) cpu: [f64; 2],
}

pub(super) fn measure(
    world: &mut World,
    seat: usize,
    running: &Running,
    sight: (&Witnesses, &Watch),
) -> Result<Churn> {
    let clients = (0..WRITERS)
        .map(|_| world.new_client())
        .collect::<Result<Vec<_>>>()?;
    let mut probe = Probe::start(world, &world.seats[seat], sight.0, sight.1)?;
    probe.change(&world.api)?;
    let (before, metrics) = (process::cpu(running.pid())?, running.metrics());
    let begin = Instant::now();
    let writers = write(world, clients);
    let mut changes = Vec::new();
    while begin.elapsed() < TIME {
        let due = Instant::now() + GAP;
        changes.push(probe.change(&world.api)?);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let mut written = changes.len();
    let mut passes = 0;
    for writer in writers {
        let (count, last) = writer
            .join()
            .map_err(|_| anyhow!("a writer broke down"))??;
        written += count;
        passes = passes.max(last);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let cpu = process::cpu(running.pid())?.saturating_sub(before);
    let failed = probe.stop()?.errors.values().sum();
    world.passes += passes + 2;
    let programming = metrics.zip(running.metrics());
    Ok(Churn {
        rate: written as f64 / elapsed,
        lag: lag(&changes),
        beyond: beyond(&changes),
        cpu,
        failed,
        programming: programming.and_then(|(before, after)| between(&before, &after)),
        missed: audit::missed(world, running)?,
    })
}

fn between(before: &Metrics, after: &Metrics) -> Option<Programming> {
    let of = |name| {
        let at = |share| quantile(name, (before, after), share);
        Some([at(0.5)?, at(0.99)?])
    };
    Some(Programming {
        wall: of(PROGRAMMING)?,
        cpu: of(PROGRAMMING_CPU)?,
    })
}

/// Each thread says how many changes it wrote and in how many passes.
fn write(world: &World, clients: Vec<Client>) -> Vec<JoinHandle<Result<(usize, u32)>>> {
    let (services, first_pass) = (world.services, world.passes + 1);
    clients
        .into_iter()
        .zip(0..)
        .map(|(client, writer)| {
            let mine: Vec<u32> = (1..=services)
                .filter(|number| number % WRITERS == writer && !world.real.contains(number))
                .collect();
            std::thread::spawn(move || write_until(&client, &mine, first_pass))
        })
        .collect()
}

fn write_until(client: &Client, numbers: &[u32], first_pass: u32) -> Result<(usize, u32)> {
    let begin = Instant::now();
    let mut written = 0;
    for pass in 0.. {
        for number in numbers {
            let due = Duration::from_secs(1) * u32::try_from(written)? / RATE;
            if due >= TIME || begin.elapsed() >= TIME {
                return Ok((written, pass));
            }
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
            world::patch(
                client,
                *number,
                &objects::nobody(*number, first_pass + pass),
            )?;
            written += 1;
        }
    }
    Ok((written, 0))
}

fn lag(changes: &[Change]) -> Percentiles {
    let nanoseconds = |change: &Change| u64::try_from(change.acknowledged.as_nanos()).ok();
    let mut samples: Vec<u64> = changes.iter().filter_map(nanoseconds).collect();
    Percentiles::of(&mut samples).unwrap_or_default()
}

/// Median and 99th percentile.
fn beyond(changes: &[Change]) -> [i64; 2] {
    let mut values: Vec<i64> = changes.iter().map(Change::beyond).collect();
    values.sort_unstable();
    [50, 99].map(|percent| {
        let place = values.len().saturating_sub(1) * percent / 100;
        values.get(place).copied().unwrap_or_default()
    })
}
