//! What is remembered of sockets, where the usual way ends: more entries than a release takes, processes that die,
//! entries that hang from nothing, and a table of connected sockets without a free place.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use mesh_common::{
    Address, PEER_WAYS, PEERS, Port as WirePort, SocketEntry, SocketKey, SocketValue,
};
use mesh_lab::{
    Agent, AgentOptions, Call, Deployment, Families, Lab, Needs, PinnedMaps, Port, Scene,
    ensure_clean, eventually, test,
};
use serde_json::Value;

/// Services and ports of each, so that one socket that asks all of them has more entries than a release takes (256).
const SERVICES: u8 = 4;
const PORTS: u16 = 90;
/// A hand's cookies: no socket of this machine gets so far.
const NOBODY: u64 = 1 << 60;

/// The entries that a dump of `sockets` shows, of some kinds.
fn entries(agent: &Agent, kinds: &[&str]) -> Result<Vec<Value>> {
    let dump = agent.json(&["bpf", "sockets"])?;
    let items = dump["items"].as_array().context("no items")?;
    let is_one = |item: &&Value| kinds.iter().any(|kind| item["kind"] == *kind);
    Ok(items.iter().filter(is_one).cloned().collect())
}

const LISTED: [&str; 3] = ["head", "chosen", "reply"];

/// Many Services, which answer over UDP, and every address and port of theirs.
fn many(lab: &Lab, scene: &Scene) -> Result<(Vec<Deployment>, Vec<SocketAddr>)> {
    let (mut services, mut all) = (Vec::new(), Vec::new());
    for number in 0..SERVICES {
        let port = |port| Port::udp(&format!("p{port}"), 1000 + port, 8080);
        let ports: Vec<Port> = (0..PORTS).map(port).collect();
        let address = format!("10.96.3.{number}");
        let mut service = Deployment::new(&format!("many-{number}"), &[&address], &ports)?;
        service.add(&scene.two.pod(&format!("many-{number}"))?)?;
        service.publish(&lab.source())?;
        let ip = address.parse()?;
        all.extend((0..PORTS).map(|port| SocketAddr::new(ip, 1000 + port)));
        services.push(service);
    }
    Ok((services, all))
}

/// One unconnected socket that asks all of them in turn.
fn ask_all(all: &[SocketAddr]) -> Result<Call> {
    let (first, rest) = all.split_first().context("none to ask")?;
    let call = rest
        .iter()
        .fold(Call::connect(*first), |call, to| call.also(*to));
    Ok(call.unconnected().flag("--keep-socket").expect("many-"))
}

#[test]
fn what_a_release_leaves_is_swept_and_the_living_are_not() -> Result<()> {
    test("sweep", Needs::Agent, |lab| {
        let rarely = AgentOptions::flags(&["--sweep-interval", "1h"]);
        let mut scene = Scene::with(lab, Families::V4, 2, &rarely)?;
        let (_services, all) = many(lab, &scene)?;
        let client = scene.client.place();
        let call = ask_all(&all)?;
        eventually("every Service answers", || {
            ensure_clean(&client.call(&call.clone().count(u64::from(PORTS) * 4))?)
        })?;
        let left = entries(&scene.agent, &LISTED)?;
        ensure!(!left.is_empty(), "the release took everything");
        let closed = left.iter().filter(|entry| entry["closed"] == true);
        ensure!(closed.count() > 0, "no head is marked as closed: {left:?}");

        let dns = scene.web.v4("dns")?;
        let held = Call::hold(dns).unconnected().option("--connections", 5);
        let held = client.load(&held.expect("web-"))?.holding()?;
        let cookies = |entries: &[Value]| {
            let cookies = entries.iter().filter_map(|entry| entry["cookie"].as_u64());
            cookies.collect::<std::collections::BTreeSet<_>>()
        };
        let dead = cookies(&left);
        let mut living = entries(&scene.agent, &LISTED)?;
        living.retain(|entry| !cookies(std::slice::from_ref(entry)).is_subset(&dead));
        ensure!(cookies(&living).len() == 5, "{living:?}");

        // What hangs from no head, of a socket that there is not.
        let maps = PinnedMaps::of(&scene.one);
        let orphan = SocketKey::chosen(NOBODY, Address::from(dns.ip()), WirePort::new(dns.port()));
        maps.put_socket(&orphan, &SocketValue::new(NOBODY, SocketEntry::EMPTY))?;

        scene.agent.kill()?;
        let often = AgentOptions::flags(&["--sweep-interval", "200ms"]);
        scene.agent = scene.one.agent_with(&often)?;
        eventually("only the living have entries", || {
            let now = entries(&scene.agent, &LISTED)?;
            ensure!(now == living, "{now:?} instead of {living:?}");
            Ok(())
        })?;
        ensure_clean(&held.stop()?)?;
        eventually("nobody has entries", || {
            let now = entries(&scene.agent, &LISTED)?;
            ensure!(now.is_empty(), "{now:?}");
            Ok(())
        })
    })
}

