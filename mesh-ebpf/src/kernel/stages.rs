//! How the stages of a packet are programs: what every packet needs is one, what few need are others, reached by tail
//! calls. State lies in per-CPU memory, one for each class of hooks.

use aya_ebpf::{maps::PerCpuArray, programs::TcContext};
use mesh_common::{Direction, Reason};
use mesh_ebpf::{
    LinkHeader, Packet, PacketHook, PacketStage, PacketState, PacketStep, PacketVerdict, cold,
    count_packet, direct, track,
};

use super::{
    KernelEnv, Skb,
    maps::{EGRESS, SCRATCH_EGRESS, SCRATCH_INGRESS, STAGES},
    packet::packet_code,
};

/// The state of this processor's packet at hooks of a direction.
#[inline(always)]
fn scratch(direction: Direction) -> Option<*mut PacketState> {
    let map: &PerCpuArray<PacketState> = match direction {
        Direction::Ingress => &SCRATCH_INGRESS,
        Direction::Egress => &SCRATCH_EGRESS,
    };
    map.get_ptr_mut(0)
}

/// The program of a hook. What is left to another program leaves from where that is found: one way for all of them would be
/// paid for by packets that do not go it.
#[inline(always)]
pub(crate) fn begin(context: &TcContext, hook: PacketHook, link: LinkHeader) -> i32 {
    let mut packet = Skb::new(context, link.length());
    if packet.family().is_none() {
        return end(&packet, PacketVerdict::Pass);
    }
    let Some(mut state) = direct(&packet, hook) else {
        let state = PacketState::new(hook, link.length());
        return leave(context, &packet, &state, PacketStage::Parse);
    };
    match track(&KernelEnv, &mut packet, &mut state) {
        PacketStep::Next(stage) => leave(context, &packet, &state, stage),
        PacketStep::Done(verdict) => end(&packet, verdict),
    }
}

/// To the program of a stage.
#[inline(always)]
fn leave(context: &TcContext, packet: &Skb, state: &PacketState, stage: PacketStage) -> i32 {
    let direction = state.hook.direction();
    let Some(kept) = scratch(direction) else {
        return end(packet, PacketVerdict::Drop(Reason::Inconsistent));
    };
    // SAFETY: the pointer is to this processor's own copy, which no other program of the class uses meanwhile.
    unsafe { *kept = *state };
    next(context, packet, direction, stage)
}

/// The program of a stage.
#[inline(always)]
pub(crate) fn go_on(context: &TcContext, direction: Direction, stage: PacketStage) -> i32 {
    let Some(state) = scratch(direction) else {
        let packet = Skb::new(context, 0);
        return end(&packet, PacketVerdict::Drop(Reason::Inconsistent));
    };
    // SAFETY: as in `begin`; the program that called this one has written it.
    let state = unsafe { &mut *state };
    let mut packet = Skb::new(context, state.network);
    match cold(stage, &KernelEnv, &mut packet, state) {
        PacketStep::Next(stage) => next(context, &packet, direction, stage),
        PacketStep::Done(verdict) => end(&packet, verdict),
    }
}

#[inline(always)]
fn next(context: &TcContext, packet: &Skb, direction: Direction, stage: PacketStage) -> i32 {
    let first = match direction {
        Direction::Ingress => 0,
        Direction::Egress => EGRESS,
    };
    if stage as u32 == PacketStage::Open as u32 {
        // A number that the verifier knows becomes a jump on x86; another one an indirect jump, which a kernel that guards
        // against Spectre makes slow.
        // SAFETY: nothing is held that would have to be given back.
        unsafe { STAGES.tail_call(context, first + PacketStage::Open as u32) };
        // SAFETY: it does nothing. Without it the compiler makes one call of both.
        unsafe { core::arch::asm!("") };
    } else {
        // SAFETY: as above.
        unsafe { STAGES.tail_call(context, first + stage as u32) };
    }
    // Nobody is there: the agent fills the array before it attaches anything.
    end(packet, PacketVerdict::Drop(Reason::Inconsistent))
}

#[inline(always)]
fn end(packet: &Skb, verdict: PacketVerdict) -> i32 {
    count_packet(&KernelEnv, verdict);
    packet_code(packet, verdict)
}
