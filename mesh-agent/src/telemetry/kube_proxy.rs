//! kube-proxy's own metrics, so that dashboards and alerts made for it go on: names, types, labels and buckets are those
//! of kube-proxy 1.36 (pkg/proxy/metrics). What only makes sense with iptables or nftables is left out. One pass programs
//! both families, so each pass counts for both.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::engine::WithoutLocal;

type Label = [(&'static str, &'static str); 1];
type Seconds = Gauge<f64, AtomicU64>;
type Durations = Family<Label, Histogram, fn() -> Histogram>;

const FAMILIES: [Label; 2] = [[("ip_family", "IPv4")], [("ip_family", "IPv6")]];

/// What passed since the last pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// EndpointSlices that came, changed or went.
    pub slices: u64,
    /// Services that did.
    pub services: u64,
}

/// A pass over everything that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Whether it was about everything there is.
    pub full: bool,
    /// How long it took.
    pub took: Duration,
    /// When it was over.
    pub ended: SystemTime,
}

/// The metrics. Clones count into the same.
#[derive(Clone, Debug)]
pub struct KubeProxyMetrics {
    sync: Durations,
    sync_full: Durations,
    sync_partial: Durations,
    network: Durations,
    last_synced: Family<Label, Seconds>,
    last_queued: Family<Label, Seconds>,
    slices_pending: Gauge,
    slices: Counter,
    services_pending: Gauge,
    services: Counter,
    healthz: Family<[(&'static str, String); 1], Counter>,
    livez: Family<[(&'static str, String); 1], Counter>,
    without_local: Family<LocalLabels, Gauge>,
}

/// Which traffic policy leaves a Service without endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LocalLabels {
    traffic_policy: &'static str,
    ip_family: &'static str,
}

impl KubeProxyMetrics {
    pub(super) fn new() -> Self {
        let durations = |make: fn() -> Histogram| Durations::new_with_constructor(make);
        let metrics = Self {
            sync: durations(pass_histogram),
            sync_full: durations(pass_histogram),
            sync_partial: durations(pass_histogram),
            network: durations(network_histogram),
            last_synced: Family::default(),
            last_queued: Family::default(),
            slices_pending: Gauge::default(),
            slices: Counter::default(),
            services_pending: Gauge::default(),
            services: Counter::default(),
            healthz: Family::default(),
            livez: Family::default(),
            without_local: Family::default(),
        };
        metrics.start();
        metrics
    }

    /// Series that a dashboard expects before anything has happened.
    fn start(&self) {
        for family in FAMILIES {
            for durations in [
                &self.sync,
                &self.sync_full,
                &self.sync_partial,
                &self.network,
            ] {
                drop(durations.get_or_create(&family));
            }
            for seconds in [&self.last_synced, &self.last_queued] {
                drop(seconds.get_or_create(&family));
            }
            for traffic_policy in ["internal", "external"] {
                drop(self.without_local.get_or_create(&LocalLabels {
                    traffic_policy,
                    ip_family: family[0].1,
                }));
            }
        }
        for codes in [&self.healthz, &self.livez] {
            drop(codes.get_or_create(&code(200)));
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.register_passes(registry.sub_registry_with_prefix("kubeproxy"));
        self.register_counts(registry.sub_registry_with_prefix("kubeproxy"));
    }

    fn register_passes(&self, registry: &mut Registry) {
        registry.register(
            "sync_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds",
            self.sync.clone(),
        );
        registry.register(
            "sync_full_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for full resyncs",
            self.sync_full.clone(),
        );
        registry.register(
            "sync_partial_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for partial resyncs",
            self.sync_partial.clone(),
        );
        registry.register(
            "network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
            self.network.clone(),
        );
        registry.register(
            "sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            self.last_synced.clone(),
        );
        registry.register(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued",
            self.last_queued.clone(),
        );
    }

    fn register_counts(&self, registry: &mut Registry) {
        registry.register(
            "sync_proxy_rules_endpoint_changes_pending",
            "Pending proxy rules Endpoint changes",
            self.slices_pending.clone(),
        );
        registry.register(
            "sync_proxy_rules_endpoint_changes",
            "Cumulative proxy rules Endpoint changes",
            self.slices.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes_pending",
            "Pending proxy rules Service changes",
            self.services_pending.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes",
            "Cumulative proxy rules Service changes",
            self.services.clone(),
        );
        registry.register(
            "proxy_healthz",
            "Cumulative proxy healthz HTTP status",
            self.healthz.clone(),
        );
        registry.register(
            "proxy_livez",
            "Cumulative proxy livez HTTP status",
            self.livez.clone(),
        );
        registry.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            self.without_local.clone(),
        );
    }

    /// Changes came in and wait for the next pass.
    pub fn queued(&self, changes: Changes, now: SystemTime) {
        self.slices.inc_by(changes.slices);
        self.services.inc_by(changes.services);
        let add =
            |gauge: &Gauge, count: u64| gauge.inc_by(i64::try_from(count).unwrap_or(i64::MAX));
        add(&self.slices_pending, changes.slices);
        add(&self.services_pending, changes.services);
        set(&self.last_queued, now);
    }

    /// A pass is over and everything is written.
    pub fn synced(&self, pass: Pass) {
        let kind = if pass.full {
            &self.sync_full
        } else {
            &self.sync_partial
        };
        for family in FAMILIES {
            for durations in [&self.sync, kind] {
                durations
                    .get_or_create(&family)
                    .observe(pass.took.as_secs_f64());
            }
        }
        self.slices_pending.set(0);
        self.services_pending.set(0);
        set(&self.last_synced, pass.ended);
    }

    /// Service ports that a policy Local leaves without endpoints.
    pub fn set_without_local(&self, counts: WithoutLocal) {
        let policies = [("internal", counts.internal), ("external", counts.external)];
        for (traffic_policy, counts) in policies {
            for (family, count) in FAMILIES.iter().zip(counts) {
                let labels = LocalLabels {
                    traffic_policy,
                    ip_family: family[0].1,
                };
                let gauge = self.without_local.get_or_create(&labels);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    /// From the change of a Pod or Service, as its EndpointSlice tells it, to its being in force.
    pub fn network_programmed(&self, v6: bool, took: Duration) {
        let family = FAMILIES[usize::from(v6)];
        self.network
            .get_or_create(&family)
            .observe(took.as_secs_f64());
    }

    /// /healthz was answered.
    pub fn healthz_answered(&self, status: u16) {
        self.healthz.get_or_create(&code(status)).inc();
    }

    /// /livez was answered.
    pub fn livez_answered(&self, status: u16) {
        self.livez.get_or_create(&code(status)).inc();
    }
}

fn code(status: u16) -> [(&'static str, String); 1] {
    [("code", status.to_string())]
}

fn set(gauges: &Family<Label, Seconds>, at: SystemTime) {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    for family in FAMILIES {
        gauges.get_or_create(&family).set(seconds.as_secs_f64());
    }
}

/// One millisecond, and fourteen doublings.
fn pass_histogram() -> Histogram {
    Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power)))
}

/// 0 (kube-proxy's way of joining its ranges leaves one), 0.25, 0.5, 1 to 59 by one, 60 to 115 by five, 120 to 300 by
/// thirty.
fn network_histogram() -> Histogram {
    let seconds = (1..60)
        .chain((60..120).step_by(5))
        .chain((120..=300).step_by(30));
    Histogram::new([0.0, 0.25, 0.5].into_iter().chain(seconds.map(f64::from)))
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(metrics: &KubeProxyMetrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn buckets_are_those_of_kube_proxy() {
        let metrics = KubeProxyMetrics::new();
        let text = text(&metrics);
        let bounds = |name: &str| -> Vec<f64> {
            let start = format!("kubeproxy_{name}_bucket{{");
            text.lines()
                .filter(|line| line.starts_with(&start) && line.contains("IPv6"))
                .filter_map(|line| line.split_once("le=\"")?.1.split_once('"')?.0.parse().ok())
                .filter(|bound: &f64| bound.is_finite())
                .collect()
        };
        let passes = bounds("sync_proxy_rules_duration_seconds");
        assert_eq!((passes.len(), passes[0], passes[14]), (15, 0.001, 16.384));
        let network = bounds("network_programming_duration_seconds");
        assert_eq!(network.len(), 3 + 59 + 12 + 7);
        assert_eq!((network[1], network[61], network[62]), (0.25, 59.0, 60.0));
        assert_eq!(
            (network[73], network[74], network[80]),
            (115.0, 120.0, 300.0)
        );
    }

    #[test]
    fn a_pass_takes_everything_that_waited() {
        let metrics = KubeProxyMetrics::new();
        let changes = Changes {
            slices: 3,
            services: 1,
        };
        metrics.queued(changes, UNIX_EPOCH + Duration::from_secs(5));
        let waiting = text(&metrics);
        assert!(waiting.contains("kubeproxy_sync_proxy_rules_endpoint_changes_pending 3\n"));
        metrics.synced(Pass {
            full: false,
            took: Duration::from_millis(3),
            ended: UNIX_EPOCH + Duration::from_millis(5500),
        });
        metrics.healthz_answered(503);
        let done = text(&metrics);
        for line in [
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 3",
            "kubeproxy_sync_proxy_rules_service_changes_total 1",
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family=\"IPv4\"} 5.0",
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"} 5.5",
            "kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 1",
            "kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 0",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\",ip_family=\"IPv4\"} 0",
        ] {
            assert!(
                done.lines().any(|it| it == line),
                "{line} is not in\n{done}"
            );
        }
    }
}
