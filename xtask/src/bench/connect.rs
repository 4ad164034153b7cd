//! connect(): direct with nothing attached, direct with our hooks, and through the first, middle and last Service. The
//! hooked ones take turns connection by connection, the bare one round by round.

use anyhow::{Context, Result};
use mesh_lab::{Call, traffic::Percentiles};

use super::{
    report::{micros, ratio},
    world::World,
};

/// Direct, first, middle, last: what the hooked client calls in turn.
const HOOKED: usize = 4;

#[derive(Default)]
pub(super) struct Table(Vec<Row>);

struct Row {
    services: u32,
    family: &'static str,
    /// Medians and 99th percentiles of each round: bare, then the hooked ones.
    rounds: Vec<[Percentiles; HOOKED + 1]>,
}

impl Table {
    pub(super) fn measure(&mut self, world: &World, rounds: u32, count: u64) -> Result<()> {
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let rounds = (0..rounds).map(|round| measure_round(world, v6, count, round % 2 == 1));
            let rounds = rounds.collect::<Result<_>>()?;
            self.0.push(Row {
                services: world.services,
                family,
                rounds,
            });
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let head = [
            "Services",
            "family",
            "bare p50",
            "hooked p50",
            "first p50",
            "middle p50",
            "last p50",
            "worst / bare",
            "bare spread",
            "bare p99",
            "hooked p99",
            "worst Service p99",
            "worst / hooked",
            "hooked p99 spread",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.0.iter().map(Row::cells));
        rows
    }
}

fn measure_round(
    world: &World,
    v6: bool,
    count: u64,
    reverse: bool,
) -> Result<[Percentiles; HOOKED + 1]> {
    let (bare, hooked);
    if reverse {
        hooked = measure_hooked(world, v6, count)?;
        bare = measure_bare(world, v6, count)?;
    } else {
        bare = measure_bare(world, v6, count)?;
        hooked = measure_hooked(world, v6, count)?;
    }
    let [direct, first, middle, last] = hooked;
    Ok([bare, direct, first, middle, last])
}

fn measure_bare(world: &World, v6: bool, count: u64) -> Result<Percentiles> {
    let report = world
        .bare()?
        .call(&Call::connect(world.direct(v6)?).count(count))?;
    mesh_lab::ensure_clean(&report)?;
    report.latency_ns.context("nothing was measured")
}

fn measure_hooked(world: &World, v6: bool, count: u64) -> Result<[Percentiles; HOOKED]> {
    let call = world
        .places()
        .into_iter()
        .fold(Call::connect(world.direct(v6)?), |call, number| {
            call.also(world.service(number, v6))
        });
    let report = world
        .hooked()
        .call(&call.count(count * HOOKED as u64).flag("--samples"))?;
    mesh_lab::ensure_clean(&report)?;
    let mut measured = [Percentiles::default(); HOOKED];
    for (turn, measured) in measured.iter_mut().enumerate() {
        let mut samples: Vec<u64> = report
            .samples_ns
            .iter()
            .skip(turn)
            .step_by(HOOKED)
            .copied()
            .collect();
        *measured = Percentiles::of(&mut samples).context("nothing was measured")?;
    }
    Ok(measured)
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let p50 = |column: usize| self.median(column, |percentiles| percentiles.p50);
        let p99 = |column: usize| self.median(column, |percentiles| percentiles.p99);
        let worst50 = (2..=HOOKED).map(p50).max().unwrap_or_default();
        let worst99 = (2..=HOOKED).map(p99).max().unwrap_or_default();
        let mut cells = vec![self.services.to_string(), self.family.to_owned()];
        cells.extend((0..=HOOKED).map(|column| micros(p50(column))));
        cells.push(ratio(worst50, p50(0)));
        cells.push(self.spread(0, |percentiles| percentiles.p50));
        cells.extend([
            micros(p99(0)),
            micros(p99(1)),
            micros(worst99),
            ratio(worst99, p99(1)),
        ]);
        cells.push(self.spread(1, |percentiles| percentiles.p99));
        cells
    }

    fn values(&self, column: usize, of: impl Fn(&Percentiles) -> u64) -> Vec<u64> {
        let mut values: Vec<u64> = self.rounds.iter().map(|round| of(&round[column])).collect();
        values.sort_unstable();
        values
    }

    fn median(&self, column: usize, of: impl Fn(&Percentiles) -> u64) -> u64 {
        let values = self.values(column, of);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }

    /// Largest by smallest of the rounds.
    fn spread(&self, column: usize, of: impl Fn(&Percentiles) -> u64) -> String {
        let values = self.values(column, of);
        match (values.first(), values.last()) {
            (Some(least), Some(most)) => ratio(*most, *least),
            _ => String::new(),
        }
    }
}
