//! Runs other programs: each is shown on stderr before it starts, and a failure names the whole command.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail};
pub(crate) use mesh_lab::find_program as find;

use crate::place;

/// Tells on stderr what is going on.
pub(crate) fn say(what: &str) {
    eprintln!("xtask: {what}");
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A program that must run as root: through sudo unless this process is root.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env").arg(program);
    command
}

/// Whether root is to be had at all.
pub(crate) fn can_be_root() -> bool {
    is_root() || find("sudo").is_some()
}

/// Cargo, at the root of the tree.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(place::root());
    command
}

/// Runs to the end; what it prints goes to stderr, since a verb's stdout is its result.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| cannot_start(command))?;
    judge(command, status)
}

/// Runs to the end and gives back what it printed on stdout.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| cannot_start(command))?;
    judge(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether it runs and succeeds, in silence.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs to the end, handing over each line of its stdout as it comes.
pub(crate) fn watch(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
    announce(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(command))?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut bytes = Vec::new();
        while output.read_until(b'\n', &mut bytes)? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            line(text.trim_end());
            bytes.clear();
        }
    }
    Ok(child.wait()?)
}

fn announce(command: &Command) {
    eprintln!("+ {}", shown(command));
}

fn judge(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

fn cannot_start(command: &Command) -> String {
    format!(
        "cannot start `{}`: is it installed? `cargo xtask setup` installs it",
        shown(command)
    )
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
