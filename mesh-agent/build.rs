//! Builds the eBPF object, so that `cargo build -p mesh-agent` alone makes a whole agent, and puts it where
//! `datapath::object` embeds it from.
//!
//! Two compilers will do: one whose sysroot has `core` for the BPF target (Debian's rustc-web with
//! libstd-rust-web-dev-bpf), or rustup's nightly with rust-src. Without either the build says what to install.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

const TARGET: &str = "bpfel-unknown-none";

fn main() {
    if let Err(reason) = build() {
        for line in reason.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let root = variable("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root)
        .parent()
        .ok_or("mesh-agent lies in no workspace")?
        .to_owned();
    for input in [
        "mesh-common/src",
        "mesh-common/Cargo.toml",
        "mesh-ebpf/src",
        "mesh-ebpf/Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    for name in ["MESH_AGENT_BPF_RUSTC", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    find("bpf-linker").ok_or_else(|| missing("bpf-linker is not on the PATH"))?;
    let compiler = Compiler::find()?;
    let output = PathBuf::from(variable("OUT_DIR")?);
    let target = output.join("bpf");
    let mut command = compiler.cargo(&root, &target)?;
    let status = command
        .status()
        .map_err(|error| format!("cannot start cargo for the eBPF object: {error}"))?;
    if !status.success() {
        return Err(format!(
            "the eBPF object could not be built ({status}): {command:?}"
        ));
    }
    let object = target.join(TARGET).join("ebpf/mesh-ebpf");
    println!(
        "cargo::rustc-env=MESH_AGENT_EBPF_OBJECT={}",
        object.display()
    );
    Ok(())
}

/// What compiles for the BPF target.
enum Compiler {
    /// This rustc has `core` for it.
    Prebuilt(PathBuf),
    /// rustup's nightly, which builds `core` from rust-src.
    Nightly,
}

impl Compiler {
    fn find() -> Result<Self, String> {
        let chosen = env::var_os("MESH_AGENT_BPF_RUSTC").map(PathBuf::from);
        let candidates = chosen
            .into_iter()
            .chain([PathBuf::from("/usr/bin/rustc")])
            .chain(find("rustc"));
        for rustc in candidates {
            if has_core(&rustc) {
                return Ok(Self::Prebuilt(rustc));
            }
        }
        if nightly_has_source() {
            return Ok(Self::Nightly);
        }
        Err(missing("no compiler for the BPF target was found"))
    }

    fn cargo(&self, root: &Path, target: &Path) -> Result<Command, String> {
        let mut command = match self {
            Self::Prebuilt(rustc) => {
                let mut command = Command::new(variable("CARGO")?);
                clean(&mut command);
                command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Self::Nightly => {
                let mut command = Command::new("rustup");
                clean(&mut command);
                command.args(["run", "nightly", "cargo"]);
                command
            }
        };
        command.current_dir(root).args([
            "build",
            "--locked",
            "--package",
            "mesh-ebpf",
            "--bin",
            "mesh-ebpf",
            "--profile",
            "ebpf",
        ]);
        command
            .args(["--target", TARGET, "--target-dir"])
            .arg(target);
        let mut features = String::from("kernel");
        for feature in ["layout-next", "kernel-log"] {
            let name = feature.to_uppercase().replace('-', "_");
            if env::var_os(format!("CARGO_FEATURE_{name}")).is_some() {
                features.push(',');
                features.push_str(feature);
            }
        }
        command.args(["--features", &features]);
        if matches!(self, Self::Nightly) {
            command.args(["-Z", "build-std=core"]);
        }
        let arch = variable("CARGO_CFG_TARGET_ARCH")?;
        let architecture = format!("bpf_target_arch=\"{arch}\"");
        // The object's line numbers come with file names: without these prefixes two checkouts would differ.
        let tree = format!("--remap-path-prefix={}=/mesh-agent", root.display());
        let crates = format!(
            "--remap-path-prefix={}=/cargo",
            variable("CARGO_HOME").or_else(|_| variable("HOME").map(|home| home + "/.cargo"))?
        );
        let flags = [
            "-C",
            "linker=bpf-linker",
            "-C",
            "link-arg=--btf",
            "--cfg",
            &architecture,
            "-C",
            "debuginfo=2",
            &tree,
            &crates,
        ];
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        Ok(command)
    }
}

/// What the outer cargo, clippy or rustdoc set for itself must not reach the inner cargo.
fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = text.starts_with("CARGO_")
            && !matches!(&*text, "CARGO_HOME" | "CARGO_NET_OFFLINE")
            && !text.starts_with("CARGO_REGISTRIES_")
            && !text.starts_with("CARGO_SOURCE_")
            && !text.starts_with("CARGO_HTTP_");
        let compilers = [
            "RUSTC",
            "RUSTFLAGS",
            "RUSTDOC",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTUP_TOOLCHAIN",
        ];
        if foreign || compilers.contains(&&*text) {
            command.env_remove(&name);
        }
    }
}

fn has_core(rustc: &Path) -> bool {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output();
    let Ok(output) = output else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let libraries = Path::new(&sysroot)
        .join("lib/rustlib")
        .join(TARGET)
        .join("lib");
    let Ok(entries) = libraries.read_dir() else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn nightly_has_source() -> bool {
    let output = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output();
    output.is_ok_and(|output| {
        let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success()
            && Path::new(&sysroot)
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
    })
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

fn missing(what: &str) -> String {
    format!(
        "{what}.\n`cargo xtask setup build` installs what is missing on Debian and Ubuntu: rustc-web, \
         libstd-rust-web-dev-bpf, llvm-22-dev and bpf-linker.\nElsewhere: rustup toolchain install nightly --component \
         rust-src, and cargo install bpf-linker"
    )
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
