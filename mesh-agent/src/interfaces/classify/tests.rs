//! Values for what each kind of interface is taken for.

use std::net::IpAddr;

use super::*;
use crate::interfaces::snapshot::Carried;

fn link(name: &str, kind: &str) -> Link {
    Link {
        name: name.to_owned(),
        kind: kind.to_owned(),
        hardware: ETHERNET,
        up: true,
        ..Default::default()
    }
}

fn veth(name: &str, nsid: i32, peer: u32) -> Link {
    Link {
        nsid: Some(nsid),
        peer: Some(peer),
        ..link(name, "veth")
    }
}

fn carried(addresses: &[&str]) -> Vec<Carried> {
    let parse = |text: &&str| Carried {
        address: text.parse::<IpAddr>().unwrap(),
        scope: if text.starts_with("fe80") { 253 } else { 0 },
    };
    addresses.iter().map(parse).collect()
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|text| text.parse().unwrap()).collect()
}

/// lo, eth0, a bridge of one pod, and a routed pod whose host side carries the gateway's address.
fn node() -> Snapshot {
    let mut lo = link("lo", "");
    lo.hardware = LOOPBACK;
    let mut bridged = veth("veth1", 0, 2);
    bridged.master = Some(3);
    let links = [
        (1, lo),
        (2, link("eth0", "")),
        (3, link("cni0", "bridge")),
        (4, bridged),
        (5, veth("veth2", 1, 2)),
    ];
    let addresses = [
        (1, carried(&["127.0.0.1", "::1", "10.9.9.9"])),
        (
            2,
            carried(&["192.0.2.10", "192.0.2.9", "2001:db8::10", "fe80::1"]),
        ),
        (3, carried(&["10.1.0.1"])),
        (5, carried(&["10.1.0.1", "fe80::2"])),
    ];
    let inside = |text: &[&str]| {
        let docker = (7, carried(&["172.17.0.1"]));
        [(1, carried(&["127.0.0.1"])), (2, carried(text)), docker].into()
    };
    Snapshot {
        links: links.into(),
        addresses: addresses.into(),
        peers: [
            (0, inside(&["10.1.0.2", "fd00::2", "fe80::3"])),
            (1, inside(&["10.1.0.3"])),
        ]
        .into(),
    }
}

fn devices(names: &[&str]) -> Options {
    Options {
        devices: Some(names.iter().map(|name| (*name).to_owned()).collect()),
    }
}

#[test]
fn pods_are_veths_into_other_namespaces_with_the_addresses_of_their_peers() {
    let found = classify(&node(), &Options::default());
    assert_eq!(found.pods.keys().copied().collect::<Vec<_>>(), [4, 5]);
    assert_eq!(found.pods[&4].addresses, set(&["10.1.0.2", "fd00::2"]));
    assert_eq!(found.pods[&4].nsid, Some(0));
    assert_eq!(found.pods[&5].addresses, set(&["10.1.0.3"]));
}

#[test]
fn devices_carry_global_addresses_and_the_first_is_the_primary() {
    let found = classify(&node(), &Options::default());
    assert_eq!(found.devices.keys().copied().collect::<Vec<_>>(), [2]);
    let device = &found.devices[&2];
    assert_eq!(device.v4, Some("192.0.2.10".parse().unwrap()));
    assert_eq!(device.v6, Some("2001:db8::10".parse().unwrap()));
    let all = set(&["192.0.2.10", "192.0.2.9", "2001:db8::10"]);
    assert_eq!(device.addresses, all);
    assert_eq!(found.node_addresses(), all);
}

#[test]
fn a_bridge_of_pods_is_no_device_and_said_so() {
    let found = classify(&node(), &Options::default());
    assert_eq!(found.others["cni0"], Unserved::PodBridge);
}

#[test]
fn a_bridge_without_pods_is_a_device() {
    let mut node = node();
    node.links.remove(&4);
    let found = classify(&node, &Options::default());
    assert!(found.devices.contains_key(&3));
}

#[test]
fn an_interface_that_is_down_or_has_link_addresses_alone_is_nothing() {
    let mut node = node();
    node.links.get_mut(&2).unwrap().up = false;
    assert!(classify(&node, &Options::default()).devices.is_empty());
    node.links.get_mut(&2).unwrap().up = true;
    node.addresses.insert(2, carried(&["fe80::1"]));
    let found = classify(&node, &Options::default());
    assert!(found.devices.is_empty() && !found.others.contains_key("eth0"));
}

#[test]
fn named_devices_are_the_only_ones_whatever_they_are() {
    let mut node = node();
    node.links.get_mut(&2).unwrap().up = false;
    let found = classify(&node, &devices(&["veth2", "eth1"]));
    assert_eq!(found.devices.keys().copied().collect::<Vec<_>>(), [5]);
    assert_eq!(found.pods.keys().copied().collect::<Vec<_>>(), [4]);
    assert_eq!(found.unknown_devices, ["eth1"]);
    let found = classify(&node, &devices(&["eth0"]));
    assert_eq!(found.devices[&2].name, "eth0");
}

#[test]
fn a_container_node_reaches_the_world_by_a_veth() {
    let mut node = node();
    let mut uplink = veth("eth0", 3, 44);
    uplink.peer_is_port = true;
    node.links.insert(2, uplink);
    let found = classify(&node, &Options::default());
    assert!(found.devices.contains_key(&2));
    // A bridge in a pod does not make its veth an uplink.
    node.addresses.remove(&2);
    let found = classify(&node, &Options::default());
    assert!(found.pods.contains_key(&2));
}

#[test]
fn taps_are_pods_and_tunnels_are_devices() {
    let mut node = node();
    node.links.insert(6, link("tap0", "tun"));
    let mut tunnel = link("wg0", "wireguard");
    tunnel.hardware = 65534;
    node.links.insert(7, tunnel);
    node.addresses.insert(7, carried(&["10.7.0.1"]));
    let found = classify(&node, &Options::default());
    assert_eq!(found.pods[&6].nsid, None);
    assert!(found.pods[&6].addresses.is_empty());
    assert_eq!(found.devices[&7].header, LinkHeader::None);
    assert_eq!(found.devices[&2].header, LinkHeader::Ethernet);
    // InfiniBand.
    node.links.get_mut(&7).unwrap().hardware = 32;
    for options in [Options::default(), devices(&["wg0"])] {
        let found = classify(&node, &options);
        assert_eq!(found.others["wg0"], Unserved::OtherHeader);
        assert!(!found.devices.contains_key(&7) && found.unknown_devices.is_empty());
    }
}

#[test]
fn pods_of_other_kinds_are_named() {
    let mut node = node();
    let mut netkit = veth("nk1", 4, 2);
    netkit.kind = "netkit".to_owned();
    node.links.insert(8, netkit);
    let found = classify(&node, &Options::default());
    assert_eq!(found.others["nk1"], Unserved::PodKind("netkit"));
}
