//! Why an endpoint gets no new connections, or gets some from some clients alone. Pure: what is known of a service port's
//! endpoints in, sentences out.

use std::collections::BTreeMap;

use crate::{
    desired::{Facts, Here, Hint, Target, Topology, Use, Verdict, endpoints_of},
    engine::PortView,
    model::{Service, TrafficPolicy},
    store::Store,
};

/// What decides about the endpoints of one service port.
pub(super) struct Rules {
    endpoints: BTreeMap<Target, Facts>,
    verdict: Verdict,
    internal: TrafficPolicy,
    external: TrafficPolicy,
    has_external: bool,
    zone: Option<String>,
}

impl Rules {
    /// None for a port that the Service does not have any more.
    pub(super) fn of(store: &Store, service: &Service, port: &PortView) -> Option<Self> {
        let mut ports = service.ports.iter();
        let own = ports.find(|own| own.port == port.id.port && own.protocol == port.id.protocol)?;
        let endpoints = endpoints_of(store, service, own, port.id.family);
        let zone = Here::of(store).zone.map(ToOwned::to_owned);
        let mut frontends = port.frontends.iter();
        Some(Self {
            verdict: endpoints.topology(zone.is_some()),
            endpoints: endpoints.iter().map(|(it, facts)| (*it, *facts)).collect(),
            internal: service.internal_policy,
            external: service.external_policy,
            has_external: frontends.any(|(_, value)| value.is_external()),
            zone,
        })
    }

