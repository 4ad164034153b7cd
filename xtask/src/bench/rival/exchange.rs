//! connect() direct and through Services in turn, short connections, and requests, from one contender's client.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use mesh_lab::{Call, Place, ensure_clean, traffic::Percentiles};

/// Each is measured twice so long, in the order A B B A.
const SECONDS: f64 = 0.5;

/// What was measured in one round.
#[derive(Clone, Copy)]
pub(super) struct Exchange {
    /// connect(): direct, direct again, through the Service that is found first, and the last one.
    pub(super) connect: [Percentiles; 4],
    /// Short connections a second: direct, and through the last Service.
    pub(super) crr: [u64; 2],
    /// Requests a second over one connection: the same.
    pub(super) rr: [u64; 2],
}

/// The ends of a round: an endpoint itself, the first Service and the last.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) direct: SocketAddr,
    pub(super) first: SocketAddr,
    pub(super) last: SocketAddr,
}

pub(super) fn measure(place: &Place, ends: Ends, count: u64) -> Result<Exchange> {
    Ok(Exchange {
        connect: connect(place, ends, count)?,
        crr: both(place, ends, Call::crr)?,
        rr: both(place, ends, Call::rr)?,
    })
}

fn connect(place: &Place, ends: Ends, count: u64) -> Result<[Percentiles; 4]> {
    let call = [ends.direct, ends.first, ends.last]
        .into_iter()
        .fold(Call::connect(ends.direct), Call::also);
    let report = place.call(&call.count(count * 4).flag("--samples"))?;
    ensure_clean(&report)?;
    let mut measured = [Percentiles::default(); 4];
    for (turn, measured) in measured.iter_mut().enumerate() {
        let mut samples: Vec<u64> = report
            .samples_ns
            .iter()
            .skip(turn)
            .step_by(4)
            .copied()
            .collect();
        *measured = Percentiles::of(&mut samples).context("nothing was measured")?;
    }
    Ok(measured)
}

fn both(place: &Place, ends: Ends, call: fn(SocketAddr) -> Call) -> Result<[u64; 2]> {
    let rate = |to| rate(place, &call(to));
    let (direct, last) = (rate(ends.direct)?, rate(ends.last)?);
    let (last_again, direct_again) = (rate(ends.last)?, rate(ends.direct)?);
    Ok([(direct + direct_again) / 2, (last + last_again) / 2])
}

fn rate(place: &Place, call: &Call) -> Result<u64> {
    let report = place.call(&call.clone().option("--duration", SECONDS))?;
    ensure_clean(&report)?;
    let nanoseconds = u128::from(report.elapsed_ns.max(1));
    Ok(u64::try_from(
        u128::from(report.answered) * 1_000_000_000 / nanoseconds,
    )?)
}
