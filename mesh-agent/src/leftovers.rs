//! What kube-proxy leaves on a node when it goes: tables of nftables, chains of iptables, and what its ipvs mode makes. In:
//! what the kernel lists. Out: a line for each thing, which is removed or, where it cannot be, named with what to do.

mod legacy;
mod names;
mod running;

use std::{collections::BTreeMap, io, path::Path};

use crate::{
    netlink::{
        self,
        nftables::{self, Jump, Removal, Table},
    },
    telemetry::view::RemovedView,
};
use legacy::Legacy;
use names::{TABLE, is_chain};
pub use running::running;

/// The interface of its ipvs mode.
const IPVS_DEVICE: &str = "/sys/class/net/kube-ipvs0";

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
    has_ipvs: bool,
    /// Connections whose destination the kernel rewrites, by whichever rules.
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
        let mut tables = nftables::tables()?;
        tables.retain(|(_, name)| name == TABLE);
        Ok(Leftovers {
            tables,
            chains: nftables::chains(is_chain)?,
            jumps: nftables::jumps(is_chain)?,
            ..Leftovers::default()
        })
    };
    let mut found = asked().map_err(nftables)?;
    found.legacy = legacy::find().map_err(LeftoversError::io("legacy iptables cannot be read"))?;
    found.has_ipvs = Path::new(IPVS_DEVICE).exists();
    let count = |_| found.connections += 1;
    let counted = netlink::translated(count);
    counted.map_err(LeftoversError::io("connection tracking cannot be read"))?;
    Ok(found)
}

/// All of nftables in one transaction: no packet meets half of it.
fn remove(found: &Leftovers) -> Result<(), LeftoversError> {
    let tables = found.tables.iter().cloned().map(Removal::Table);
    let jumps = found.jumps.iter().cloned().map(Removal::Jump);
    let of_chains = |removal: fn(Table, String) -> Removal| {
        let chains = found.chains.iter().cloned();
        chains.map(move |(table, name)| removal(table, name))
    };
    let removals = tables
        .chain(jumps)
        .chain(of_chains(Removal::Rules))
        .chain(of_chains(Removal::Chain));
    let removals: Vec<Removal> = removals.collect();
    let refused = LeftoversError::io("nftables refuses to remove kube-proxy's rules");
    nftables::remove(&removals).map_err(refused)?;
    let refused = |source| LeftoversError::Io {
        what: "legacy iptables refuses to remove kube-proxy's rules",
        source,
    };
    found
        .legacy
        .iter()
        .try_for_each(|table| table.remove().map_err(refused))
}

fn lines(found: &Leftovers) -> Vec<RemovedView> {
    let line = |what: &str, name: String| RemovedView {
        what: what.to_owned(),
        name,
    };
    let tables = found.tables.iter();
    let tables = tables.map(|(number, name)| line("nftables", format!("{} {name}", family(*number))));
    let mut lines: Vec<RemovedView> = tables.collect();
    lines.extend(by_table(found).map(|(name, chains, jumps)| {
        line("iptables", format!("{name}: {chains} chains, {jumps} jumps"))
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
    if !lines.is_empty() && found.connections > 0 {
        let count = found.connections;
        lines.push(line(
            "connections",
            format!("{count} that the kernel translates: those by kube-proxy's rules may end with them"),
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
        assert_eq!(shown[3].0, "connections");
        let nothing = Leftovers { connections: 3, ..Leftovers::default() };
        assert!(super::lines(&nothing).is_empty());
    }
}
