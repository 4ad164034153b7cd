//! The node's network interfaces: which are local pods', which are devices. `watch` asks the kernel and sends whole
//! `Interfaces`; `snapshot` is what a look gives, `classify` and `follow` say what it means, without I/O.

mod classify;
mod clients;
mod follow;
mod look;
mod snapshot;
mod watch;

pub use classify::{Device, Interfaces, Options, PodLink, Unserved, classify};
pub use clients::{ClientAddresses, Clients, NETNS_DIRECTORIES};
pub use follow::{Difference, Follower, Place};
pub use snapshot::{Addresses, Carried, Link, Snapshot};
pub use watch::{Stop, Update, Watch, WatchError, look_once};
