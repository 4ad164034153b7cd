//! No room for more flows: those that stand go on, new ones are served where nothing has to be remembered for them, and
//! refused with a reason where it has.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use mesh_common::{FLOW_WAYS, SPILL_LINES};
use mesh_lab::{
    Agent, AgentOptions, Call, Load, Needs, Node, Outside, Place, ensure_clean, eventually,
    node_port, settle, test, traffic::Failure,
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

/// So many connections, open when this returns. Each sends every 100 ms.
fn held(place: &Place, to: SocketAddr, connections: u32) -> Result<Load> {
    holding(place, to, connections, 100)
}

fn holding(place: &Place, to: SocketAddr, connections: u32, interval: u32) -> Result<Load> {
    let call = Call::hold(to).option("--connections", connections);
    place.load(&call.option("--interval", interval))?.holding()
}

/// Flows that were not confirmed because there was no room.
fn unconfirmed(agent: &Agent) -> Result<f64> {
    metric(agent, "mesh_agent_flows_total", ("event", "unconfirmed"))
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

/// Connections that stand, through the node port of each node.
const CONNECTIONS: u32 = 500;

/// Connections from outside through the node port of each node, and the node ports.
fn established(outside: &Outside) -> Result<(Vec<Load>, [SocketAddr; 2])> {
    let scene = &outside.scene;
    let port = |node: &Node| Ok::<_, anyhow::Error>(node_port(v4(node.address().all())?, 80));
    let ports = [port(&scene.one)?, port(&scene.two)?];
    let loads = ports.map(|to| held(&outside.client(), to, CONNECTIONS));
    Ok((loads.into_iter().collect::<Result<_>>()?, ports))
}

/// SYNs from addresses that do not answer, to both nodes, while others call; prints how those fared.
fn flood(outside: &Outside, ports: [SocketAddr; 2]) -> Result<()> {
    for node in [&outside.scene.one, &outside.scene.two] {
        // Nobody answers to addresses that are nobody's.
        node.host().ip("route add blackhole 198.18.0.0/15")?;
    }
    let new = Call::connect(ports[0]).also(ports[1]).rate(50);
    let new = outside.client().load(&new.option("--timeout", 2000))?;
    let flood = Call::flood(ports[0]).also(ports[1]).count(300_000);
    let flood = outside.client().call(&flood)?;
    ensure_clean(&flood)?;
    let new = new.stop()?;
    eprintln!(
        "{} SYNs in {} ms; of {} new connections meanwhile {:?} failed",
        flood.answered,
        flood.elapsed_ns / 1_000_000,
        new.attempts,
        new.errors
    );
    Ok(())
}

/// Not one of the connections may have met an error, and each was in use.
fn ensure_none_broke(loads: Vec<Load>) -> Result<()> {
    let mut broken = 0;
    for load in loads {
        let report = load.stop()?;
        broken += report.errors.values().sum::<u64>();
        ensure!(report.attempts > 2 * u64::from(CONNECTIONS), "{report:?}");
    }
    eprintln!("{broken} of {} connections broken", 2 * CONNECTIONS);
    ensure!(broken == 0, "{broken} broken");
    Ok(())
}

/// All cells, and those of the spill among them.
fn cells(agent: &Agent) -> Result<(f64, f64)> {
    let all = metric(agent, "mesh_agent_map_capacity", ("map", "flows"))?;
    Ok((all, f64::from(SPILL_LINES * FLOW_WAYS)))
}

fn taken(agent: &Agent) -> Result<f64> {
    metric(agent, "mesh_agent_map_entries", ("map", "flows"))
}

#[test]
fn a_flood_of_syns_breaks_nothing() -> Result<()> {
    test("packet-flood", Needs::Agent, |lab| {
        let outside = Outside::settled(lab, 4)?;
        let (loads, ports) = established(&outside)?;
        let agent = &outside.scene.agent;
        let opened = || metric(agent, "mesh_agent_flows_total", ("event", "opened"));
        let before = opened()?;
        flood(&outside, ports)?;
        let taken = taken(agent)?;
        // All cells of the spill, and of the others a third.
        let (all, spill) = cells(agent)?;
        let room = spill + (all - spill) / 3.0;
        ensure!(
            taken > room * 0.9,
            "{taken} of {room}: half-open flows could be more"
        );
        // Each has at least two entries.
        let opened = opened()? - before;
        ensure!(opened * 2.0 > room, "{opened} flows were opened");
        ensure_none_broke(loads)?;
        for to in ports {
            ensure_clean(&outside.client().call(&Call::connect(to).count(200))?)?;
        }
        Ok(())
    })
}

/// `--max-flows` for `CONNECTIONS` from outside, which take up to four entries each, and others beside them.
const ROOM: u32 = 2 * CONNECTIONS + 500;

#[test]
fn a_flood_of_syns_breaks_nothing_where_flows_have_no_room_left() -> Result<()> {
    test("packet-full-flood", Needs::Agent, |lab| {
        let options = AgentOptions::flags(&["--max-flows".to_owned(), ROOM.to_string()]);
        let outside = Outside::with(lab, 4, &options)?;
        settle_by_sockets(&outside)?;
        let scene = &outside.scene;
        let (loads, ports) = established(&outside)?;
        let nodes = [
            (&scene.agent, outside.inside()?),
            (&outside.far, scene.two.pod("far-client")?.bare_place()?),
        ];
        let mut others = Vec::new();
        for (agent, inside) in &nodes {
            ensure!(unconfirmed(agent)? < 1.0, "full too early");
            // They are to take the room, and are not asked again: those that found none may break.
            others.push(holding(inside, scene.any()?, ROOM, 600_000)?);
            eventually("confirmed flows have all the room", || {
                let (all, spill) = cells(agent)?;
                let (taken, left) = (taken(agent)?, unconfirmed(agent)?);
                ensure!(
                    left >= 100.0 && taken > (all - spill) * 0.95,
                    "{left} unconfirmed, {taken} of {all} with {spill} spilled"
                );
                Ok(())
            })?;
        }
        flood(&outside, ports)?;
        ensure_none_broke(loads)?;
        for load in others {
            load.kill()?;
        }
        for to in ports {
            eventually("new connections are served as those that ended go", || {
                ensure_clean(&outside.client().call(&Call::connect(to).count(50))?)
            })?;
        }
        Ok(())
    })
}

/// `--snat-ports`: so many connections to one backend.
const PORTS: std::ops::Range<u16> = 20_000..20_010;

#[test]
fn ports_that_stand_for_clients_run_out_and_come_back() -> Result<()> {
    test("packet-snat-ports", Needs::Agent, |lab| {
        let range = format!("{}-{}", PORTS.start, PORTS.end - 1);
        let options = AgentOptions::flags(&["--snat-ports".to_owned(), range.clone()]);
        let outside = Outside::with(lab, 1, &options)?;
        settle_by_sockets(&outside)?;
        let noted = fs::read_to_string(outside.scene.two.run_dir().join("snat-ports"))?;
        ensure!(noted.starts_with(&range), "{noted}");
        // The one backend is on the other node.
        let to = node_port(v4(outside.scene.two.address().all())?, 80);
        let wanted = 3 * u64::try_from(PORTS.len())?;
        let call = Call::hold(to).option("--connections", wanted);
        let calls = call.option("--interval", 100).option("--timeout", 300);
        let held = outside.client().load(&calls)?.holding()?;
        let flows = outside.far.json(&["bpf", "flows"])?;
        let rows = flows["items"].as_array().context("no items")?;
        let returning = rows.iter().filter(|row| row["entry"] == "returning");
        let ports = returning.map(|row| port(&row["destination"]));
        let ports = ports.collect::<Result<Vec<u16>>>()?;
        let each = ports.iter().collect::<BTreeSet<_>>();
        ensure!(
            each.len() == ports.len() && ports.iter().all(|port| PORTS.contains(port)),
            "{ports:?}"
        );
        // Each connection tries five ports by chance, so the last ones may not be found.
        ensure!(ports.len() > PORTS.len() / 2, "{ports:?}");
        let reason = ("reason", "snat_ports_exhausted");
        let dropped = metric(&outside.far, "mesh_agent_drops_total", reason)?;
        let refused = wanted - u64::try_from(ports.len())?;
        ensure!(dropped >= refused as f64, "{dropped} drops, {ports:?}");
        let report = held.stop()?;
        ensure!(report.failed(Failure::Timeout) == refused, "{report:?}");
        eventually("ports come back", || {
            ensure_clean(&outside.client().call(&Call::connect(to).count(1))?)
        })
    })
}

/// The port of an address and a port in a row.
fn port(row: &serde_json::Value) -> Result<u16> {
    let text = row.as_str().context("not in the row")?;
    Ok(text.parse::<SocketAddr>()?.port())
}
