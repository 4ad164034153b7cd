//! iproute2 in batches: a thousand pods must not cost thousands of processes.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs the lines in the calling thread's network namespace.
pub(super) fn batch(lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip: install iproute2")?;
    if let Some(mut stdin) = child.stdin.take() {
        let mut script = lines.join("\n");
        script.push('\n');
        stdin
            .write_all(script.as_bytes())
            .context("ip -batch went away")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("ip -batch: {}\nof:\n{}", stderr.trim(), lines.join("\n"));
    }
    Ok(())
}
