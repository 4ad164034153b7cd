//! The whole datapath logic, written once: the kernel runs it over BPF maps and contexts, tests, fuzzers and
//! `mesh-agent trace` run it over plain memory (`sim`).
//!
//! The way of a packet: hook -> parse -> conntrack -> open -> rewrite -> verdict (`packet`). The way of a connection: hook -> service -> backend -> record -> rewrite -> verdict, each a stage (`stage`).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "sim"))]
extern crate std;

mod affinity;
mod backend;
mod client;
mod env;
mod foreign;
mod hooks;
mod jiffies;
mod packet;
mod peer;
mod record;
mod reply;
mod service;
mod stage;

#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(test)]
mod tests;

pub use env::{
    Broken, Claim, Clock, Connection, Covers, Env, FlowEntry, Found, Full, NotAdded, NotConfirmed,
    Packet, Place, Random, Sink, Socket, Tables, whole_seconds,
};
pub use foreign::{FOREIGN_SILENCE, foreign_socket};
pub use hooks::{connect, established, getpeername, recvmsg, release, sendmsg};
pub use jiffies::Jiffies;
pub use packet::{
    Difference, Family, Fragment, IcmpLimit, LinkHeader, PacketHook, PacketStage, PacketState,
    PacketStep, PacketVerdict, SnatPorts, cold, count_packet, direct, run_packet, track,
};
pub use stage::{Hook, Stage, State, Step, Verdict, run};
