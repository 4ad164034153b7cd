//! IPv6 alone, both families side by side, and IPv4 through AF_INET6 sockets.

use anyhow::{Result, ensure};
use mesh_lab::{
    Call, Families, Needs, Scene, assert_uniform, ensure_clean, test, traffic::Failure,
};

fn calls(to: std::net::SocketAddr, udp: std::net::SocketAddr) -> [Call; 3] {
    [
        Call::connect(to),
        Call::connect(udp).udp(),
        Call::connect(udp).unconnected(),
    ]
}

#[test]
fn a_cluster_without_ipv4_is_served() -> Result<()> {
    test("v6-alone", Needs::Files, |lab| {
        let scene = Scene::new(lab, Families::V6)?;
        let (to, udp) = (scene.web.v6("http")?, scene.web.v6("dns")?);
        scene.settle(to)?;
        for call in calls(to, udp) {
            let report = scene.client.place().call(&call.count(1000))?;
            ensure_clean(&report)?;
            assert_uniform(&report.backends, &scene.web.ready())?;
        }
        Ok(())
    })
}

#[test]
fn ipv4_is_served_through_sockets_of_ipv6() -> Result<()> {
    test("v6-mapped", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        let (to, udp) = (scene.web.v4("http")?, scene.web.v4("dns")?);
        scene.settle(to)?;
        for call in calls(to, udp) {
            // The tool checks that getpeername and recvfrom show ::ffff:a.b.c.d of the Service.
            let report = scene.client.place().call(&call.mapped().count(1000))?;
            ensure_clean(&report)?;
            assert_uniform(&report.backends, &scene.web.ready())?;
        }
        let undefined = std::net::SocketAddr::new(to.ip(), 81);
        for call in calls(undefined, undefined) {
            let report = scene.client.place().call(&call.mapped().count(5))?;
            ensure!(report.failed(Failure::Refused) == 5, "{report:?}");
        }
        Ok(())
    })
}

#[test]
fn one_unconnected_socket_of_ipv6_serves_both_families() -> Result<()> {
    test("v6-both", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        scene.settle(scene.web.v4("http")?)?;
        scene.settle(scene.web.v6("http")?)?;
        // An AF_INET6 socket for the IPv6 address that is asked for IPv4 in turn.
        let call = Call::connect(scene.web.v6("dns")?).also(scene.web.v4("dns")?);
        let call = call.unconnected().mapped().flag("--keep-socket").count(200);
        let report = scene.client.place().call(&call)?;
        ensure_clean(&report)?;
        ensure!(
            report.backends.len() <= 2,
            "one backend a family: {report:?}"
        );
        Ok(())
    })
}

#[test]
fn a_cluster_without_ipv6_is_served() -> Result<()> {
    test("v4-alone", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::V4)?;
        let (to, udp) = (scene.web.v4("http")?, scene.web.v4("dns")?);
        scene.settle(to)?;
        for call in calls(to, udp) {
            ensure_clean(&scene.client.place().call(&call.count(200))?)?;
        }
        Ok(())
    })
}
