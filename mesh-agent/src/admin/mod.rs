//! How the agent is reached: the run directory with its lock and its socket, the HTTP servers, and the client that the
//! commands use.

pub mod client;
mod health;
mod http;
pub mod lock;
pub mod run_dir;
mod scrape;
pub mod servers;
pub mod service_health;
mod socket;
#[cfg(test)]
pub(crate) mod tests;
mod v1;
