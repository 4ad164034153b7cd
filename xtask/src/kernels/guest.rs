//! Runs the smoke program: in an emulated machine whose files are a handful in memory, or right here.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use super::debian::MODULES;
use crate::{place, run};

/// Seconds until a machine counts as hung; it needs three on an idle host.
const PATIENCE: &str = "120";

/// How often a machine may be booted until it comes up.
const BOOTS: u32 = 3;

/// What the smoke program's lines begin with, and its last one.
const VOICE: &str = "smoke: ";
const END: &str = "smoke: end";

/// The machine's first and only process. Each mount is one the smoke program needs.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
/bin/busybox mount -t bpf bpf /sys/fs/bpf
/bin/busybox ip link set lo up
for module in /modules/*.ko; do [ -f $module ] && /bin/busybox insmod $module; done
/bin/smoke $(/bin/busybox cat /arguments)
/bin/busybox poweroff -f
";

/// What is run.
pub(crate) struct Guest<'a> {
    /// The smoke program.
    pub(crate) smoke: &'a Path,
    /// The eBPF object.
    pub(crate) object: &'a Path,
    /// Load only: attach nothing, send nothing.
    pub(crate) figures_only: bool,
}

impl Guest<'_> {
    /// On the running kernel; gives the lines it printed.
    pub(crate) fn here(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut command = run::as_root(self.smoke);
        command.arg(self.object).args(self.option());
        run::watch(&mut command, |line| lines.push(shown(line)))?;
        Ok(lines)
    }

    /// On an emulated machine with a kernel; gives the lines of its console.
    pub(crate) fn boot(&self, kernel: &Path, series: &str) -> Result<Vec<String>> {
        let work = place::cache()?.join(format!("guest-{series}-{}", std::process::id()));
        let lines = self
            .files(&work, kernel)
            .and_then(|files| emulate(kernel, &files));
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        lines
    }

    fn option(&self) -> Option<&'static str> {
        self.figures_only.then_some("--figures-only")
    }

    /// Packs the machine's files; gives the archive.
    fn files(&self, work: &Path, kernel: &Path) -> Result<PathBuf> {
        let tree = work.join("tree");
        for directory in ["bin", "proc", "sys", "dev", "tmp", "run", MODULES] {
            fs::create_dir_all(tree.join(directory))?;
        }
        for module in fs::read_dir(kernel.with_file_name(MODULES))? {
            let module = module?;
            copy(&module.path(), &tree.join(MODULES).join(module.file_name()))?;
        }
        let busybox =
            run::find("busybox").context("busybox is missing: `cargo xtask setup` installs it")?;
        for (program, name) in [(busybox.as_path(), "busybox"), (self.smoke, "smoke")] {
            copy(program, &tree.join("bin").join(name))?;
            for library in libraries(program)? {
                copy(&library, &tree.join(library.strip_prefix("/")?))?;
            }
        }
        copy(self.object, &tree.join("object"))?;
        fs::write(
            tree.join("arguments"),
            format!("/object {}", self.option().unwrap_or_default()),
        )?;
        fs::write(tree.join("init"), INIT)?;
        fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
        pack(&tree, &work.join("files.cpio"))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} into the machine", from.display()))?;
    Ok(())
}

/// The shared libraries that a program is started with, the dynamic linker among them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot start `ldd`")?;
    // A static program makes ldd fail, and has none.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}

/// Makes the archive of the format that kernels unpack at boot.
fn pack(tree: &Path, archive: &Path) -> Result<PathBuf> {
    let mut names = Vec::new();
    list(tree, Path::new(""), &mut names)?;
    let mut child = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(fs::File::create(archive)?)
        .spawn()
        .context("cannot start `cpio`: `cargo xtask setup` installs it")?;
    let mut input = child.stdin.take().context("cpio has no input")?;
    for name in names {
        writeln!(input, "{}", name.display())?;
    }
    drop(input);
    ensure!(
        child.wait()?.success(),
        "cpio could not pack {}",
        tree.display()
    );
    Ok(archive.to_owned())
}

fn list(tree: &Path, below: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = fs::read_dir(tree.join(below))?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = below.join(entry.file_name());
        names.push(name.clone());
        if entry.file_type()?.is_dir() {
            list(tree, &name, names)?;
        }
    }
    Ok(())
}

/// Boots until the smoke program has said something: under emulation a kernel now and then dies on its way up, before
/// any of our code is there.
fn emulate(kernel: &Path, files: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for _ in 0..BOOTS {
        lines = boot_once(kernel, files)?;
        if lines.iter().any(|line| line.contains(VOICE)) {
            break;
        }
        run::say("the machine died before the smoke program began");
    }
    if !lines.iter().any(|line| line.ends_with(END)) {
        let tail: Vec<_> = lines
            .iter()
            .rev()
            .take(40)
            .rev()
            .map(String::as_str)
            .collect();
        eprintln!("the console's last lines:\n{}", tail.join("\n"));
        bail!("the smoke program did not come to its end in the emulated machine");
    }
    Ok(lines)
}

fn boot_once(kernel: &Path, files: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut command = Command::new("timeout");
    command
        .args([
            PATIENCE,
            "qemu-system-x86_64",
            "-accel",
            "tcg",
            "-m",
            "1024",
            "-nographic",
        ])
        .args([
            "-no-reboot",
            "-net",
            "none",
            "-append",
            "console=ttyS0 quiet panic=-1",
            "-kernel",
        ])
        .arg(kernel)
        .arg("-initrd")
        .arg(files);
    run::watch(&mut command, |line| lines.push(shown(line)))?;
    Ok(lines)
}

/// Shows the smoke program's lines; the rest of a console is noise, and the firmware's would garble a terminal.
fn shown(line: &str) -> String {
    let line: String = line
        .chars()
        .filter(|character| !character.is_control())
        .collect();
    if let Some(start) = line.find(VOICE).or_else(|| line.find("verifier: ")) {
        println!("  {}", &line[start..]);
    }
    line
}
