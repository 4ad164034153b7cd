//! On this kernel, in a network namespace of the test's own: programs that accept everything at real interfaces. Without
//! root there is nothing to be seen.

use std::{path::PathBuf, process::Command};

use nix::sched::{CloneFlags, unshare};

use super::*;

const POD: Kind = (Place::Pod, LinkHeader::Ethernet);
const DEVICE: Kind = (Place::Device, LinkHeader::Ethernet);
const TUNNEL: Kind = (Place::Device, LinkHeader::None);

/// A namespace and a directory of pins; the thread of the test stays in it.
struct Here {
    bpffs: PathBuf,
}

impl Here {
    fn enter(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("SKIPPED: programs at interfaces need root");
            return None;
        }
        let unique = format!("mesh-tc-{name}-{}", std::process::id());
        let bpffs = PathBuf::from("/sys/fs/bpf").join(unique);
        Some(Self { bpffs })
    }

    fn attacher(&self, way: Way) -> Attacher {
        let load = |hook: TcHook| (hook, sys::accepting_classifier(hook.name()).unwrap());
        let programs = HOOKS.map(load).into();
        let mut attacher = Attacher::new(Pins::prepare(&self.bpffs).unwrap(), programs, None);
        attacher.way = way;
        attacher
    }

    fn pins(&self) -> Vec<String> {
        super::super::pins::list(&self.bpffs.join("links")).unwrap()
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.bpffs).ok();
    }
}

fn ip(arguments: &str) {
    run("ip", arguments);
}

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A pair of veths with these indexes.
fn pair(index: u32) {
    let peer = index + 1;
    ip(&format!(
        "link add name v{index} index {index} type veth peer name v{peer} index {peer}"
    ));
}

fn want(all: &[(u32, Kind)]) -> Wanted {
    let named = all
        .iter()
        .map(|(index, kind)| (*index, (format!("v{index}"), *kind)));
    named.collect()
}

fn done(outcomes: &Result<Vec<Outcome>, DatapathError>) -> Vec<(u32, &'static str, Done)> {
    let done = |it: &Outcome| (it.index, it.hook, *it.result.as_ref().unwrap());
    let mut all: Vec<_> = outcomes.as_ref().unwrap().iter().map(done).collect();
    all.sort_unstable_by_key(|it| (it.0, it.1));
    all
}

/// Names of the programs that run at an interface, of links and of filters.
fn attached(index: u32) -> Vec<String> {
    let links = [46, 47].map(|attach_type| sys::tcx_query(index, attach_type).unwrap());
    let name = |id| {
        let program = sys::program_by_id(id).unwrap();
        sys::program_info(program.as_fd()).unwrap().name
    };
    let mut names: Vec<String> = links.concat().iter().map(|it| name(it.program)).collect();
    for side in ["ingress", "egress"] {
        let filters = run("tc", &format!("filter show dev v{index} {side}"));
        let words = filters.split_whitespace();
        names.extend(words.filter_map(|word| Some(word.strip_prefix(clsact::NAME)?.to_owned())));
    }
    names.sort_unstable();
    names
}

fn link_id(index: u32, attach_type: u32) -> u32 {
    let all = sys::tcx_query(index, attach_type).unwrap();
    assert_eq!(all.len(), 1);
    all[0].link
}

#[test]
fn links_are_attached_replaced_and_taken_away() {
    let Some(here) = Here::enter("life") else {
        return;
    };
    pair(10);
    let attacher = here.attacher(Way::Tcx);
    let both = want(&[(10, POD), (11, DEVICE)]);
    let first = attacher.reconcile(&both);
    assert!(done(&first).iter().all(|it| it.2 == Done::Attached));
    assert_eq!(attached(10), ["from_pod", "to_pod"]);
    assert_eq!(attached(11), ["from_device", "to_device"]);
    let before = link_id(10, 46);
    drop(attacher);
    // As a new start would.
    let attacher = here.attacher(Way::Tcx);
    let second = attacher.reconcile(&both);
    assert!(done(&second).iter().all(|it| it.2 == Done::Replaced));
    assert_eq!(link_id(10, 46), before);
    let third = attacher.reconcile(&want(&[(10, POD)]));
    let removed = [
        (11, "from_device", Done::Removed),
        (11, "to_device", Done::Removed),
    ];
    assert!(removed.iter().all(|it| done(&third).contains(it)));
    assert!(attached(11).is_empty());
    assert_eq!(here.pins(), ["from_pod-10", "to_pod-10"]);
}

