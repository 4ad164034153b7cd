//! What kube-proxy leaves on a node when it goes: tables of nftables, chains of iptables, and what its ipvs mode makes. In:
//! what the kernel lists. Out: a line for each thing, which is removed or, where it cannot be, named with what to do.

mod legacy;
mod names;
mod running;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use nix::net::if_::if_nametoindex;

use crate::{
    netlink::{
        self,
        nftables::{self, Change, Jump, Table},
    },
    telemetry::view::RemovedView,
};
use legacy::Legacy;
use names::{KEEPER, TABLE, is_chain};
pub use running::running;

/// The interface of its ipvs mode.
const IPVS_DEVICE: &str = "kube-ipvs0";

/// Why leftovers stay.
#[derive(Debug, thiserror::Error)]
pub enum LeftoversError {
    /// kube-proxy would make them anew.
    #[error(
        "MESH070 kube-proxy runs on this node ({0}) and would make its rules anew; take it off the node first \
         (docs/switch-from-kube-proxy.md), or say --force"
    )]
    Runs(String),
    /// The kernel or a program of iptables refuses.
    #[error("MESH071 {what}: {source}; run it as root, on the node itself")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl LeftoversError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Everything that was found.
#[derive(Debug, Default)]
struct Leftovers {
    tables: Vec<Table>,
    chains: Vec<(Table, String)>,
    jumps: Vec<Jump>,
    legacy: Vec<Legacy>,
    has_nftables: bool,
    has_ipvs: bool,
    /// Tables that an earlier run put in the place of kube-proxy's.
    keepers: Vec<Table>,
    /// Connections that the kernel translates, by whichever rules.
    connections: u64,
}

/// Removes kube-proxy's leftovers, or says what would go.
///
/// # Errors
/// If kube-proxy runs on the node, unless forced; if the kernel cannot be asked or refuses.
pub fn clean(dry_run: bool, force: bool) -> Result<Vec<RemovedView>, LeftoversError> {
    if !dry_run
        && !force
        && let Some(sign) = running()
    {
        return Err(LeftoversError::Runs(sign));
    }
    let found = find()?;
    if !dry_run {
        remove(&found)?;
    }
    Ok(lines(&found))
}

fn find() -> Result<Leftovers, LeftoversError> {
    let nftables = LeftoversError::io("nftables cannot be read");
    let asked = || -> io::Result<Leftovers> {
        let tables = nftables::tables()?;
        let has_nftables = tables.is_some();
        let tables = tables.unwrap_or_default();
        let named = |name: &str| tables.iter().filter(|it| it.1 == name).cloned().collect();
        Ok(Leftovers {
            has_nftables,
            tables: named(TABLE),
            keepers: named(KEEPER),
            chains: nftables::chains(is_chain)?,
            jumps: nftables::jumps(is_chain)?,
            ..Leftovers::default()
        })
    };
    let mut found = asked().map_err(nftables)?;
    found.legacy = legacy::find().map_err(LeftoversError::io("legacy iptables cannot be read"))?;
    found.has_ipvs = if_nametoindex(IPVS_DEVICE).is_ok();
    let counted = netlink::count_translated();
    found.connections =
        counted.map_err(LeftoversError::io("connection tracking cannot be read"))?;
    Ok(found)
}

/// All of nftables in one transaction: no packet meets half of it.
fn remove(found: &Leftovers) -> Result<(), LeftoversError> {
    let refused = LeftoversError::io("nftables refuses to remove kube-proxy's rules");
    nftables::apply(&changes(found)).map_err(refused)?;
    let refused = |source| LeftoversError::Io {
        what: "legacy iptables refuses to remove kube-proxy's rules",
        source,
    };
    found
        .legacy
        .iter()
        .try_for_each(|table| table.remove().map_err(refused))
}

/// The kernel translates established connections as long as there is a chain of the type nat, and any rule that asks for
/// connections. If kube-proxy's are the last, a table comes in their place that does nothing else.
fn changes(found: &Leftovers) -> Vec<Change> {
    let is_needed = found.connections > 0;
    let keepers = new_keepers(found).map(Change::AddTranslating);
    let unneeded = found.keepers.iter().filter(|_| !is_needed).cloned();
    let tables = found.tables.iter().cloned().chain(unneeded);
    let jumps = found.jumps.iter().cloned().map(Change::RemoveJump);
    let of_chains = |change: fn(Table, String) -> Change| {
        let chains = found.chains.iter().cloned();
        chains.map(move |(table, name)| change(table, name))
    };
    keepers
        .chain(tables.map(Change::RemoveTable))
        .chain(jumps)
        .chain(of_chains(Change::RemoveRules))
        .chain(of_chains(Change::RemoveChain))
        .collect()
}

/// The tables that are to be put in the place of kube-proxy's.
fn new_keepers(found: &Leftovers) -> impl Iterator<Item = Table> {
    let tables = found
        .tables
        .iter()
        .chain(found.chains.iter().map(|(table, _)| table));
    let families = tables.map(|(family, _)| *family);
    let legacy = found.legacy.iter().filter(|it| it.removal().is_some());
    let families: BTreeSet<u8> = families.chain(legacy.map(Legacy::family)).collect();
    let keepers = families
        .into_iter()
        .map(|family| (family, KEEPER.to_owned()));
    let is_needed = found.has_nftables && found.connections > 0;
    keepers.filter(move |it| is_needed && !found.keepers.contains(it))
}

