//! Every metric of the agent, in one registry. What others count is read when a scrape asks for it (`Readings`); what
//! the agent's own steps count is counted here, through `Metrics`.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use mesh_common::{Counter as Counted, MapKind, Reason};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text::encode as open_metrics},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        exemplar::Exemplar,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

use super::{exposition, kube_proxy::KubeProxyMetrics, process::Process, view::MapView};

/// Seconds: an endpoint change takes well under a millisecond, a cold start with ten thousand Services some seconds.
const PROGRAMMING_BUCKETS: [f64; 19] = [
    0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
    0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// The stages of a start, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupStage {
    /// Maps and programs are loaded, or taken over.
    Load,
    /// The source delivers the first full list of every kind.
    List,
    /// The first full state is planned and written.
    Write,
    /// The programs are put in force.
    Attach,
}

impl StartupStage {
    const ALL: [Self; 4] = [Self::Load, Self::List, Self::Write, Self::Attach];

    const fn label(self) -> [(&'static str, &'static str); 1] {
        let name = match self {
            Self::Load => "load",
            Self::List => "list",
            Self::Write => "write",
            Self::Attach => "attach",
        };
        [("stage", name)]
    }
}

/// How often an operation on a map had an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations {
    /// The map.
    pub map: &'static str,
    /// lookup, update, delete or store.
    pub op: &'static str,
    /// ok, full or error.
    pub outcome: &'static str,
    /// How often.
    pub count: u64,
}

/// What is counted elsewhere and read at each scrape.
pub trait Readings: Send + Sync {
    /// The maps.
    fn maps(&self) -> Vec<MapView>;

    /// Operations on the maps since the agent started.
    fn operations(&self) -> Vec<Operations>;

