//! The packet of a tc hook, and what the hook returns.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock_tuple},
    helpers::{
        bpf_l4_csum_replace, bpf_redirect, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_adjust_room,
        bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_skc_lookup_tcp,
    },
    programs::TcContext,
};
use mesh_common::{FlowKey, Protocol};
use mesh_ebpf::{Broken, Covers, Difference, Family, Packet, PacketVerdict};

const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// Flags of bpf_l4_csum_replace.
const PSEUDO_HEADER: u64 = 0x10;
const MANGLED_0: u64 = 0x20;
/// Linux 6.16 and stable kernels since: without it a whole-packet sum that a device has computed goes wrong.
const IPV6: u64 = 0x80;

/// The namespace of the interface (BPF_F_CURRENT_NETNS).
const CURRENT_NETNS: u64 = u64::MAX;

/// BPF_ADJ_ROOM_MAC: between link header and network header.
const ROOM_MAC: u32 = 1;

/// The packet.
pub(crate) struct Skb {
    skb: *mut __sk_buff,
    network: u16,
}

impl Skb {
    /// `network` is where its IP header begins.
    #[inline(always)]
    pub(crate) fn new(context: &TcContext, network: u16) -> Self {
        Self {
            skb: context.skb.skb,
            network,
        }
    }
}

#[inline(always)]
fn done(result: i64) -> Result<(), Broken> {
    if result < 0 { Err(Broken) } else { Ok(()) }
}

impl Packet for Skb {
    #[inline(always)]
    fn family(&self) -> Option<Family> {
        // SAFETY: the context is the program's own for its whole run.
        match unsafe { (*self.skb).protocol } {
            ETH_P_IP => Some(Family::V4),
            ETH_P_IPV6 => Some(Family::V6),
            _ => None,
        }
    }

    #[inline(always)]
    fn network(&self) -> u32 {
        u32::from(self.network)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: as in `family`.
        unsafe { (*self.skb).len }
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: as in `family`.
        unsafe { (*self.skb).ifindex }
    }

    #[inline(always)]
    fn words<const N: usize>(&self) -> Option<[u32; N]> {
        // SAFETY: as in `family`.
        let (start, end) = unsafe { ((*self.skb).data as usize, (*self.skb).data_end as usize) };
        let first = start + usize::from(self.network);
        if first + 4 * N > end {
            return None;
        }
        let words = first as *const u32;
        // SAFETY: they end before the packet's linear part does, and the IP header is aligned to four bytes, or the
        // processor does not mind.
        Some(core::array::from_fn(|index| unsafe {
            words.add(index).read()
        }))
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes N bytes, or fails.
        let result = unsafe {
            bpf_skb_load_bytes(self.skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32)
        };
        if result < 0 {
            return None;
        }
        // SAFETY: it did not fail.
        Some(unsafe { bytes.assume_init() })
    }