#[test]
fn an_index_used_again_gets_new_links() {
    let Some(here) = Here::enter("again") else {
        return;
    };
    pair(10);
    let attacher = here.attacher(Way::Tcx);
    let wanted = want(&[(10, POD)]);
    done(&attacher.reconcile(&wanted));
    ip("link del v10");
    pair(10);
    let outcomes = attacher.reconcile(&wanted);
    assert!(done(&outcomes).iter().all(|it| it.2 == Done::Attached));
    assert_eq!(attached(10), ["from_pod", "to_pod"]);
}

#[test]
fn an_interface_that_moved_away_leaves_its_index_to_another() {
    let Some(here) = Here::enter("moved") else {
        return;
    };
    let other = format!("mesh-tc-{}", std::process::id());
    ip(&format!("netns add {other}"));
    pair(10);
    let attacher = here.attacher(Way::Tcx);
    let wanted = want(&[(10, POD)]);
    done(&attacher.reconcile(&wanted));
    ip(&format!("link set v10 netns {other}"));
    ip("link del v11");
    pair(10);
    let outcomes = attacher.reconcile(&wanted);
    let names = attached(10);
    ip(&format!("netns del {other}"));
    assert!(done(&outcomes).iter().all(|it| it.2 == Done::Attached));
    assert_eq!(names, ["from_pod", "to_pod"]);
}

#[test]
fn an_interface_that_is_gone_is_no_failure() {
    let Some(here) = Here::enter("gone") else {
        return;
    };
    for way in [Way::Tcx, Way::Clsact] {
        let outcomes = here.attacher(way).reconcile(&want(&[(99, POD)]));
        assert!(outcomes.unwrap().is_empty());
    }
}

#[test]
fn a_pod_that_becomes_a_device_has_the_programs_of_devices() {
    let Some(here) = Here::enter("part") else {
        return;
    };
    for way in [Way::Tcx, Way::Clsact] {
        pair(10);
        let attacher = here.attacher(way);
        done(&attacher.reconcile(&want(&[(10, POD)])));
        done(&attacher.reconcile(&want(&[(10, DEVICE)])));
        assert_eq!(attached(10), ["from_device", "to_device"], "{way:?}");
        done(&attacher.reconcile(&want(&[(10, TUNNEL)])));
        assert_eq!(attached(10), ["from_l3_device", "to_l3_device"], "{way:?}");
        ip("link del v10");
    }
}

#[test]
fn filters_live_beside_those_of_others() {
    let Some(here) = Here::enter("clsact") else {
        return;
    };
    pair(10);
    pair(20);
    run("tc", "qdisc add dev v10 clsact");
    run(
        "tc",
        "filter add dev v10 ingress prio 1 protocol ip u32 match u32 0 0 flowid 1:1",
    );
    let attacher = here.attacher(Way::Clsact);
    let both = want(&[(10, POD), (20, DEVICE)]);
    let first = attacher.reconcile(&both);
    assert!(done(&first).iter().all(|it| it.2 == Done::Attached));
    drop(attacher);
    let second = here.attacher(Way::Clsact).reconcile(&both);
    assert!(done(&second).iter().all(|it| it.2 == Done::Replaced));
    assert_eq!(attached(20).len(), 2);
    assert_eq!(remove_filters(true).unwrap().len(), 4);
    assert_eq!(remove_filters(false).unwrap().len(), 4);
    assert!(remove_filters(false).unwrap().is_empty());
    assert!(attached(10).is_empty() && attached(20).is_empty());
    // One qdisc is somebody's, the other was ours.
    assert!(run("tc", "qdisc show dev v10").contains("clsact"));
    assert!(run("tc", "filter show dev v10 ingress").contains("u32"));
    assert!(!run("tc", "qdisc show dev v20").contains("clsact"));
}
