//! On which of the node's addresses node ports are served: --nodeport-addresses in, a choice among addresses out.

use std::{collections::BTreeSet, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::Node;

/// --nodeport-addresses, as kube-proxy means it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All.
    #[default]
    All,
    /// The first InternalIP of each family that the Node object has.
    Primary,
    /// Those in these ranges. A family that no range is of is served on all.
    Ranges(BTreeSet<IpNet>),
}

impl NodePortAddresses {
    /// Those of the node's addresses on which node ports are served.
    #[must_use]
    pub fn among(&self, own: &BTreeSet<IpAddr>, node: Option<&Node>) -> BTreeSet<IpAddr> {
        match self {
            Self::All => own.clone(),
            Self::Primary => [true, false]
                .into_iter()
                .filter_map(|v4| primary(node?, v4))
                .collect(),
            Self::Ranges(ranges) => own
                .iter()
                .filter(|address| is_in(ranges, **address))
                .copied()
                .collect(),
        }
    }
}

fn primary(node: &Node, v4: bool) -> Option<IpAddr> {
    let mut internal = node.internal.iter().copied();
    internal.find(|address| address.is_ipv4() == v4)
}

fn is_in(ranges: &BTreeSet<IpNet>, address: IpAddr) -> bool {
    let is_same = |range: &&IpNet| range.addr().is_ipv4() == address.is_ipv4();
    let mut own = ranges.iter().filter(is_same).peekable();
    own.peek().is_none() || own.any(|range| range.contains(&address))
}

impl FromStr for NodePortAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self::All),
            "primary" => Ok(Self::Primary),
            ranges => {
                let parse = |range: &str| {
                    let range = range.trim();
                    range.parse::<IpNet>().map_err(|_| {
                        format!("{range:?} is no range: use primary, or ADDRESS/BITS,...")
                    })
                };
                ranges
                    .split(',')
                    .map(parse)
                    .collect::<Result<_, _>>()
                    .map(Self::Ranges)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectName;

    fn addresses(text: &str) -> BTreeSet<IpAddr> {
        let words = text.split_whitespace();
        words.map(|word| word.parse().unwrap()).collect()
    }

    fn among(flag: &str) -> BTreeSet<IpAddr> {
        let own = addresses("192.0.2.1 198.51.100.1 2001:db8::1 2001:db8:1::1");
        let node = Node {
            name: ObjectName::new("", "one"),
            addresses: Vec::new(),
            internal: addresses("198.51.100.1 2001:db8::1").into_iter().collect(),
            leaving: false,
            zone: None,
        };
        let flag: NodePortAddresses = flag.parse().unwrap();
        flag.among(&own, Some(&node))
    }

    #[test]
    fn ranges_narrow_the_families_they_are_of() {
        assert_eq!(among("").len(), 4);
        assert_eq!(
            among("192.0.2.0/24"),
            addresses("192.0.2.1 2001:db8::1 2001:db8:1::1")
        );
        assert_eq!(
            among("192.0.2.0/24, 2001:db8:1::/48"),
            addresses("192.0.2.1 2001:db8:1::1")
        );
        assert_eq!(among("primary"), addresses("198.51.100.1 2001:db8::1"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in ["nonsense", "192.0.2.1", "primary,192.0.2.0/24"] {
            let error = wrong.parse::<NodePortAddresses>().unwrap_err();
            assert!(error.contains("use primary"), "{error}");
        }
    }
}
