//! The metrics: one registry. What the kernel or the process knows is asked when somebody scrapes.

use std::{fmt, sync::Arc};

use mesh_common::{Counter, Reason};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType, counter::ConstCounter, gauge::ConstGauge, histogram::Histogram, info::Info,
    },
    registry::Registry,
};

use super::prometheus::to_prometheus_text;

/// From 100 us to 10 s: one endpoint change takes the lower ones, a cold start at scale the upper ones.
const PROGRAMMING_BUCKETS: [f64; 16] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

/// How often an operation on a map ended so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapOperations {
    /// The map.
    pub map: &'static str,
    /// update, delete, lookup, store
    pub op: &'static str,
    /// ok or error
    pub outcome: &'static str,
    /// So often.
    pub count: u64,
}

/// A map's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFigures {
    /// The map.
    pub map: &'static str,
    /// Entries in use, where it is known.
    pub entries: Option<u64>,
    /// Entries it has room for.
    pub capacity: u64,
    /// Kernel memory.
    pub bytes: u64,
}

/// What the datapath counted, sums over all CPUs.
pub type SocketCounts = Vec<(Counter, u64)>;

/// What is asked when somebody scrapes.
pub trait Scrape: Send + Sync + 'static {
    /// The maps.
    fn maps(&self) -> Vec<MapFigures>;
    /// Operations on maps since the agent started.
    fn operations(&self) -> Vec<MapOperations>;
    /// The datapath's counters.
    fn counts(&self) -> SocketCounts;
    /// Objects whose last write failed.
    fn dirty(&self) -> u64;
    /// Problems there are now, and problems there ever were since the agent started.
    fn problems(&self) -> (u64, u64);
}

/// The registry and what is recorded as it happens.
pub struct Metrics {
    registry: Registry,
    programming: Histogram,
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new(scrape: Arc<dyn Scrape>) -> Self {
        let mut registry = Registry::default();
        let programming = Histogram::new(PROGRAMMING_BUCKETS);
        registry.register(
            "mesh_agent_programming_duration_seconds",
            "From an event decoded to the last write that it made necessary",
            programming.clone(),
        );
        registry.register(
            "mesh_agent_build",
            "The agent's version",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(Asked(scrape)));
        registry.register_collector(Box::new(super::process::Process));
        Self {
            registry,
            programming,
        }
    }

    /// An event is in force after so many seconds.
    pub fn programmed(&self, seconds: f64) {
        self.programming.observe(seconds);
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// A formatter's, which memory does not have.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// All metrics as Prometheus text 0.0.4.
    ///
    /// # Errors
    /// As `open_metrics`.
    pub fn prometheus(&self) -> Result<String, fmt::Error> {
        self.open_metrics().map(|text| to_prometheus_text(&text))
    }
}

struct Asked(Arc<dyn Scrape>);

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

impl Collector for Asked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let scrape = &*self.0;
        let operations = scrape.operations().into_iter().map(|operation| {
            let labels = [
                ("map", operation.map),
                ("op", operation.op),
                ("outcome", operation.outcome),
            ];
            (labels, operation.count)
        });
        counters(
            &mut encoder,
            "mesh_agent_map_operations",
            "Operations on maps",
            operations,
        )?;
        let failures = scrape
            .operations()
            .into_iter()
            .filter(|operation| operation.outcome == "error");
        let failures =
            failures.map(|failure| ([("map", failure.map), ("op", failure.op)], failure.count));
        counters(
            &mut encoder,
            "mesh_agent_write_failures",
            "Operations on maps that failed",
            failures,
        )?;
        maps(&mut encoder, &scrape.maps())?;
        let counts = scrape.counts();
        counters(
            &mut encoder,
            "mesh_agent_socket_connections",
            CONNECTIONS,
            connections(&counts),
        )?;
        let drops = Reason::ALL.map(|reason| {
            (
                [("reason", reason.name())],
                count(&counts, Counter::Refused(reason)),
            )
        });
        counters(
            &mut encoder,
            "mesh_agent_drops",
            "What was not forwarded, by reason",
            drops,
        )?;
        let forgotten = count(&counts, Counter::PeerForgotten);
        counter(
            &mut encoder,
            "mesh_agent_peers_forgotten",
            FORGOTTEN,
            forgotten,
        )?;
        let (problems, ever) = scrape.problems();
        gauge(
            &mut encoder,
            "mesh_agent_source_problems",
            "Bad input and conflicts there are now",
            problems,
        )?;
        let help = "Bad input and conflicts that ever appeared";
        counter(&mut encoder, "mesh_agent_source_problems_found", help, ever)?;
        gauge(
            &mut encoder,
            "mesh_agent_dirty_objects",
            "Objects whose last write failed and is tried again",
            scrape.dirty(),
        )
    }
}

