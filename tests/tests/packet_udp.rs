//! Datagrams without a socket hook: one source port that goes on while backends come and go, and datagrams in parts.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Call, Condition, Load, Needs, Outside, Place, ensure_clean, test, traffic::Report};

/// Datagrams a second of each client.
const RATE: u64 = 100;
/// Milliseconds after which one that was not answered is lost.
const PATIENCE: u64 = 200;

/// One socket, so one source port, that goes on asking; connected or not.
fn kept(to: SocketAddr) -> [Call; 2] {
    let call = Call::connect(to).rate(RATE).option("--timeout", PATIENCE);
    let call = call.flag("--keep-socket").flag("--order");
    [call.clone().udp(), call.unconnected()]
}

/// Clients of every address: of the ClusterIP from inside, of the node ports from outside.
fn clients(outside: &Outside) -> Result<Vec<(String, Load)>> {
    let (inside, client) = (outside.inside()?, outside.client());
    let of = |place: &Place, to: SocketAddr| {
        kept(to).map(|call| Ok((format!("{call:?}"), place.load(&call)?)))
    };
    let cluster_ips = outside.scene.all("dns");
    let inside = cluster_ips.into_iter().flat_map(|to| of(&inside, to));
    let node_ports = outside.node_ports(80);
    let client = node_ports.into_iter().flat_map(|to| of(&client, to));
    inside.chain(client).collect()
}

/// Ends them all; the last answers, those of a second after the change at least, are the newcomer's alone.
fn stop_at(loads: Vec<(String, Load)>, newcomer: &str) -> Result<Vec<(String, Report)>> {
    std::thread::sleep(Duration::from_millis(1500));
    let mut reports = Vec::new();
    for (title, load) in loads {
        let report = load.stop()?;
        let last = report.order.iter().rev().take(usize::try_from(RATE / 2)?);
        let last: Vec<&String> = last.collect();
        ensure!(!last.is_empty(), "{title}: {report:?}");
        ensure!(
            last.iter().all(|name| *name == newcomer),
            "{title}: {report:?}"
        );
        reports.push((title, report));
    }
    Ok(reports)
}

/// As a rolling update does it: the new one is ready, the old one drains, then it is gone, and only then it ends.
#[test]
fn a_port_goes_on_while_a_server_is_replaced() -> Result<()> {
    test("packet-udp-roll", Needs::Agent, |lab| {
        let mut outside = Outside::settled(lab, 1)?;
        let loads = clients(&outside)?;
        for number in 1..4 {
            let (old, new) = (format!("web-{}", number - 1), format!("web-{number}"));
            let node = [&outside.scene.one, &outside.scene.two][number % 2];
            let pod = node.pod(&new)?;
            let web = &mut outside.scene.web;
            web.add(&pod)?;
            for condition in [Condition::Terminating, Condition::Gone] {
                web.set(&old, condition)?;
                web.publish(&outside.scene.source)?;
            }
            outside.settle()?;
            outside.scene.web.stop(&old)?;
        }
        for (title, report) in stop_at(loads, "web-3")? {
            ensure_clean(&report).with_context(|| title)?;
        }
        Ok(())
    })
}

/// Nobody drains: the server dies, and later the Service has another. What is lost is what was sent in between.
#[test]
fn a_port_goes_on_after_its_server_died() -> Result<()> {
    test("packet-udp-die", Needs::Agent, |lab| {
        let mut outside = Outside::settled(lab, 1)?;
        let loads = clients(&outside)?;
        let pod = outside.scene.two.pod("web-1")?;
        std::thread::sleep(Duration::from_secs(1));
        let begin = Instant::now();
        let web = &mut outside.scene.web;
        web.kill("web-0")?;
        std::thread::sleep(Duration::from_millis(300));
        web.add(&pod)?;
        web.set("web-0", Condition::Gone)?;
        web.publish(&outside.scene.source)?;
        outside.settle()?;
        let change = u64::try_from(begin.elapsed().as_millis())?;
        let mut worst = 0;
        for (title, report) in stop_at(loads, "web-1")? {
            let lost: u64 = report.errors.values().sum();
            let most = change * RATE / 1000 + 2;
            ensure!(
                lost > 0,
                "{title}: nothing was lost, so nothing died: {report:?}"
            );
            ensure!(
                lost <= most,
                "{title}: {lost} lost in {change} ms: {report:?}"
            );
            worst = worst.max(lost);
        }
        eprintln!("at most {worst} datagrams lost in a change of {change} ms");
        Ok(())
    })
}

/// 8,000 bytes are six parts. They come back as they went.
#[test]
fn datagrams_in_parts_go_both_ways() -> Result<()> {
    test("packet-parts", Needs::Agent, |lab| {
        let outside = Outside::settled(lab, 4)?;
        let inside = outside.scene.all("dns").into_iter();
        let inside = inside.map(|to| (outside.inside(), to));
        let ports = outside.node_ports(80).into_iter();
        let ports = ports.map(|to| (Ok(outside.client()), to));
        for (place, to) in inside.chain(ports) {
            let place = place?;
            for call in [Call::rr(to).udp(), Call::rr(to).unconnected()] {
                let call = call.option("--size", 8000).option("--parallel", 4);
                ensure_clean(&place.call(&call.count(400))?).with_context(|| to.to_string())?;
            }
        }
        Ok(())
    })
}
