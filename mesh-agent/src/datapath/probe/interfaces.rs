//! What the packet path would serve here: the node's devices, local pods, and what it cannot.

use super::{
    super::{codes, tc::Way},
    CheckResult,
};
use crate::interfaces::{Device, Interfaces, Options, Unserved, WatchError, look_once};

/// Both findings come of one look.
pub(super) fn both() -> [CheckResult; 2] {
    match look_once(&Options::default()) {
        Ok(found) => [devices(&found), pods(&found)],
        Err(error) => [
            unknown(codes::DEVICES, &error),
            unknown(codes::PODS, &error),
        ],
    }
}

fn unknown(code: codes::Code, error: &WatchError) -> CheckResult {
    CheckResult::warning(code, format!("not known: {error}"))
}

fn devices(found: &Interfaces) -> CheckResult {
    if found.devices.is_empty() {
        let what = "none carries a global address, so no node port is served";
        return CheckResult::warning(codes::DEVICES, what);
    }
    let describe = |device: &Device| {
        let addresses = device.addresses.iter().map(ToString::to_string);
        let addresses: Vec<_> = addresses.collect();
        format!("{} ({})", device.name, addresses.join(", "))
    };
    let all: Vec<_> = found.devices.values().map(describe).collect();
    CheckResult::ok(codes::DEVICES, all.join("; "))
}

/// A bridge of pods is as it should be.
fn pods(found: &Interfaces) -> CheckResult {
    let others = found.others.iter();
    let others = others.filter(|(_, why)| **why != Unserved::PodBridge);
    let others: Vec<_> = others.map(|(name, why)| format!("{name}: {why}")).collect();
    if !others.is_empty() {
        return CheckResult::warning(codes::PODS, others.join("; "));
    }
    CheckResult::ok(codes::PODS, format!("{} local pods", found.pods.len()))
}

/// Either way works.
pub(super) fn way() -> CheckResult {
    let what = match Way::of_kernel() {
        Way::Tcx => "links (tcx)",
        Way::Clsact => "filters of clsact qdiscs: tcx is Linux 6.6",
    };
    CheckResult::ok(codes::WAY, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::probe::Level;

    #[test]
    fn devices_are_named_with_their_addresses() {
        let mut found = Interfaces::default();
        assert_eq!(devices(&found).level, Level::Warning);
        let device = Device {
            name: "eth0".to_owned(),
            addresses: ["192.0.2.1".parse().unwrap()].into(),
            ..Default::default()
        };
        found.devices.insert(2, device);
        assert_eq!(devices(&found).what, "eth0 (192.0.2.1)");
    }

    #[test]
    fn what_is_not_served_is_named() {
        let mut found = Interfaces::default();
        found.others.insert("cni0".to_owned(), Unserved::PodBridge);
        assert_eq!(pods(&found).level, Level::Ok);
        found.others.insert("wg0".to_owned(), Unserved::OtherHeader);
        let result = pods(&found);
        assert_eq!(result.level, Level::Warning);
        assert!(result.what.starts_with("wg0: "), "{}", result.what);
    }
}
