//! No room for more flows: those that stand go on, new ones are served where nothing has to be remembered for them, and
//! refused with a reason where it has.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use mesh_common::{FLOW_WAYS, SPILL_LINES};
use mesh_lab::{
    Agent, AgentOptions, Call, Load, Needs, Outside, Place, ensure_clean, eventually, node_port,
    settle, test, traffic::Failure,
};

/// `--max-flows`: `flows` has twice as many entries, of which a flow of a pod takes two.
const FLOWS: u32 = 128;

fn v4(mut addresses: impl Iterator<Item = IpAddr>) -> Result<IpAddr> {
    let found = addresses.find(IpAddr::is_ipv4);
    found.context("there is no IPv4 address")
}

/// A metric of an agent.
fn metric(agent: &Agent, name: &str, label: (&str, &str)) -> Result<f64> {
    Ok(agent.metrics()?.sum(name, &[label]))
}

/// So many connections, open when this returns.
fn held(place: &Place, to: SocketAddr, connections: u32) -> Result<Load> {
    let call = Call::hold(to).option("--connections", connections);
    place.load(&call.option("--interval", 100))?.holding()
}

/// Waits until both agents serve, by sockets alone: packets would leave flows behind.
fn settle_by_sockets(outside: &Outside) -> Result<()> {
    let to = outside.scene.any()?;
    let ready = outside.scene.web.ready();
    settle(&outside.scene.one.host(), to, &ready)?;
    settle(&outside.scene.two.host(), to, &ready)
}

#[test]
fn established_flows_go_on_and_new_ones_are_served_or_refused() -> Result<()> {
    test("packet-full", Needs::Agent, |lab| {
        let options = AgentOptions::flags(&["--max-flows".to_owned(), FLOWS.to_string()]);
        let outside = Outside::with(lab, 1, &options)?;
        settle_by_sockets(&outside)?;
        let (scene, inside) = (&outside.scene, outside.inside()?);
        let far = scene.two.pod("far-client")?.bare_place()?;
        let to = scene.any()?;
        // Three quarters of the room on node one, then more than is left; on node two all of it at once.
        let first = held(&inside, to, FLOWS * 3 / 4)?;
        let unconfirmed = |agent| metric(agent, "mesh_agent_flows_total", ("event", "unconfirmed"));
        ensure!(unconfirmed(&scene.agent)? < 1.0, "full too early");
        let second = held(&inside, to, FLOWS)?;
        let third = held(&far, to, FLOWS * 2)?;
        let (one, two) = (unconfirmed(&scene.agent)?, unconfirmed(&outside.far)?);
        ensure!(
            one >= f64::from(FLOWS) * 3.0 / 4.0 && two >= f64::from(FLOWS),
            "{one} and {two}"
        );
        // The backend is here: nothing of the node's stands for the client.
        let near = node_port(v4(scene.one.address().all())?, 80);
        ensure_clean(&outside.client().call(&Call::connect(near).count(200))?)?;
        ensure_clean(
            &outside
                .client()
                .call(&Call::connect(near).udp().count(200))?,
        )?;
        // The backend is elsewhere: without its source a reply would go astray.
        let away = node_port(v4(scene.two.address().all())?, 80);
        let call = Call::connect(away).count(50).option("--timeout", 2000);
        let refused = outside.client().call(&call)?;
        ensure!(refused.failed(Failure::Reset) == 50, "{refused:?}");
        let drops = metric(
            &outside.far,
            "mesh_agent_drops_total",
            ("reason", "flows_full"),
        )?;
        ensure!(drops >= 50.0, "{drops}");
        for load in [first, second, third] {
            ensure_clean(&load.stop()?)?;
        }
        // Called at once they would fill the room as it comes.
        eventually("flows that ended are taken away", || {
            let left = metric(&outside.far, "mesh_agent_map_entries", ("map", "flows"))?;
            ensure!(left < f64::from(FLOWS) / 4.0, "{left} entries are left");
            Ok(())
        })?;
        ensure_clean(&outside.client().call(&call)?)
    })
}

/// Connections that stand, in each direction through a node port.
const CONNECTIONS: u32 = 500;

#[test]
fn a_flood_of_syns_breaks_nothing() -> Result<()> {
    test("packet-flood", Needs::Agent, |lab| {
        let outside = Outside::settled(lab, 4)?;
        let scene = &outside.scene;
        let mut loads = Vec::new();
        let mut ports = Vec::new();
        for node in [&scene.one, &scene.two] {
            // Nobody answers to addresses that are nobody's.
            node.host().ip("route add blackhole 198.18.0.0/15")?;
            let to = node_port(v4(node.address().all())?, 80);
            loads.push(held(&outside.client(), to, CONNECTIONS)?);
            ports.push(to);
        }
        let opened = |agent| metric(agent, "mesh_agent_flows_total", ("event", "opened"));
        let before = opened(&scene.agent)?;
        let new = Call::connect(ports[0]).also(ports[1]).rate(50);
        let new = outside.client().load(&new)?;
        let flood = Call::flood(ports[0]).also(ports[1]).count(300_000);
        let flood = outside.client().call(&flood)?;
        ensure_clean(&flood)?;
        let taken = metric(&scene.agent, "mesh_agent_map_entries", ("map", "flows"))?;
        // All cells of the spill, and of the others a third.
        let all = metric(&scene.agent, "mesh_agent_map_capacity", ("map", "flows"))?;
        let spill = f64::from(SPILL_LINES * FLOW_WAYS);
        let room = spill + (all - spill) / 3.0;
        ensure!(
            taken > room * 0.9,
            "{taken} of {room}: half-open flows could be more"
        );
        // Each has at least two entries.
        let opened = opened(&scene.agent)? - before;
        ensure!(opened * 2.0 > room, "{opened} flows were opened");
        let mut broken = 0;
        for load in loads {
            let report = load.stop()?;
            broken += report.errors.values().sum::<u64>();
            ensure!(report.attempts > 2 * u64::from(CONNECTIONS), "{report:?}");
        }
        let new = new.stop()?;
        eprintln!(
            "{broken} of {} connections broken; {} SYNs in {} ms; of {} new connections meanwhile {:?} failed",
            2 * CONNECTIONS,
            flood.answered,
            flood.elapsed_ns / 1_000_000,
            new.attempts,
            new.errors
        );
        ensure!(broken == 0, "{broken} broken");
        for to in ports {
            ensure_clean(&outside.client().call(&Call::connect(to).count(200))?)?;
        }
        Ok(())
    })
}
