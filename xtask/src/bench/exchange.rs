//! Short connections, requests, bulk and datagrams: bare, hooked and through a Service, in turn A B C C B A.

use anyhow::Result;
use mesh_lab::{Call, Place, traffic::Report};

use super::{
    programs::{Counts, Statistics},
    report::{Document, ratio},
    world::World,
};

const SECONDS: f64 = 1.0;

/// A kind of traffic and the figure of its report.
struct Kind {
    title: &'static str,
    of: fn(&Report) -> u64,
    call: fn(std::net::SocketAddr) -> Call,
}

const KINDS: [Kind; 4] = [
    Kind {
        title: "short connections a second",
        of: per_second,
        call: Call::crr,
    },
    Kind {
        title: "requests a second",
        of: per_second,
        call: Call::rr,
    },
    Kind {
        title: "bulk, MB a second",
        of: megabytes,
        call: bulk,
    },
    Kind {
        title: "datagram there and back, median ns",
        of: median,
        call: datagrams,
    },
];

/// In writes of 64 KiB, as bulk is sent.
fn bulk(to: std::net::SocketAddr) -> Call {
    Call::stream(to).option("--size", 65_536)
}

fn datagrams(to: std::net::SocketAddr) -> Call {
    Call::connect(to).unconnected().flag("--keep-socket")
}

pub(super) fn measure(world: &World, rounds: u32, document: &mut Document) -> Result<()> {
    let last = world.service(world.services, false);
    let places = [
        (world.bare()?, world.direct(false)?),
        (world.hooked(), world.direct(false)?),
        (world.hooked(), last),
    ];
    let mut rows = vec![
        [
            "",
            "bare",
            "hooked",
            "Service",
            "Service / bare",
            "bare spread",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for kind in KINDS {
        let mut values = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..rounds {
            let order: Vec<usize> = if round % 2 == 0 {
                vec![0, 1, 2]
            } else {
                vec![2, 1, 0]
            };
            for index in order {
                let (place, to) = &places[index];
                values[index].push((kind.of)(&run(place, (kind.call)(*to))?));
            }
        }
        rows.push(cells(kind.title, values));
    }
    document.table("exchanges", &rows);
    document.note(&still(world)?);
    Ok(())
}

fn run(place: &Place, call: Call) -> Result<Report> {
    let report = place.call(&call.option("--duration", SECONDS))?;
    mesh_lab::ensure_clean(&report)?;
    Ok(report)
}

fn cells(title: &str, values: [Vec<u64>; 3]) -> Vec<String> {
    let sorted = values.map(|mut values| {
        values.sort_unstable();
        values
    });
    let [bare, hooked, service] = sorted.each_ref().map(|values| values[values.len() / 2]);
    let spread = ratio(sorted[0][sorted[0].len() - 1], sorted[0][0]);
    let figures = [bare, hooked, service].map(|value| value.to_string());
    [
        vec![title.to_owned()],
        figures.to_vec(),
        vec![ratio(service, bare), spread],
    ]
    .concat()
}

/// While bytes flow over a connection that is open, none of our programs runs.
fn still(world: &World) -> Result<String> {
    let statistics = Statistics::on()?;
    let to = world.service(world.services, false);
    let mut words = Vec::new();
    for (title, call) in [("requests", Call::rr(to)), ("bulk", bulk(to))] {
        let before = Counts::read(&world.agent)?;
        let report = run(&world.hooked(), call)?;
        let after = Counts::read(&world.agent)?;
        words.push(format!(
            "{title}: {} exchanges, {} bytes, {} runs of all our programs together (opening and closing included)",
            report.attempts,
            report.bytes,
            after.all_runs_since(&before)
        ));
    }
    drop(statistics);
    Ok(words.join("; "))
}

fn per_second(report: &Report) -> u64 {
    u64::try_from(
        u128::from(report.answered) * 1_000_000_000 / u128::from(report.elapsed_ns.max(1)),
    )
    .unwrap_or(0)
}

fn megabytes(report: &Report) -> u64 {
    u64::try_from(u128::from(report.bytes) * 1000 / u128::from(report.elapsed_ns.max(1)))
        .unwrap_or(0)
}

fn median(report: &Report) -> u64 {
    report.latency_ns.map_or(0, |percentiles| percentiles.p50)
}
