//! The agent's image as its DaemonSet, from the manifests as they are shipped, on real kubelets without kube-proxy. What
//! the user pages say is what is typed here.

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::{
    Call, Cluster, ClusterLoad, ClusterNode, Families, Lab, Load, Needs, Place, ensure_clean,
    eventually, test,
};

const WEB: &str = "10.96.0.80";
const NODES: [&str; 2] = ["one", "two"];

fn manifest(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    root.join(name).display().to_string()
}

/// docs/install.md.
fn install(cluster: &Cluster) -> Result<()> {
    cluster.load_image("mesh-agent.tar")?;
    cluster.kubectl(&["apply", "-f", &manifest("install.yaml")])?;
    let patch = format!(r#"{{"data":{{"api-server":"{}"}}}}"#, cluster.server());
    let words = ["patch", "configmap", "mesh-agent", "--type", "merge", "-p"];
    agents(cluster, &[&words[..], &[&patch]].concat())?;
    restart(cluster)
}

fn restart(cluster: &Cluster) -> Result<()> {
    agents(cluster, &["rollout", "restart", "daemonset/mesh-agent"])?;
    rolled_out(cluster)
}

fn rolled_out(cluster: &Cluster) -> Result<()> {
    let words = ["rollout", "status", "daemonset/mesh-agent", "--timeout=90s"];
    agents(cluster, &words).map(drop)
}

/// kubectl in the agent's namespace.
fn agents(cluster: &Cluster, words: &[&str]) -> Result<String> {
    cluster.kubectl(&[&["-n", "mesh-agent"], words].concat())
}

/// Each agent's word on its host and itself.
fn ensure_checks(cluster: &Cluster) -> Result<()> {
    let names = agents(cluster, &["get", "pods", "-o", "name"])?;
    ensure!(names.lines().count() == NODES.len(), "agents: {names}");
    for pod in names.lines() {
        agents(cluster, &["exec", pod, "--", "/mesh-agent", "check"])
            .with_context(|| format!("{pod} finds an error"))?;
    }
    Ok(())
}

/// A cluster with the agent and a Service of four Pods, of which the nodes have two each.
fn with_cluster(title: &str, body: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    with_cluster_in(title, |_, cluster| body(cluster))
}

/// The same, in a lab that may have more than the cluster.
fn with_cluster_in(title: &str, body: impl FnOnce(&mut Lab, &Cluster) -> Result<()>) -> Result<()> {
    test(title, Needs::Cluster, |lab: &mut Lab| {
        let cluster = Cluster::start(lab, NODES.len())?;
        let outcome = install(&cluster)
            .and_then(|()| cluster.serve("web", WEB, 4))
            .and_then(|()| body(lab, &cluster));
        if outcome.is_err() {
            eprintln!("{}", cluster.diagnosis());
        }
        outcome
    })
}

/// The Service's address or name, at port 80.
fn at(host: &str) -> String {
    format!("{host}:80")
}

#[test]
fn pods_reach_services_through_the_shipped_daemon_set() -> Result<()> {
    with_cluster("services", |cluster| {
        ensure_checks(cluster)?;
        every_node_reaches(cluster)?;
        names_are_found(cluster)?;
        a_pod_reaches_itself(cluster)?;
        uninstall(cluster)
    })
}

fn every_node_reaches(cluster: &Cluster) -> Result<()> {
    for node in NODES {
        for (kind, call) in [
            ("tcp", Call::to_host("connect", &at(WEB))),
            ("udp", Call::to_host("connect", &at(WEB)).udp()),
            ("send", Call::to_host("connect", &at(WEB)).unconnected()),
        ] {
            let report = cluster.call(&format!("{kind}-{node}"), node, &call.count(200))?;
            ensure_clean(&report)?;
            ensure!(report.backends.len() == 4, "{kind} from {node}: {report:?}");
        }
    }
    Ok(())
}

/// The resolver asks the DNS Service, and CoreDNS finds the API server by a Service too.
fn names_are_found(cluster: &Cluster) -> Result<()> {
    cluster.start_dns()?;
    for node in NODES {
        let call = Call::to_host("connect", &at("web.default.svc.cluster.local")).count(50);
        ensure_clean(&cluster.call(&format!("name-{node}"), node, &call)?)?;
    }
    Ok(())
}

fn a_pod_reaches_itself(cluster: &Cluster) -> Result<()> {
    cluster.serve("alone", "10.96.0.81", 1)?;
    for call in [
        Call::to_host("connect", &at("10.96.0.81")),
        Call::to_host("connect", &at("10.96.0.81")).udp(),
    ] {
        ensure_clean(&cluster.call_from("deployment/alone", &call.count(50))?)?;
    }
    Ok(())
}

/// docs/uninstall.md.
fn uninstall(cluster: &Cluster) -> Result<()> {
    let words = ["delete", "daemonset", "mesh-agent", "--cascade=foreground"];
    agents(cluster, &words)?;
    let (uninstall, install) = (manifest("uninstall.yaml"), manifest("install.yaml"));
    cluster.kubectl(&["apply", "-f", &uninstall])?;
    let words = ["rollout", "status", "daemonset/mesh-agent-cleanup"];
    agents(cluster, &[&words[..], &["--timeout=60s"]].concat())?;
    let words = ["logs", "daemonset/mesh-agent-cleanup", "-c", "cleanup"];
    println!("{}", agents(cluster, &words)?);
    let both = ["-f", &uninstall, "-f", &install];
    cluster.kubectl(&[&["delete", "--ignore-not-found"], &both[..]].concat())?;
    ensure_nothing_left(cluster)
}

/// But the two that the kernel pins itself.
fn ensure_no_pins(node: &ClusterNode) -> Result<()> {
    for entry in std::fs::read_dir(node.path("/sys/fs/bpf"))? {
        let name = entry?.file_name();
        let kernels = name == "maps.debug" || name == "progs.debug";
        ensure!(kernels, "node {} keeps the pin {name:?}", node.name());
    }
    Ok(())
}

fn ensure_nothing_left(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        ensure_no_pins(node)?;
        let run = node.path("/run/mesh-agent");
        if let Ok(files) = std::fs::read_dir(&run) {
            let files: Vec<_> = files.collect();
            bail!("node {} keeps {run:?} with {files:?}", node.name());
        }
        // No program stands behind the address any more.
        let call = Call::to_host("connect", &at(WEB)).count(3);
        let call = call.option("--timeout", 300);
        let report = cluster.call(&format!("after-{}", node.name()), node.name(), &call)?;
        ensure!(report.answered == 0, "{report:?}");
    }
    for kind in ["daemonsets", "configmaps", "serviceaccounts", "pods"] {
        let left = agents(cluster, &["get", kind, "-o", "name"])?;
        ensure!(left.is_empty(), "{left} are left");
    }
    let cluster_wide =
        cluster.kubectl(&["get", "clusterroles,clusterrolebindings", "-o", "name"])?;
    ensure!(!cluster_wide.contains("mesh-agent"), "{cluster_wide}");
    Ok(())
}

