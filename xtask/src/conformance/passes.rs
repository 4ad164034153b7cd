//! Which of Kubernetes' end-to-end tests are run, and why the others of the network group are not. Pure.

/// Tests that run together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// On the command line and in names of files.
    pub(super) name: &'static str,
    /// What they are about.
    pub(super) title: &'static str,
    /// Regular expressions over whole names, as ginkgo takes them.
    pub(super) focus: &'static str,
    /// Nothing if empty.
    pub(super) skip: &'static str,
    /// On how many nodes, in three zones; tests that want more skip themselves.
    pub(super) nodes: u8,
}

/// On how many nodes tests run that do not want more.
pub(super) const NODES: u8 = 3;

/// All of them, in the order in which they run; those on as many nodes are beside each other.
pub(super) const PASSES: [Pass; 5] = [
    Pass {
        name: "network",
        title: "Services, endpoints, DNS and what Pods reach",
        focus: r"\[sig-network\] (Services|EndpointSlice|EndpointSliceMirroring|EndpointsController|Endpoints|Service endpoints|Networking|HostPort|Conntrack|KubeProxy|DNS|Connectivity|Proxy|Traffic|API Server|Ingress API|IngressClass API)",
        skip: r"\[Serial\]|\[Disruptive\]|\[Feature:|\[Slow\]|IPerf2|DNS configMap|DNS HostNetwork",
        nodes: NODES,
    },
    Pass {
        name: "dual-stack",
        title: "both families",
        focus: r"\[sig-network\] \[Feature:IPv6DualStack\]",
        skip: r"LoadBalancer|\[Slow\]|SCTP",
        nodes: NODES,
    },
    Pass {
        name: "more",
        title: "what is slow or outside of those two, and applies",
        focus: r"\[sig-network\] (NoSNAT|Service CIDRs|ServiceCIDR and IPAddress API|Topology Hints|Netpol API|DNS HostNetwork|Networking Granular Checks: Services should update nodePort)",
        skip: "",
        nodes: NODES,
    },
    Pass {
        name: "serial",
        title: "what is labelled Serial or Disruptive and needs no cloud; some say themselves that they want more",
        focus: r"\[sig-network\] (IngressClass \[Feature:Ingress\]|Services should allow creating a basic SCTP service|Networking should allow creating a Pod with an SCTP HostPort|Services should work after restarting|Networking should recreate its iptables rules)",
        skip: "",
        nodes: NODES,
    },
    Pass {
        name: "zones",
        title: "what wants two nodes in each of three zones",
        focus: r"\[sig-network\] Traffic Distribution",
        skip: "",
        nodes: 6,
    },
];

/// Parts of names, and why tests with them do not run. The first that fits counts.
const REASONS: [(&str, &str); 9] = [
    ("[Feature:LoadBalancer]", "needs a cloud's load balancers"),
    (
        "[Feature:NetworkPolicy]",
        "network policies are another program's work",
    ),
    ("[Feature:SCTPConnectivity]", "SCTP is not served"),
    ("kube-proxy migration", "moves kube-proxy itself"),
    (
        "[Feature:KubeProxyNFAcct]",
        "a counter of kube-proxy's own iptables rules",
    ),
    ("Internet connection", "needs the Internet"),
    (
        "DNS configMap",
        "changes the configuration of a cluster's own DNS, and how it resolves names outside",
    ),
    (
        "IPerf2",
        "a measurement of throughput, with no limit to keep",
    ),
    (
        "[Feature:PerformanceDNS]",
        "a measurement of cluster DNS under ten thousand Services",
    ),
];

/// Why a test is not run, if that is known.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    let mut reasons = REASONS.iter();
    let found = reasons.find(|(part, _)| name.contains(part));
    found.map(|(_, why)| *why)
}

/// Whether a test is of the group that this is about.
pub(super) fn of_the_network(name: &str) -> bool {
    name.starts_with("[sig-network]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        let name = "[sig-network] Netpol NetworkPolicy should allow [Feature:NetworkPolicy]";
        assert_eq!(
            reason(name),
            Some("network policies are another program's work")
        );
        assert_eq!(reason("[sig-network] Services should work"), None);
    }
}
