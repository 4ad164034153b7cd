//! A thousand pods come and go on one node, under traffic: each has the addresses, the name and index of the interface
//! of one that went, and belongs to another Service. Nobody is answered by a pod of the wrong Service, and nothing is
//! left of them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    AgentOptions, Attached, Call, Condition, Deployment, Families, Load, Needs, Place, Pod, Scene,
    ensure_clean, eventually, pinned_links, settle, test, traffic::Failure, values, web_ports,
};
use serde_json::Value;

const ROUNDS: usize = 20;
const PODS: usize = 50;
/// Of those that come, as many call.
const CALLERS: usize = 5;

/// Two Services that take turns: each has one pod that stays, so that it can always be called.
struct Turns {
    scene: Scene,
    services: [Deployment; 2],
    /// Calls where no hook sees its sockets.
    bare: Pod,
}

impl Turns {
    fn new(scene: Scene) -> Result<Self> {
        let addresses = [
            ["10.96.0.21", "fd00:10:96::21"],
            ["10.96.0.22", "fd00:10:96::22"],
        ];
        let [red, blue] = addresses;
        let mut services = [
            Deployment::new("red", &red, &web_ports())?,
            Deployment::new("blue", &blue, &web_ports())?,
        ];
        for service in &mut services {
            let stays = scene.two.pod(&format!("{}-stays", service.name()))?;
            service.add(&stays)?;
            service.publish(&scene.source)?;
        }
        let bare = scene.one.pod("bare")?;
        Ok(Self {
            scene,
            services,
            bare,
        })
    }

    /// Every kind of call to both Services, by sockets that hooks see and by those that none sees. Those that keep their
    /// port have flows that outlive the pods.
    fn loads(&self) -> Result<Vec<(String, Load)>> {
        let mut loads = Vec::new();
        for place in [self.scene.client.place(), self.bare.bare_place()?] {
            for service in &self.services {
                for call in calls(service)? {
                    let call = call.expect(service.name()).rate(50);
                    loads.push((format!("{call:?}"), place.load(&call)?));
                }
            }
        }
        Ok(loads)
    }

    /// Pods of a Service come, and serve.
    fn come(&mut self, turn: usize) -> Result<Vec<Pod>> {
        let service = &mut self.services[turn % 2];
        let names = (0..PODS).map(|number| format!("{}-{turn}-{number}", service.name()));
        let pods = self.scene.one.pods(&names.collect::<Vec<_>>())?;
        for pod in &pods {
            service.add(pod)?;
        }
        service.publish(&self.scene.source)?;
        settled(&self.scene.client.place(), service)?;
        Ok(pods)
    }

    /// Some call the other Service, by either path.
    fn call(&self, turn: usize, pods: &[Pod]) -> Result<()> {
        let other = &self.services[(turn + 1) % 2];
        for (number, pod) in pods.iter().take(CALLERS).enumerate() {
            let place = if number % 2 == 0 {
                pod.place()
            } else {
                pod.bare_place()?
            };
            for call in calls(other)? {
                let report = place.call(&call.expect(other.name()).count(5))?;
                ensure_clean(&report).with_context(|| pod.name().to_owned())?;
            }
        }
        Ok(())
    }

    /// They drain, leave the Service when nobody comes to them any more, and go. In two turns of four they die where they
    /// stand, and what is said of them comes after.
    fn go(&mut self, turn: usize, pods: &[Pod]) -> Result<()> {
        let service = &mut self.services[turn % 2];
        let dies = turn % 4 >= 2;
        if dies {
            for pod in pods {
                service.kill(pod.name())?;
            }
            self.scene.one.end_pods(pods)?;
        } else {
            retire(&self.scene, service, pods, Condition::Terminating)?;
        }
        retire(&self.scene, service, pods, Condition::Gone)?;
        forgotten(&self.scene, service, pods)?;
        service.stop_gone()?;
        if dies {
            return Ok(());
        }
        self.scene.one.end_pods(pods)
    }
}

/// Says so of them, and waits until new connections no longer go to them.
fn retire(
    scene: &Scene,
    service: &mut Deployment,
    pods: &[Pod],
    condition: Condition,
) -> Result<()> {
    for pod in pods {
        service.set(pod.name(), condition)?;
    }
    service.publish(&scene.source)?;
    settled(&scene.client.place(), service)
}

/// Waits until the agent knows of none of them, draining or not.
fn forgotten(scene: &Scene, service: &Deployment, pods: &[Pod]) -> Result<()> {
    let name = format!("default/{}", service.name());
    eventually("they are forgotten", || {
        let view = scene.agent.json(&["service", "get", &name])?;
        let shown = values(&view, "address").into_iter();
        let shown: BTreeSet<&str> = shown.filter_map(Value::as_str).collect();
        let mut left = pods.iter().flat_map(|pod| pod.address().all());
        ensure!(
            !left.any(|ip| shown.contains(ip.to_string().as_str())),
            "{view}"
        );
        Ok(())
    })
}

fn settled(client: &Place, service: &Deployment) -> Result<()> {
    for to in [service.v4("http")?, service.v6("http")?] {
        settle(client, to, &service.ready())?;
    }
    Ok(())
}

fn calls(service: &Deployment) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    for (tcp, udp) in [
        (service.v4("http")?, service.v4("dns")?),
        (service.v6("http")?, service.v6("dns")?),
    ] {
        calls.push(Call::connect(tcp));
        calls.push(Call::connect(udp).udp());
        calls.push(Call::connect(udp).unconnected().flag("--keep-socket"));
    }
    Ok(calls)
}

/// What the agent holds of pods on the node.
fn held(scene: &Scene) -> Result<[usize; 4]> {
    let count = |what: &[&str]| -> Result<usize> {
        let list = scene.agent.json(what)?;
        let items = list["items"].as_array().context("no list")?;
        // The id of a backend that is gone says so until it is another's.
        Ok(items.iter().filter(|item| item["state"] != "gone").count())
    };
    Ok([
        pinned_links(&scene.one)?.len(),
        count(&["endpoint", "list"])?,
        count(&["bpf", "clients"])?,
        count(&["bpf", "backends"])?,
    ])
}

#[test]
fn a_thousand_pods_with_addresses_of_others() -> Result<()> {
    test("packet-churn", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        let mut turns = Turns::new(scene)?;
        for service in &turns.services {
            settled(&turns.scene.client.place(), service)?;
        }
        let attached = Attached::all(&turns.scene.one.host())?;
        let before = held(&turns.scene)?;
        let loads = turns.loads()?;
        let mut first = None;
        for turn in 0..ROUNDS {
            let pods = turns.come(turn)?;
            let address = pods[0].address();
            ensure!(
                *first.get_or_insert(address) == address,
                "{address:?} is not used again"
            );
            turns.call(turn, &pods)?;
            turns.go(turn, &pods)?;
        }
        for (title, load) in loads {
            let report = load.stop()?;
            eprintln!("{title}: {} answered, {:?}", report.answered, report.errors);
            let wrong = report.failed(Failure::Misdirected) + report.failed(Failure::Peer);
            ensure!(
                wrong == 0 && report.answered > 1000,
                "{title}: {:?}, {:?}",
                report.errors,
                report.first_error
            );
        }
        eventually("nothing is left", || {
            let (now, after) = (Attached::all(&turns.scene.one.host())?, held(&turns.scene)?);
            ensure!(now == attached, "{now:#?}");
            ensure!(after == before, "{after:?}, not {before:?}");
            Ok(())
        })
    })
}
