//! The same random Services as in `service_model`, served by the real kube-proxy in nftables mode: where it answers
//! otherwise than the model (and so than the agent), the difference is a known one, and docs/services.md says who is right.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use mesh_lab::{Asked, KubeProxy, Needs, ProxyMode, Seen, ServiceWorld, test};
use service_model::{Answer, Protocol, Way, Why, World};

/// A difference with a reason.
struct Known {
    /// As docs/services.md has it.
    title: &'static str,
    is: fn(&Asked, &World) -> bool,
}

const KNOWN: [Known; 4] = [
    Known {
        title: "A policy is Local and no endpoint is on the node",
        is: |asked, _| {
            let is_silent = matches!(asked.seen, Seen::Silence | Seen::Denied);
            asked.wanted == Answer::Refused(Why::NoLocalEndpoints) && is_silent
        },
    },
    Known {
        title: "Datagrams of the node's processes that nobody may answer",
        is: |asked, _| {
            let is_nobodys = matches!(asked.wanted, Answer::Refused(_) | Answer::Dropped);
            let question = &asked.question;
            let is_of_host = question.client.way == Way::Host && question.protocol == Protocol::Udp;
            is_nobodys && is_of_host && asked.seen == Seen::Denied
        },
    },
    Known {
        title: "Addresses of the Service range that nobody serves",
        is: |asked, _| {
            // Elsewhere silence is no difference: where the routes lead nobody is either.
            let is_of_host = asked.question.client.way == Way::Host;
            asked.wanted == Answer::Passes && is_of_host && asked.seen == Seen::Denied
        },
    },
    Known {
        title: "EndpointSlices that contradict each other",
        is: |asked, world| world.contradicts(&asked.question),
    },
];

#[test]
fn where_kube_proxy_differs_is_known() -> Result<()> {
    test("model-proxy", Needs::ControlPlane, |lab| {
        lab.use_control_plane()?;
        let seed = ServiceWorld::seed()?;
        let world = ServiceWorld::new(lab, seed)?;
        lab.source().write("world.json", &world.manifests())?;
        let one = world.node("one")?;
        let mut proxy = KubeProxy::beside(one, ProxyMode::Nftables)?;
        let asked = world.ask_all("one", seed)?;
        ensure!(proxy.runs()?, "kube-proxy ended meanwhile");
        let mut unknown = Vec::new();
        let mut counts = BTreeMap::new();
        for asked in asked.iter().filter(|it| !it.agrees) {
            match KNOWN.iter().find(|known| (known.is)(asked, &world.world)) {
                Some(known) => *counts.entry(known.title).or_insert(0) += 1,
                None => unknown.push(asked),
            }
        }
        println!("of {} questions differ: {counts:?}", asked.len());
        ensure!(
            unknown.is_empty(),
            "MESH_SEED={seed}: {}",
            world.tell(&unknown)
        );
        Ok(())
    })
}

#[test]
fn each_known_difference_is_explained() {
    let text = include_str!("../../docs/services.md");
    for known in KNOWN {
        let row = format!("| {} |", known.title);
        assert!(text.contains(&row), "no {row}");
    }
}
