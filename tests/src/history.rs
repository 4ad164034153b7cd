//! Random histories of a cluster and its outages. A seed in, steps out: the same seed, the same history. Pure.

use serde_json::{Value, json};

use crate::fault_proxy::Fault;

/// Services that a history is about.
const SERVICES: u64 = 6;
/// EndpointSlices that each of them may have in each family.
const SLICES: u64 = 2;
/// Endpoints that each slice may have.
const ENDPOINTS: u64 = 4;
/// Port numbers that Services may have, from 80 on.
const PORTS: u64 = 4;
/// Every fault but none.
const FAULTS: [Fault; 5] = [
    Fault::Refuse,
    Fault::BlackHole,
    Fault::ServerErrors,
    Fault::Slow,
    Fault::Gone,
];

/// A change of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It comes, or is as this from now on.
    Apply(Value),
    /// It goes, if it is there.
    Delete(Value),
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Objects change, in this order.
    Changes(Vec<Change>),
    /// From now on the agent meets this on its way to the API server.
    Outage(Fault),
    /// Nothing, for so many milliseconds.
    Wait(u64),
    /// The agent is killed.
    Kill,
    /// It is started again, and has this many milliseconds before anything else happens.
    Start(u64),
    /// The API server is killed and started again.
    RestartServer,
}

/// A history that has not yet come to its end.
#[derive(Clone, Debug)]
pub struct History {
    random: Random,
    left: u32,
    alive: bool,
}

impl History {
    /// So many steps of a seed; the agent runs at first.
    #[must_use]
    pub const fn new(seed: u64, steps: u32) -> Self {
        Self {
            random: Random(seed),
            left: steps,
            alive: true,
        }
    }

    fn step(&mut self) -> Step {
        match self.random.below(100) {
            0..55 => Step::Changes(self.changes()),
            55..72 => Step::Outage(self.fault()),
            72..86 => Step::Wait(self.random.below(150)),
            86..99 if self.alive => {
                self.alive = false;
                Step::Kill
            }
            86..99 => {
                self.alive = true;
                Step::Start(self.random.below(200))
            }
            _ => Step::RestartServer,
        }
    }

    /// Every other time an outage ends.
    fn fault(&mut self) -> Fault {
        let count = FAULTS.len() as u64;
        let number = self.random.below(2 * count);
        let fault = usize::try_from(number).ok().and_then(|it| FAULTS.get(it));
        fault.copied().unwrap_or(Fault::None)
    }

    fn changes(&mut self) -> Vec<Change> {
        let count = 1 + self.random.below(4);
        (0..count).map(|_| self.change()).collect()
    }

    fn change(&mut self) -> Change {
        let service = self.random.below(SERVICES);
        let gone = self.random.one_in(4);
        let object = if self.random.one_in(3) {
            self.service(service)
        } else {
            self.slice(service)
        };
        if gone {
            Change::Delete(object)
        } else {
            Change::Apply(object)
        }
    }

    fn service(&mut self, number: u64) -> Value {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("s{number}"), "namespace": "default"},
            "spec": {
                "clusterIP": format!("10.96.7.{number}"),
                "clusterIPs": [format!("10.96.7.{number}"), format!("fd00:10:96::7{number}")],
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
                "ports": self.service_ports(),
            },
        });
        if self.random.one_in(4) {
            let seconds = 1 + self.random.below(1000);
            service["spec"]["sessionAffinity"] = json!("ClientIP");
            service["spec"]["sessionAffinityConfig"] =
                json!({"clientIP": {"timeoutSeconds": seconds}});
        }
        if self.random.one_in(10) {
            let label = json!({"service.kubernetes.io/service-proxy-name": "another"});
            service["metadata"]["labels"] = label;
        }
        service
    }

    fn service_ports(&mut self) -> Vec<Value> {
        let first = self.random.below(PORTS);
        let count = 1 + self.random.below(PORTS - first);
        (first..first + count)
            .map(|number| {
                let protocol = if self.random.one_in(3) { "UDP" } else { "TCP" };
                json!({"name": format!("p{number}"), "port": 80 + number, "protocol": protocol})
            })
            .collect()
    }

    fn slice(&mut self, service: u64) -> Value {
        let (v6, number) = (self.random.one_in(2), self.random.below(SLICES));
        let family = if v6 { "v6" } else { "v4" };
        let endpoints: Vec<Value> = (0..self.random.below(ENDPOINTS + 1))
            .map(|_| self.endpoint(v6))
            .collect();
        let ports: Vec<Value> = (0..PORTS)
            .map(|port| {
                let protocol = if self.random.one_in(3) { "UDP" } else { "TCP" };
                let number = 8080 + self.random.below(3);
                json!({"name": format!("p{port}"), "port": number, "protocol": protocol})
            })
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("s{service}-{family}-{number}"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": format!("s{service}")},
            },
            "addressType": if v6 { "IPv6" } else { "IPv4" },
            "endpoints": endpoints, "ports": ports,
        })
    }

    /// Of few addresses, so that slices often speak of the same ones and contradict each other.
    fn endpoint(&mut self, v6: bool) -> Value {
        let last = 1 + self.random.below(6);
        let address = if v6 {
            format!("fd00:10:200::{last}")
        } else {
            format!("10.200.7.{last}")
        };
        let conditions = match self.random.below(5) {
            0 => json!({"ready": false}),
            1 => json!({"ready": false, "serving": true, "terminating": true}),
            2 => json!({"ready": false, "serving": false, "terminating": true}),
            3 => json!({}),
            _ => json!({"ready": true, "serving": true, "terminating": false}),
        };
        json!({"addresses": [address], "conditions": conditions})
    }
}

impl Iterator for History {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.left = self.left.checked_sub(1)?;
        Some(self.step())
    }
}

/// SplitMix64: small, and every seed is as good as any other.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    const fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_history() {
        let steps = |seed| History::new(seed, 200).collect::<Vec<_>>();
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
        assert_eq!(steps(1).len(), 200);
    }

    #[test]
    fn an_agent_that_is_dead_is_not_killed() {
        let mut alive = true;
        for step in History::new(3, 2000) {
            match step {
                Step::Kill => assert!(std::mem::replace(&mut alive, false)),
                Step::Start(_) => assert!(!std::mem::replace(&mut alive, true)),
                Step::Changes(_) | Step::Outage(_) | Step::Wait(_) | Step::RestartServer => {}
            }
        }
    }
}
