//! The kernel side of the library's traits. All unsafe code of the datapath is here and in the hooks.

mod env;
#[cfg(feature = "kernel-log")]
pub(crate) mod log;
mod maps;
mod sock_addr;

pub(crate) use env::KernelEnv;
pub(crate) use sock_addr::{SockAddr, protocol, verdict_code};
