//! What the commands print as JSON, and tables are made from: plain data with names that users rely on.

use serde::{Deserialize, Serialize};

/// The version of every document below.
pub const API_VERSION: &str = "mesh-agent.io/v1alpha1";

/// A document as it is printed: apiVersion and kind come first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<T> {
    /// `API_VERSION`
    pub api_version: String,
    /// What it is.
    pub kind: String,
    /// The rest.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Document<T> {
    /// Wraps a view.
    pub fn new(kind: &str, body: T) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
            body,
        }
    }
}

/// `status`: one screen of health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Version of the agent that answers.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// This node's name.
    pub node: String,
    /// Where objects come from.
    pub source: String,
    /// Whether the first full state is programmed and attached.
    pub ready: bool,
    /// Whether nothing is wrong: ready, nothing waits to be written, nothing does not fit.
    pub healthy: bool,
    /// Services, service ports and backends in force.
    pub services: usize,
    /// See services.
    pub ports: usize,
    /// See services.
    pub backends: usize,
    /// Objects whose last write failed and is tried again.
    pub dirty: usize,
    /// Bad input, conflicts, and what does not fit.
    pub problems: Vec<ProblemView>,
    /// The maps.
    pub maps: Vec<MapView>,
    /// The programs.
    pub programs: Vec<ProgramView>,
}

/// Something wrong with an object or a file, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProblemView {
    /// Where it was read, if it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// Kind and name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<String>,
    /// Path of the field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub fix: String,
}

/// One map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapView {
    /// Name.
    pub name: String,
    /// Version of its layout.
    pub version: u32,
    /// Entries in use; None where the kernel alone knows.
    pub entries: Option<u64>,
    /// Entries it has room for.
    pub capacity: u64,
    /// Kernel memory it takes.
    pub bytes: u64,
    /// Whether it outlives the agent.
    pub pinned: bool,
}

/// One program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramView {
    /// Name, which is its hook's.
    pub name: String,
    /// Whether it is in force.
    pub attached: bool,
    /// Whether it outlives the agent.
    pub pinned: bool,
    /// How often it ran while kernel.bpf_stats_enabled was on.
    pub run_count: u64,
    /// What it took then.
    pub run_time_ns: u64,
}

/// `service list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceList {
    /// The Services, by namespace and name.
    pub items: Vec<ServiceView>,
}

/// One Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
    /// spec.type
    #[serde(rename = "type")]
    pub service_type: String,
    /// spec.clusterIPs
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// Each port in each family.
    pub ports: Vec<PortView>,
    /// What is wrong with it.
    pub problems: Vec<ProblemView>,
}

/// One port of a Service in one family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortView {
    /// spec.ports[].name
    pub name: String,
    /// TCP or UDP
    pub protocol: String,
    /// spec.ports[].port
    pub port: u16,
    /// IPv4 or IPv6
    pub family: String,
    /// Index in the map `services`; None while it is not programmed.
    pub service_id: Option<u32>,
    /// Index in the map `sets`.
    pub set_id: Option<u32>,
    /// Session affinity, 0 for none.
    pub affinity_seconds: u32,
    /// What clients ask for.
    pub frontends: Vec<FrontendView>,
    /// Where connections go.
    pub backends: Vec<BackendView>,
}

/// One frontend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendView {
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Whether the kernel has it.
    pub programmed: bool,
}

/// One endpoint of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendView {
    /// Index in the map `backends`; None if it has none.
    pub id: Option<u32>,
    /// Its address.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// ready: gets new connections; draining: keeps what it has.
    pub state: String,
    /// How often the id has been given out.
    pub generation: Option<u32>,
    /// Why it gets new connections or why not.
    pub why: String,
}

/// `check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckList {
    /// One a line.
    pub items: Vec<CheckView>,
}

/// One finding of `check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// Stable.
    pub code: String,
    /// ok, warning or error.
    pub level: String,
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub what: String,
    /// What to do; empty when all is well.
    pub fix: String,
}

/// `trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceView {
    /// Stage and what it found, in order.
    pub steps: Vec<(String, String)>,
    /// pass, forward or refuse.
    pub verdict: String,
    /// The reason of a refusal, as counters name it.
    pub reason: Option<String>,
    /// Where the call goes.
    pub target: String,
}

/// `version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// The binary's version.
    pub version: String,
    /// Name and layout version of each map.
    pub layouts: Vec<(String, u32)>,
}