const CONNECTIONS: &str = "Connections to Services, and first datagrams of unconnected sockets";
const FORGOTTEN: &str = "Connections whose getpeername shows the backend, for want of room";

fn count(counts: &SocketCounts, of: Counter) -> u64 {
    counts
        .iter()
        .find(|(counter, _)| *counter == of)
        .map_or(0, |(_, count)| *count)
}

fn connections(counts: &SocketCounts) -> Vec<([(&'static str, &'static str); 2], u64)> {
    let mut series = vec![(
        [("result", "forwarded"), ("reason", "none")],
        count(counts, Counter::Forwarded),
    )];
    series.extend(Reason::ALL.map(|reason| {
        (
            [("result", "refused"), ("reason", reason.name())],
            count(counts, Counter::Refused(reason)),
        )
    }));
    series
}

fn maps(encoder: &mut DescriptorEncoder<'_>, maps: &[MapFigures]) -> Result<(), fmt::Error> {
    let entries = maps.iter().filter_map(|map| Some((map.map, map.entries?)));
    map_gauges(encoder, "mesh_agent_map_entries", "Entries in use", entries)?;
    let capacities = maps.iter().map(|map| (map.map, map.capacity));
    map_gauges(
        encoder,
        "mesh_agent_map_capacity",
        "Entries there is room for",
        capacities,
    )?;
    let bytes = maps.iter().map(|map| (map.map, map.bytes));
    map_gauges(
        encoder,
        "mesh_agent_map_bytes",
        "Kernel memory of the map",
        bytes,
    )
}

fn map_gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'static str, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (map, value) in values {
        ConstGauge::new(signed(value)).encode(family.encode_family(&[("map", map)])?)?;
    }
    Ok(())
}

fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(signed(value)).encode(metric)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    impl Scrape for Fake {
        fn maps(&self) -> Vec<MapFigures> {
            vec![MapFigures {
                map: "sets",
                entries: Some(2),
                capacity: 8,
                bytes: 64,
            }]
        }

        fn operations(&self) -> Vec<MapOperations> {
            vec![MapOperations {
                map: "sets",
                op: "store",
                outcome: "ok",
                count: 3,
            }]
        }

        fn counts(&self) -> SocketCounts {
            vec![
                (Counter::Forwarded, 5),
                (Counter::Refused(Reason::NoEndpoints), 2),
            ]
        }

        fn dirty(&self) -> u64 {
            0
        }

        fn problems(&self) -> (u64, u64) {
            (1, 4)
        }
    }

    #[test]
    fn both_texts_have_every_series() {
        let metrics = Metrics::new(Arc::new(Fake));
        metrics.programmed(0.0003);
        let text = metrics.prometheus().unwrap();
        for line in [
            "mesh_agent_map_operations_total{map=\"sets\",op=\"store\",outcome=\"ok\"} 3",
            "# TYPE mesh_agent_map_operations_total counter",
            "mesh_agent_map_entries{map=\"sets\"} 2",
            "mesh_agent_map_capacity{map=\"sets\"} 8",
            "mesh_agent_map_bytes{map=\"sets\"} 64",
            "mesh_agent_socket_connections_total{result=\"forwarded\",reason=\"none\"} 5",
            "mesh_agent_socket_connections_total{result=\"refused\",reason=\"no_endpoints\"} 2",
            "mesh_agent_drops_total{reason=\"no_endpoints\"} 2",
            "mesh_agent_drops_total{reason=\"no_such_port\"} 0",
            "mesh_agent_programming_duration_seconds_count 1",
            "mesh_agent_source_problems 1",
            "mesh_agent_source_problems_found_total 4",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
        let open = metrics.open_metrics().unwrap();
        assert!(open.ends_with("# EOF\n"));
        assert!(!text.contains("# EOF"));
    }
}
