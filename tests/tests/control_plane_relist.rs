//! Ten thousand Services are listed anew, because the API server forgot what was watched, because it was away, and
//! because it started again: what did not change is not written.

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, ControlPlane, Families, Fault, FaultProxy, Lab, Many, Needs, eventually,
    test,
};
use serde_json::Value;

const MANY: Many = Many {
    services: 10_000,
    endpoints: 2,
};

/// Objects that are made by one call, so that no list of requests grows out of hand.
const AT_ONCE: u32 = 1_000;
/// Services that have endpoints, unless there is time for all of them: making objects is what takes the time here.
const WITH_ENDPOINTS: u32 = 2_000;

fn fill(control_plane: &ControlPlane) -> Result<()> {
    let client = control_plane.client()?;
    let long = std::env::var_os("MESH_LONG").is_some();
    for first in (0..MANY.services).step_by(AT_ONCE as usize) {
        let services = first..first + AT_ONCE;
        let mut objects: Vec<Value> = services.flat_map(|service| MANY.objects(service)).collect();
        objects.retain(|object| long || first < WITH_ENDPOINTS || object["kind"] == "Service");
        client.create_all(&objects)?;
    }
    Ok(())
}

fn writes(agent: &Agent) -> Result<f64> {
    let metrics = agent.metrics()?;
    let name = "mesh_agent_map_operations_total";
    ensure!(metrics.has(name, &[]), "there is no {name}");
    Ok(["update", "delete", "store"]
        .iter()
        .map(|op| metrics.sum(name, &[("op", op)]))
        .sum())
}

/// Everything is programmed, and nothing is under way.
fn settled(agent: &Agent) -> Result<f64> {
    let mut last = -1.0;
    eventually("the agent has nothing more to write", || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let now = writes(agent)?;
        let same = (now - last).abs() < 0.5;
        last = now;
        ensure!(same, "it still writes");
        Ok(now)
    })
}

/// Seconds since the API server was heard of, of the kind that was heard last of.
fn stale(agent: &Agent) -> Result<f64> {
    let metrics = agent.metrics()?;
    let kinds = ["Service", "EndpointSlice"];
    Ok(kinds
        .iter()
        .map(|kind| metrics.sum("mesh_agent_source_stale_seconds", &[("kind", kind)]))
        .fold(0.0, f64::max))
}

fn up_to_date(agent: &Agent) -> Result<()> {
    eventually("the agent is up to date", || {
        let seconds = stale(agent)?;
        ensure!(seconds < 0.5, "stale since {seconds} s");
        Ok(())
    })
}

/// Does something that ends every watch, and fails if one word was written because of it.
fn relist(
    agent: &Agent,
    proxy: &FaultProxy,
    what: &str,
    happens: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (before, connections) = (settled(agent)?, proxy.connections());
    happens()?;
    up_to_date(agent)?;
    let after = settled(agent)?;
    let connections = proxy.connections() - connections;
    println!(
        "{what}: {connections} connections, {} writes",
        after - before
    );
    ensure!(connections > 0, "{what}: nobody asked anew");
    ensure!((after - before).abs() < 0.5, "{what}: it wrote");
    Ok(())
}

/// An outage of a kind, until the agent says that it knows of it.
fn away(agent: &Agent, proxy: &FaultProxy, fault: Fault) -> Result<()> {
    proxy.set(fault);
    eventually("the agent says that it is stale", || {
        let seconds = stale(agent)?;
        ensure!(seconds > 0.5, "{seconds}");
        Ok(())
    })?;
    proxy.set(Fault::None);
    Ok(())
}

fn started(lab: &mut Lab) -> Result<(Agent, FaultProxy)> {
    lab.use_control_plane()?;
    let control_plane = lab.control_plane().context("it was started")?;
    fill(control_plane)?;
    let proxy = FaultProxy::start(control_plane)?;
    let flags = [
        "--kubeconfig".to_owned(),
        proxy.kubeconfig().display().to_string(),
    ];
    let node = lab.node("one", Families::V4)?;
    let agent = node.agent_with(&AgentOptions::flags(&flags))?;
    let held = agent
        .metrics()?
        .sum("mesh_agent_map_entries", &[("map", "frontends")]);
    ensure!(held >= f64::from(MANY.services), "{held} frontends");
    Ok((agent, proxy))
}

#[test]
fn ten_thousand_services_listed_anew_write_nothing() -> Result<()> {
    test("relist", Needs::ControlPlane, |lab| {
        let (agent, proxy) = started(lab)?;
        relist(&agent, &proxy, "410 Gone", || {
            proxy.set(Fault::Gone);
            let gone = eventually("everything is listed anew, twice", || {
                let said = agent.said();
                for kind in ["Service", "EndpointSlice"] {
                    let ended = said.matches(&format!("watch of {kind}: ")).count();
                    ensure!(ended > 2, "{kind}: {ended}");
                }
                Ok(())
            });
            proxy.set(Fault::None);
            gone
        })?;
        for fault in [Fault::Refuse, Fault::ServerErrors] {
            relist(&agent, &proxy, &format!("{fault:?}"), || {
                away(&agent, &proxy, fault)
            })?;
        }
        let control_plane = lab.control_plane().context("it was started")?;
        relist(&agent, &proxy, "restart", || {
            control_plane.kill_apiserver()?;
            control_plane.start_apiserver()
        })
    })
}
