//! The real kube-proxy on one node, the agent on another, one API server: what load balancers, probes, dashboards and
//! alerts read from the one they find at the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::{
    AgentOptions, Call, Condition, Endpoint, Families, KubeProxy, Lab, Needs, Node, ProxyMode,
    Response, Scene, Slice, eventually, node_port, settle, test, traffic::Failure,
};
use serde_json::{Value, json};

const HEALTH: u16 = 10256;
const METRICS: u16 = 10249;
const SERVICE_HEALTH: u16 = 32100;

/// Families of kube-proxy that the agent leaves out, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    (
        "kubeproxy_sync_proxy_rules_iptables_",
        "there is no iptables here",
    ),
    ("kubeproxy_iptables_", "there is no iptables here"),
    (
        "kubeproxy_sync_proxy_rules_nftables_",
        "there is no nftables here",
    ),
    (
        "kubeproxy_conntrack_reconciler_",
        "translation happens at the socket: there is no conntrack entry to take away",
    ),
];

/// What dashboards and alerts made for kube-proxy ask for.
const ASKED_FOR: [&str; 13] = [
    "kubeproxy_sync_proxy_rules_duration_seconds",
    "kubeproxy_sync_full_proxy_rules_duration_seconds",
    "kubeproxy_sync_partial_proxy_rules_duration_seconds",
    "kubeproxy_network_programming_duration_seconds",
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    "kubeproxy_sync_proxy_rules_service_changes_pending",
    "kubeproxy_sync_proxy_rules_service_changes_total",
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
    "kubeproxy_proxy_healthz_total",
    "kubeproxy_proxy_livez_total",
];

/// Two nodes that are served alike.
struct World {
    scene: Scene,
    other: Node,
    proxy: KubeProxy,
}

fn world(lab: &mut Lab, mode: ProxyMode) -> Result<World> {
    lab.use_control_plane()?;
    let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
    let other = lab.node("other", Families::Dual)?;
    let proxy = KubeProxy::start(&other, mode)?;
    scene.settle(scene.any()?)?;
    let world = World {
        scene,
        other,
        proxy,
    };
    for node in [&world.scene.one, &world.other] {
        for path in ["/healthz", "/livez"] {
            node.get(HEALTH, path)?;
        }
    }
    Ok(world)
}

/// A change that says when it began, as the controllers' do. kube-proxy shows some families only after one.
fn change(lab: &mut Lab, world: &World) -> Result<()> {
    let client = lab.control_plane().context("it was started")?.client()?;
    let address = world.scene.web.addresses_of("web-0")?;
    let endpoints = [Endpoint::ready(address[0])];
    let mut slice = Slice::new("web-more", "web", &mesh_lab::web_ports(), &endpoints).json();
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    slice["metadata"]["annotations"] =
        json!({"endpoints.kubernetes.io/last-change-trigger-time": now});
    client.apply(&slice)?;
    eventually("kube-proxy shows all that dashboards ask for", || {
        let real = families(&world.other.get(METRICS, "/metrics")?.body)?;
        for name in ASKED_FOR {
            ensure!(real.contains_key(name), "no {name}");
        }
        Ok(())
    })
}

/// A family of metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Family {
    kind: String,
    /// The label names that any of its series has.
    labels: BTreeSet<String>,
    /// The bounds of a histogram's buckets.
    bounds: BTreeSet<String>,
}

/// The families whose names begin with `kubeproxy_`.
fn families(text: &str) -> Result<BTreeMap<String, Family>> {
    let mut found: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').context("a name and a type")?;
            current = name.to_owned();
            if name.starts_with("kubeproxy_") {
                found.entry(current.clone()).or_default().kind = kind.to_owned();
            }
        } else if let Some(family) = found.get_mut(&current)
            && !line.starts_with('#')
        {
            family.add(line)?;
        }
    }
    Ok(found)
}