    /// The policies and hints that count, one line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let here = self.endpoints.values();
        let here = here.filter(|it| it.local && it.usable != Use::Keep).count();
        if self.internal == TrafficPolicy::Local {
            lines.push(format!(
                "spec.internalTrafficPolicy is Local: clients at the ClusterIP are led to this node's endpoints, {here}"
            ));
        }
        if self.external == TrafficPolicy::Local && self.has_external {
            lines.push(format!(
                "spec.externalTrafficPolicy is Local: clients outside are led to this node's endpoints, {here}; clients \
                 inside to all"
            ));
        }
        let zone = self.zone.as_deref().unwrap_or_default();
        match self.verdict.topology {
            Topology::SameNode => {
                lines.push("hints.forNodes count: those for this node are used".to_owned());
            }
            Topology::SameZone => {
                lines.push(format!(
                    "hints.forZones count: those for zone {zone} are used"
                ));
            }
            Topology::Everywhere => {}
        }
        lines.extend(self.verdict.ignored.map(|it| it.text().to_owned()));
        lines
    }

    /// Why an endpoint is not given to every client; None for one that is, and for one that nobody names.
    pub(super) fn why(&self, target: &Target) -> Option<String> {
        let facts = self.endpoints.get(target)?;
        let others_ready = self.endpoints.values().any(|it| it.usable == Use::Ready);
        let text = match facts.usable {
            Use::Keep => return None,
            Use::Fallback if others_ready => {
                let local = self.endpoints.values();
                let mut local = local.filter(|it| it.local && it.usable == Use::Ready);
                if facts.local && self.is_local() && local.next().is_none() {
                    "it is terminating: used by the policy Local, as this node has no ready one"
                } else {
                    "it is terminating, and others are ready"
                }
            }
            Use::Fallback => return self.elsewhere(facts).map(ToOwned::to_owned),
            Use::Ready if !self.verdict.topology.admits(facts.node, facts.zone) => {
                match (self.verdict.topology, facts.zone) {
                    (Topology::SameNode, _) => "its hints are for other nodes",
                    (_, Hint::Missing) => "it has no hints for zones",
                    _ => "its hints are for other zones",
                }
            }
            Use::Ready => return self.elsewhere(facts).map(ToOwned::to_owned),
        };
        Some(text.to_owned())
    }

    fn is_local(&self) -> bool {
        let external = self.external == TrafficPolicy::Local && self.has_external;
        self.internal == TrafficPolicy::Local || external
    }

    /// Of an endpoint on another node, or on none.
    fn elsewhere(&self, facts: &Facts) -> Option<&'static str> {
        if facts.local {
            return None;
        }
        let internal = self.internal == TrafficPolicy::Local;
        let external = self.external == TrafficPolicy::Local && self.has_external;
        match (internal, external, self.has_external) {
            (true, _, false) => Some("it is not on this node"),
            (true, true, true) => {
                Some("it is not on this node: only clients inside get it, and not at the ClusterIP")
            }
            (true, false, true) => Some("it is not on this node: not used at the ClusterIP"),
            (false, true, _) => Some("it is not on this node: not used for clients outside"),
            (false, false, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_common::{FrontendKey, FrontendValue, Port, Protocol};

    use super::*;
    use crate::{
        desired::{Family, PortId},
        engine::tests::{store as new_store, words},
        model::ObjectId,
        store::Touched,
    };

    /// The lines about a port, and why each of its endpoints is not given to everybody.
    fn explained(lines: &[&str]) -> (Vec<String>, Vec<Option<String>>) {
        let mut store = new_store();
        for line in lines {
            store.apply(words::change(line), &mut Touched::default());
        }
        let name = words::name("a/web");
        let service = store.service(&name).unwrap();
        let address = std::net::Ipv4Addr::new(192, 0, 2, 1);
        let key = FrontendKey::new(address.into(), Port::new(80), 6);
        let port = PortView {
            id: PortId {
                owner: ObjectId::service(&name),
                family: Family::V4,
                protocol: Protocol::Tcp,
                port: 80,
            },
            name: String::new(),
            node_port: None,
            service: 1,
            set: 1,
            local_set: 0,
            affinity_seconds: 0,
            frontends: vec![(key, FrontendValue::new(1, 1, 0).external())],
            ranges: Vec::new(),
            backends: Vec::new(),
        };
        let rules = Rules::of(&store, service, &port).unwrap();
        let whys = rules.endpoints.keys().map(|target| rules.why(target));
        (rules.lines(), whys.collect())
    }

    fn whys(lines: &[&str]) -> Vec<String> {
        let (_, whys) = explained(lines);
        whys.into_iter().map(Option::unwrap_or_default).collect()
    }

    const SERVICE: &str = "service a/web ip=10.96.0.1 port=http/TCP/80";

    #[test]
    fn each_endpoint_that_is_left_out_has_its_reason() {
        let node = "node one zone=a";
        let zones = "slice a/e of=web port=http/TCP/80 at=10.0.0.1,forzone:a at=10.0.0.2,forzone:b";
        assert_eq!(
            whys(&[node, SERVICE, zones]),
            ["", "its hints are for other zones"]
        );
        let nodes =
            "slice a/e of=web port=http/TCP/80 at=10.0.0.1,fornode:one at=10.0.0.2,fornode:two";
        assert_eq!(
            whys(&[node, SERVICE, nodes]),
            ["", "its hints are for other nodes"]
        );
        let ends =
            "slice a/e of=web port=http/TCP/80 at=10.0.0.1,on:two at=10.0.0.2,terminating,on:one";
        assert_eq!(
            whys(&[SERVICE, ends]),
            ["", "it is terminating, and others are ready"]
        );
        let outside = format!("{SERVICE} etp=local");
        assert_eq!(
            whys(&[&outside, ends]),
            [
                "it is not on this node: not used for clients outside",
                "it is terminating: used by the policy Local, as this node has no ready one"
            ]
        );
    }

    #[test]
    fn what_counts_is_said_and_what_does_not_is_too() {
        let slice = "slice a/e of=web port=http/TCP/80 at=10.0.0.1,on:one,forzone:a";
        let (lines, _) = explained(&["node one zone=a", SERVICE, slice]);
        assert_eq!(lines, ["hints.forZones count: those for zone a are used"]);
        let (lines, _) = explained(&["node one", SERVICE, slice]);
        assert!(lines[0].contains("has no label"), "{lines:?}");
        let service = format!("{SERVICE} itp=local");
        let (lines, _) = explained(&[&service, slice]);
        assert!(lines[0].ends_with("this node's endpoints, 1"), "{lines:?}");
    }
}
