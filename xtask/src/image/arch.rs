//! What an image may be built for, and what the compilers call it.

use clap::ValueEnum;

/// An architecture, by the name that container images have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// 64-bit x86
    Amd64,
    /// 64-bit Arm
    Arm64,
}

impl Arch {
    /// The one that this program runs on; x86 where there is no image for it.
    pub(crate) const fn of_the_host() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Arm64
        } else {
            Self::Amd64
        }
    }

    /// As OCI says it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's target. The C library of it is linked statically and comes with the toolchain.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// The compiler for what some crates have in C and assembler.
    pub(crate) fn c_compiler(self) -> &'static str {
        if self == Self::of_the_host() {
            return "musl-gcc";
        }
        match self {
            Self::Amd64 => "x86_64-linux-gnu-gcc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }

    /// The packages of Debian that bring the C compiler.
    pub(crate) fn c_packages(self) -> &'static [&'static str] {
        if self == Self::of_the_host() {
            return &["musl-tools"];
        }
        match self {
            Self::Amd64 => &["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"],
            Self::Arm64 => &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        }
    }
}
