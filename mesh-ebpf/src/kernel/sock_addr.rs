//! The socket of a sock_addr hook, and what the hook returns.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval},
    programs::SockAddrContext,
};
use mesh_common::{Address, Client, Port, Protocol};
use mesh_ebpf::{Socket, Verdict};

/// 1 where bpf_set_retval works in these hooks (Linux 6.1); the agent sets it when it loads the object. Where it is 0
/// the verifier never sees the call, and a refusal is EPERM.
#[unsafe(no_mangle)]
static HAS_SET_RETVAL: u32 = 0;

/// The cookie of the host's network namespace, which is the agent's own; the agent sets it when it loads the object. 0
/// where the kernel does not tell it (before Linux 5.14): then it is the first one's of all.
#[unsafe(no_mangle)]
static HOST_NETNS: u64 = 0;

/// ECONNREFUSED, the same number on every architecture that is supported.
const ECONNREFUSED: i32 = 111;

const IPPROTO_MPTCP: u32 = 262;

/// The context of a hook for AF_INET or AF_INET6 sockets: the kernel lets a program read only its own family's fields.
pub(crate) struct SockAddr<const V4: bool> {
    context: *mut bpf_sock_addr,
}

impl SockAddr<true> {
    /// For a hook whose name ends in 4.
    #[inline(always)]
    pub(crate) fn v4(context: &SockAddrContext) -> Self {
        Self {
            context: context.sock_addr,
        }
    }
}

impl SockAddr<false> {
    /// For a hook whose name ends in 6.
    #[inline(always)]
    pub(crate) fn v6(context: &SockAddrContext) -> Self {
        Self {
            context: context.sock_addr,
        }
    }
}

/// The protocol of a socket. MPTCP is TCP to a Service, but for getpeername: the hooks see the subflow, which is the
/// kernel's own socket, and the program asks the other.
#[inline(always)]
pub(crate) fn protocol(number: u32) -> Option<Protocol> {
    match number {
        6 | IPPROTO_MPTCP => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => None,
    }
}

impl<const V4: bool> Socket for SockAddr<V4> {
    #[inline(always)]
    fn peer(&self) -> (Address, Port) {
        // SAFETY: the context is the program's own for its whole run; each field is read whole and aligned.
        unsafe {
            let port = Port::from_be((*self.context).user_port as u16);
            if V4 {
                return (Address::from_v4_word((*self.context).user_ip4), port);
            }
            let words = &raw const (*self.context).user_ip6;
            let word = |index: usize| words.cast::<u32>().add(index).read_volatile();
            (
                Address::from_words([word(0), word(1), word(2), word(3)]),
                port,
            )
        }
    }

    #[inline(always)]
    fn set_peer(&mut self, address: Address, port: Port) {
        // SAFETY: as in `peer`; these fields may be written in every hook that calls this.
        unsafe {
            (*self.context).user_port = u32::from(port.to_be());
            if V4 {
                (*self.context).user_ip4 = address.v4_word();
                return;
            }
            let words = (&raw mut (*self.context).user_ip6).cast::<u32>();
            let [first, second, third, fourth] = address.words();
            words.write_volatile(first);
            words.add(1).write_volatile(second);
            words.add(2).write_volatile(third);
            words.add(3).write_volatile(fourth);
        }
    }

    #[inline(always)]
    fn own_port(&self) -> Port {
        // SAFETY: as in `peer`; the kernel gives every call of these hooks a socket.
        Port::new(unsafe { (*(*self.context).__bindgen_anon_1.sk).src_port } as u16)
    }

    #[inline(always)]
    fn protocol(&self) -> Option<Protocol> {
        // SAFETY: as in `peer`.
        protocol(unsafe { (*self.context).protocol })
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_socket_cookie(self.context.cast()) }
    }

    #[inline(always)]
    fn client(&self) -> Client {
        // SAFETY: the helper takes the program's own context.
        Client::from_netns_cookie(unsafe { bpf_get_netns_cookie(self.context.cast()) })
    }

    #[inline(always)]
    fn is_in_host(&self) -> bool {
        // SAFETY: the static is initialised and never written by the program; read as the agent left it.
        let told = unsafe { (&raw const HOST_NETNS).read_volatile() };
        let host = if told == 0 {
            // SAFETY: without a context the helper gives the first namespace's cookie.
            unsafe { bpf_get_netns_cookie(core::ptr::null_mut()) }
        } else {
            told
        };
        // SAFETY: the helper takes the program's own context.
        host == unsafe { bpf_get_netns_cookie(self.context.cast()) }
    }
}

/// What the kernel is told: 1 lets the call go on, 0 ends it with the error that was set, or EPERM.
#[inline(always)]
pub(crate) fn verdict_code(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Pass | Verdict::Forward => 1,
        Verdict::Refuse(_) => {
            // SAFETY: the static is initialised and never written by the program; read as the agent left it.
            if unsafe { (&raw const HAS_SET_RETVAL).read_volatile() } != 0 {
                // SAFETY: the helper has no preconditions.
                unsafe { bpf_set_retval(-ECONNREFUSED) };
            }
            0
        }
    }
}
