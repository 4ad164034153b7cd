//! A hop where only 1,280 bytes fit, before the client or before the backend: bulk goes through both ways, because
//! the ICMP errors about it reach those who sent too much, about the packets that they know.
//!
//! The route's MTU makes a node that hop. That of an interface would not: what a peer sends into it is lost without a word.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Address, Call, Families, Lab, Needs, Outside, Place, ensure_clean, lead, node_port, settle,
    test,
};

const SMALL: &str = "mtu 1280";

/// Who calls what, and as whom the backend sees it.
struct Way {
    title: &'static str,
    client: Place,
    to: SocketAddr,
    seen: IpAddr,
}

/// A Service of one pod on node one, with an address of every kind.
fn outside(lab: &mut Lab) -> Result<Outside> {
    let mut outside = Outside::settled(lab, 1)?;
    let (one, two) = (outside.scene.one.clone(), outside.scene.two.clone());
    outside.add_addresses(&one)?;
    for to in Outside::EXTERNAL {
        lead(&outside.host, to, &two)?;
    }
    Ok(outside)
}

/// All ways to that pod.
fn ways(outside: &Outside) -> Result<Vec<Way>> {
    let scene = &outside.scene;
    let far = scene.two.pod("far-client")?;
    let mut ways = Vec::new();
    for cluster_ip in scene.all("http") {
        let of = |address: Address| {
            let mut all = address.all();
            let found = all.find(|ip| ip.is_ipv4() == cluster_ip.is_ipv4());
            found.context("there is no address of this family")
        };
        let (one, two) = (of(scene.one.address())?, of(scene.two.address())?);
        let host = of(outside.host.address())?;
        let (near, away) = (of(scene.client.address())?, of(far.address())?);
        let own = |addresses: [IpAddr; 2]| {
            let mut all = addresses.into_iter();
            let found = all.find(|ip| ip.is_ipv4() == cluster_ip.is_ipv4());
            let found = found.context("there is no address of this family")?;
            anyhow::Ok(SocketAddr::new(found, 80))
        };
        let all = [
            ("ClusterIP, local", outside.inside()?, cluster_ip, near),
            ("ClusterIP, remote", far.bare_place()?, cluster_ip, away),
            (
                "node port, local",
                outside.client(),
                node_port(one, 80),
                host,
            ),
            (
                "node port, remote",
                outside.client(),
                node_port(two, 80),
                two,
            ),
            (
                "load balancer's address, local",
                outside.client(),
                own(Outside::BALANCED)?,
                host,
            ),
            (
                "external IP, remote",
                outside.client(),
                own(Outside::EXTERNAL)?,
                two,
            ),
        ];
        ways.extend(all.map(|(title, client, to, seen)| Way {
            title,
            client,
            to,
            seen,
        }));
    }
    Ok(ways)
}

/// `-4` or `-6` for `ip`.
const fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "-4" } else { "-6" }
}

/// From now on no more fits on the way from a node to this address.
fn narrow(node: &Place, to: IpAddr) -> Result<()> {
    let family = family(to);
    let route = node.ip(&format!("{family} -o route get {to}"))?;
    let words: Vec<&str> = route.split_whitespace().collect();
    let after = |word| words.iter().skip_while(|it| **it != word).nth(1);
    let mut route = format!("{family} route replace {to}");
    for word in ["via", "dev", "src"] {
        if let Some(value) = after(word) {
            route.push_str(&format!(" {word} {value}"));
        }
    }
    node.ip(&format!("{route} {SMALL}")).map(drop)
}

/// Whether a sender knows that no more fits on the way to an address.
fn knows(sender: &Place, to: IpAddr) -> Result<bool> {
    let route = sender.ip(&format!("{} route get {to}", family(to)))?;
    Ok(route.contains(SMALL))
}

/// What other ways have taught a sender of the same route is forgotten.
fn forget(sender: &Place) -> Result<()> {
    for family in ["-4", "-6"] {
        sender.ip(&format!("{family} route flush cache"))?;
    }
    Ok(())
}