impl Family {
    fn add(&mut self, series: &str) -> Result<()> {
        let Some((_, labels)) = series.split_once('{') else {
            return Ok(());
        };
        let (labels, _) = labels.rsplit_once('}').context("labels end")?;
        for label in labels.split_terminator("\",") {
            let (name, value) = label.split_once("=\"").context("a label has a value")?;
            if name == "le" {
                let value = value.trim_end_matches('"');
                let bound: f64 = value.replace("+Inf", "inf").parse()?;
                self.bounds.insert(format!("{bound}"));
            } else {
                self.labels.insert(name.to_owned());
            }
        }
        Ok(())
    }
}

fn is_left_out(name: &str) -> bool {
    LEFT_OUT.iter().any(|(prefix, _)| name.starts_with(prefix))
}

fn compare_metrics(world: &World) -> Result<()> {
    let real = families(&world.other.get(METRICS, "/metrics")?.body)?;
    let ours = families(&world.scene.one.get(METRICS, "/metrics")?.body)?;
    let mut wrong = Vec::new();
    for (name, family) in real.iter().filter(|(name, _)| !is_left_out(name)) {
        match ours.get(name) {
            None => wrong.push(format!("{name} ({}) is missing", family.kind)),
            Some(own) if own != family => wrong.push(format!("{name}: {own:?}, not {family:?}")),
            Some(_) => {}
        }
    }
    for name in ours.keys().filter(|name| !real.contains_key(*name)) {
        wrong.push(format!("kube-proxy has no {name}"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} families compared", real.len());
    Ok(())
}

/// Status, headers that clients look at, and the shape of the body.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    status: u16,
    kind: Option<String>,
    no_sniffing: Option<String>,
    body: Vec<String>,
}

impl Shape {
    fn of(response: &Response) -> Self {
        let header = |name: &str| response.header(name).map(str::to_owned);
        Self {
            status: response.status,
            kind: header("content-type"),
            no_sniffing: header("x-content-type-options"),
            body: shape(&response.body),
        }
    }
}

/// The paths of an object's fields in order, with what they hold unless that is a date; any other body as it is.
fn shape(body: &str) -> Vec<String> {
    match serde_json::from_str::<Value>(body) {
        Ok(document) if document.is_object() => {
            let mut fields = Vec::new();
            paths("", &document, &mut fields);
            fields
        }
        _ => vec![body.to_owned()],
    }
}

fn paths(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                paths(&format!("{path}.{key}"), value, found);
            }
        }
        Value::String(_) => found.push(path.to_owned()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            found.push(format!("{path}={value}"));
        }
    }
}

fn compare_answers(world: &World, mode: ProxyMode) -> Result<()> {
    let paths = [
        (HEALTH, "/healthz"),
        (HEALTH, "/livez"),
        (METRICS, "/healthz"),
        (METRICS, "/proxyMode"),
    ];
    for (port, path) in paths {
        let real = Shape::of(&world.other.get(port, path)?);
        let mut ours = Shape::of(&world.scene.one.get(port, path)?);
        if path == "/proxyMode" {
            ensure!(ours.body == ["ebpf"], "{ours:?}");
            ours.body = vec![mode.name().to_owned()];
        }
        ensure!(ours == real, "{port}{path}: {ours:?}, not {real:?}");
    }
    for port in [HEALTH, METRICS] {
        let (real, ours) = (
            world.other.get(port, "/nonsense")?.status,
            world.scene.one.get(port, "/nonsense")?.status,
        );
        ensure!(ours == real, "{port}/nonsense: {ours}, not {real}");
    }
    Ok(())
}

