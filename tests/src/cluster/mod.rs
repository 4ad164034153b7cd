//! A real cluster on nodes of a lab: the control plane, a scheduler, and on each node containerd and a kubelet in
//! namespaces of their own. No kube-proxy: Services are what an agent in it makes of them. Gone with the handle.

mod cgroups;
mod config;
mod load;
mod node;
mod objects;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

pub use load::ClusterLoad;
pub use node::ClusterNode;

use crate::{
    control_plane::{Client, ControlPlane, ControlPlaneOptions},
    harness::eventually,
    lab::{Families, Lab},
    place::Place,
    process::Process,
};

/// The image of servers, clients and sandboxes: the traffic tool.
pub(crate) const TRAFFIC_IMAGE: &str = "mesh-lab.io/traffic:lab";
/// The image of cluster DNS.
const DNS_IMAGE: &str = "mesh-lab.io/coredns:lab";

/// The nodes' names.
const NAMES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
/// Nodes are spread over so many.
const ZONES: usize = 3;

/// A cluster whose nodes are ready.
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they are to end: nodes before what they talk to.
    nodes: Vec<ClusterNode>,
    _scheduler: Process,
    client: Client,
    master: Place,
    control_plane: ControlPlane,
}

impl Cluster {
    /// Starts one with so many nodes (`one`, `two` and so on), and gives each the images of the lab.
    pub fn start(lab: &mut Lab, nodes: usize) -> Result<Self> {
        let names = NAMES
            .get(..nodes)
            .with_context(|| format!("a cluster has at most {} nodes, not {nodes}", NAMES.len()))?;
        let master = lab.node("master", Families::Dual)?;
        let options = ControlPlaneOptions::on(&master)?
            .flags(&["--controllers=*", &format!("--nodes={}", names.join(","))]);
        let control_plane = ControlPlane::start(&options)?;
        let mut cluster = Self {
            nodes: Vec::new(),
            _scheduler: scheduler(&master.host(), &control_plane)?,
            client: control_plane.client()?,
            master: master.host(),
            control_plane,
        };
        for name in names {
            let node = lab.node(name, Families::Dual)?;
            let node = ClusterNode::start(&node, &cluster.control_plane)?;
            cluster.nodes.push(node);
        }
        cluster.wait_ready()?;
        Ok(cluster)
    }

    fn wait_ready(&self) -> Result<()> {
        for node in &self.nodes {
            for image in ["traffic.tar", "coredns.tar"] {
                eventually("containerd takes images", || {
                    node.load_image(&image_archive(image)?)
                })?;
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let manifest =
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name()}});
            self.client
                .wait_for(&manifest, |found| found.is_some_and(is_ready))
                .with_context(|| format!("node {} is not ready\n{}", node.name(), node.logs()))?;
            self.describe(node, index % ZONES)?;
        }
        Ok(())
    }

    /// What a cloud and a controller would say of a node: its zone, and where its Pods' addresses come from.
    fn describe(&self, node: &ClusterNode, zone: usize) -> Result<()> {
        let (v4, v6) = node.pod_ranges();
        let patch = json!({
            "metadata": {"labels": {"topology.kubernetes.io/zone": format!("zone-{zone}")}},
            "spec": {"podCIDR": v4, "podCIDRs": [v4, v6]},
        });
        self.kubectl(&["patch", "node", node.name(), "-p", &patch.to_string()])
            .map(drop)
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[ClusterNode] {
        &self.nodes
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Result<&ClusterNode> {
        let mut nodes = self.nodes.iter();
        nodes
            .find(|node| node.name() == name)
            .with_context(|| format!("the cluster has no node {name}"))
    }

    /// An administrator's client.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The API server's URL: what a kubeconfig names.
    #[must_use]
    pub fn server(&self) -> &str {
        self.control_plane.server()
    }

    /// The kubeconfig of an administrator, for programs that run in `master`.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.control_plane.kubeconfig()
    }

    /// Where the control plane runs: a host that reaches nodes and Pods and has no agent.
    #[must_use]
    pub const fn master(&self) -> &Place {
        &self.master
    }

    /// Gives every node the images of an archive of the lab's.
    pub fn load_image(&self, name: &str) -> Result<()> {
        self.load_archive(&image_archive(name)?)
    }

    /// Gives every node the images of an archive.
    pub fn load_archive(&self, archive: &Path) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| node.load_image(archive))
    }

    /// kubectl, as an administrator; gives what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let kubeconfig = self.control_plane.kubeconfig().display().to_string();
        let all = ["kubectl", "--kubeconfig", &kubeconfig];
        let all = all.iter().chain(arguments);
        let output = self.master.run(&programs()?.join("cluster"), all)?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What Kubernetes knows and what the nodes say, for a test that failed.
    #[must_use]
    pub fn diagnosis(&self) -> String {
        let words = [
            vec!["get", "pods", "-A", "-o", "wide"],
            vec!["get", "events", "-A", "--sort-by=.lastTimestamp"],
            vec!["-n", "mesh-agent", "logs", "ds/mesh-agent", "--tail=40"],
        ];
        let mut text = String::new();
        for words in words {
            let said = self.kubectl(&words);
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            text.push_str(&format!("--- kubectl {}\n{said}\n", words.join(" ")));
        }
        for node in &self.nodes {
            text.push_str(&node.logs());
        }
        text
    }
}

fn scheduler(place: &Place, control_plane: &ControlPlane) -> Result<Process> {
    let kubeconfig = control_plane.directory().join("scheduler.kubeconfig");
    let kubeconfig = kubeconfig.display().to_string();
    let arguments = ["kube-scheduler", "--kubeconfig", &kubeconfig];
    let arguments = arguments
        .into_iter()
        .chain(["--leader-elect=false", "--secure-port=0"]);
    let mut command = place.command(&programs()?.join("cluster"), arguments)?;
    command.stdout(Stdio::null());
    Process::spawn(command, control_plane.directory().join("scheduler.log"))
}

/// Whether a Node, or a Pod, says that it is ready.
fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The directory of cluster, containerd, its shim, ctr and cni/: MESH_CLUSTER_PROGRAMS.
pub(crate) fn programs() -> Result<PathBuf> {
    named_directory("MESH_CLUSTER_PROGRAMS")
}

/// An archive of MESH_CLUSTER_IMAGES.
fn image_archive(name: &str) -> Result<PathBuf> {
    Ok(images()?.join(name))
}

/// The directory of the OCI archives: MESH_CLUSTER_IMAGES.
pub(crate) fn images() -> Result<PathBuf> {
    named_directory("MESH_CLUSTER_IMAGES")
}

fn named_directory(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.filter(|path| Path::is_dir(path)).with_context(|| {
        format!("{variable} names no directory: `cargo xtask test cluster` makes it")
    })
}
