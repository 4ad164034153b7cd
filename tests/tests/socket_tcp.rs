//! TCP through a ClusterIP at the socket: who is reached, how evenly, and through which port.

use anyhow::{Result, ensure};
use mesh_lab::{
    Agent, AgentOptions, Call, Endpoint, Families, Needs, PodManifest, Port, Scene, Service, Slice,
    assert_uniform, ensure_clean, eventually, settle, test, traffic::Failure,
};

#[test]
fn connections_are_spread_evenly_over_pods_of_both_nodes() -> Result<()> {
    test("tcp-even", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        for to in scene.all("http") {
            scene.settle(to)?;
            let report = scene.client.place().call(&Call::connect(to).count(2000))?;
            ensure_clean(&report)?;
            assert_uniform(&report.backends, &scene.web.ready())?;
        }
        Ok(())
    })
}

#[test]
fn each_node_serves_its_own_clients() -> Result<()> {
    test("tcp-nodes", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::V4)?;
        let far = scene.two.pod("far-client")?;
        let _agent: Agent = scene.two.agent()?;
        let to = scene.any()?;
        settle(&far.place(), to, &scene.web.ready())?;
        settle(&scene.client.place(), to, &scene.web.ready())
    })
}

#[test]
fn every_kind_of_exchange_goes_through() -> Result<()> {
    test("tcp-kinds", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::Dual)?;
        for to in scene.all("http") {
            scene.settle(to)?;
            let from = scene.client.place();
            ensure_clean(&from.call(&Call::crr(to).count(200).expect("web-"))?)?;
            ensure_clean(&from.call(&Call::rr(to).count(200))?)?;
            let stream = Call::stream(to).option("--size", 65536);
            let stream = from.call(&stream.option("--duration", 0.2))?;
            ensure_clean(&stream)?;
            ensure!(stream.bytes > 0, "{stream:?}");
        }
        Ok(())
    })
}

/// One number for TCP and UDP, and a second TCP port: each has a server of its own.
#[test]
fn ports_do_not_mix() -> Result<()> {
    test("tcp-ports", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        let (client, server) = (node.pod("client")?, node.pod("server")?);
        let ports = [
            Port::tcp("a", 80, 8001),
            Port::udp("b", 80, 8002),
            Port::tcp("c", 443, 8003),
        ];
        let mut servers = Vec::new();
        for port in &ports {
            servers.push(server.place().serve(&port.name, &[port.target])?);
        }
        let endpoints: Vec<Endpoint> = server.address().all().map(Endpoint::ready).collect();
        let service = Service::new("three", &["10.96.0.3".parse()?], &ports);
        let slice = Slice::new("three-1", "three", &ports, &endpoints);
        lab.source()
            .write("three.json", &[service.json(), slice.json()])?;
        let _agent = node.agent()?;
        let from = client.place();
        let (eighty, other) = ("10.96.0.3:80".parse()?, "10.96.0.3:443".parse()?);
        settle(&from, eighty, &["a".to_owned()])?;
        for (call, name) in [
            (Call::connect(eighty), "a"),
            (Call::connect(eighty).udp(), "b"),
            (Call::connect(eighty).unconnected(), "b"),
            (Call::connect(other), "c"),
        ] {
            let report = from.call(&call.count(50))?;
            ensure!(report.by(name) == 50, "{name}: {report:?}");
        }
        Ok(())
    })
}

#[test]
fn services_come_and_go() -> Result<()> {
    test("tcp-come-go", Needs::Agent, |lab| {
        let scene = Scene::new(lab, Families::V4)?;
        let to = scene.any()?;
        scene.settle(to)?;
        scene.source.remove("web.json")?;
        // Once more untranslated: nobody has the address.
        eventually("the Service is gone", || {
            let call = Call::connect(to).count(1).option("--timeout", 300);
            let report = scene.client.place().call(&call)?;
            let missed = report.failed(Failure::Unreachable) + report.failed(Failure::Timeout);
            ensure!(missed == 1, "{report:?}");
            Ok(())
        })?;
        scene.publish()
    })
}

