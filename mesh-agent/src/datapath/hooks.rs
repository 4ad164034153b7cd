//! The hooks, in the order in which their programs are put in force: who reads what was remembered of a socket comes
//! before who remembers it, so that no socket meets a reader older than its entry. Cleanup goes backwards.

/// A program of the object and where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program's name, which its link and its pins share.
    pub name: &'static str,
    /// bpf_attach_type, as uapi/linux/bpf.h numbers it.
    pub attach_type: u32,
}

/// The attach type of the hook at which connections show who their clients are.
pub(super) const SOCK_OPS: u32 = 3;

const fn hook(name: &'static str, attach_type: u32) -> Hook {
    Hook { name, attach_type }
}

/// Every hook.
pub const HOOKS: [Hook; 10] = [
    hook("established", SOCK_OPS),
    hook("recvmsg4", 19),
    hook("recvmsg6", 20),
    hook("getpeername4", 29),
    hook("getpeername6", 30),
    hook("sock_release", 34),
    hook("sendmsg4", 14),
    hook("sendmsg6", 15),
    hook("connect6", 11),
    hook("connect4", 10),
];

/// The hook at which connections show who their clients are. The kernel calls it some nine times in a connection's life: what
/// `commit` has attached stays only while a Service asks who its clients are.
pub(super) const CLIENTS: Hook = HOOKS[0];

/// How many of the hooks only read what was remembered of sockets, or forget it, or have nothing to do with it.
pub(super) const READERS: usize = 6;

/// The hook whose program is replaced last: the maps that it uses are those in force.
pub(super) const LAST: Hook = HOOKS[HOOKS.len() - 1];

/// The last of the hooks that leave datagrams to another load balancer.
pub(super) const LAST_SENDER: Hook = HOOKS[READERS + 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_come_first() {
        let place = |name: &str| HOOKS.iter().position(|hook| hook.name == name);
        for reader in [
            "recvmsg4",
            "recvmsg6",
            "getpeername4",
            "getpeername6",
            "sock_release",
        ] {
            for writer in ["sendmsg4", "sendmsg6", "connect4", "connect6"] {
                assert!(place(reader) < place(writer), "{reader} {writer}");
            }
        }
        assert_eq!(LAST.name, "connect4");
        assert_eq!(LAST_SENDER.name, "sendmsg6");
        assert_eq!(CLIENTS.attach_type, SOCK_OPS);
    }
}
