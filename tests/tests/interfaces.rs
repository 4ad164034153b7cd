//! Pods come, are renamed, move and die: at each moment the kernel runs the agent's programs exactly where they belong,
//! and nothing of them is left when they are taken off.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    AgentOptions, Attached, Families, Needs, Node, Place, Scene, eventually, link_ids,
    pinned_links, test,
};
use serde_json::json;

/// `ip`, in a namespace.
fn ip(place: &Place, arguments: &str) -> Result<()> {
    let output = place.run(Path::new("ip"), arguments.split(' '))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {said}");
    Ok(())
}

/// What is to be attached: `eth0` is the device, the rest are pods.
fn wanted(pods: &[&str]) -> BTreeMap<String, Attached> {
    let pods = pods
        .iter()
        .map(|name| ((*name).to_owned(), Attached::pod()));
    let device = [("eth0".to_owned(), Attached::device())];
    pods.chain(device).collect()
}

/// Waits until the kernel has exactly this, and as many links are pinned.
fn attached(node: &Node, what: &str, wanted: &BTreeMap<String, Attached>) -> Result<()> {
    eventually(what, || {
        let found = Attached::all(&node.host())?;
        ensure!(found == *wanted, "{found:#?}, not {wanted:#?}");
        let links = pinned_links(node)?;
        ensure!(links.len() == 2 * wanted.len(), "{links:?}");
        Ok(())
    })
}

#[test]
fn programs_follow_pods_through_their_lives() -> Result<()> {
    test("if-life", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        let one = &scene.one;
        let host = one.host();
        attached(
            one,
            "the pods that were there",
            &wanted(&["veth1", "veth2"]),
        )?;
        one.pod("late")?;
        attached(one, "one that came", &wanted(&["veth1", "veth2", "veth3"]))?;
        ip(&host, "link set veth3 down")?;
        ip(&host, "link set veth3 name lxc3")?;
        attached(
            one,
            "one that was renamed",
            &wanted(&["veth1", "veth2", "lxc3"]),
        )?;
        ip(&host, "link set lxc3 up")?;
        ip(&host, "link del lxc3")?;
        attached(one, "one that died", &wanted(&["veth1", "veth2"]))?;
        // A veth whose both ends are here is nobody's pod.
        ip(&host, "link add both type veth peer name ends")?;
        ip(&host, "link set both up")?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        attached(one, "no pod's", &wanted(&["veth1", "veth2"]))?;
        let elsewhere = scene.two.host();
        let elsewhere = elsewhere.netns().display().to_string();
        ip(&host, &format!("link set ends netns {elsewhere}"))?;
        attached(one, "one that moved", &wanted(&["veth1", "veth2", "both"]))?;
        ip(&host, "link del both")?;
        attached(one, "one that went", &wanted(&["veth1", "veth2"]))
    })
}

const PODS: u32 = 200;

/// Lines for `ip` that make pods' veths `from..to`, with the indexes from `first` on. Those of a group can go at one
/// stroke.
fn veths(numbers: std::ops::Range<u32>, first: u32, group: u32, peer: &str) -> String {
    let line = |number| {
        let (name, index) = (format!("c{number}"), first + number);
        format!(
            "link add name {name} index {index} type veth peer name p{number} netns {peer}\n\
             link set {name} group {group} up\n"
        )
    };
    numbers.map(line).collect()
}

#[test]
fn indexes_names_and_addresses_are_used_again() -> Result<()> {
    test("if-churn", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        let (one, host) = (&scene.one, scene.one.host());
        let peer = scene.client.place().netns().display().to_string();
        let names: Vec<String> = (0..PODS).map(|number| format!("c{number}")).collect();
        let names = names.iter().map(String::as_str).chain(["veth1", "veth2"]);
        let all = wanted(&names.collect::<Vec<_>>());
        let few = wanted(&["veth1", "veth2"]);
        // The same names have the same indexes again, then others'.
        for first in [1000, 1000, 1100] {
            let (old, young) = (0..PODS / 2, PODS / 2..PODS);
            let mut lines = veths(old.clone(), first, 7, &peer);
            lines.push_str(&veths(young, first, 8, &peer));
            batch(lab.files(), &host, &lines)?;
            attached(one, "all are served", &all)?;
            // Half of them go and come again before anybody looks.
            let again = format!("link del group 7\n{}", veths(old, first, 7, &peer));
            batch(lab.files(), &host, &again)?;
            attached(one, "all are served again", &all)?;
            batch(lab.files(), &host, "link del group 7\nlink del group 8\n")?;
            attached(one, "all are gone", &few)?;
        }
        let metrics = scene.agent.metrics()?;
        let pods = metrics.sum("mesh_agent_interfaces", &[("place", "pod")]);
        ensure!((pods - 2.0).abs() < f64::EPSILON, "{pods}");
        scene.settle(scene.any()?)
    })
}

