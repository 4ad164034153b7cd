//! A packet in memory, and the walk over its stages.

use std::{collections::BTreeSet, vec::Vec};

use mesh_common::FlowKey;

use super::Sim;
use crate::{
    Broken, Covers, Difference, Family, LinkHeader, Packet, PacketHook, PacketStage, PacketState,
    PacketStep, PacketVerdict, count_packet, run_packet,
};

/// A packet in memory, as a tc hook sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimPacket {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What it begins with.
    pub link: LinkHeader,
    /// The kernel's number of the interface.
    pub interface: u32,
    /// Tuples that sockets of the host would get.
    pub sockets: BTreeSet<FlowKey>,
    /// Its transport checksum has yet to be finished by a device (the kernel's CHECKSUM_PARTIAL); otherwise it is whole.
    pub is_partial: bool,
}

impl SimPacket {
    /// A frame at an Ethernet interface of a host without sockets.
    #[must_use]
    pub const fn new(bytes: Vec<u8>, interface: u32) -> Self {
        Self {
            bytes,
            link: LinkHeader::Ethernet,
            interface,
            sockets: BTreeSet::new(),
            is_partial: false,
        }
    }

    /// Where the IP header begins.
    fn start(&self) -> usize {
        usize::from(self.link.length())
    }

    fn range(&mut self, offset: u32, length: usize) -> Result<&mut [u8], Broken> {
        let start = offset as usize;
        self.bytes.get_mut(start..start + length).ok_or(Broken)
    }
}

impl Packet for SimPacket {
    fn family(&self) -> Option<Family> {
        let is_v4 = match self.link {
            LinkHeader::Ethernet => match self.bytes.get(12..14)? {
                [0x08, 0x00] => true,
                [0x86, 0xdd] => false,
                _ => return None,
            },
            LinkHeader::None => match self.bytes.first()? >> 4 {
                4 => true,
                6 => false,
                _ => return None,
            },
        };
        Some(if is_v4 { Family::V4 } else { Family::V6 })
    }

    fn network(&self) -> u32 {
        u32::from(self.link.length())
    }

    fn length(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn interface(&self) -> u32 {
        self.interface
    }

    fn words<const N: usize>(&self) -> Option<[u32; N]> {
        let mut words = [0; N];
        let bytes = self.bytes.get(self.start()..self.start() + 4 * N)?;
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Some(words)
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = offset as usize;
        self.bytes.get(start..start + N)?.try_into().ok()
    }

    fn store<const N: usize>(&mut self, offset: u32, bytes: &[u8; N]) -> Result<(), Broken> {
        self.range(offset, N)?.copy_from_slice(bytes);
        Ok(())
    }

    fn store_words<const N: usize>(&mut self, offset: u32, words: &[u32; N]) -> Result<(), Broken> {
        let place = self.range(offset, 4 * N)?;
        for (bytes, word) in place.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        Ok(())
    }

    fn update_checksum(
        &mut self,
        offset: u32,
        difference: Difference,
        covers: Covers,
        optional: bool,
    ) -> Result<(), Broken> {
        let is_partial = self.is_partial;
        let place = self.range(offset, 2)?;
        let old = u16::from_ne_bytes([place[0], place[1]]);
        if optional && old == 0 {
            return Ok(());
        }
        if is_partial {
            if covers != Covers::Payload {
                place.copy_from_slice(&difference.apply_to_partial(old).to_ne_bytes());
            }
            return Ok(());
        }
        let new = difference.apply(old);
        let new = if optional && new == 0 { 0xffff } else { new };
        place.copy_from_slice(&new.to_ne_bytes());
        Ok(())
    }

    fn has_socket(&self, key: &FlowKey) -> bool {
        self.sockets.contains(key)
    }

    fn truncate(&mut self, length: u32) -> Result<(), Broken> {
        self.bytes.resize(length as usize, 0);
        Ok(())
    }

    fn insert(&mut self, bytes: u32) -> Result<(), Broken> {
        let room = std::iter::repeat_n(0, bytes as usize);
        let start = self.start();
        self.bytes.splice(start..start, room);
        Ok(())
    }

    fn swap_link_addresses(&mut self) -> Result<(), Broken> {
        let (first, second) = self.range(0, 12)?.split_at_mut(6);
        first.swap_with_slice(second);
        Ok(())
    }
}

/// One stage of a traced walk.
#[derive(Clone, Copy, Debug)]
pub struct TracedPacket {
    /// The stage that ran.
    pub stage: PacketStage,
    /// What was known after it.
    pub state: PacketState,
    /// What it said.
    pub step: PacketStep,
}

/// Walks a packet's stages one by one and keeps what each said. It ends with the verdict, which is counted.
#[must_use]
pub fn trace_packet(hook: PacketHook, sim: &Sim, packet: &mut SimPacket) -> Vec<TracedPacket> {
    let mut state = PacketState::new(hook, packet.link.length());
    let mut stage = PacketStage::Parse;
    let mut walked = Vec::new();
    loop {
        let step = run_packet(stage, sim, packet, &mut state);
        walked.push(TracedPacket { stage, state, step });
        match step {
            PacketStep::Next(next) => stage = next,
            PacketStep::Done(verdict) => {
                count_packet(sim, verdict);
                return walked;
            }
        }
    }
}

impl SimPacket {
    /// What becomes of the packet at a hook.
    pub fn pass(&mut self, hook: PacketHook, sim: &Sim) -> PacketVerdict {
        let walked = trace_packet(hook, sim, self);
        match walked.last().map(|last| last.step) {
            Some(PacketStep::Done(verdict)) => verdict,
            Some(PacketStep::Next(_)) | None => PacketVerdict::Pass,
        }
    }
}
