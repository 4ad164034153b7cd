//! The codes of what the commands and the servers refuse. Those of the host's probes stand with the probes.

/// A code, what it says, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Never given to anything else.
    pub code: &'static str,
    /// What it says.
    pub meaning: &'static str,
    /// What to do.
    pub fix: &'static str,
}

const fn code(code: &'static str, meaning: &'static str, fix: &'static str) -> Code {
    Code { code, meaning, fix }
}

/// All of them, by number.
pub const CODES: [Code; 30] = [
    code(
        "MESH050",
        "the directory of `--source dir:PATH` cannot be watched",
        "make it, or name another",
    ),
    code(
        "MESH060",
        "the operating system gives no thread or no signals",
        "look at the limits on processes and open files",
    ),
    code(
        "MESH061",
        "the node's interfaces cannot be followed",
        "give the agent CAP_NET_ADMIN in the host's network namespace",
    ),
    code(
        "MESH062",
        "`--device` names an interface that is not there",
        "give names that `ip link` shows, or leave the flag out for those that carry the node's addresses",
    ),
    code(
        "MESH070",
        "`cleanup --kube-proxy-rules`: kube-proxy runs on this node and would make its rules anew",
        "take it off the node first, or say `--force`",
    ),
    code(
        "MESH071",
        "what kube-proxy left cannot be read or removed",
        "run it as root, on the node itself",
    ),
    code(
        "MESH102",
        "a flag belongs to another source",
        "leave it out",
    ),
    code(
        "MESH103",
        "a path is not absolute, or is `/`",
        "write all of it",
    ),
    code(
        "MESH104",
        "`--run-dir` and `--bpffs` are the same",
        "use another directory for one",
    ),
    code(
        "MESH105",
        "`--node-name` is no name a Node can have",
        "use the name that `kubectl get nodes` shows",
    ),
    code(
        "MESH106",
        "health and metrics have the same address",
        "choose another port for one",
    ),
    code(
        "MESH107",
        "the file of `--config` cannot be read, or is not kube-proxy's",
        "give config.conf of kube-proxy's ConfigMap",
    ),
    code(
        "MESH108",
        "a key in the file of `--config` has a value that it cannot have",
        "mend it, or leave it out",
    ),
    code(
        "MESH109",
        "every port of `--snat-ports` is a node port",
        "give a range that reaches beyond `--nodeport-range`",
    ),
    code(
        "MESH110",
        "the run directory cannot be made or looked at",
        "run as root, or choose another `--run-dir`",
    ),
    code(
        "MESH111",
        "the run directory's name is taken by something else",
        "remove that, or choose another `--run-dir`",
    ),
    code(
        "MESH112",
        "others can write to the run directory",
        "use a directory of root's that only root can write to",
    ),
    code(
        "MESH113",
        "the lock file cannot be used",
        "run as root, or choose another `--run-dir`",
    ),
    code(
        "MESH114",
        "the admin socket cannot be made",
        "choose another `--run-dir`",
    ),
    code(
        "MESH115",
        "an address is taken, or is not this host's",
        "stop what listens there, often kube-proxy, or choose another address with the flag that is named",
    ),
    code(
        "MESH116",
        "the servers' thread cannot start",
        "look at the limits on processes and open files",
    ),
    code(
        "MESH120",
        "`check`: no agent answers",
        "start one, or check the host alone with `--pre`",
    ),
    code(
        "MESH121",
        "`check`: the agent is not ready",
        "wait with `mesh-agent status --wait`, or look at its log",
    ),
    code(
        "MESH122",
        "`check`: Services are not yet written",
        "`mesh-agent status` says which and why",
    ),
    code(
        "MESH123",
        "`check`: objects have problems",
        "`mesh-agent status` lists them",
    ),
    code(
        "MESH130",
        "no API server is known",
        "give `--api-server`, `--kubeconfig` or MESH_AGENT_API_SERVER, or run it in a Pod",
    ),
    code(
        "MESH131",
        "the kubeconfig cannot be used",
        "mend it, or give another",
    ),
    code(
        "MESH132",
        "the Pod's service account cannot be used",
        "run it in a Pod with a service account, or give `--kubeconfig`",
    ),
    code(
        "MESH133",
        "the API server's address is no URL",
        "write https://HOST:PORT",
    ),
    code(
        "MESH134",
        "certificates or keys of the kubeconfig cannot be used",
        "look at them",
    ),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::datapath;

    /// Codes in a text.
    fn codes(text: &str) -> impl Iterator<Item = String> {
        let rest = text.split("MESH").skip(1);
        let digits = rest.filter_map(|rest| rest.get(..3));
        digits
            .filter(|digits| digits.bytes().all(|it| it.is_ascii_digit()))
            .map(|digits| format!("MESH{digits}"))
    }

    /// Everything in the sources but tests and the two tables.
    fn sources(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "tests" {
                sources(&path, text);
            } else if name.ends_with(".rs") && name != "tests.rs" && name != "codes.rs" {
                text.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_code_that_is_used_is_in_the_table() {
        let mut text = String::new();
        sources(
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
            &mut text,
        );
        let probes: BTreeSet<_> = datapath::codes::CODES
            .iter()
            .map(|it| it.code.to_owned())
            .collect();
        let known: BTreeSet<_> = CODES.iter().map(|it| it.code.to_owned()).collect();
        assert_eq!(known.len(), CODES.len(), "a code is given twice");
        assert!(probes.is_disjoint(&known), "a code is given twice");
        let used: BTreeSet<_> = codes(&text).filter(|code| !probes.contains(code)).collect();
        assert_eq!(used, known);
    }
}
