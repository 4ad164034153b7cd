//! `image`: the agent as a container image, made without a container engine: one static binary in one layer, written
//! as an OCI archive that `ctr images import` and `docker load` both take. The same tree gives the same digest.

mod arch;
mod archive;
mod binary;
mod elf;
mod layer;
mod oci;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{place, run, setup};
pub(crate) use arch::Arch;
pub(crate) use layer::{append, digest};
pub(crate) use oci::{CONFIG, MANIFEST};

/// What the image is called before the colon, in the archive and in the manifests.
pub(crate) const REPOSITORY: &str = "mesh-agent.io/mesh-agent";
/// The most that the archive may take.
const LIMIT: usize = 20 << 20;

/// The tag of this tree's image.
pub(crate) fn tag() -> String {
    format!("v{}", env!("CARGO_PKG_VERSION"))
}

/// What an image holds, and what it is called.
pub(crate) struct Program {
    /// The image's name before the colon.
    pub(crate) repository: &'static str,
    /// And after it.
    pub(crate) tag: String,
    /// The binary, at the image's root.
    pub(crate) name: &'static str,
    /// Its arguments, unless others are given.
    pub(crate) command: &'static [&'static str],
    /// For people.
    pub(crate) description: &'static str,
}

impl Program {
    /// The agent.
    pub(crate) fn agent(tag: String) -> Self {
        Self {
            repository: REPOSITORY,
            tag,
            name: "mesh-agent",
            command: &["run"],
            description: "Kubernetes Services in the kernel, without kube-proxy",
        }
    }

    /// The image's whole name.
    pub(crate) fn image(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What the image runs on
    #[arg(long, value_enum, default_value_t = Arch::of_the_host())]
    arch: Arch,
    /// Where the archive goes
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The verb: the archive's path is the last line of stdout.
pub(crate) fn image(arguments: &Arguments) -> Result<()> {
    setup::ensure(setup::Need::Build)?;
    setup::cross(arguments.arch)?;
    let directory = match &arguments.out {
        Some(directory) => directory.clone(),
        None => place::target().join("image"),
    };
    println!("{}", build(arguments.arch, &directory)?.display());
    Ok(())
}

/// Builds the image into a directory; gives the archive's path.
fn build(arch: Arch, directory: &Path) -> Result<PathBuf> {
    let path = binary::build(arch, &["-p", "mesh-agent"], "mesh-agent")?;
    let archive = pack(arch, &Program::agent(tag()), &path)?;
    ensure!(
        archive.len() <= LIMIT,
        "the archive is larger than {} MiB: something was linked into the agent that should not be",
        LIMIT >> 20
    );
    write(
        directory,
        &format!("mesh-agent-{}-{}.tar", tag(), arch.name()),
        &archive,
    )
}

/// An archive of one static binary.
fn pack(arch: Arch, program: &Program, path: &Path) -> Result<Vec<u8>> {
    let binary = std::fs::read(path).with_context(|| path.display().to_string())?;
    elf::check(&binary, arch).with_context(|| path.display().to_string())?;
    let time = binary::source_time()?;
    let layer = layer::layer(program.name, &binary, time)?;
    let documents = oci::documents(&layer, arch, program, time)?;
    let archive = archive::archive(&layer, &documents, time)?;
    run::say(&format!(
        "{} for {}: {} ({} KiB, of which the binary unpacked is {} KiB)",
        program.image(),
        arch.name(),
        documents.manifest.digest,
        archive.len() >> 10,
        binary.len() >> 10,
    ));
    Ok(archive)
}

/// Writes DIRECTORY/NAME.tar, an image of a static binary for this host.
pub(crate) fn of_binary(program: &Program, path: &Path, directory: &Path) -> Result<PathBuf> {
    let archive = pack(Arch::of_the_host(), program, path)?;
    write(directory, &format!("{}.tar", program.name), &archive)
}

/// A static binary of the workspace for this host: cargo's arguments that name it, and its own name.
pub(crate) fn static_binary(arguments: &[&str], name: &str) -> Result<PathBuf> {
    setup::cross(Arch::of_the_host())?;
    binary::build(Arch::of_the_host(), arguments, name)
}

/// Under another name first: an archive of the right name is whole.
fn write(directory: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = std::path::absolute(directory)?.join(name);
    let unfinished = path.with_extension("unfinished");
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&unfinished, bytes))
        .and_then(|()| std::fs::rename(&unfinished, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
