//! Values for what stays the same pod and what is another one.

use super::*;

fn pod(name: &str, nsid: i32, addresses: &[&str]) -> PodLink {
    PodLink {
        name: name.to_owned(),
        nsid: Some(nsid),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        first_seen: 0,
    }
}

fn pods(pods: impl IntoIterator<Item = (u32, PodLink)>) -> Interfaces {
    Interfaces {
        pods: pods.into_iter().collect(),
        ..Default::default()
    }
}

fn said(differences: &[Difference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

/// Follows without deletions.
fn follow(follower: &mut Follower, now: Interfaces) -> (Interfaces, Vec<String>) {
    let (now, differences) = follower.follow(now, &BTreeSet::new());
    (now, said(&differences))
}

#[test]
fn a_pod_that_stays_keeps_its_number_and_says_nothing() {
    let mut follower = Follower::default();
    let now = pods([(4, pod("veth1", 0, &["10.1.0.2"]))]);
    let (first, differences) = follow(&mut follower, now.clone());
    assert_eq!(differences, ["pod veth1 (4) has come"]);
    let (second, differences) = follow(&mut follower, now);
    assert_eq!(first, second);
    assert!(differences.is_empty());
}

#[test]
fn a_renamed_pod_is_the_same() {
    let mut follower = Follower::default();
    follow(&mut follower, pods([(4, pod("veth1", 0, &[]))]));
    let (now, differences) = follow(&mut follower, pods([(4, pod("lxc1", 0, &[]))]));
    assert_eq!(now.pods[&4].first_seen, 1);
    assert_eq!(differences, ["pod veth1 (4) is named lxc1 now"]);
}

#[test]
fn an_index_used_again_is_another_pod() {
    let mut follower = Follower::default();
    let now = pods([(4, pod("veth1", 0, &["10.1.0.2"]))]);
    follow(&mut follower, now.clone());
    // Everything is as before but the kernel told a deletion.
    let (now, differences) = follower.follow(now, &BTreeSet::from([4]));
    assert_eq!(now.pods[&4].first_seen, 2);
    assert_eq!(
        said(&differences),
        ["pod veth1 (4) is gone", "pod veth1 (4) has come"]
    );
}

#[test]
fn a_peer_that_moved_to_another_namespace_is_another_pod() {
    let mut follower = Follower::default();
    follow(&mut follower, pods([(4, pod("veth1", 0, &[]))]));
    let (now, differences) = follow(&mut follower, pods([(4, pod("veth1", 7, &[]))]));
    assert_eq!(now.pods[&4].first_seen, 2);
    assert_eq!(
        differences,
        ["pod veth1 (4) is gone", "pod veth1 (4) has come"]
    );
}

#[test]
fn a_name_used_again_is_another_pod() {
    let mut follower = Follower::default();
    follow(&mut follower, pods([(4, pod("veth1", 0, &[]))]));
    let (now, differences) = follow(&mut follower, pods([(9, pod("veth1", 0, &[]))]));
    assert_eq!(now.pods[&9].first_seen, 2);
    assert_eq!(
        differences,
        ["pod veth1 (4) is gone", "pod veth1 (9) has come"]
    );
}

#[test]
fn of_two_pods_with_one_address_the_newest_has_it_and_it_is_said_once() {
    let mut follower = Follower::default();
    let both = || {
        let old = pod("veth1", 0, &["10.1.0.2", "fd00::2"]);
        pods([(9, old), (4, pod("veth2", 1, &["10.1.0.2"]))])
    };
    follow(
        &mut follower,
        pods([(9, pod("veth1", 0, &["10.1.0.2", "fd00::2"]))]),
    );
    let (now, differences) = follow(&mut follower, both());
    assert_eq!(now.pods[&9].addresses, ["fd00::2".parse().unwrap()].into());
    assert_eq!(now.pods[&4].addresses, ["10.1.0.2".parse().unwrap()].into());
    let alarm = "10.1.0.2 is the address of both veth1 and veth2; the newer one, veth2, gets it";
    assert!(differences.contains(&alarm.to_owned()), "{differences:?}");
    let (_, differences) = follow(&mut follower, both());
    assert!(!differences.contains(&alarm.to_owned()), "{differences:?}");
    let (now, _) = follow(&mut follower, pods([(9, pod("veth1", 0, &["10.1.0.2"]))]));
    assert_eq!(now.pods[&9].addresses, ["10.1.0.2".parse().unwrap()].into());
}

#[test]
fn a_pod_that_becomes_a_device_goes_and_comes() {
    let mut follower = Follower::default();
    follow(&mut follower, pods([(4, pod("veth1", 0, &[]))]));
    let mut now = Interfaces::default();
    let name = "veth1".to_owned();
    now.devices.insert(
        4,
        Device {
            name,
            ..Default::default()
        },
    );
    let (_, differences) = follow(&mut follower, now);
    assert_eq!(
        differences,
        ["pod veth1 (4) is gone", "device veth1 (4) has come"]
    );
}

#[test]
fn what_is_not_served_is_said_once() {
    let mut follower = Follower::default();
    let mut now = Interfaces::default();
    now.unknown_devices.push("eth7".to_owned());
    now.others.insert("wg0".to_owned(), Unserved::OtherHeader);
    let (_, differences) = follower.follow(now.clone(), &BTreeSet::new());
    assert_eq!(differences.len(), 2);
    assert!(differences[1].is_alarm() && !differences[0].is_alarm());
    assert!(follow(&mut follower, now).1.is_empty());
}
