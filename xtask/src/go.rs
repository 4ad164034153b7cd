//! Go programs for tests: whether they can be built here, and how. Their first build takes minutes, so each is kept in
//! the cache under a name that says what it was built from.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{place, run};

/// The first Go that fetches the release that a go.mod asks for by itself.
const OLDEST: (u32, u32) = (1, 21);
const HOW: &str =
    "install Go 1.21 or newer (https://go.dev/doc/install; Debian's golang-go from trixie on)";
/// One line of progress for so many packages; a build of Kubernetes from nothing has about 1,800.
const STEP: usize = 200;

/// Why nothing can be built here, if so.
pub(crate) fn obstacle() -> Option<String> {
    let Ok(output) = Command::new("go").arg("version").output() else {
        return Some(format!("there is no Go: {HOW}"));
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match version(&text) {
        Some(version) if version >= OLDEST => None,
        Some((major, minor)) => Some(format!("Go {major}.{minor} is too old: {HOW}")),
        None => Some(format!("`go version` says {:?}: {HOW}", text.trim())),
    }
}

/// The directory of the cache for what `build` makes of a source directory; `build` is called only if it is not there.
pub(crate) fn cached(
    name: &str,
    source: &Path,
    more: &[&str],
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let directory = place::cache()?.join(format!("{name}-{:016x}", fingerprint(source, more)?));
    if directory.is_dir() {
        return Ok(directory);
    }
    let unfinished = directory.with_extension(format!("unfinished-{}", std::process::id()));
    fs::create_dir_all(&unfinished)?;
    let built = build(&unfinished).and_then(|()| Ok(fs::rename(&unfinished, &directory)?));
    if built.is_err() && unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    built.with_context(|| format!("cannot build {}", source.display()))?;
    Ok(directory)
}

/// Runs `go VERB` on packages, with what shows the progress and makes the result independent of this machine.
pub(crate) fn build(command: &mut Command) -> Result<()> {
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start go")?;
    if let Some(stderr) = child.stderr.take() {
        progress(BufReader::new(stderr))?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}

/// Format and vet of a module.
pub(crate) fn lint(source: &Path) -> Result<()> {
    lint_format(source)?;
    // With the build's own flags, or everything would be compiled a second time.
    run::run(go(source).args(["vet", "-trimpath", "./..."]))
}

/// Format alone.
pub(crate) fn lint_format(source: &Path) -> Result<()> {
    let unformatted = run::capture(Command::new("gofmt").arg("-l").arg(source))?;
    ensure!(
        unformatted.is_empty(),
        "gofmt would change {}",
        unformatted.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    Ok(())
}

/// The command `go`, in a module.
pub(crate) fn go(source: &Path) -> Command {
    let mut command = Command::new("go");
    // Without C the program runs anywhere, and no C compiler has a say in it.
    command.current_dir(source).env("CGO_ENABLED", "0");
    command
}

/// `go build -v` names each package that it compiles; what is no package is shown.
fn progress(lines: impl BufRead) -> Result<()> {
    let mut packages = 0;
    for line in lines.lines() {
        let line = line?;
        if line.contains([' ', ':']) {
            eprintln!("{line}");
            continue;
        }
        packages += 1;
        if packages % STEP == 0 {
            run::say(&format!("{packages} packages compiled"));
        }
    }
    Ok(())
}

/// Of all that a program is made of: FNV-1a over names and contents, and over what else the caller builds.
fn fingerprint(source: &Path, more: &[&str]) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for file in files(source)? {
        add(file.file_name().unwrap_or_default().as_encoded_bytes());
        add(&fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    more.iter().for_each(|text| add(text.as_bytes()));
    Ok(hash)
}

/// The files of a directory and those below it, in order.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            found.extend(files(&entry)?);
        } else {
            found.push(entry);
        }
    }
    Ok(found)
}

/// Major and minor, from a line such as `go version go1.26.8 linux/amd64`.
fn version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().nth(2)?.strip_prefix("go")?;
    let (major, rest) = version.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read() {
        assert_eq!(version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(version("go version go1.27rc1 linux/arm64"), Some((1, 27)));
        assert_eq!(version("go version devel"), None);
    }
}
