//! Each map full in turn: what does not fit is reported by name, with the flag to raise; everything else works.

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, Call, Deployment, Endpoint, Families, Needs, Node, Place, Port, Scene,
    Service, Slice, ensure_clean, eventually, settle, test,
    traffic::{Failure, Report},
};

const SERVICES: u8 = 12;

/// Services `s0` and on, all with the same real pods behind them.
struct Crowd {
    client: Place,
    web: Deployment,
    agent: Agent,
}

impl Crowd {
    fn new(lab: &mut mesh_lab::Lab, pods: usize, flags: &[&str]) -> Result<Self> {
        let node = lab.node("one", Families::V4)?;
        let ports = [Port::tcp("http", 80, 8080)];
        let mut web = Deployment::new("behind", &[], &ports)?;
        let mut endpoints = Vec::new();
        for number in 0..pods {
            let pod = node.pod(&format!("web-{number}"))?;
            web.add(&pod)?;
            endpoints.extend(pod.address().all().map(Endpoint::ready));
        }
        for number in 0..SERVICES {
            let name = format!("s{number}");
            let service = Service::new(&name, &[cluster_ip(number).parse()?], &ports);
            let slice = Slice::new(&format!("{name}-1"), &name, &ports, &endpoints);
            let objects = [service.json(), slice.json()];
            lab.source().write(&format!("{name}.json"), &objects)?;
        }
        Ok(Self {
            client: node.pod("client")?.place(),
            web,
            agent: start(&node, flags)?,
        })
    }

    fn call(&self, number: u8) -> Result<Report> {
        let to = format!("{}:80", cluster_ip(number)).parse()?;
        let call = Call::connect(to).count(20).option("--timeout", 300);
        self.client.call(&call)
    }

    /// Which Services work, and which do not; none may work by half.
    fn split(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let (mut served, mut left) = (Vec::new(), Vec::new());
        for number in 0..SERVICES {
            let report = self.call(number)?;
            match report.answered {
                20 => served.push(number),
                0 => left.push(number),
                _ => ensure_clean(&report)?,
            }
        }
        Ok((served, left))
    }
}

fn cluster_ip(number: u8) -> String {
    format!("10.96.1.{number}")
}

/// An agent that has applied what fits; it may well not call itself healthy.
fn start(node: &Node, flags: &[&str]) -> Result<Agent> {
    let agent = node.start_agent(&AgentOptions::flags(flags))?;
    eventually("the agent answers", || agent.metrics().map(drop))?;
    Ok(agent)
}

/// Some fit, some do not; each that does not is named in the status together with the flag.
fn ensure_some_reported(crowd: &Crowd, flag: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let (served, left) = eventually("some fit and some do not", || {
        let (served, left) = crowd.split()?;
        ensure!(
            !served.is_empty() && !left.is_empty(),
            "served {served:?}, left {left:?}"
        );
        Ok((served, left))
    })?;
    eventually("the rest is reported", || {
        let status = crowd.agent.json(&["status"])?.to_string();
        ensure!(status.contains(flag), "{flag} is not named: {status}");
        for number in &left {
            let name = format!("default/s{number}");
            let view = crowd
                .agent
                .cli(&["service", "explain", &name])?
                .ok()?
                .stdout;
            ensure!(view.contains(flag), "{name}: {view}");
        }
        Ok(())
    })?;
    let dirty = crowd.agent.metrics()?.sum("mesh_agent_dirty_objects", &[]);
    ensure!(dirty > 0.0, "mesh_agent_dirty_objects is {dirty}");
    Ok((served, left))
}

#[test]
fn services_that_do_not_fit_are_reported_and_fit_later() -> Result<()> {
    test("full-services", Needs::Agent, |lab| {
        let crowd = Crowd::new(lab, 2, &["--max-services", "8"])?;
        let (served, left) = ensure_some_reported(&crowd, "--max-services")?;
        let (first, waiting) = (served[0], left[0]);
        // Make room for all.
        for number in served.iter().chain(&left).filter(|it| **it != waiting) {
            lab.source().remove(&format!("s{number}.json"))?;
        }
        ensure!(first != waiting, "one cannot be both");
        let to = format!("{}:80", cluster_ip(waiting)).parse()?;
        settle(&crowd.client, to, &crowd.web.ready())
    })
}

