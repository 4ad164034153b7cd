//! Tables, clock, randomness and counters over BPF maps and helpers.

use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use aya_ebpf::helpers::{
    bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns,
};
use aya_ebpf::maps::Array;
use mesh_common::{
    Address, AffinityKey, AffinityValue, Backend, BackendId, ClientAddresses, Counter,
    EARLY_INTERFACES, FlowCell, FlowKey, FlowTag, FlowValue, FragmentKey, FragmentPorts,
    FrontendKey, FrontendValue, Interface, LearnedClient, Peer, Port, ServiceId, ServiceWord,
    SetId, SetWord, SocketKey, SocketValue,
};
use mesh_ebpf::{
    Claim, Clock, Found, Full, IcmpLimit, Jiffies, NotAdded, NotConfirmed, Place, Random, Sink,
    SnatPorts, Tables, whole_seconds,
};

use super::{
    flow::{self, KernelFlow},
    maps::{
        AFFINITY, BACKENDS, CLIENTS, COUNTS, FOREIGN, FRAGMENTS, FRONTENDS, ICMP_PAID, INTERFACES,
        LATE_INTERFACES, LEARNED_CLIENTS, PEER_COOKIES, PEER_PLACES, SERVICES, SETS, SLOTS,
        SOCKETS, SOURCE_RANGES,
    },
};

