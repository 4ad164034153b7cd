//! Which tables and chains are kube-proxy's, by their names; pure. What the kubelet makes (KUBE-FIREWALL,
//! KUBE-KUBELET-CANARY, KUBE-IPTABLES-HINT, KUBE-MARK-DROP) is not.

/// kube-proxy's table in its nftables mode, of family ip and of ip6.
pub(super) const TABLE: &str = "kube-proxy";

/// Ours, in its place while connections need the kernel to translate.
pub(super) const KEEPER: &str = "mesh-agent-established";

const CHAINS: [&str; 13] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    // Of its ipvs mode.
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];

/// Chains of one Service or endpoint each: a prefix, then a hash of 16 letters and digits.
const PREFIXES: [&str; 6] = [
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-SEP-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-XLB-",
];

/// Whether kube-proxy made a chain of iptables.
pub(super) fn is_chain(name: &str) -> bool {
    CHAINS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::is_chain;

    #[test]
    fn the_kubelets_chains_are_not_kube_proxys() {
        for name in [
            "KUBE-SERVICES",
            "KUBE-SEP-57KPRZ3JQVENLNBR",
            "KUBE-NODE-PORT",
        ] {
            assert!(is_chain(name), "{name}");
        }
        for name in [
            "KUBE-FIREWALL",
            "KUBE-KUBELET-CANARY",
            "KUBE-IPTABLES-HINT",
            "KUBE-MARK-DROP",
            "KUBE-ROUTER-FORWARD",
            "PREROUTING",
        ] {
            assert!(!is_chain(name), "{name}");
        }
    }
}
