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
pub const CODES: [Code; 19] = [
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
        "MESH101",
        "`--source kube`: objects cannot be read from an API server",
        "use `--source dir:PATH`",
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
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_that_is_used_is_in_the_table() {
        let sources = [
            include_str!("../config.rs"),
            include_str!("../admin/run_dir.rs"),
            include_str!("../admin/lock.rs"),
            include_str!("../admin/servers.rs"),
            include_str!("check.rs"),
            include_str!("../agent.rs"),
            include_str!("../source/dir/mod.rs"),
        ];
        let used = sources
            .iter()
            .flat_map(|source| source.split("MESH").skip(1))
            .filter_map(|rest| rest.get(..3))
            .map(|digits| format!("MESH{digits}"))
            .collect::<BTreeSet<_>>();
        let known: BTreeSet<_> = CODES.iter().map(|it| it.code.to_owned()).collect();
        assert_eq!(used, known);
        assert_eq!(known.len(), CODES.len(), "a code is given twice");
    }
}