/// A node that a cluster autoscaler is about to remove is not eligible for load balancers any more, and lives.
fn compare_taint(lab: &mut Lab, world: &World) -> Result<()> {
    let client = lab.control_plane().context("it was started")?.client()?;
    let taint = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    for node in [&world.scene.one, &world.other] {
        let mut manifest = mesh_lab::node(node);
        manifest["spec"]["taints"] = taint.clone();
        client.apply(&manifest)?;
    }
    for (path, expected) in [("/healthz", 503), ("/livez", 200)] {
        eventually("both have seen the taint", || {
            let real = Shape::of(&world.other.get(HEALTH, path)?);
            let ours = Shape::of(&world.scene.one.get(HEALTH, path)?);
            ensure!(real.status == expected, "kube-proxy: {path}: {real:?}");
            ensure!(ours == real, "{path}: {ours:?}, not {real:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A load balancer asks both nodes whether they have endpoints of a Service: the answers are the same to the byte.
fn compare_health_checks(lab: &mut Lab, world: &mut World) -> Result<()> {
    let client = lab.control_plane().context("it was started")?.client()?;
    let more = Slice::new("web-more", "web", &mesh_lab::web_ports(), &[]).json();
    client.delete_all(&[more])?;
    let outside = lab.node("outside", Families::Dual)?;
    let pod = world.other.pod("web-other")?;
    world.scene.web.add(&pod)?;
    for (field, value) in [
        ("type", json!("LoadBalancer")),
        ("externalTrafficPolicy", json!("Local")),
        ("healthCheckNodePort", json!(SERVICE_HEALTH)),
    ] {
        world.scene.web.set_spec(field, value);
    }
    for (condition, status) in [
        (Condition::Ready, 200),
        (Condition::Terminating, 503),
        (Condition::Unready, 503),
    ] {
        for pod in ["web-0", "web-other"] {
            world.scene.web.set(pod, condition)?;
        }
        world.scene.web.publish(&world.scene.source)?;
        eventually("both nodes answer for their endpoints", || {
            for v4 in [true, false] {
                let real = world.other.get_outside(v4, SERVICE_HEALTH, "/any")?;
                let ours = world.scene.one.get_outside(v4, SERVICE_HEALTH, "/any")?;
                ensure_same_health(&ours, &real, status)?;
            }
            Ok(())
        })?;
        compare_policies(world, &outside, condition)?;
    }
    Ok(())
}

/// Clients outside are led to a node's own endpoints, the node's processes to all that are ready. Where a node has none, the
/// agent refuses who kube-proxy lets wait.
fn compare_policies(world: &World, outside: &Node, condition: Condition) -> Result<()> {
    let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let all = match condition {
        Condition::Ready => names(&["web-0", "web-1", "web-other"]),
        Condition::Terminating | Condition::Unready | Condition::Gone => names(&["web-1"]),
    };
    for (node, own) in [(&world.scene.one, "web-0"), (&world.other, "web-other")] {
        for ip in node.address().all() {
            let to = node_port(ip, 80);
            settle(&node.host(), to, &all)?;
            if condition != Condition::Unready {
                settle(&outside.host(), to, &names(&[own]))?;
                continue;
            }
            let call = Call::connect(to).count(3).option("--timeout", 300);
            let how = match own {
                "web-0" => Failure::Refused,
                _ => Failure::Timeout,
            };
            eventually(&format!("nobody answers at {to}"), || {
                let report = outside.host().call(&call)?;
                ensure!(report.failed(how) == 3, "{report:?}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// At the ClusterIP each node's pods are led to its own endpoints; then, by hints instead, to those of its zone.
fn compare_inside(lab: &mut Lab, world: &mut World) -> Result<()> {
    let client = lab.control_plane().context("it was started")?.client()?;
    let stranger = world.other.pod("stranger")?;
    for pod in ["web-0", "web-other"] {
        world.scene.web.set(pod, Condition::Ready)?;
    }
    let ensure_led = |world: &World, one: &[&str], other: &[&str]| {
        for (client, names) in [(&world.scene.client, one), (&stranger, other)] {
            let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
            for to in world.scene.all("http") {
                settle(&client.place(), to, &names)?;
            }
        }
        anyhow::Ok(())
    };
    let policy = |world: &mut World, policy: &str| {
        let scene = &mut world.scene;
        scene.web.set_spec("internalTrafficPolicy", json!(policy));
        scene.web.publish(&scene.source)
    };
    policy(world, "Local")?;
    ensure_led(world, &["web-0"], &["web-other"])?;
    policy(world, "Cluster")?;
    let all = ["web-0", "web-1", "web-other"];
    ensure_led(world, &all, &all)?;
    for (node, zone) in [(&world.scene.one, "a"), (&world.other, "b")] {
        let mut manifest = mesh_lab::node(node);
        manifest["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": zone});
        client.apply(&manifest)?;
    }
    let mut objects = world.scene.web.objects();
    for slice in &mut objects[1..] {
        let endpoints = slice["endpoints"].as_array_mut().context("endpoints")?;
        for endpoint in endpoints {
            let zone = if endpoint["nodeName"] == "other" {
                "b"
            } else {
                "a"
            };
            endpoint["hints"] = json!({"forZones": [{"name": zone}]});
        }
    }
    world.scene.source.write("web.json", &objects)?;
    ensure_led(world, &["web-0", "web-1"], &["web-other"])
}

fn ensure_same_health(ours: &Response, real: &Response, status: u16) -> Result<()> {
    ensure!(real.status == status, "kube-proxy: {real:?}");
    ensure!(Shape::of(ours) == Shape::of(real), "{ours:?}, not {real:?}");
    ensure!(ours.body == real.body, "{ours:?}, not {real:?}");
    let weight = "x-load-balancing-endpoint-weight";
    ensure!(
        ours.header(weight) == real.header(weight),
        "{ours:?}, not {real:?}"
    );
    Ok(())
}

/// Without endpoints on a node, policies Local are counted alike.
fn compare_counts(world: &World) -> Result<()> {
    eventually("both count Services without local endpoints", || {
        let series = |node: &Node| -> Result<Vec<String>> {
            let text = node.get(METRICS, "/metrics")?.body;
            let own = "kubeproxy_sync_proxy_rules_no_local_endpoints_total{";
            let lines = text.lines().filter_map(|line| line.strip_prefix(own));
            let mut series: Vec<String> = lines.map(normal).collect::<Result<_>>()?;
            series.sort();
            Ok(series)
        };
        let (real, ours) = (series(&world.other)?, series(&world.scene.one)?);
        ensure!(ours == real, "{ours:?}, not {real:?}");
        ensure!(ours.iter().any(|it| !it.ends_with(" 0")), "{ours:?}");
        Ok(())
    })
}

/// A series with its labels in order.
fn normal(line: &str) -> Result<String> {
    let (labels, value) = line.split_once("} ").context("a series has a value")?;
    let mut labels: Vec<&str> = labels.split(',').collect();
    labels.sort_unstable();
    let value: f64 = value.parse()?;
    Ok(format!("{} {value}", labels.join(",")))
}

fn side_by_side(title: &str, mode: ProxyMode) -> Result<()> {
    test(title, Needs::ControlPlane, |lab| {
        let mut world = world(lab, mode)?;
        compare_answers(&world, mode)?;
        change(lab, &world)?;
        compare_metrics(&world)?;
        compare_health_checks(lab, &mut world)?;
        compare_counts(&world)?;
        compare_inside(lab, &mut world)?;
        compare_taint(lab, &world)?;
        compare_metrics(&world)?;
        if !world.proxy.runs()? {
            bail!("kube-proxy ended meanwhile");
        }
        Ok(())
    })
}

#[test]
fn beside_kube_proxy_in_nftables_mode() -> Result<()> {
    side_by_side("nftables", ProxyMode::Nftables)
}

#[test]
fn beside_kube_proxy_in_iptables_mode() -> Result<()> {
    side_by_side("iptables", ProxyMode::Iptables)
}