    /// For how many seconds nothing new could be learnt of each kind that is watched; 0 while its watch works.
    fn stale(&self) -> Vec<(&'static str, u64)>;

    /// What the datapath counted, summed over the CPUs. What is missing counts as zero.
    fn counters(&self) -> Vec<(Counted, u64)>;
}

/// The metrics. Clones count into the same.
#[derive(Clone)]
pub struct Metrics {
    /// Those of kube-proxy.
    pub kube_proxy: KubeProxyMetrics,
    registry: Arc<Registry>,
    programming: Histogram,
    programming_cpu: Histogram,
    problems: Gauge,
    problems_found: Counter,
    dirty: Gauge,
    interfaces: Family<[(&'static str, &'static str); 1], Gauge>,
    write_failures: Family<[(&'static str, String); 1], Counter>,
    repairs: Family<[(&'static str, String); 1], Counter>,
    sockets_destroyed: Family<[(&'static str, &'static str); 1], Counter>,
    namespaces_searched: Counter,
    startup: Family<[(&'static str, &'static str); 1], Gauge<f64, AtomicU64>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// All metrics, registered once.
    #[must_use]
    pub fn new(readings: Arc<dyn Readings>) -> Self {
        let mut metrics = Self {
            kube_proxy: KubeProxyMetrics::new(),
            registry: Arc::default(),
            programming: Histogram::new(PROGRAMMING_BUCKETS),
            programming_cpu: Histogram::new(PROGRAMMING_BUCKETS),
            problems: Gauge::default(),
            problems_found: Counter::default(),
            dirty: Gauge::default(),
            interfaces: Family::default(),
            write_failures: Family::default(),
            repairs: Family::default(),
            sockets_destroyed: Family::default(),
            namespaces_searched: Counter::default(),
            startup: Family::default(),
        };
        // A series that comes and goes cannot be counted by.
        for place in ["pod", "device"] {
            metrics.set_interfaces(place, 0);
        }
        for protocol in ["tcp", "udp"] {
            metrics.sockets_destroyed(protocol, 0);
        }
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.kube_proxy.register(&mut registry);
        registry.register_collector(Box::new(Scrape(readings)));
        metrics.registry = Arc::new(registry);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "mesh_agent_programming_duration_seconds",
            "From an event decoded to the last write it caused",
            self.programming.clone(),
        );
        registry.register(
            "mesh_agent_programming_cpu_seconds",
            "CPU time of the thread that programs, from an event decoded to the last write it caused",
            self.programming_cpu.clone(),
        );
        registry.register(
            "mesh_agent_source_problems",
            "Files and objects that could not be used as they are now",
            self.problems.clone(),
        );
        registry.register(
            "mesh_agent_source_problems_found",
            "Problems with files and objects since the agent started",
            self.problems_found.clone(),
        );
        registry.register(
            "mesh_agent_dirty_objects",
            "Services whose state in the kernel is not yet what it should be",
            self.dirty.clone(),
        );
        registry.register(
            "mesh_agent_interfaces",
            "Interfaces that packets are served at: those of local pods and the node's devices",
            self.interfaces.clone(),
        );
        registry.register(
            "mesh_agent_write_failures",
            "Writes to a map that failed and are tried again",
            self.write_failures.clone(),
        );
        registry.register(
            "mesh_agent_repairs",
            "Entries that were not what the agent had written, found and repaired by the periodic check, 64 of a check at most",
            self.repairs.clone(),
        );
        registry.register(
            "mesh_agent_sockets_destroyed",
            "Sockets connected to a Service that were destroyed because their backend was gone",
            self.sockets_destroyed.clone(),
        );
        registry.register(
            "mesh_agent_namespaces_searched",
            "Network namespaces that were searched for sockets connected to a Service whose backend was gone",
            self.namespaces_searched.clone(),
        );
        registry.register(
            "mesh_agent_startup_duration_seconds",
            "What each stage of the start took, 0 until it is done",
            self.startup.clone(),
        );
        for stage in StartupStage::ALL {
            drop(self.startup.get_or_create(&stage.label()));
        }
        for spec in &mesh_common::MAPS {
            drop(self.write_failures.get_or_create(&map_label(spec.name)));
            if spec.kind == MapKind::Derived {
                drop(self.repairs.get_or_create(&map_label(spec.name)));
            }
        }
    }

    /// An event was programmed: how long it took, and how long the thread worked for it.
    pub fn programmed(&self, took: Duration, worked: Duration) {
        self.programming.observe(took.as_secs_f64());
        self.programming_cpu.observe(worked.as_secs_f64());
    }

    /// So many problems stand now.
    pub fn set_problems(&self, count: usize) {
        self.problems.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A problem was found that was not there before.
    pub fn problem_found(&self) {
        self.problems_found.inc();
    }

    /// So many Services wait to be written.
    pub fn set_dirty(&self, count: usize) {
        self.dirty.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Packets are served at so many interfaces of a kind: pod or device.
    pub fn set_interfaces(&self, place: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.interfaces
            .get_or_create(&[("place", place)])
            .set(count);
    }

    /// A write to a map failed.
    pub fn write_failed(&self, map: &str) {
        self.write_failures.get_or_create(&map_label(map)).inc();
    }

    /// The periodic check found an entry of a map that is to be repaired.
    pub fn repaired(&self, map: &str) {
        self.repairs.get_or_create(&map_label(map)).inc();
    }

    /// So many sockets more lost their backend, and were destroyed.
    pub fn sockets_destroyed(&self, protocol: &'static str, count: u64) {
        let counter = self
            .sockets_destroyed
            .get_or_create(&[("protocol", protocol)]);
        counter.inc_by(count);
    }

    /// So many namespaces more were searched for sockets that lost their backend.
    pub fn namespaces_searched(&self, count: u64) {
        self.namespaces_searched.inc_by(count);
    }

    /// A stage of the start is done.
    pub fn started(&self, stage: StartupStage, took: Duration) {
        let gauge = self.startup.get_or_create(&stage.label());
        gauge.set(took.as_secs_f64());
    }

    /// In the OpenMetrics format.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        open_metrics(&mut text, &self.registry)?;
        Ok(text)
    }

    /// In the Prometheus text format 0.0.4.
    pub fn text(&self) -> Result<String, fmt::Error> {
        Ok(exposition::to_text(&self.open_metrics()?))
    }
}

fn map_label(map: &str) -> [(&'static str, String); 1] {
    [("map", map.to_owned())]
}

/// Asks for the readings, and for the process's figures, at each scrape.
struct Scrape(Arc<dyn Readings>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        maps(&self.0.maps(), &mut encoder)?;
        operations(&self.0.operations(), &mut encoder)?;
        counters(&self.0.counters(), &mut encoder)?;
        gauge(
            &mut encoder,
            "mesh_agent_source_stale_seconds",
            "For how long nothing new could be learnt of a kind; 0 while its watch works.",
            self.0
                .stale()
                .into_iter()
                .map(|(kind, seconds)| (vec![("kind", kind)], seconds)),
        )?;
        gauge(
            &mut encoder,
            "mesh_agent_build_info",
            "Always 1; the label says which version runs.",
            [(vec![("version", env!("CARGO_PKG_VERSION"))], 1)],
        )?;
        process(&Process::read(), &mut encoder)
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

fn maps(maps: &[MapView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let each = |value: fn(&MapView) -> Option<u64>| {
        maps.iter()
            .filter_map(move |map| Some((vec![("map", map.name.as_str())], value(map)?)))
    };
    gauge(
        encoder,
        "mesh_agent_map_entries",
        "Entries in use.",
        each(|map| map.entries),
    )?;
    gauge(
        encoder,
        "mesh_agent_map_capacity",
        "Most entries a map can hold.",
        each(|map| Some(map.capacity)),
    )?;
    gauge(
        encoder,
        "mesh_agent_map_bytes",
        "Memory a map takes in the kernel.",
        each(|map| Some(map.bytes)),
    )
}

fn operations(all: &[Operations], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let series = all.iter().map(|each| {
        let labels = vec![
            ("map", each.map),
            ("op", each.op),
            ("outcome", each.outcome),
        ];
        (labels, each.count)
    });
    counter(
        encoder,
        "mesh_agent_map_operations",
        "Operations on maps: system calls, and stores into mapped arrays.",
        series,
    )
}

fn counters(counts: &[(Counted, u64)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let count = |counter: Counted| -> u64 {
        let same = counts.iter().filter(|(it, _)| *it == counter);
        same.map(|(_, count)| count).sum()
    };
    let refused = |reason: Reason| count(Counted::Refused(reason));
    let dropped = |reason: Reason| count(Counted::Dropped(reason));
    let forwarded = ("forwarded", "none", count(Counted::Forwarded));
    let connections = std::iter::once(forwarded).chain(
        Reason::ALL
            .iter()
            .map(|reason| ("refused", reason.name(), refused(*reason))),
    );
    counter(
        encoder,
        "mesh_agent_socket_connections",
        "Connections, and first datagrams of unconnected sockets, to Services.",
        connections
            .map(|(result, reason, count)| (vec![("result", result), ("reason", reason)], count)),
    )?;
    counter(
        encoder,
        "mesh_agent_drops",
        "What was not forwarded, by reason.",
        Reason::ALL.iter().map(|reason| {
            (
                vec![("reason", reason.name())],
                refused(*reason) + dropped(*reason),
            )
        }),
    )?;
    counter(
        encoder,
        "mesh_agent_flows",
        "Flows of packets: opened, and not confirmed because the map flows was full, so that newcomers may push them out.",
        [
            ("opened", Counted::FlowOpened),
            ("unconfirmed", Counted::FlowUnconfirmed),
        ]
        .map(|(event, counter)| (vec![("event", event)], count(counter))),
    )?;
    counter(
        encoder,
        "mesh_agent_peers_forgotten",
        "Forwarded connections for which getpeername shows the backend, because the map sockets was full.",
        [(vec![], count(Counted::PeerForgotten))],
    )
}

fn process(process: &Process, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let alone = |value: Option<u64>| value.map(|value| (vec![], value));
    gauge(
        encoder,
        "process_resident_memory_bytes",
        "Resident memory.",
        alone(process.resident_bytes),
    )?;
    gauge(
        encoder,
        "process_open_fds",
        "Open file descriptors.",
        alone(process.open_fds),
    )?;
    if let Some(seconds) = process.cpu_seconds {
        let metric = ConstCounter::new(seconds);
        let help = "User and system CPU time.";
        let encoder =
            encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        metric.encode(encoder)?;
    }
    if let Some(seconds) = process.start_time_seconds {
        let help = "When the process started, seconds since 1970.";
        let name = "process_start_time_seconds";
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(seconds).encode(encoder)?;
    }
    Ok(())
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;

fn counter<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        if labels.is_empty() {
            family.encode_counter(&value, NO_EXEMPLAR)?;
        } else {
            family
                .encode_family(&labels)?
                .encode_counter(&value, NO_EXEMPLAR)?;
        }
    }
    Ok(())
}

fn gauge<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        if labels.is_empty() {
            family.encode_gauge(&value)?;
        } else {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