/// Bulk both ways, and datagrams that are larger than any hop.
fn bulk(way: &Way) -> Result<()> {
    let echo = Call::rr(way.to).option("--size", 65_536).count(50);
    ensure_clean(&way.client.call(&echo)?)?;
    let stream = Call::stream(way.to).option("--size", 65_536);
    let stream = way.client.call(&stream.option("--duration", 0.5))?;
    ensure_clean(&stream)?;
    ensure!(stream.bytes > 1_000_000, "{stream:?}");
    let datagrams = Call::rr(way.to).udp().option("--size", 8000).count(50);
    ensure_clean(&way.client.call(&datagrams)?)
}

/// Sets up, narrows, and tries each way; `sender` says who has to learn of it, on the way to whom.
fn try_each(
    outside: &Outside,
    ways: &[Way],
    narrow_all: impl FnOnce(&[Way]) -> Result<()>,
    sender: impl Fn(&Way) -> (Place, IpAddr),
) -> Result<()> {
    for way in ways {
        settle(&way.client, way.to, &outside.scene.web.ready())?;
    }
    narrow_all(ways)?;
    for way in ways {
        let title = || format!("{} {} as {}", way.title, way.to, way.seen);
        let (sender, to) = sender(way);
        forget(&sender)?;
        ensure!(!knows(&sender, to)?, "{} knew before", title());
        bulk(way).with_context(title)?;
        ensure!(
            knows(&sender, to)?,
            "{}: its sender has not learnt",
            title()
        );
    }
    Ok(())
}

#[test]
fn a_small_hop_before_the_backend() -> Result<()> {
    test("packet-mtu-backend", Needs::Agent, |lab| {
        let outside = outside(lab)?;
        let one = outside.scene.one.host();
        let narrow_all = |_: &[Way]| {
            for address in outside.scene.web.addresses_of("web-0")? {
                narrow(&one, address)?;
            }
            Ok(())
        };
        try_each(&outside, &ways(&outside)?, narrow_all, |way| {
            (way.client.clone(), way.to.ip())
        })
    })
}

#[test]
fn a_small_hop_before_the_client() -> Result<()> {
    test("packet-mtu-client", Needs::Agent, |lab| {
        let outside = outside(lab)?;
        let (one, two) = (outside.scene.one.host(), outside.scene.two.host());
        let server = outside.scene.web.pod("web-0")?.place();
        let narrow_all = |ways: &[Way]| {
            for way in ways {
                match way.title {
                    "ClusterIP, remote" => narrow(&two, way.seen)?,
                    title if title.ends_with("local") => narrow(&one, way.seen)?,
                    _ => {}
                }
            }
            for host in outside.host.address().all() {
                narrow(&two, host)?;
            }
            Ok(())
        };
        try_each(&outside, &ways(&outside)?, narrow_all, |way| {
            (server.clone(), way.seen)
        })
    })
}

/// The hop is a router beyond the nodes: its errors come from outside, and are about what left by a node.
#[test]
fn a_small_hop_beyond_the_node() -> Result<()> {
    test("packet-mtu-beyond", Needs::Agent, |lab| {
        let outside = outside(lab)?;
        let router = lab.node("router", Families::Dual)?;
        let (host, server) = (&outside.host, outside.scene.web.pod("web-0")?.place());
        for node in [&outside.scene.one, &outside.scene.two] {
            let own = node.address().all().zip(host.address().all());
            for ((node_ip, host_ip), via) in own.zip(router.address().all()) {
                node.host().ip(&format!("route add {host_ip} via {via}"))?;
                host.host().ip(&format!("route add {node_ip} via {via}"))?;
            }
        }
        // Errors go where the packets that they are about seemed to come from.
        for (addresses, node) in [
            (Outside::BALANCED, &outside.scene.one),
            (Outside::EXTERNAL, &outside.scene.two),
        ] {
            for to in addresses {
                lead(&router, to, node)?;
            }
        }
        let narrow_all = |_: &[Way]| {
            let mut hosts = host.address().all();
            hosts.try_for_each(|host| narrow(&router.host(), host))
        };
        let mut ways = ways(&outside)?;
        ways.retain(|way| !way.title.starts_with("ClusterIP"));
        try_each(&outside, &ways, narrow_all, |way| {
            (server.clone(), way.seen)
        })
    })
}
