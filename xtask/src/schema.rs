//! `schema`: writes mesh-common/schema.lock, or checks it. The file is the record of what kernel and agent agree on:
//! every map's layout and version, every reason and counter. A layout may only change together with its version.

mod lock;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::place;
use lock::Lock;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only check that the file is up to date
    #[arg(long)]
    check: bool,
}

/// The verb.
pub(crate) fn schema(arguments: &Arguments) -> Result<()> {
    let path = path();
    let committed = match std::fs::read_to_string(&path) {
        Ok(text) => Lock::parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !arguments.check => {
            Lock::default()
        }
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let current = Lock::of_the_code();
    let problems = current.breaks(&committed);
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    if arguments.check {
        ensure!(
            current == committed,
            "{} is out of date: run `cargo xtask schema`",
            path.display()
        );
        return Ok(());
    }
    std::fs::write(&path, current.render()).with_context(|| path.display().to_string())
}

fn path() -> PathBuf {
    place::root().join("mesh-common/schema.lock")
}

/// Whether the file is up to date.
pub(crate) fn check() -> Result<()> {
    schema(&Arguments { check: true })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_lock_is_up_to_date() {
        super::check().unwrap();
    }
}
