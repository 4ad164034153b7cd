//! The kernel side of the library's traits. All unsafe code of the datapath is here and in the hooks.

mod env;
mod flow;
#[cfg(feature = "kernel-log")]
pub(crate) mod log;
mod maps;
mod packet;
mod sock_addr;
mod sock_ops;
mod stages;

pub(crate) use env::KernelEnv;
pub(crate) use packet::Skb;
pub(crate) use sock_addr::{SockAddr, protocol, verdict_code};
pub(crate) use sock_ops::SockOps;
pub(crate) use stages::{begin, go_on};