/// What the agent sets when it loads the object.
macro_rules! settings {
    ($($(#[$meta:meta])* $name:ident = $default:expr;)+) => {
        $($(#[$meta])* #[unsafe(no_mangle)] static $name: u32 = $default;)+
    };
}

settings! {
    /// A number that only this host knows, the same until it starts anew.
    SEED = 0;
    /// The lowest port that may stand for a client.
    SNAT_FIRST = 1024;
    /// The highest.
    SNAT_LAST = 65_535;
    /// The lowest NodePort.
    NODEPORT_FIRST = 30_000;
    /// The highest.
    NODEPORT_LAST = 32_767;
    /// The lowest of the ports that stand for a client only when no other is found.
    LOUD_FIRST = 30_000;
    /// The highest.
    LOUD_LAST = 32_767;
    /// Lines of `flows` without the spill.
    FLOW_LINES = 1000;
    /// Lines of the spill.
    SPILL_LINES = 24;
    /// Whether the kernel has bpf_ktime_get_coarse_ns (Linux 5.11). Its clock goes in steps of some milliseconds, which is
    /// exact enough for seconds, and costs a tenth.
    HAS_COARSE_CLOCK = 0;
    /// Whether `foreign` may hold anything. Where it is 0 the verifier never sees a look-up there.
    HAS_FOREIGN = 0;
    /// `Jiffies::part`.
    JIFFY = 0;
    /// Nanoseconds that an ICMP error costs.
    ICMP_INTERVAL = 1_000_000;
    /// How many may be made at once.
    ICMP_BURST = 50;
}

/// `Jiffies::first`.
#[unsafe(no_mangle)]
static FIRST_JIFFY: u64 = 0;

/// Whether backend ids in flows are those of these tables; 0 until the agent has put them right. In `.data`, because it
/// changes while the programs are in force.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data")]
static IDS_TRUSTED: AtomicU64 = AtomicU64::new(1);

/// A setting, as the agent left it.
#[inline(always)]
fn setting(setting: &'static u32) -> u32 {
    // SAFETY: a static of the program's, initialised and never written by it.
    unsafe { core::ptr::from_ref(setting).read_volatile() }
}

#[inline(always)]
pub(super) fn seed() -> u32 {
    setting(&SEED)
}

#[inline(always)]
pub(super) fn flow_lines() -> u32 {
    setting(&FLOW_LINES)
}

#[inline(always)]
pub(super) fn spill_lines() -> u32 {
    setting(&SPILL_LINES)
}

/// The one environment: maps are the program's own, so there is nothing to hold.
pub(crate) struct KernelEnv;

/// One load of a word that the agent may be storing at this moment; 0 when the index is out of range.
#[inline(always)]
fn word(array: &Array<u64>, index: u32) -> u64 {
    match array.get_ptr(index) {
        // SAFETY: the pointer is the kernel's, aligned to 8 bytes and valid for the whole run of the program.
        Some(pointer) => unsafe { pointer.read_volatile() },
        None => 0,
    }
}

impl Tables for KernelEnv {
    #[inline(always)]
    fn frontend(&self, key: &FrontendKey) -> Option<FrontendValue> {
        // SAFETY: copied out at once; the agent never has an element reused while a program may read it (it waits for
        // a grace period between a removal and the next insertion).
        unsafe { FRONTENDS.get(key) }.copied()
    }

    #[inline(always)]
    fn service(&self, id: ServiceId) -> ServiceWord {
        ServiceWord::from_word(word(&SERVICES, id))
    }

    #[inline(always)]
    fn set(&self, id: SetId) -> SetWord {
        SetWord::from_word(word(&SETS, id))
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> BackendId {
        word(&SLOTS, index) as BackendId
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<Backend> {
        BACKENDS.get(id).copied()
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<AffinityValue> {
        // SAFETY: copied out at once; that an element may be reused meanwhile is what the value's service tells.
        unsafe { AFFINITY.get(key) }.copied()
    }

    #[inline(always)]
    fn set_affinity(&self, key: &AffinityKey, value: &AffinityValue) {
        // Best effort: a client whose entry cannot be written is balanced anew.
        AFFINITY.insert(key, value, 0).ok();
    }

    #[inline(always)]
    fn peer_cookie(&self, place: u32) -> u64 {
        word(&PEER_COOKIES, place)
    }

    #[inline(always)]
    fn set_peer_cookie(&self, place: u32, cookie: u64) {
        // x86 keeps stores in order, and on arm64 a socket's entry is read where it was written or after its system
        // call returned, so it is the compiler alone that must keep the order.
        compiler_fence(Ordering::SeqCst);
        if let Some(pointer) = PEER_COOKIES.get_ptr_mut(place) {
            // SAFETY: as for `word`; one aligned store.
            unsafe { pointer.write_volatile(cookie) };
        }
    }

    #[inline(always)]
    fn peer(&self, place: u32) -> Peer {
        PEER_PLACES.get(place).copied().unwrap_or(Peer::FREE)
    }

    #[inline(always)]
    fn set_peer(&self, place: u32, peer: Peer) {
        if let Some(pointer) = PEER_PLACES.get_ptr_mut(place) {
            // SAFETY: as for `word`; whoever reads it at this moment sees another cookie in the entry, or the entry
            // of the same socket's earlier connect.
            unsafe { pointer.write(peer) };
        }
    }

    #[inline(always)]
    fn socket(&self, key: &SocketKey) -> Option<SocketValue> {
        // SAFETY: copied out at once; that an element may be reused meanwhile is what the value's cookie tells.
        unsafe { SOCKETS.get(key) }
            .copied()
            .or_else(|| before::socket(key))
    }

    #[inline(always)]
    fn set_socket(&self, key: &SocketKey, value: &SocketValue) -> Result<(), Full> {
        SOCKETS.insert(key, value, 0).map_err(|_| Full)
    }

    #[inline(always)]
    fn remove_socket(&self, key: &SocketKey) {
        // That there is nothing to remove is the common case.
        SOCKETS.remove(key).ok();
        before::remove_socket(key);
    }

    #[inline(always)]
    fn client(&self, cookie: u64) -> Option<ClientAddresses> {
        // SAFETY: copied out at once; that an element may be reused meanwhile is what the value's cookie tells.
        unsafe { CLIENTS.get(cookie) }.copied()
    }

    #[inline(always)]
    fn learned_client(&self, cookie: u64) -> Option<LearnedClient> {
        // SAFETY: as for `client`.
        unsafe { LEARNED_CLIENTS.get(cookie) }.copied()
    }

    #[inline(always)]
    fn set_learned_client(&self, cookie: u64, value: &LearnedClient) {
        // Best effort: the next connection shows it again.
        LEARNED_CLIENTS.insert(cookie, value, 0).ok();
    }

    #[inline(always)]
    fn has_source(&self, service: ServiceId, address: Address) -> bool {
        let [a, b, c, d] = address.words();
        let key = aya_ebpf::maps::lpm_trie::Key::new(160, [service, a, b, c, d]);
        SOURCE_RANGES.get(key).is_some()
    }

    #[inline(always)]
    fn interface(&self, number: u32) -> Option<Interface> {
        if number < EARLY_INTERFACES {
            return INTERFACES.get(number).copied();
        }
        // SAFETY: copied out at once; written when an interface comes, goes or changes its address.
        unsafe { LATE_INTERFACES.get(number) }.copied()
    }

    #[inline(always)]
    fn snat_ports(&self) -> SnatPorts {
        SnatPorts {
            first: setting(&SNAT_FIRST) as u16,
            last: setting(&SNAT_LAST) as u16,
            hole_first: setting(&NODEPORT_FIRST) as u16,
            hole_last: setting(&NODEPORT_LAST) as u16,
        }
    }

    #[inline(always)]
    fn quiet_snat_ports(&self) -> SnatPorts {
        SnatPorts {
            hole_first: setting(&LOUD_FIRST) as u16,
            hole_last: setting(&LOUD_LAST) as u16,
            ..self.snat_ports()
        }
    }

    #[inline(always)]
    fn trusts_ids(&self) -> bool {
        // SAFETY: a static of the program's; one aligned load of a word that the agent may be storing.
        unsafe { IDS_TRUSTED.as_ptr().read_volatile() != 0 }
    }

    type Flow<'a> = KernelFlow;

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<KernelFlow> {
        flow::find(key)
    }

    #[inline(always)]
    fn set_flow_source(&self, found: Found, key: &FlowKey, source: (Address, Port)) {
        flow::set_source(found, key, source);
    }

    #[inline(always)]
    fn fetch_flow(&self, tag: FlowTag) {
        flow::fetch(tag);
    }

    #[inline(always)]
    fn claim_flow(&self, place: Place, _: &FlowKey, tag: FlowTag) -> Result<Claim, NotAdded> {
        flow::claim(place, tag)
    }

    #[inline(always)]
    fn claim_flows(
        &self,
        request: &FlowKey,
        backend: (Address, Port),
        has_leaving: bool,
    ) -> Option<[Claim; 3]> {
        flow::claim_together(request, backend, has_leaving)
    }

    #[inline(always)]
    fn fill_flow(&self, claim: Claim, key: &FlowKey, value: &FlowValue) {
        flow::fill(claim, &FlowCell::new(key, value));
    }

    #[inline(always)]
    fn await_flow(&self, key: &FlowKey) {
        flow::wait(key);
    }

    #[inline(always)]
    fn unclaim_flow(&self, claim: Claim, _: &FlowKey) {
        flow::unclaim(claim);
    }

    #[inline(always)]
    fn confirm_flow(&self, key: &FlowKey) -> Result<(), NotConfirmed> {
        flow::confirm(key)
    }

    #[inline(always)]
    fn confirm_beside(&self, request: &KernelFlow, reply: &FlowKey, is_all: bool) -> bool {
        flow::confirm_beside(request, reply, is_all)
    }

    #[inline(always)]
    fn unconfirm_flow(&self, key: &FlowKey) {
        flow::unconfirm(key);
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        flow::remove(key);
    }

    #[inline(always)]
    fn foreign(&self, key: &FlowKey) -> u32 {
        if setting(&HAS_FOREIGN) == 0 {
            return 0;
        }
        match FOREIGN.get_ptr(key) {
            // SAFETY: the pointer is the kernel's, aligned and valid for the whole run of the program.
            Some(last) => unsafe { last.read_volatile() },
            None => 0,
        }
    }

    #[inline(always)]
    fn set_foreign(&self, key: &FlowKey, seconds: u32) {
        if let Some(last) = FOREIGN.get_ptr_mut(key) {
            // SAFETY: as in `foreign`; one aligned store.
            unsafe { last.write_volatile(seconds) };
        }
    }

    #[inline(always)]
    fn icmp_limit(&self) -> IcmpLimit {
        IcmpLimit {
            interval: setting(&ICMP_INTERVAL),
            burst: setting(&ICMP_BURST),
        }
    }

    #[inline(always)]
    fn icmp_paid(&self) -> u64 {
        // SAFETY: the pointer is to this processor's own copy.
        ICMP_PAID.get(0).map_or(0, |paid| unsafe {
            core::ptr::from_ref(paid).read_volatile()
        })
    }

    #[inline(always)]
    fn set_icmp_paid(&self, until: u64) {
        if let Some(paid) = ICMP_PAID.get_ptr_mut(0) {
            // SAFETY: as in `icmp_paid`.
            unsafe { paid.write_volatile(until) };
        }
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        // SAFETY: copied out at once; that an element may be reused meanwhile is what the value's identification tells.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn set_fragment(&self, key: &FragmentKey, ports: &FragmentPorts) {
        // Best effort: the later parts are dropped then, and the packet is sent again.
        FRAGMENTS.insert(key, ports, 0).ok();
    }
}

/// What was remembered in the version before.
#[cfg(feature = "layout-next")]
mod before {
    use mesh_common::{SocketKey, SocketValue};

    use super::super::maps::SOCKETS_BEFORE;

    /// 1 if the ids there are ids of today's tables too; the agent sets it when it loads the object.
    #[unsafe(no_mangle)]
    static BEFORE_HAS_IDS: u32 = 0;

    #[inline(always)]
    pub(super) fn socket(key: &SocketKey) -> Option<SocketValue> {
        // SAFETY: the static is initialised and never written by the program; read as the agent left it.
        let has_ids = unsafe { (&raw const BEFORE_HAS_IDS).read_volatile() } != 0;
        if key.kind() == SocketKey::CHOSEN && !has_ids {
            return None;
        }
        // SAFETY: as for SOCKETS.
        unsafe { SOCKETS_BEFORE.get(key) }.map(|value| SocketValue::from(*value))
    }

    #[inline(always)]
    pub(super) fn remove_socket(key: &SocketKey) {
        SOCKETS_BEFORE.remove(key).ok();
    }
}

/// There is no version before the first.
#[cfg(not(feature = "layout-next"))]
mod before {
    use mesh_common::{SocketKey, SocketValue};

    #[inline(always)]
    pub(super) const fn socket(_: &SocketKey) -> Option<SocketValue> {
        None
    }

    #[inline(always)]
    pub(super) const fn remove_socket(_: &SocketKey) {}
}

impl Clock for KernelEnv {
    #[inline(always)]
    fn now(&self) -> u64 {
        if setting(&HAS_COARSE_CLOCK) != 0 {
            // SAFETY: the helper has no preconditions.
            return unsafe { bpf_ktime_get_coarse_ns() };
        }
        // SAFETY: as above.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn seconds(&self) -> u32 {
        let jiffies = Jiffies {
            // SAFETY: as in `setting`.
            first: unsafe { (&raw const FIRST_JIFFY).read_volatile() },
            part: setting(&JIFFY),
        };
        if jiffies.part == Jiffies::UNKNOWN.part {
            return whole_seconds(self.now());
        }
        // SAFETY: the helper has no preconditions.
        jiffies.seconds(unsafe { bpf_jiffies64() })
    }
}

impl Random for KernelEnv {
    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn seed(&self) -> u32 {
        seed()
    }
}

impl Sink for KernelEnv {
    #[inline(always)]
    fn count(&self, counter: Counter) {
        if let Some(count) = COUNTS.get_ptr_mut(counter.index()) {
            // SAFETY: the pointer is to this CPU's own copy. A program that is preempted in between may lose one
            // count, never more.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }
}
