//! The datapath on the kernel this runs on: every program through the verifier, real connections through frontends
//! that were written by `Write`s, take-over, pins that do not fit, cleanup. Needs root; skipped without, failed in CI.

mod kernel;

use std::net::Ipv4Addr;

use kernel::{Place, service, write};
use mesh_agent::{
    admin::run_dir::FILES,
    datapath::{Datapath, Finding, HOOKS, Hook, Sizes, codes, probe},
    plan::Write,
};
use mesh_common::{Address, BackendState, Counter, EARLY_INTERFACES, Interface, Reason, SetWord};

#[test]
fn a_connection_goes_through_a_frontend() {
    let Some(place) = Place::enter("connect") else {
        return;
    };
    let mut opened = Datapath::open(&place.options).unwrap();
    assert!(opened.dump.is_none());
    let target = place.listen();
    write(&mut opened.datapath, &service(1, target));
    assert!(
        place.connect().is_err(),
        "nothing is in force before the commit"
    );
    opened.datapath.commit().unwrap();
    let stream = place.connect().unwrap();
    assert_eq!(
        stream.peer_addr().unwrap(),
        place.frontend(),
        "getpeername shows the Service"
    );

    write(&mut opened.datapath, &[Write::StoreSet(1, SetWord::EMPTY)]);
    let refused = place.connect().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let counters = opened.datapath.reader().unwrap().counters().unwrap();
    let count = |counter| {
        counters
            .iter()
            .find(|(name, _)| *name == counter)
            .unwrap()
            .1
    };
    assert_eq!(count(Counter::Forwarded), 1);
    assert_eq!(count(Counter::Refused(Reason::NoEndpoints)), 1);
}

#[test]
fn every_hook_is_attached_and_pinned() {
    let Some(place) = Place::enter("hooks") else {
        return;
    };
    let mut opened = Datapath::open(&place.options).unwrap();
    opened.datapath.commit().unwrap();
    for hook in &HOOKS {
        assert_eq!(place.attached(hook), 1, "{}", hook.name);
        assert!(place.options.bpffs.join("links").join(hook.name).exists());
        assert!(
            place
                .options
                .bpffs
                .join("programs")
                .join(hook.name)
                .exists()
        );
    }
}

#[test]
fn connections_are_looked_at_while_somebody_asks() {
    let Some(place) = Place::enter("clients") else {
        return;
    };
    let mut datapath = Datapath::open(&place.options).unwrap().datapath;
    datapath.commit().unwrap();
    let name = "established";
    let hook = HOOKS.iter().find(|hook| hook.name == name).unwrap();
    let shown = |datapath: &Datapath| datapath.programs().iter().any(|it| it.name == name);
    for asked in [true, false, false, true, true, false] {
        datapath.learn_clients(asked).unwrap();
        eventually_attached(&place, hook, usize::from(asked));
        assert_eq!(shown(&datapath), asked);
    }
    drop(datapath);
    let mut second = Datapath::open(&place.options).unwrap().datapath;
    second.commit().unwrap();
    eventually_attached(&place, hook, 1);
    second.learn_clients(false).unwrap();
    eventually_attached(&place, hook, 0);
}

