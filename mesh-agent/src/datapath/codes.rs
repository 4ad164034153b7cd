//! The findings of `check`, by codes that never change: what each means and what to do. `run` refuses to start with
//! the same codes.

/// A code of `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// `MESH` and three digits; never given to another meaning.
    pub code: &'static str,
    /// What is looked at.
    pub name: &'static str,
    /// Why it matters.
    pub meaning: &'static str,
    /// What to do when it is not as it should be.
    pub fix: &'static str,
}

macro_rules! codes {
    ($($constant:ident = $code:literal $name:literal: $meaning:literal, $fix:literal;)+) => {
        $(#[doc = $meaning] pub const $constant: Code =
            Code { code: $code, name: $name, meaning: $meaning, fix: $fix };)+

        /// Every code, in order.
        pub const CODES: &[Code] = &[$($constant),+];
    };
}

codes! {
    PRIVILEGES = "MESH001" "privileges":
        "Loading and attaching programs needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; the rest works without CAP_SYS_ADMIN too",
        "run it as root, in a container with these capabilities";
    KERNEL = "MESH002" "kernel":
        "Everything works from Linux 6.1; 5.10 and 5.15 lack something",
        "use a kernel of 6.1 or newer";
    BTF = "MESH003" "btf":
        "Programs of the traffic hooks to come need the kernel's types",
        "use a kernel that is built with CONFIG_DEBUG_INFO_BTF";
    BPFFS = "MESH004" "bpffs":
        "Programs, links and maps outlive the agent by their pins on a bpffs",
        "mount -t bpf bpf /sys/fs/bpf, or choose a --bpffs below one that is mounted";
    CGROUP = "MESH005" "cgroup2":
        "Programs are attached to a directory of the cgroup2 hierarchy",
        "mount -t cgroup2 none /sys/fs/cgroup, or give its place as --cgroup";
    HOOKS = "MESH006" "hooks":
        "The kernel must have every socket hook",
        "use a kernel of 5.10 or newer that is built with CONFIG_CGROUP_BPF and CONFIG_IPV6";
    NETNS_COOKIE = "MESH007" "helper bpf_get_netns_cookie":
        "Clients at sockets are known by the cookie of their network namespace",
        "use a kernel of 5.15 or newer";
    SET_RETVAL = "MESH008" "helper bpf_set_retval":
        "A connection to a Service without endpoints fails with ECONNREFUSED; without it with EPERM",
        "use a kernel of 6.1 or newer";
    MAPPED_ARRAYS = "MESH009" "mapped arrays":
        "The agent writes into arrays through mapped memory (BPF_F_MMAPABLE, Linux 5.5)",
        "use a kernel of 5.10 or newer";
    GRACE = "MESH010" "membarrier":
        "The agent must know when no program reads what it has taken away",
        "use a kernel that is built with CONFIG_MEMBARRIER and not started with nohz_full, and let seccomp pass membarrier";
    OTHERS = "MESH011" "other programs on our hooks":
        "Another program that translates Services would see a connection before or after us",
        "take the other service load balancer off this node, or start with --force";
    KUBE_PROXY = "MESH012" "kube-proxy":
        "Rules of kube-proxy translate what the socket hooks leave alone",
        "stop kube-proxy on this node, then take its rules away with mesh-agent cleanup --kube-proxy-rules";
    HOST_CGROUP = "MESH013" "the host's cgroup root":
        "From a cgroup of its own a container serves nobody else",
        "mount the host's /sys/fs/cgroup as a hostPath volume, and leave --cgroup out or give its place in the container";
    HOST_BPFFS = "MESH014" "the host's bpffs":
        "Pins on a bpffs that is mounted in a container go when the container goes",
        "mount -t bpf bpf /sys/fs/bpf on the host, and mount it in the container as a hostPath volume";
    MEMLOCK = "MESH015" "memlock":
        "Before Linux 5.11 maps count against RLIMIT_MEMLOCK",
        "raise the limit: LimitMEMLOCK=infinity in a systemd unit";
    JIT = "MESH016" "jit":
        "Without the JIT compiler programs are interpreted, several times slower",
        "sysctl net.core.bpf_jit_enable=1";
    PINS = "MESH017" "directory of pins":
        "Whoever can write where programs are pinned can replace them",
        "run it as the directory's owner; if it is nobody's who should, remove it or choose another --bpffs";
    WAY = "MESH018" "hooks at interfaces":
        "Programs for packets are attached to the interfaces of local pods and the node's devices",
        "use a kernel that is built with CONFIG_NET_CLS_ACT and CONFIG_NET_CLS_BPF";
    DEVICES = "MESH019" "devices":
        "Node ports, external and load balancers' addresses are served at the node's devices, and node ports at their addresses",
        "give the node an address, or name its devices by --device";
    PODS = "MESH020" "local pods":
        "Local pods are found by their veths or taps; packets by interfaces of other kinds are not translated",
        "nothing, if no traffic for Services comes by the interfaces that are named; else use a network whose pods have veths";
    DESTROY = "MESH021" "sock_destroy":
        "Connected sockets whose backend is gone are destroyed, so that their programs learn of it at once",
        "use a kernel that is built with CONFIG_INET_DIAG_DESTROY, CONFIG_INET_TCP_DIAG and CONFIG_INET_UDP_DIAG; where those are modules, load tcp_diag and udp_diag";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_complete() {
        for (index, code) in CODES.iter().enumerate() {
            assert_eq!(code.code, format!("MESH{:03}", index + 1));
            assert!(!code.name.is_empty() && !code.meaning.is_empty() && !code.fix.is_empty());
        }
    }
}
