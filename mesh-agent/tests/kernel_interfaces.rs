//! Interfaces as this kernel tells of them: a node's namespace with real veths, bridges and pods, made by `ip`, and what
//! the watch sends while they come, change and go.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{
    collections::BTreeSet,
    net::IpAddr,
    ops::ControlFlow,
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mesh_agent::interfaces::{Clients, Interfaces, Options, Stop, Update, Watch, look_once};
use nix::sched::{CloneFlags, unshare};

/// The namespace of the test's thread is the node; pods are named namespaces.
struct Node {
    name: String,
    pods: BTreeSet<String>,
}

impl Node {
    fn enter(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            assert!(
                std::env::var_os("CI").is_none(),
                "the kernel tests need root in CI"
            );
            eprintln!("SKIPPED: kernel tests need root");
            return None;
        }
        let node = Self {
            name: format!("mesh-if-{name}-{}", std::process::id()),
            pods: BTreeSet::new(),
        };
        ip("link set lo up");
        Some(node)
    }

    /// A namespace of this test's own.
    fn netns(&mut self, pod: &str) -> String {
        let netns = format!("{}-{pod}", self.name);
        if self.pods.insert(netns.clone()) {
            ip(&format!("netns add {netns}"));
        }
        netns
    }

    /// A pod as a CNI makes it: the veth first, then its address.
    fn pod(&mut self, pod: &str, link: &str, address: &str) {
        let netns = self.netns(pod);
        ip(&format!(
            "link add {link} type veth peer name eth0 netns {netns}"
        ));
        ip(&format!("link set {link} up"));
        ip(&format!("-n {netns} link set eth0 up"));
        ip(&format!("-n {netns} addr add {address} dev eth0"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for netns in &self.pods {
            ip(&format!("netns del {netns}"));
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.expect("ip is installed");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// A watch on a thread of its own, which is in this thread's namespace.
struct Watching {
    updates: Receiver<Update>,
    last: Interfaces,
    clients: Clients,
    said: Vec<String>,
    stop: Option<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Watching {
    fn start(options: Options) -> Self {
        let (watch, stop) = Watch::open(options, vec!["/run/netns".into()]).unwrap();
        let (sender, updates) = channel();
        let thread = std::thread::spawn(move || {
            watch.run(|update| match sender.send(update) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
        });
        Self {
            updates,
            last: Interfaces::default(),
            clients: Clients::new(),
            said: Vec::new(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Takes updates until they say so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Interfaces) -> bool) {
        let until = Instant::now() + Duration::from_secs(3);
        while !is_so(&self.last) {
            let left = until.saturating_duration_since(Instant::now());
            match self.updates.recv_timeout(left) {
                Ok(update) => {
                    let said = update.differences.iter().map(ToString::to_string);
                    self.said.extend(said);
                    self.last = update.interfaces;
                    self.clients = update.clients;
                }
                Err(_) => panic!("not within 3 s: {what}; {:#?}, {:#?}", self.last, self.said),
            }
        }
    }

    fn number(&self, name: &str) -> u64 {
        let mut pods = self.last.pods.values();
        pods.find(|pod| pod.name == name).unwrap().first_seen
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn has(interfaces: &Interfaces, name: &str, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    let mut pods = interfaces.pods.values();
    pods.any(|pod| pod.name == name && pod.addresses == [address].into())
}

#[test]
fn devices_and_bridges_are_told_apart() {
    let Some(mut node) = Node::enter("kinds") else {
        return;
    };
    let switch = node.netns("switch");
    ip(&format!("-n {switch} link add br0 type bridge"));
    ip(&format!(
        "link add eth0 type veth peer name port1 netns {switch}"
    ));
    ip(&format!("-n {switch} link set port1 master br0 up"));
    ip("addr add 192.0.2.10/24 dev eth0");
    ip("addr add 2001:db8::10/64 dev eth0 nodad");
    ip("link set eth0 up");
    ip("link add cni0 type bridge");
    ip("addr add 10.1.0.1/24 dev cni0");
    ip("link set cni0 up");
    node.pod("a", "veth1", "10.1.0.2/24");
    ip("link set veth1 master cni0");
    node.pod("b", "veth2", "10.1.1.2/32");
    ip("addr add 10.1.1.1/32 dev veth2");
    let found = look_once(&Options::default()).unwrap();
    let devices: Vec<_> = found.devices.values().collect();
    assert_eq!(devices.len(), 1, "{found:#?}");
    assert_eq!(devices[0].v4, Some("192.0.2.10".parse().unwrap()));
    assert_eq!(devices[0].v6, Some("2001:db8::10".parse().unwrap()));
    assert!(has(&found, "veth1", "10.1.0.2"), "{found:#?}");
    assert!(has(&found, "veth2", "10.1.1.2"), "{found:#?}");
    assert!(found.others.contains_key("cni0"));
    let named = Options {
        devices: Some(vec!["cni0".to_owned(), "eth7".to_owned()]),
    };
    let found = look_once(&named).unwrap();
    let devices: Vec<_> = found.devices.values().map(|it| &it.name).collect();
    assert_eq!(devices, ["cni0"]);
    assert_eq!(found.unknown_devices, ["eth7"]);
}

#[test]
fn a_pod_is_followed_through_its_life() {
    let Some(mut node) = Node::enter("life") else {
        return;
    };
    let mut watching = Watching::start(Options::default());
    node.pod("a", "veth1", "10.1.0.2/32");
    watching.until("it came", |all| has(all, "veth1", "10.1.0.2"));
    let first = watching.number("veth1");
    let known = watching.clients.values().filter(|it| it.local_pod);
    let known: Vec<_> = known.map(|it| it.v4).collect();
    assert_eq!(known, [Some("10.1.0.2".parse().unwrap())]);
    assert_eq!(watching.clients.len(), 2, "the pod and the node");
    // An address in the pod's namespace alone.
    let netns = node.netns("a");
    ip(&format!("-n {netns} addr add 10.1.0.3/32 dev eth0"));
    ip(&format!("-n {netns} addr del 10.1.0.2/32 dev eth0"));
    watching.until("its address changed", |all| has(all, "veth1", "10.1.0.3"));
    ip("link set veth1 down");
    ip("link set veth1 name lxc1");
    watching.until("it was renamed", |all| has(all, "lxc1", "10.1.0.3"));
    assert_eq!(watching.number("lxc1"), first);
    // The peer goes to another namespace, and gets another address there.
    let other = node.netns("b");
    ip(&format!("-n {netns} link set eth0 netns {other}"));
    ip(&format!("-n {other} link set eth0 up"));
    ip(&format!("-n {other} addr add 10.1.0.4/32 dev eth0"));
    watching.until("its peer moved", |all| has(all, "lxc1", "10.1.0.4"));
    assert!(watching.number("lxc1") > first);
    ip("link del lxc1");
    watching.until("it went", |all| all.pods.is_empty());
}

#[test]
fn an_index_used_again_at_once_is_another_pod() {
    let Some(mut node) = Node::enter("again") else {
        return;
    };
    let mut watching = Watching::start(Options::default());
    let netns = node.netns("a");
    let make = format!("link add veth1 index 77 type veth peer name eth0 index 78 netns {netns}");
    for number in 1..=20 {
        ip(&make);
        ip(&format!("-n {netns} addr add 10.1.0.2/32 dev eth0"));
        watching.until("it is another", |all| {
            let pod = all.pods.get(&77);
            pod.is_some_and(|pod| pod.first_seen >= number && !pod.addresses.is_empty())
        });
        ip("link del veth1");
    }
    watching.until("it went", |all| all.pods.is_empty());
}

#[test]
fn more_news_than_a_socket_holds_are_made_good() {
    let Some(mut node) = Node::enter("lost") else {
        return;
    };
    let mut watching = Watching::start(Options::default());
    let netns = node.netns("a");
    let mut lines = String::new();
    for number in 0..500 {
        let peer = format!("peer name e{number} netns {netns}");
        lines.push_str(&format!("link add v{number} type veth {peer}\n"));
    }
    let path = std::env::temp_dir().join(&node.name);
    std::fs::write(&path, lines).unwrap();
    ip(&format!("-batch {}", path.display()));
    watching.until("all came", |all| all.pods.len() == 500);
    ip(&format!("netns del {netns}"));
    node.pods.clear();
    watching.until("all went", |all| all.pods.is_empty());
    std::fs::remove_file(&path).ok();
}