    #[inline(always)]
    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), Broken> {
        // SAFETY: the helper reads N bytes.
        done(unsafe {
            bpf_skb_store_bytes(self.skb.cast(), offset, bytes.as_ptr().cast(), N as u32, 0)
        })
    }

    #[inline(always)]
    fn store_words<const N: usize>(&mut self, offset: u32, words: &[u32; N]) -> Result<(), Broken> {
        // SAFETY: the helper reads N words.
        done(unsafe {
            bpf_skb_store_bytes(
                self.skb.cast(),
                offset,
                words.as_ptr().cast(),
                4 * N as u32,
                0,
            )
        })
    }

    #[inline(always)]
    fn update_checksum(
        &mut self,
        offset: u32,
        difference: Difference,
        covers: Covers,
        optional: bool,
    ) -> Result<(), Broken> {
        let zero = if optional { MANGLED_0 } else { 0 };
        let replace = |flags: u64| {
            // SAFETY: the helper takes plain numbers and the program's own context.
            unsafe {
                bpf_l4_csum_replace(self.skb, offset, 0, u64::from(difference.0), flags | zero)
            }
        };
        match covers {
            Covers::Payload => done(replace(0)),
            Covers::PseudoHeaderV4 => done(replace(PSEUDO_HEADER)),
            Covers::PseudoHeaderV6 => {
                // A kernel that does not know the flag refuses it before it has done anything.
                if replace(PSEUDO_HEADER | IPV6) < 0 {
                    return done(replace(PSEUDO_HEADER));
                }
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn has_socket(&self, key: &FlowKey) -> bool {
        let mut tuple = MaybeUninit::uninit();
        let size = fill(&mut tuple, key);
        let tcp = key.protocol() == Protocol::Tcp.number();
        let (skb, tuple) = (self.skb.cast(), tuple.as_mut_ptr().cast());
        // SAFETY: the helpers read `size` bytes of the tuple, which `fill` has written; what they give is released.
        unsafe {
            let socket = if tcp {
                bpf_skc_lookup_tcp(skb, tuple, size, CURRENT_NETNS, 0).cast()
            } else {
                bpf_sk_lookup_udp(skb, tuple, size, CURRENT_NETNS, 0)
            };
            if socket.is_null() {
                return false;
            }
            bpf_sk_release(socket.cast());
        }
        true
    }

    #[inline(always)]
    fn truncate(&mut self, length: u32) -> Result<(), Broken> {
        // SAFETY: the helper takes plain numbers and the program's own context.
        done(unsafe { bpf_skb_change_tail(self.skb, length, 0) })
    }

    #[inline(always)]
    fn insert(&mut self, bytes: u32) -> Result<(), Broken> {
        // SAFETY: as in `truncate`.
        done(unsafe { bpf_skb_adjust_room(self.skb, bytes as i32, ROOM_MAC, 0) })
    }

    #[inline(always)]
    fn swap_link_addresses(&mut self) -> Result<(), Broken> {
        let Some(first) = self.load::<6>(0) else {
            return Err(Broken);
        };
        let Some(second) = self.load::<6>(6) else {
            return Err(Broken);
        };
        self.store(0, &second)?;
        self.store(6, &first)
    }
}

/// A `bpf_sock_tuple` of IPv6, and IPv4's as its beginning: source address, destination address, source port, destination port.
type SocketTuple = [u32; 9];

const _: () = assert!(size_of::<SocketTuple>() == size_of::<bpf_sock_tuple>());

/// The tuple as socket look-ups take it, and how many bytes of it are there: by that the kernel tells the family. What they do
/// not read is not cleared either: the compiler would do it byte by byte.
#[inline(always)]
fn fill(tuple: &mut MaybeUninit<SocketTuple>, key: &FlowKey) -> u32 {
    let (source, destination) = (key.source().0, key.destination().0);
    if destination.is_v4() {
        let words = [source.v4_word(), destination.v4_word(), key.ports()];
        // SAFETY: three words of nine.
        unsafe { tuple.as_mut_ptr().cast::<[u32; 3]>().write(words) };
        return size_of_val(&words) as u32;
    }
    let ([a, b, c, d], [e, f, g, h]) = (source.words(), destination.words());
    tuple.write([a, b, c, d, e, f, g, h, key.ports()]);
    size_of::<SocketTuple>() as u32
}

/// What the kernel is told: go on with the next program (TCX_NEXT, TC_ACT_UNSPEC), drop, or send back.
#[inline(always)]
pub(crate) fn packet_code(packet: &Skb, verdict: PacketVerdict) -> i32 {
    const NEXT: i32 = -1;
    const SHOT: i32 = 2;
    match verdict {
        PacketVerdict::Pass | PacketVerdict::Forward => NEXT,
        PacketVerdict::Drop(_) => SHOT,
        // SAFETY: the helper takes plain numbers.
        PacketVerdict::Reflect(_) => (unsafe { bpf_redirect(packet.interface(), 0) }) as i32,
    }
}
