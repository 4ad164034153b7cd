//! The ports that stand for clients. In: the flags, and which ports the host gives to its own sockets. Out: what the programs
//! are loaded with, and a file in the run directory that says so: the ports are part of the programs' code, and `trace` is to
//! know them where no agent runs.

use std::{fs, io, path::Path};

use mesh_ebpf::SnatPorts;

use crate::{
    admin::run_dir::{self, SNAT_PORTS},
    config::PortRange,
};

/// What programs are loaded with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Every one that may stand for a client.
    pub all: SnatPorts,
    /// Those that are taken first: the host does not give them to its own sockets.
    pub quiet: SnatPorts,
}

impl Ports {
    /// Every port of --snat-ports that is no node port.
    pub(crate) fn new(snat: PortRange, node: PortRange) -> Self {
        let all = SnatPorts {
            first: snat.first,
            last: snat.last,
            hole_first: node.first,
            hole_last: node.last,
        };
        let quiet = local_ports().map_or(all, |local| all.quiet(local));
        Self { all, quiet }
    }

    /// Three ranges: all, without which of them, without which if possible.
    fn text(self) -> String {
        let range = |first, last| PortRange { first, last };
        let all = range(self.all.first, self.all.last);
        let [hole, wider] =
            [self.all, self.quiet].map(|ports| range(ports.hole_first, ports.hole_last));
        format!("{all} {hole} {wider}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut ranges = text.split_whitespace().map(str::parse::<PortRange>);
        let mut range = || ranges.next()?.ok();
        let (all, hole, wider) = (range()?, range()?, range()?);
        let without = |hole: PortRange| SnatPorts {
            first: all.first,
            last: all.last,
            hole_first: hole.first,
            hole_last: hole.last,
        };
        Some(Self {
            all: without(hole),
            quiet: without(wider),
        })
    }

    /// Writes down that the programs in force have these.
    pub(crate) fn note(self, run_dir: &Path) -> io::Result<()> {
        run_dir::replace(&run_dir.join(SNAT_PORTS), &self.text())
    }

    /// Those of the programs in force; what is had without flags if nothing can be read.
    pub(crate) fn noted(run_dir: &Path) -> Self {
        let text = fs::read_to_string(run_dir.join(SNAT_PORTS)).unwrap_or_default();
        Self::parse(&text).unwrap_or_default()
    }
}

/// Ports that the kernel gives sockets of this network namespace, in both families.
fn local_ports() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again() {
        let hole = SnatPorts {
            first: 20_000,
            last: 29_999,
            hole_first: 25_000,
            hole_last: 25_999,
        };
        let quiet = SnatPorts {
            hole_last: 28_999,
            ..hole
        };
        let ports = Ports { all: hole, quiet };
        assert_eq!(ports.text(), "20000-29999 25000-25999 25000-28999\n");
        assert_eq!(Ports::parse(&ports.text()), Some(ports));
        for text in ["", "1024-65535", "1024-65535 30000-32767 x"] {
            assert_eq!(Ports::parse(text), None, "{text}");
        }
    }
}
