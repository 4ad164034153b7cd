//! Whether a binary is what an image without a C library can run: for the right machine, and without an interpreter.

use anyhow::{Context, Result, ensure};
use object::{
    Endianness,
    elf::{EM_AARCH64, EM_X86_64, FileHeader64, PT_INTERP},
    read::elf::{FileHeader, ProgramHeader},
};

use super::Arch;

/// Refuses what the image cannot run.
pub(super) fn check(binary: &[u8], arch: Arch) -> Result<()> {
    let header = FileHeader64::<Endianness>::parse(binary).context("no 64-bit ELF file")?;
    let endian = header.endian()?;
    let machine = match arch {
        Arch::Amd64 => EM_X86_64,
        Arch::Arm64 => EM_AARCH64,
    };
    ensure!(
        header.e_machine(endian) == machine,
        "made for machine {}, not for {}",
        header.e_machine(endian),
        arch.name()
    );
    let dynamic = header
        .program_headers(endian, binary)?
        .iter()
        .any(|segment| segment.p_type(endian) == PT_INTERP);
    ensure!(
        !dynamic,
        "not static: it names an interpreter, and the image has none"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_test_wants_an_interpreter() {
        let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = check(&binary, Arch::of_the_host()).unwrap_err();
        assert!(error.to_string().starts_with("not static"), "{error}");
    }

    #[test]
    fn another_machine_is_refused() {
        let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let other = match Arch::of_the_host() {
            Arch::Amd64 => Arch::Arm64,
            Arch::Arm64 => Arch::Amd64,
        };
        assert!(check(&binary, other).is_err());
    }

    #[test]
    fn what_is_no_binary_is_refused() {
        assert!(check(b"#!/bin/sh\n", Arch::Amd64).is_err());
    }
}