fn batch(files: &Path, place: &Place, lines: &str) -> Result<()> {
    let path = files.join("batch");
    std::fs::write(&path, lines).context("the batch cannot be written")?;
    ip(place, &format!("-batch {}", path.display()))
}

#[test]
fn a_kill_and_a_new_start_keep_the_links() -> Result<()> {
    test("if-kill", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        let all = Attached::all(&scene.one.host())?;
        ensure!(all.len() > 2, "{all:?}");
        let before = link_ids(&scene.one)?;
        for _ in 0..3 {
            scene.agent.kill()?;
            ensure!(
                Attached::all(&scene.one.host())? == all,
                "gone with the agent"
            );
            scene.agent = scene.one.agent()?;
            attached(&scene.one, "the same again", &all)?;
            ensure!(link_ids(&scene.one)? == before, "links were made anew");
        }
        Ok(())
    })
}

#[test]
fn what_changed_while_no_agent_ran_is_followed() -> Result<()> {
    test("if-late", Needs::Agent, |lab| {
        let mut scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        attached(&scene.one, "two pods", &wanted(&["veth1", "veth2"]))?;
        scene.agent.kill()?;
        scene.one.pod("late")?;
        ip(&scene.one.host(), "link del veth1")?;
        scene.agent = scene.one.agent()?;
        attached(
            &scene.one,
            "what is there now",
            &wanted(&["veth2", "veth3"]),
        )
    })
}

#[test]
fn cleanup_takes_the_programs_off() -> Result<()> {
    test("if-cleanup", Needs::Agent, |lab| {
        let mut scene = Scene::settled(lab)?;
        scene.agent.terminate()?;
        ensure!(
            !Attached::all(&scene.one.host())?.is_empty(),
            "nothing stayed"
        );
        scene.one.cli(&["cleanup"])?.ok()?;
        eventually("nothing is left", || {
            let left = Attached::all(&scene.one.host())?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
    })
}

/// How many network namespaces the agent has told the datapath of.
fn clients(node: &Node) -> Result<usize> {
    let mut bpftool = std::process::Command::new("bpftool");
    bpftool
        .args(["-j", "map", "dump", "pinned"])
        .arg(node.bpffs().join("clients_v1"));
    let output = bpftool.output().context("bpftool is not installed")?;
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    Ok(entries.len())
}

#[test]
fn local_pods_are_listed_with_their_addresses() -> Result<()> {
    test("if-list", Needs::Agent, |lab| {
        let scene = Scene::with(lab, Families::Dual, 2, &AgentOptions::default())?;
        let address = scene.client.address();
        let own = [address.v4.map(IpAddr::from), address.v6.map(IpAddr::from)];
        let own: Vec<String> = own.iter().flatten().map(IpAddr::to_string).collect();
        let client = eventually("the client is listed", || {
            let listed = scene.agent.json(&["endpoint", "list"])?;
            let mut items = listed["items"].as_array().into_iter().flatten();
            let client = items.find(|item| item["addresses"] == json!(own));
            client
                .cloned()
                .with_context(|| format!("no {own:?} in {listed}"))
        })?;
        ensure!(client["interface"] == "veth2", "{client}");
        let table = scene.agent.cli(&["endpoint", "list"])?.ok()?.stdout;
        ensure!(table.contains("veth2"), "{table}");
        eventually("both pods and the node are known at sockets", || {
            let clients = clients(&scene.one)?;
            ensure!(clients == 3, "{clients} are known");
            Ok(())
        })?;
        let checks = scene.agent.json(&["check"])?;
        let line = |code: &str| {
            let mut lines = checks["items"].as_array().into_iter().flatten();
            let line = lines.find(|it| it["code"] == code).cloned();
            line.with_context(|| format!("no {code} in {checks}"))
        };
        let devices = line("MESH019")?;
        ensure!(devices["level"] == "ok", "{devices}");
        ensure!(devices["what"].to_string().contains("eth0"), "{devices}");
        ensure!(line("MESH020")?["what"] == "2 local pods", "{checks}");
        Ok(())
    })
}

#[test]
fn devices_are_those_that_are_named() -> Result<()> {
    test("if-device", Needs::Agent, |lab| {
        let options = AgentOptions::flags(&["--device", "veth1"]);
        let scene = Scene::with(lab, Families::Dual, 2, &options)?;
        let named = BTreeMap::from([
            ("veth1".to_owned(), Attached::device()),
            ("veth2".to_owned(), Attached::pod()),
        ]);
        attached(&scene.one, "the named one alone", &named)
    })
}