#[test]
fn nothing_is_lost_while_agents_and_kubelets_change() -> Result<()> {
    with_cluster("changes", |cluster| {
        cluster.load_image("next/mesh-agent.tar")?;
        let shipped = image(cluster)?;
        let next = "mesh-agent.io/mesh-agent:next";
        under_load(cluster, "restart", || restart(cluster))?;
        under_load(cluster, "replace", || replace(cluster, next))?;
        ensure_checks(cluster)?;
        under_load(cluster, "back", || replace(cluster, &shipped))?;
        ensure_checks(cluster)?;
        under_load(cluster, "kubelet", || kubelet_dies(cluster))
    })
}

fn image(cluster: &Cluster) -> Result<String> {
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    agents(cluster, &["get", "daemonset", "mesh-agent", "-o", path])
}

/// Another build takes over from the one that runs.
fn replace(cluster: &Cluster, image: &str) -> Result<()> {
    let image = format!("mesh-agent={image}");
    agents(cluster, &["set", "image", "daemonset/mesh-agent", &image])?;
    rolled_out(cluster)
}

/// New endpoints are served when it is back.
fn kubelet_dies(cluster: &Cluster) -> Result<()> {
    cluster.node("one")?.kill_kubelet()?;
    let scale = ["scale", "deployment/web", "--replicas=6"];
    cluster.kubectl(&scale)?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"])?;
    let all = eventually("all six answer", || {
        let call = Call::to_host("connect", &at(WEB)).count(300);
        let report = cluster.call_from("deployment/web", &call)?;
        ensure!(report.backends.len() == 6, "{report:?}");
        Ok(report)
    })?;
    ensure_clean(&all)
}

/// New connections, connections that stay and datagrams from both nodes, all the while that something is done.
fn under_load(cluster: &Cluster, title: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut loads: Vec<(String, ClusterLoad)> = Vec::new();
    for node in NODES {
        for (kind, call) in [
            ("connect", Call::to_host("connect", &at(WEB)).rate(300)),
            (
                "hold",
                Call::to_host("hold", &at(WEB)).option("--connections", 50),
            ),
            (
                "send",
                Call::to_host("connect", &at(WEB)).unconnected().rate(100),
            ),
        ] {
            let name = format!("{title}-{kind}-{node}");
            loads.push((name.clone(), cluster.load(&name, node, &call)?));
        }
    }
    work()?;
    for (name, load) in loads {
        let report = load.end(cluster)?;
        // Not by a print macro: the test runner would keep it to itself.
        let (answered, attempts) = (report.answered, report.attempts);
        writeln!(io::stderr(), "{name}: {answered} of {attempts} answered")?;
        ensure_clean(&report).with_context(|| name)?;
    }
    Ok(())
}

