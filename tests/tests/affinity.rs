//! Session affinity: a client keeps its backend until it has been silent for the timeout, or the backend is gone.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Condition, Families, Needs, Place, Scene, affinity_in_force, ensure_clean,
    eventually, only, test,
};

/// A Service with affinity; the client has not called it yet.
fn sticky(scene: &mut Scene, seconds: u32) -> Result<()> {
    scene.web.set_affinity(seconds);
    scene.web.publish(&scene.source)?;
    affinity_in_force(&scene.agent, seconds)
}

#[test]
fn each_client_keeps_its_backend() -> Result<()> {
    test("affinity-keep", Needs::Agent, |lab| {
        let mut scene = Scene::new(lab, Families::Dual)?;
        sticky(&mut scene, 10800)?;
        let names: Vec<String> = (0..24).map(|number| format!("client-{number}")).collect();
        let clients = scene.one.pods(&names)?;
        for to in scene.all("http") {
            let mut chosen = Vec::new();
            for client in &clients {
                let first = only(&client.place(), &Call::connect(to).count(20))?;
                let again = only(&client.place(), &Call::connect(to).count(20))?;
                ensure!(first == again, "{first} and then {again}");
                chosen.push(first);
            }
            // That 24 clients agree on one of four by chance: 4^-23.
            ensure!(
                chosen.iter().any(|name| *name != chosen[0]),
                "all on {}",
                chosen[0]
            );
        }
        Ok(())
    })
}

#[test]
fn udp_sockets_keep_to_it_too() -> Result<()> {
    test("affinity-udp", Needs::Agent, |lab| {
        let mut scene = Scene::new(lab, Families::Dual)?;
        sticky(&mut scene, 10800)?;
        let from = scene.client.place();
        for to in scene.all("dns") {
            let connected = only(&from, &Call::connect(to).udp().count(50))?;
            let unconnected = only(&from, &Call::connect(to).unconnected().count(50))?;
            ensure!(
                connected == unconnected,
                "{connected} and then {unconnected}"
            );
        }
        Ok(())
    })
}

#[test]
fn host_processes_are_one_client() -> Result<()> {
    test("affinity-host", Needs::Agent, |lab| {
        let mut scene = Scene::new(lab, Families::V4)?;
        sticky(&mut scene, 10800)?;
        let to = scene.any()?;
        let first = only(&scene.one.host(), &Call::connect(to).count(50))?;
        let second = only(&scene.one.host(), &Call::connect(to).count(50))?;
        ensure!(first == second, "{first} and then {second}");
        Ok(())
    })
}

#[test]
fn a_client_moves_once_when_its_backend_is_gone() -> Result<()> {
    test("affinity-move", Needs::Agent, |lab| {
        let mut scene = Scene::new(lab, Families::V4)?;
        sticky(&mut scene, 10800)?;
        let to = scene.any()?;
        let from = scene.client.place();
        let first = only(&from, &Call::connect(to).count(20))?;
        for condition in [Condition::Unready, Condition::Gone] {
            let before = only(&from, &Call::connect(to).count(20))?;
            scene.web.set(&before, condition)?;
            scene.web.publish(&scene.source)?;
            let after = eventually("the client has moved", || {
                let after = only(&from, &Call::connect(to).count(1))?;
                ensure!(after != before, "still on {before}");
                Ok(after)
            })?;
            let later = only(&from, &Call::connect(to).count(50))?;
            ensure!(after == later, "{after} and then {later}");
        }
        ensure!(!scene.web.ready().contains(&first), "{first} was left");
        Ok(())
    })
}

fn chosen(from: &Place, to: SocketAddr) -> Result<String> {
    only(from, &Call::connect(to).count(1))
}

#[test]
fn a_silent_client_is_forgotten() -> Result<()> {
    test("affinity-silent", Needs::Agent, |lab| {
        let mut scene = Scene::new(lab, Families::V4)?;
        sticky(&mut scene, 1)?;
        let (from, to) = (scene.client.place(), scene.any()?);
        let first = chosen(&from, to)?;
        // Each silence gives a new choice, which is the old one in one of four.
        eventually("the client is given another backend", || {
            std::thread::sleep(Duration::from_millis(1200));
            ensure!(chosen(&from, to)? != first, "still {first}");
            Ok(())
        })
    })
}

#[test]
fn each_connection_starts_the_timeout_anew() -> Result<()> {
    test("affinity-renew", Needs::Agent, |lab| {
        let timeout = 4;
        let mut scene = Scene::new(lab, Families::V4)?;
        sticky(&mut scene, timeout)?;
        let (from, to) = (scene.client.place(), scene.any()?);
        eventually("an undisturbed run of calls", || {
            let report = from.call(&Call::connect(to).rate(4).count(32))?;
            ensure_clean(&report)?;
            // 32 calls take eight seconds, twice the timeout. On a machine that stood still the client may have been
            // silent for too long: then the run says nothing.
            ensure!(
                report.elapsed_ns < 11_000_000_000,
                "the machine stood still"
            );
            assert_eq!(report.backends.len(), 1, "{report:?}");
            Ok(())
        })
    })
}

#[test]
fn more_clients_than_entries_are_still_served() -> Result<()> {
    test("affinity-full", Needs::Agent, |lab| {
        let options = AgentOptions::flags(&["--max-affinity", "8"]);
        let mut scene = Scene::with(lab, Families::V4, 4, &options)?;
        sticky(&mut scene, 10800)?;
        let to = scene.any()?;
        let names: Vec<String> = (0..24).map(|number| format!("client-{number}")).collect();
        for client in scene.one.pods(&names)? {
            ensure_clean(&client.place().call(&Call::connect(to).count(20))?)?;
        }
        Ok(())
    })
}
