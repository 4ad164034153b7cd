//! mesh-agent's user side: watch -> store -> desired -> plan -> apply, and the commands.
#![deny(unsafe_code)]

pub mod admin;
pub mod agent;
pub mod apply;
pub mod cli;
pub mod collect;
pub mod config;
pub mod conntrack_timeouts;
pub mod datapath;
pub mod desired;
pub mod engine;
pub mod foreign;
pub mod gone;
pub mod host;
pub mod interfaces;
pub mod leftovers;
pub mod model;
mod netlink;
pub mod plan;
pub mod rebind;
#[cfg(not(feature = "layout-next"))]
mod schema;
pub mod snat_ports;
pub mod source;
pub mod store;
pub mod sweep;
pub mod telemetry;
pub mod trace;
