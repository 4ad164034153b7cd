//! Whether the kernel destroys sockets, tried on some of our own.

use super::{super::codes, CheckResult};
use crate::gone::spared_by_kernel;

pub(super) fn destroy() -> CheckResult {
    let spared: Vec<String> = spared_by_kernel()
        .iter()
        .map(|(protocol, error)| format!("{protocol} ({error})"))
        .collect();
    if spared.is_empty() {
        return CheckResult::ok(codes::DESTROY, "tcp and udp sockets can be destroyed");
    }
    let what = format!(
        "connections outlive backends that are gone; sockets that cannot be destroyed: {}",
        spared.join(", ")
    );
    CheckResult::warning(codes::DESTROY, what)
}
