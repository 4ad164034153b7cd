//! The servers (health, metrics, the socket that the commands talk to) and the commands' side of that socket.

mod client;
mod http;
mod routes;
mod socket;

pub use client::{Client, ClientError};
pub use http::{Answer, Asked, Listener, Route, ServerError, serve};
pub use routes::{AdminRoutes, HealthRoutes, Introspect, MetricsRoutes};
pub use socket::bind_socket;
