//! The traffic tool: servers that say who they are, and clients that say what became of each connection.
//!
//! The wire: over TCP a server greets with its name and a line end, then obeys bytes: `!` its name again, `?` the
//! peer it sees, `e` echo all that follows, `d` discard all that follows. A datagram's first byte means the same:
//! `!` and `?` are answered by the line and the rest of the datagram, `e` by the datagram itself.

mod args;
mod call;
mod connect;
mod enter;
mod exchange;
mod flood;
mod hold;
mod lose;
mod report;
mod serve;
mod serve_tcp;
mod socket;
mod until;

pub use args::{Args, run};
pub use lose::monotonic;
pub use report::{Failure, Percentiles, Report};
