//! Classifiers of two instructions: one that does nothing, by which is known what a run costs by itself, and one that says what
//! the kernel's count of timer ticks is.

use std::time::Duration;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType},
};
use mesh_ebpf::Jiffies;
use nix::{
    net::if_::if_nameindex,
    sys::time::TimeSpec,
    time::{ClockId, clock_getres, clock_gettime},
};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

use super::programs::{load, run};
use crate::{lab::netns, place::Place};

const NAME: &str = "empty";
/// `r0 = -1` (TCX_NEXT) and `exit`.
const INSTRUCTIONS: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

/// The program, in the kernel.
pub struct EmptyProgram(Ebpf);

impl std::fmt::Debug for EmptyProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmptyProgram").finish_non_exhaustive()
    }
}

impl EmptyProgram {
    /// Loads it.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn load() -> Result<Self> {
        loaded(INSTRUCTIONS).map(Self)
    }

    /// Has it run for every packet that comes in or leaves by the interfaces of a place whose names begin so, for as long as
    /// the program is kept.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn attach(&mut self, place: &Place, prefix: &str) -> Result<()> {
        let program = self.0.program_mut(NAME).context("no program")?;
        let program: &mut SchedClassifier = program.try_into()?;
        netns::within(place.netns(), || {
            for interface in &if_nameindex()? {
                let name = interface.name().to_string_lossy();
                if name.starts_with(prefix) {
                    program.attach(&name, TcAttachType::Ingress)?;
                    program.attach(&name, TcAttachType::Egress)?;
                }
            }
            Ok(())
        })
    }

    /// How long it took with a packet.
    ///
    /// # Errors
    /// If the packet is none.
    pub fn run(&self, frame: &[u8]) -> Result<Duration> {
        let program = self.0.program(NAME).context("no program")?.try_into()?;
        let ran = run(program, frame)?.context("the frame is too short")?;
        Ok(ran.duration)
    }
}

/// How the kernel's count of timer ticks becomes seconds, as the agent finds it out.
///
/// # Errors
/// If the kernel refuses the program, or the count is not the clock's.
pub(super) fn jiffies() -> Result<Jiffies> {
    // Calls bpf_jiffies64.
    let object = loaded([118 << 32 | 0x85, 0x95])?;
    let program = object.program(NAME).context("no program")?.try_into()?;
    let low = run(program, &[0; 64])?
        .context("the frame is too short")?
        .code;
    let nanoseconds =
        |time: TimeSpec| (time.tv_sec() * 1_000_000_000 + time.tv_nsec()).cast_unsigned();
    let now = nanoseconds(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    let tick = nanoseconds(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?);
    Jiffies::new(low.cast_unsigned(), now, tick).context("the kernel lost ticks")
}

fn loaded(instructions: [u64; 2]) -> Result<Ebpf> {
    let mut object = Ebpf::load(&object(instructions)?)?;
    load(&mut object, NAME)?;
    Ok(object)
}

/// An object of nothing else.
fn object(instructions: [u64; 2]) -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let code: Vec<u8> = instructions
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    for (section, data, symbol, kind) in [
        ("classifier", code, NAME, SymbolKind::Text),
        ("license", b"GPL\0".to_vec(), "_license", SymbolKind::Data),
    ] {
        let sections = if kind == SymbolKind::Text {
            SectionKind::Text
        } else {
            SectionKind::Data
        };
        let id = object.add_section(Vec::new(), section.into(), sections);
        let size = data.len() as u64;
        object.append_section_data(id, &data, 8);
        object.add_symbol(Symbol {
            name: symbol.into(),
            value: 0,
            size,
            kind,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(id),
            flags: SymbolFlags::None,
        });
    }
    Ok(object.write()?)
}
