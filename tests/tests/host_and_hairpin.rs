//! Host processes as clients and as endpoints, and pods that reach themselves through their own Service.

use anyhow::{Result, ensure};
use mesh_lab::{
    AgentOptions, Call, Endpoint, Families, Needs, Port, Scene, Service, Slice, assert_uniform,
    ensure_clean, settle, test,
};

#[test]
fn host_processes_are_served() -> Result<()> {
    test("host", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        let host = scene.one.host();
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            settle(&host, tcp, &scene.web.ready())?;
            for call in [
                Call::connect(tcp),
                Call::connect(udp).udp(),
                Call::connect(udp).unconnected(),
            ] {
                let report = host.call(&call.count(1000))?;
                ensure_clean(&report)?;
                assert_uniform(&report.backends, &scene.web.ready())?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_pod_reaches_itself_through_its_own_service() -> Result<()> {
    test("hairpin", Needs::Agent, |lab| {
        let options = AgentOptions::default();
        let mut scene = Scene::with(lab, Families::Dual, 0, &options)?;
        let pod = scene.one.pod("itself")?;
        scene.web.add(&pod)?;
        scene.publish()?;
        for (tcp, udp) in scene.all("http").into_iter().zip(scene.all("dns")) {
            settle(&pod.place(), tcp, &scene.web.ready())?;
            for call in [
                Call::connect(tcp),
                Call::connect(udp).udp(),
                Call::connect(udp).unconnected(),
                Call::rr(tcp),
            ] {
                let report = pod.place().call(&call.count(100))?;
                ensure_clean(&report)?;
                ensure!(report.answered == 100, "{report:?}");
            }
        }
        Ok(())
    })
}

/// Endpoints that are host processes: their address is their node's.
#[test]
fn host_processes_are_endpoints() -> Result<()> {
    test("host-endpoint", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 0, &AgentOptions::default())?;
        let ports = [Port::tcp("http", 80, 9000), Port::udp("dns", 80, 9000)];
        let mut servers = Vec::new();
        let mut endpoints = Vec::new();
        for node in [&scene.one, &scene.two] {
            let addresses: Vec<_> = node.address().all().collect();
            servers.push(node.host().serve_on(node.name(), &addresses, &[9000])?);
            endpoints.extend(addresses.into_iter().map(Endpoint::ready));
        }
        let addresses = ["10.96.0.30".parse()?, "fd00:10:96::30".parse()?];
        let mut objects = vec![Service::new("hosts", &addresses, &ports).json()];
        let slices = Slice::by_family("hosts", &ports, &endpoints);
        objects.extend(slices.iter().map(Slice::json));
        scene.source.write("hosts.json", &objects)?;
        let names = ["one".to_owned(), "two".to_owned()];
        let by_packets = scene.client.bare_place()?;
        for place in [scene.client.place(), scene.one.host(), by_packets] {
            for to in ["10.96.0.30:80", "[fd00:10:96::30]:80"] {
                let to = to.parse()?;
                settle(&place, to, &names)?;
                ensure_clean(&place.call(&Call::connect(to).udp().count(100))?)?;
                ensure_clean(&place.call(&Call::connect(to).unconnected().count(100))?)?;
            }
        }
        Ok(())
    })
}