/// The node port of the Service, over TCP and UDP.
const NODE_PORT: u16 = 30_080;

/// Each has new Pods in place of all four.
const ROLL_OUTS: u32 = 3;

#[test]
fn node_ports_are_served_through_roll_outs_and_replacement() -> Result<()> {
    with_cluster_in("node-ports", |lab, cluster| {
        cluster.load_image("next/mesh-agent.tar")?;
        let outside = lab.node("outside", Families::Dual)?.host();
        expose(cluster)?;
        let before = answering(cluster, &outside)?;
        let shipped = image(cluster)?;
        let next = "mesh-agent.io/mesh-agent:next";
        from_outside(cluster, &outside, "restart", false, || restart(cluster))?;
        from_outside(cluster, &outside, "replace", false, || {
            replace(cluster, next)
        })?;
        from_outside(cluster, &outside, "back", false, || {
            replace(cluster, &shipped)
        })?;
        from_outside(cluster, &outside, "roll-out", true, || {
            (0..ROLL_OUTS).try_for_each(|_| roll_out(cluster))
        })?;
        let after = answering(cluster, &outside)?;
        ensure!(
            before.iter().all(|name| !after.contains(name)),
            "{before:?} and {after:?}"
        );
        Ok(())
    })
}

/// From now on the Service is a NodePort.
fn expose(cluster: &Cluster) -> Result<()> {
    let port = |name: &str, protocol: &str| {
        format!(
            r#"{{"name":"{name}","protocol":"{protocol}","port":80,"targetPort":8080,"nodePort":{NODE_PORT}}}"#
        )
    };
    let ports = [port("tcp", "TCP"), port("udp", "UDP")].join(",");
    let patch = format!(r#"{{"spec":{{"type":"NodePort","ports":[{ports}]}}}}"#);
    let words = ["patch", "service", "web", "--type", "merge", "-p", &patch];
    cluster.kubectl(&words).map(drop)
}

fn roll_out(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["rollout", "restart", "deployment/web"])?;
    let words = ["rollout", "status", "deployment/web", "--timeout=90s"];
    cluster.kubectl(&words).map(drop)
}

/// The node port at each node.
fn node_ports(cluster: &Cluster) -> Vec<SocketAddr> {
    let addresses = cluster.nodes().iter().filter_map(|node| node.address().v4);
    let ports = addresses.map(|ip| SocketAddr::new(IpAddr::V4(ip), NODE_PORT));
    ports.collect()
}

/// Waits until four Pods, and the same ones, answer at each node; gives their names.
fn answering(cluster: &Cluster, outside: &Place) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for to in node_ports(cluster) {
        let call = Call::connect(to).count(200).option("--timeout", 2000);
        let report = eventually("four Pods answer", || {
            let report = outside.call(&call)?;
            ensure_clean(&report)?;
            ensure!(report.backends.len() == 4, "{to}: {report:?}");
            Ok(report)
        })?;
        let found: Vec<String> = report.backends.into_keys().collect();
        ensure!(
            names.is_empty() || names == found,
            "{names:?}, and at {to} {found:?}"
        );
        names = found;
    }
    Ok(names)
}

/// Calls of a host outside by every node, all the while that something is done. Where Pods end they are new connections
/// alone: those that stay end with their Pods, and a datagram from a port that was used before goes to the Pod of before
/// until that is gone.
fn from_outside(
    cluster: &Cluster,
    outside: &Place,
    title: &str,
    pods_end: bool,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut loads: Vec<(String, Load)> = Vec::new();
    for to in node_ports(cluster) {
        let new = Call::connect(to).rate(300);
        loads.push((format!("{title}-connect-{to}"), outside.load(&new)?));
        if !pods_end {
            let datagrams = Call::connect(to).udp().rate(100);
            loads.push((format!("{title}-udp-{to}"), outside.load(&datagrams)?));
            let held = Call::hold(to).option("--connections", 50);
            let held = outside.load(&held)?.holding()?;
            loads.push((format!("{title}-hold-{to}"), held));
        }
    }
    work()?;
    for (name, load) in loads {
        let report = load.stop()?;
        let (answered, attempts) = (report.answered, report.attempts);
        writeln!(io::stderr(), "{name}: {answered} of {attempts} answered")?;
        ensure_clean(&report).with_context(|| name)?;
    }
    Ok(())
}
