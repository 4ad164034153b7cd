//! The connection of a sockops hook. The kernel calls the hook for much more than what is of interest here.

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, bpf_sock_ops},
    helpers::bpf_get_netns_cookie,
    programs::SockOpsContext,
};
use mesh_common::Address;
use mesh_ebpf::Connection;

/// 1 where bpf_get_netns_cookie works in this hook (Linux 5.15); the agent sets it when it loads the object. Where it is
/// 0 the verifier never sees the call, and nothing is learned.
#[unsafe(no_mangle)]
static HAS_SOCK_OPS_NETNS: u32 = 0;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// A connection that this side began, at the moment when the other has answered.
pub(crate) struct SockOps {
    context: *mut bpf_sock_ops,
    is_v4: bool,
}

impl SockOps {
    /// None where the hook was called for something else, or cannot tell who the client is.
    #[inline(always)]
    pub(crate) fn established(context: &SockOpsContext) -> Option<Self> {
        // SAFETY: the static is initialised and never written by the program; read as the agent left it.
        if unsafe { (&raw const HAS_SOCK_OPS_NETNS).read_volatile() } == 0
            || context.op() != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        {
            return None;
        }
        let family = context.family();
        (family == AF_INET || family == AF_INET6).then_some(Self {
            context: context.ops,
            is_v4: family == AF_INET,
        })
    }
}

/// The kernel lets a program read each word of an IPv6 address by itself.
#[inline(always)]
unsafe fn words(first: *const u32) -> Address {
    // SAFETY: the caller gives the first of four words of the context.
    let word = |index: usize| unsafe { first.add(index).read_volatile() };
    Address::from_words([word(0), word(1), word(2), word(3)])
}

impl Connection for SockOps {
    #[inline(always)]
    fn own(&self) -> Address {
        // SAFETY: the context is the program's own for its whole run.
        unsafe {
            if self.is_v4 {
                return Address::from_v4_word((*self.context).local_ip4);
            }
            words((&raw const (*self.context).local_ip6).cast())
        }
    }

    #[inline(always)]
    fn peer(&self) -> Address {
        // SAFETY: as in `own`.
        unsafe {
            if self.is_v4 {
                return Address::from_v4_word((*self.context).remote_ip4);
            }
            words((&raw const (*self.context).remote_ip6).cast())
        }
    }

    #[inline(always)]
    fn netns_cookie(&self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_netns_cookie(self.context.cast()) }
    }
}
