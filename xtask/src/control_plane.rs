//! The real control plane for tests: one Go program that links etcd, Kubernetes and kube-proxy. Its first build takes
//! minutes, so it is kept in the cache under a name that says what it was built from.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{place, run};

/// What the components call themselves; the version of k8s.io/kubernetes in go.mod.
const VERSION: &str = "v1.36.3";
/// The first Go that fetches the release that go.mod asks for by itself.
const OLDEST_GO: (u32, u32) = (1, 21);
const HOW: &str =
    "install Go 1.21 or newer (https://go.dev/doc/install; Debian's golang-go from trixie on)";
/// One line of progress for so many packages; a build from nothing has about 1,800.
const STEP: usize = 200;

/// The program, from the cache or built into it.
pub(crate) fn binary() -> Result<PathBuf> {
    let directory = place::cache()?.join(format!("control-plane-{:016x}", fingerprint()?));
    let binary = directory.join("control-plane");
    if binary.is_file() {
        return Ok(binary);
    }
    run::say("building the control plane: some eight minutes on two CPUs, once");
    fs::create_dir_all(&directory)?;
    let unfinished = directory.join(format!("unfinished-{}", std::process::id()));
    let built = build(&unfinished).and_then(|()| Ok(fs::rename(&unfinished, &binary)?));
    if built.is_err() && unfinished.exists() {
        fs::remove_file(&unfinished)?;
    }
    built.with_context(|| format!("cannot build {}", source().display()))?;
    Ok(binary)
}

/// Builds it where that can work; where it cannot, the lane will say so.
pub(crate) fn fetch() {
    let made = match obstacle() {
        Some(why) => Err(anyhow::anyhow!(why)),
        None => binary().map(drop),
    };
    if let Err(error) = made {
        run::say(&format!("no control plane to test with: {error:#}"));
    }
}

/// Why it cannot be had here, if so.
pub(crate) fn obstacle() -> Option<String> {
    let Ok(output) = Command::new("go").arg("version").output() else {
        return Some(format!("there is no Go: {HOW}"));
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match go_version(&text) {
        Some(version) if version >= OLDEST_GO => None,
        Some((major, minor)) => Some(format!("Go {major}.{minor} is too old: {HOW}")),
        None => Some(format!("`go version` says {:?}: {HOW}", text.trim())),
    }
}

/// Format and vet.
pub(crate) fn lint() -> Result<()> {
    if let Some(why) = obstacle() {
        run::say(&format!("the control plane is NOT checked: {why}"));
        return Ok(());
    }
    let unformatted = run::capture(Command::new("gofmt").arg("-l").arg(source()))?;
    ensure!(
        unformatted.is_empty(),
        "gofmt would change {}",
        unformatted.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    // With the build's own flags, or everything would be compiled a second time.
    run::run(go().args(["vet", "-trimpath", "."]))
}

fn build(output: &Path) -> Result<()> {
    let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={VERSION}");
    let mut command = go();
    command
        .args(["build", "-v", "-trimpath", "-ldflags", &flags, "-o"])
        .arg(output)
        .arg(".")
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start go")?;
    if let Some(stderr) = child.stderr.take() {
        progress(BufReader::new(stderr))?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "`go build` failed ({status})");
    Ok(())
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

fn go() -> Command {
    let mut command = Command::new("go");
    // Without C the program runs anywhere, and no C compiler has a say in it.
    command.current_dir(source()).env("CGO_ENABLED", "0");
    command
}

fn source() -> PathBuf {
    place::root().join("tests/control-plane")
}

/// Of all that the program is made of: FNV-1a over names and contents.
fn fingerprint() -> Result<u64> {
    let mut files: Vec<PathBuf> = fs::read_dir(source())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for byte in name.iter().chain(&text) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    Ok(hash)
}

/// Major and minor, from a line such as `go version go1.26.8 linux/amd64`.
fn go_version(text: &str) -> Option<(u32, u32)> {
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
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(
            go_version("go version go1.27rc1 linux/arm64"),
            Some((1, 27))
        );
        assert_eq!(go_version("go version devel"), None);
    }

    #[test]
    fn the_version_that_components_name_is_the_one_that_is_linked() {
        let modules = fs::read_to_string(source().join("go.mod")).unwrap();
        assert!(modules.contains(&format!("\tk8s.io/kubernetes {VERSION}\n")));
    }
}
