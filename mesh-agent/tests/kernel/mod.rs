//! A cgroup and a directory of pins of a test's own, which this process enters for its traffic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh_agent::{
    apply::MapWriter,
    datapath::{Datapath, Hook, Options, Sizes},
    plan::Write,
};
use mesh_common::{
    Address, Backend, BackendState, BackendWord, FrontendKey, FrontendValue, Port, Protocol,
    ServiceWord, SetWord,
};

/// A process is in one cgroup at a time.
static TURN: Mutex<()> = Mutex::new(());

/// From TEST-NET-1 (RFC 5737): nothing answers there.
const FRONTEND: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 10), 80);

/// Where a test runs; everything is taken away when it is dropped.
pub(crate) struct Place {
    pub(crate) options: Options,
    cgroup: PathBuf,
    before: PathBuf,
    listener: TcpListener,
    _turn: MutexGuard<'static, ()>,
}

impl Place {
    /// None without root, said on standard error.
    pub(crate) fn enter(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("CI").is_none(),
                "the kernel tests need root in CI"
            );
            eprintln!("SKIPPED: kernel tests need root");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (path, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path))
        });
        let mount = mount.expect("cgroup2 is mounted");
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .unwrap();
        let unique = format!("mesh-datapath-{name}-{}", std::process::id());
        let place = Self {
            options: Options {
                cgroup: mount.join(&unique),
                bpffs: PathBuf::from("/sys/fs/bpf").join(&unique),
                ports: mesh_agent::snat_ports::Ports::default(),
                sizes: Sizes {
                    flows: 64,
                    services: 64,
                    backends: 64,
                    sockets: 64,
                    affinity: 64,
                    ranges: 64,
                },
            },
            cgroup: mount.join(&unique),
            before: mount.join(own),
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            _turn: turn,
        };
        fs::create_dir(&place.cgroup).unwrap();
        fs::write(
            place.cgroup.join("cgroup.procs"),
            std::process::id().to_string(),
        )
        .unwrap();
        Some(place)
    }

    /// Where the test's server listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn frontend(&self) -> SocketAddr {
        SocketAddr::from(FRONTEND)
    }

    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect_timeout(&self.frontend(), Duration::from_millis(300))
    }

    /// Programs attached to the cgroup at a hook, as bpftool sees them.
    #[allow(dead_code, reason = "not every file of tests looks at hooks")]
    pub(crate) fn attached(&self, hook: &Hook) -> usize {
        let output = Command::new("bpftool")
            .args(["-j", "cgroup", "show"])
            .arg(&self.cgroup)
            .output()
            .expect("bpftool is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        text.matches(&format!("\"name\":\"{}\"", hook.name)).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::write(
            self.before.join("cgroup.procs"),
            std::process::id().to_string(),
        )
        .ok();
        for directory in ["links", "programs"] {
            fs::remove_dir_all(self.options.bpffs.join(directory)).ok();
        }
        fs::remove_dir_all(&self.options.bpffs).ok();
        fs::remove_dir(&self.cgroup).ok();
    }
}

/// Makes writes in order.
pub(crate) fn write(datapath: &mut Datapath, writes: &[Write]) {
    for write in writes {
        datapath.maps.write(write).unwrap();
    }
    datapath.maps.grace().unwrap();
}

/// A service port with one backend, by ids equal to `id`.
pub(crate) fn service(id: u32, target: SocketAddr) -> [Write; 5] {
    let (address, port) = FRONTEND;
    let key = FrontendKey::new(
        Address::from(address),
        Port::new(port),
        Protocol::Tcp.number(),
    );
    let word = BackendWord::new(Port::new(target.port()), BackendState::Ready, 1);
    [
        Write::PutBackend(id, Backend::new(Address::from(target.ip()), word)),
        Write::StoreSlot(0, id),
        Write::StoreSet(id, SetWord::new(0, 1)),
        Write::StoreService(id, ServiceWord::new(0)),
        Write::PutFrontend(key, FrontendValue::new(id, id, 0)),
    ]
}
