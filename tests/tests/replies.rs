//! What a program sees of its peer: the Service that it asked for, in getpeername and in recvfrom.
//!
//! The traffic tool compares both for each exchange of every test; here are the cases that are easy to get wrong.

use anyhow::{Result, ensure};
use mesh_lab::{
    Call, Deployment, Endpoint, Families, Needs, Scene, Service, Slice, ensure_clean, test,
    web_ports,
};

#[test]
fn the_service_shows_in_both_families() -> Result<()> {
    test("replies", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        for to in scene.all("http") {
            scene.settle(to)?;
        }
        for place in [scene.client.place(), scene.one.host()] {
            for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
                for call in [
                    Call::connect(tcp),
                    Call::connect(tcp).mapped(),
                    Call::connect(udp).udp(),
                    Call::connect(udp).udp().mapped(),
                    Call::connect(udp).unconnected(),
                    Call::connect(udp).unconnected().mapped(),
                    Call::connect(udp).unconnected().flag("--keep-socket"),
                ] {
                    ensure_clean(&place.call(&call.count(100))?)?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn one_socket_that_asks_two_services_is_answered_by_each() -> Result<()> {
    test("replies-two", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::V4)?;
        let mut other = Deployment::new("other", &["10.96.0.20"], &web_ports())?;
        other.add(&scene.two.pod("other-0")?)?;
        other.publish(&scene.source)?;
        scene.settle(scene.any()?)?;
        mesh_lab::settle(&scene.client.place(), other.v4("http")?, &other.ready())?;
        let call = Call::connect(scene.web.v4("dns")?).also(other.v4("dns")?);
        let call = call.unconnected().flag("--keep-socket").count(200);
        let report = scene.client.place().call(&call)?;
        ensure_clean(&report)?;
        ensure!(report.by("other-0") == 100, "{report:?}");
        Ok(())
    })
}

#[test]
fn two_services_before_one_pod_are_told_apart() -> Result<()> {
    test("replies-shared", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::V4)?;
        let endpoints: Vec<Endpoint> = scene
            .web
            .addresses_of("web-0")?
            .into_iter()
            .map(Endpoint::ready)
            .collect();
        let mut calls = None;
        for (name, address) in [("first", "10.96.0.21"), ("second", "10.96.0.22")] {
            let service = Service::new(name, &[address.parse()?], &web_ports());
            let slice = Slice::new(&format!("{name}-1"), name, &web_ports(), &endpoints);
            scene
                .source
                .write(&format!("{name}.json"), &[service.json(), slice.json()])?;
            let to = format!("{address}:80").parse()?;
            mesh_lab::settle(&scene.client.place(), to, &["web-0".to_owned()])?;
            calls = Some(match calls {
                None => Call::connect(to),
                Some(call) => Call::also(call, to),
            });
        }
        let Some(call) = calls else {
            anyhow::bail!("there are two Services");
        };
        let call = call.unconnected().flag("--keep-socket").count(200);
        ensure_clean(&scene.client.place().call(&call)?)
    })
}

/// A socket that talks to a pod itself sees the pod, also when the pod is a Service's endpoint.
#[test]
fn a_pod_that_is_asked_directly_answers_as_itself() -> Result<()> {
    test("replies-direct", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        scene.settle(scene.any()?)?;
        for address in scene.web.addresses_of("web-1")? {
            let to = std::net::SocketAddr::new(address, 8080);
            for call in [
                Call::connect(to),
                Call::connect(to).udp(),
                Call::connect(to).unconnected(),
            ] {
                let report = scene.client.place().call(&call.count(50))?;
                ensure_clean(&report)?;
                ensure!(report.by("web-1") == 50, "{report:?}");
            }
        }
        Ok(())
    })
}
