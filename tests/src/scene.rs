//! What most tests begin with: two nodes, a client, a Service `web` with pods on both nodes, an agent where the
//! client is.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    agent::{Agent, AgentOptions},
    call::Call,
    deployment::Deployment,
    harness::eventually,
    lab::{Families, Lab, Node, Pod},
    manifest::{Port, Source},
    place::Place,
    traffic::{Failure, Report},
};

/// Port names of `web`: `http` (TCP 80), `dns` (UDP 80, the same number) and `alt` (TCP 443).
#[must_use]
pub fn web_ports() -> Vec<Port> {
    vec![
        Port::tcp("http", 80, 8080),
        Port::udp("dns", 80, 8080),
        Port::tcp("alt", 443, 8443),
    ]
}

/// Two nodes and a Service.
#[derive(Debug)]
pub struct Scene {
    /// The node of the client and of the agent.
    pub one: Node,
    /// The other node.
    pub two: Node,
    /// A pod on node one that is nobody's endpoint.
    pub client: Pod,
    /// The Service, published.
    pub web: Deployment,
    /// The agent on node one, ready.
    pub agent: Agent,
    /// Where manifests are.
    pub source: Source,
}

impl Scene {
    /// A Service with four pods.
    pub fn new(lab: &mut Lab, families: Families) -> Result<Self> {
        Self::with(lab, families, 4, &AgentOptions::default())
    }

    /// A Service with four pods in both families, and all of it works.
    pub fn settled(lab: &mut Lab) -> Result<Self> {
        let scene = Self::new(lab, Families::Dual)?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        Ok(scene)
    }

    /// A Service with so many pods, `web-0` and on, in turn on both nodes; an agent of choice.
    pub fn with(
        lab: &mut Lab,
        families: Families,
        pods: usize,
        options: &AgentOptions,
    ) -> Result<Self> {
        let (one, two) = (lab.node("one", families)?, lab.node("two", families)?);
        let mut addresses = Vec::new();
        if families.v4() {
            addresses.push("10.96.0.10");
        }
        if families.v6() {
            addresses.push("fd00:10:96::10");
        }
        let mut web = Deployment::new("web", &addresses, &web_ports())?;
        for (number, node) in (0..pods).zip([&one, &two].into_iter().cycle()) {
            web.add(&node.pod(&format!("web-{number}"))?)?;
        }
        web.publish(&lab.source())?;
        Ok(Self {
            client: one.pod("client")?,
            agent: one.agent_with(options)?,
            one,
            two,
            web,
            source: lab.source(),
        })
    }

    /// Publishes `web` and waits until traffic shows it.
    pub fn publish(&self) -> Result<()> {
        self.web.publish(&self.source)?;
        self.settle(self.any()?)
    }

    /// Waits until the ready pods of `web`, and they alone, answer the client at this address.
    pub fn settle(&self, to: SocketAddr) -> Result<()> {
        settle(&self.client.place(), to, &self.web.ready())
    }

    /// Waits until the agent's view of `web` has none of a pod's addresses, draining or not.
    pub fn forgotten(&self, pod: &str) -> Result<()> {
        let addresses = self.web.addresses_of(pod)?;
        eventually(&format!("{pod} is forgotten"), || {
            let view = self.agent.json(&["service", "get", "default/web"])?;
            let shown = values(&view, "address")
                .into_iter()
                .filter_map(Value::as_str);
            let mut left = shown.filter_map(|shown| shown.parse().ok());
            ensure!(!left.any(|it: IpAddr| addresses.contains(&it)), "{view}");
            Ok(())
        })
    }

    /// One address of `web`, port `http`.
    pub fn any(&self) -> Result<SocketAddr> {
        self.web.v4("http").or_else(|_| self.web.v6("http"))
    }

    /// Every address of `web` with this port.
    #[must_use]
    pub fn all(&self, port: &str) -> Vec<SocketAddr> {
        [self.web.v4(port), self.web.v6(port)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Waits until these, and they alone, answer new TCP connections; if there are none, until connections are refused.
pub fn settle(from: &Place, to: SocketAddr, names: &[String]) -> Result<()> {
    // A fair choice misses one of N in 40 N tries with a chance of N e^-40.
    let count = 40 * u64::try_from(names.len().max(1))?;
    let call = Call::connect(to).count(count).option("--timeout", 2000);
    eventually(&format!("{names:?} answer at {to}"), || {
        if names.is_empty() {
            let report = from.call(&call)?;
            ensure!(report.failed(Failure::Refused) == count, "{report:?}");
            return Ok(());
        }
        let report = from.call(&call.clone().flag("--stop-at-failure"))?;
        ensure_clean(&report)?;
        ensure!(
            report.backends.keys().eq(sorted(names).iter()),
            "{report:?}"
        );
        Ok(())
    })
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

/// These, and they alone, answer new TCP connections; then connections, requests, bulk and datagrams all go well, and each
/// answers datagrams too.
pub fn serves_everything(from: &Place, to: SocketAddr, names: &[String]) -> Result<()> {
    settle(from, to, names)?;
    ensure_clean(&from.call(&Call::connect(to).count(200))?)?;
    ensure_clean(&from.call(&Call::rr(to).count(200))?)?;
    let stream = Call::stream(to).option("--size", 65536);
    ensure_clean(&from.call(&stream.option("--duration", 0.5))?)?;
    let datagrams = from.call(&Call::connect(to).udp().count(200))?;
    ensure_clean(&datagrams)?;
    let answered = datagrams.backends.keys();
    ensure!(answered.eq(sorted(names).iter()), "{datagrams:?}");
    Ok(())
}

/// Fails with the whole report unless everything went well.
pub fn ensure_clean(report: &Report) -> Result<()> {
    ensure!(report.is_clean(), "{report:?}");
    Ok(())
}

/// The one backend that answers all of these calls.
pub fn only(from: &Place, call: &Call) -> Result<String> {
    let report = from.call(call)?;
    ensure_clean(&report)?;
    let mut names = report.backends.into_keys();
    let name = names.next().context("nobody answered")?;
    match names.next() {
        Some(other) => bail!("both {name} and {other} answered"),
        None => Ok(name),
    }
}

/// Waits until an agent shows that `web` has affinity for so many seconds.
pub fn affinity_in_force(agent: &Agent, seconds: u32) -> Result<()> {
    eventually("affinity is in force", || {
        let view = agent.json(&["service", "get", "default/web"])?;
        let shown = values(&view, "affinitySeconds");
        let all = shown.iter().all(|it| **it == seconds);
        ensure!(!shown.is_empty() && all, "{view}");
        Ok(())
    })
}

/// Everything that stands under a key, anywhere in a document.
#[must_use]
pub fn values<'a>(document: &'a Value, key: &str) -> Vec<&'a Value> {
    match document {
        Value::Object(fields) => {
            let own = fields.get(key).into_iter();
            own.chain(fields.values().flat_map(|value| values(value, key)))
                .collect()
        }
        Value::Array(items) => items.iter().flat_map(|value| values(value, key)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}
