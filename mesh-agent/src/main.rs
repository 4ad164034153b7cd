//! The binary: the commands over this host.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_agent::cli::main(&mesh_agent::host::KernelHost)
}