#[test]
fn backends_that_do_not_fit_are_reported() -> Result<()> {
    test("full-backends", Needs::Agent, |lab| {
        let crowd = Crowd::new(lab, 4, &["--max-backends", "20"])?;
        let (served, _) = ensure_some_reported(&crowd, "--max-backends")?;
        // Those that fit go on as if nothing were.
        let to = format!("{}:80", cluster_ip(served[0])).parse()?;
        settle(&crowd.client, to, &crowd.web.ready())
    })
}

#[test]
fn a_service_that_grows_too_large_keeps_its_last_state() -> Result<()> {
    test("full-growth", Needs::Agent, |lab| {
        let options = AgentOptions::flags(&["--max-backends", "16"]);
        let mut scene = Scene::with(lab, Families::V4, 2, &options)?;
        let to = scene.any()?;
        scene.settle(to)?;
        let before = scene.web.ready();
        let names: Vec<String> = (2..12).map(|number| format!("web-{number}")).collect();
        for pod in scene.two.pods(&names)? {
            scene.web.add(&pod)?;
        }
        // Three ports and twelve pods are more than sixteen backends.
        scene.web.publish(&scene.source)?;
        eventually("it is reported", || {
            let status = scene.agent.json(&["status"])?.to_string();
            ensure!(status.contains("default/web"), "{status}");
            ensure!(status.contains("--max-backends"), "{status}");
            Ok(())
        })?;
        settle(&scene.client.place(), to, &before)
    })
}

#[test]
fn a_full_socket_map_costs_the_reply_address_and_not_the_connection() -> Result<()> {
    test("full-sockets", Needs::Agent, |lab| {
        let options = AgentOptions::flags(&["--max-flows", "64"]);
        let scene = Scene::with(lab, Families::V4, 2, &options)?;
        scene.settle(scene.any()?)?;
        let hold = Call::hold(scene.any()?).option("--connections", 300);
        let hold = scene.client.place().load(&hold)?.holding()?;
        // An unconnected socket could not be shown the Service as the sender: refused, with a reason.
        let call = Call::connect(scene.web.v4("dns")?).unconnected().count(50);
        let unconnected = scene.client.place().call(&call)?;
        ensure!(
            unconnected.failed(Failure::Refused) == 50,
            "{unconnected:?}"
        );
        let labels = [("result", "refused"), ("reason", "sockets_full")];
        let metrics = scene.agent.metrics()?;
        let refused = metrics.sum("mesh_agent_socket_connections_total", &labels);
        ensure!(refused >= 50.0, "{refused} were counted");
        let held = hold.stop()?;
        let wrong_peer = held.failed(Failure::Peer);
        ensure!(wrong_peer > 0, "the map was not full: {held:?}");
        ensure!(held.errors.len() == 1 && held.answered > 0, "{held:?}");
        // The sockets are closed: there is room again.
        eventually("the entries of closed sockets are gone", || {
            let report = scene.client.place().call(&call)?;
            ensure_clean(&report)
        })
    })
}

#[test]
fn capacities_are_what_was_asked_for() -> Result<()> {
    test("capacities", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        let agent = start(&node, &["--max-services", "512", "--max-affinity", "1024"])?;
        let metrics = agent.metrics()?;
        for (map, least) in [
            ("frontends", 512.0),
            ("services", 512.0),
            ("affinity", 1024.0),
        ] {
            let capacity = metrics.sum("mesh_agent_map_capacity", &[("map", map)]);
            ensure!(
                capacity >= least && capacity <= 4.0 * least,
                "{map}: {capacity}"
            );
        }
        let bytes = metrics.sum("mesh_agent_map_bytes", &[]);
        ensure!(bytes > 0.0, "mesh_agent_map_bytes is {bytes}");
        let first = metrics.has("mesh_agent_map_entries", &[("map", "frontends")]);
        first.then_some(()).context("no mesh_agent_map_entries")
    })
}
