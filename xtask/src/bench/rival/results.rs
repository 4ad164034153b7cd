//! What was measured of each contender at each number of Services, and the rows that show it. Pure.

use std::time::Duration;

use mesh_lab::traffic::Percentiles;

use super::{
    change::Change,
    churn::Churn,
    contender::{Contender, Start},
    exchange::Exchange,
    process::Memory,
};
use crate::bench::report::{micros, ratio};

/// One contender at one number of Services.
pub(super) struct Results {
    pub(super) services: u32,
    /// None is a node without any, which direct calls are measured on.
    pub(super) contender: Option<Contender>,
    pub(super) starts: Vec<Start>,
    /// It did not work within the limit.
    pub(super) gave_up: bool,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) places: Option<String>,
    pub(super) changes: Vec<Change>,
    pub(super) memory: Memory,
    /// Mebibytes of maps.
    pub(super) maps: Option<f64>,
    /// Seconds of the stages of the agent's last start.
    pub(super) stages: Option<[f64; 4]>,
    pub(super) churn: Option<Churn>,
}

impl Results {
    pub(super) fn new(services: u32, contender: Option<Contender>) -> Self {
        Self {
            services,
            contender,
            starts: Vec::new(),
            gave_up: false,
            exchanges: Vec::new(),
            places: None,
            changes: Vec::new(),
            memory: Memory::default(),
            maps: None,
            stages: None,
            churn: None,
        }
    }

    fn head(&self) -> Vec<String> {
        vec![
            self.services.to_string(),
            self.contender
                .map_or("nothing", Contender::title)
                .to_owned(),
        ]
    }
}

type Table = Vec<Vec<String>>;

fn table(head: &[&str], all: &[Results], row: impl Fn(&Results) -> Option<Vec<String>>) -> Table {
    let first = ["Services", "contender"]
        .iter()
        .chain(head)
        .map(|it| (*it).to_owned())
        .collect();
    let rows = all
        .iter()
        .filter_map(|it| Some([it.head(), row(it)?].concat()));
    std::iter::once(first).chain(rows).collect()
}

pub(super) fn starts(all: &[Results], limit: Duration) -> Table {
    let head = [
        "starts",
        "answers, s",
        "programmed and ready, s",
        "least and most, s",
    ];
    table(&head, all, |it| {
        if it.gave_up {
            let words = format!("not within {} s", limit.as_secs());
            return Some(vec![
                it.starts.len().to_string(),
                words,
                String::new(),
                String::new(),
            ]);
        }
        let answers = sorted(it.starts.iter().map(|start| start.answers));
        let ready = sorted(it.starts.iter().map(|start| start.ready));
        Some(vec![
            it.starts.len().to_string(),
            seconds(median(&answers)?),
            seconds(median(&ready)?),
            format!("{} - {}", seconds(*ready.first()?), seconds(*ready.last()?)),
        ])
    })
}

/// Where the agent's own start goes.
pub(super) fn stages(all: &[Results]) -> Table {
    let head = ["load, ms", "list, ms", "write, ms", "attach, ms"];
    table(&head, all, |it| {
        let stages = it.stages?;
        Some(
            stages
                .map(|seconds| format!("{:.1}", seconds * 1000.0))
                .to_vec(),
        )
    })
}

pub(super) fn connects(all: &[Results]) -> Table {
    let head = [
        "direct p50",
        "direct again p50",
        "first p50",
        "last p50",
        "last / direct",
        "direct spread",
        "direct p99",
        "last p99",
        "places",
    ];
    table(&head, all, |it| {
        let of = |turn: usize, figure: fn(&Percentiles) -> u64| {
            sorted(
                it.exchanges
                    .iter()
                    .map(|round| figure(&round.connect[turn])),
            )
        };
        let p50 = |turn| median(&of(turn, |it| it.p50));
        let p99 = |turn| median(&of(turn, |it| it.p99));
        // Largest by smallest of both direct ones in all rounds.
        let mut direct = [of(0, |it| it.p50), of(1, |it| it.p50)].concat();
        direct.sort_unstable();
        let mut cells: Vec<String> = Vec::new();
        for turn in 0..4 {
            cells.push(micros(p50(turn)?));
        }
        cells.push(ratio(p50(3)?, p50(0)?));
        cells.push(ratio(*direct.last()?, *direct.first()?));
        cells.extend([micros(p99(0)?), micros(p99(3)?)]);
        cells.push(it.places.clone().unwrap_or_default());
        Some(cells)
    })
}