/// The tables that were put in the place of kube-proxy's: what is ours goes with everything of ours.
///
/// # Errors
/// If the kernel refuses.
pub fn clean_keepers(dry_run: bool) -> Result<Vec<RemovedView>, LeftoversError> {
    let failed = || LeftoversError::io("nftables cannot be read or changed");
    let mut tables = match nftables::tables() {
        // Who may not look has made none.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Vec::new()),
        result => result.map_err(failed())?.unwrap_or_default(),
    };
    tables.retain(|(_, name)| name == KEEPER);
    if !dry_run {
        let removals: Vec<Change> = tables.iter().cloned().map(Change::RemoveTable).collect();
        nftables::apply(&removals).map_err(failed())?;
    }
    Ok(tables.iter().map(table).collect())
}

fn line(what: &str, name: String) -> RemovedView {
    RemovedView {
        what: what.to_owned(),
        name,
    }
}

fn table((number, name): &Table) -> RemovedView {
    line("nftables", format!("{} {name}", family(*number)))
}

fn lines(found: &Leftovers) -> Vec<RemovedView> {
    let unneeded = found.keepers.iter().filter(|_| found.connections == 0);
    let tables = found.tables.iter().chain(unneeded);
    let mut lines: Vec<RemovedView> = tables.map(table).collect();
    lines.extend(by_table(found).map(|(name, chains, jumps)| {
        line(
            "iptables",
            format!("{name}: {chains} chains, {jumps} jumps"),
        )
    }));
    for table in &found.legacy {
        lines.push(match table.removal() {
            Some(removal) => {
                let (chains, jumps) = (removal.chains, removal.jumps);
                let name = &table.name;
                line("iptables-legacy", format!("{name}: {chains} chains, {jumps} jumps"))
            }
            None => line(
                "not looked into",
                format!(
                    "legacy {}: there is no {}-save here; run this where iptables is installed, or `kube-proxy --cleanup`",
                    table.name,
                    table.program(),
                ),
            ),
        });
    }
    if found.has_ipvs {
        lines.push(line(
            "not removed",
            "kube-ipvs0, of kube-proxy's ipvs mode: `kube-proxy --cleanup`, or `ipvsadm --clear; ip link delete \
             kube-ipvs0`, then `ipset list -n` for sets named KUBE-"
                .to_owned(),
        ));
    }
    let keepers = new_keepers(found).count() + found.keepers.len();
    if keepers > 0 && found.connections > 0 {
        let count = found.connections;
        lines.push(line(
            "kept",
            format!(
                "{KEEPER}, a table that does nothing but let {count} established connections go on; run this again when they are gone"
            ),
        ));
    }
    if !found.has_nftables && !found.legacy.is_empty() && found.connections > 0 {
        let count = found.connections;
        lines.push(line(
            "not kept",
            format!(
                "{count} established connections: this kernel has no nftables for a table in the place of these rules, so they \
                 end unless other rules make it track connections"
            ),
        ));
    }
    lines
}

/// How many chains and jumps each table has.
fn by_table(found: &Leftovers) -> impl Iterator<Item = (String, usize, usize)> {
    let mut counts: BTreeMap<&Table, (usize, usize)> = BTreeMap::new();
    for (table, _) in &found.chains {
        counts.entry(table).or_default().0 += 1;
    }
    for jump in &found.jumps {
        counts.entry(&jump.table).or_default().1 += 1;
    }
    let name = |(number, table): &Table| format!("{} {table}", family(*number));
    let counts = counts.into_iter();
    counts.map(move |(table, (chains, jumps))| (name(table), chains, jumps))
}

/// As nft writes it.
const fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_a_line() {
        let nat: Table = (2, "nat".to_owned());
        let found = Leftovers {
            tables: vec![(10, TABLE.to_owned())],
            chains: ["KUBE-SERVICES", "KUBE-NODEPORTS"]
                .map(|name| (nat.clone(), name.to_owned()))
                .into(),
            has_nftables: true,
            has_ipvs: true,
            connections: 3,
            ..Leftovers::default()
        };
        let lines = lines(&found);
        let shown: Vec<(&str, &str)> = lines
            .iter()
            .map(|line| (line.what.as_str(), line.name.split(',').next().unwrap()))
            .collect();
        assert_eq!(shown[0], ("nftables", "ip6 kube-proxy"));
        assert_eq!(shown[1], ("iptables", "ip nat: 2 chains"));
        assert_eq!(shown[2], ("not removed", "kube-ipvs0"));
        assert_eq!(shown[3].0, "kept");
        let changes = changes(&found);
        assert_eq!(changes[0], Change::AddTranslating((2, KEEPER.to_owned())));
        assert_eq!(changes[1], Change::AddTranslating((10, KEEPER.to_owned())));
        assert_eq!(changes.len(), 3 + 4);
        let nothing = Leftovers {
            connections: 3,
            ..Leftovers::default()
        };
        assert!(super::lines(&nothing).is_empty());
    }
}
