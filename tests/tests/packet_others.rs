//! Programs of others at an interface of ours: what comes to them is translated, each way.

use std::{net::IpAddr, path::Path};

use anyhow::{Context, Result, ensure};
use mesh_lab::{AgentOptions, Call, Families, Needs, Place, Scene, ensure_clean, test, values};
use serde_json::Value;

/// An interface that takes copies and leads nowhere.
const NOWHERE: &str = "nowhere";

fn tc(node: &Place, arguments: &str) -> Result<String> {
    let output = node.run(Path::new("tc"), arguments.split(' '))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tc {arguments}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Filters of tc at one hook of an interface, which come after programs on tcx.
struct Filters<'a> {
    node: &'a Place,
    link: &'a str,
    hook: &'a str,
}

impl Filters<'_> {
    /// Copies what has this address, and goes on.
    fn add(&self, preference: u32, field: &str, ip: IpAddr) -> Result<()> {
        let (protocol, header, length) = match ip {
            IpAddr::V4(_) => ("ip", "ip", 32),
            IpAddr::V6(_) => ("ipv6", "ip6", 128),
        };
        let (link, hook) = (self.link, self.hook);
        tc(
            self.node,
            &format!(
                "filter add dev {link} {hook} pref {preference} protocol {protocol} u32 match {header} {field} \
                 {ip}/{length} action mirred egress mirror dev {NOWHERE}"
            ),
        )
        .map(drop)
    }

    /// How many packets it has copied.
    fn copied(&self, preference: u32) -> Result<u64> {
        let shown = format!(
            "-s -j filter show dev {} {} pref {preference}",
            self.link, self.hook
        );
        let shown: Value = serde_json::from_str(&tc(self.node, &shown)?)?;
        let packets = values(&shown, "packets");
        let packets = packets.first().and_then(|it| it.as_u64());
        packets.with_context(|| shown.to_string())
    }
}

#[test]
fn programs_of_others_get_what_is_translated() -> Result<()> {
    test("packet-others", Needs::Agent, |lab| {
        const CALLS: u64 = 100;
        let scene = Scene::with(lab, Families::Dual, 1, &AgentOptions::default())?;
        let (node, link) = (scene.one.host(), scene.client.link());
        let client = scene.client.bare_place()?;
        node.ip(&format!("link add name {NOWHERE} type bridge"))?;
        node.ip(&format!("link set {NOWHERE} up"))?;
        tc(&node, &format!("qdisc add dev {link} clsact"))?;
        let at = |hook| Filters {
            node: &node,
            link: &link,
            hook,
        };
        let (requests, replies) = (at("ingress"), at("egress"));
        let backends = scene.web.addresses_of("web-0")?;
        for (number, (to, backend)) in (1..)
            .step_by(2)
            .zip(scene.all("http").into_iter().zip(backends))
        {
            scene.settle(to)?;
            for (filters, field, translated, not) in [
                (&requests, "dst", backend, to.ip()),
                (&replies, "src", to.ip(), backend),
            ] {
                filters.add(number, field, translated)?;
                filters.add(number + 1, field, not)?;
            }
            ensure_clean(&client.call(&Call::crr(to).count(CALLS))?)?;
            for filters in [&requests, &replies] {
                let (translated, not) = (filters.copied(number)?, filters.copied(number + 1)?);
                // A connection has three packets each way at least.
                ensure!(
                    translated >= 3 * CALLS && not == 0,
                    "{} {to}: {translated}, and {not} that are not translated",
                    filters.hook
                );
            }
        }
        Ok(())
    })
}