pub(super) fn exchanges(all: &[Results]) -> Table {
    let head = [
        "short connections a second: direct",
        "last Service",
        "Service / direct",
        "requests a second: direct",
        "last Service",
        "Service / direct",
    ];
    table(&head, all, |it| {
        let rate = |of: fn(&Exchange) -> u64| median(&sorted(it.exchanges.iter().map(of)));
        let crr = [rate(|it| it.crr[0])?, rate(|it| it.crr[1])?];
        let rr = [rate(|it| it.rr[0])?, rate(|it| it.rr[1])?];
        let cells = [crr, rr].map(|[direct, service]| {
            vec![
                direct.to_string(),
                service.to_string(),
                ratio(service, direct),
            ]
        });
        Some(cells.concat())
    })
}

pub(super) fn changes(all: &[Results]) -> Table {
    let head = [
        "changes",
        "write to effect, ms: median",
        "worst",
        "bare watch, ms: median",
        "beyond the watch, ms: median",
        "worst",
    ];
    table(&head, all, |it| {
        let effect = sorted(it.changes.iter().map(|change| change.effect));
        let watched = sorted(it.changes.iter().map(|change| change.watched));
        let beyond = sorted(it.changes.iter().map(Change::beyond));
        Some(vec![
            it.changes.len().to_string(),
            millis(median(&effect)?),
            millis(*effect.last()?),
            millis(median(&watched)?),
            thousandths(median(&beyond)?),
            thousandths(*beyond.last()?),
        ])
    })
}

pub(super) fn memory(all: &[Results]) -> Table {
    let head = [
        "resident, MiB",
        "proportional, MiB",
        "peak, MiB",
        "maps, MiB",
    ];
    table(&head, all, |it| {
        if it.memory.resident == 0 {
            return None;
        }
        let mebibytes = |kibibytes: u64| format!("{:.1}", kibibytes as f64 / 1024.0);
        Some(vec![
            mebibytes(it.memory.resident),
            mebibytes(it.memory.proportional),
            mebibytes(it.memory.peak),
            it.maps
                .map_or_else(String::new, |maps| format!("{maps:.1}")),
        ])
    })
}

pub(super) fn churns(all: &[Results]) -> Table {
    let head = [
        "changes a second",
        "lag, ms: median",
        "p99",
        "worst",
        "of how many",
        "beyond the watch, ms: median",
        "p99",
        "CPU, s",
        "failed connections",
        "decoded to written, ms: median",
        "p99",
        "CPU time of it, ms: median",
        "p99",
        "Services that differ afterwards",
    ];
    table(&head, all, |it| {
        let churn = it.churn.as_ref()?;
        let lag = [churn.lag.p50, churn.lag.p99, churn.lag.max]
            .map(|it| millis(Duration::from_nanos(it)));
        let mut cells = vec![format!("{:.1}", churn.rate)];
        cells.extend(lag);
        cells.push(churn.lag.count.to_string());
        cells.extend(churn.beyond.map(thousandths));
        cells.push(seconds(churn.cpu));
        cells.push(churn.failed.to_string());
        cells.extend(match &churn.programming {
            Some(it) => [it.wall[0], it.wall[1], it.cpu[0], it.cpu[1]]
                .map(|seconds| format!("{:.2}", seconds * 1000.0)),
            None => Default::default(),
        });
        cells.push(
            churn
                .missed
                .map_or_else(|| "not asked".to_owned(), |it| it.to_string()),
        );
        Some(cells)
    })
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values
}

fn median<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len() / 2).copied()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}

/// Microseconds as milliseconds.
fn thousandths(microseconds: i64) -> String {
    format!("{:.1}", microseconds as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contender_that_gave_up_has_a_row_that_says_so() {
        let mut results = Results::new(30_000, Some(Contender::Nftables));
        results.gave_up = true;
        let rows = starts(&[results], Duration::from_secs(120));
        assert_eq!(rows[1][..2], ["30000", "kube-proxy nftables"]);
        assert_eq!(rows[1][3], "not within 120 s");
    }

    #[test]
    fn what_was_not_measured_has_no_row() {
        let all = [Results::new(1, Some(Contender::Agent))];
        for table in [connects(&all), changes(&all), memory(&all), churns(&all)] {
            assert_eq!(table.len(), 1);
        }
    }
}
