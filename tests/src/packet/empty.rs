//! An eBPF object with one classifier that does nothing: what a run costs by itself.

use anyhow::Result;
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

/// `r0 = -1` (TCX_NEXT) and `exit`.
const INSTRUCTIONS: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

/// The object; its program is named `empty`.
///
/// # Errors
/// If it cannot be written.
pub fn empty_object() -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let code: Vec<u8> = INSTRUCTIONS
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    for (section, data, symbol, kind) in [
        ("classifier", code, "empty", SymbolKind::Text),
        ("license", b"GPL\0".to_vec(), "_license", SymbolKind::Data),
    ] {
        let sections = match kind {
            SymbolKind::Text => SectionKind::Text,
            _ => SectionKind::Data,
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
