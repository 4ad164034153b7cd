//! The documents that users and their tools read: plain data, the same on the admin socket and in `-o json`. Each has a
//! schema in docs/reference.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of every document.
pub const API_VERSION: &str = "mesh-agent.io/v1alpha1";

/// A document says what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Document<T> {
    /// mesh-agent.io/v1alpha1
    pub api_version: String,
    /// What the rest is.
    pub kind: String,
    /// The rest.
    #[serde(flatten)]
    pub content: T,
}

impl<T> Document<T> {
    /// Content of a kind.
    pub fn new(kind: &str, content: T) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
            content,
        }
    }
}

/// The content of a document that lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Items<T> {
    /// In the order of their names or ids.
    pub items: Vec<T>,
}

/// One screen of health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// This node's name.
    pub node_name: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The first full state is programmed and attached.
    pub ready: bool,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where objects come from.
    pub source: String,
    /// The watches, where the source is an API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watches: Vec<WatchView>,
    /// The cgroup2 directory that the programs are attached to.
    pub cgroup: String,
    /// Kinds that have not delivered their first full list, and `node addresses` while they are not known.
    pub waiting_for: Vec<String>,
    /// Services known.
    pub services: u64,
    /// Their ports, one per address family.
    pub service_ports: u64,
    /// Backends in the kernel.
    pub backends: u64,
    /// Services whose state in the kernel is not yet what it should be.
    pub dirty: u64,
    /// Service ports that an earlier run left in force and that belong to no Service known now: what they come from could
    /// not be read since.
    pub kept: u64,
    /// Sockets connected to a Service that were destroyed since the agent started, because their backend was gone.
    #[serde(default)]
    pub sockets_destroyed: u64,
    /// The programs.
    pub programs: Vec<ProgramView>,
    /// The maps.
    pub maps: Vec<MapView>,
    /// What is wrong, object by object.
    pub problems: Vec<ProblemView>,
}

/// How one kind's watch is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WatchView {
    /// The kind.
    pub kind: String,
    /// For how many seconds nothing new could be learnt; 0 while the watch works.
    pub stale_seconds: u64,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One thing that is wrong, and what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemView {
    /// The file it comes from; empty when it comes from none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Kind, namespace and name; empty when a file could not be read at all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// The field, as a path from the object's root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// A Service, and what the kernel holds for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    pub cluster_ips: Vec<IpAddr>,
    /// spec.externalIPs
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress[].ip of those that end at the node
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_ips: Vec<IpAddr>,
    /// spec.internalTrafficPolicy
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<String>,
    /// spec.externalTrafficPolicy
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<String>,
    /// spec.healthCheckNodePort, where load balancers are told whether this node has endpoints
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// Its ports, one per address family.
    pub ports: Vec<ServicePortView>,
    /// What is wrong with it.
    pub problems: Vec<ProblemView>,
}

/// One port of a Service in one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortView {
    /// spec.ports[].name
    pub name: String,
    /// TCP or UDP
    pub protocol: String,
    /// What clients ask for.
    pub port: u16,
    /// What clients ask the node for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// IPv4 or IPv6
    pub family: String,
    /// Index in `services`; absent while it is not programmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<u32>,
    /// Index in `sets`; absent while it is not programmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_id: Option<u32>,
    /// Index in `sets` of those on this node; absent while no policy is Local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_set_id: Option<u32>,
    /// Session affinity; 0 for none.
    pub affinity_seconds: u32,
    /// The addresses it is served at, with the port.
    pub frontends: Vec<String>,
    /// Whom the load balancer's addresses are open to; absent for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_ranges: Vec<String>,
    /// Where connections go or went.
    pub backends: Vec<BackendView>,
}

/// One backend of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// Index in `backends`; absent when the endpoint is not programmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub port: u16,
    /// ready, draining or gone; `excluded` when it is not programmed.
    pub state: String,
    /// How often the id has been given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Index in `slots`, when new connections may be sent to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    /// Index in `slots` of the set of this node's, when clients may be led there by the policy Local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_slot: Option<u32>,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How a Service came to what the kernel holds for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    /// The Service, with endpoints that get nothing and why.
    pub service: ServiceView,
    /// The way from its objects to the kernel, in order.
    pub steps: Vec<StepView>,
}

/// One step of an explanation or of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// The stage's word.
    pub stage: String,
    /// What it found or decided.
    pub text: String,
}

/// A map in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MapView {
    /// Its name.
    pub name: String,
    /// Version of its layout.
    pub version: u32,
    /// Entries in use; absent for maps that the kernel fills and that nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Most entries it can hold.
    pub capacity: u64,
    /// Memory it takes.
    pub bytes: u64,
    /// It outlives the agent.
    pub pinned: bool,
}

/// A program in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgramView {
    /// Its name, which is its hook's.
    pub name: String,
    /// The kernel calls it.
    pub attached: bool,
    /// It outlives the agent.
    pub pinned: bool,
    /// How often it ran; absent unless the kernel keeps statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_count: Option<u64>,
    /// Nanoseconds it ran in all; absent unless the kernel keeps statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_time_ns: Option<u64>,
}

/// A local pod, as its interface on the host shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// The name of its interface on the host.
    pub interface: String,
    /// The kernel's number of that interface.
    pub index: u32,
    /// The number that the host's network namespace has for the pod's; absent for a virtual machine's tap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<i32>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// In which order pods were first seen since the agent started.
    pub first_seen: u64,
}

/// What one probe of `check` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// A stable code.
    pub code: String,
    /// How bad it is.
    pub level: CheckLevel,
    /// What was looked at.
    pub object: String,
    /// What was found.
    pub what: String,
    /// What to do; empty when all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// How bad a finding of `check` is. The worst comes last.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CheckLevel {
    /// As it should be.
    Ok,
    /// Works, with less than all features or in need of a look.
    Warn,
    /// `run` refuses, or would serve nobody.
    Error,
}

impl CheckLevel {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Something that `cleanup` took off the host, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemovedView {
    /// filter, link, program, map, file or directory.
    pub what: String,
    /// Its path, or its name when it is not pinned.
    pub name: String,
}

/// What `cleanup` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupView {
    /// Nothing was changed.
    pub dry_run: bool,
    /// In the order of removal.
    pub items: Vec<RemovedView>,
}

/// What would happen to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceView {
    /// Where the program wants to go.
    pub to: String,
    /// TCP or UDP
    pub protocol: String,
    /// The stages, in order.
    pub steps: Vec<StepView>,
    /// pass, forward or refuse.
    pub verdict: String,
    /// Why it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where the call goes unless it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What this binary is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionView {
    /// Its version.
    pub version: String,
    /// Fingerprint of the layouts it shares with the kernel.
    pub layouts: String,
}

/// The body of PUT /v1/log-level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevelView {
    /// As `mesh-agent log` takes it.
    pub level: String,
}

/// The body of an answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorView {
    /// What went wrong and what to do.
    pub message: String,
}
