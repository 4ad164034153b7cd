//! Debian's kernels, fetched into the cache through an apt configuration of our own: the system is not changed, and the
//! mirror is the one that the system itself uses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{place, run};

/// A kernel to test on.
pub(crate) struct Kernel {
    /// Its series, as the figures name it.
    pub(crate) series: &'static str,
    /// The Debian release that carries it.
    pub(crate) suite: &'static str,
}

/// Oldest first. 5.10 is the oldest that is served at all, 6.1 the oldest that is served in full.
pub(crate) const KERNELS: [Kernel; 3] = [
    Kernel {
        series: "5.10",
        suite: "bullseye",
    },
    Kernel {
        series: "6.1",
        suite: "bookworm",
    },
    Kernel {
        series: "6.12",
        suite: "trixie",
    },
];

/// Signs every release, old ones included.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PACKAGE: &str = "linux-image-cloud-amd64";
const SUITES: [&str; 10] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Beside an image: the modules that go into the machine.
pub(crate) const MODULES: &str = "modules";

/// What programs need to get to interfaces before Linux 6.6.
const WANTED_MODULES: [&str; 2] = ["sch_ingress.ko", "cls_bpf.ko"];

/// The kernel's image, from the cache or fetched into it; its modules are beside it.
pub(crate) fn image(kernel: &Kernel) -> Result<PathBuf> {
    let directory = place::cache()?.join("kernels").join(kernel.suite);
    let image = directory.join("vmlinuz");
    if image.is_file() && directory.join(MODULES).is_dir() {
        return Ok(image);
    }
    let mirror = mirror()?;
    run::say(&format!(
        "fetching Linux {} from Debian {}",
        kernel.series, kernel.suite
    ));
    let apt = Apt::new(&directory.join("apt"), kernel.suite, &mirror)?;
    apt.run(&["update"])?;
    let package = apt.newest()?;
    apt.run(&["download", &package])?;
    unpack(&directory, &image)?;
    Ok(image)
}

/// An apt whose state and sources are all in one directory: it thinks that nothing is installed.
pub(crate) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// One that knows a release of Debian.
    pub(crate) fn new(directory: &Path, suite: &str, mirror: &str) -> Result<Self> {
        fs::create_dir_all(directory.join("lists/partial"))?;
        fs::create_dir_all(directory.join("archives/partial"))?;
        fs::write(directory.join("status"), "")?;
        let source = format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(directory.join("sources.list"), source)?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let here = self.directory.display();
        command.current_dir(&self.directory);
        for option in [
            format!("Dir::State={here}"),
            format!("Dir::State::status={here}/status"),
            format!("Dir::State::lists={here}/lists"),
            format!("Dir::Cache={here}"),
            format!("Dir::Etc::sourcelist={here}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            // Else apt wants to read the directory as a user of its own.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// apt-get, to its end; what it fetches is below `archives`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<()> {
        run::run(self.command("apt-get").arg("-qq").args(arguments))
    }

    /// The package with the newest kernel: the one that Debian's own package of no version depends on.
    fn newest(&self) -> Result<String> {
        let text = run::capture(self.command("apt-cache").args(["depends", PACKAGE]))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .map(str::to_owned)
            .with_context(|| format!("Debian's {PACKAGE} names no kernel"))
    }
}

/// Takes the image and the modules out of the package; the rest of it goes.
fn unpack(directory: &Path, image: &Path) -> Result<()> {
    let apt = directory.join("apt");
    let package = first(&apt, |name| name.ends_with(".deb"))?;
    let tree = directory.join("tree");
    run::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree))?;
    let found = first(&tree.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let modules = directory.join(MODULES);
    fs::create_dir_all(&modules)?;
    // Newer releases have everything below /usr.
    let releases = ["lib/modules", "usr/lib/modules"].map(|path| tree.join(path));
    let releases = releases.iter().find(|path| path.is_dir());
    let releases = releases.context("Debian's kernel package has no modules")?;
    let sched = first(releases, |_| true)?.join("kernel/net/sched");
    for name in WANTED_MODULES {
        // Newer kernels compress them, and do without them.
        if sched.join(name).is_file() {
            fs::copy(sched.join(name), modules.join(name))?;
        }
    }
    // The rename comes last, so an image in the cache is a whole one.
    fs::rename(found, image)?;
    fs::remove_dir_all(tree)?;
    fs::remove_dir_all(apt)?;
    Ok(())
}

fn first(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?
    {
        let entry = entry?;
        if wanted(&entry.file_name().to_string_lossy()) {
            return Ok(entry.path());
        }
    }
    bail!(
        "{} lacks the file that Debian's kernel package should have brought",
        directory.display()
    )
}

/// The Debian mirror: named in the environment, else the system's own.
pub(crate) fn mirror() -> Result<String> {
    match std::env::var("MESH_AGENT_DEBIAN_MIRROR") {
        Ok(mirror) => Ok(mirror),
        Err(_) => system_mirror().context(
            "no Debian mirror in this system's apt sources: name one in MESH_AGENT_DEBIAN_MIRROR",
        ),
    }
}

fn system_mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|text| mirror_in_list(&text).or_else(|| mirror_in_stanzas(&text)))
}

/// From lines such as `deb [options] URI SUITE COMPONENTS`.
fn mirror_in_list(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?;
        let rest = match rest.trim_start().strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        SUITES.contains(&suite).then(|| uri.to_owned())
    })
}

/// From stanzas with the fields `URIs` and `Suites`.
fn mirror_in_stanzas(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let debian = field("Suites")?
            .split_whitespace()
            .any(|suite| SUITES.contains(&suite));
        let uri = field("URIs")?.split_whitespace().next()?;
        debian.then(|| uri.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_with_a_debian_suite() {
        let text = "deb http://other.example/apt cloud-bookworm main\n# deb http://no.example/debian sid main\n\
                    deb [arch=amd64 signed-by=/k] http://mirror.example/debian bookworm main\n";
        assert_eq!(
            mirror_in_list(text).as_deref(),
            Some("http://mirror.example/debian")
        );
    }

    #[test]
    fn stanzas_with_comments_inside_are_read() {
        let text = "Types: deb\nURIs: http://node.example\nSuites: nodistro\n\nTypes: deb\n# a note\n\
                    URIs: http://mirror.example/debian\nSuites: trixie trixie-updates\n";
        assert_eq!(
            mirror_in_stanzas(text).as_deref(),
            Some("http://mirror.example/debian")
        );
    }

    #[test]
    fn security_suites_are_no_mirror() {
        assert_eq!(
            mirror_in_stanzas("URIs: http://s.example\nSuites: trixie-security\n"),
            None
        );
    }
}
