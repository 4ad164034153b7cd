use std::net::Ipv4Addr;

use mesh_common::{Backend, BackendWord, Client, FrontendValue, ServiceWord, SocketEntry};

use super::*;

fn address(last: u8) -> Address {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn live() -> Live {
    let ready = BackendWord::new(Port::new(8080), BackendState::Ready, 3);
    let free = Backend::new(
        Address::UNSPECIFIED,
        BackendWord::new(Port::new(0), BackendState::Gone, 0),
    );
    Live {
        tables: TableDump {
            frontends: vec![
                (
                    FrontendKey::new(address(1), Port::new(80), 6),
                    FrontendValue::new(1, 1, 0),
                ),
                (
                    FrontendKey::whole_address(address(1)),
                    FrontendValue::refuse(),
                ),
            ],
            services: vec![ServiceWord::new(0), ServiceWord::new(60)],
            sets: vec![
                SetWord::EMPTY,
                SetWord::new(2, 1),
                SetWord::EMPTY,
                SetWord::new(3, 9),
            ],
            slots: vec![0, 0, 1, 1],
            backends: vec![free, Backend::new(address(9), ready)],
            ranges: Vec::new(),
        },
        now: 5_000_000_000,
        ..Live::default()
    }
}

#[test]
fn derived_maps_show_what_is_in_use() {
    let live = live();
    let frontends = live.frontends();
    assert_eq!(
        frontends
            .iter()
            .map(|it| (it.port, it.protocol.as_str(), it.refuse))
            .collect::<Vec<_>>(),
        [(0, "any", true), (80, "TCP", false)]
    );
    assert_eq!(
        live.services(),
        [ServiceRow {
            id: 1,
            affinity_seconds: 60
        }]
    );
    let sets: Vec<u32> = live.sets().iter().map(|set| set.id).collect();
    assert_eq!(sets, [1, 3]);
    // Set 3 points past the end of the slots.
    let slots: Vec<_> = live
        .slots()
        .iter()
        .map(|it| (it.index, it.set, it.backend))
        .collect();
    assert_eq!(slots, [(2, 1, 1), (3, 3, 1)]);
    let backends = live.backends();
    assert_eq!((backends.len(), backends[0].state.as_str()), (1, "ready"));
}

#[test]
fn maps_of_traffic_say_who_talks_to_whom() {
    let (frontend, backend) = ((address(1), Port::new(53)), (address(9), Port::new(5353)));
    let mut live = live();
    live.affinity = vec![(
        AffinityKey::new(Client::from_netns_cookie(7), 1),
        AffinityValue::new(1, 1, 3, 2_000_000_000),
    )];
    live.peers = vec![Peer::new(8, frontend, backend, 1, 3)];
    let entry = |other| SocketEntry {
        other,
        id: 1,
        generation: 3,
        ..SocketEntry::EMPTY
    };
    live.sockets = vec![
        (
            SocketKey::reply(9, backend.0, backend.1),
            SocketValue::new(9, entry(frontend)),
        ),
        (
            SocketKey::chosen(9, frontend.0, frontend.1),
            SocketValue::new(9, entry(backend)),
        ),
        (
            SocketKey::head(9),
            SocketValue::new(
                9,
                SocketEntry {
                    closed: 1,
                    ..SocketEntry::EMPTY
                },
            ),
        ),
    ];
    let affinity = &live.affinity()[0];
    assert_eq!(
        (affinity.client.as_str(), affinity.idle_seconds),
        ("netns:7", 3)
    );
    let (to, from) = (
        Some("10.0.0.1:53".parse().unwrap()),
        Some("10.0.0.9:5353".parse().unwrap()),
    );
    let rows: Vec<_> = live
        .sockets()
        .into_iter()
        .map(|row| (row.cookie, row.kind, row.frontend, row.backend, row.closed))
        .collect();
    assert_eq!(
        rows,
        [
            (8, "peer".to_owned(), to, from, false),
            (9, "chosen".to_owned(), to, from, false),
            (9, "head".to_owned(), None, None, true),
            (9, "reply".to_owned(), to, from, false),
        ]
    );
}

#[test]
fn what_the_agent_knows_of_a_client_is_shown() {
    let mut live = live();
    let own = ClientAddresses::new(7, address(2), Address::UNSPECIFIED);
    live.clients.insert(7, own);
    for netns in [7, 6] {
        let learned = LearnedClient::new(netns).with(address(9)).unwrap();
        live.learned_clients.insert(netns, learned);
    }
    let rows = live.clients().into_iter();
    let rows: Vec<_> = rows
        .map(|row| (row.netns, row.v4, row.v6, row.learned))
        .collect();
    let shown = |last: u8| Some(address(last).to_ip());
    assert_eq!(
        rows,
        [(6, shown(9), None, true), (7, shown(2), None, false)]
    );
}

#[test]
fn counters_are_all_there() {
    let mut live = live();
    live.counters = vec![(Counter::Forwarded, 4)];
    let counters = live.counters();
    assert_eq!(counters.len(), Counter::ALL.len());
    assert_eq!(
        (counters[0].name.as_str(), counters[0].count),
        ("forwarded", 4)
    );
}
