//! kube-proxy's rules in legacy iptables, which has no netlink: its own programs save and restore them. What is restored
//! is made of what was saved, by a pure function.

use std::{
    fs, io,
    io::Write,
    process::{Command, Stdio},
};

use super::{family, names::is_chain};

/// The family's number in nftables, the name of its programs, and where the kernel lists its tables.
const FAMILIES: [(u8, &str, &str); 2] = [
    (2, "iptables-legacy", "/proc/net/ip_tables_names"),
    (10, "ip6tables-legacy", "/proc/net/ip6_tables_names"),
];

/// A table with rules of kube-proxy, or of which it is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Legacy {
    /// Family and table: `ip nat`.
    pub(super) name: String,
    family: u8,
    program: &'static str,
    /// What `restore` is given; None where there is no program to ask.
    removal: Option<Removal>,
}

/// What takes a table's chains away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) chains: usize,
    pub(super) jumps: usize,
    restore: String,
}

impl Legacy {
    pub(super) const fn removal(&self) -> Option<&Removal> {
        self.removal.as_ref()
    }

    /// The family, by nftables' number.
    pub(super) const fn family(&self) -> u8 {
        self.family
    }

    pub(super) const fn program(&self) -> &'static str {
        self.program
    }

    /// Takes the chains away, all of them or none.
    pub(super) fn remove(&self) -> io::Result<()> {
        let Some(removal) = &self.removal else {
            return Ok(());
        };
        let mut command = Command::new(format!("{}-restore", self.program));
        command.arg("--noflush").arg("-w").stdin(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(removal.restore.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io::Error::other(said))
    }
}

/// The tables that there are. Where the programs are missing each is listed: it may have rules of kube-proxy.
pub(super) fn find() -> io::Result<Vec<Legacy>> {
    let mut found = Vec::new();
    for (number, program, list) in FAMILIES {
        let tables = fs::read_to_string(list).unwrap_or_default();
        for table in tables.lines() {
            let removal = match save(program, table) {
                Ok(saved) => {
                    let removal = removal(table, &saved);
                    if removal.chains == 0 {
                        continue;
                    }
                    Some(removal)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            found.push(Legacy {
                name: format!("{} {table}", family(number)),
                family: number,
                program,
                removal,
            });
        }
    }
    Ok(found)
}

fn save(program: &str, table: &str) -> io::Result<String> {
    let mut command = Command::new(format!("{program}-save"));
    let output = command.args(["-t", table]).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(said))
}

/// What `restore` takes to remove kube-proxy's chains of a saved table: each is emptied, then the rules that lead there
/// from others go, then the chains.
fn removal(table: &str, saved: &str) -> Removal {
    let declared = saved.lines().filter_map(|line| line.strip_prefix(':'));
    let declared = declared.filter_map(|line| line.split(' ').next());
    let chains: Vec<&str> = declared.filter(|name| is_chain(name)).collect();
    let rules = saved.lines().filter_map(|line| line.strip_prefix("-A "));
    let jumps: Vec<&str> = rules.filter(|rule| is_jump(rule)).collect();
    let mut restore = format!("*{table}\n");
    for chain in &chains {
        restore.push_str(&format!(":{chain} - [0:0]\n"));
    }
    for jump in &jumps {
        restore.push_str(&format!("-D {jump}\n"));
    }
    for chain in &chains {
        restore.push_str(&format!("-X {chain}\n"));
    }
    restore.push_str("COMMIT\n");
    Removal {
        chains: chains.len(),
        jumps: jumps.len(),
        restore,
    }
}

/// Whether a rule of somebody else's chain leads to one of kube-proxy's.
fn is_jump(rule: &str) -> bool {
    let words: Vec<&str> = rule.split(' ').collect();
    let own = words.first().is_some_and(|chain| is_chain(chain));
    let mut pairs = words.windows(2);
    !own && pairs.any(|pair| matches!(pair, ["-j" | "-g", to] if is_chain(to)))
}

#[cfg(test)]
mod tests {
    use super::removal;

    const SAVED: &str = "\
# Generated by iptables-save
*nat
:PREROUTING ACCEPT [1:60]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A PREROUTING -j MINE
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j DNAT --to-destination 10.0.0.1:80
COMMIT
";

    #[test]
    fn what_was_saved_is_taken_apart() {
        let removal = removal("nat", SAVED);
        assert_eq!((removal.chains, removal.jumps), (2, 1));
        let expected = "\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-X KUBE-SERVICES
-X KUBE-SVC-AAAAAAAAAAAAAAAA
COMMIT
";
        assert_eq!(removal.restore, expected);
    }
}
