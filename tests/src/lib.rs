//! The lab: network namespaces as nodes and pods, the real agent on each node, real traffic between them.
//!
//! A test names a small topology, puts manifests into a directory, and lets traffic prove what came of it. Everything
//! the lab makes carries one name and is removed with it, also after a panic.
#![deny(unsafe_code)]

mod agent;
mod attached;
mod call;
mod cluster;
mod control_plane;
mod deployment;
mod everyday;
mod fault_proxy;
mod harness;
mod history;
mod kube_proxy;
mod lab;
mod legacy_iptables;
mod manifest;
mod many;
mod model;
mod outside;
pub mod packet;
mod pinned;
mod place;
mod process;
mod scene;
mod service_world;
mod statistics;
pub mod traffic;

pub use agent::{Agent, AgentOptions, CliOutput, Metrics, Response, agent_binary};
pub use attached::{Attached, link_ids, packet_program_runs, pinned_links};
pub use call::{Call, Load};
pub use cluster::{Cluster, ClusterLoad, ClusterNode};
pub use control_plane::{Client, ControlPlane, ControlPlaneOptions, control_plane_binary};
pub use deployment::{Condition, Deployment};
pub use everyday::Everyday;
pub use fault_proxy::{Fault, FaultProxy};
pub use harness::{Needs, PATIENCE, eventually, test};
pub use history::{Change, History, Step};
pub use kube_proxy::{KubeProxy, ProxyMode};
pub use lab::{Address, Families, Lab, Machine, Node, Pod, Tunnel, remove_run, sweep};
pub use legacy_iptables::{find_program, legacy_iptables};
pub use manifest::{Endpoint, PodManifest, Port, Protocol, Service, Slice, Source, node};
pub use many::{Format, Many};
pub use model::{Behind, Tables};
pub use outside::{Outside, lead, node_port};
pub use pinned::{PinnedMaps, frontend_key};
pub use place::{Place, choose_traffic_binary, traffic_binary};
pub use process::Process;
pub use scene::{
    Scene, affinity_in_force, ensure_clean, only, serves_everything, settle, values, web_ports,
};
pub use service_world::{Asked, Seen, ServiceWorld};
pub use statistics::assert_uniform;
