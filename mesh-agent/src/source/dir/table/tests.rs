//! The laws of the table.

use proptest::prelude::*;

use super::*;
use crate::model::{Node, ObjectName};

fn node(name: &str, address: u8) -> Object {
    let addresses = vec![std::net::Ipv4Addr::new(10, 0, 0, address).into()];
    Object::Node(Node {
        leaving: false,
        name: ObjectName::new("", name),
        internal: Vec::new(),
        addresses,
        zone: None,
    })
}

fn good(objects: &[Object]) -> Decoded {
    Decoded {
        objects: objects.to_vec(),
        ..Decoded::default()
    }
}

fn unreadable() -> Decoded {
    Decoded {
        unreadable: true,
        problems: vec![Problem::of_file("f", "bad", "mend")],
        ..Decoded::default()
    }
}

#[test]
fn the_first_path_counts_and_the_other_is_named() {
    let (mut table, now) = (FileTable::default(), Instant::now());
    assert_eq!(
        table.put("b", good(&[node("n", 2)]), now),
        [Change::Put(node("n", 2))]
    );
    assert_eq!(
        table.put("a", good(&[node("n", 1)]), now),
        [Change::Put(node("n", 1))]
    );
    assert_eq!(
        table.problems()[0].to_string(),
        "b: Node n: a has the object too, and counts; remove one of them"
    );
    assert_eq!(table.remove("a", now), [Change::Put(node("n", 2))]);
    assert!(table.problems().is_empty());
}

#[test]
fn a_rename_removes_nothing() {
    let (mut table, now) = (FileTable::default(), Instant::now());
    table.put("a", good(&[node("n", 1)]), now);
    assert!(table.remove("a", now).is_empty());
    assert!(table.settle(now).is_empty());
    assert!(table.put("b", good(&[node("n", 1)]), now).is_empty());
    assert!(table.settle(now + PAUSE).is_empty());
    table.remove("b", now);
    assert_eq!(
        table.settle(now + PAUSE),
        [Change::Remove(node("n", 1).id())]
    );
    assert!(table.deadline().is_none());
}

#[test]
fn bad_content_keeps_the_last_good_one() {
    let (mut table, now) = (FileTable::default(), Instant::now());
    table.put("a", good(&[node("n", 1), node("m", 1)]), now);
    assert!(table.put("a", unreadable(), now).is_empty());
    assert_eq!(table.problems().len(), 1);
    let bad = Decoded {
        bad: [node("n", 1).id()].into(),
        ..good(&[node("m", 2)])
    };
    assert_eq!(table.put("a", bad, now), [Change::Put(node("m", 2))]);
    assert!(table.settle(now + PAUSE).is_empty());
}

#[test]
fn an_object_that_turns_bad_as_its_file_is_renamed_keeps_its_last_good_version() {
    let (mut table, now) = (FileTable::default(), Instant::now());
    table.put("a", good(&[node("n", 1)]), now);
    table.remove("a", now);
    let bad = Decoded {
        bad: [node("n", 1).id(), node("never-seen", 1).id()].into(),
        ..Decoded::default()
    };
    assert!(table.put("b", bad, now).is_empty());
    assert!(table.settle(now + PAUSE).is_empty());
    table.remove("b", now);
    assert_eq!(
        table.settle(now + PAUSE),
        [Change::Remove(node("n", 1).id())]
    );
}

#[derive(Clone, Debug)]
enum Event {
    Put(u8, Vec<(u8, u8)>),
    Break(u8),
    Remove(u8),
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u8..3, proptest::collection::vec((0_u8..4, 0_u8..3), 0..4)).prop_map(|(file, it)| Event::Put(file, it)),
        1 => (0_u8..3).prop_map(Event::Break),
        2 => (0_u8..3).prop_map(Event::Remove),
        1 => Just(Event::Wait),
    ]
}

proptest! {
    /// Whatever happened to the files, what was told adds up to what a reader of their last good contents sees.
    #[test]
    fn what_was_told_is_what_the_files_say(events in proptest::collection::vec(event(), 0..40)) {
        let (mut table, mut now) = (FileTable::default(), Instant::now());
        let mut contents: BTreeMap<u8, BTreeMap<ObjectId, Object>> = BTreeMap::new();
        let mut seen: BTreeMap<ObjectId, Object> = BTreeMap::new();
        for event in events {
            let changes = match event {
                Event::Put(file, nodes) => {
                    let nodes: BTreeMap<ObjectId, Object> = nodes.iter().map(|(name, address)| {
                        let node = node(&format!("n{name}"), *address);
                        (node.id(), node)
                    }).collect();
                    let objects: Vec<Object> = nodes.values().cloned().collect();
                    contents.insert(file, nodes);
                    table.put(&file.to_string(), good(&objects), now)
                }
                Event::Break(file) if contents.contains_key(&file) => table.put(&file.to_string(), unreadable(), now),
                Event::Break(_) => Vec::new(),
                Event::Remove(file) => {
                    contents.remove(&file);
                    table.remove(&file.to_string(), now)
                }
                Event::Wait => {
                    now += PAUSE;
                    table.settle(now)
                }
            };
            for change in changes {
                match change {
                    Change::Put(object) => drop(seen.insert(object.id(), object)),
                    Change::Remove(id) => prop_assert!(seen.remove(&id).is_some()),
                    Change::Synced(_) | Change::Incomplete(_) | Change::NodeAddresses(_) => {
                        prop_assert!(false);
                    }
                }
            }
        }
        for change in table.settle(now + PAUSE) {
            if let Change::Remove(id) = change { seen.remove(&id); }
        }
        let mut wanted = BTreeMap::new();
        for nodes in contents.values().rev() {
            wanted.extend(nodes.clone());
        }
        prop_assert_eq!(seen, wanted);
    }
}