/// The kernel lets go of a link some milliseconds after its pin.
fn eventually_attached(place: &Place, hook: &Hook, wanted: usize) {
    let attached = || place.attached(hook);
    for _ in 0..500 {
        if attached() == wanted {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(attached(), wanted, "{}", hook.name);
}

#[test]
fn a_second_start_takes_over() {
    let Some(place) = Place::enter("again") else {
        return;
    };
    let target = place.listen();
    let mut first = Datapath::open(&place.options).unwrap().datapath;
    write(&mut first, &service(1, target));
    first.commit().unwrap();
    drop(first);
    let stream = place.connect().unwrap();

    let second = Datapath::open(&place.options).unwrap();
    let dump = second.dump.expect("the tables are taken over");
    assert_eq!(dump.frontends.len(), 1);
    assert_eq!(dump.sets[1], SetWord::new(0, 1));
    assert_eq!(dump.backends[1].word().state(), BackendState::Ready);
    assert!(place.connect().is_ok(), "an open touches nothing in force");
    let mut second = second.datapath;
    second.commit().unwrap();
    assert!(place.connect().is_ok());
    assert_eq!(stream.peer_addr().unwrap(), place.frontend());
    for hook in &HOOKS {
        assert_eq!(place.attached(hook), 1, "{}", hook.name);
    }
}

#[test]
fn another_size_makes_new_tables() {
    let Some(mut place) = Place::enter("size") else {
        return;
    };
    let target = place.listen();
    let mut first = Datapath::open(&place.options).unwrap().datapath;
    write(&mut first, &service(1, target));
    first.commit().unwrap();
    drop(first);

    place.options.sizes = Sizes {
        services: 99,
        sockets: 55,
        ..place.options.sizes
    };
    let mut second = Datapath::open(&place.options).unwrap();
    let dump = second.dump.as_ref().expect("the tables are copied");
    assert_eq!(dump.sets[1], SetWord::new(0, 1));
    let resized = |finding: &Finding| {
        matches!(
            finding,
            Finding::Resized {
                map: "services",
                to: 99,
                ..
            }
        )
    };
    assert!(second.findings.iter().any(resized), "{:?}", second.findings);
    let kept = |finding: &Finding| {
        matches!(
            finding,
            Finding::KeptSize {
                map: "sockets",
                wanted: 55,
                ..
            }
        )
    };
    assert!(second.findings.iter().any(kept), "{:?}", second.findings);
    assert!(
        place.connect().is_ok(),
        "the old tables are in force until the commit"
    );
    second.datapath.commit().unwrap();
    assert!(place.connect().is_ok());
    drop(second);
    let third = Datapath::open(&place.options).unwrap();
    let dump = third.dump.expect("the new tables are pinned");
    assert_eq!(dump.sets[1], SetWord::new(0, 1));
    assert_eq!(third.datapath.maps.capacity("services"), 99);
}

#[test]
fn tables_that_do_not_fit_start_empty() {
    let Some(mut place) = Place::enter("shrink") else {
        return;
    };
    let target = place.listen();
    let mut first = Datapath::open(&place.options).unwrap().datapath;
    write(&mut first, &service(50, target));
    first.commit().unwrap();
    drop(first);
    place.options.sizes.services = 8;
    let mut second = Datapath::open(&place.options).unwrap();
    assert!(second.dump.is_none());
    let forgotten = |finding: &Finding| matches!(finding, Finding::Forgotten { map: "affinity" });
    assert!(
        second.findings.iter().any(forgotten),
        "{:?}",
        second.findings
    );
    write(&mut second.datapath, &service(2, target));
    second.datapath.commit().unwrap();
    assert!(place.connect().is_ok());
}

#[test]
fn a_pin_of_another_shape_is_not_read() {
    let Some(place) = Place::enter("shape") else {
        return;
    };
    Datapath::open(&place.options)
        .unwrap()
        .datapath
        .commit()
        .unwrap();
    let sets = place.options.bpffs.join("sets_v1");
    let frontends = place.options.bpffs.join("frontends_v1");
    std::fs::remove_file(&sets).unwrap();
    std::fs::rename(&frontends, &sets).unwrap();
    let mut opened = Datapath::open(&place.options).unwrap();
    assert!(opened.dump.is_none());
    let wrong = |finding: &Finding| matches!(finding, Finding::WrongShape { map: "sets", .. });
    assert!(opened.findings.iter().any(wrong), "{:?}", opened.findings);
    opened.datapath.commit().unwrap();
    drop(opened);
    assert!(Datapath::open(&place.options).unwrap().dump.is_some());
}

#[test]
fn interfaces_are_found_whatever_their_number() {
    let Some(place) = Place::enter("numbers") else {
        return;
    };
    let mut datapath = Datapath::open(&place.options).unwrap().datapath;
    let addresses = |number: u32| {
        let v4 = Address::from(Ipv4Addr::from(0x0a00_0000 + number));
        Interface::new(v4, Address::UNSPECIFIED)
    };
    let last = EARLY_INTERFACES - 1;
    let numbers = [1, 2, last, EARLY_INTERFACES, 70_000, u32::MAX >> 1];
    for number in numbers {
        datapath
            .maps
            .put_interface(number, &addresses(number))
            .unwrap();
    }
    let found = datapath.reader().unwrap().interfaces().unwrap();
    let all = numbers.map(|number| (number, addresses(number)));
    assert_eq!(found, all.into());
    for number in [1, last, 70_000, 5, 300] {
        datapath.maps.delete_interface(number).unwrap();
    }
    let left = datapath.reader().unwrap().interfaces().unwrap();
    let numbers = [2, EARLY_INTERFACES, u32::MAX >> 1];
    assert_eq!(left.into_keys().collect::<Vec<_>>(), numbers);
}

#[test]
fn cleanup_leaves_nothing() {
    let Some(place) = Place::enter("cleanup") else {
        return;
    };
    Datapath::open(&place.options)
        .unwrap()
        .datapath
        .commit()
        .unwrap();
    let run_dir = std::env::temp_dir().join(format!("mesh-datapath-run-{}", std::process::id()));
    std::fs::create_dir(&run_dir).unwrap();
    let planned =
        mesh_agent::datapath::cleanup(&place.options.bpffs, &run_dir, &FILES, true).unwrap();
    assert!(place.options.bpffs.exists());
    std::fs::remove_file(place.options.bpffs.join("links/connect4")).unwrap();
    let removed =
        mesh_agent::datapath::cleanup(&place.options.bpffs, &run_dir, &FILES, false).unwrap();
    assert!(removed.len() < planned.len());
    assert!(!place.options.bpffs.exists() && !run_dir.exists());
    for hook in &HOOKS {
        assert_eq!(place.attached(hook), 0, "{}", hook.name);
    }
    assert!(
        mesh_agent::datapath::cleanup(&place.options.bpffs, &run_dir, &FILES, false)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn this_host_is_fit() {
    let Some(place) = Place::enter("check") else {
        return;
    };
    let results = probe::all(&place.options);
    assert_eq!(results.len(), codes::CODES.len());
    for (result, code) in results.iter().zip(codes::CODES) {
        println!("{} {result}", result.level.name());
        assert_eq!(result.code, *code);
        assert!(!result.refuses(false), "{result}");
    }
}

#[test]
fn another_agent_on_the_hooks_is_named() {
    let Some(mut place) = Place::enter("others") else {
        return;
    };
    Datapath::open(&place.options)
        .unwrap()
        .datapath
        .commit()
        .unwrap();
    let ours = place.options.bpffs.clone();
    let found = |options: &mesh_agent::datapath::Options| {
        let results = probe::all(options);
        results
            .into_iter()
            .find(|result| result.code == codes::OTHERS)
    };
    assert_eq!(found(&place.options).unwrap().level, probe::Level::Ok);
    place.options.bpffs.set_file_name("mesh-datapath-elsewhere");
    let result = found(&place.options).unwrap();
    place.options.bpffs = ours;
    assert!(result.refuses(false) && !result.refuses(true));
    assert!(
        result.what.contains("another mesh-agent's connect4"),
        "{result}"
    );
}
