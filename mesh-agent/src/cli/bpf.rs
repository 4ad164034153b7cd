//! `bpf`: a typed dump of one map, from its pin.

use std::io;

use serde::Serialize;

use super::{
    args::{MapName, Output},
    table::Table,
    terminal::Terminal,
};
use crate::telemetry::{
    dump::{
        AffinityRow, BackendRow, ClientRow, CounterRow, FlowRow, FrontendRow, Live, ServiceRow,
        SetRow, SlotRow, SocketRow, SourceRangeRow,
    },
    view::{Document, Items},
};

/// A row of a dump.
trait Row: Serialize {
    /// The document's kind.
    const KIND: &'static str;
    /// The table's headings.
    const HEADINGS: &'static [&'static str];

    /// One cell a heading.
    fn cells(&self) -> Vec<String>;
}

pub(super) fn show(
    live: &Live,
    map: MapName,
    output: Output,
    terminal: &mut Terminal<'_>,
) -> io::Result<()> {
    match map {
        MapName::Frontends => rows(live.frontends(), output, terminal),
        MapName::SourceRanges => rows(live.source_ranges(), output, terminal),
        MapName::Services => rows(live.services(), output, terminal),
        MapName::Sets => rows(live.sets(), output, terminal),
        MapName::Slots => rows(live.slots(), output, terminal),
        MapName::Backends => rows(live.backends(), output, terminal),
        MapName::Affinity => rows(live.affinity(), output, terminal),
        MapName::Clients => rows(live.clients(), output, terminal),
        MapName::Sockets => rows(live.sockets(), output, terminal),
        MapName::Flows => rows(live.flows(), output, terminal),
        MapName::Counters => rows(live.counters(), output, terminal),
    }
}

fn rows<R: Row>(items: Vec<R>, output: Output, terminal: &mut Terminal<'_>) -> io::Result<()> {
    let document = Document::new(R::KIND, Items { items });
    terminal.show(output, &document, |content, _| {
        let mut table = Table::new(R::HEADINGS);
        for row in &content.items {
            table.row(row.cells());
        }
        table.render()
    })
}

fn text(number: Option<u32>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

impl Row for FrontendRow {
    const KIND: &'static str = "FrontendList";
    const HEADINGS: &'static [&'static str] = &[
        "ADDRESS",
        "PORT",
        "PROTOCOL",
        "SERVICE",
        "SET",
        "LOCAL-SET",
        "FOR",
    ];

    fn cells(&self) -> Vec<String> {
        let or_dash = |id: u32| text((id != 0).then_some(id));
        let port = if self.protocol == "any" {
            "any".to_owned()
        } else {
            self.port.to_string()
        };
        vec![
            self.address.to_string(),
            port,
            self.protocol.clone(),
            text((!self.refuse).then_some(self.service)),
            or_dash(self.cluster_set),
            or_dash(self.local_set),
            whom(self).to_owned(),
        ]
    }
}

const fn whom(row: &FrontendRow) -> &'static str {
    if row.host {
        return "host";
    }
    match (row.refuse, row.external, row.source_ranges) {
        (true, _, _) => "nobody",
        (false, _, true) => "source ranges",
        (false, true, false) => "all",
        (false, false, false) => "cluster",
    }
}

impl Row for SourceRangeRow {
    const KIND: &'static str = "SourceRangeList";
    const HEADINGS: &'static [&'static str] = &["SERVICE", "RANGE"];

    fn cells(&self) -> Vec<String> {
        vec![self.service.to_string(), self.range.clone()]
    }
}

impl Row for ServiceRow {
    const KIND: &'static str = "ServicePortList";
    const HEADINGS: &'static [&'static str] = &["SERVICE", "AFFINITY SECONDS"];

    fn cells(&self) -> Vec<String> {
        vec![self.id.to_string(), self.affinity_seconds.to_string()]
    }
}

impl Row for SetRow {
    const KIND: &'static str = "SetList";
    const HEADINGS: &'static [&'static str] = &["SET", "BASE", "COUNT"];

    fn cells(&self) -> Vec<String> {
        [self.id, self.base, self.count]
            .map(|it| it.to_string())
            .into()
    }
}

impl Row for SlotRow {
    const KIND: &'static str = "SlotList";
    const HEADINGS: &'static [&'static str] = &["SLOT", "SET", "BACKEND"];

    fn cells(&self) -> Vec<String> {
        [self.index, self.set, self.backend]
            .map(|it| it.to_string())
            .into()
    }
}

impl Row for BackendRow {
    const KIND: &'static str = "BackendList";
    const HEADINGS: &'static [&'static str] =
        &["BACKEND", "ADDRESS", "PORT", "STATE", "GENERATION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.address.to_string(),
            self.port.to_string(),
            self.state.clone(),
            self.generation.to_string(),
        ]
    }
}

impl Row for AffinityRow {
    const KIND: &'static str = "AffinityList";
    const HEADINGS: &'static [&'static str] = &[
        "CLIENT",
        "SERVICE",
        "POLICY",
        "BACKEND",
        "GENERATION",
        "IDLE SECONDS",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.client.clone(),
            self.service.to_string(),
            if self.local { "Local" } else { "Cluster" }.to_owned(),
            self.backend.to_string(),
            self.generation.to_string(),
            self.idle_seconds.to_string(),
        ]
    }
}

impl Row for ClientRow {
    const KIND: &'static str = "ClientList";
    const HEADINGS: &'static [&'static str] = &["NETNS", "IPV4", "IPV6", "KNOWN BY"];

    fn cells(&self) -> Vec<String> {
        let address =
            |it: Option<std::net::IpAddr>| it.map_or_else(String::new, |it| it.to_string());
        let known_by = if self.learned {
            "its connections"
        } else {
            "the agent"
        };
        vec![
            self.netns.to_string(),
            address(self.v4),
            address(self.v6),
            known_by.to_owned(),
        ]
    }
}

impl Row for SocketRow {
    const KIND: &'static str = "SocketList";
    const HEADINGS: &'static [&'static str] = &[
        "COOKIE",
        "KIND",
        "FRONTEND",
        "BACKEND",
        "ID",
        "GENERATION",
        "CLOSED",
    ];

    fn cells(&self) -> Vec<String> {
        let address = |it: Option<std::net::SocketAddr>| {
            it.map_or_else(String::new, |address| address.to_string())
        };
        vec![
            self.cookie.to_string(),
            self.kind.clone(),
            address(self.frontend),
            address(self.backend),
            text(self.backend_id),
            text(self.generation),
            if self.closed { "yes" } else { "no" }.to_owned(),
        ]
    }
}

impl Row for FlowRow {
    const KIND: &'static str = "FlowList";
    const HEADINGS: &'static [&'static str] = &[
        "PROTOCOL",
        "ENTRY",
        "SOURCE",
        "DESTINATION",
        "REWRITTEN TO",
        "SEEN",
        "IDLE SECONDS",
        "CONFIRMED",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.protocol.clone(),
            self.entry.clone(),
            self.source.to_string(),
            self.destination.to_string(),
            self.rewritten_to
                .map_or_else(String::new, |address| address.to_string()),
            self.seen.join(","),
            self.idle_seconds.to_string(),
            if self.confirmed { "yes" } else { "no" }.to_owned(),
        ]
    }
}

impl Row for CounterRow {
    const KIND: &'static str = "CounterList";
    const HEADINGS: &'static [&'static str] = &["COUNTER", "INDEX", "COUNT"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.index.to_string(),
            self.count.to_string(),
        ]
    }
}