#[test]
fn endpoints_come_from_pods_where_there_are_no_slices() -> Result<()> {
    test("tcp-from-pods", Needs::Agent, |lab| {
        let node = lab.node("one", Families::Dual)?;
        let ports = [Port::tcp("http", 80, 8080)];
        let addresses = ["10.96.0.4".parse()?, "fd00:10:96::4".parse()?];
        let service = Service::new("shop", &addresses, &ports).selector("shop");
        let mut objects = vec![service.json()];
        let mut servers = Vec::new();
        for name in ["shop-0", "shop-1"] {
            let pod = node.pod(name)?;
            servers.push(pod.place().serve(name, &[8080])?);
            objects.push(PodManifest::new(&pod, "shop", &ports).json());
        }
        let idle = node.pod("shop-2")?;
        objects.push(PodManifest::new(&idle, "shop", &ports).unready().json());
        let client = node.pod("client")?;
        let stranger = node.pod("stranger")?;
        objects.push(PodManifest::new(&stranger, "other", &ports).json());
        lab.source().write("shop.json", &objects)?;
        let _agent = node.agent()?;
        let names = ["shop-0".to_owned(), "shop-1".to_owned()];
        for to in ["10.96.0.4:80", "[fd00:10:96::4]:80"] {
            settle(&client.place(), to.parse()?, &names)?;
        }
        Ok(())
    })
}

#[test]
fn the_older_of_two_services_keeps_the_address() -> Result<()> {
    test("tcp-contend", Needs::Files, |lab| {
        let node = lab.node("one", Families::V4)?;
        let client = node.pod("client")?;
        let ports = [Port::tcp("http", 80, 8080)];
        let mut servers = Vec::new();
        for (name, created) in [
            ("younger", "2026-02-01T00:00:00Z"),
            ("elder", "2026-01-01T00:00:00Z"),
        ] {
            let pod = node.pod(name)?;
            servers.push(pod.place().serve(name, &[8080])?);
            let endpoints: Vec<Endpoint> = pod.address().all().map(Endpoint::ready).collect();
            let service = Service::new(name, &["10.96.0.5".parse()?], &ports).created(created);
            let slice = Slice::new(&format!("{name}-1"), name, &ports, &endpoints);
            lab.source()
                .write(&format!("{name}.json"), &[service.json(), slice.json()])?;
        }
        let agent = node.agent()?;
        let to = "10.96.0.5:80".parse()?;
        settle(&client.place(), to, &["elder".to_owned()])?;
        let status = agent
            .cli(&["service", "explain", "default/younger"])?
            .ok()?;
        ensure!(status.stdout.contains("elder"), "{}", status.stdout);
        lab.source().remove("elder.json")?;
        settle(&client.place(), to, &["younger".to_owned()])
    })
}

/// Headless and ExternalName Services have nothing to translate, and a pod is no Service.
#[test]
fn what_is_no_service_is_left_alone() -> Result<()> {
    test("tcp-alone", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        scene.settle(scene.any()?)?;
        let headless = Service::new("headless", &[], &[Port::tcp("http", 80, 8080)]);
        let mut external = Service::new("external", &[], &[]).json();
        external["spec"] =
            serde_json::json!({"type": "ExternalName", "externalName": "example.org"});
        scene
            .source
            .write("left.json", &[headless.json(), external])?;
        eventually("both are listed", || {
            let list = scene.agent.cli(&["service", "list"])?.ok()?.stdout;
            ensure!(
                list.contains("headless") && list.contains("external"),
                "{list}"
            );
            Ok(())
        })?;
        let pod = scene.two.pod("plain")?;
        let _server = pod.place().serve("plain", &[80])?;
        for address in pod.address().all() {
            let to = std::net::SocketAddr::new(address, 80);
            let report = scene.client.place().call(&Call::connect(to).count(20))?;
            ensure!(report.by("plain") == 20, "{report:?}");
        }
        Ok(())
    })
}
