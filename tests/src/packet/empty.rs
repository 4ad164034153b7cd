//! A classifier that does nothing: what a run costs by itself.

use std::time::Duration;

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    programs::{SchedClassifier, TcAttachType},
};
use nix::net::if_::if_nameindex;
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
        let mut object = Ebpf::load(&object()?)?;
        load(&mut object, NAME)?;
        Ok(Self(object))
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

/// An object of nothing else.
fn object() -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let code: Vec<u8> = INSTRUCTIONS
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