#[test]
fn a_process_that_dies_leaves_nothing() -> Result<()> {
    test("dies", Needs::Agent, |lab| {
        let rarely = AgentOptions::flags(&["--sweep-interval", "1h"]);
        let scene = Scene::with(lab, Families::Dual, 2, &rarely)?;
        scene.settle(scene.any()?)?;
        let client = scene.client.place();
        let mut loads = Vec::new();
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            for call in [
                Call::hold(tcp),
                Call::hold(udp).udp(),
                Call::hold(udp).unconnected(),
            ] {
                let call = call.option("--connections", 10);
                loads.push(client.load(&call)?.holding()?);
            }
        }
        let held = entries(&scene.agent, &["peer", "chosen"])?.len();
        ensure!(held == 60, "{held} entries of 60 sockets");
        for load in loads {
            load.kill()?;
        }
        eventually("nothing is left", || {
            let left = entries(&scene.agent, &["peer", "chosen", "reply", "head"])?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
    })
}

#[test]
fn with_every_place_taken_the_service_still_shows() -> Result<()> {
    test("full-peers", Needs::Agent, |lab| {
        let scene = Scene::settled(lab)?;
        let maps = PinnedMaps::of(&scene.one);
        maps.store(
            "peer_cookies",
            (0..PEERS).map(|at| (at, NOBODY + u64::from(at))),
        )?;
        let client = scene.client.place();
        let mut loads = Vec::new();
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            for call in [
                Call::hold(tcp),
                Call::hold(udp).udp(),
                Call::connect(tcp).rate(500),
                Call::connect(udp).udp().rate(500),
            ] {
                let call = call.expect("web-");
                loads.push(client.load(&call)?);
            }
            for call in [Call::hold(tcp), Call::hold(udp).udp()] {
                let call = call.expect("web-").option("--connections", 20);
                loads.push(client.load(&call)?.holding()?);
            }
        }
        let ours = || -> Result<usize> {
            let peers = entries(&scene.agent, &["peer"])?;
            let ours = peers.iter().filter_map(|entry| entry["cookie"].as_u64());
            Ok(ours.filter(|cookie| *cookie < NOBODY).count())
        };
        ensure!(ours()? >= 80, "{} entries", ours()?);
        for load in loads {
            // The tool asks for the peer's name at each exchange.
            ensure_clean(&load.stop()?)?;
        }
        eventually("none of ours has a place", || {
            ensure!(ours()? == 0, "{}", ours()?);
            Ok(())
        })?;
        // One of the places that a socket may have is given to it; the others stay with whom they had.
        for way in 1..PEER_WAYS {
            let place = mesh_common::peer_place(NOBODY, way);
            let holder = maps.word("peer_cookies", place)?;
            ensure!(holder >= NOBODY, "the place {place} was given to {holder}");
        }
        Ok(())
    })
}
