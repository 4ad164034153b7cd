//! What a scrape must hold, and that the text format keeps its rules.

use std::collections::BTreeSet;

use super::*;

pub(crate) struct Fixed;

impl Readings for Fixed {
    fn maps(&self) -> Vec<MapView> {
        vec![MapView {
            name: "sets".to_owned(),
            version: 1,
            entries: Some(3),
            capacity: 8,
            bytes: 4096,
            pinned: true,
        }]
    }

    fn operations(&self) -> Vec<Operations> {
        vec![Operations {
            map: "sets",
            op: "store",
            outcome: "ok",
            count: 5,
        }]
    }

    fn stale(&self) -> Vec<(&'static str, u64)> {
        vec![("Service", 0)]
    }

    fn counters(&self) -> Vec<(Counted, u64)> {
        vec![
            (Counted::Forwarded, 7),
            (Counted::Refused(Reason::NoEndpoints), 2),
        ]
    }
}

fn metrics() -> Metrics {
    let metrics = Metrics::new(Arc::new(Fixed));
    metrics.programmed(Duration::from_micros(150), Duration::from_micros(15));
    metrics.set_problems(2);
    metrics.problem_found();
    metrics.set_dirty(1);
    metrics.write_failed("slots");
    metrics
}

#[test]
fn every_metric_is_there_from_the_start() {
    let text = metrics().text().unwrap();
    for line in [
        "mesh_agent_map_operations_total{map=\"sets\",op=\"store\",outcome=\"ok\"} 5",
        "mesh_agent_map_entries{map=\"sets\"} 3",
        "mesh_agent_map_capacity{map=\"sets\"} 8",
        "mesh_agent_map_bytes{map=\"sets\"} 4096",
        "mesh_agent_socket_connections_total{result=\"forwarded\",reason=\"none\"} 7",
        "mesh_agent_socket_connections_total{result=\"refused\",reason=\"no_endpoints\"} 2",
        "mesh_agent_socket_connections_total{result=\"refused\",reason=\"no_such_port\"} 0",
        "mesh_agent_drops_total{reason=\"no_endpoints\"} 2",
        "mesh_agent_drops_total{reason=\"no_such_port\"} 0",
        "mesh_agent_drops_total{reason=\"sockets_full\"} 0",
        "mesh_agent_drops_total{reason=\"inconsistent\"} 0",
        "mesh_agent_flows_total{event=\"opened\"} 0",
        "mesh_agent_flows_total{event=\"unconfirmed\"} 0",
        "mesh_agent_peers_forgotten_total 0",
        "mesh_agent_programming_duration_seconds_bucket{le=\"0.0001\"} 0",
        "mesh_agent_programming_duration_seconds_bucket{le=\"0.0002\"} 1",
        "mesh_agent_programming_duration_seconds_count 1",
        "mesh_agent_programming_cpu_seconds_bucket{le=\"0.00001\"} 0",
        "mesh_agent_programming_cpu_seconds_bucket{le=\"0.00002\"} 1",
        "mesh_agent_programming_cpu_seconds_count 1",
        "mesh_agent_source_problems 2",
        "mesh_agent_source_problems_found_total 1",
        "mesh_agent_dirty_objects 1",
        "mesh_agent_write_failures_total{map=\"slots\"} 1",
        "mesh_agent_write_failures_total{map=\"sets\"} 0",
        "# TYPE mesh_agent_drops_total counter",
    ] {
        assert!(
            text.lines().any(|it| it == line),
            "{line} is not in\n{text}"
        );
    }
    for name in [
        "mesh_agent_build_info{version=",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_start_time_seconds ",
    ] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
}

#[test]
fn open_metrics_ends_and_names_no_family_twice() {
    let text = metrics().open_metrics().unwrap();
    assert!(text.ends_with("# EOF\n"));
    let names = families(&text);
    assert_eq!(
        names.len(),
        names.iter().collect::<BTreeSet<_>>().len(),
        "{names:?}"
    );
}

/// The rules that promtool checks: HELP and TYPE before the samples, once; counters end in _total and nothing else
/// typed does; every sample belongs to the family above it.
#[test]
fn the_text_format_keeps_its_rules() {
    let text = metrics().text().unwrap();
    assert!(!text.contains("# EOF") && !text.contains("# UNIT") && text.ends_with('\n'));
    let names = families(&text);
    assert_eq!(
        names.len(),
        names.iter().collect::<BTreeSet<_>>().len(),
        "{names:?}"
    );
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty(), "{line}");
            name.clone_into(&mut family);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            of.clone_into(&mut kind);
            // kube-proxy calls this gauge a total, and what is made for kube-proxy asks for it by name.
            let misnamed = name == "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
            let counts = kind == "counter" || misnamed;
            assert_eq!(counts, name.ends_with("_total"), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let suffix = name.strip_prefix(family.as_str());
            let allowed: &[&str] = if kind == "histogram" {
                &["_bucket", "_sum", "_count"]
            } else {
                &[""]
            };
            assert!(suffix.is_some_and(|it| allowed.contains(&it)), "{line}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
}

fn families(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect()
}
