//! UDP through a ClusterIP: connected sockets, and sockets that keep their backend while they sendto.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Call, Condition, Families, Needs, Scene, assert_uniform, ensure_clean, test};

#[test]
fn sockets_are_spread_evenly() -> Result<()> {
    test("udp-even", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        scene.settle(scene.any()?)?;
        for to in scene.all("dns") {
            for call in [Call::connect(to).udp(), Call::connect(to).unconnected()] {
                let report = scene.client.place().call(&call.count(2000))?;
                ensure_clean(&report)?;
                assert_uniform(&report.backends, &scene.web.ready())?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_socket_keeps_its_backend() -> Result<()> {
    test("udp-keep", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        scene.settle(scene.any()?)?;
        for to in scene.all("dns") {
            let call = Call::connect(to).unconnected().flag("--keep-socket");
            for _ in 0..5 {
                let report = scene.client.place().call(&call.clone().count(100))?;
                ensure_clean(&report)?;
                ensure!(report.backends.len() == 1, "{report:?}");
            }
            let report = scene.client.place().call(&Call::rr(to).udp().count(200))?;
            ensure_clean(&report)?;
        }
        Ok(())
    })
}

#[test]
fn large_datagrams_go_through() -> Result<()> {
    test("udp-large", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        scene.settle(scene.any()?)?;
        for to in scene.all("dns") {
            for call in [Call::rr(to).udp(), Call::rr(to).unconnected()] {
                // Larger than the link: fragments, which no hook at the socket sees.
                let call = call.option("--size", 8000).count(50);
                ensure_clean(&scene.client.place().call(&call)?)?;
            }
        }
        Ok(())
    })
}

/// One socket that goes on asking.
fn kept(to: SocketAddr) -> Call {
    let call = Call::connect(to).unconnected().rate(200);
    call.flag("--keep-socket").flag("--order")
}

#[test]
fn an_unready_backend_keeps_its_sockets_and_a_gone_one_loses_them() -> Result<()> {
    test("udp-gone", Needs::Agent, |lab| {
        let mut scene = Scene::new(lab, Families::V4)?;
        scene.settle(scene.any()?)?;
        let to = scene.web.v4("dns")?;
        let sockets = 12;
        let mut loads = Vec::new();
        for _ in 0..sockets {
            loads.push(scene.client.place().load(&kept(to))?);
        }
        let held = Call::hold(to).unconnected().option("--connections", 40);
        let held = scene.client.place().load(&held)?.holding()?;
        scene.web.set("web-0", Condition::Unready)?;
        scene.publish()?;
        // Nobody moved: all forty still have the backend they began with.
        ensure_clean(&held.stop()?)?;
        scene.web.set("web-0", Condition::Gone)?;
        scene.web.publish(&scene.source)?;
        scene.forgotten("web-0")?;
        // When our own exchanges at a slower pace are done, each load has sent after the change was in force.
        let call = Call::connect(to).unconnected().rate(50).count(50);
        ensure_clean(&scene.client.place().call(&call)?)?;
        let mut survivors = Vec::new();
        for load in loads {
            let report = load.stop()?;
            ensure_clean(&report)?;
            ensure!(
                report.backends.len() <= 2,
                "moved more than once: {report:?}"
            );
            survivors.push(report.order.last().context("it sent something")?.clone());
        }
        ensure!(!survivors.contains(&"web-0".to_owned()), "{survivors:?}");
        Ok(())
    })
}
