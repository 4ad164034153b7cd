//! Others who translate Services on this host: programs on our hooks, and kube-proxy's rules.

use std::{collections::BTreeSet, fs};

use super::{
    super::{
        Options, codes,
        hooks::{HOOKS, SOCK_OPS},
        links::{self, Cgroup},
        pins::Pins,
    },
    CheckResult, nftables,
};

/// Programs that are known to translate Services, by the beginning of their names.
const LOAD_BALANCERS: [(&str, &str); 6] = [
    ("cil_sock", "Cilium"),
    ("sock4_", "Cilium"),
    ("sock6_", "Cilium"),
    ("calico_", "Calico"),
    ("cali_", "Calico"),
    ("cgroup_connect", "Kmesh"),
];

pub(super) fn others(options: &Options) -> CheckResult {
    let Ok(cgroup) = Cgroup::open(&options.cgroup) else {
        return CheckResult::warning(codes::OTHERS, "not known: the cgroup cannot be opened");
    };
    let pins = Pins::at(&options.bpffs);
    let (mut rivals, mut strangers) = (BTreeSet::new(), BTreeSet::new());
    // Programs of sockops see connections and translate none.
    for hook in HOOKS.iter().filter(|hook| hook.attach_type != SOCK_OPS) {
        let ours: Vec<u32> = links::program_in_force(&pins, hook)
            .iter()
            .map(|program| program.id)
            .collect();
        let programs = match links::others(&cgroup, hook, &ours) {
            Ok(programs) => programs,
            Err(error) => {
                let what = format!("not known: the hook {} cannot be asked: {error}", hook.name);
                return CheckResult::warning(codes::OTHERS, what);
            }
        };
        for program in programs {
            let Some(name) = program.name else {
                strangers.insert(format!("id {} at {}", program.id, hook.name));
                continue;
            };
            let place = format!("{name} (id {}) at {}", program.id, hook.name);
            match owner(&name) {
                Some(owner) => rivals.insert(format!("{owner}'s {place}")),
                None => strangers.insert(place),
            };
        }
    }
    let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    if !rivals.is_empty() {
        return CheckResult::error(codes::OTHERS, list(rivals));
    }
    if !strangers.is_empty() {
        let what = format!("programs that are not known here: {}", list(strangers));
        return CheckResult::warning(codes::OTHERS, what);
    }
    CheckResult::ok(
        codes::OTHERS,
        format!("none at {}", options.cgroup.display()),
    )
}

/// Whose load balancer a program is. One of our own name that is not pinned where we look is another agent's.
fn owner(program: &str) -> Option<&'static str> {
    if HOOKS.iter().any(|hook| hook.name == program) {
        return Some("another mesh-agent");
    }
    let known = LOAD_BALANCERS
        .iter()
        .find(|(prefix, _)| program.starts_with(prefix));
    known.map(|(_, owner)| *owner)
}

pub(super) fn kube_proxy() -> CheckResult {
    match nftables::has_name(&["kube-proxy", "KUBE-SERVICES"]) {
        Ok(Some(name)) => {
            return CheckResult::warning(codes::KUBE_PROXY, format!("{name} is in nftables"));
        }
        Ok(None) => {}
        Err(error) => {
            let what = format!("not known: nftables cannot be asked: {error}");
            return CheckResult::warning(codes::KUBE_PROXY, what);
        }
    }
    // Which chains the older interface has is not told to those who only look.
    let legacy = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if legacy.lines().any(|table| table == "nat") {
        let what = "not known: legacy iptables has a nat table; look for KUBE-SERVICES with iptables-legacy-save";
        return CheckResult::warning(codes::KUBE_PROXY, what);
    }
    CheckResult::ok(codes::KUBE_PROXY, "no rules of kube-proxy")
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn load_balancers_are_named() {
        assert_eq!(owner("cil_sock4_conne"), Some("Cilium"));
        assert_eq!(owner("connect4"), Some("another mesh-agent"));
        assert_eq!(owner("sd_devices"), None);
    }
}
